package discovery

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/strutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// meta begins the names of the labels that Prometheus' service discovery makes for relabelings to read.
const meta = "__meta_kubernetes_"

// metaLabels lists the labels that candidates bear, without meta; those that end in "_" are prefixes. Others that
// Prometheus knows (of nodes and namespaces, container images and IDs) are not read here.
func metaLabels() []string {
	return []string{
		"namespace",
		"pod_ip", "pod_name", "pod_ready", "pod_phase", "pod_node_name", "pod_host_ip", "pod_uid", "pod_controller_kind", "pod_controller_name",
		"pod_label_", "pod_labelpresent_", "pod_annotation_", "pod_annotationpresent_",
		"pod_container_name", "pod_container_port_number", "pod_container_port_name", "pod_container_port_protocol", "pod_container_init",
		"service_name", "service_label_", "service_labelpresent_", "service_annotation_", "service_annotationpresent_",
		"endpoints_name",
		"endpoint_ready", "endpoint_port_name", "endpoint_port_protocol", "endpoint_address_target_kind", "endpoint_address_target_name",
		"endpoint_node_name",
		"endpointslice_endpoint_conditions_ready", "endpointslice_port", "endpointslice_port_name", "endpointslice_port_protocol",
		"endpointslice_address_target_kind", "endpointslice_address_target_name", "endpointslice_endpoint_node_name",
	}
}

// unknownMeta says whether relabelings that read the label would always find it empty here, and not in Prometheus.
func unknownMeta(label string) bool {
	name, ok := strings.CutPrefix(label, meta)
	return ok && !slices.ContainsFunc(metaLabels(), func(known string) bool {
		return name == known || strings.HasSuffix(known, "_") && strings.HasPrefix(name, known)
	})
}

// candidate is one address of a pod that an endpoint of a monitor may mean: the pod's and Service's labels are in base.
type candidate struct {
	address string
	labels  []labels.Label
}

// podMeta returns the labels of the pod.
func podMeta(pod *corev1.Pod) []labels.Label {
	ready := corev1.ConditionUnknown
	if c := readyCondition(pod); c != nil {
		ready = c.Status
	}
	out := make([]labels.Label, 0, 16+2*len(pod.Labels)+2*len(pod.Annotations))
	out = append(out,
		labels.Label{Name: meta + "namespace", Value: pod.Namespace},
		labels.Label{Name: meta + "pod_ip", Value: pod.Status.PodIP},
		labels.Label{Name: meta + "pod_name", Value: pod.Name},
		labels.Label{Name: meta + "pod_ready", Value: strings.ToLower(string(ready))},
		labels.Label{Name: meta + "pod_phase", Value: string(pod.Status.Phase)},
		labels.Label{Name: meta + "pod_node_name", Value: pod.Spec.NodeName},
		labels.Label{Name: meta + "pod_host_ip", Value: pod.Status.HostIP},
		labels.Label{Name: meta + "pod_uid", Value: string(pod.UID)},
	)
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		out = append(out, labels.Label{Name: meta + "pod_controller_kind", Value: owner.Kind}, labels.Label{Name: meta + "pod_controller_name", Value: owner.Name})
	}
	return objectMeta(out, "pod", &pod.ObjectMeta)
}

// serviceMeta returns the labels of the Service and of its endpoints.
func serviceMeta(service *corev1.Service) []labels.Label {
	return objectMeta([]labels.Label{
		{Name: meta + "service_name", Value: service.Name},
		{Name: meta + "endpoints_name", Value: service.Name},
	}, "service", &service.ObjectMeta)
}

func objectMeta(out []labels.Label, role string, m *metav1.ObjectMeta) []labels.Label {
	add := func(kind string, pairs map[string]string) {
		for key, value := range pairs {
			key = strutil.SanitizeLabelName(key)
			out = append(out,
				labels.Label{Name: meta + role + "_" + kind + "_" + key, Value: value},
				labels.Label{Name: meta + role + "_" + kind + "present_" + key, Value: "true"})
		}
	}
	add("label", m.Labels)
	add("annotation", m.Annotations)
	return out
}

// podCandidates returns what a PodMonitor chooses from: every declared port, and the bare address of each container that
// declares none, for relabelings to complete.
func podCandidates(pod *corev1.Pod) []candidate {
	var out []candidate
	for c, init := range allContainers(pod) {
		if len(c.Ports) == 0 && !init { // Trim keeps no init container without ports
			out = append(out, candidate{pod.Status.PodIP, []labels.Label{
				{Name: meta + "pod_container_name", Value: c.Name},
				{Name: meta + "pod_container_init", Value: strconv.FormatBool(init)},
			}})
		}
		for _, p := range c.Ports {
			out = append(out, candidate{address(pod, p.ContainerPort), containerPort(c, p, init)})
		}
	}
	return out
}

