package traffic

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"headroom.dev/headroom/rollout/route"
)

func TestSelector(t *testing.T) {
	c := newFakeCluster(t, chatService)
	c.pods("blue", 3, true)
	ctx, r := t.Context(), NewSelector(c.target())
	before := c.spec(services(), "chat")
	blue, green := route.Split{Stable: "blue", Canary: "green"}, route.Split{Stable: "blue", Canary: "green", Share: 1}
	_, err := r.Read(ctx)
	require.ErrorIs(t, err, route.ErrNotSet)
	require.NoError(t, r.Set(ctx, blue))
	s, err := r.Read(ctx)
	require.NoError(t, err)
	assert.True(t, s.Equal(blue))

	c.pods("green", 2, false)
	requireNotYet(t, r.Set(ctx, green), "selects no ready pod of version green (3 of blue)")
	s, err = r.Read(ctx)
	require.NoError(t, err, "and nothing has changed")
	assert.True(t, s.Equal(blue))
	c.removePods("green")
	c.pods("green", 2, true)
	require.NoError(t, r.Set(ctx, green))
	s, err = r.Read(ctx)
	require.NoError(t, err)
	assert.True(t, s.Equal(green))

	// The endpoints are what counts: here the controller that writes them has not looked yet.
	c.edit(services(), "chat", Manager, func(o map[string]any) {
		require.NoError(t, unstructured.SetNestedField(o, "blue", "spec", "selector", HashLabel))
	})
	requireConflict(t, r.Set(ctx, green), "")
	require.NoError(t, r.Restore(ctx), "what stands is not what we wrote: it stays")
	assert.Contains(t, c.spec(services(), "chat"), "pod-template-hash: blue")
	require.NoError(t, r.Set(ctx, green))
	require.NoError(t, r.Restore(ctx))
	assert.Contains(t, c.spec(services(), "chat"), "pod-template-hash: blue", "as it was before that Set")
	c.edit(services(), "chat", "kubectl-edit", func(o map[string]any) {
		unstructured.RemoveNestedField(o, "spec", "selector", HashLabel)
	})
	require.NoError(t, r.Set(ctx, green))
	c.edit(services(), "chat", "argocd", func(o map[string]any) {
		unstructured.RemoveNestedField(o, "spec", "selector", HashLabel)
	})
	requireConflict(t, r.Set(ctx, green), "argocd")
	_, err = r.Read(ctx)
	requireConflict(t, err, "argocd")
	require.NoError(t, r.Restore(ctx))
	assert.Equal(t, before, c.spec(services(), "chat"))
	assert.NotContains(t, c.get(services(), "chat").GetAnnotations(), Annotation)

	require.ErrorIs(t, r.Set(ctx, route.Split{Stable: "blue", Canary: "green", Share: 0.5}), route.ErrUnsupported)
	require.ErrorIs(t, r.Set(ctx, route.Split{Stable: "blue", Canary: "green", Share: 1, Matches: []route.Match{{Header: "a", Value: "b"}}}), route.ErrUnsupported)
	require.ErrorIs(t, r.Set(ctx, route.Split{Stable: "blue", Share: 2}), route.ErrInvalid)
}

// TestSelectorWaitsForEndpoints: the selector says one thing, the EndpointSlices still another.
func TestSelectorWaitsForEndpoints(t *testing.T) {
	c := newFakeCluster(t, chatService)
	c.pods("blue", 3, true)
	c.pods("green", 1, true)
	r := NewSelector(c.target())
	stale := c.slices["chat"].DeepCopy()
	green := route.Split{Stable: "blue", Canary: "green", Share: 1}
	require.NoError(t, r.Set(t.Context(), green))
	f := func(keep int, share float64) {
		t.Helper()
		slice := stale.DeepCopy()
		slice.Endpoints = slice.Endpoints[:keep]
		c.replace("chat", slice)
		s, err := r.Read(t.Context())
		requireNotYet(t, err, "ready endpoints of Service demo/chat: ")
		if math.IsNaN(share) {
			assert.True(t, math.IsNaN(s.Share))
		} else {
			assert.Equal(t, share, s.Share)
		}
	}
	f(4, 0.25)
	f(3, 0)
	f(0, math.NaN())
	require.NoError(t, c.inner.Delete(t.Context(), &corev1.Pod{ObjectMeta: c.pod("chat-blue-0")}))
	f(4, math.NaN()) // an endpoint that no pod is known for
}

func TestReplicas(t *testing.T) {
	c := newFakeCluster(t, chatService)
	ctx, r := t.Context(), NewReplicas(c.target(), "old", "new")
	s, err := r.Read(ctx)
	requireNotYet(t, err, "ready endpoints: none")
	assert.True(t, math.IsNaN(s.Share))
	c.pods("old", 8, true)
	writes := c.writes
	s, err = r.Read(ctx)
	require.NoError(t, err)
	assert.Equal(t, 0.0, s.Share)
	f := func(share float64, why string) {
		t.Helper()
		err := r.Set(ctx, route.Split{Stable: "old", Canary: "new", Share: share})
		if why == "" {
			require.NoError(t, err)
			return
		}
		requireNotYet(t, err, why)
	}
	f(0, "")
	f(0.01, "1 % to new and 99 % to old is not in force yet, but 0 % to new and 100 % to old: ready endpoints of Service demo/chat: 8 of old")
	c.pods("new", 1, true)
	s, err = r.Read(ctx)
	require.NoError(t, err)
	assert.InDelta(t, 1.0/9, s.Share, 1e-12)
	f(0.1, "") // 0.9 of 9 pods
	f(0.16, "")
	f(0.2, "but 11.11 % to new")
	f(0, "but 11.11 % to new")
	c.removePods("old")
	f(1, "")
	f(0.9, "but 100 % to new")
	c.pods("third", 1, true)
	_, err = r.Read(ctx)
	requireNotYet(t, err, "1 of new, 1 of third")
	require.ErrorIs(t, r.Set(ctx, route.Split{Stable: "old", Canary: "new", Matches: []route.Match{{Cookie: "a", Value: "b"}}}), route.ErrUnsupported)
	require.NoError(t, r.Restore(ctx))
	assert.Equal(t, writes, c.writes)
}

