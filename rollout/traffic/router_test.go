package traffic

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"headroom.dev/headroom/rollout/route"
)

// weighted are the routers that divide traffic, each over an object that stands in most details that they meet.
func weighted() map[string]struct {
	object string
	kind   kind
	router func(Target) route.Router
	check  *dialect
} {
	http, vs := gateway("HTTPRoute"), virtualService()
	grpc := gateway("GRPCRoute")
	return map[string]struct {
		object string
		kind   kind
		router func(Target) route.Router
		check  *dialect
	}{
		"HTTPRoute": {chatRoute, http.kind, func(t Target) route.Router { return HTTPRoute(t, RulesOptions{Name: "chat"}) }, &http},
		"GRPCRoute": {
			"apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: chat}\nspec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: chat, port: 80}]}]}",
			grpc.kind, func(t Target) route.Router { return GRPCRoute(t, RulesOptions{Name: "chat"}) }, &grpc,
		},
		"VirtualService": {chatVirtualService, vs.kind, func(t Target) route.Router { return VirtualService(t, RulesOptions{Name: "chat"}) }, &vs},
		"Ingress":        {chatIngress, ingresses(), func(t Target) route.Router { return NewIngress(t, "chat", "") }, nil},
	}
}

// requireNotYet wants a NotYet that says why.
func requireNotYet(t *testing.T, err error, why string) route.NotYetError {
	t.Helper()
	var not *route.NotYetError
	require.ErrorAs(t, err, &not)
	require.ErrorContains(t, err, why)
	return *not
}

func requireConflict(t *testing.T, err error, manager string) {
	t.Helper()
	var conflict *route.ConflictError
	require.ErrorAs(t, err, &conflict)
	assert.Equal(t, manager, conflict.Manager, "%v", err)
}

// TestRollout walks each router through a canary from its first step to the end.
func TestRollout(t *testing.T) {
	for name, w := range weighted() {
		t.Run(name, func(t *testing.T) {
			c := newFakeCluster(t, chatService, otherService, w.object)
			c.pods("old", 8, true)
			if w.check != nil {
				c.checked = c.answered(*w.check, "chat")
			}
			ctx, r := t.Context(), w.router(c.target())
			before, annotations := c.spec(w.kind, "chat"), c.get(w.kind, "chat").GetAnnotations()
			_, err := r.Read(ctx)
			require.ErrorIs(t, err, route.ErrNotSet)
			require.NoError(t, r.Restore(ctx), "nothing to restore")

			canary := route.Split{Stable: "old", Canary: "new", Share: route.Matched(1, 8), Matches: []route.Match{{Header: "X-Canary", Value: "yes"}, {Cookie: "canary", Value: "always"}}}
			requireNotYet(t, r.Set(ctx, canary), "Service demo/chat-new has no ready endpoint")
			assert.Equal(t, before, c.spec(w.kind, "chat"), "nothing is sent to where nothing answers")
			c.pods("new", 1, true)
			require.NoError(t, r.Set(ctx, canary))
			writes := c.writes
			require.NoError(t, r.Set(ctx, canary))
			again := 2 // helpers
			if name == "Ingress" {
				again = 3 // and the canary's Ingress
			}
			assert.Equal(t, writes, c.writes-again, "again, it only applies what is ours alone")
			c.now = c.now.Add(DefaultSettle)
			s, err := r.Read(ctx)
			require.NoError(t, err)
			granularity := int64(10_000)
			if name == "VirtualService" {
				granularity = 100
			}
			assert.True(t, route.Same(s, canary, granularity), "%v", s)
			assert.InDelta(t, 1.0/9, s.Share, 0.5/float64(granularity))

			c.removePods("new")
			_, err = r.Read(ctx)
			requireNotYet(t, err, "chat-new has no ready endpoint")
			c.pods("new", 8, true)

			all := route.Split{Stable: "old", Canary: "new", Share: 1}
			require.NoError(t, r.Set(ctx, all))
			c.now = c.now.Add(DefaultSettle)
			s, err = r.Read(ctx)
			require.NoError(t, err)
			assert.True(t, s.Equal(all), "%v", s)
			require.NoError(t, r.Set(ctx, route.Split{Stable: "new"}))
			c.now = c.now.Add(DefaultSettle)
			s, err = r.Read(ctx)
			require.NoError(t, err)
			assert.True(t, s.Equal(route.Split{Stable: "new"}), "%v", s)
			c.removePods("old")

			require.NoError(t, r.Set(ctx, route.Split{Stable: "new"}), "and chat-old is released")
			assert.Equal(t, []string{"chat-new"}, c.helpers())
			requireNotYet(t, r.Restore(ctx), "helpers are kept")
			assert.Equal(t, before, c.spec(w.kind, "chat"))
			assert.Equal(t, annotations, c.get(w.kind, "chat").GetAnnotations())
			c.now = c.now.Add(DefaultSettle)
			require.NoError(t, r.Restore(ctx))
			assert.Empty(t, c.helpers())
			require.NoError(t, r.Restore(ctx))
			assert.Equal(t, before, c.spec(w.kind, "chat"))
			_, err = Target{Client: c.inner, Namespace: ns}.get(ctx, ingresses(), "chat-chat-canary")
			require.ErrorIs(t, err, route.ErrNotFound)
		})
	}
}

