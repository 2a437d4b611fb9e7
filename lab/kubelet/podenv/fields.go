package podenv

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Field returns the value of a downward API field of the pod. The pod's status must already carry its addresses.
// metadata.labels and metadata.annotations as a whole, which only volumes may ask for, give one key="value" line each.
func Field(pod *corev1.Pod, path string) (string, error) {
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return lines(pod.Labels), nil
	case "metadata.annotations":
		return lines(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP":
		return pod.Status.PodIP, nil
	case "status.hostIP":
		return pod.Status.HostIP, nil
	case "status.podIPs":
		return join(pod.Status.PodIPs, func(ip corev1.PodIP) string { return ip.IP }), nil
	case "status.hostIPs":
		return join(pod.Status.HostIPs, func(ip corev1.HostIP) string { return ip.IP }), nil
	}
	for field, values := range map[string]map[string]string{"metadata.labels": pod.Labels, "metadata.annotations": pod.Annotations} {
		if key, ok := subscript(path, field); ok {
			return values[key], nil
		}
	}
	return "", fmt.Errorf("the lab does not support fieldPath %q", path)
}

func join[T any](all []T, text func(T) string) string {
	out := make([]string, 0, len(all))
	for _, one := range all {
		out = append(out, text(one))
	}
	return strings.Join(out, ",")
}

// subscript returns x of field['x'].
func subscript(path, field string) (string, bool) {
	inner, ok := strings.CutPrefix(path, field+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(inner, "']")
}

func lines(m map[string]string) string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(out, "\n")
}

// Resource returns a container's request or limit in units of the divisor (1 when unset), rounded up: CPU in cores,
// all else in its base unit. An unset request is 0, as for the kubelet; an unset limit, which the kubelet takes from the
// node's allocatable, is an error.
func Resource(pod *corev1.Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName != "" && ref.ContainerName != c.Name {
		i := slices.IndexFunc(pod.Spec.Containers, func(o corev1.Container) bool { return o.Name == ref.ContainerName })
		if i < 0 {
			return "", fmt.Errorf("resourceFieldRef names container %q, which the pod lacks", ref.ContainerName)
		}
		c = &pod.Spec.Containers[i]
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	var list corev1.ResourceList
	switch kind {
	case "requests":
		list = c.Resources.Requests
	case "limits":
		list = c.Resources.Limits
	default:
		return "", fmt.Errorf("the lab does not support resourceFieldRef %q", ref.Resource)
	}
	quantity, set := list[corev1.ResourceName(name)]
	if !set && kind == "limits" {
		return "", fmt.Errorf("container %s sets no %s, and the lab does not default limits to the node's size", c.Name, ref.Resource)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == string(corev1.ResourceCPU) {
		return strconv.FormatInt(ceilDiv(quantity.MilliValue(), divisor.MilliValue()), 10), nil
	}
	return strconv.FormatInt(ceilDiv(quantity.Value(), divisor.Value()), 10), nil
}

func ceilDiv(a, b int64) int64 { return int64(math.Ceil(float64(a) / float64(b))) }
