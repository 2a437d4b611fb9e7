package capacity

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Slim keeps of a pod what a Client, and rollout/placement/kube.Pod, read: what a cache of pods must hold for them. What it returns
// shares its parts with the pod. Beyond what the names say: a pod that waits is told by its scheduling gates, one that resizes by
// the condition PodResizePending and what its containers were allocated, and the service's own by their owner.
func Slim(pod *corev1.Pod) *corev1.Pod {
	out := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion, Labels: pod.Labels,
		OwnerReferences: pod.OwnerReferences, DeletionTimestamp: pod.DeletionTimestamp,
	}}
	s := &pod.Spec
	out.Spec = corev1.PodSpec{
		NodeName: s.NodeName, Priority: s.Priority, Overhead: s.Overhead, SchedulingGates: s.SchedulingGates,
		TerminationGracePeriodSeconds: s.TerminationGracePeriodSeconds,
		Containers:                    slimContainers(s.Containers), InitContainers: slimContainers(s.InitContainers),
	}
	if s.Resources != nil {
		out.Spec.Resources = &corev1.ResourceRequirements{Requests: s.Resources.Requests}
	}
	if s.Affinity != nil && s.Affinity.PodAntiAffinity != nil {
		if terms := s.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution; len(terms) > 0 {
			out.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}
		}
	}
	out.Status = corev1.PodStatus{
		Phase: pod.Status.Phase, NominatedNodeName: pod.Status.NominatedNodeName, AllocatedResources: pod.Status.AllocatedResources,
		ContainerStatuses: slimStatuses(pod.Status.ContainerStatuses), InitContainerStatuses: slimStatuses(pod.Status.InitContainerStatuses),
	}
	if r := pod.Status.Resources; r != nil {
		out.Status.Resources = &corev1.ResourceRequirements{Requests: r.Requests}
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodResizePending || c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			out.Status.Conditions = append(out.Status.Conditions, corev1.PodCondition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message})
		}
	}
	return out
}

func slimContainers(list []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range list {
		c := &list[i]
		s := corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy, Resources: corev1.ResourceRequirements{Requests: c.Resources.Requests}}
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				s.Ports = append(s.Ports, corev1.ContainerPort{HostPort: p.HostPort, HostIP: p.HostIP, Protocol: p.Protocol})
			}
		}
		out = append(out, s)
	}
	return out
}

// slimStatuses keeps what a container's resize has come to.
func slimStatuses(list []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range list {
		c := &list[i]
		if c.AllocatedResources == nil && (c.Resources == nil || c.Resources.Requests == nil) {
			continue
		}
		s := corev1.ContainerStatus{Name: c.Name, AllocatedResources: c.AllocatedResources}
		if c.Resources != nil {
			s.Resources = &corev1.ResourceRequirements{Requests: c.Resources.Requests}
		}
		out = append(out, s)
	}
	return out
}
