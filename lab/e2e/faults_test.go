package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"

	"headroom.dev/headroom/lab/kubelet"
)

const (
	wellSpec = "startup: 0s, slots: 8, serviceTime: 20ms"

	wholeSecond = time.Second     // what the API cuts off a timestamp
	freshest    = 3 * time.Second // how old a value of a healthy pod may be
	mostRPS     = 5 * time.Second // the rule's maximum age
	mostP95     = 15 * time.Second
)

// broken are faults of a /metrics, and what people are told of each.
func broken() map[string]string {
	return map[string]string{
		"hang":     "no full answer within 1s",
		"garbage":  "line 1: ",
		"huge":     "the answer is larger than the limit of 4194304 bytes",
		"error500": "HTTP 500 Internal Server Error",
		"slow:3s":  "no full answer within 1s",
	}
}

// name makes a fault a pod's name.
func name(fault string) string { return strings.NewReplacer(":", "-").Replace(fault) }

// TestBrokenPodsBesideGoodOnes breaks the /metrics of running pods in every way, heals them again, and watches all
// values meanwhile.
func TestBrokenPodsBesideGoodOnes(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.deploy(t, namespace, inference("good-1", "{"+wellSpec+"}", 0), inference("good-2", "{"+wellSpec+"}", 0))
	for fault := range broken() {
		shared.deploy(t, namespace, inference(name(fault), "{"+wellSpec+"}", 0))
		shared.autoscale(t, namespace, name(fault), rps, "1k")
	}
	pods := map[string]corev1.Pod{}
	var targets []string
	for _, pod := range shared.ready(t, namespace, "app=service", 2+len(broken())) {
		pods[pod.Labels["name"]] = pod
		targets = append(targets, addressOf(pod))
	}
	send(t, func() []string { return targets }, 70, lightTokens)
	all := slices.Sorted(maps.Keys(pods))
	watch := shared.newWatch(t, namespace, pods, map[string]time.Duration{rps: mostRPS, p95: mostP95})
	watch.await(t, rps, all, 15*time.Second)
	watch.await(t, p95, all, 15*time.Second)
	for fault := range broken() {
		eventually(t, 10*time.Second, func(t require.TestingT) {
			require.Equal(t, corev1.ConditionTrue, shared.scalingActive(ctx, t, namespace, name(fault)).Status)
		})
	}

	began := time.Now()
	for fault := range broken() {
		simulate(t, namespace, pods[name(fault)].Name, "{"+wellSpec+", fault: '"+fault+"'}")
	}
	good := []string{"good-1", "good-2"}
	watch.await(t, rps, good, mostRPS+3*time.Second)
	for fault, reason := range broken() {
		pod := pods[name(fault)]
		why := shared.get(ctx, t, ofPod(custom2, namespace, pod.Name, rps)).refusal(t, http.StatusNotFound)
		// Which of the two depends on how long the checks before took: 10 s after the fault no sample is left.
		want := fmt.Sprintf(`(old, at most 5s|no sample in 10s): %s`, regexp.QuoteMeta(fmt.Sprintf("http://%s/metrics: %s", addressOf(pod), reason)))
		assert.Regexp(t, want, why)
		eventually(t, 10*time.Second, func(t require.TestingT) {
			condition := shared.scalingActive(ctx, t, namespace, name(fault))
			require.Equal(t, corev1.ConditionFalse, condition.Status)
			require.Contains(t, condition.Message, "no "+rps+" of pods "+namespace+"/"+pod.Name)
			require.Regexp(t, want, condition.Message)
		})
	}
	watch.await(t, p95, good, time.Until(began.Add(mostP95+3*time.Second)))

	healed := time.Now()
	for fault := range broken() {
		simulate(t, namespace, pods[name(fault)].Name, "{"+wellSpec+"}")
	}
	watch.await(t, rps, all, 6*time.Second)
	t.Logf("all values are back %s after the faults ended", time.Since(healed).Round(tick))
	watch.await(t, p95, all, 6*time.Second)
	watch.end(t)
	watch.assertFresh(t, rps, good, began, 10*time.Second)
}

