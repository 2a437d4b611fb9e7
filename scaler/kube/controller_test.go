package kube

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler/policy"
)

// world is a cluster with one policy, its Deployment of Ready pods, and a metric plane, all of which a test changes as it likes.
type world struct {
	t *testing.T
	client.Client
	now        time.Time
	replicas   int32
	target     error
	demand     float64 // of each pod
	missing    error
	past       []Value
	asked      *Past
	registry   *prometheus.Registry
	recorder   *events.FakeRecorder
	controller *Controller
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	known := runtime.NewScheme()
	require.NoError(t, scheme.AddToScheme(known))
	require.NoError(t, v1alpha1.AddToScheme(known))
	w := &world{t: t, now: noon, replicas: 2}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gpu-0", Labels: map[string]string{gpuProduct: "H100"}}}
	w.Client = fake.NewClientBuilder().WithScheme(known).WithStatusSubresource(&v1alpha1.ScalePolicy{}).WithObjects(append(objects, node)...).Build()
	for _, name := range []string{"a", "b"} {
		require.NoError(t, w.Create(t.Context(), podWith(name, func(p *corev1.Pod) {
			running(p)
			p.CreationTimestamp = metav1.NewTime(noon.Add(-time.Hour))
			p.Status.Conditions[1].LastTransitionTime = metav1.NewTime(noon.Add(-time.Hour + time.Minute))
			p.Labels["app"], p.Spec.NodeName = "chat", "gpu-0"
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "chat", UID: "rs", Controller: new(true)}}
		})))
	}
	w.restart(nil)
	return w
}

// restart makes another process of the controller.
func (w *world) restart(historian Historian) {
	w.registry, w.recorder = prometheus.NewRegistry(), events.NewFakeRecorder(100)
	var err error
	w.controller, err = New(Options{
		Client: w.Client, Targets: w, Metrics: w, Historian: historian, Period: 15 * time.Second, Now: func() time.Time { return w.now },
		Recorder: w.recorder, Registerer: w.registry, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(w.t, err)
}

func (w *world) Target(context.Context, string, v1alpha1.TargetReference) (Target, error) {
	if w.target != nil {
		return Target{}, w.target
	}
	return Target{
		Resource: schema.GroupResource{Group: "apps", Resource: "deployments"}, Kind: "Deployment", Name: "chat", Replicas: w.replicas,
		Selector: labels.SelectorFromSet(labels.Set{"app": "chat"}),
	}, nil
}

func (w *world) Pods(_ context.Context, _ string, _ labels.Selector, metric string) (map[string]Value, error) {
	switch {
	case metric == policy.InFlight:
		return map[string]Value{"a": {3, w.now}, "b": {1, w.now}}, nil
	case metric != "requests_per_second":
		return nil, errors.New("no metric " + metric)
	case w.missing != nil:
		return nil, w.missing
	}
	return map[string]Value{"a": {w.demand, w.now}, "b": {w.demand, w.now}}, nil
}

func (w *world) Deployment(context.Context, string, string, string) (Value, error) {
	return Value{}, errors.New("no value")
}

func (w *world) Query(context.Context, string, string) ([]Value, error) {
	return nil, errors.New("no query")
}

func (w *world) History(_ context.Context, of Past) ([]Value, error) {
	w.asked = &of
	return w.past, nil
}

// look goes on by so many periods and returns the policy after them.
func (w *world) look(periods int) *v1alpha1.ScalePolicy {
	w.t.Helper()
	name := client.ObjectKey{Namespace: "prod", Name: "chat"}
	for range periods {
		w.now = w.now.Add(15 * time.Second)
		result, err := w.controller.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: name})
		require.NoError(w.t, err)
		require.Equal(w.t, 15*time.Second, result.RequeueAfter)
	}
	p := &v1alpha1.ScalePolicy{}
	require.NoError(w.t, w.Get(w.t.Context(), name, p))
	return p
}

func (w *world) change(f func(p *v1alpha1.ScalePolicy)) {
	w.t.Helper()
	p := &v1alpha1.ScalePolicy{}
	require.NoError(w.t, w.Get(w.t.Context(), client.ObjectKey{Namespace: "prod", Name: "chat"}, p))
	f(p)
	p.Generation++
	require.NoError(w.t, w.Update(w.t.Context(), p))
}

