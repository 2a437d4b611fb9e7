package rulewatch

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"

	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/api/v1alpha1"
)

var resource = v1alpha1.GroupVersion().WithResource(v1alpha1.ResourceMetricRules)

// cluster is an API server with MetricRules, namespaces and Leases. It counts generations and resource versions as the real
// one does.
type cluster struct {
	t       *testing.T
	dynamic *dynamicfake.FakeDynamicClient
	client  *fake.Clientset

	mu      sync.Mutex
	fault   error // what every request for MetricRules gets
	watches []*watch.RaceFreeFakeWatcher
	version int
	writes  map[string][]time.Time // of statuses, by name
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, client: fake.NewClientset(), writes: map[string][]time.Time{}}
	// The clientset's own tracker takes milliseconds for each write, which many renewals add up to seconds.
	c.client.PrependReactor("*", "leases", clienttesting.ObjectReaction(clienttesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder())))
	c.dynamic = dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{resource: "MetricRuleList"})
	c.dynamic.PrependReactor("*", resource.Resource, func(clienttesting.Action) (bool, runtime.Object, error) {
		err := c.failing()
		return err != nil, nil, err
	})
	c.dynamic.PrependWatchReactor(resource.Resource, func(clienttesting.Action) (bool, watch.Interface, error) {
		if err := c.failing(); err != nil {
			return true, nil, err
		}
		w, err := c.dynamic.Tracker().Watch(resource, "")
		require.NoError(t, err)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.watches = append(c.watches, w.(*watch.RaceFreeFakeWatcher))
		return true, w, nil
	})
	c.dynamic.PrependReactor("patch", resource.Resource, c.applyStatus)
	return c
}

func (c *cluster) failing() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault
}

// fail lets every request for MetricRules fail from now on, and ends the watches; nil heals.
func (c *cluster) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = err
	for _, w := range c.watches {
		w.Stop()
	}
	c.watches = nil
}

func noSuchResource() error {
	return apierrors.NewGenericServerResponse(404, "list", resource.GroupResource(), "", "the server could not find the requested resource", 0, true)
}

// put creates or changes a MetricRule; a changed spec is a new generation.
func (c *cluster) put(name string, spec map[string]any) {
	c.t.Helper()
	c.mu.Lock()
	c.version++
	version := strconv.Itoa(c.version)
	c.mu.Unlock()
	old, err := c.dynamic.Tracker().Get(resource, "", name)
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	o.SetAPIVersion(v1alpha1.GroupVersion().String())
	o.SetKind(v1alpha1.KindMetricRule)
	o.SetName(name)
	o.SetUID(types.UID("uid-" + name + "-" + version))
	o.SetGeneration(1)
	o.SetResourceVersion(version)
	if err != nil {
		require.NoError(c.t, c.dynamic.Tracker().Create(resource, o, ""))
		return
	}
	before := old.(*unstructured.Unstructured)
	o.SetUID(before.GetUID())
	o.SetGeneration(before.GetGeneration() + 1)
	if s, ok := before.Object["status"]; ok {
		o.Object["status"] = s
	}
	require.NoError(c.t, c.dynamic.Tracker().Update(resource, o, ""))
}

func (c *cluster) remove(name string) {
	c.t.Helper()
	require.NoError(c.t, c.dynamic.Tracker().Delete(resource, "", name))
}

func (c *cluster) namespace(name string, labels map[string]string) {
	c.t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := c.client.CoreV1().Namespaces().Create(c.t.Context(), ns, metav1.CreateOptions{}); err != nil {
		_, err = c.client.CoreV1().Namespaces().Update(c.t.Context(), ns, metav1.UpdateOptions{})
		require.NoError(c.t, err)
	}
}

// applyStatus does what the API server does with a server-side apply of a status.
func (c *cluster) applyStatus(a clienttesting.Action) (bool, runtime.Object, error) {
	p := a.(clienttesting.PatchAction)
	require.Equal(c.t, types.ApplyPatchType, p.GetPatchType())
	require.Equal(c.t, "status", p.GetSubresource())
	var patch unstructured.Unstructured
	require.NoError(c.t, json.Unmarshal(p.GetPatch(), &patch.Object))
	found, err := c.dynamic.Tracker().Get(resource, "", p.GetName())
	if err != nil {
		return true, nil, err
	}
	o := found.(*unstructured.Unstructured).DeepCopy()
	if o.GetResourceVersion() != patch.GetResourceVersion() {
		return true, nil, apierrors.NewConflict(resource.GroupResource(), p.GetName(), nil)
	}
	o.Object["status"] = patch.Object["status"]
	c.mu.Lock()
	c.version++
	o.SetResourceVersion(strconv.Itoa(c.version))
	c.writes[p.GetName()] = append(c.writes[p.GetName()], time.Now())
	c.mu.Unlock()
	return true, o, c.dynamic.Tracker().Update(resource, o, "")
}

func (c *cluster) writesOf(name string) []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.writes[name])
}

func (c *cluster) status(name string) v1alpha1.MetricRuleStatus {
	c.t.Helper()
	found, err := c.dynamic.Tracker().Get(resource, "", name)
	require.NoError(c.t, err)
	var rule v1alpha1.MetricRule
	o := maps.Clone(found.(*unstructured.Unstructured).Object)
	delete(o, "spec")
	require.NoError(c.t, runtime.DefaultUnstructuredConverter.FromUnstructured(o, &rule))
	return rule.Status
}

// spec is a valid spec with the expression.
func spec(expr string) map[string]any {
	return map[string]any{"metric": "m", "expr": expr, "object": map[string]any{"resource": "pods"}}
}

// watched is a Watcher that runs, and what it said.
type watched struct {
	*Watcher
	log safeBuffer

	mu    sync.Mutex
	calls [][]rules.Rule
	times []time.Time
}

// start runs a Watcher until the test ends. It must be called in a synctest bubble.
func (c *cluster) start() *watched {
	ctx, stop := context.WithCancel(c.t.Context())
	w := &watched{}
	w.Watcher = New(Options{
		Dynamic: c.dynamic, Client: c.client, Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
		Changed: func(list []rules.Rule) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.calls, w.times = append(w.calls, list), append(w.times, time.Now())
		},
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	c.t.Cleanup(func() {
		stop()
		<-done
	})
	return w
}

// last returns the newest rules as "name: expression", and how often there were any.
func (w *watched) last() (list []string, calls int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calls) == 0 {
		return nil, 0
	}
	list = []string{}
	for _, r := range w.calls[len(w.calls)-1] {
		list = append(list, r.Name+": "+r.Expr)
	}
	return list, len(w.calls)
}

func (w *watched) lastRules() []rules.Rule {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[len(w.calls)-1]
}

// settle lets time pass until everything that a change causes has happened.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.b.String(), text)
}
