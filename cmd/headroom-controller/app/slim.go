package app

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resourcehelpers "k8s.io/component-helpers/resource"

	"headroom.dev/headroom/recommender/kube"
)

// slim keeps of a pod what the scaler, the recommender and the search for rollouts' capacity read: of thousands the rest would be most
// of the memory.
func slim(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	out := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion, Labels: pod.Labels,
		OwnerReferences: pod.OwnerReferences, CreationTimestamp: pod.CreationTimestamp, DeletionTimestamp: pod.DeletionTimestamp,
	}}
	for _, name := range []string{corev1.PodDeletionCost, kube.AnnotationWeights, kube.AnnotationPerToken} {
		if value, ok := pod.Annotations[name]; ok {
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[name] = value
		}
	}
	out.Spec = corev1.PodSpec{
		NodeName: pod.Spec.NodeName, Priority: pod.Spec.Priority, TerminationGracePeriodSeconds: pod.Spec.TerminationGracePeriodSeconds,
		SchedulingGates: pod.Spec.SchedulingGates, Overhead: pod.Spec.Overhead, Resources: pod.Spec.Resources,
		Affinity: slimAffinity(pod.Spec.Affinity),
	}
	out.Spec.Containers = slimContainers(pod.Spec.Containers)
	out.Spec.InitContainers = slimContainers(pod.Spec.InitContainers)
	out.Status.Phase, out.Status.Conditions = pod.Status.Phase, pod.Status.Conditions
	out.Status.Reason, out.Status.Message = pod.Status.Reason, pod.Status.Message
	out.Status.NominatedNodeName = pod.Status.NominatedNodeName
	out.Status.ContainerStatuses = slimStatuses(pod.Status.ContainerStatuses)
	out.Status.InitContainerStatuses = slimStatuses(pod.Status.InitContainerStatuses)
	keepResized(pod, out)
	return out, nil
}

// keepResized keeps what the kubelet says of resources where the scheduler would count it: in every status it is, but only while a pod
// is resized does it say anything that the spec does not.
func keepResized(pod, out *corev1.Pod) {
	scheduled := resourcehelpers.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true}
	if equality.Semantic.DeepEqual(resourcehelpers.PodRequests(pod, scheduled), resourcehelpers.PodRequests(out, scheduled)) {
		return
	}
	out.Status.Resources, out.Status.AllocatedResources = pod.Status.Resources, pod.Status.AllocatedResources
	keep := func(from, to []corev1.ContainerStatus) {
		for i := range from {
			to[i].Resources, to[i].AllocatedResources = from[i].Resources, from[i].AllocatedResources
		}
	}
	keep(pod.Status.ContainerStatuses, out.Status.ContainerStatuses)
	keep(pod.Status.InitContainerStatuses, out.Status.InitContainerStatuses)
}

// slimAffinity keeps what a pod forbids to others: its own place has been found.
func slimAffinity(a *corev1.Affinity) *corev1.Affinity {
	if a == nil || a.PodAntiAffinity == nil || len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) == 0 {
		return nil
	}
	return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
	}}
}

// slimNode drops the names of the images on a node, 50 of them and most of its size.
func slimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	node.ManagedFields, node.Status.Images = nil, nil
	return node, nil
}

func slimContainers(list []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range list {
		c := &list[i]
		out = append(out, corev1.Container{
			Name: c.Name, Image: c.Image, Command: c.Command, Args: c.Args, Resources: c.Resources, RestartPolicy: c.RestartPolicy,
			Ports: hostPorts(c.Ports),
		})
	}
	return out
}

// hostPorts are those of a node, of which each can be had once.
func hostPorts(list []corev1.ContainerPort) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	for i := range list {
		if list[i].HostPort > 0 {
			out = append(out, list[i])
		}
	}
	return out
}

func slimStatuses(list []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range list {
		s := &list[i]
		out = append(out, corev1.ContainerStatus{Name: s.Name, State: s.State, LastTerminationState: s.LastTerminationState})
	}
	return out
}
