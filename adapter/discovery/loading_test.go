package discovery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// at is a time of the stories below, in seconds after noon.
func at(seconds int) metav1.Time {
	return metav1.NewTime(time.Date(2026, 1, 2, 12, 0, seconds, 0, time.UTC))
}

func readyPod(status corev1.ConditionStatus, since int, containers ...corev1.ContainerStatus) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "chat-1"},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways},
		Status: corev1.PodStatus{
			Phase:             corev1.PodRunning,
			Conditions:        []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: status, LastTransitionTime: at(since)}},
			ContainerStatuses: containers,
		},
	}
}

func running(name string, startedAt int, ready bool) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: name, Ready: ready, Started: new(true), Image: "an/image", ImageID: "sha256:abc", ContainerID: "containerd://abc",
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(startedAt)}},
	}
}

func waiting(name, reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: name, Started: new(false), RestartCount: 1,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "back-off 10s"}},
	}
}

func terminated(name string, code int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error"}}}
}

// TestLoading tells the states that a kubelet reports, in the order in which a pod goes through them.
func TestLoading(t *testing.T) {
	f := func(name string, pod *corev1.Pod, want string) {
		t.Helper()
		assert.Equal(t, want, Loading(pod), name)
		trimmed, err := Trim(pod)
		require.NoError(t, err)
		assert.Equal(t, want, Loading(trimmed.(*corev1.Pod)), "trimmed: %s", name)
	}
	const f0, tr = corev1.ConditionFalse, corev1.ConditionTrue

	pending := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending}}
	f("not on a node", pending, "no container has started yet")
	f("pulling its image", readyPod(f0, 1, waiting("main", "ContainerCreating")), "container main is not running: ContainerCreating")
	f("its init container runs", readyPod(f0, 1, waiting("main", "PodInitializing")), "container main is not running: PodInitializing")

	starting := running("main", 5, false)
	starting.Started = new(false)
	f("before its startup probe passed", readyPod(f0, 1, starting), "container main has not passed its startup probe")
	f("loading weights", readyPod(f0, 1, running("main", 5, false)), "container main has not been ready since it started at 12:00:05 UTC")
	f("reported only after it started", readyPod(f0, 6, running("main", 5, false)), "container main has not been ready since it started at 12:00:05 UTC")
	f("ready", readyPod(tr, 30, running("main", 5, true)), "")
	f("without probes", readyPod(tr, 5, running("main", 5, true)), "")

	f("overloaded: readiness fails", readyPod(f0, 90, running("main", 5, false)), "")
	f("overloaded, the kubelet knows no startup", readyPod(f0, 90, func() corev1.ContainerStatus {
		c := running("main", 5, false)
		c.Started = nil
		return c
	}()), "")
	f("its node is lost", readyPod(corev1.ConditionUnknown, 90, running("main", 5, true)), "")

	f("killed by its liveness probe while overloaded", readyPod(f0, 90, terminated("main", 137)), "container main is not running")
	f("in back-off", readyPod(f0, 90, waiting("main", "CrashLoopBackOff")), "container main is not running: CrashLoopBackOff")
	f("restarted, loads again", readyPod(f0, 90, running("main", 120, false)), "container main has not been ready since it started at 12:02:00 UTC")
	f("ready again, overloaded again", readyPod(f0, 200, running("main", 120, false)), "")

	f("one container overloaded, a helper restarted and ready", readyPod(f0, 90, running("main", 5, false), running("helper", 95, true)), "")
	f("main ready, a helper restarting", readyPod(f0, 90, running("main", 5, true), running("helper", 91, false)),
		"container helper has not been ready since it started at 12:01:31 UTC")
	done := readyPod(f0, 90, running("main", 5, true), terminated("helper", 0))
	f("a helper that will be started again", done, "container helper is not running")
	done.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	f("a helper that is done", done, "")
	done.Status.ContainerStatuses[1] = terminated("helper", 1)
	f("a helper that failed and is started again", done, "container helper is not running")
	done.Spec.RestartPolicy = corev1.RestartPolicyNever
	f("a helper that failed for good", done, "")

	f("waits for its readiness gate", readyPod(f0, 1, running("main", 5, true)), "its readiness gates have not been met yet")
	f("its readiness gate was met once", readyPod(f0, 60, running("main", 5, true)), "")

	sidecar := readyPod(f0, 1, running("main", 5, true))
	sidecar.Spec.InitContainers = []corev1.Container{{Name: "once"}, {Name: "proxy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
	sidecar.Status.InitContainerStatuses = []corev1.ContainerStatus{terminated("once", 0), waiting("proxy", "CrashLoopBackOff")}
	f("its sidecar does not run", sidecar, "container proxy is not running: CrashLoopBackOff")
	sidecar.Status.InitContainerStatuses[1] = running("proxy", 3, false)
	f("its sidecar is not ready", sidecar, "container proxy has not been ready since it started at 12:00:03 UTC")
	sidecar.Status.Conditions[1].LastTransitionTime = at(60)
	f("its sidecar is not ready any more", sidecar, "")
}
