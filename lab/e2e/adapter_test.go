package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
)

// TestAdapterFaults has a lab of its own, in which the adapter's replicas are killed, replaced and cut off from their
// source. Its parts build on each other. For 50 GETs a second of 8 clients the rule is: what Kubernetes does to a pod in
// an orderly way, nobody notices; what a crash costs is over when the endpoint is gone.
func TestAdapterFaults(t *testing.T) {
	t.Parallel()
	dir := tempState(t)
	l, err := up(t.Context(), dir, 2, 1)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			printLogs(dir)
		}
		assert.NoError(t, l.Down())
	})
	own, err := newCluster(l)
	require.NoError(t, err)
	require.NoError(t, l.Cluster().Install(t.Context(), l.Progress))
	source := newPrometheus(t)

	namespace := own.namespace(t)
	own.deploy(t, namespace, inference("one", "{startup: 0s}", 0), inference("two", "{startup: 0s}", 0))
	own.autoscale(t, namespace, "one", rps, "1k")
	s := &scene{cluster: own, namespace: namespace, pods: map[string]corev1.Pod{}, source: source}
	for _, pod := range own.ready(t, namespace, "app=service", 2) {
		s.pods[pod.Labels["name"]] = pod
		own.serves(t, pod, 30*time.Second)
	}
	for _, part := range []struct {
		name string
		f    func(*scene, *testing.T)
	}{
		{"both replicas are killed", (*scene).bothKilled},
		{"the Deployment is updated", (*scene).rollOut},
		{"one replica is deleted", (*scene).oneDeleted},
		{"one replica is killed", (*scene).oneKilled},
		{"the source is down for a minute", (*scene).sourceDown},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.f(s, t) }) {
			return
		}
	}
}

// scene is two pods that the adapter scrapes, an HPA on one of them, and a Prometheus-compatible server.
type scene struct {
	*cluster

	namespace string
	pods      map[string]corev1.Pod // by the label name
	source    *prometheusServer
}

func (s *scene) path() string { return ofPods(custom2, s.namespace, rps, "app=service") }

// bothKilled: nothing measures for a while, and the HPA says so instead of acting.
func (s *scene) bothKilled(t *testing.T) {
	ctx := t.Context()
	active := func(t require.TestingT) {
		require.Equal(t, corev1.ConditionTrue, s.scalingActive(ctx, t, s.namespace, "one").Status)
	}
	eventually(t, 20*time.Second, active)
	available := s.sample(t, func(t require.TestingT) { s.available(ctx, t) })
	answering := s.sample(t, func(t require.TestingT) { require.Len(t, s.values(ctx, t, s.namespace, rps), 2) })
	scaling := s.sample(t, active)

	began := time.Now()
	for _, pod := range s.adapters(ctx, t) {
		require.NoError(t, syscall.Kill(s.processOf(t, pod).PID, syscall.SIGKILL))
	}
	eventually(t, 10*time.Second, func(t require.TestingT) { require.Positive(t, answering.missing()) })
	eventually(t, 40*time.Second, func(t require.TestingT) {
		require.True(t, answering.now())
		require.True(t, available.now())
		require.True(t, scaling.now())
		require.Len(t, s.adapters(ctx, t), 2)
	})
	// The HPA looks every two seconds, and may not have looked while there was nothing: it is awaited once more.
	eventually(t, 3*hpaSync, func(t require.TestingT) {
		require.Greater(t, time.Since(began), 2*hpaSync)
		require.True(t, scaling.now())
	})
	t.Logf("both replicas killed: the API without values for %s, APIServices unavailable for %s, the HPA without values for %s; all well again after %s",
		answering.missing().Round(tick), available.missing().Round(tick), scaling.missing().Round(tick), time.Since(began).Round(tick))
	assert.Less(t, answering.missing(), 20*time.Second)
	assert.Less(t, scaling.missing(), 20*time.Second)
	for _, name := range []string{"one", "two"} {
		require.Len(t, s.ready(t, s.namespace, "name="+name, 1), 1, "nobody was scaled")
	}
}

