package discovery

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// loadingSlack is how long after its containers' start a pod may first be reported as not ready: both times are cut to
// whole seconds, and not every kubelet reports what it is about to start before it starts it.
const loadingSlack = 2 * time.Second

// Loading says why the pod does not take part yet, "" where it does or did since its containers (re)started.
//
// A pod is loading while it is not Ready and one of the containers that are to run all the time is not running, has not
// passed its startup probe, or has not been ready since it started, which is so when the pod was unready before that. A
// pod whose readiness fails while its containers go on running is not loading: it has too much to do, and its values are
// the ones that matter most. The same holds for readiness gates: one that was never met makes a pod loading, one that is
// met no more does not.
func Loading(pod *corev1.Pod) string {
	var unready time.Time // since when
	if c := readyCondition(pod); c != nil {
		if c.Status == corev1.ConditionTrue {
			return ""
		}
		unready = c.LastTransitionTime.Time
	}
	if len(pod.Status.ContainerStatuses) == 0 {
		return "no container has started yet"
	}
	allReady, latest := true, time.Time{}
	for _, c := range lasting(pod) {
		if ended := c.State.Terminated; ended != nil && !restarts(pod.Spec.RestartPolicy, ended.ExitCode) {
			continue // its work is done
		}
		if reason := containerLoading(c, unready); reason != "" {
			return "container " + c.Name + " " + reason
		}
		allReady = allReady && c.Ready
		if c.State.Running.StartedAt.After(latest) {
			latest = c.State.Running.StartedAt.Time
		}
	}
	if allReady && neverReady(latest, unready) {
		return "its readiness gates have not been met yet"
	}
	return ""
}

// containerLoading returns "" for a container that runs and is ready, or was so since it started.
func containerLoading(c *corev1.ContainerStatus, unready time.Time) string {
	running := c.State.Running
	switch {
	case running == nil && c.State.Waiting != nil && c.State.Waiting.Reason != "":
		return "is not running: " + c.State.Waiting.Reason
	case running == nil:
		return "is not running"
	case c.Started != nil && !*c.Started:
		return "has not passed its startup probe"
	case !c.Ready && neverReady(running.StartedAt.Time, unready):
		return "has not been ready since it started at " + running.StartedAt.UTC().Format(time.TimeOnly) + " UTC"
	}
	return ""
}

// neverReady says whether what started at one time cannot have been ready before the pod was unready from another on.
func neverReady(started, unready time.Time) bool { return !started.Add(loadingSlack).Before(unready) }

// lasting returns the status of the containers that are to run as long as the pod does: all but init containers, of which
// only sidecars do.
func lasting(pod *corev1.Pod) []*corev1.ContainerStatus {
	out := make([]*corev1.ContainerStatus, 0, len(pod.Status.ContainerStatuses)+len(pod.Status.InitContainerStatuses))
	for i := range pod.Status.ContainerStatuses {
		out = append(out, &pod.Status.ContainerStatuses[i])
	}
	for i := range pod.Status.InitContainerStatuses {
		c := &pod.Status.InitContainerStatuses[i]
		if slices.ContainsFunc(pod.Spec.InitContainers, func(s corev1.Container) bool { return s.Name == c.Name && sidecar(&s) }) {
			out = append(out, c)
		}
	}
	return out
}

func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// restarts says whether a container that ended is started again. No policy is Always.
func restarts(policy corev1.RestartPolicy, exitCode int32) bool {
	return policy != corev1.RestartPolicyNever && (policy != corev1.RestartPolicyOnFailure || exitCode != 0)
}

func readyCondition(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodReady {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}
