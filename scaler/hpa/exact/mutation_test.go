package exact

import (
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"headroom.dev/headroom/scaler/hpa"
)

// TestMismatchesAreFound makes ours another HPA, by as little as can be, and wants that to be noticed. A nanosecond makes a
// < of a ≤, where what is compared are times that are whole seconds apart.
func TestMismatchesAreFound(t *testing.T) {
	seed := seed(t)
	f := func(what string, s scenario, mutate func(cfg *hpa.Config, a *hpa.Autoscaler)) {
		t.Run(what, func(t *testing.T) {
			s.name, s.mutate, s.steady = what, mutate, true
			s.fill()
			out := drive(t, &s, seed, 2*24*time.Hour)
			t.Logf("%d of %d reconciles mismatch", out.mismatches, out.looks)
			if out.mismatches == 0 {
				t.Error("nobody noticed")
			}
		})
	}
	plain := scenario{fixed: &autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 10, Metrics: []autoscalingv2.MetricSpec{queue()}}, edges: 0.3}
	f("downscale window +15 s", plain, func(cfg *hpa.Config, _ *hpa.Autoscaler) { cfg.DownscaleStabilization += 15 * time.Second })
	f("downscale window -15 s", plain, func(cfg *hpa.Config, _ *hpa.Autoscaler) { cfg.DownscaleStabilization -= 15 * time.Second })
	f("downscale window: its edge is without", plain, func(cfg *hpa.Config, _ *hpa.Autoscaler) { cfg.DownscaleStabilization-- })
	f("tolerance: its edge is without", plain, func(cfg *hpa.Config, _ *hpa.Autoscaler) { cfg.Tolerance -= 1e-9 })
	f("target +0.001", plain, func(_ *hpa.Config, a *hpa.Autoscaler) { a.Metrics[0].Target++ })
	f("max +1", plain, func(_ *hpa.Config, a *hpa.Autoscaler) { a.Max++ })
	quiet := plain
	quiet.edges, quiet.bursts = 1e-9, 1e-9
	f("min +1", quiet, func(_ *hpa.Config, a *hpa.Autoscaler) { a.Min = new(int32(2)) })
	f("a behavior of defaults instead of none", plain, func(_ *hpa.Config, a *hpa.Autoscaler) {
		a.Behavior = &hpa.Behavior{}
		a.Default()
	})

	behaved := plain
	behaved.fixed, behaved.bursts, behaved.pace = behaviorSpec(), 0.05, 24
	f("scale-up window: its edge is within", behaved, func(_ *hpa.Config, a *hpa.Autoscaler) { *a.Behavior.Up.Window++ })
	f("scale-down window: its edge is within", behaved, func(_ *hpa.Config, a *hpa.Autoscaler) { *a.Behavior.Down.Window++ })
	f("scale-up period: its edge is within", behaved, func(_ *hpa.Config, a *hpa.Autoscaler) { a.Behavior.Up.Policies[0].Period++ })
	f("scale-down period: its edge is within", behaved, func(_ *hpa.Config, a *hpa.Autoscaler) { a.Behavior.Down.Policies[0].Period++ })
	f("scale-up policy: Min", behaved, func(_ *hpa.Config, a *hpa.Autoscaler) { a.Behavior.Up.Select = hpa.MinChange })
	f("scale-down policy: Max", behaved, func(_ *hpa.Config, a *hpa.Autoscaler) { a.Behavior.Down.Select = hpa.MaxChange })
	f("scale-down disabled", behaved, func(_ *hpa.Config, a *hpa.Autoscaler) { a.Behavior.Down.Select = hpa.Disabled })
	f("the flag's tolerance", behaved, func(_ *hpa.Config, a *hpa.Autoscaler) { a.Behavior.Down.Tolerance = nil })

	cpu := scenario{fixed: cpuSpec(), chaos: 1, start: 2 * time.Minute, load: 4 * time.Minute, cfg: hpa.DefaultConfig(), pace: 24}
	cpu.cfg.CPUInitialization, cpu.cfg.InitialReadinessDelay = 2*time.Minute, 15*time.Second
	f("CPU initialization: its edge is within", cpu, func(cfg *hpa.Config, _ *hpa.Autoscaler) { cfg.CPUInitialization++ })
	f("CPU initialization +15 s", cpu, func(cfg *hpa.Config, _ *hpa.Autoscaler) { cfg.CPUInitialization += 15 * time.Second })
	f("readiness delay of 0", cpu, func(cfg *hpa.Config, _ *hpa.Autoscaler) { cfg.InitialReadinessDelay = 0 })
	f("memory's readiness for CPU", cpu, func(_ *hpa.Config, a *hpa.Autoscaler) { a.Metrics[0].Name = "memory" })
}

func queue() autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "queue"},
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewMilliQuantity(200, resource.DecimalSI)},
	}}
}

func behaviorSpec() *autoscalingv2.HorizontalPodAutoscalerSpec {
	rules := func(window int32, choose autoscalingv2.ScalingPolicySelect, pods, percent int32) *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: &window, SelectPolicy: &choose, Tolerance: new(resource.MustParse("0.05")),
			Policies: []autoscalingv2.HPAScalingPolicy{
				{Type: autoscalingv2.PodsScalingPolicy, Value: pods, PeriodSeconds: 45},
				{Type: autoscalingv2.PercentScalingPolicy, Value: percent, PeriodSeconds: 60},
			},
		}
	}
	return &autoscalingv2.HorizontalPodAutoscalerSpec{
		MaxReplicas: 30, Metrics: []autoscalingv2.MetricSpec{queue()},
		Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(30, "Max", 3, 10), ScaleDown: rules(60, "Min", 2, 50)},
	}
}

func cpuSpec() *autoscalingv2.HorizontalPodAutoscalerSpec {
	return &autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 12, Metrics: []autoscalingv2.MetricSpec{{
		Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(70))},
		},
	}}}
}
