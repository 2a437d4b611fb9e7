package autoscaler

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"

	"headroom.dev/headroom/api/v1alpha1"
)

const plainSpec = `{minReplicas: 2, maxReplicas: 9}`

// TestHold holds and releases HPAs of all shapes: the second time nothing is written, and at the end all is as it was.
func TestHold(t *testing.T) {
	f := func(spec string, floor int, wantMin int64, wantGuard Guard) {
		t.Helper()
		s := newServer(t, hpa(t, "h", spec))
		before := s.get(t, "h")
		c := s.client()
		for range 3 {
			g, err := c.Hold(t.Context(), chat, floor)
			require.NoError(t, err)
			assert.Equal(t, wantGuard, g)
		}
		assert.Equal(t, 1, s.writes, "held once")
		assert.Equal(t, 1, s.dry)
		during := s.get(t, "h")
		assert.Equal(t, wantMin, specOf(during)[fieldMin])
		assert.True(t, hasTolerances(pick(specOf(during))))
		assert.Equal(t, []string{Annotation}, ours(during))
		for range 2 {
			require.NoError(t, c.Release(t.Context(), chat))
		}
		assert.Equal(t, 2, s.writes, "released once")
		after := s.get(t, "h")
		after.SetResourceVersion(before.GetResourceVersion())
		if len(after.GetAnnotations()) == 0 {
			after.SetAnnotations(nil)
		}
		assert.Equal(t, before.Object, after.Object)
	}
	f(plainSpec, 8, 8, Guard{Name: "h", Min: 2, Max: 9})
	f(`{maxReplicas: 9}`, 8, 8, Guard{Name: "h", Min: 1, Max: 9})
	f(`{minReplicas: 0, maxReplicas: 9}`, 8, 8, Guard{Name: "h", Max: 9})
	f(`{minReplicas: 0, maxReplicas: 9}`, 0, 0, Guard{Name: "h", Max: 9})
	f(plainSpec, 12, 9, Guard{Name: "h", Min: 2, Max: 9})                              // never above the maximum
	f(`{minReplicas: 5, maxReplicas: 9}`, 3, 5, Guard{Name: "h", Min: 5, Max: 9})      // never lower
	f(`{minReplicas: 5, maxReplicas: 9}`, -1, 5, Guard{Name: "h", Min: 5, Max: 9})     // nor for nonsense
	f(`{minReplicas: 20, maxReplicas: 20}`, 8, 20, Guard{Name: "h", Min: 20, Max: 20}) // what does not fit is for the caller to say
	f(`{minReplicas: 2, maxReplicas: 9, behavior: {scaleDown: {stabilizationWindowSeconds: 60, tolerance: 50m}}, futureField: {x: 1}}`, 8, 8, Guard{Name: "h", Min: 2, Max: 9})
	f(`{minReplicas: 2, maxReplicas: 9, behavior: {scaleUp: {selectPolicy: Disabled, tolerance: "0"}, scaleDown: {tolerance: "0"}}}`, 8, 8, Guard{Name: "h", Min: 2, Max: 9})
}

// TestHoldKeepsTolerances of HPAs that count from spec.replicas.
func TestHoldKeepsTolerances(t *testing.T) {
	for _, metrics := range []string{
		`[{type: Pods, pods: {metric: {name: requests_per_second}, target: {type: AverageValue, averageValue: "10"}}}]`,
		`[{type: Object, object: {metric: {name: queue}, target: {type: Value, value: "10"}}}]`, `[]`,
	} {
		s := newServer(t, hpa(t, "h", `{minReplicas: 2, maxReplicas: 9, behavior: {scaleUp: {tolerance: 50m}}, metrics: `+metrics+`}`))
		_, err := s.client().Hold(t.Context(), chat, 8)
		require.NoError(t, err)
		during := specOf(s.get(t, "h"))
		assert.EqualValues(t, 8, during[fieldMin])
		assert.Equal(t, "50m", inner(inner(during, fieldBehavior), "scaleUp")["tolerance"], metrics)
	}
}