// rollOut gives the adapter a Prometheus-compatible server, by a rolling update.
func (s *scene) rollOut(t *testing.T) {
	hammer := s.hammer(t, s.path())
	took := s.reconfigure(t, "--prometheus-url="+s.source.url, "--prometheus-interval=1s")
	hammer.goOn(t, 2*time.Second)
	hammer.stop()
	t.Logf("rolling update in %s: %s", took.Round(tick), hammer)
	assert.Empty(t, hammer.failures)
}

// reconfigure adds arguments to the adapter's and waits until all of its replicas have them.
func (c *cluster) reconfigure(t *testing.T, args ...string) time.Duration {
	t.Helper()
	ctx := t.Context()
	before := c.adapters(ctx, t)
	var patch []map[string]any
	for _, arg := range args {
		patch = append(patch, map[string]any{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": arg})
	}
	raw, err := json.Marshal(patch)
	require.NoError(t, err)
	began := time.Now()
	_, err = c.Client.AppsV1().Deployments("headroom-system").Patch(ctx, "headroom-adapter", types.JSONPatchType, raw, metav1.PatchOptions{})
	require.NoError(t, err)
	eventually(t, 90*time.Second, func(t require.TestingT) {
		pods, err := c.Client.CoreV1().Pods("headroom-system").List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=headroom-adapter"})
		require.NoError(t, err)
		require.Len(t, pods.Items, 2)
		for _, old := range before {
			require.False(t, slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return p.Name == old.Name }))
		}
		require.Len(t, c.adapters(ctx, t), 2)
	})
	return time.Since(began)
}

// oneDeleted deletes a pod, as a drain or a person does.
func (s *scene) oneDeleted(t *testing.T) {
	ctx := t.Context()
	victim := s.adapters(ctx, t)[0]
	hammer := s.hammer(t, s.path())
	hammer.goOn(t, time.Second)
	began := time.Now()
	require.NoError(t, s.Client.CoreV1().Pods("headroom-system").Delete(ctx, victim.Name, metav1.DeleteOptions{}))
	eventually(t, 60*time.Second, func(t require.TestingT) {
		_, found := s.process(t, victim.Name)
		require.False(t, found, "it goes on serving for a while")
		require.Len(t, s.adapters(ctx, t), 2)
	})
	took := time.Since(began)
	hammer.goOn(t, 2*time.Second)
	hammer.stop()
	t.Logf("one of two replicas deleted, and replaced after %s: %s", took.Round(tick), hammer)
	assert.Empty(t, hammer.failures)
}

// oneKilled: requests that are under way at the killed one fail, and for a moment new ones.
func (s *scene) oneKilled(t *testing.T) {
	ctx := t.Context()
	hammer := s.hammer(t, s.path())
	hammer.goOn(t, time.Second)
	var began time.Time
	// Both, one after the other: which of them the API server speaks with is its own business.
	for _, victim := range s.adapters(ctx, t) {
		failed := hammer.failed()
		began = time.Now()
		require.NoError(t, syscall.Kill(s.processOf(t, victim).PID, syscall.SIGKILL))
		eventually(t, 30*time.Second, func(t require.TestingT) {
			pod, err := s.Client.CoreV1().Pods("headroom-system").Get(ctx, victim.Name, metav1.GetOptions{})
			require.NoError(t, err)
			require.Positive(t, restartsOf([]corev1.Pod{*pod}, victim.Name)-restartsOf([]corev1.Pod{victim}, victim.Name))
			require.Len(t, s.adapters(ctx, t), 2)
		})
		t.Logf("%s killed, and Ready again after %s: %d requests failed", victim.Name, time.Since(began).Round(tick), hammer.failed()-failed)
		hammer.mu.Lock()
		for _, f := range hammer.failures[failed:] {
			assert.Less(t, f.at.Sub(began), 2*time.Second, f.what)
		}
		hammer.mu.Unlock()
	}
	hammer.stop()
	t.Logf("one of two replicas killed, twice: %s", hammer)
}

// hammer is a steady load of GETs through the API server.
type hammer struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	requests int
	slowest  time.Duration
	failures []failure
}

// failure is a request that had no values.
type failure struct {
	at   time.Time // when it was sent
	what string
}