// wish is what the metric says, "" where there is none.
func (w *world) wish() string {
	w.t.Helper()
	families, err := w.registry.Gather()
	require.NoError(w.t, err)
	for _, f := range families {
		if f.GetName() == v1alpha1.MetricDesiredReplicas {
			require.Len(w.t, f.GetMetric(), 1)
			return f.GetMetric()[0].String()
		}
	}
	return ""
}

func (w *world) hpas() []autoscalingv2.HorizontalPodAutoscaler {
	w.t.Helper()
	var list autoscalingv2.HorizontalPodAutoscalerList
	require.NoError(w.t, w.List(w.t.Context(), &list))
	return list.Items
}

func ready(t *testing.T, p *v1alpha1.ScalePolicy) metav1.Condition {
	t.Helper()
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
	require.NotNil(t, c)
	return *c
}

func sameSpec(t *testing.T, want, got autoscalingv2.HorizontalPodAutoscalerSpec) {
	t.Helper()
	assert.True(t, equality.Semantic.DeepEqual(want, got), "want %+v, got %+v", want, got)
}

// stated is a policy with a known capacity of 10 and no patience.
func stated(mode v1alpha1.ScaleMode) *v1alpha1.ScalePolicy {
	return policyWith(func(p *v1alpha1.ScalePolicy) {
		p.Spec.Mode, p.Spec.SLO, p.Spec.CapacityPerReplica = mode, nil, quantity(10)
		p.Spec.ScaleDownWindow = &metav1.Duration{}
		p.Spec.Forecast.Disabled = true
	})
}

func TestActMakesAnHPAThatFollows(t *testing.T) {
	w := newWorld(t, stated(v1alpha1.ModeAct))
	w.demand = 20 // × 2 pods / (10 × 80 %) = 5
	p := w.look(1)
	assert.Equal(t, v1alpha1.ReasonDecided, ready(t, p).Reason, ready(t, p).Message)
	assert.EqualValues(t, 5, *p.Status.DesiredReplicas)
	assert.EqualValues(t, 2, *p.Status.CurrentReplicas)
	require.Len(t, p.Status.Decisions, 1)
	assert.EqualValues(t, 2, p.Status.Decisions[0].From)
	require.Len(t, w.hpas(), 1)
	h := w.hpas()[0]
	assert.True(t, metav1.IsControlledBy(&h, p))
	sameSpec(t, autoscalerSpec(p, 0), h.Spec)
	require.NoError(t, testutil.GatherAndCompare(w.registry, strings.NewReader(`
# HELP headroom_desired_replicas Replicas that a ScalePolicy in mode Act asks its HPA for.
# TYPE headroom_desired_replicas gauge
headroom_desired_replicas{namespace="prod",pod="",scalepolicy="chat"} 5
# HELP headroom_scaler_decisions_total Decisions, by what bound them.
# TYPE headroom_scaler_decisions_total counter
headroom_scaler_decisions_total{limit="Demand",namespace="prod",scalepolicy="chat"} 1
`), v1alpha1.MetricDesiredReplicas, "headroom_scaler_decisions_total"))
	problems, err := testutil.GatherAndLint(w.registry)
	require.NoError(t, err)
	assert.Empty(t, problems)

	// What somebody changed of it is put right.
	h.Spec.MaxReplicas = 100
	require.NoError(t, w.Update(t.Context(), &h))
	p = w.look(1)
	sameSpec(t, autoscalerSpec(p, 0), w.hpas()[0].Spec)

	// Down again: pods are told what they carry before the wish is.
	w.replicas, w.demand = 5, 1
	w.look(1)
	var pod corev1.Pod
	require.NoError(t, w.Get(t.Context(), client.ObjectKey{Namespace: "prod", Name: "a"}, &pod))
	assert.Equal(t, "3", pod.Annotations[corev1.PodDeletionCost])

	w.change(func(p *v1alpha1.ScalePolicy) { p.Spec.Mode = v1alpha1.ModeObserve })
	w.look(1)
	assert.Empty(t, w.hpas())
	assert.Empty(t, w.wish())
}

