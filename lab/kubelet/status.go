package kubelet

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// observed is what a worker knows about its pod.
type observed struct {
	prepared   bool // devices and volumes are there, containers may start
	containers []corev1.ContainerStatus
	start, now metav1.Time
}

// podStatus returns the status to write after the last written one: phase, conditions and container states as the kubelet
// derives them. Conditions keep their transition time while their status stays; those of other writers are left alone.
func podStatus(last corev1.PodStatus, pod *corev1.Pod, in observed) corev1.PodStatus {
	next := *last.DeepCopy()
	next.Phase = phase(pod.Spec.RestartPolicy, in.containers)
	next.StartTime = &in.start
	terminating := pod.DeletionTimestamp != nil
	var unready []string
	next.ContainerStatuses = nil
	for _, c := range in.containers {
		c.Ready = c.Ready && !terminating
		if !c.Ready {
			unready = append(unready, c.Name)
		}
		next.ContainerStatuses = append(next.ContainerStatuses, c)
	}
	containersReady, ready := corev1.PodCondition{Type: corev1.ContainersReady}, corev1.PodCondition{Type: corev1.PodReady}
	switch {
	case next.Phase == corev1.PodSucceeded:
		containersReady.Reason = "PodCompleted"
	case next.Phase == corev1.PodFailed:
		containersReady.Reason = "PodFailed"
	case len(unready) > 0:
		containersReady.Reason = "ContainersNotReady"
		containersReady.Message = "containers with unready status: [" + strings.Join(unready, " ") + "]"
	}
	ready.Reason, ready.Message = containersReady.Reason, containersReady.Message
	if closed := closedGates(pod); ready.Reason == "" && len(closed) > 0 {
		ready.Reason = "ReadinessGatesNotReady"
		ready.Message = "readiness gates that are not true: [" + strings.Join(closed, " ") + "]"
	}
	set(&next, in.now, corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: truth(in.prepared)})
	set(&next, in.now, corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue})
	containersReady.Status, ready.Status = truth(containersReady.Reason == ""), truth(ready.Reason == "")
	set(&next, in.now, containersReady)
	set(&next, in.now, ready)
	if scheduled := find(next.Conditions, corev1.PodScheduled); scheduled == nil {
		set(&next, in.now, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	}
	return next
}

// phase follows the kubelet: Pending until every container has run, Running while one runs or will again.
func phase(policy corev1.RestartPolicy, containers []corev1.ContainerStatus) corev1.PodPhase {
	pending, alive, failed := false, false, false
	for _, c := range containers {
		switch {
		case c.State.Running != nil:
			alive = true
		case c.State.Terminated != nil:
			bad := c.State.Terminated.ExitCode != 0
			alive = alive || restarts(policy, bad)
			failed = failed || bad
		case c.LastTerminationState.Terminated != nil:
			alive = true // in back-off
		default:
			pending = true
		}
	}
	switch {
	case pending:
		return corev1.PodPending
	case alive:
		return corev1.PodRunning
	case failed:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

// restarts tells whether a container that has ended starts again. No policy is Always.
func restarts(policy corev1.RestartPolicy, failed bool) bool {
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return failed
	default:
		return true
	}
}

// closedGates returns the pod's readiness gates whose condition is not true.
func closedGates(pod *corev1.Pod) []string {
	var out []string
	for _, gate := range pod.Spec.ReadinessGates {
		if c := find(pod.Status.Conditions, gate.ConditionType); c == nil || c.Status != corev1.ConditionTrue {
			out = append(out, string(gate.ConditionType))
		}
	}
	return out
}

func set(status *corev1.PodStatus, now metav1.Time, c corev1.PodCondition) {
	c.LastTransitionTime = now
	old := find(status.Conditions, c.Type)
	if old == nil {
		status.Conditions = append(status.Conditions, c)
		return
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
}

func find(conditions []corev1.PodCondition, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range conditions {
		if conditions[i].Type == kind {
			return &conditions[i]
		}
	}
	return nil
}

func truth(b bool) corev1.ConditionStatus {
	if b {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}
