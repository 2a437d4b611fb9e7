package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab/network"
)

// scaleVariable asks for the faults at full size when it is "full", as make test-faults does: 2,000 pods replaced at once
// instead of 200, and a rule that matches a million series. That takes minutes, and a machine with nothing else to do.
const scaleVariable = "HEADROOM_E2E_SCALE"

func fullScale() bool { return os.Getenv(scaleVariable) == "full" }

// TestManyPodsReplaced deletes all pods of a Deployment at once.
func TestManyPodsReplaced(t *testing.T) {
	c, n := shared, 200
	if fullScale() {
		n = 2000
		c = ownCluster(t, 9) // nodes of 250 pods each
		// Two replicas scrape 4,000 times a second, which the simulated servers alone cannot answer on two cores.
		_, err := c.kubectl(t, "scale", "deployment/headroom-adapter", "-n", "headroom-system", "--replicas=1")
		require.NoError(t, err)
	}
	ctx, namespace := t.Context(), c.namespace(t)
	d := inference("many", "{startup: 0s}", 0)
	d.Spec.Replicas = new(int32(n))
	d.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64(1))
	if fullScale() {
		d.Spec.Template.Spec.Containers[0].ReadinessProbe = nil // 2,000 new connections a second would be the lab's load alone
	}
	c.deploy(t, namespace, d)
	life := c.lives(t, namespace)
	within := time.Duration(n) * 150 * time.Millisecond // the controllers' own pace
	eventually(t, time.Minute+within, func(t require.TestingT) { require.Equal(t, n, life.ready()) })
	eventually(t, 30*time.Second, func(t require.TestingT) {
		values := len(c.values(ctx, t, namespace, rps)) // the pods themselves would fill screens
		require.Equal(t, n, values)
	})

	began := time.Now()
	require.NoError(t, c.Client.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "name=many"}))
	deleted := time.Since(began)
	stale, lists := time.Duration(0), 0
	var ready, served time.Time
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		asked := time.Now()
		values := c.values(ctx, t, namespace, rps)
		lists++
		for pod := range values {
			if gone := life.goneAt(pod); !gone.IsZero() {
				stale = max(stale, asked.Sub(gone))
			}
		}
		if ready.IsZero() && life.ready() == n {
			ready = time.Now()
		}
		require.False(t, ready.IsZero(), "%d pods are Ready", life.ready())
		count := len(values)
		require.Equal(t, n, count)
		served = time.Now()
	}, time.Minute+within, tick)
	t.Logf("%d pods deleted in %s, as many new ones Ready after %s, all with values %s later; in %d lists no value of a pod that was deleted more than %s before",
		n, deleted.Round(tick), ready.Sub(began).Round(tick), served.Sub(ready).Round(tick), lists, stale.Round(time.Millisecond))
	assert.LessOrEqual(t, stale, 2*time.Second, "a watch event's way")
	assert.LessOrEqual(t, served.Sub(ready), 10*time.Second)
	for pod := range c.values(ctx, t, namespace, rps) {
		assert.True(t, life.goneAt(pod).IsZero())
	}
}

// lives follows the pods of a namespace.
type lives struct {
	mu      sync.Mutex
	isReady map[string]bool
	gone    map[string]time.Time // when their deletion was seen
}

func (c *cluster) lives(t *testing.T, namespace string) *lives {
	t.Helper()
	l := &lives{isReady: map[string]bool{}, gone: map[string]time.Time{}}
	ctx, cancel := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactoryWithOptions(c.Client, 0, informers.WithNamespace(namespace))
	_, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { l.see(obj, false) },
		UpdateFunc: func(_, obj any) { l.see(obj, false) },
		DeleteFunc: func(obj any) { l.see(obj, true) },
	})
	require.NoError(t, err)
	factory.StartWithContext(ctx)
	factory.WaitForCacheSyncWithContext(ctx)
	t.Cleanup(func() { cancel(); factory.Shutdown() })
	return l
}

func (l *lives) see(obj any, deleted bool) {
	if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if pod.DeletionTimestamp == nil && !deleted {
		l.isReady[pod.Name] = network.Ready(pod)
		return
	}
	delete(l.isReady, pod.Name)
	if l.gone[pod.Name].IsZero() {
		l.gone[pod.Name] = time.Now()
	}
}

func (l *lives) ready() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, ready := range l.isReady {
		if ready {
			n++
		}
	}
	return n
}