// serviceCandidates returns what a ServiceMonitor chooses from: the Service's ports on the pod, and the other declared
// ports of the pod, which bear no port name of the Service.
func serviceCandidates(pod *corev1.Pod, service *corev1.Service) []candidate {
	var out []candidate
	covered := map[int32]bool{}
	for _, sp := range service.Spec.Ports {
		number, ok := targetPort(pod, sp)
		if !ok {
			continue
		}
		covered[number] = true
		out = append(out, candidate{address(pod, number), append(endpointPort(pod, sp, number), containerOf(pod, number)...)})
	}
	if len(covered) == 0 {
		return nil // the pod is in none of the Service's EndpointSlices that have ports
	}
	for c, init := range allContainers(pod) {
		for _, p := range c.Ports {
			if !covered[p.ContainerPort] {
				out = append(out, candidate{address(pod, p.ContainerPort), containerPort(c, p, init)})
			}
		}
	}
	return out
}

// endpointPort returns the labels of a Service's port on the pod, in both spellings: the operator's default changed from
// Endpoints to EndpointSlices.
func endpointPort(pod *corev1.Pod, sp corev1.ServicePort, number int32) []labels.Label {
	ready := "false"
	if c := readyCondition(pod); c != nil && c.Status == corev1.ConditionTrue {
		ready = "true"
	}
	protocol := string(sp.Protocol)
	return []labels.Label{
		{Name: meta + "endpoint_port_name", Value: sp.Name},
		{Name: meta + "endpoint_port_protocol", Value: protocol},
		{Name: meta + "endpoint_ready", Value: ready},
		{Name: meta + "endpoint_address_target_kind", Value: "Pod"},
		{Name: meta + "endpoint_address_target_name", Value: pod.Name},
		{Name: meta + "endpoint_node_name", Value: pod.Spec.NodeName},
		{Name: meta + "endpointslice_port", Value: strconv.Itoa(int(number))},
		{Name: meta + "endpointslice_port_name", Value: sp.Name},
		{Name: meta + "endpointslice_port_protocol", Value: protocol},
		{Name: meta + "endpointslice_endpoint_conditions_ready", Value: ready},
		{Name: meta + "endpointslice_address_target_kind", Value: "Pod"},
		{Name: meta + "endpointslice_address_target_name", Value: pod.Name},
		{Name: meta + "endpointslice_endpoint_node_name", Value: pod.Spec.NodeName},
	}
}

// containerOf returns the labels of the container that declares the port, of the last one where several do.
func containerOf(pod *corev1.Pod, number int32) []labels.Label {
	var out []labels.Label
	for c, init := range allContainers(pod) {
		if i := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == number }); i >= 0 {
			out = containerPort(c, c.Ports[i], init)
		}
	}
	return out
}

func containerPort(c *corev1.Container, p corev1.ContainerPort, init bool) []labels.Label {
	return []labels.Label{
		{Name: meta + "pod_container_name", Value: c.Name},
		{Name: meta + "pod_container_port_number", Value: strconv.Itoa(int(p.ContainerPort))},
		{Name: meta + "pod_container_port_name", Value: p.Name},
		{Name: meta + "pod_container_port_protocol", Value: string(p.Protocol)},
		{Name: meta + "pod_container_init", Value: strconv.FormatBool(init)},
	}
}

// targetPort resolves a Service's port on the pod, as the control plane does for its EndpointSlices; false where no
// container declares a port of that name and protocol.
func targetPort(pod *corev1.Pod, sp corev1.ServicePort) (int32, bool) {
	if sp.TargetPort.Type == intstr.Int {
		if sp.TargetPort.IntVal == 0 {
			return sp.Port, true
		}
		return sp.TargetPort.IntVal, true
	}
	for c, init := range allContainers(pod) {
		if init && !sidecar(c) {
			continue
		}
		for _, p := range c.Ports {
			if p.Name == sp.TargetPort.StrVal && protocolOf(p.Protocol) == protocolOf(sp.Protocol) {
				return p.ContainerPort, true
			}
		}
	}
	return 0, false
}

func protocolOf(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// allContainers goes through containers, then init containers, and says which it is.
func allContainers(pod *corev1.Pod) func(yield func(c *corev1.Container, init bool) bool) {
	return func(yield func(*corev1.Container, bool) bool) {
		for i := range pod.Spec.Containers {
			if !yield(&pod.Spec.Containers[i], false) {
				return
			}
		}
		for i := range pod.Spec.InitContainers {
			if !yield(&pod.Spec.InitContainers[i], true) {
				return
			}
		}
	}
}

func address(pod *corev1.Pod, port int32) string {
	return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(int(port)))
}

// reserved says whether a label is for relabelings alone.
func reserved(name string) bool { return strings.HasPrefix(name, model.ReservedLabelPrefix) }
