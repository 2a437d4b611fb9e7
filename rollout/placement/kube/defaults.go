package kube

import (
	corev1 "k8s.io/api/core/v1"
	resourcehelpers "k8s.io/component-helpers/resource"
)

// Defaulted is a template with what the API server fills in for its pods and, for historical reasons, not in the template itself
// (SetDefaults_Pod, pkg/apis/core/v1/defaults.go): requests where only limits are written, as is usual for GPUs, and host ports of pods on
// the host's network. The template stays as it is.
func Defaulted(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	out := t.DeepCopy()
	spec := &out.Spec
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range list {
			fill(&list[i].Resources.Requests, list[i].Resources.Limits, func(corev1.ResourceName) bool { return true })
			for j := range list[i].Ports {
				if p := &list[i].Ports[j]; spec.HostNetwork && p.HostPort == 0 {
					p.HostPort = p.ContainerPort
				}
			}
		}
	}
	if r := spec.Resources; r != nil && len(r.Limits) > 0 {
		// What the containers request goes before the pod's own limit, but for huge pages, which nobody overcommits.
		of := resourcehelpers.AggregateContainerRequests(&corev1.Pod{Spec: *spec}, resourcehelpers.PodResourcesOptions{})
		fill(&r.Requests, of, func(name corev1.ResourceName) bool {
			return name == corev1.ResourceCPU || name == corev1.ResourceMemory
		})
		fill(&r.Requests, r.Limits, resourcehelpers.IsSupportedPodLevelResource)
	}
	return out
}

// fill adds to a list what it has not, of what keep keeps.
func fill(list *corev1.ResourceList, from corev1.ResourceList, keep func(corev1.ResourceName) bool) {
	for name, q := range from {
		if _, there := (*list)[name]; there || !keep(name) {
			continue
		}
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = q
	}
}
