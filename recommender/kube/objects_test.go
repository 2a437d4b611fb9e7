package kube

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/vpa"
)

// vpaFor is a VerticalPodAutoscaler of a Deployment that names some recommenders.
func vpaFor(name, target string, recommenders ...string) *vpav1.VerticalPodAutoscaler {
	v := &vpav1.VerticalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, UID: types.UID("vpa-" + name), Generation: 1},
		Spec:       vpav1.VerticalPodAutoscalerSpec{TargetRef: &autoscalingv1.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: target}},
	}
	for _, r := range recommenders {
		v.Spec.Recommenders = append(v.Spec.Recommenders, &vpav1.VerticalPodAutoscalerRecommenderSelector{Name: r})
	}
	return v
}

func conditionOf(v *vpav1.VerticalPodAutoscaler, t vpav1.VerticalPodAutoscalerConditionType) *vpav1.VerticalPodAutoscalerCondition {
	for i := range v.Status.Conditions {
		if v.Status.Conditions[i].Type == t {
			return &v.Status.Conditions[i]
		}
	}
	return nil
}

// hours is enough for a recommendation, and a look at it.
const hours = 200

func TestVPAStatus(t *testing.T) {
	v := vpaFor("web", "web", Name)
	v.Spec.ResourcePolicy = &vpav1.PodResourcePolicy{ContainerPolicies: []vpav1.ContainerResourcePolicy{
		{ContainerName: "web", MaxAllowed: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("150m")}, MinAllowed: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}},
		{ContainerName: "*", Mode: new(vpav1.ContainerScalingModeOff)},
	}}
	others := []*vpav1.VerticalPodAutoscaler{vpaFor("none", "web"), vpaFor("default", "web", "default"), vpaFor("two", "web", Name, "default")}
	pod := podOf("web", "web-v1-a", func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "proxy"}) })
	w := newWorld(t, deployment("web"), pod, v)
	for _, o := range others {
		w.create(o)
	}
	before := map[string]string{}
	for _, o := range others {
		before[o.Name] = w.vpa(o.Name).ResourceVersion
	}
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.use("web-v1-a", "proxy", 0.1, 100<<20)
	w.passes(2)
	provided := conditionOf(w.vpa("web"), vpav1.RecommendationProvided)
	require.NotNil(t, provided)
	assert.Equal(t, corev1.ConditionFalse, provided.Status)
	assert.Equal(t, v1alpha1.ReasonNoHistory, provided.Reason)
	assert.Contains(t, provided.Message, "expected at 20")
	assert.Nil(t, conditionOf(w.vpa("web"), vpav1.NoPodsMatched))

	w.passes(hours)
	got := w.vpa("web")
	require.NotNil(t, got.Status.Recommendation)
	require.Len(t, got.Status.Recommendation.ContainerRecommendations, 1, "mode Off for all others")
	c := got.Status.Recommendation.ContainerRecommendations[0]
	assert.Equal(t, "web", c.ContainerName)
	assert.Equal(t, "150m", c.Target.Cpu().String(), "maxAllowed")
	assert.Equal(t, 1, c.UncappedTarget.Cpu().Cmp(resource.MustParse("150m")))
	assert.Equal(t, "1Gi", c.Target.Memory().String(), "minAllowed")
	assert.Equal(t, -1, c.UncappedTarget.Memory().Cmp(resource.MustParse("1Gi")))
	assert.LessOrEqual(t, c.LowerBound.Memory().Cmp(*c.Target.Memory()), 0)
	assert.GreaterOrEqual(t, c.UpperBound.Memory().Cmp(*c.Target.Memory()), 0)
	assert.Equal(t, corev1.ConditionTrue, conditionOf(got, vpav1.RecommendationProvided).Status)
	assert.EqualValues(t, 1, *got.Status.ObservedGeneration)
	for _, o := range others {
		assert.Equal(t, before[o.Name], w.vpa(o.Name).ResourceVersion, "%s is another recommender's", o.Name)
	}

	// Pods go: what was recommended stays.
	require.NoError(t, w.Delete(t.Context(), pod))
	w.passes(hours / 20)
	got = w.vpa("web")
	require.NotNil(t, conditionOf(got, vpav1.NoPodsMatched))
	assert.NotNil(t, got.Status.Recommendation)
}