const (
	hammers    = 8
	hammerRate = 50 // requests a second of all together
)

// hammer sends requests until the test ends. What is not an answer with a fresh value for each pod is a failure.
func (s *scene) hammer(t *testing.T, path string) *hammer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	h := &hammer{cancel: cancel}
	for range hammers {
		config := rest.CopyConfig(s.Config)
		config.Proxy = http.ProxyFromEnvironment // another pointer makes another transport: connections of its own
		client, err := rest.HTTPClientFor(config)
		require.NoError(t, err)
		h.wg.Go(func() {
			ticker := time.NewTicker(time.Second * hammers / hammerRate)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				a, err := fetch(ctx, client, s.Config.Host+path)
				if ctx.Err() != nil {
					return
				}
				h.judge(&a, err, len(s.pods))
			}
		})
	}
	t.Cleanup(h.stop)
	return h
}

func (h *hammer) judge(a *answer, err error, pods int) {
	took := time.Since(a.began)
	values, bad := a.values()
	if err = errors.Join(err, bad); err == nil && len(values) != pods {
		err = fmt.Errorf("HTTP %d with %d values: %s", a.code, len(values), a.body)
	}
	for pod, value := range values {
		if age := a.began.Sub(value.Timestamp.Time); age > mostRPS+wholeSecond {
			err = errors.Join(err, fmt.Errorf("the value of %s is %s old", pod, age))
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests++
	h.slowest = max(h.slowest, took)
	if err != nil {
		h.failures = append(h.failures, failure{a.began, err.Error()})
	}
}

func (h *hammer) failed() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.failures)
}

// goOn waits until as many requests were sent as that time takes.
func (h *hammer) goOn(t *testing.T, d time.Duration) {
	t.Helper()
	sent := func() int { h.mu.Lock(); defer h.mu.Unlock(); return h.requests }
	want := sent() + int(d.Seconds()*hammerRate/2) // a busy machine sends fewer
	eventually(t, 20*time.Second, func(t require.TestingT) { require.GreaterOrEqual(t, sent(), want) })
}

func (h *hammer) stop() { h.cancel(); h.wg.Wait() }

func (h *hammer) String() string {
	return fmt.Sprintf("%d GETs by %d clients, %d failed, the slowest took %s", h.requests, hammers, len(h.failures), h.slowest.Round(time.Millisecond))
}

// sampler makes a check every 100 ms.
type sampler struct {
	mu     sync.Mutex
	latest bool
	lost   time.Duration // for which the check failed
}

func (s *scene) sample(t *testing.T, check func(require.TestingT)) *sampler {
	t.Helper()
	p := &sampler{latest: true}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		last := time.Now()
		for ctx.Err() == nil {
			passes := holds(check)
			now := time.Now()
			p.mu.Lock()
			if p.latest = passes; !passes {
				p.lost += now.Sub(last)
			}
			p.mu.Unlock()
			last = now
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

// holds reports whether a check passes, and leaves the test alone if it does not: a request that the end of the test cuts
// off is no fault.
func holds(check func(require.TestingT)) bool {
	var v verdict
	done := make(chan struct{})
	go func() { defer close(done); check(&v) }() // FailNow ends it
	<-done
	return !v.failed
}

// verdict implements require.TestingT.
type verdict struct{ failed bool }

func (v *verdict) Errorf(string, ...any) { v.failed = true }
func (v *verdict) FailNow()              { v.failed = true; runtime.Goexit() }

func (p *sampler) now() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latest
}

func (p *sampler) missing() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// available requires that all of the adapter's APIServices are Available.
func (c *cluster) available(ctx context.Context, t require.TestingT) {
	client := aggregator.NewForConfigOrDie(c.Config)
	list, err := client.ApiregistrationV1().APIServices().List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=headroom"})
	require.NoError(t, err)
	require.Len(t, list.Items, 4)
	for _, api := range list.Items {
		require.True(t, slices.ContainsFunc(api.Status.Conditions, func(c apiregistration.APIServiceCondition) bool {
			return c.Type == apiregistration.Available && c.Status == apiregistration.ConditionTrue
		}), api.Name)
	}
}