// TestHoldWithoutTolerance: an API server that drops tolerances is asked once, and said.
func TestHoldWithoutTolerance(t *testing.T) {
	s := newServer(t, hpa(t, "h", plainSpec))
	s.drops = true
	for range 3 {
		g, err := s.client().Hold(t.Context(), chat, 8)
		require.NoError(t, err)
		assert.Contains(t, g.Message, "HPAConfigurableTolerance is off")
	}
	assert.Equal(t, 2, s.dry, "with and without")
	assert.Equal(t, 1, s.writes)
	during := specOf(s.get(t, "h"))
	assert.EqualValues(t, 8, during[fieldMin])
	assert.NotContains(t, during, fieldBehavior)
	_, err := s.client().Hold(t.Context(), chat, 7)
	require.NoError(t, err)
	assert.Equal(t, 3, s.dry, "another floor, but no tolerance")
	require.NoError(t, s.client().Release(t.Context(), chat))
	assert.EqualValues(t, 2, specOf(s.get(t, "h"))[fieldMin])
}

// TestHoldFollowsTheOwner: what the owner writes in the middle counts from then on, and stays.
func TestHoldFollowsTheOwner(t *testing.T) {
	s := newServer(t, hpa(t, "h", plainSpec))
	hold := func(floor, lowest int, wantMin int64) {
		t.Helper()
		g, err := s.client().Hold(t.Context(), chat, floor)
		require.NoError(t, err)
		assert.Equal(t, lowest, g.Min)
		assert.Equal(t, wantMin, specOf(s.get(t, "h"))[fieldMin])
	}
	hold(8, 2, 8)
	hold(6, 2, 6)
	require.True(t, s.change(t, func(u *unstructured.Unstructured) { specOf(u)[fieldMin] = int64(3) }))
	hold(6, 3, 6)
	require.True(t, s.change(t, func(u *unstructured.Unstructured) { specOf(u)[fieldMin] = int64(7) }))
	hold(6, 7, 7)
	require.True(t, s.change(t, func(u *unstructured.Unstructured) {
		inner(inner(specOf(u), fieldBehavior), "scaleDown")["tolerance"] = "200m"
	}))
	hold(8, 7, 8)
	assert.True(t, hasTolerances(pick(specOf(s.get(t, "h")))))
	require.NoError(t, s.client().Release(t.Context(), chat))
	after := specOf(s.get(t, "h"))
	assert.EqualValues(t, 7, after[fieldMin])
	down := inner(inner(after, fieldBehavior), "scaleDown")
	assert.Equal(t, "200m", down["tolerance"])
	assert.NotContains(t, inner(inner(after, fieldBehavior), "scaleUp"), "tolerance")
}

// TestHoldNothing: HPAs that are not to be written are not, and why is said.
func TestHoldNothing(t *testing.T) {
	f := func(name, message string, hpas ...*unstructured.Unstructured) {
		t.Helper()
		s := newServer(t)
		for _, h := range hpas {
			fill(specOf(h))
			require.NoError(t, s.Create(t.Context(), h))
		}
		g, err := s.client().Hold(t.Context(), chat, 8)
		require.NoError(t, err)
		assert.Equal(t, name, g.Name)
		assert.Equal(t, message, g.Message)
		require.NoError(t, s.client().Release(t.Context(), chat))
		assert.Zero(t, s.writes+s.dry)
	}
	target := func(version, kind, name string) string {
		return `{maxReplicas: 9, scaleTargetRef: {apiVersion: ` + version + `, kind: ` + kind + `, name: ` + name + `}}`
	}
	f("", "")
	f("", "", hpa(t, "h", target("apps/v1", "Deployment", "embed")), hpa(t, "i", target("apps/v1", "StatefulSet", "chat")),
		hpa(t, "j", target("example.com/v1", "Deployment", "chat")), hpa(t, "k", target("a/b/c", "Deployment", "chat")))
	f("", `HorizontalPodAutoscalers "a", "b" all scale Deployment "chat": none is held, and they undo each other's work; delete all but one`,
		hpa(t, "a", plainSpec), hpa(t, "b", target("apps/v1beta2", "Deployment", "chat")))
	f("keda-hpa-chat", `HorizontalPodAutoscaler "keda-hpa-chat" belongs to ScaledObject "chat", which would write it back: it is not held, and may scale down in the middle of an update`,
		owned(hpa(t, "keda-hpa-chat", plainSpec), "keda.sh/v1alpha1", "ScaledObject", "chat"))
}