// goneAt is when the deletion of a pod was seen; zero where it was not.
func (l *lives) goneAt(pod string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone[pod]
}

// TestMillionSeries: twelve pods expose 10⁵ lines each of a metric that a rule wants, ninety more 5,000 each, which is more
// than the adapter's store takes. What it knew before stays fresh.
func TestMillionSeries(t *testing.T) {
	if !fullScale() {
		t.Skipf("takes minutes of CPU; %s=full, or make test-faults, runs it", scaleVariable)
	}
	const (
		huge, large = 12, 90
		most        = 400_000 // --max-series
		full        = "the store has no room for "
	)
	c := ownCluster(t, 2)
	namespace := c.namespace(t)
	counting := &exporter{}
	counting.count("http_requests_total", 10)
	pods := c.export(t, namespace, map[string]*exporter{"good": counting})
	watch := c.newWatch(t, namespace, pods, map[string]time.Duration{rps: mostRPS})
	watch.await(t, rps, []string{"good"}, 15*time.Second)

	c.rule(t, "million", ofPodsWith("million", "sum by (namespace, pod) (million)"))
	masses := c.namespace(t)
	exporters := map[string]*exporter{}
	for i := range huge + large {
		lines, e := 5_000, &exporter{}
		if i < huge {
			lines = 100_000
		}
		e.lines("million", lines)
		exporters[fmt.Sprintf("mass-%d", i)] = e
	}
	began := time.Now()
	mass := c.export(t, masses, exporters)
	c.awaitRule(t, "million", metav1.ConditionTrue, v1alpha1.ReasonEvaluated, "")
	eventually(t, time.Minute, func(t require.TestingT) { require.Greater(t, watch.since(began), 40*time.Second) })
	status := c.awaitRule(t, "million", metav1.ConditionTrue, v1alpha1.ReasonEvaluated, "")
	reasons := map[string]int{}
	for _, pod := range mass {
		a := c.get(t.Context(), t, ofPod(custom2, masses, pod.Name, "million"))
		reason := "a value"
		if a.code != http.StatusOK {
			_, reason, _ = strings.Cut(a.refusal(t, http.StatusNotFound), "/metrics: ")
			if strings.Contains(a.body, full) {
				reason = full + "more"
			}
		}
		reasons[reason]++
	}
	t.Logf("the rule reads %d series in %s; of the %d pods that it is about: %v", *status.Series, status.LastEvaluationDuration.Duration, len(mass), reasons)
	assert.Equal(t, huge, reasons["the answer has more than the limit of 10000 samples"])
	assert.Positive(t, reasons[full+"more"])
	assert.NotContains(t, reasons, "", "nobody is left without a reason")
	late := c.export(t, c.namespace(t), map[string]*exporter{"late": says("sglang:num_queue_reqs 1\n")})["late"]
	eventually(t, 15*time.Second, func(e require.TestingT) {
		why := c.get(t.Context(), e, ofPod(custom2, late.Namespace, late.Name, "requests_waiting")).refusal(e, http.StatusNotFound)
		require.Contains(e, why, full)
		t.Logf("a pod that comes when the store is full: %s", why)
	})
	watch.end(t)
	watch.assertFresh(t, rps, []string{"good"}, began, 40*time.Second)
	for _, base := range c.replicas(t.Context(), t) {
		a, err := fetch(t.Context(), c.straight, base+"/metrics")
		require.NoError(t, err)
		figures := map[string]float64{}
		for line := range strings.Lines(a.body) {
			name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
			if strings.HasPrefix(name, "headroom_adapter_store_") || name == "process_resident_memory_bytes" {
				figures[name], err = strconv.ParseFloat(number, 64)
				require.NoError(t, err, line)
				t.Log(strings.TrimSpace(line))
			}
		}
		assert.InDelta(t, most, figures["headroom_adapter_store_series"], 0)
		assert.Positive(t, figures[`headroom_adapter_store_rejected_samples_total{reason="over_limit"}`])
	}
}

// ownCluster is a lab for one test, with Headroom installed.
func ownCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	dir := tempState(t)
	l, err := up(t.Context(), dir, nodes, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			printLogs(dir)
		}
		assert.NoError(t, l.Down())
	})
	require.NoError(t, l.Cluster().Install(t.Context(), l.Progress))
	c, err := newCluster(l)
	require.NoError(t, err)
	return c
}