// TestCrashes ends the process after each write of a rollout, and lets a new one go on, or go back.
func TestCrashes(t *testing.T) {
	steps := []route.Split{
		{Stable: "old", Canary: "new", Share: 0.5, Matches: []route.Match{{Header: "x", Value: "y"}}},
		{Stable: "old", Canary: "third", Share: 0.2},
		{Stable: "old", Canary: "third", Share: 1},
		{Stable: "third"},
	}
	for n, name := range []string{"HTTPRoute", "Ingress"} { // what the others do is a subset
		w := weighted()[name]
		t.Run(name, func(t *testing.T) {
			for crash := 0; ; crash++ {
				back := crash%2 == n // each crash is tried both ways, once a router
				c := newFakeCluster(t, chatService, otherService, w.object)
				for _, hash := range []string{"old", "new", "third"} {
					c.pods(hash, 1, true)
				}
				if w.check != nil {
					c.checked = c.answered(*w.check, "chat")
				}
				before, r := c.spec(w.kind, "chat"), w.router(c.target())
				c.left = crash
				crashed := false
				for _, s := range steps {
					err := r.Set(t.Context(), s)
					if errors.Is(err, errCrash) {
						crashed, c.left = true, -1
						if back {
							break
						}
						r = w.router(c.target())
						err = r.Set(t.Context(), s)
					}
					require.NoError(t, err, "crash %d", crash)
					c.now = c.now.Add(DefaultSettle)
					is, err := r.Read(t.Context())
					require.NoError(t, err, "crash %d", crash)
					require.True(t, is.Equal(s), "crash %d: %v", crash, is)
				}
				for range 8 {
					err := r.Restore(t.Context())
					if err == nil {
						break
					}
					if errors.Is(err, errCrash) {
						crashed, c.left = true, -1
						continue
					}
					requireNotYet(t, err, "")
					c.now = c.now.Add(DefaultSettle)
				}
				require.NoError(t, r.Restore(t.Context()))
				require.Equal(t, before, c.spec(w.kind, "chat"), "crash %d", crash)
				require.Empty(t, c.helpers(), "crash %d", crash)
				require.NotContains(t, c.get(w.kind, "chat").GetAnnotations(), Annotation)
				if !crashed {
					require.Greater(t, crash, 10)
					return
				}
			}
		})
	}
}

// TestSlowGateway: what the gateway has not accepted is not in force, and helpers outlive it.
func TestSlowGateway(t *testing.T) {
	c := newFakeCluster(t, chatService, otherService, chatRoute)
	c.pods("old", 8, true)
	c.pods("new", 1, true)
	ctx, r := t.Context(), HTTPRoute(c.target(), RulesOptions{Name: "chat"})
	first := route.Split{Stable: "old", Canary: "new", Share: 0.1}
	c.lag = true
	require.NoError(t, r.Set(ctx, first))
	s, err := r.Read(ctx)
	not := requireNotYet(t, err, "Accepted is of generation 1, and the newest is 2")
	assert.True(t, math.IsNaN(s.Share) && math.IsNaN(not.InForce.Share), "what was before the first is not known")
	c.lag = false
	c.controllers()
	s, err = r.Read(ctx)
	require.NoError(t, err)
	assert.True(t, s.Equal(first))
	c.lag = true
	second := route.Split{Stable: "old", Canary: "new", Share: 0.5}
	require.NoError(t, r.Set(ctx, second))
	s, err = r.Read(ctx)
	not = requireNotYet(t, err, "generation")
	assert.True(t, s.Equal(first) && not.InForce.Equal(first) && not.Want.Equal(second), "%v", err)

	for range 3 {
		requireNotYet(t, r.Restore(ctx), "Accepted is of generation")
		c.now = c.now.Add(time.Hour)
		assert.Len(t, c.helpers(), 2, "a gateway that has not looked still sends requests to them")
	}
	c.lag = false
	c.controllers()
	require.NoError(t, r.Restore(ctx))
	assert.Empty(t, c.helpers())
}

