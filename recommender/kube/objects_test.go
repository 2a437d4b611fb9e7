package kube

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

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
	assert.Equal(t, int32(math.Round(50/cpu)), r.Status.Autoscaler.Metrics[0].Recommended)
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
		cpu, memory := 0.1+float64(n%7)/50, float64((300+n%11)<<20)
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

// TestHoldFollowsTheUpdateMode: what restarts pods to follow is asked for a day at a time, what resizes them for an hour, and a
// ResourceRecommendation's own wish comes first.
func TestHoldFollowsTheUpdateMode(t *testing.T) {
	key := recommender.Key{Container: "web", Resource: recommender.CPU}
	for mode, want := range map[vpav1.UpdateMode]time.Duration{
		"": 24 * time.Hour, vpav1.UpdateModeRecreate: 24 * time.Hour, vpav1.UpdateModeOff: 24 * time.Hour,
		vpav1.UpdateModeInPlaceOrRecreate: time.Hour, vpav1.UpdateModeInPlace: time.Hour,
	} {
		v := vpaFor("web", "web", Name)
		if mode != "" {
			v.Spec.UpdatePolicy = &vpav1.PodUpdatePolicy{UpdateMode: new(mode)}
		}
		w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), v)
		w.use("web-v1-a", "web", 0.2, 300<<20)
		w.passes(2)
		for _, of := range w.Controller.workloads {
			assert.Equal(t, want, of.policy(key).Hold, "mode %q", mode)
		}
		require.Len(t, w.Controller.workloads, 1)
	}
}
