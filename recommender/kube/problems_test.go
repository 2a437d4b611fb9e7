package kube

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
)

// TestDuplicates lets the oldest speak, and says so of the others.
func TestDuplicates(t *testing.T) {
	second := recommendationFor("a-second", "Deployment", "web")
	second.CreationTimestamp = metav1.NewTime(noon.Add(time.Second))
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("first", "Deployment", "web"), second)
	w.passes(1)
	assert.Equal(t, v1alpha1.ReasonNoHistory, readyOf(t, w.rr("first")).Reason)
	c := readyOf(t, w.rr("a-second"))
	assert.Equal(t, v1alpha1.ReasonDuplicate, c.Reason)
	assert.Equal(t, `ResourceRecommendation "first" is about Deployment "web", too, and comes before this one`, c.Message)
	assert.Empty(t, w.rr("a-second").Status.Containers)
	require.NoError(t, w.Delete(t.Context(), w.rr("first")))
	w.passes(1)
	assert.Equal(t, v1alpha1.ReasonNoHistory, readyOf(t, w.rr("a-second")).Reason)
}

// TestProblems are said in the condition.
func TestProblems(t *testing.T) {
	owned := deployment("owned")
	owned.OwnerReferences = owner("example.com/v1", "Parent", "p")
	invalid := recommendationFor("invalid", "Deployment", "web")
	invalid.Spec.Containers = []v1alpha1.ContainerRecommendationPolicy{{
		Name: "*", MinAllowed: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}, MaxAllowed: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
	}}
	w := newWorld(t, deployment("web"), owned, deployment("empty"), invalid,
		recommendationFor("missing", "Deployment", "missing"), recommendationFor("kind", "Nothing", "web"), recommendationFor("owned", "Deployment", "owned"), recommendationFor("empty", "Deployment", "empty"))
	w.passes(1)
	for name, want := range map[string][2]string{
		"invalid": {v1alpha1.ReasonInvalid, "spec.containers[*]: minAllowed.cpu is above maxAllowed.cpu"},
		"missing": {v1alpha1.ReasonTargetNotFound, `spec.targetRef.name: there is no Deployment "missing" in namespace prod`},
		"kind":    {v1alpha1.ReasonTargetNotFound, "spec.targetRef.kind: the cluster has no Nothing in apps/v1"},
		"owned":   {v1alpha1.ReasonInvalid, `spec.targetRef: Deployment "owned" belongs to Parent "p": name that`},
		"empty":   {v1alpha1.ReasonNoHistory, `Deployment "empty" has no pods yet`},
	} {
		c := readyOf(t, w.rr(name))
		assert.Equal(t, want, [2]string{c.Reason, c.Message}, name)
	}
}

// TestAutomatic makes one for each workload of a namespace that asks for it, which goes when a person writes one, or with the label.
func TestAutomatic(t *testing.T) {
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "prod", Labels: map[string]string{v1alpha1.LabelRecommend: "true"}}}
	w := newWorld(t, space, deployment("web"), podOf("web", "web-v1-a"))
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.passes(2)
	r := w.rr("deployment-web")
	assert.Equal(t, v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, r.Spec.TargetRef)
	require.Len(t, r.OwnerReferences, 1)
	assert.Equal(t, types.UID("Deployment/web"), r.OwnerReferences[0].UID, "it goes with the workload")
	assert.Equal(t, v1alpha1.ReasonNoHistory, readyOf(t, r).Reason)

	w.create(recommendationFor("mine", "Deployment", "web"))
	w.passes(2)
	require.Error(t, w.Get(t.Context(), client.ObjectKey{Namespace: "prod", Name: "deployment-web"}, r))
	assert.Equal(t, v1alpha1.ReasonNoHistory, readyOf(t, w.rr("mine")).Reason)

	require.NoError(t, w.Delete(t.Context(), w.rr("mine")))
	w.passes(2)
	w.rr("deployment-web")
	require.NoError(t, w.Get(t.Context(), client.ObjectKey{Name: "prod"}, space))
	space.Labels = nil
	require.NoError(t, w.Update(t.Context(), space))
	w.passes(1)
	require.Error(t, w.Get(t.Context(), client.ObjectKey{Namespace: "prod", Name: "deployment-web"}, r))
	w.passes(1)
	assert.Empty(t, w.workloads, "nothing is kept of what nobody asks about")
}

// TestQuiet writes only what has changed, else hourly.
func TestQuiet(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"), vpaFor("web", "web", Name))
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.passes(6 * 60)
	clear(w.written)
	w.passes(3 * 60)
	assert.LessOrEqual(t, w.written["ResourceRecommendation"], 4, "a constant use, for three hours")
	assert.LessOrEqual(t, w.written["VerticalPodAutoscaler"], 4)
	assert.LessOrEqual(t, w.written["ConfigMap"], 19, "one in ten minutes")
	clear(w.written)
	w.samples = map[recommender.ContainerID]map[recommender.Resource]float64{}
	w.passes(60)
	assert.LessOrEqual(t, w.written["ConfigMap"], 1, "nothing was learnt")
}

// TestRefusedSamples are counted, and harm nothing.
func TestRefusedSamples(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"))
	for _, v := range []float64{math.NaN(), -1, math.Inf(1)} {
		w.use("web-v1-a", "web", v, 300<<20)
		w.passes(1)
	}
	w.use("web-v1-a", "ghost", 1, 1)
	w.use("ghost", "web", 1, 1)
	w.passes(1)
	w.samples = map[recommender.ContainerID]map[recommender.Resource]float64{}
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.passes(1)
	before := w.now
	w.now = w.now.Add(-3 * time.Hour) // the clock jumps back: samples of now are from the future, and then too old
	w.passes(1)
	w.now = before.Add(time.Minute)
	require.NoError(t, w.pass(t.Context(), true))
	require.NoError(t, w.pass(t.Context(), true), "the same samples again are no others")
	for reason, n := range map[string]int{"nan": 3, "negative": 1, "container": 2, "pod": 2, "old": 2} {
		assert.InDelta(t, n, testutil.ToFloat64(w.metrics.refused.WithLabelValues(reason)), 0, reason)
	}
	assert.InDelta(t, 2, testutil.ToFloat64(w.metrics.samples.WithLabelValues("cpu")), 0)
}

// TestSourceFails says so where the recommendation is looked for.
func TestSourceFails(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"))
	w.failing = errors.New("metrics.k8s.io: the server could not find\n the requested resource")
	w.now = w.now.Add(time.Minute)
	require.Error(t, w.pass(t.Context(), true))
	w.drain()
	assert.Contains(t, readyOf(t, w.rr("web")).Message, "some usage is missing: metrics.k8s.io: the server could not find the requested resource")
}
