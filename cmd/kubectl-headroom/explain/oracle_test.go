package explain

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/query"
)

// controller is convertDesiredReplicasWithBehaviorRate of horizontal.go, for an autoscaler without scale events; without
// behavior it is convertDesiredReplicasWithRules.
func controller(b *autoscalingv2.HorizontalPodAutoscalerBehavior, current, desired, least, most int32) int32 {
	if b == nil {
		up := int32(math.Max(2*float64(current), 4))
		return max(least, min(desired, most, up))
	}
	limit := func(r *autoscalingv2.HPAScalingRules, sign float64, round func(float64) float64) int32 {
		var all []float64
		for _, p := range r.Policies {
			change := float64(p.Value)
			if p.Type == autoscalingv2.PercentScalingPolicy {
				change = float64(current) * float64(p.Value) / 100
			}
			all = append(all, round(float64(current)+sign*change))
		}
		chosen := all[0]
		for _, n := range all {
			if further := (n-chosen)*sign > 0; further == (*r.SelectPolicy == autoscalingv2.MaxChangePolicySelect) {
				chosen = n
			}
		}
		if *r.SelectPolicy == autoscalingv2.DisabledPolicySelect {
			return current
		}
		return int32(chosen)
	}
	if desired > current {
		return min(desired, most, max(current, limit(b.ScaleUp, 1, math.Ceil)))
	}
	return max(desired, least, min(current, limit(b.ScaleDown, -1, math.Floor)))
}

// TestLimitsAreTheControllers compares what is allowed with the controller's own arithmetic, on random autoscalers.
func TestLimitsAreTheControllers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	rules := func() *autoscalingv2.HPAScalingRules {
		selects := []autoscalingv2.ScalingPolicySelect{"Max", "Min", "Disabled"}
		s := &autoscalingv2.HPAScalingRules{SelectPolicy: &selects[r.IntN(3)], StabilizationWindowSeconds: new(int32(0))}
		for range 1 + r.IntN(3) {
			kind := []autoscalingv2.HPAScalingPolicyType{"Pods", "Percent"}[r.IntN(2)]
			// Quarters are exact in floating point, so that both sides round the same number.
			value := []int32{25, 50, 75, 100}[r.IntN(4)]
			if kind == "Pods" {
				value = 1 + r.Int32N(6)
			}
			s.Policies = append(s.Policies, autoscalingv2.HPAScalingPolicy{Type: kind, Value: value, PeriodSeconds: 15})
		}
		return s
	}
	held := 0
	for range 20_000 {
		least := 1 + r.Int32N(5)
		most := least + r.Int32N(20)
		current, want := least+r.Int32N(most-least+1), r.Int32N(40)
		h := &autoscalingv2.HorizontalPodAutoscaler{}
		h.Spec.MinReplicas, h.Spec.MaxReplicas = &least, most
		if r.IntN(4) > 0 {
			h.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(), ScaleDown: rules()}
		}
		h.Spec.Metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: "queue"},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewQuantity(1, resource.DecimalSI)},
		}}}
		report := OfHPA(&Input{
			Now: noon, HPA: h,
			Scale:   &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "chat"}, Spec: autoscalingv1.ScaleSpec{Replicas: current}, Status: autoscalingv1.ScaleStatus{Replicas: current}},
			Metrics: []Source{{Explanation: &query.Explanation{Objects: []query.Object{{Value: &query.Value{Value: query.Number(want)}}}}}},
		})
		v := report.Verdict
		if within := float64(want) / float64(current); 0.9 <= within && within <= 1.1 {
			expected := current
			require.Equal(t, expected, *v.Wanted)
			continue
		}
		require.Equal(t, want, *v.Wanted)
		expected := controller(h.Spec.Behavior, current, want, least, most)
		require.Equal(t, expected, *v.Allowed, "%d of now %d, %d to %d: %s", want, current, least, most, v.Sentence)
		require.Equal(t, expected != want, len(v.HeldBack) > 0, v.Sentence)
		if expected != want {
			held++
		}
	}
	require.Greater(t, held, 1000)
}