// TestHoldIsUndoneWhereItNoLongerBelongs: a second HPA, or another target, in the middle of an update.
func TestHoldIsUndoneWhereItNoLongerBelongs(t *testing.T) {
	s := newServer(t, hpa(t, "h", plainSpec))
	_, err := s.client().Hold(t.Context(), chat, 8)
	require.NoError(t, err)
	require.True(t, s.change(t, func(u *unstructured.Unstructured) { inner(specOf(u), "scaleTargetRef")["name"] = "embed" }))
	g, err := s.client().Hold(t.Context(), chat, 8)
	require.NoError(t, err)
	assert.Equal(t, Guard{}, g)
	after := s.get(t, "h")
	assert.EqualValues(t, 2, specOf(after)[fieldMin])
	assert.Empty(t, ours(after))

	s = newServer(t, hpa(t, "h", plainSpec))
	_, err = s.client().Hold(t.Context(), chat, 8)
	require.NoError(t, err)
	other := hpa(t, "other", plainSpec)
	fill(specOf(other))
	require.NoError(t, s.Create(t.Context(), other))
	_, err = s.client().Hold(t.Context(), chat, 8)
	require.NoError(t, err)
	require.NoError(t, s.client().Release(t.Context(), chat))
	assert.EqualValues(t, 2, specOf(s.get(t, "h"))[fieldMin])
}

func scalePolicy() *v1alpha1.ScalePolicy {
	return &v1alpha1.ScalePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "policy"}, Spec: v1alpha1.ScalePolicySpec{
		TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat"}, MinReplicas: new(int32(2)), MaxReplicas: 9,
	}}
}

// TestHoldOfAScalePolicy writes annotations alone, and the bounds are the policy's.
func TestHoldOfAScalePolicy(t *testing.T) {
	h := owned(hpa(t, "h", `{minReplicas: 8, maxReplicas: 9}`), v1alpha1.GroupVersion().String(), v1alpha1.KindScalePolicy, "policy")
	s := newServer(t, h, scalePolicy())
	before := specOf(s.get(t, "h"))
	for range 2 {
		g, err := s.client().Hold(t.Context(), chat, 8)
		require.NoError(t, err)
		assert.Equal(t, Guard{Name: "h", Min: 2, Max: 9}, g)
	}
	assert.Equal(t, 1, s.writes)
	assert.Equal(t, "8", s.get(t, "h").GetAnnotations()[v1alpha1.AnnotationRolloutFloor])
	_, err := s.client().Hold(t.Context(), chat, 5)
	require.NoError(t, err)
	assert.Equal(t, "5", s.get(t, "h").GetAnnotations()[v1alpha1.AnnotationRolloutFloor])
	require.NoError(t, s.client().Release(t.Context(), chat))
	assert.Empty(t, ours(s.get(t, "h")))
	assert.Equal(t, before, specOf(s.get(t, "h")))
}