func TestVPAOfNothing(t *testing.T) {
	parent := deployment("child")
	parent.OwnerReferences = owner("example.com/v1", "Parent", "p")
	bad := vpaFor("bad", "missing", Name)
	bad.Spec.TargetRef.Kind = "Nothing"
	without := vpaFor("without", "", Name)
	without.Spec.TargetRef = nil
	w := newWorld(t, parent, vpaFor("missing", "missing", Name), vpaFor("child", "child", Name), bad, without)
	w.passes(1)
	for name, says := range map[string]string{
		"missing": "does not exist", "child": "has a parent controller", "bad": "the cluster has no Nothing", "without": "targetRef is missing",
	} {
		c := conditionOf(w.vpa(name), vpav1.ConfigUnsupported)
		require.NotNil(t, c, name)
		assert.Contains(t, c.Message, says)
		assert.Equal(t, corev1.ConditionFalse, conditionOf(w.vpa(name), vpav1.RecommendationProvided).Status)
	}
}

// TestVPAWithHPA leaves out what an HPA scales on, and says why; a ResourceRecommendation has both.
func TestVPAWithHPA(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), vpaFor("web", "web", Name), recommendationFor("web", "Deployment", "web"),
		hpaFor("web", ofResource(corev1.ResourceCPU, utilization(50))))
	w.use("web-v1-a", "web", 0.5, 300<<20)
	w.passes(hours)
	got := w.vpa("web")
	require.NotNil(t, got.Status.Recommendation)
	assert.NotContains(t, got.Status.Recommendation.ContainerRecommendations[0].Target, corev1.ResourceCPU)
	assert.Contains(t, got.Status.Recommendation.ContainerRecommendations[0].Target, corev1.ResourceMemory)
	provided := conditionOf(got, vpav1.RecommendationProvided)
	assert.Equal(t, reasonAutoscaled, provided.Reason)
	assert.Contains(t, provided.Message, "cpu of container web: a HorizontalPodAutoscaler's averageUtilization")

	r := w.rr("web")
	require.NotNil(t, r.Status.Autoscaler)
	assert.EqualValues(t, 50, r.Status.Autoscaler.Metrics[0].Now)
	cpu := r.Status.Recommended.Cpu().AsApproximateFloat64()
	assert.EqualValues(t, int32(math.Round(50/cpu)), r.Status.Autoscaler.Metrics[0].Recommended)
}

// TestNoVPAs works in a cluster that does not know the kind, and notices when it does.
func TestNoVPAs(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"), vpaFor("web", "web", Name))
	knows := w.opts.Mapper
	w.opts.Mapper = testrestmapper.TestOnlyStaticRESTMapper(newScheme(t, false))
	w.restart()
	w.passes(1)
	assert.NotEmpty(t, w.rr("web").Status.Conditions)
	assert.Empty(t, w.vpa("web").Status.Conditions)
	w.Controller.opts.Mapper = knows
	w.passes(1)
	assert.NotEmpty(t, w.vpa("web").Status.Conditions)
}

