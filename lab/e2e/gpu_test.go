package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"

	"headroom.dev/headroom/api/gpus"
	kubectl "headroom.dev/headroom/cmd/kubectl-headroom/app"
)

// TestGPUUseBelongsToThePodThatMakesIt loads one of two pods on one node.
func TestGPUUseBelongsToThePodThatMakesIt(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	const spec = "{startup: 0s, slots: 8, serviceTime: 200ms}"
	busy, idle, without := inference("busy", spec, 1), inference("idle", spec, 1), inference("without", spec, 0)
	for _, d := range []*corev1.PodSpec{&busy.Spec.Template.Spec, &idle.Spec.Template.Spec, &without.Spec.Template.Spec} {
		d.NodeSelector = map[string]string{corev1.LabelHostname: "gpu-3"}
	}
	shared.deploy(t, namespace, busy, idle, without)
	pods := map[string]corev1.Pod{}
	for _, pod := range shared.ready(t, namespace, "app=service", 3) {
		require.Equal(t, "gpu-3", pod.Spec.NodeName)
		pods[pod.Labels["name"]] = pod
	}
	send(t, func() []string { return []string{addressOf(pods["busy"])} }, 40, lightTokens) // busy 1-exp(-40*0.1) = 98 %

	eventually(t, 20*time.Second, func(t require.TestingT) {
		values := shared.values(ctx, t, namespace, gpu)
		require.Len(t, values, 2, "the pod without a GPU is left out")
		require.Contains(t, values, pods["idle"].Name)
		require.Greater(t, number(values[pods["busy"].Name]), 80.0)
	})
	for _, pod := range []string{pods["busy"].Name, pods["idle"].Name} {
		healthy, memory := shared.values(ctx, t, namespace, "gpu_healthy"), shared.values(ctx, t, namespace, "gpu_memory_used_percent")
		require.Contains(t, healthy, pod)
		assert.InDelta(t, 1, number(healthy[pod]), 0)
		require.Contains(t, memory, pod)
		assert.GreaterOrEqual(t, number(memory[pod]), 20.0, "16 GiB of weights on 80 GiB")
		assert.LessOrEqual(t, number(memory[pod]), 100.0)
	}
	values := shared.values(ctx, t, namespace, gpu)
	assert.Zero(t, number(values[pods["idle"].Name]), "an idle GPU is zero, which is not the same as no value")

	out, err := shared.kubectl(t, "get", "--raw", ofPod(custom2, namespace, pods["busy"].Name, gpu))
	require.NoError(t, err)
	var one v1beta2.MetricValueList
	require.NoError(t, json.Unmarshal([]byte(out), &one), out)
	require.Len(t, one.Items, 1)
	assert.Greater(t, number(one.Items[0]), 80.0)

	why := shared.get(ctx, t, ofPod(custom2, namespace, pods["without"].Name, gpu)).refusal(t, http.StatusNotFound)
	assert.Contains(t, why, "reports no GPU that is the pod's alone")
}

// TestEachAgentTellsOfItsOwnNode asks the agents themselves.
func TestEachAgentTellsOfItsOwnNode(t *testing.T) {
	t.Parallel()
	agents, err := shared.Client.CoreV1().Pods("headroom-system").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=headroom-agent"})
	require.NoError(t, err)
	require.Len(t, agents.Items, 4, "one for each node")
	seen := map[string]string{}
	for _, agent := range agents.Items {
		a, err := fetch(t.Context(), http.DefaultClient, "http://"+net.JoinHostPort(agent.Status.PodIP, "9400")+"/metrics")
		require.NoError(t, err)
		info := regexp.MustCompile(`(?m)^gpu_info\{.*node="([^"]+)".*uuid="([^"]+)".*\} 1$`).FindAllStringSubmatch(a.body, -1)
		require.Len(t, info, 8, "GPUs of %s", agent.Name)
		for _, gpu := range info {
			assert.Equal(t, agent.Spec.NodeName, gpu[1], "the downward API gives the agent its node")
			assert.Empty(t, seen[gpu[2]], "%s is told of twice", gpu[2])
			seen[gpu[2]] = agent.Name
		}
	}
	assert.Len(t, seen, 32)
}

