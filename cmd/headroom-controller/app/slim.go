package app

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/recommender/kube"
)

// slim keeps of a pod what the scaler and the recommender read: of thousands the rest would be most of the memory.
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
	out.Spec.NodeName = pod.Spec.NodeName
	out.Spec.Containers = slimContainers(pod.Spec.Containers)
	out.Spec.InitContainers = slimContainers(pod.Spec.InitContainers)
	out.Status.Phase, out.Status.Conditions = pod.Status.Phase, pod.Status.Conditions
	out.Status.Reason, out.Status.Message = pod.Status.Reason, pod.Status.Message
	out.Status.ContainerStatuses = slimStatuses(pod.Status.ContainerStatuses)
	out.Status.InitContainerStatuses = slimStatuses(pod.Status.InitContainerStatuses)
	return out, nil
}

func slimContainers(list []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range list {
		c := &list[i]
		out = append(out, corev1.Container{
			Name: c.Name, Image: c.Image, Command: c.Command, Args: c.Args, Resources: c.Resources, RestartPolicy: c.RestartPolicy,
		})
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
