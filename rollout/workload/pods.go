package workload

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/rollout"
)

const (
	// unseenAfter is how long a pod that no scheduler has spoken about is not yet said to lack a place: schedulers answer in less
	// than a second, and a new pod must not look like one that found no GPU.
	unseenAfter = 30 * time.Second
	// crashes is how many restarts, or ended pods in a row, are more than bad luck.
	crashes = 2
	// surely is after how many restarts a container counts as broken since it was last Ready. With fewer the kubelet says only when
	// the last run began, which is too late by the runs before: at the usual backoff of 10, 20, 40 … s by half.
	surely = 5
	// longestDetail bounds what is quoted: a scheduler names a reason for each node.
	longestDetail = 300
)

// state is what a pod waits for.
type state int

const (
	working state = iota // Ready, or on its way to a node
	loading
	noGPU
	broken
)

// finding is a pod's state, for how long, and who says so.
type finding struct {
	state  state
	ready  bool
	since  time.Time
	detail string
}

// count counts a version's pods. Of a ReplicaSet those that have ended are replaced at once and stay until they are collected: they
// count, as broken, where it happened more than once and no pod has become Ready since. Others' are the replicas themselves.
func count(pods, ended []*corev1.Pod, replaced bool, now time.Time) rollout.Version {
	v := rollout.Version{Replicas: len(pods)}
	var findings []finding
	lastReady := time.Time{}
	for _, p := range pods {
		f := look(p, now)
		if f.ready {
			v.Ready++
			if f.since.After(lastReady) {
				lastReady = f.since
			}
		}
		findings = append(findings, f)
	}
	var failures []finding
	for _, p := range ended {
		f := finding{state: broken, since: endOf(p), detail: ending(p)}
		if !replaced || f.since.After(lastReady) {
			failures = append(failures, f)
		}
	}
	if replaced {
		if len(failures) < crashes {
			failures = nil
		}
	} else {
		v.Replicas += len(ended)
	}
	tally(&v, append(findings, failures...), now)
	return v
}

// tally adds the findings up. What is said of the worst is said of all: of broken pods before others, of the longest among equals.
func tally(v *rollout.Version, findings []finding, now time.Time) {
	var worst finding
	for _, f := range findings {
		age := since(now, f.since)
		switch f.state {
		case working:
			continue
		case loading:
			v.Loading++
			v.LoadingFor = max(v.LoadingFor, age)
		case noGPU:
			v.NoGPU++
			v.NoGPUFor = max(v.NoGPUFor, age)
		case broken:
			v.Broken++
			v.BrokenFor = max(v.BrokenFor, age)
		}
		if f.state > worst.state || f.state == worst.state && f.since.Before(worst.since) {
			worst = f
		}
	}
	v.Detail = shorten(worst.detail)
}

func shorten(text string) string {
	text = strings.TrimSpace(text)
	if len(text) <= longestDetail {
		return text
	}
	return strings.ToValidUTF8(text[:longestDetail], "") + "…"
}

// look says what one pod waits for.
func look(p *corev1.Pod, now time.Time) finding {
	scheduled, ready := condition(p, corev1.PodScheduled), condition(p, corev1.PodReady)
	if p.Spec.NodeName == "" {
		switch {
		case scheduled != nil && scheduled.Status == corev1.ConditionFalse:
			return finding{state: noGPU, since: scheduled.LastTransitionTime.Time, detail: orElse(scheduled.Message, scheduled.Reason)}
		case now.Sub(p.CreationTimestamp.Time) > unseenAfter:
			return finding{state: noGPU, since: p.CreationTimestamp.Time, detail: "no scheduler has spoken about it"}
		}
		return finding{}
	}
	if ready != nil && ready.Status == corev1.ConditionTrue {
		return finding{ready: true, since: ready.LastTransitionTime.Time}
	}
	f := finding{state: loading, since: p.CreationTimestamp.Time}
	if scheduled != nil && scheduled.Status == corev1.ConditionTrue {
		f.since = scheduled.LastTransitionTime.Time
	}
	if ready != nil {
		f.detail = orElse(ready.Message, ready.Reason)
		if ready.LastTransitionTime.After(f.since) {
			f.since = ready.LastTransitionTime.Time
		}
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			if at, why := failing(&list[i], f.since); why != "" {
				return finding{state: broken, since: at, detail: why}
			}
		}
	}
	return f
}

// failing says since when a container is broken, and why; "" where it is not. The pod has not been Ready since unready.
func failing(c *corev1.ContainerStatus, unready time.Time) (at time.Time, why string) {
	last := c.LastTerminationState.Terminated
	if c.State.Terminated != nil {
		last = c.State.Terminated
	}
	if w := c.State.Waiting; w != nil && badWaiting(w.Reason) {
		if w.Reason != "CrashLoopBackOff" || last == nil {
			return unready, join(c.Name, w.Reason, w.Message)
		}
		return crashed(c, last, unready), join(c.Name, w.Reason, exit(last))
	}
	if last == nil || last.ExitCode == 0 || c.Ready || c.RestartCount < crashes {
		return time.Time{}, ""
	}
	if run := c.State.Running; run != nil && unready.After(run.StartedAt.Time) {
		// It has been Ready in this run.
		return time.Time{}, ""
	}
	return crashed(c, last, unready), join(c.Name, fmt.Sprintf("restarted %d times", c.RestartCount), exit(last))
}

// crashed is since when a container is known to exit again and again.
func crashed(c *corev1.ContainerStatus, last *corev1.ContainerStateTerminated, unready time.Time) time.Time {
	switch {
	case c.RestartCount >= surely:
		return unready
	case c.RestartCount == 0:
		return last.FinishedAt.Time
	}
	return last.StartedAt.Time
}

func badWaiting(reason string) bool {
	switch reason {
	case "CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
		"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError":
		return true
	}
	return false
}

// exit says how a run ended.
func exit(t *corev1.ContainerStateTerminated) string {
	said := fmt.Sprintf("exit code %d", t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" {
		said += " (" + t.Reason + ")"
	}
	if t.Message != "" {
		said += ": " + t.Message
	}
	return said
}

// endOf is when a pod that has ended did so.
func endOf(p *corev1.Pod) time.Time {
	at := p.CreationTimestamp.Time
	for i := range p.Status.ContainerStatuses {
		if t := p.Status.ContainerStatuses[i].State.Terminated; t != nil && t.FinishedAt.After(at) {
			at = t.FinishedAt.Time
		}
	}
	return at
}

// ending says why a pod has ended.
func ending(p *corev1.Pod) string {
	return join(p.Name, orElse(p.Status.Reason, string(p.Status.Phase)), p.Status.Message)
}

func condition(p *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == kind {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// join is "a: b: c" of what is not empty.
func join(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, ": ")
}