// TestAgentsKnowTheirNodes asks for what an agent knows and what keeps it from knowing more: its watches of the real API
// server, with the rights of the manifests, work.
func TestAgentsKnowTheirNodes(t *testing.T) {
	t.Parallel()
	agents, err := shared.Client.CoreV1().Pods("headroom-system").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=headroom-agent"})
	require.NoError(t, err)
	for _, agent := range agents.Items {
		eventually(t, 20*time.Second, func(t require.TestingT) {
			a, err := fetch(context.Background(), http.DefaultClient, "http://"+net.JoinHostPort(agent.Status.PodIP, "9400")+"/gpus")
			require.NoError(t, err)
			var list gpus.List
			require.NoError(t, json.Unmarshal([]byte(a.body), &list), a.body)
			require.Equal(t, agent.Spec.NodeName, list.Node)
			require.Len(t, list.Devices, 8)
			for _, d := range list.Devices {
				require.True(t, d.Healthy)
			}
			for _, p := range list.Problems {
				require.Contains(t, p, "processes: ", "whether they can be told apart depends on where the lab runs")
			}
		})
	}
}

// TestTopGPUsThroughTheAPIServer asks an agent by the API server's proxy of pods, as a user does. That proxy refuses the
// loopback addresses that the lab's pods have; so this agent is a second name of a real one's, with the address that stands for
// its own in EndpointSlices.
func TestTopGPUsThroughTheAPIServer(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	agents, err := shared.Client.CoreV1().Pods("headroom-system").List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=headroom-agent"})
	require.NoError(t, err)
	agent := agents.Items[0]
	address := strings.Replace(agent.Status.PodIP, "127.1.", "198.18.", 1)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "agent", Labels: map[string]string{"app.kubernetes.io/name": "headroom-agent"}},
		Spec: corev1.PodSpec{SchedulerName: "none", Containers: []corev1.Container{{
			Name: "agent", Image: "none", Ports: agent.Spec.Containers[0].Ports,
		}}},
	}
	pod, err = shared.Client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
	require.NoError(t, err)
	pod.Status.Phase, pod.Status.PodIP, pod.Status.PodIPs = corev1.PodRunning, address, []corev1.PodIP{{IP: address}}
	_, err = shared.Client.CoreV1().Pods(namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	require.NoError(t, err)

	var out, errOut strings.Builder
	cmd := kubectl.NewCommand(&out, &errOut)
	cmd.SetArgs([]string{"top", "gpus", "--kubeconfig", shared.Kubeconfig, "--cache-dir", t.TempDir()})
	require.NoError(t, cmd.ExecuteContext(ctx), errOut.String())
	assert.Equal(t, 8, strings.Count(out.String(), "H100-80GB-HBM3"), out.String())
	assert.Contains(t, out.String(), "TENSOR", "the counters are read too")
	assert.Equal(t, len(agents.Items), strings.Count(errOut.String(), "address not allowed"), errOut.String())
}

// TestVLLMNames serves requests and latency of a pod that has vLLM's metrics alone.
func TestVLLMNames(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.deploy(t, namespace, inference("vllm", "{startup: 0s, slots: 16, serviceTime: 800ms, metricNames: vllm}", 0))
	pod := shared.ready(t, namespace, "app=service", 1)[0]
	a, err := fetch(ctx, http.DefaultClient, "http://"+addressOf(pod)+"/metrics")
	require.NoError(t, err)
	require.Contains(t, a.body, "vllm:request_success_total")
	require.NotContains(t, a.body, "http_request")

	const rate = 20.0
	send(t, func() []string { return []string{addressOf(pod)} }, rate, lightTokens)
	eventually(t, 30*time.Second, func(t require.TestingT) {
		// Poisson: 200 requests in the window of 10 s, so 7 % is one standard deviation.
		require.InDelta(t, rate, number(shared.values(ctx, t, namespace, rps)[pod.Name]), 0.3*rate)
		// vLLM's bucket from 0.3 to 0.5 s holds every request.
		require.InDelta(t, 490, number(shared.values(ctx, t, namespace, p95)[pod.Name]), 20)
	})
}
