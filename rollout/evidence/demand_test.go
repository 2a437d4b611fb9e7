package evidence

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// policies is a cache of ScalePolicies.
type policies []*v1alpha1.ScalePolicy

func (policies) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.ErrUnsupported
}

func (p policies) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	out, ok := list.(*v1alpha1.ScalePolicyList)
	if !ok {
		return errors.ErrUnsupported
	}
	for _, one := range p {
		if one != nil {
			out.Items = append(out.Items, *one)
		}
	}
	return nil
}

// asker asks for demand in one namespace.
type asker struct {
	*testing.T

	now    time.Time
	policy *v1alpha1.RolloutPolicy
	scale  *v1alpha1.ScalePolicy
	pods   []*corev1.Pod
	values podMetrics
	query  []Sample
}

func newAsker(t *testing.T) *asker {
	t.Helper()
	a := &asker{T: t, now: time.Unix(1e9, 0), policy: policyOf(v1alpha1.Analysis{}), values: podMetrics{"requests_per_second": {}}}
	a.policy.Spec.TargetRef = v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat"}
	for i, name := range []string{"chat-a-1", "chat-a-2", "chat-a-3"} {
		p := newPod(name, a.now.Add(-time.Hour))
		p.Labels["pod-template-hash"] = "a"
		a.pods = append(a.pods, p)
		a.values["requests_per_second"][name] = Sample{Value: float64(10 * (i + 1)), At: a.now.Add(-5 * time.Second)}
	}
	return a
}

func (a *asker) scaled() {
	quantity := func(s string) *resource.Quantity { q := resource.MustParse(s); return &q }
	written := metav1.NewTime(a.now.Add(-20 * time.Second))
	ahead := metav1.NewTime(a.now.Add(4 * time.Minute))
	a.scale = &v1alpha1.ScalePolicy{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "prod", Name: "chat", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "headroom-controller", Subresource: "status", Time: &written}},
		},
		Spec: v1alpha1.ScalePolicySpec{TargetRef: a.policy.Spec.TargetRef, Demand: v1alpha1.DemandSource{Metric: "requests_per_second"}},
		Status: v1alpha1.ScalePolicyStatus{
			Demand: &v1alpha1.DemandStatus{Current: quantity("60"), Predicted: quantity("100"), PredictedFor: &ahead},
			Capacity: []v1alpha1.CapacityStatus{
				{Version: "a", PerReplica: resource.MustParse("12500m")},
				{Version: "a", GPU: "L4", PerReplica: resource.MustParse("11")},
				{Version: "gone", PerReplica: resource.MustParse("3")},
			},
			Startup: &v1alpha1.StartupStatus{P50: &metav1.Duration{Duration: time.Minute}, P90: &metav1.Duration{Duration: 90 * time.Second}},
		},
	}
}

func (a *asker) ask() Demand {
	a.Helper()
	c := &Client{
		Now: func() time.Time { return a.now }, Reader: policies{a.scale}, Pods: a.values, Plane: answers(func() []Sample { return a.query }),
	}
	d, err := c.Demand(a.Context(), a.policy, a.pods)
	require.NoError(a, err)
	return d
}

func points(a *asker, d Demand) (list []float64) {
	a.Helper()
	require.Empty(a, d.Forecast.Missing)
	for _, p := range d.Forecast.Points {
		list = append(list, p.Value)
	}
	return list
}

func TestDemandOfAScalePolicy(t *testing.T) {
	a := newAsker(t)
	a.scaled()
	d := a.ask()
	assert.Equal(t, `ScalePolicy "chat"`, d.From)
	assert.Equal(t, []float64{70, 80, 90, 100}, points(a, d), "above the line to the forecast")
	assert.Equal(t, a.now.Add(3*time.Minute), d.Forecast.Points[3].At.Local())
	assert.InDelta(t, 11, d.Capacity, 1e-9, "the least of the versions that run")
	assert.Equal(t, 90*time.Second, d.StartUp)

	a.scale.Status.Demand.Predicted.Set(20)
	assert.Equal(t, []float64{60, 20}, points(a, a.ask()), "a fall counts when it is there")
	a.pods[0].Labels["pod-template-hash"] = "new"
	a.pods = a.pods[:1]
	assert.InDelta(t, 3, a.ask().Capacity, 1e-9, "nothing is known of this version")
	a.scale.Spec.StartupTime, a.scale.Spec.CapacityPerReplica = &metav1.Duration{Duration: time.Hour}, resource.NewQuantity(7, resource.DecimalSI)
	d = a.ask()
	assert.InDelta(t, 7, d.Capacity, 1e-9)
	assert.Equal(t, time.Hour, d.StartUp)
	a.policy.Spec.CapacityPerReplica = resource.NewQuantity(9, resource.DecimalSI)
	assert.InDelta(t, 9, a.ask().Capacity, 1e-9)

	a.now = a.now.Add(time.Hour)
	assert.Equal(t, `ScalePolicy "chat": its status is of 1h0m20s ago`, a.ask().Forecast.Missing)
	a.now = a.now.Add(-time.Hour)
	a.scale.Status.Demand.Current, a.scale.Status.Demand.Missing = nil, "3 of 3 pods have no value"
	assert.Equal(t, `ScalePolicy "chat": 3 of 3 pods have no value`, a.ask().Forecast.Missing)
	a.scale.Status.Demand = nil
	assert.Equal(t, `ScalePolicy "chat": its status has no demand yet`, a.ask().Forecast.Missing)
}