// TestStockEstimator gives the stock recommender's numbers, and goes on from its checkpoints.
func TestStockEstimator(t *testing.T) {
	v := vpaFor("web", "web", Name)
	v.Annotations = map[string]string{annotationEstimator: estimatorVPA}
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), v)
	m, err := vpa.New(vpa.DefaultConfig())
	require.NoError(t, err)
	a, i := m.NewAggregate(), vpa.Instance{}
	for n := range 100 {
		cpu, memory := 0.1+float64(n%7)/50, float64(int(300+n%11)<<20)
		w.use("web-v1-a", "web", cpu, memory)
		w.passes(1)
		millis, _ := vpa.FromCores(cpu)
		i.AddCPU(a, w.now, millis)
		i.AddMemory(a, w.now, int64(memory))
	}
	w.passes(0)
	same := func(a *vpa.Aggregate) {
		t.Helper()
		want := m.Recommend(m.Estimate(a, 1), vpa.Rules{})
		got := w.vpa("web").Status.Recommendation.ContainerRecommendations[0]
		assert.Equal(t, want.Target.CPU, got.Target.Cpu().MilliValue())
		assert.Equal(t, want.Target.Memory, got.Target.Memory().Value())
	}
	same(a)
	w.stop()
	var point vpav1.VerticalPodAutoscalerCheckpoint
	require.NoError(t, w.Get(t.Context(), client.ObjectKey{Namespace: "prod", Name: "web-web"}, &point))
	assert.Equal(t, vpav1.VerticalPodAutoscalerCheckpointSpec{VPAObjectName: "web", ContainerName: "web"}, point.Spec)
	want := a.Checkpoint(w.now, func(yield func(*vpa.Instance) bool) { yield(&i) })
	var status vpav1.VerticalPodAutoscalerCheckpointStatus
	require.NoError(t, json.Unmarshal(want.AppendJSON(nil), &status))
	status.LastUpdateTime = point.Status.LastUpdateTime
	got, _ := json.Marshal(point.Status)
	expected, _ := json.Marshal(status)
	assert.JSONEq(t, string(expected), string(got))

	// The stock recommender's, of a week ago, is gone on from; and one that is newer is left as it is.
	restarted, err := m.Load(&want)
	require.NoError(t, err)
	w.restart()
	w.samples = map[recommender.ContainerID]map[recommender.Resource]float64{}
	w.passes(1)
	same(restarted)

	point.Status.Version = "v4"
	require.NoError(t, w.Update(t.Context(), &point))
	w.restart()
	w.now = w.now.Add(time.Minute)
	require.ErrorContains(t, w.pass(t.Context(), true), "VerticalPodAutoscalerCheckpoint web-web: cannot load: unsupported version")
	w.use("web-v1-a", "web", 0.1, 300<<20)
	w.passes(30)
	w.stop()
	require.NoError(t, w.Get(t.Context(), client.ObjectKeyFromObject(&point), &point))
	assert.Equal(t, "v4", point.Status.Version, "kept")
	assert.Contains(t, conditionOf(w.vpa("web"), vpav1.RecommendationProvided).Message, "it is left as it is")
}

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
	real := w.now
	w.now = w.now.Add(-3 * time.Hour) // the clock jumps back: samples of now are from the future, and then too old
	w.passes(1)
	w.now = real.Add(time.Minute)
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

// usageOf is what is known of a container's memory.
func (w *world) usageOf(target string, r recommender.Resource) *recommender.Usage {
	w.t.Helper()
	of := w.workload(workloadID{"prod", "apps", "Deployment", target})
	require.NotNil(w.t, of)
	return of.usages[recommender.Key{Container: "web", Resource: r}]
}

// TestKills are counted once each, across restarts.
func TestKills(t *testing.T) {
	pod := podOf("web", "web-v1-a", func(p *corev1.Pod) {
		p.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: "OOMKilled", FinishedAt: metav1.NewTime(noon.Add(30 * time.Second))}
	})
	w := newWorld(t, deployment("web"), pod, recommendationFor("web", "Deployment", "web"))
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.passes(hours)
	memory := w.rr("web").Status.Containers[0].Resources[1]
	assert.Equal(t, "OOM", memory.Reason, memory.Message)
	first := memory.Recommended.AsApproximateFloat64()
	assert.GreaterOrEqual(t, first, 2.4*(1<<30), "1.2 times the limit")
	w.stop()
	w.restart()
	w.passes(hours / 20)
	again := w.rr("web").Status.Containers[0].Resources[1]
	assert.InEpsilon(t, first, again.Recommended.AsApproximateFloat64(), 0.05)

	list := kills(&corev1.Pod{Spec: pod.Spec, Status: corev1.PodStatus{
		Reason: "Evicted", Message: "The node was low on resource: memory. Threshold quantity: 100Mi, available: 12Mi. Container web was using 3Gi, request is 1Gi, has larger consumption of memory. Container tiny was using 1Mi, request is 2Mi.",
		Conditions: []corev1.PodCondition{{Type: corev1.DisruptionTarget, LastTransitionTime: metav1.NewTime(noon)}},
	}})
	assert.Equal(t, []kill{{"web", noon, 3 << 30, true}}, list)
	assert.Empty(t, kills(&corev1.Pod{Status: corev1.PodStatus{Reason: "Evicted", Message: "The node was low on resource: ephemeral-storage. Container web was using 3Gi, request is 0."}}))
}