const pools = `
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: NAME}
spec:
  selector: {matchLabels: {app: chat}}
  targetPorts: [{number: 8000}]
  endpointPickerRef: {name: NAME-epp, port: {number: 9002}}
`

const poolRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: chat}]}]
`

func TestInferencePools(t *testing.T) {
	const group = "inference.networking.k8s.io"
	named := func(name string) string { return replaceAll(pools, "NAME", name) }
	c := newFakeCluster(t, named("chat"), named("chat-next"), poolRoute)
	c.pods("old", 2, true)
	ctx := t.Context()
	fixed := &Fixed{Stable: Backend{group, "InferencePool", "chat"}, Canary: Backend{group, "InferencePool", "chat-next"}}
	r := HTTPRoute(c.target(), RulesOptions{Name: "chat", Fixed: fixed})
	kind := kindOf(group, "InferencePool", "v1")
	before, pool, next := c.spec(gateway("HTTPRoute").kind, "chat"), c.spec(kind, "chat"), c.spec(kind, "chat-next")

	split := route.Split{Stable: "old", Canary: "new", Share: 0.25}
	requireNotYet(t, r.Set(ctx, split), "InferencePool demo/chat-next selects no ready pod of version new (2 of old)")
	assert.Zero(t, c.writes, "nothing half done")
	c.pods("new", 1, true)
	require.NoError(t, r.Set(ctx, split))
	s, err := r.Read(ctx)
	require.NoError(t, err)
	assert.True(t, s.Equal(split))
	assert.Contains(t, c.spec(kind, "chat"), "pod-template-hash: old")
	assert.Contains(t, c.spec(kind, "chat-next"), "pod-template-hash: new")
	writes := c.writes
	require.NoError(t, r.Set(ctx, split))
	assert.Equal(t, writes, c.writes, "again, it writes nothing")

	c.edit(kind, "chat-next", "helm", func(o map[string]any) {
		unstructured.RemoveNestedField(o, "spec", "selector", "matchLabels", HashLabel)
	})
	_, err = r.Read(ctx)
	requireConflict(t, err, "")
	c.edit(kind, "chat-next", "helm", func(o map[string]any) {
		require.NoError(t, unstructured.SetNestedField(o, "old", "spec", "selector", "matchLabels", HashLabel))
	})
	_, err = r.Read(ctx)
	requireConflict(t, err, "helm")
	requireConflict(t, r.Set(ctx, split), "helm")
	c.edit(kind, "chat-next", "helm", func(o map[string]any) {
		unstructured.RemoveNestedField(o, "spec", "selector", "matchLabels", HashLabel)
	})
	require.NoError(t, r.Restore(ctx))
	assert.Equal(t, []string{before, pool, next}, []string{c.spec(gateway("HTTPRoute").kind, "chat"), c.spec(kind, "chat"), c.spec(kind, "chat-next")})

	// To the end: the new version moves over to the first pool.
	require.NoError(t, r.Set(ctx, route.Split{Stable: "old", Canary: "new", Share: 1}))
	require.NoError(t, r.Set(ctx, route.Split{Stable: "new"}))
	c.removePods("old")
	s, err = r.Read(ctx)
	require.NoError(t, err)
	assert.True(t, s.Equal(route.Split{Stable: "new"}), "%v", s)
	require.NoError(t, r.Restore(ctx))
	assert.Equal(t, []string{before, pool, next}, []string{c.spec(gateway("HTTPRoute").kind, "chat"), c.spec(kind, "chat"), c.spec(kind, "chat-next")})

	fixed.Canary.Kind = "Backend"
	require.ErrorIs(t, r.Set(ctx, split), route.ErrUnsupported)
	fixed.Canary = fixed.Stable
	require.ErrorIs(t, r.Set(ctx, split), route.ErrInvalid)
}

// TestSettle: what has just fallen out of use is kept as long as some proxy may still send requests to it.
func TestSettle(t *testing.T) {
	c := newFakeCluster(t, chatService, chatIngress, otherService)
	c.pods("old", 1, true)
	target := c.target()
	target.Settle = time.Minute
	r := NewIngress(target, "chat", "example.com")
	require.NoError(t, r.Set(t.Context(), route.Split{Stable: "old"}))
	_, err := r.Read(t.Context())
	requireNotYet(t, err, "changed less than 1m0s ago")
	requireNotYet(t, r.Restore(t.Context()), "helpers are kept")
	c.now = c.now.Add(59 * time.Second)
	requireNotYet(t, r.Restore(t.Context()), "helpers are kept")
	require.NoError(t, r.Set(t.Context(), route.Split{Stable: "old"}), "in use again")
	c.now = c.now.Add(2 * time.Second)
	requireNotYet(t, r.Restore(t.Context()), "helpers are kept")
	c.now = c.now.Add(time.Minute)
	require.NoError(t, r.Restore(t.Context()))
	assert.Empty(t, c.helpers())
}