func TestDemandOfAnotherUnit(t *testing.T) {
	a := newAsker(t)
	a.scaled()
	a.policy.Spec.Demand = &v1alpha1.DemandSource{Metric: "tokens_per_second"}
	a.values["tokens_per_second"] = a.values["requests_per_second"]
	d := a.ask()
	assert.Equal(t, "tokens_per_second", d.From)
	assert.Equal(t, []float64{60}, points(a, d))
	assert.True(t, math.IsNaN(d.Capacity), "the ScalePolicy's is of requests")
	assert.Equal(t, 90*time.Second, d.StartUp)

	a.scale.Spec.TargetRef.Name = "other"
	assert.Zero(t, a.ask().StartUp)
}

func TestDemandMeasured(t *testing.T) {
	a := newAsker(t)
	d := a.ask()
	assert.Equal(t, "requests_per_second", d.From)
	assert.Equal(t, []float64{60}, points(a, d))
	assert.True(t, math.IsNaN(d.Capacity))

	values := a.values["requests_per_second"]
	values["chat-a-3"] = Sample{Value: 30, At: a.now.Add(-2 * time.Minute)}
	assert.Equal(t, []float64{45}, points(a, a.ask()), "what is stale counts as the mean of the others")
	values["chat-a-2"] = Sample{Value: math.NaN(), At: a.now}
	assert.Equal(t, "requests_per_second: 2 of 3 pods have no present value", a.ask().Forecast.Missing)
	for _, p := range a.pods[1:] {
		p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(a.now.Add(-time.Second))
	}
	assert.Equal(t, []float64{10}, points(a, a.ask()), "those that are young are not missed")
	a.pods = a.pods[1:]
	assert.Equal(t, "requests_per_second: no pod serves, or none for long enough", a.ask().Forecast.Missing)
	a.policy.Spec.Demand = &v1alpha1.DemandSource{Metric: "unheard_of"}
	assert.Equal(t, "unheard_of: there is no metric unheard_of", a.ask().Forecast.Missing)

	a.policy.Spec.Demand = &v1alpha1.DemandSource{Query: "sum(x)"}
	assert.Equal(t, "spec.demand.query has 0 results, where one was expected", a.ask().Forecast.Missing)
	a.query = []Sample{{Value: 5, At: a.now}}
	assert.Equal(t, rollout.Forecast{Points: []rollout.Point{{At: a.now, Value: 5}}}, a.ask().Forecast)
	a.query[0].Value = math.NaN()
	assert.Equal(t, "spec.demand.query yields NaN", a.ask().Forecast.Missing)
	a.query[0] = Sample{Value: 5, At: a.now.Add(-10 * time.Minute)}
	assert.Equal(t, "the value of spec.demand.query is 10m0s old", a.ask().Forecast.Missing)
}

// TestGauges judges by thresholds: a metric of the API, and a query.
func TestGauges(t *testing.T) {
	a := newAsker(t)
	limit := resource.MustParse("0.9")
	most := resource.MustParse("15")
	policy := policyOf(v1alpha1.Analysis{Metrics: []v1alpha1.AnalysisMetric{
		{Name: "load", Kind: "Gauge", Metric: "requests_per_second", Max: &most},
		{Name: "cache", Kind: "Gauge", Query: "x", Max: &limit},
	}})
	c := &Client{Now: func() time.Time { return a.now }, Pods: a.values, Plane: answers(func() []Sample { return a.query })}
	var state []byte
	look := func(looks int) Judged {
		t.Helper()
		var v Judged
		for range looks {
			var err error
			v, err = c.Judge(t.Context(), policy, state, Look{Key: "b/0/0", New: a.pods[:1], Old: a.pods[1:]})
			require.NoError(t, err)
			state = v.State
			a.now = a.now.Add(15 * time.Second)
			a.values["requests_per_second"]["chat-a-1"] = Sample{Value: 10, At: a.now}
		}
		return v
	}
	v := look(3)
	assert.Equal(t, rollout.Inconclusive, v.Verdict.Result, v.Verdict.Message)
	assert.Contains(t, v.Verdict.Message, "neither version reports cache")
	at := a.now.Add(time.Hour)
	a.query = []Sample{{Labels: map[string]string{podLabel: "chat-a-1"}, Value: 0.5, At: at}, {Labels: map[string]string{podLabel: "chat-a-1"}, Value: 0.6, At: at}}
	v = look(1)
	assert.Equal(t, rollout.Inconclusive, v.Verdict.Result, v.Verdict.Message)
	a.query = a.query[:1]
	v = look(4)
	assert.Equal(t, rollout.Pass, v.Verdict.Result, v.Verdict.Message)
	a.query[0].Value = 0.95
	v = look(3)
	assert.Equal(t, rollout.Fail, v.Verdict.Result, v.Verdict.Message)
	assert.Equal(t, "0.95", v.Status.Metrics[1].New)
}
