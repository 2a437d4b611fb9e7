package kubelet_test

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"headroom.dev/headroom/lab/kubelet"
)

func simulatedPod(name, spec string, gpus int64) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{kubelet.SimulateAnnotation: spec}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(1)),
			Containers: []corev1.Container{{
				Name: "server", Image: "vllm/vllm-openai:v0.11.0",
				Ports:     []corev1.ContainerPort{{Name: "http", ContainerPort: 8000}},
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"nvidia.com/gpu": *resource.NewQuantity(gpus, resource.DecimalSI)}},
				ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1, ProbeHandler: corev1.ProbeHandler{
					HTTPGet: &corev1.HTTPGetAction{Path: "/health", Port: intstr.FromString("http")},
				}},
			}},
		},
	}
}

func (l *lab) resources() podresources.PodResourcesListerClient {
	l.t.Helper()
	conn, err := grpc.NewClient("unix://"+l.kubelet.PodResourcesSocket("node-1"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(l.t, err)
	l.t.Cleanup(func() { _ = conn.Close() })
	return podresources.NewPodResourcesListerClient(conn)
}

// owners returns the devices of each listed pod.
func owners(t *testing.T, c podresources.PodResourcesListerClient) map[string][]string {
	t.Helper()
	list, err := c.List(t.Context(), &podresources.ListPodResourcesRequest{}, grpc.WaitForReady(true))
	require.NoError(t, err)
	out := map[string][]string{}
	for _, p := range list.GetPodResources() {
		out[p.GetName()] = nil
		for _, c := range p.GetContainers() {
			for _, d := range c.GetDevices() {
				out[p.GetName()] = append(out[p.GetName()], d.GetDeviceIds()...)
			}
		}
	}
	return out
}

func (l *lab) machine() string {
	l.t.Helper()
	raw, err := os.ReadFile(l.kubelet.MachineFile("node-1"))
	require.NoError(l.t, err)
	return string(raw)
}

func TestSimulatedPodFromLoadingToGone(t *testing.T) {
	t.Parallel()
	l := start(t)
	resources := l.resources()
	l.create(simulatedPod("sim", `{"startup": "1s", "serviceTime": "30s", "slots": 1, "gpuMemory": "32GiB", "kvCache": 0}`, 2))
	l.eventually("sim", "running and loading", func(p *corev1.Pod) bool {
		return !ready(p) && p.Status.Phase == corev1.PodRunning && p.Status.ContainerStatuses[0].State.Running != nil
	})
	pod := l.eventually("sim", "ready", ready)
	require.Equal(t, map[string][]string{"sim": {"GPU-0", "GPU-1"}}, owners(t, resources))
	code, body := get(t, address(pod, 8000, "/metrics"))
	require.Equal(t, 200, code)
	require.Contains(t, body, "http_requests_total")

	idle := "device GPU-0\nname NVIDIA H100 80GB HBM3\nmemory 85899345920 17179869184\nutilization 0 0\n"
	require.Eventually(t, func() bool { return strings.Contains(l.machine(), idle) }, 5*time.Second, 10*time.Millisecond, "half of 32 GiB each")
	working, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(working, http.MethodPost, address(pod, 8000, "/v1/completions"), strings.NewReader(`{"prompt": "x"}`))
	require.NoError(t, err)
	go func() {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	require.Eventually(t, func() bool { return strings.Count(l.machine(), "utilization 100 0\n") == 2 }, 5*time.Second, 10*time.Millisecond,
		"both devices are busy, the other two are not")
	require.Contains(t, l.machine(), "device GPU-2\nname NVIDIA H100 80GB HBM3\nmemory 85899345920 0\nutilization 0 0\n")
	cancel()

	l.remove("sim", 1)
	l.gone("sim")
	require.Empty(t, owners(t, resources), "at once")
	require.Eventually(t, func() bool { return strings.Count(l.machine(), " 0\nutilization 0 0\n") == 4 }, 5*time.Second, 10*time.Millisecond)
}

func TestSimulatedPodFollowsItsAnnotation(t *testing.T) {
	t.Parallel()
	l := start(t)
	l.create(simulatedPod("sim", `{"startup": "soon"}`, 0))
	pod := l.eventually("sim", "refused", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting.Reason == "CreateContainerConfigError"
	})
	require.Contains(t, pod.Status.ContainerStatuses[0].State.Waiting.Message, "annotation headroom.dev/simulate: ")
	l.patch("sim", `{"annotations": {"headroom.dev/simulate": "{\"startup\": \"0s\"}"}}`)
	pod = l.eventually("sim", "ready", ready)
	l.patch("sim", `{"annotations": {"headroom.dev/simulate": "{\"faultHealth\": true}"}}`)
	l.eventually("sim", "sick", func(p *corev1.Pod) bool { return !ready(p) })
	l.patch("sim", `{"annotations": {"headroom.dev/simulate": "{"}}`) // ignored, but not in silence
	l.patch("sim", `{"annotations": {"headroom.dev/simulate": "{\"fault\": \"error500\"}"}}`)
	l.eventually("sim", "well again", ready)
	code, _ := get(t, address(pod, 8000, "/metrics"))
	require.Equal(t, 500, code)
	require.Zero(t, l.eventually("sim", "there", ready).Status.ContainerStatuses[0].RestartCount)
	events, err := l.client.CoreV1().Events("ns").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.True(t, poll(time.Now().Add(5*time.Second), func() bool {
		events, err = l.client.CoreV1().Events("ns").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		for _, e := range events.Items {
			if strings.Contains(e.Message, "is ignored") && e.InvolvedObject.Name == "sim" {
				return true
			}
		}
		return false
	}), "%v", events.Items)
}

func TestPodsWithoutEnoughGPUsWaitAndKWOKsPodsCount(t *testing.T) {
	t.Parallel()
	l := start(t)
	resources := l.resources()
	foreign := simulatedPod("kwok", "", 3)
	foreign.Annotations = nil
	l.create(foreign)
	require.Eventually(t, func() bool { return len(owners(t, resources)["kwok"]) == 3 }, 5*time.Second, 5*time.Millisecond)
	l.create(simulatedPod("sim", `{"startup": "0s"}`, 2))
	l.eventually("sim", "waiting", func(p *corev1.Pod) bool {
		return condition(p, corev1.PodReadyToStartContainers).Status == corev1.ConditionFalse
	})
	pod, err := l.client.CoreV1().Pods("ns").Get(t.Context(), "kwok", metav1.GetOptions{})
	require.NoError(t, err)
	require.Empty(t, pod.Status.Conditions, "not ours to report on")
	require.NoError(t, l.client.CoreV1().Pods("ns").Delete(t.Context(), "kwok", metav1.DeleteOptions{}))
	l.eventually("sim", "ready", ready)
	require.Len(t, owners(t, resources)["sim"], 2)
}

func TestPodDeletedByForceOrBeforeItsStart(t *testing.T) {
	t.Parallel()
	l := start(t)
	resources := l.resources()
	l.create(simulatedPod("forced", `{"startup": "0s"}`, 4))
	pod := l.eventually("forced", "ready", ready)
	require.NoError(t, l.client.CoreV1().Pods("ns").Delete(t.Context(), "forced", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { code, _ := get(t, address(pod, 8000, "/health")); return code == 0 }, 5*time.Second, 5*time.Millisecond)
	require.Empty(t, owners(t, resources))

	stillborn := simulatedPod("stillborn", `{"startup": "0s"}`, 1)
	stillborn.DeletionTimestamp, stillborn.DeletionGracePeriodSeconds = new(metav1.Now()), new(int64(30))
	l.create(stillborn)
	l.gone("stillborn")
	require.Empty(t, owners(t, resources))
}

func TestPreStopSleepDelaysTheEnd(t *testing.T) {
	t.Parallel()
	l := start(t)
	pod := simulatedPod("slow", `{"startup": "0s"}`, 0)
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}}}
	l.create(pod)
	up := l.eventually("slow", "ready", ready)
	began := time.Now()
	l.remove("slow", 10)
	l.eventually("slow", "unready", func(p *corev1.Pod) bool { return !ready(p) })
	code, _ := get(t, address(up, 8000, "/health"))
	require.Equal(t, 200, code, "it still serves while endpoints forget it")
	l.gone("slow")
	require.Greater(t, time.Since(began), 900*time.Millisecond)
}