// TestStartup keeps what is used before a pod serves apart.
func TestStartup(t *testing.T) {
	starting := func(p *corev1.Pod) {
		p.Status.Conditions[0] = corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(noon)}
		p.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(noon.Add(time.Second))
	}
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a", starting), recommendationFor("web", "Deployment", "web"))
	w.use("web-v1-a", "web", 4, 3<<30)
	w.passes(3)
	w.status("web-v1-a", func(s *corev1.PodStatus) {
		s.Conditions[0] = corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.now.Add(30 * time.Second))}
	})
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.passes(hours)
	cpu := w.rr("web").Status.Containers[0].Resources[0]
	require.NotNil(t, cpu.Startup)
	assert.GreaterOrEqual(t, cpu.Startup.AsApproximateFloat64(), 4.0)
	require.NotNil(t, cpu.Recommended, cpu.Message)
	assert.Less(t, cpu.Recommended.AsApproximateFloat64(), 1.0)

	// A pod that is Ready no more is in trouble: what it uses then is what it needs.
	w.status("web-v1-a", func(s *corev1.PodStatus) {
		s.Conditions[0] = corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(w.now)}
	})
	w.use("web-v1-a", "web", 2, 300<<20)
	w.passes(hours)
	assert.Greater(t, w.rr("web").Status.Containers[0].Resources[0].Recommended.AsApproximateFloat64(), 1.5)
}

// TestVersion tells the usages of a new one.
func TestVersion(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"))
	w.use("web-v1-a", "web", 2, 300<<20)
	w.passes(5 * 60)
	before := w.rr("web").Status.Containers[0].Resources[0].Recommended.AsApproximateFloat64()
	require.NoError(t, w.Delete(t.Context(), podOf("web", "web-v1-a")))
	w.create(podOf("web", "web-v2-b", func(p *corev1.Pod) {
		p.Labels[templateHash], p.OwnerReferences, p.CreationTimestamp = "v2", owner("apps/v1", "ReplicaSet", "web-v2"), metav1.NewTime(w.now)
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("300m")
	}))
	w.samples = map[recommender.ContainerID]map[recommender.Resource]float64{}
	w.use("web-v2-b", "web", 0.1, 300<<20)
	w.passes(5 * 60)
	cpu := w.rr("web").Status.Containers[0].Resources[0]
	assert.Less(t, cpu.Recommended.AsApproximateFloat64(), before/2, "%s %+v", cpu.Message, cpu.Evidence)
	assert.Equal(t, "300m", cpu.Request.String(), "as the newest pod has it")
}

func TestCheckpoints(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"))
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.passes(hours)
	before := w.rr("web").Status.Containers[0].Resources[0]
	key := client.ObjectKey{Namespace: "prod", Name: "headroom-usage-deployment-web"}
	var m corev1.ConfigMap
	require.NoError(t, w.Get(t.Context(), key, &m))
	assert.Equal(t, types.UID("Deployment/web"), m.OwnerReferences[0].UID)
	assert.Equal(t, key.Name, w.rr("web").Status.Checkpoint)
	t.Logf("a checkpoint has %d bytes", len(m.BinaryData[checkpointKey]))

	w.restart() // a crash: nothing is written at the end
	w.passes(1)
	after := w.rr("web").Status.Containers[0].Resources[0]
	assert.Equal(t, before.Recommended, after.Recommended)
	lost := before.Evidence.Samples - after.Evidence.Samples
	assert.Less(t, lost, int64(11), "one interval")
	w.passes(3)
	had := w.usageOf("web", recommender.CPU)
	w.stop() // SIGTERM: all is written
	w.restart()
	w.passes(1)
	assert.Equal(t, recommender.Estimate(had, w.now).Evidence.Samples+1, recommender.Estimate(w.usageOf("web", recommender.CPU), w.now).Evidence.Samples)
}

