package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
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

// annotatedURL returns where the annotations say that the pod's metrics are, or one of the errors of this package.
func annotatedURL(pod *corev1.Pod) (string, error) {
	switch pod.Annotations[AnnotationScrape] {
	case "true":
	case "false", "":
		return "", ErrNotAnnotated
	default:
		return "", &AnnotationError{AnnotationScrape, pod.Annotations[AnnotationScrape], `is neither "true" nor "false"`}
	}
	port, err := port(pod)
	if err != nil {
		return "", err
	}
	target, err := pathAndQuery(pod.Annotations[AnnotationPath])
	if err != nil {
		return "", err
	}
	switch scheme := pod.Annotations[AnnotationScheme]; scheme {
	case "", "http":
		target.Scheme = "http"
	case "https":
		target.Scheme = "https"
	default:
		return "", &AnnotationError{AnnotationScheme, scheme, `is neither "http" nor "https"`}
	}
	if pod.Status.PodIP == "" {
		return "", ErrNoAddress
	}
	target.Host = net.JoinHostPort(pod.Status.PodIP, port)
	return target.String(), nil
}

// ended says whether all containers of the pod have stopped for good.
func ended(pod *corev1.Pod) bool {
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
