// Package discovery reads from a pod where its metrics are, by the annotations that the ecosystem agreed on:
//
//	prometheus.io/scrape: "true"      scrape this pod; anything else but "false" is a mistake and said so
//	prometheus.io/port:   "8000"      may be left out when the pod's containers declare exactly one port
//	prometheus.io/path:   "/metrics"  the default; may bear a query
//	prometheus.io/scheme: "http"      the default, or "https": encrypted, but not verified, as there is no CA to name
//
// It is a pure function of the pod. A pod that terminates, is over or has no address yet has no endpoint, so that its
// values vanish with the watch event that says so and not by growing old.
package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The annotations.
const (
	prefix           = "prometheus.io/"
	AnnotationScrape = prefix + "scrape"
	AnnotationPort   = prefix + "port"
	AnnotationPath   = prefix + "path"
	AnnotationScheme = prefix + "scheme"
)

// Reasons why a pod has no endpoint. They complete the sentence "not scraped: …".
var (
	ErrNotAnnotated = errors.New("no annotation " + AnnotationScrape + `: "true"`)
	ErrTerminating  = errors.New("the pod is terminating")
	ErrEnded        = errors.New("the pod has ended")
	ErrNoAddress    = errors.New("the pod has no IP address yet")
)

// AnnotationError is a mistake in an annotation.
type AnnotationError struct {
	Annotation string
	Value      string // empty when missing
	Problem    string // "is not a port number (1 to 65535)"
}

func (e *AnnotationError) Error() string {
	return fmt.Sprintf("annotation %s: %.60q %s", e.Annotation, e.Value, e.Problem)
}

// Endpoint is where a pod's metrics are.
type Endpoint struct {
	Namespace string
	Name      string
	UID       string
	Node      string
	URL       string
}

// FromPod returns the pod's endpoint, or one of the errors of this package.
func FromPod(pod *corev1.Pod) (Endpoint, error) {
	switch pod.Annotations[AnnotationScrape] {
	case "true":
	case "false", "":
		return Endpoint{}, ErrNotAnnotated
	default:
		return Endpoint{}, &AnnotationError{AnnotationScrape, pod.Annotations[AnnotationScrape], `is neither "true" nor "false"`}
	}
	port, err := port(pod)
	if err != nil {
		return Endpoint{}, err
	}
	target, err := pathAndQuery(pod.Annotations[AnnotationPath])
	if err != nil {
		return Endpoint{}, err
	}
	switch scheme := pod.Annotations[AnnotationScheme]; scheme {
	case "", "http":
		target.Scheme = "http"
	case "https":
		target.Scheme = "https"
	default:
		return Endpoint{}, &AnnotationError{AnnotationScheme, scheme, `is neither "http" nor "https"`}
	}
	switch {
	case pod.DeletionTimestamp != nil:
		return Endpoint{}, ErrTerminating
	case Ended(pod):
		return Endpoint{}, ErrEnded
	case pod.Status.PodIP == "":
		return Endpoint{}, ErrNoAddress
	}
	target.Host = net.JoinHostPort(pod.Status.PodIP, port)
	return Endpoint{
		Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Node: pod.Spec.NodeName,
		URL: target.String(),
	}, nil
}

// Ended says whether all containers of the pod have stopped for good.
func Ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func port(pod *corev1.Pod) (string, error) {
	value, ok := pod.Annotations[AnnotationPort]
	if ok {
		if n, err := strconv.ParseUint(value, 10, 16); err != nil || n == 0 {
			return "", &AnnotationError{AnnotationPort, value, "is not a port number (1 to 65535)"}
		}
		return value, nil
	}
	var declared []int32
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			declared = append(declared, p.ContainerPort)
		}
	}
	if len(declared) != 1 {
		return "", &AnnotationError{AnnotationPort, "", fmt.Sprintf("is required: the containers declare %d ports, not one", len(declared))}
	}
	return strconv.Itoa(int(declared[0])), nil
}

// pathAndQuery takes nothing that could lead away from the pod, such as "//host/path" or "@host".
func pathAndQuery(value string) (*url.URL, error) {
	if value == "" {
		return &url.URL{Path: "/metrics"}, nil
	}
	u, err := url.Parse(value)
	if err != nil || !strings.HasPrefix(value, "/") || u.Host != "" || u.User != nil || u.Fragment != "" {
		return nil, &AnnotationError{AnnotationPath, value, "is not a path that begins with /"}
	}
	return u, nil
}

// Trim is the informer's transform: it keeps what selection and FromPod need, about a tenth of a pod, so that 5,000
// pods fit in a few MiB.
func Trim(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil // a tombstone
	}
	kept := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			Labels: pod.Labels, DeletionTimestamp: pod.DeletionTimestamp,
		},
		Spec:   corev1.PodSpec{NodeName: pod.Spec.NodeName},
		Status: corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP},
	}
	for key, value := range pod.Annotations {
		if strings.HasPrefix(key, prefix) {
			metav1.SetMetaDataAnnotation(&kept.ObjectMeta, key, value)
		}
	}
	for _, c := range pod.Spec.Containers {
		if len(c.Ports) > 0 {
			kept.Spec.Containers = append(kept.Spec.Containers, corev1.Container{Name: c.Name, Ports: c.Ports})
		}
	}
	return kept, nil
}
