package discovery

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// annotationLimit is the length up to which the value of an annotation is kept for relabelings to read: ports, paths and
// names are shorter, and what controllers leave on pods by the kilobyte is longer. Ours are kept however long they are.
const annotationLimit = 128

// Trim is the informers' transform. Of a pod, a Service and a monitor it keeps what this package and a selection by labels
// need, a third of its bytes: 5,000 pods take 17 MB. It returns everything else as it is.
func Trim(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Pod:
		return trimPod(o), nil
	case *corev1.Service:
		return trimService(o), nil
	case *unstructured.Unstructured:
		unstructured.RemoveNestedField(o.Object, "metadata", "managedFields")
		unstructured.RemoveNestedField(o.Object, "metadata", "annotations")
		unstructured.RemoveNestedField(o.Object, "status")
	}
	return obj, nil
}

func trimPod(pod *corev1.Pod) *corev1.Pod {
	kept := &corev1.Pod{
		ObjectMeta: trimMeta(&pod.ObjectMeta),
		Spec: corev1.PodSpec{
			NodeName:   pod.Spec.NodeName,
			Containers: trimContainers(pod.Spec.Containers, func(*corev1.Container) bool { return true }),
			InitContainers: trimContainers(pod.Spec.InitContainers, func(c *corev1.Container) bool {
				return len(c.Ports) > 0 || sidecar(c)
			}),
		},
		Status: corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP, HostIP: pod.Status.HostIP},
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		kept.OwnerReferences = []metav1.OwnerReference{{APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name, Controller: owner.Controller}}
	}
	ready := readyCondition(pod)
	if ready != nil {
		kept.Status.Conditions = []corev1.PodCondition{{Type: ready.Type, Status: ready.Status, LastTransitionTime: ready.LastTransitionTime}}
	}
	if ready == nil || ready.Status != corev1.ConditionTrue { // Loading asks no more of a pod that is ready
		kept.Spec.RestartPolicy = pod.Spec.RestartPolicy
		kept.Status.ContainerStatuses = trimStatuses(pod.Status.ContainerStatuses)
		kept.Status.InitContainerStatuses = trimStatuses(pod.Status.InitContainerStatuses)
	}
	return kept
}

func trimContainers(containers []corev1.Container, keep func(*corev1.Container) bool) []corev1.Container {
	var kept []corev1.Container
	for i := range containers {
		if c := &containers[i]; keep(c) {
			kept = append(kept, corev1.Container{Name: c.Name, Ports: c.Ports, RestartPolicy: c.RestartPolicy})
		}
	}
	return kept
}

func trimStatuses(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	kept := make([]corev1.ContainerStatus, len(statuses))
	for i, c := range statuses {
		kept[i] = corev1.ContainerStatus{Name: c.Name, Ready: c.Ready, Started: c.Started}
		state := &kept[i].State
		switch {
		case c.State.Running != nil:
			state.Running = c.State.Running
		case c.State.Waiting != nil:
			state.Waiting = &corev1.ContainerStateWaiting{Reason: c.State.Waiting.Reason}
		case c.State.Terminated != nil:
			state.Terminated = &corev1.ContainerStateTerminated{ExitCode: c.State.Terminated.ExitCode}
		}
	}
	return kept
}

func trimService(service *corev1.Service) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: trimMeta(&service.ObjectMeta),
		Spec:       corev1.ServiceSpec{Type: service.Spec.Type, Selector: service.Spec.Selector, Ports: service.Spec.Ports},
	}
}

func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	kept := metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Labels: m.Labels, DeletionTimestamp: m.DeletionTimestamp,
	}
	for key, value := range m.Annotations {
		if strings.HasPrefix(key, prefix) || len(value) <= annotationLimit {
			metav1.SetMetaDataAnnotation(&kept, key, value)
		}
	}
	return kept
}
