package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"

	"headroom.dev/headroom/api/v1alpha1"
)

// exporter serves a body that can be changed; it returns its port.
func exporter(t *testing.T, body *atomic.Pointer[string]) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if b := body.Load(); b != nil {
			_, _ = io.WriteString(w, *b)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	require.NoError(t, err)
	return port
}

func runningPod(namespace, name, port string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(name), Labels: map[string]string{"app": "chat"},
			Annotations: map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": port},
		},
		Spec: corev1.PodSpec{NodeName: "node-a"},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "127.0.0.1", Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

func fakeClients(kube kubernetes.Interface) *clients {
	kinds := map[schema.GroupVersionResource]string{
		v1alpha1.GroupVersion().WithResource(v1alpha1.ResourceMetricRules): "MetricRuleList",
	}
	return &clients{
		kube:     kube,
		dynamic:  dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds),
		metadata: metadatafake.NewSimpleMetadataClient(metadatafake.NewTestScheme()),
	}
}

// TestPlane follows pods from the watch to the API's provider: everything but certificates and serving.
func TestPlane(t *testing.T) {
	var chat, agent, forger atomic.Pointer[string]
	chatPort, agentPort, forgerPort := exporter(t, &chat), exporter(t, &agent), exporter(t, &forger)
	chat.Store(new("http_requests_total 1\n"))
	forger.Store(new("gpu_pod_utilization_ratio{namespace=\"demo\",pod=\"victim\",uuid=\"g\"} 1\n"))
	agent.Store(new("gpu_pod_utilization_ratio{namespace=\"demo\",pod=\"chat-1\",uuid=\"g\"} 0.5\n"))

	client := fake.NewClientset(
		runningPod("demo", "chat-1", chatPort), runningPod("demo", "victim", "1"), runningPod("headroom-system", "agent-a", agentPort),
		runningPod("demo", "forger", forgerPort), runningPod("demo", "typo", "http"))
	var log syncBuffer
	o := parsed(t, "--scrape-interval=100ms", "--evaluation-interval=100ms")
	require.NoError(t, o.Validate())
	logger := slog.New(slog.NewTextHandler(&log, nil))
	p, err := newPlane(o, fakeClients(client), logger)
	require.NoError(t, err)
	t.Cleanup(p.close)
	require.ErrorContains(t, p.ready(nil), "the list of pods is not here yet")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	p.start(ctx, &wg, o, logger)
	require.Eventually(t, func() bool { return p.ready(nil) == nil }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, p.evaluation.alive(nil))

	ask := func(metric, pod string) (string, error) {
		info := provider.CustomMetricInfo{GroupResource: schema.GroupResource{Resource: "pods"}, Namespaced: true, Metric: metric}
		v, err := p.provider.GetMetricByName(t.Context(), types.NamespacedName{Namespace: "demo", Name: pod}, info, labels.Everything())
		if err != nil {
			return "", err
		}
		return v.Value.String(), nil
	}
	eventually := func(metric, pod, want string) {
		t.Helper()
		var got string
		assert.Eventually(t, func() bool {
			value, err := ask(metric, pod)
			if err != nil {
				value = err.Error()
			}
			got = value
			return strings.Contains(got, want)
		}, 20*time.Second, 20*time.Millisecond, "want %q", want)
		if t.Failed() {
			t.Fatalf("%s of %s: %s", metric, pod, got)
		}
	}
	eventually("requests_per_second", "chat-1", "0")
	eventually("gpu_utilization_percent", "chat-1", "50")
	eventually("gpu_utilization_percent", "forger", "100") // a pod can speak for itself alone
	eventually("gpu_utilization_percent", "victim", "no gpu_utilization_percent of pods demo/victim: no sample in 15s: "+
		"agent headroom-system/agent-a reports no GPU that is the pod's alone")
	eventually("requests_per_second", "victim", "http://127.0.0.1:1/metrics: connection refused")
	eventually("requests_per_second", "typo", "not scraped: annotation prometheus.io/port")
	assert.Equal(t, 1, strings.Count(log.String(), "a pod is not scraped"))

	// A dead source: the other values stay, readiness too, and the reason names what failed.
	agent.Store(nil)
	eventually("gpu_utilization_percent", "victim", fmt.Sprintf("agent headroom-system/agent-a: http://127.0.0.1:%s/metrics: HTTP 500", agentPort))
	chat.Store(nil)
	eventually("requests_per_second", "chat-1", "at most 5s: http://127.0.0.1:"+chatPort+"/metrics: HTTP 500 Internal Server Error")
	require.NoError(t, p.ready(nil))

	// A pod that goes takes its values with it.
	require.NoError(t, client.CoreV1().Pods("headroom-system").Delete(t.Context(), "agent-a", metav1.DeleteOptions{}))
	eventually("gpu_utilization_percent", "victim", "no agent is scraped on node node-a")
	gone := runningPod("demo", "chat-1", chatPort)
	gone.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	_, err = client.CoreV1().Pods("demo").Update(t.Context(), gone, metav1.UpdateOptions{})
	require.NoError(t, err)
	eventually("requests_per_second", "chat-1", "the pod is terminating")
	require.Eventually(t, func() bool { return p.manager.Len() == 2 }, 10*time.Second, 10*time.Millisecond, "victim and forger are left")

	problems, err := testutil.GatherAndLint(p.registry)
	require.NoError(t, err)
	assert.Equal(t, []promlint.Problem(nil), problems)
}

// TestMetricsHandler shows ours beside the API machinery's.
func TestMetricsHandler(t *testing.T) {
	o := parsed(t)
	p, err := newPlane(o, fakeClients(fake.NewClientset()), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer p.close()
	for range 2 { // registering twice is no fault
		rec := httptest.NewRecorder()
		metricsHandler(p.registry).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
		require.Equal(t, http.StatusOK, rec.Code)
		assert.Contains(t, rec.Body.String(), "headroom_adapter_store_series 0")
		assert.Contains(t, rec.Body.String(), "go_goroutines")
	}
}

func TestSteadyClock(t *testing.T) {
	now := steadyClock()
	a := now()
	b := now()
	assert.False(t, b.Before(a))
	assert.WithinDuration(t, time.Now(), b, time.Second)
}

// syncBuffer is a buffer that many goroutines log into.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
