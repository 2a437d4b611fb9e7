package rollout

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout/traffic"
)

// routed is a service behind an HTTPRoute.
type routed struct {
	*service

	before any // spec.rules as the owner wrote them
}

// deployRouted makes a service of three light replicas, its Service and its HTTPRoute, and a gateway that takes each generation over.
func deployRouted(t *testing.T) *routed {
	t.Helper()
	install(t, filepath.Join(shared.source, "lab", "e2e", "testdata", "traffic.yaml"))
	t.Parallel() // not before: all of them make the same CRDs
	s := deployLight(t, 3, nil)
	require.NoError(t, s.api.Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(port)}},
	}}))
	u := routeOf(s)
	u.Object["spec"] = map[string]any{
		"parentRefs": []any{map[string]any{"name": "gw"}},
		"rules":      []any{map[string]any{"backendRefs": []any{map[string]any{"name": name, "port": int64(80)}}}},
	}
	require.NoError(t, s.api.Create(t.Context(), u, client.FieldOwner("gitops")))
	r := &routed{service: s, before: u.Object["spec"].(map[string]any)["rules"]}
	gateway(t, s)
	return r
}

// install makes CRDs, and waits until they are served.
func install(t *testing.T, path string) {
	t.Helper()
	for _, args := range [][]string{{"apply", "-f", path}, {"wait", "--for=condition=Established", "--timeout=60s", "-f", path}} {
		_, err := shared.Cluster().Run(t.Context(), args...)
		require.NoError(t, err)
	}
}

func routeOf(s *service) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"})
	u.SetNamespace(s.namespace)
	u.SetName(name)
	return u
}

// gateway reports, as a real one does, that it has taken each generation of the route over, until the test ends.
func gateway(t *testing.T, s *service) {
	t.Helper()
	ctx := t.Context()
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		reported := int64(0)
		for ctx.Err() == nil {
			u := routeOf(s)
			if err := s.api.Get(ctx, client.ObjectKeyFromObject(u), u); err == nil && u.GetGeneration() != reported {
				var conditions []any
				for _, kind := range []string{"Accepted", "ResolvedRefs"} {
					conditions = append(conditions, map[string]any{"type": kind, "status": "True", "reason": "Test", "observedGeneration": u.GetGeneration()})
				}
				u.Object["status"] = map[string]any{"parents": []any{map[string]any{"parentRef": map[string]any{"name": "gw"}, "conditions": conditions}}}
				if err := s.api.Status().Update(ctx, u, client.FieldOwner("gateway")); err == nil {
					reported = u.GetGeneration()
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(lookEvery):
			}
		}
	}()
}

// rule is what a rule of the route sends where.
type rule struct {
	Matches []struct {
		Headers []struct{ Name, Value string } `json:"headers"`
	} `json:"matches"`
	BackendRefs []struct {
		Name   string `json:"name"`
		Weight *int64 `json:"weight"`
	} `json:"backendRefs"`
}

// rules are the route's as they are now.
func (r *routed) rules() (raw any, out []rule) {
	r.t.Helper()
	u := routeOf(r.service)
	require.NoError(r.t, r.api.Get(r.t.Context(), client.ObjectKeyFromObject(u), u))
	raw = u.Object["spec"].(map[string]any)["rules"]
	text, err := json.Marshal(raw)
	require.NoError(r.t, err)
	require.NoError(r.t, json.Unmarshal(text, &out))
	return raw, out
}

// at waits until a step has settled with a share in force.
func (r *routed) at(index int32, weight string) *v1alpha1.RolloutPolicy {
	r.t.Helper()
	return r.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "Settled", p.Status.Phase, "%s", told(p))
		require.Equal(t, index, p.Status.Step.Index, "%s", told(p))
		require.Equal(t, weight, p.Status.Traffic.WeightPercent, "%s", told(p))
		require.Equal(t, "WaitsForPerson", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionCompleted).Reason, "%s", told(p))
	})
}

// helper is the Service of a version.
func helper(v *v1alpha1.RolloutVersion) string { return name + "-" + v.Hash }

// rested waits until the policy rests, and wants the route as somebody wrote it, with nothing of ours beside it.
func (r *routed) rested(rules any) {
	r.t.Helper()
	r.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "Resting", p.Status.Phase, "%s", told(p))
	})
	ctx := r.t.Context()
	eventually(r.t, func(t require.TestingT) {
		var helpers corev1.ServiceList
		require.NoError(t, r.api.List(ctx, &helpers, client.InNamespace(r.namespace), client.HasLabels{traffic.ServiceLabel}))
		require.Empty(t, helpers.Items)
	})
	got, _ := r.rules()
	require.Equal(r.t, rules, got)
	u := routeOf(r.service)
	require.NoError(r.t, r.api.Get(ctx, client.ObjectKeyFromObject(u), u))
	require.Empty(r.t, u.GetAnnotations())
}