func TestObserveChangesNothing(t *testing.T) {
	w := newWorld(t, stated(v1alpha1.ModeObserve))
	w.demand = 20
	p := w.look(3)
	assert.EqualValues(t, 5, *p.Status.DesiredReplicas)
	assert.Empty(t, w.hpas())
	assert.Empty(t, w.wish())
	w.demand = 1
	w.look(1)
	var pod corev1.Pod
	require.NoError(t, w.Get(t.Context(), client.ObjectKey{Namespace: "prod", Name: "a"}, &pod))
	assert.Empty(t, pod.Annotations)
	p = w.look(240) // an hour: two replicas were there, up to five were wished for, short at first
	assert.InDelta(t, 2*243/240.0, p.Status.Account.UsedReplicaHours.AsApproximateFloat64(), 0.02)
	assert.Positive(t, p.Status.Account.ShortReplicaHours.AsApproximateFloat64())
}

// TestMissingDataHoldsTheWish: the HPA may not have followed yet, and must not be called back.
func TestMissingDataHoldsTheWish(t *testing.T) {
	w := newWorld(t, stated(v1alpha1.ModeAct))
	w.demand = 20
	w.look(1)
	w.missing = errors.New("no requests_per_second of pods: no sample in 10s")
	p := w.look(1)
	assert.EqualValues(t, 5, *p.Status.DesiredReplicas)
	assert.Equal(t, v1alpha1.ReasonHeld, ready(t, p).Reason)
	assert.Contains(t, ready(t, p).Message, "no sample in 10s")
	assert.Contains(t, w.wish(), "5")
	assert.Nil(t, p.Status.ReactiveReplicas, "what demand alone would ask for is not known")
	assert.Nil(t, p.Status.Demand.Current)

	// A process that starts without data does not know what was wished for; what stands is held.
	w.replicas = 3
	w.restart(nil)
	p = w.look(1)
	assert.EqualValues(t, 3, *p.Status.DesiredReplicas)
}

func TestConflictsAreLeftAlone(t *testing.T) {
	theirs := hpaTo("theirs", "chat", nil)
	w := newWorld(t, stated(v1alpha1.ModeAct), &theirs)
	w.demand = 20
	before := w.hpas()
	p := w.look(2)
	assert.Equal(t, v1alpha1.ReasonAutoscalerConflict, ready(t, p).Reason)
	assert.Equal(t, before, w.hpas())
	assert.Empty(t, w.wish())
	assert.EqualValues(t, 5, *p.Status.DesiredReplicas, "it decides all the same, as in mode Observe")

	w.change(func(p *v1alpha1.ScalePolicy) { p.Spec.Autoscaler.Adopt = true })
	p = w.look(1)
	require.Len(t, w.hpas(), 1)
	assert.Equal(t, "theirs", w.hpas()[0].Name)
	sameSpec(t, autoscalerSpec(p, 0), w.hpas()[0].Spec)
	assert.NotEmpty(t, w.wish())

	w.change(func(p *v1alpha1.ScalePolicy) { p.Spec.Mode = v1alpha1.ModeObserve })
	w.look(1)
	require.Len(t, w.hpas(), 1)
	sameSpec(t, theirs.Spec, w.hpas()[0].Spec)
	assert.Empty(t, w.hpas()[0].OwnerReferences)
	assert.Empty(t, w.hpas()[0].Annotations)
}

func TestTwoPoliciesForOneTarget(t *testing.T) {
	older := stated(v1alpha1.ModeAct)
	older.Name, older.UID, older.CreationTimestamp = "older", "uid-older", metav1.NewTime(noon.Add(-time.Hour))
	w := newWorld(t, stated(v1alpha1.ModeAct), older)
	p := w.look(1)
	assert.Equal(t, metav1.ConditionFalse, ready(t, p).Status)
	assert.Equal(t, `spec.targetRef: ScalePolicy "older" scales Deployment "chat", too; only one of them can be in mode Act`, ready(t, p).Message)
	assert.Empty(t, w.hpas())
}

func TestProblemsWithdrawTheWish(t *testing.T) {
	w := newWorld(t, stated(v1alpha1.ModeAct))
	w.demand = 20
	w.look(1)
	require.NotEmpty(t, w.wish())
	w.target = &policy.Error{Reason: v1alpha1.ReasonTargetNotFound, Field: "spec.targetRef.name", Err: errors.New("gone")}
	p := w.look(1)
	assert.Equal(t, "spec.targetRef.name: gone", ready(t, p).Message)
	assert.Empty(t, w.wish())
	assert.Nil(t, p.Status.DesiredReplicas)
	assert.Len(t, w.hpas(), 1, "it does nothing without the metric, and the target may come back")
	assert.Contains(t, <-w.recorder.Events, v1alpha1.ReasonDecided)
	assert.Contains(t, <-w.recorder.Events, v1alpha1.ReasonTargetNotFound)
}