func TestGatewayRefuses(t *testing.T) {
	c := newFakeCluster(t, chatService, otherService, chatRoute)
	c.pods("old", 1, true)
	r := HTTPRoute(c.target(), RulesOptions{Name: "chat"})
	require.NoError(t, r.Set(t.Context(), route.Split{Stable: "old"}))
	f := func(why string, parents ...any) {
		t.Helper()
		c.edit(gateway("HTTPRoute").kind, "chat", "gateway", func(o map[string]any) {
			require.NoError(t, unstructured.SetNestedSlice(o, parents, "status", "parents"))
		})
		_, err := r.Read(t.Context())
		requireNotYet(t, err, why)
	}
	parent := func(name string, conditions ...any) map[string]any {
		return map[string]any{"parentRef": map[string]any{"name": name}, "conditions": conditions}
	}
	f("nobody reports on spec.parentRefs[0] (gw)")
	f("nobody reports on spec.parentRefs[0] (gw)", parent("another", reported("Accepted", "True", 9), reported("ResolvedRefs", "True", 9)))
	f("Accepted is not reported", parent("gw"))
	f("Accepted is False (Test)", parent("gw", reported("Accepted", "False", 9), reported("ResolvedRefs", "True", 9)))
	f("ResolvedRefs is False (Test)", parent("gw", reported("Accepted", "True", 9), reported("ResolvedRefs", "False", 9)))
	f("ResolvedRefs is of generation 1", parent("gw", reported("Accepted", "True", 9), reported("ResolvedRefs", "True", 1)))
	f("parent gw: Accepted is False", // of two controllers, one
		parent("gw", reported("Accepted", "True", 9), reported("ResolvedRefs", "True", 9)),
		parent("gw", reported("Accepted", "False", 9), reported("ResolvedRefs", "True", 9)))
}

func TestIstioReports(t *testing.T) {
	c := newFakeCluster(t, chatService, otherService, chatVirtualService)
	c.pods("old", 1, true)
	r := VirtualService(c.target(), RulesOptions{Name: "chat"})
	require.NoError(t, r.Set(t.Context(), route.Split{Stable: "old"}))
	_, err := r.Read(t.Context())
	requireNotYet(t, err, "VirtualService demo/chat was changed less than 5s ago")
	c.now = c.now.Add(DefaultSettle)
	_, err = r.Read(t.Context())
	require.NoError(t, err)
	f := func(why string, status map[string]any) {
		t.Helper()
		c.edit(virtualService().kind, "chat", "istiod", func(o map[string]any) {
			o["status"] = status
			require.NoError(t, unstructured.SetNestedField(o, int64(4), "metadata", "generation"))
		})
		_, err := r.Read(t.Context())
		if why == "" {
			require.NoError(t, err)
			return
		}
		requireNotYet(t, err, why)
	}
	reconciled := func(status string) []any { return []any{reported("Reconciled", status, 0)} }
	f("Reconciled is False for generation 4", map[string]any{"observedGeneration": "4", "conditions": reconciled("False")})
	f("Reconciled is True for generation 3", map[string]any{"observedGeneration": int64(3), "conditions": reconciled("True")})
	f("", map[string]any{"observedGeneration": "4", "conditions": reconciled("True")})
	message := []any{map[string]any{"level": "ERROR", "type": map[string]any{"name": "ReferencedResourceNotFound", "code": "IST0101"}}}
	f("Istio says IST0101 ReferencedResourceNotFound", map[string]any{"validationMessages": message})
}