// TestBadCheckpoints are kept, and said to be.
func TestBadCheckpoints(t *testing.T) {
	for name, of := range map[string]struct {
		bytes []byte
		data  string
		says  string
	}{
		"corrupt": {[]byte("nonsense"), "apps/Deployment/web", "corrupt"},
		"empty":   {nil, "apps/Deployment/web", "corrupt"},
		"foreign": {[]byte("theirs"), "", "is not the checkpoint of this workload"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "headroom-usage-deployment-web"},
				Data:       map[string]string{workloadKey: of.data}, BinaryData: map[string][]byte{checkpointKey: of.bytes},
			}
			w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"), m)
			require.NoError(t, w.Get(t.Context(), client.ObjectKeyFromObject(m), m))
			version := m.ResourceVersion
			w.use("web-v1-a", "web", 0.2, 300<<20)
			w.passes(1)
			c := readyOf(t, w.rr("web"))
			assert.Equal(t, v1alpha1.ReasonCheckpoint, c.Reason)
			assert.Contains(t, c.Message, "ConfigMap headroom-usage-deployment-web")
			assert.Contains(t, c.Message, of.says)
			var said []string
			for len(w.recorder.Events) > 0 {
				said = append(said, <-w.recorder.Events)
			}
			assert.Contains(t, strings.Join(said, "\n"), "Warning Checkpoint")
			w.passes(hours)
			w.stop()
			r := w.rr("web")
			assert.Equal(t, v1alpha1.ReasonRecommended, readyOf(t, r).Reason, "it recommends all the same")
			saved := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionCheckpointSaved)
			assert.Equal(t, metav1.ConditionFalse, saved.Status)
			require.NoError(t, w.Get(t.Context(), client.ObjectKeyFromObject(m), m))
			assert.Equal(t, version, m.ResourceVersion, "kept")

			require.NoError(t, w.Delete(t.Context(), m))
			w.passes(20)
			saved = meta.FindStatusCondition(w.rr("web").Status.Conditions, v1alpha1.ConditionCheckpointSaved)
			assert.Equal(t, metav1.ConditionTrue, saved.Status, saved.Message)
			require.NoError(t, w.Get(t.Context(), client.ObjectKeyFromObject(m), m))
			assert.Equal(t, "apps/Deployment/web", m.Data[workloadKey])
		})
	}
}

// TestCheckpointsThatCannotBeRead for now are waited for: to begin anew would overwrite them.
func TestCheckpointsThatCannotBeRead(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"))
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.passes(hours)
	w.stop()
	before := w.rr("web").Status.Containers[0].Resources[0]
	w.restart()
	w.refuse = func(_ client.ObjectKey, object client.Object) error {
		if _, ok := object.(*corev1.ConfigMap); ok {
			return errors.New("etcd is away")
		}
		return nil
	}
	w.now = w.now.Add(time.Minute)
	require.ErrorContains(t, w.pass(t.Context(), true), "etcd is away")
	w.drain()
	w.refuse = nil
	w.passes(1)
	after := w.rr("web").Status.Containers[0].Resources[0]
	assert.Equal(t, before.Recommended, after.Recommended)
}

// TestPast fills a workload without a checkpoint, and one whose checkpoint is old with what came after.
func TestPast(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"))
	w.opts.History = 24 * time.Hour
	w.restart()
	for at := noon.Add(-48 * time.Hour); at.Before(noon); at = at.Add(time.Minute) {
		for r, v := range map[recommender.Resource]float64{recommender.CPU: 0.2, recommender.Memory: 300 << 20} {
			w.past = append(w.past, recommender.Sample{Container: recommender.ContainerID{Namespace: "prod", Pod: "web-v1-old", Container: "web"}, Resource: r, At: at, Value: v, Certainty: 1})
		}
	}
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.passes(2)
	r := w.rr("web")
	require.Equal(t, v1alpha1.ReasonRecommended, readyOf(t, r).Reason, readyOf(t, r).Message)
	require.Len(t, w.asked, 2)
	assert.Equal(t, "web-[a-z0-9]+-[a-z0-9]{5}", w.asked[0].Pods)
	assert.Equal(t, 24*time.Hour, w.asked[0].End.Sub(w.asked[0].Start))
	samples := r.Status.Containers[0].Resources[0].Evidence.Samples
	assert.InDelta(t, 24*60, samples, 2, "the past, and what was held back meanwhile")

	w.passes(20)
	w.stop()
	w.restart()
	w.asked = nil
	w.passes(1)
	assert.Empty(t, w.asked, "the checkpoint is young enough")
	w.stop()
	w.restart()
	w.now = w.now.Add(2 * time.Hour)
	w.passes(1)
	require.Len(t, w.asked, 2)
	assert.InDelta(t, 2*60, w.asked[0].End.Sub(w.asked[0].Start).Minutes(), 3, "only the gap")
	w.passes(1)
	assert.Greater(t, w.rr("web").Status.Containers[0].Resources[0].Evidence.Samples, samples)
}