// TestPodDeletedInMidScrape deletes a pod whose /metrics is being read.
func TestPodDeletedInMidScrape(t *testing.T) {
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.deploy(t, namespace, inference("good", "{"+wellSpec+"}", 0))
	// A scrape takes 0.8 s of every second, so the deletion meets one, most of the time.
	leaving := inference("leaving", "{"+wellSpec+", fault: 'slow:800ms'}", 0)
	pod := &corev1.Pod{ObjectMeta: leaving.Spec.Template.ObjectMeta, Spec: leaving.Spec.Template.Spec}
	pod.Name = "leaving"
	_, err := shared.Client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
	require.NoError(t, err)
	pods := map[string]corev1.Pod{}
	for _, pod := range shared.ready(t, namespace, "app=service", 2) {
		pods[pod.Labels["name"]] = pod
	}
	watch := shared.newWatch(t, namespace, pods, map[string]time.Duration{rps: mostRPS})
	watch.await(t, rps, []string{"good", "leaving"}, 15*time.Second)

	began := time.Now()
	require.NoError(t, shared.Client.CoreV1().Pods(namespace).Delete(ctx, "leaving", metav1.DeleteOptions{}))
	// A watch event and one evaluation away, not its age.
	watch.await(t, rps, []string{"good"}, 2*time.Second)
	why := shared.get(ctx, t, ofPod(custom2, namespace, "leaving", rps)).refusal(t, http.StatusNotFound)
	assert.Regexp(t, "the pod is terminating|there is no such pod", why)
	eventually(t, 20*time.Second, func(t require.TestingT) { require.Greater(t, watch.since(began), 10*time.Second) })
	watch.end(t)
	for _, r := range watch.of(rps, began.Add(2*time.Second)) {
		assert.NotContains(t, r.values, "leaving", "no late answer brings it back")
	}
	watch.assertFresh(t, rps, []string{"good"}, began, 10*time.Second)
}

// simulate gives a running pod another behaviour.
func simulate(t *testing.T, namespace, pod, spec string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, kubelet.SimulateAnnotation, spec)
	_, err := shared.Client.CoreV1().Pods(namespace).Patch(t.Context(), pod, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
}

// reading is one list of the API for the pods with app: service.
type reading struct {
	began  time.Time // before the request was sent
	metric string
	values map[string]v1beta2.MetricValue // by the pod's label name
}

// watch reads metrics every 200 ms and checks that no value is older than its rule allows.
type watch struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	readings []reading
}

func (c *cluster) newWatch(t *testing.T, namespace string, pods map[string]corev1.Pod, most map[string]time.Duration) *watch {
	t.Helper()
	names := map[string]string{}
	for name, pod := range pods {
		names[pod.Name] = name
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &watch{cancel: cancel}
	for metric, limit := range most {
		w.wg.Go(func() {
			ticker := time.NewTicker(200 * time.Millisecond)
			defer ticker.Stop()
			for {
				a, err := fetch(ctx, c.http, c.Config.Host+ofPods(custom2, namespace, metric, "app=service"))
				if ctx.Err() != nil {
					return
				}
				values, bad := a.values()
				if err := errors.Join(err, bad); err != nil {
					t.Errorf("cannot read %s: %v", metric, err)
					return
				}
				w.add(t, a.began, metric, values, names, limit)
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
			}
		})
	}
	t.Cleanup(func() { w.cancel(); w.wg.Wait() })
	return w
}

func (w *watch) add(t *testing.T, began time.Time, metric string, values map[string]v1beta2.MetricValue, names map[string]string, most time.Duration) {
	t.Helper()
	r := reading{began: began, metric: metric, values: map[string]v1beta2.MetricValue{}}
	for pod, value := range values {
		r.values[names[pod]] = value
		assert.LessOrEqual(t, r.age(names[pod]), most+wholeSecond, "age of %s of %s", metric, pod)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readings = append(w.readings, r)
}

// age is how old a value was when it was asked for; up to a second more than the truth.
func (r reading) age(name string) time.Duration { return r.began.Sub(r.values[name].Timestamp.Time) }

// of returns the readings of a metric that were asked for after a time.
func (w *watch) of(metric string, after time.Time) []reading {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []reading
	for _, r := range w.readings {
		if r.metric == metric && r.began.After(after) {
			out = append(out, r)
		}
	}
	return out
}

// since is how long after a time the last reading was.
func (w *watch) since(t time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.readings) == 0 {
		return 0
	}
	return w.readings[len(w.readings)-1].began.Sub(t)
}

// await waits until the pods that have a value are those of the names.
func (w *watch) await(t *testing.T, metric string, names []string, within time.Duration) {
	t.Helper()
	began := time.Now()
	eventually(t, within, func(t require.TestingT) {
		list := w.of(metric, began)
		require.NotEmpty(t, list)
		require.Equal(t, names, slices.Sorted(maps.Keys(list[len(list)-1].values)), "pods that have %s", metric)
	})
}

func (w *watch) end(t *testing.T) {
	t.Helper()
	w.cancel()
	w.wg.Wait()
}

// assertFresh checks that pods had a fresh value in every reading since a time, over a stretch of at least that length.
func (w *watch) assertFresh(t *testing.T, metric string, names []string, from time.Time, length time.Duration) {
	t.Helper()
	list := w.of(metric, from)
	require.NotEmpty(t, list)
	require.Greater(t, list[len(list)-1].began.Sub(from), length)
	oldest := time.Duration(0)
	for _, r := range list {
		for _, name := range names {
			if assert.Contains(t, r.values, name) {
				oldest = max(oldest, r.age(name))
			}
		}
	}
	assert.LessOrEqual(t, oldest, freshest+wholeSecond)
	t.Logf("%d readings in %s, the oldest value of a healthy pod was %s old", len(list), list[len(list)-1].began.Sub(from).Round(tick), oldest.Round(tick))
}