// TestScalePolicyTakesOver: a ScalePolicy that adopts an HPA in the middle of an update, and lets go of it, gives back what its owner
// wrote, and not what was held.
func TestScalePolicyTakesOver(t *testing.T) {
	s := newServer(t, hpa(t, "h", plainSpec), scalePolicy())
	before := specOf(s.get(t, "h"))
	_, err := s.client().Hold(t.Context(), chat, 8)
	require.NoError(t, err)
	adopt := func(u *unstructured.Unstructured) {
		kept, err := json.Marshal(specOf(u))
		require.NoError(t, err)
		annotateText(u, v1alpha1.AnnotationOriginalSpec, string(kept))
		owned(u, v1alpha1.GroupVersion().String(), v1alpha1.KindScalePolicy, "policy")
		specOf(u)[fieldMin] = int64(2)
	}
	require.True(t, s.change(t, adopt))
	_, err = s.client().Hold(t.Context(), chat, 8)
	require.NoError(t, err)
	letGo := func(u *unstructured.Unstructured) {
		var spec map[string]any
		require.NoError(t, json.Unmarshal([]byte(u.GetAnnotations()[v1alpha1.AnnotationOriginalSpec]), &spec))
		u.Object["spec"] = spec
		annotateText(u, v1alpha1.AnnotationOriginalSpec, "")
		u.SetOwnerReferences(nil)
	}
	require.True(t, s.change(t, letGo))
	assert.Equal(t, before, specOf(s.get(t, "h")))
	assert.Equal(t, []string{v1alpha1.AnnotationRolloutFloor, Annotation}, ours(s.get(t, "h")), "until the next look")
	_, err = s.client().Hold(t.Context(), chat, 8)
	require.NoError(t, err)
	assert.EqualValues(t, 8, specOf(s.get(t, "h"))[fieldMin])
	assert.Equal(t, []string{Annotation}, ours(s.get(t, "h")))
	require.NoError(t, s.client().Release(t.Context(), chat))
	assert.Equal(t, before, specOf(s.get(t, "h")))

	// The same, with the update's end between.
	_, err = s.client().Hold(t.Context(), chat, 8)
	require.NoError(t, err)
	require.True(t, s.change(t, adopt))
	require.NoError(t, s.client().Release(t.Context(), chat))
	require.True(t, s.change(t, letGo))
	assert.Equal(t, before, specOf(s.get(t, "h")))
	assert.Empty(t, ours(s.get(t, "h")))
}

// TestHoldConflict writes nothing over what it has not seen.
func TestHoldConflict(t *testing.T) {
	s := newServer(t, hpa(t, "h", plainSpec))
	stale := s.get(t, "h")
	require.True(t, s.change(t, func(u *unstructured.Unstructured) { specOf(u)["maxReplicas"] = int64(7) }))
	_, err := s.client().hold(t.Context(), stale, chat, 8)
	require.True(t, apierrors.IsConflict(err), err)
	assert.True(t, strings.HasPrefix(err.Error(), `cannot hold HorizontalPodAutoscaler "h": `), err)
	assert.Empty(t, ours(s.get(t, "h")))
}

// TestBrokenAnnotation is told, and the HPA left alone.
func TestBrokenAnnotation(t *testing.T) {
	h := hpa(t, "h", plainSpec)
	annotateText(h, Annotation, "{")
	s := newServer(t, h)
	_, err := s.client().Hold(t.Context(), chat, 8)
	require.ErrorContains(t, err, `cannot read the annotation headroom.dev/rollout-hold of HorizontalPodAutoscaler "h"`)
	require.NoError(t, s.client().Release(t.Context(), chat))
	assert.Zero(t, s.writes)
}

// FuzzRecord: whatever the annotation says, nothing panics, and what is put back is an HPA's spec.
func FuzzRecord(f *testing.F) {
	f.Add(`{"for":"Deployment/chat","was":{"minReplicas":2},"wrote":{"minReplicas":8,"behavior":{"scaleUp":{"tolerance":"0"}}}}`)
	f.Add(`{"for":"Deployment/chat","was":null,"wrote":{"minReplicas":[],"behavior":3}}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, annotation string) {
		h := hpa(t, "h", `{minReplicas: 8, maxReplicas: 9, behavior: {scaleUp: {tolerance: "0"}}}`)
		annotateText(h, Annotation, annotation)
		before := runtime.DeepCopyJSON(h.Object)
		if forget(h) != nil {
			return
		}
		for name := range specOf(h) {
			if name != fieldMin && name != fieldBehavior {
				assert.Equal(t, before["spec"].(map[string]any)[name], specOf(h)[name])
			}
		}
		assert.Empty(t, ours(h))
	})
}