// TestAFaultKeepsTheWish: an API server that fails is no reason to let the HPA go.
func TestAFaultKeepsTheWish(t *testing.T) {
	w := newWorld(t, stated(v1alpha1.ModeAct))
	w.demand = 20
	w.look(1)
	w.target, w.now = errors.New("cannot read the scale: timeout"), w.now.Add(15*time.Second)
	_, err := w.controller.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Namespace: "prod", Name: "chat"}})
	require.ErrorContains(t, err, "timeout")
	assert.Contains(t, w.wish(), "5")
}

func TestTheSuccessorGoesOn(t *testing.T) {
	w := newWorld(t, stated(v1alpha1.ModeAct))
	w.demand = 20
	before := w.look(40) // ten minutes
	require.Equal(t, sourceObserved, before.Status.History.Source)
	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, w.controller.Save(ended))
	w.restart(nil)
	after := w.look(1)
	assert.Equal(t, sourceCheckpoint, after.Status.History.Source)
	assert.Equal(t, before.Status.History.Since, after.Status.History.Since)
	assert.GreaterOrEqual(t, after.Status.History.Samples, before.Status.History.Samples)
	assert.Equal(t, before.Status.Account.Since, after.Status.Account.Since)
	assert.Equal(t, before.Status.Account.UsedReplicaHours.MilliValue(), after.Status.Account.UsedReplicaHours.MilliValue())
	assert.Equal(t, before.Status.Decisions, after.Status.Decisions)

	// Of another demand nothing is known.
	w.change(func(p *v1alpha1.ScalePolicy) { p.Spec.Demand.Metric = "tokens_per_second" })
	assert.Nil(t, w.look(1).Status.History)
}

func TestHistoryFromPrometheus(t *testing.T) {
	w := newWorld(t, stated(v1alpha1.ModeObserve))
	for i := range 90 {
		w.past = append(w.past, Value{float64(i), noon.Add(time.Duration(i-90) * time.Minute)})
	}
	w.restart(w)
	p := w.look(1)
	assert.Equal(t, sourcePrometheus, p.Status.History.Source)
	assert.EqualValues(t, 90, p.Status.History.Samples)
	assert.Equal(t, noon.Add(-28*24*time.Hour), w.asked.Start)
	assert.Equal(t, noon, w.asked.End)
}

func TestForeignConfigMapIsLeftAlone(t *testing.T) {
	theirs := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "headroom-history-chat", CreationTimestamp: metav1.NewTime(noon)}, Data: map[string]string{"a": "b"},
	}
	w := newWorld(t, stated(v1alpha1.ModeObserve), theirs)
	w.look(10)
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorContains(t, w.controller.Save(ended), "ConfigMap headroom-history-chat is not the policy's")
	var found corev1.ConfigMap
	require.NoError(t, w.Get(t.Context(), client.ObjectKeyFromObject(theirs), &found))
	assert.Equal(t, theirs.Data, found.Data)
}

// TestStatusIsWrittenWhenItMatters counts writes by the resource version.
func TestStatusIsWrittenWhenItMatters(t *testing.T) {
	w := newWorld(t, stated(v1alpha1.ModeObserve))
	w.demand = 3
	first := w.look(1).ResourceVersion
	w.demand = 3.1
	second := w.look(1).ResourceVersion
	assert.Equal(t, first, second, "only numbers have moved")
	third := w.look(1).ResourceVersion
	assert.NotEqual(t, second, third, "30 s are over")
	w.demand = 20
	assert.NotEqual(t, third, w.look(1).ResourceVersion, "another decision")
}

func TestDeletedPoliciesAreForgotten(t *testing.T) {
	p := stated(v1alpha1.ModeAct)
	w := newWorld(t, p)
	w.look(1)
	require.NoError(t, w.Delete(t.Context(), p))
	_, err := w.controller.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(p)})
	require.NoError(t, err)
	families, err := w.registry.Gather()
	require.NoError(t, err)
	assert.Empty(t, families)
	assert.Empty(t, w.controller.services)
}
