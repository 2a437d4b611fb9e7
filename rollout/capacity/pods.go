package capacity

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	resourcehelpers "k8s.io/component-helpers/resource"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout/placement/kube"
)

// shadow is what an autoscaler needs to know of the service's pods: where they can go and what they request. What they run with,
// and the secrets among it, stays where it is.
func shadow(n Need) corev1.PodTemplateSpec {
	spec := &kube.Defaulted(n.Template).Spec
	out := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labelsOf(n)}, Spec: placing(spec)}
	out.Spec.PriorityClassName, out.Spec.Volumes, out.Spec.ResourceClaims = spec.PriorityClassName, spec.Volumes, spec.ResourceClaims
	out.Spec.Resources, out.Spec.TopologySpreadConstraints = spec.Resources, spec.TopologySpreadConstraints
	out.Spec.Affinity = spec.Affinity
	bare := func(list []corev1.Container) []corev1.Container {
		var containers []corev1.Container
		for i := range list {
			c := &list[i]
			containers = append(containers, corev1.Container{
				Name: c.Name, Image: c.Image, Resources: c.Resources, Ports: c.Ports, RestartPolicy: c.RestartPolicy,
			})
		}
		return containers
	}
	out.Spec.InitContainers, out.Spec.Containers = bare(spec.InitContainers), bare(spec.Containers)
	return out
}

// placing are the fields by which a pod chooses nodes, but for its affinity to other pods.
func placing(spec *corev1.PodSpec) corev1.PodSpec {
	return corev1.PodSpec{
		NodeSelector: spec.NodeSelector, Tolerations: spec.Tolerations, SchedulerName: spec.SchedulerName,
		RuntimeClassName: spec.RuntimeClassName, Overhead: spec.Overhead, HostNetwork: spec.HostNetwork, OS: spec.OS,
	}
}

// placeholder is a pod that holds a place for one of the service's. It bears none of the service's labels, or it would be sent
// requests. So rules by which the service's pods keep off, or with, each other are said again about placeholders.
func placeholder(n Need, s *v1alpha1.PlaceholderSource, its map[string]string) corev1.PodTemplateSpec {
	own := &kube.Defaulted(n.Template).Spec
	spec := placing(own)
	spec.HostNetwork = false
	spec.PriorityClassName = s.PriorityClassName
	spec.TerminationGracePeriodSeconds = new(int64(0)) // who preempts it shall not wait
	spec.AutomountServiceAccountToken, spec.EnableServiceLinks = new(false), new(false)
	spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(65535)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	image := s.Image
	if image == "" {
		image = "registry.k8s.io/pause:3.10"
	}
	spec.Containers = []corev1.Container{{
		Name: "pause", Image: image, Resources: held(own), Ports: hostPorts(own),
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}}
	service := labels.Set(labelsOf(n))
	spec.Affinity = affinityOf(n, service, its)
	for i := range n.Template.Spec.TopologySpreadConstraints {
		t := *n.Template.Spec.TopologySpreadConstraints[i].DeepCopy()
		if t.WhenUnsatisfiable == corev1.DoNotSchedule && selects(t.LabelSelector, service) {
			t.LabelSelector, t.MatchLabelKeys = &metav1.LabelSelector{MatchLabels: its}, nil
		}
		spec.TopologySpreadConstraints = append(spec.TopologySpreadConstraints, t)
	}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: its}, Spec: spec}
}

// held is what one pod of the service requests in all. What nodes do not overcommit has to be limited as well.
func held(spec *corev1.PodSpec) corev1.ResourceRequirements {
	requests := resourcehelpers.PodRequests(&corev1.Pod{Spec: *spec}, resourcehelpers.PodResourcesOptions{ExcludeOverhead: true})
	out := corev1.ResourceRequirements{Requests: requests}
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		if name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage {
			continue
		}
		if out.Limits == nil {
			out.Limits = corev1.ResourceList{}
		}
		out.Limits[name] = requests[name]
	}
	return out
}

func hostPorts(spec *corev1.PodSpec) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	for i := range spec.Containers {
		for _, p := range spec.Containers[i].Ports {
			if p.HostPort > 0 {
				p.Name = ""
				out = append(out, p)
			}
		}
	}
	return out
}

// affinityOf is the service's affinity, said about placeholders: each term of anti-affinity that keeps the service's pods apart keeps
// placeholders apart, too. Affinity to its own kind is left out, as the first pod may be anywhere.
func affinityOf(n Need, service labels.Set, its map[string]string) *corev1.Affinity {
	a := n.Template.Spec.Affinity.DeepCopy()
	if a == nil {
		return nil
	}
	if a.PodAffinity != nil {
		a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = slices.DeleteFunc(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
			func(t corev1.PodAffinityTerm) bool {
				return within(&t, n.Namespace) && selects(t.LabelSelector, service)
			})
	}
	if a.PodAntiAffinity != nil {
		terms := a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		for _, t := range terms {
			if within(&t, n.Namespace) && selects(t.LabelSelector, service) {
				terms = append(terms, corev1.PodAffinityTerm{TopologyKey: t.TopologyKey, LabelSelector: &metav1.LabelSelector{MatchLabels: its}})
			}
		}
		a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution = terms
	}
	return a
}

// within reports whether a term is about pods of the namespace. A selector of namespaces is taken to be.
func within(t *corev1.PodAffinityTerm, namespace string) bool {
	return t.NamespaceSelector != nil || len(t.Namespaces) == 0 || slices.Contains(t.Namespaces, namespace)
}

func selects(s *metav1.LabelSelector, set labels.Set) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(set) // one that is wrong is for the API server to refuse
}