// TestForeignWrites: others may change what is theirs; what is ours is a conflict that names them, and Restore leaves
// nothing of ours behind whatever they did.
func TestForeignWrites(t *testing.T) {
	split := route.Split{Stable: "old", Canary: "new", Share: 0.1}
	rules := func(o map[string]any) []any { return o["spec"].(map[string]any)["rules"].([]any) }
	setUp := func(t *testing.T) (*fakeCluster, *Rules, string) {
		t.Helper()
		c := newFakeCluster(t, chatService, otherService, chatRoute)
		c.pods("old", 8, true)
		c.pods("new", 1, true)
		before := c.spec(gateway("HTTPRoute").kind, "chat")
		r := HTTPRoute(c.target(), RulesOptions{Name: "chat"})
		require.NoError(t, r.Set(t.Context(), split))
		return c, r, before
	}
	restored := func(t *testing.T, c *fakeCluster, r *Rules) string {
		t.Helper()
		for range 3 {
			_ = r.Restore(t.Context())
			c.now = c.now.Add(time.Minute)
		}
		require.NoError(t, r.Restore(t.Context()))
		assert.Empty(t, c.helpers())
		return c.spec(gateway("HTTPRoute").kind, "chat")
	}
	kind := gateway("HTTPRoute").kind

	t.Run("another rule", func(t *testing.T) {
		c, r, before := setUp(t)
		c.edit(kind, "chat", "kubectl-edit", func(o map[string]any) {
			rules(o)[0].(map[string]any)["backendRefs"].([]any)[0].(map[string]any)["port"] = int64(81)
			o["spec"].(map[string]any)["hostnames"] = []any{"chat.example.com"}
		})
		split := split
		split.Share = 0.2
		require.NoError(t, r.Set(t.Context(), split))
		_, err := r.Read(t.Context())
		require.NoError(t, err)
		after := restored(t, c, r)
		assert.Equal(t, "hostnames:\n- chat.example.com\n"+strings.Replace(before, "port: 80", "port: 81", 1), after)
	})
	t.Run("the weights", func(t *testing.T) {
		c, r, before := setUp(t)
		c.edit(kind, "chat", "kubectl-edit", func(o map[string]any) {
			rules(o)[1].(map[string]any)["backendRefs"].([]any)[1].(map[string]any)["weight"] = int64(77)
		})
		requireConflict(t, r.Set(t.Context(), split), "kubectl-edit")
		_, err := r.Read(t.Context())
		requireConflict(t, err, "kubectl-edit")
		assert.Equal(t, before, restored(t, c, r))
		require.NoError(t, r.Set(t.Context(), split), "after Restore it may be asserted again")
	})
	t.Run("the manifest again", func(t *testing.T) {
		c, r, before := setUp(t)
		c.edit(kind, "chat", "argocd", func(o map[string]any) {
			rule := rules(o)[1].(map[string]any)
			refs := rule["backendRefs"].([]any)
			refs[0].(map[string]any)["name"] = "chat"
			delete(refs[0].(map[string]any), "weight")
			rule["backendRefs"] = refs[:1]
		})
		requireConflict(t, r.Set(t.Context(), split), "argocd")
		assert.Equal(t, before, restored(t, c, r))
	})
	t.Run("half of it", func(t *testing.T) {
		c, r, before := setUp(t)
		c.edit(kind, "chat", "a-person", func(o map[string]any) {
			rule := rules(o)[1].(map[string]any)
			rule["backendRefs"] = rule["backendRefs"].([]any)[1:] // the canary alone
		})
		requireConflict(t, r.Set(t.Context(), split), "a-person")
		assert.Equal(t, before, restored(t, c, r), "no rule may name a Service that goes")
	})
	t.Run("the annotation", func(t *testing.T) {
		c, r, _ := setUp(t)
		c.edit(kind, "chat", "a-person", func(o map[string]any) {
			require.NoError(t, unstructured.SetNestedField(o, "{", "metadata", "annotations", Annotation))
		})
		require.ErrorIs(t, r.Set(t.Context(), split), route.ErrInvalid)
		_, err := r.Read(t.Context())
		require.ErrorIs(t, err, route.ErrInvalid)
		require.ErrorIs(t, r.Restore(t.Context()), route.ErrInvalid, "helpers that may still be named stay")
		assert.Len(t, c.helpers(), 2)
	})
	t.Run("gone", func(t *testing.T) {
		c, r, _ := setUp(t)
		require.NoError(t, c.inner.Delete(t.Context(), c.get(kind, "chat")))
		require.ErrorIs(t, r.Set(t.Context(), split), route.ErrNotFound)
		_ = r.Restore(t.Context())
		c.now = c.now.Add(time.Minute)
		require.NoError(t, r.Restore(t.Context()))
		assert.Empty(t, c.helpers())
	})
}
