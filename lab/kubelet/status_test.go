package kubelet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func state(word string) corev1.ContainerStatus {
	ended := func(code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
	}
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	return map[string]corev1.ContainerStatus{
		"new":   {Name: "new", State: waiting},
		"up":    {Name: "up", State: running, Ready: true},
		"load":  {Name: "load", State: running},
		"ok":    {Name: "ok", State: ended(0)},
		"bad":   {Name: "bad", State: ended(1)},
		"again": {Name: "again", State: waiting, LastTerminationState: ended(1)},
	}[word]
}

func TestPhase(t *testing.T) {
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	for _, c := range []struct {
		policy     corev1.RestartPolicy
		containers []string
		want       corev1.PodPhase
	}{
		{always, []string{"new"}, corev1.PodPending},
		{always, []string{"up", "new"}, corev1.PodPending},
		{always, []string{"up", "load"}, corev1.PodRunning},
		{always, []string{"again"}, corev1.PodRunning},
		{always, []string{"ok"}, corev1.PodRunning},
		{"", []string{"bad"}, corev1.PodRunning},
		{onFailure, []string{"bad", "ok"}, corev1.PodRunning},
		{onFailure, []string{"ok", "ok"}, corev1.PodSucceeded},
		{never, []string{"ok", "up"}, corev1.PodRunning},
		{never, []string{"ok", "bad"}, corev1.PodFailed},
		{never, []string{"ok"}, corev1.PodSucceeded},
	} {
		var all []corev1.ContainerStatus
		for _, word := range c.containers {
			all = append(all, state(word))
		}
		require.Equal(t, c.want, phase(c.policy, all), "%v", c)
	}
}

func TestConditionsMoveOnlyWhenTheirStatusDoes(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "example.com/traffic"}}}}
	at := func(s int64) metav1.Time { return metav1.Unix(s, 0) }
	see := func(last corev1.PodStatus, s int64, containers ...string) corev1.PodStatus {
		in := observed{prepared: true, start: at(1), now: at(s)}
		for _, word := range containers {
			in.containers = append(in.containers, state(word))
		}
		return podStatus(last, pod, in)
	}
	ready := func(s corev1.PodStatus) corev1.PodCondition { return *find(s.Conditions, corev1.PodReady) }

	// What the scheduler and the owner of the gate wrote stays.
	scheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: at(0)}
	gate := corev1.PodCondition{Type: "example.com/traffic", Status: corev1.ConditionFalse, LastTransitionTime: at(0)}
	s := see(corev1.PodStatus{Conditions: []corev1.PodCondition{scheduled, gate}}, 10, "load")
	require.Equal(t, scheduled, *find(s.Conditions, corev1.PodScheduled))
	require.Equal(t, gate, *find(s.Conditions, "example.com/traffic"))
	require.Equal(t, corev1.PodCondition{
		Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: at(10),
		Reason: "ContainersNotReady", Message: "containers with unready status: [load]",
	}, ready(s))

	s = see(s, 20, "up")
	require.Equal(t, corev1.ConditionTrue, find(s.Conditions, corev1.ContainersReady).Status)
	require.Equal(t, corev1.ConditionFalse, ready(s).Status)
	require.Equal(t, "ReadinessGatesNotReady", ready(s).Reason)
	require.Equal(t, at(10), ready(s).LastTransitionTime, "still false")

	pod.Status.Conditions = []corev1.PodCondition{{Type: "example.com/traffic", Status: corev1.ConditionTrue}}
	s = see(s, 30, "up")
	require.Equal(t, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: at(30)}, ready(s))
	require.Equal(t, at(30), ready(see(s, 40, "up")).LastTransitionTime)

	pod.DeletionTimestamp = new(at(45))
	s = see(s, 50, "up")
	require.Equal(t, corev1.ConditionFalse, ready(s).Status, "a terminating pod is not ready, whatever its probe says")
	require.False(t, s.ContainerStatuses[0].Ready)
}

func TestBackOff(t *testing.T) {
	var b backOff
	var got []time.Duration
	for range 7 {
		got = append(got, b.next(time.Second))
	}
	s := time.Second
	require.Equal(t, []time.Duration{0, s, 2 * s, 4 * s, 8 * s, 10 * s, 10 * s}, got)
	require.Zero(t, b.next(20*s), "a long run starts anew")
	require.Equal(t, s, b.next(0))
}

func TestRepository(t *testing.T) {
	for image, want := range map[string]string{
		"headroom.dev/agent":                  "headroom.dev/agent",
		"headroom.dev/agent:v1":               "headroom.dev/agent",
		"headroom.dev/agent@sha256:00":        "headroom.dev/agent",
		"localhost:5000/headroom/agent:v1@sh": "localhost:5000/headroom/agent",
		"localhost:5000/headroom/agent":       "localhost:5000/headroom/agent",
		"agent:latest":                        "agent",
		"":                                    "",
	} {
		require.Equal(t, want, repository(image), image)
	}
}

func TestHandles(t *testing.T) {
	images := map[string]string{"headroom.dev/agent": "/bin/agent"}
	pod := func(images ...string) *corev1.Pod {
		p := &corev1.Pod{}
		for _, image := range images {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Image: image})
		}
		return p
	}
	require.True(t, Handles(pod("headroom.dev/agent:v1"), images))
	require.True(t, Handles(pod("nginx", "headroom.dev/agent"), images))
	require.False(t, Handles(pod("nginx"), images))
	require.False(t, Handles(pod(), images))
	simulated := pod("nginx")
	simulated.Annotations = map[string]string{SimulateAnnotation: ""}
	require.True(t, Handles(simulated, nil))
}

func TestShare(t *testing.T) {
	began := time.Unix(100, 0)
	samples := func(seconds ...float64) []busyAt { // pairs of time and busy
		var out []busyAt
		for i := 0; i < len(seconds); i += 2 {
			out = append(out, busyAt{began.Add(time.Duration(seconds[i] * 1e9)), time.Duration(seconds[i+1] * 1e9)})
		}
		return out
	}
	require.Zero(t, share(samples(0, 7)))
	require.InDelta(t, 0.5, share(samples(0, 7, 0.25, 7.25, 1, 7.5)), 1e-9)
	require.InDelta(t, 1, share(samples(0, 0, 1, 1.1)), 1e-9)
	require.Zero(t, share(samples(0, 1, 1, 0)))
	require.Zero(t, share(samples(0, 1, 0, 2)))
}