// A canary goes by requests with a header, then by weight; each is in force before the next, and at the end the route is its owner's.
func TestRolloutRoute(t *testing.T) {
	r := deployRouted(t)
	r.controlled()
	r.policy(`
strategy: Canary
traffic: {service: chat, httpRoute: {name: chat}}
canary:
  steps:
  - {replicas: 1, unjudged: true, match: {header: x-canary, value: "yes"}, gates: [{manual: true}]}
  - {replicas: 2, unjudged: true, weightPercent: 20, gates: [{manual: true}]}
`)
	r.inForce()
	r.updateLight("v2")
	p := r.at(1, "0")
	_, rules := r.rules()
	require.Len(t, rules, 2)
	require.Len(t, rules[0].Matches, 1)
	require.Equal(t, []struct{ Name, Value string }{{"x-canary", "yes"}}, rules[0].Matches[0].Headers)
	require.Len(t, rules[0].BackendRefs, 1)
	require.Equal(t, helper(p.Status.Update), rules[0].BackendRefs[0].Name)
	require.Equal(t, map[string]int64{helper(p.Status.Stable): 100, helper(p.Status.Update): 0}, weights(&rules[1]))

	r.command("1", "Promote")
	p = r.at(2, "20")
	_, rules = r.rules()
	require.Len(t, rules, 1)
	require.Equal(t, map[string]int64{helper(p.Status.Stable): 80, helper(p.Status.Update): 20}, weights(&rules[0]))

	r.command("2", "Promote")
	r.outcome(r.completed("v2"), "Completed")
	r.rested(r.before)
	r.remove()
}

// weights are those of a rule in percent.
func weights(of *rule) map[string]int64 {
	total, out := int64(0), map[string]int64{}
	for _, b := range of.BackendRefs {
		if b.Weight != nil {
			total += *b.Weight
		}
	}
	for _, b := range of.BackendRefs {
		if b.Weight != nil && total > 0 {
			out[b.Name] = *b.Weight * 100 / total
		}
	}
	return out
}

// weighted is a canary that stands at a weight.
func (r *routed) weighted(onForeign string) *v1alpha1.RolloutPolicy {
	r.t.Helper()
	r.policy("{strategy: Canary, onForeignWrite: " + onForeign + ", traffic: {service: chat, httpRoute: {name: chat}}, " +
		"canary: {steps: [{replicas: 1, unjudged: true, weightPercent: 20, gates: [{manual: true}]}]}}")
	r.inForce()
	r.updateLight("v2")
	return r.at(1, "20")
}

// meddle writes the rules as somebody else has them.
func (r *routed) meddle() (rules any) {
	r.t.Helper()
	u := routeOf(r.service)
	rules = []any{map[string]any{"backendRefs": []any{map[string]any{"name": name, "port": int64(80)}}, "timeouts": map[string]any{"request": "9m"}}}
	raw, err := json.Marshal(map[string]any{"spec": map[string]any{"rules": rules}})
	require.NoError(r.t, err)
	require.NoError(r.t, r.api.Patch(r.t.Context(), u, client.RawPatch("application/merge-patch+json", raw), client.FieldOwner("gitops")))
	return u.Object["spec"].(map[string]any)["rules"]
}

// A route that somebody else writes in mid-update is weighed again, from what they wrote, and that is what stays at the end.
func TestRolloutRouteIsWrittenAgain(t *testing.T) {
	r := deployRouted(t)
	r.controlled()
	p := r.weighted("Reassert")
	theirs := r.meddle()
	ctx := t.Context()
	eventually(t, func(t require.TestingT) {
		u := routeOf(r.service)
		require.NoError(t, r.api.Get(ctx, client.ObjectKeyFromObject(u), u))
		raw, err := json.Marshal(u.Object["spec"])
		require.NoError(t, err)
		var spec struct{ Rules []rule }
		require.NoError(t, json.Unmarshal(raw, &spec))
		require.Equal(t, map[string]int64{helper(p.Status.Stable): 80, helper(p.Status.Update): 20}, weights(&spec.Rules[0]))
		require.Contains(t, string(raw), "9m")
	})
	r.at(1, "20")
	r.command("1", "Promote")
	r.outcome(r.completed("v2"), "Completed")
	r.rested(theirs)
	r.remove()
}

// Or it ends the update, and stays as they wrote it. A command of a person that was obeyed before is not obeyed again.
func TestRolloutRouteStops(t *testing.T) {
	r := deployRouted(t)
	c := newController(t, r.setup())
	run(t, always(c))
	r.weighted("Stop")
	r.command("1", "Pause")
	r.handled("1")
	theirs := r.meddle()
	p := r.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "WentBack", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionCompleted).Reason, "%s", told(p))
	})
	r.outcome(p, "ForeignWrite")
	require.Contains(t, p.Status.History[0].Message, "gitops", "%s", told(p))
	require.Equal(t, "1", p.Status.HandledCommand)
	require.Equal(t, 1, count(c.events, "Paused"))
	r.serves("v1", 3)
	r.rested(theirs)
	r.remove()
}
