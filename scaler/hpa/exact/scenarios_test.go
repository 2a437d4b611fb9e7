package exact

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"headroom.dev/headroom/scaler/hpa"
)

// scenario is a kind of autoscaler in a kind of cluster; all numbers within are drawn from the seed.
type scenario struct {
	name     string
	metrics  []string                 // "Source Kind [name]", as metric reads them
	behavior string                   // "", "partial", "random"
	least    func(r *rand.Rand) int32 // minReplicas; nil is 1 to 3
	most     float64                  // demand at the day's height, in replicas
	cfg      hpa.Config
	replicas int32 // at first

	// Probabilities, per look:
	chaos                                       float64 // scales what befalls pods
	noise                                       float64
	bursts                                      float64
	calm                                        float64 // that demand stays zero for a while
	edges                                       float64 // that demand is just where a tolerance ends
	fail                                        float64 // that a metric begins to fail
	strangers                                   float64 // that there is a value of an unknown pod
	huge                                        float64 // that a value overflows
	byHand                                      float64 // that somebody sets the scale
	vanish                                      float64 // that all pods are gone for a while
	scaleErr, updateErr, selectorErr, noRequest float64

	pace        float64       // days a day
	start, load time.Duration // most that a pod is Pending, and then loads
	even        bool          // all pods have the same value
	steady      bool          // the spec stays as it is; else another is drawn every hour
	second      bool          // a second HPA claims the same pods now and then
	podLevel    bool          // pods with requests of the whole pod
	negative    bool          // values below zero
	zeroAtFirst bool          // the status says ScaledToZero
	invalid     bool          // the API server would refuse the spec

	fixed  *autoscalingv2.HorizontalPodAutoscalerSpec // instead of one drawn
	mutate func(cfg *hpa.Config, a *hpa.Autoscaler)   // makes ours another HPA, which must be found out
}

func (s *scenario) build(r *rand.Rand) autoscalingv2.HorizontalPodAutoscalerSpec {
	if s.fixed != nil {
		return *s.fixed
	}
	spec := autoscalingv2.HorizontalPodAutoscalerSpec{}
	least := 1 + r.Int32N(3)
	if s.least != nil {
		least = s.least(r)
	}
	if least != 1 || r.IntN(2) == 0 {
		spec.MinReplicas = &least
	}
	spec.MaxReplicas = max(1, least) + r.Int32N(int32(s.most)+4)
	for i, text := range s.metrics {
		spec.Metrics = append(spec.Metrics, metric(r, i, text))
	}
	switch s.behavior {
	case "partial":
		spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{}
		if r.IntN(3) > 0 {
			spec.Behavior.ScaleUp = scalingRules(r, 0.4)
		}
		if r.IntN(3) > 0 {
			spec.Behavior.ScaleDown = scalingRules(r, 0.4)
		}
	case "random":
		spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: scalingRules(r, 0.9), ScaleDown: scalingRules(r, 0.9)}
	case "either":
		if r.IntN(2) == 0 {
			spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: scalingRules(r, 0.7), ScaleDown: scalingRules(r, 0.7)}
		}
	}
	return spec
}

// scalingRules sets each field with the probability.
func scalingRules(r *rand.Rand, set float64) *autoscalingv2.HPAScalingRules {
	rules := &autoscalingv2.HPAScalingRules{}
	if r.Float64() < set {
		rules.StabilizationWindowSeconds = new([]int32{0, 15, 30, 60, 100, 300, 600, 3600}[r.IntN(8)])
	}
	if r.Float64() < set {
		rules.SelectPolicy = new([]autoscalingv2.ScalingPolicySelect{"Max", "Max", "Min", "Min", "Min", "Disabled"}[r.IntN(6)])
	}
	if r.Float64() < set {
		for range 1 + r.IntN(3) {
			policy := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 1 + r.Int32N(4), PeriodSeconds: []int32{1, 15, 30, 60, 90, 300, 1800}[r.IntN(7)]}
			switch r.IntN(8) {
			case 0, 1, 2:
				policy.Type, policy.Value = autoscalingv2.PercentScalingPolicy, []int32{1, 10, 33, 50, 100, 900}[r.IntN(6)]
			case 3:
				policy.Value = math.MaxInt32
			}
			rules.Policies = append(rules.Policies, policy)
		}
	}
	if r.Float64() < set/2 {
		rules.Tolerance = new(resource.MustParse([]string{"0", "0.05", "0.1", "0.2", "1"}[r.IntN(5)]))
	}
	return rules
}

func metric(r *rand.Rand, i int, text string) autoscalingv2.MetricSpec {
	var source, kind, name string
	if n, _ := fmt.Sscan(text, &source, &kind, &name); n < 3 {
		name = fmt.Sprintf("m%d", i)
	}
	quantity := resource.NewMilliQuantity([]int64{10, 1000, 1500, 20_000, 77_777}[r.IntN(5)], resource.DecimalSI)
	target := autoscalingv2.MetricTarget{Type: autoscalingv2.MetricTargetType(kind)}
	switch kind {
	case "Utilization":
		target.AverageUtilization = new([]int32{20, 50, 70, 80, 100, 130}[r.IntN(6)])
	case "AverageValue":
		target.AverageValue = quantity
	case "Value":
		target.Value = quantity
	case "Mismatched": // passes the API server's validation for Object metrics
		target.Type, target.AverageValue = autoscalingv2.ValueMetricType, quantity
	}
	identifier := autoscalingv2.MetricIdentifier{Name: name}
	spec := autoscalingv2.MetricSpec{Type: autoscalingv2.MetricSourceType(source)}
	switch hpa.Source(source) {
	case hpa.Resource:
		spec.Resource = &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceName(name), Target: target}
	case hpa.ContainerResource:
		container := []string{"server", "server", "sidecar"}[r.IntN(3)]
		spec.ContainerResource = &autoscalingv2.ContainerResourceMetricSource{Name: corev1.ResourceName(name), Container: container, Target: target}
	case hpa.Pods:
		spec.Pods = &autoscalingv2.PodsMetricSource{Metric: identifier, Target: target}
	case hpa.Object:
		kind := []string{"Service", "Namespace"}[r.IntN(2)]
		spec.Object = &autoscalingv2.ObjectMetricSource{
			DescribedObject: autoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: kind, Name: "chat"}, Metric: identifier, Target: target,
		}
	case hpa.External:
		spec.External = &autoscalingv2.ExternalMetricSource{Metric: identifier, Target: target}
	}
	return spec
}

// rival is the spec of the second HPA, which never scales.
func rival() autoscalingv2.HorizontalPodAutoscalerSpec {
	return autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 1, Metrics: []autoscalingv2.MetricSpec{metric(rand.New(rand.NewPCG(1, 1)), 0, "Object Mismatched")}}
}

func zeroOrMore(r *rand.Rand) int32 { return []int32{0, 0, 0, 1, 2}[r.IntN(5)] }

func zero(*rand.Rand) int32 { return 0 }

// scenarios are all that are driven. What they leave out is set by fill.
func scenarios() []*scenario {
	windows := hpa.DefaultConfig()
	windows.DownscaleStabilization, windows.Tolerance, windows.CPUInitialization, windows.InitialReadinessDelay = 90*time.Second+500*time.Millisecond, 0.05, 2*time.Minute, 10*time.Second
	noZero := hpa.DefaultConfig()
	noZero.ScaleToZero = false
	list := []*scenario{
		{name: "External AverageValue", steady: true, metrics: []string{"External AverageValue"}},
		{name: "External Value", metrics: []string{"External Value"}, chaos: 1, start: 2 * time.Minute, load: 3 * time.Minute},
		{name: "Object AverageValue", metrics: []string{"Object AverageValue"}, chaos: 0.3},
		{name: "Object Value", metrics: []string{"Object Value"}, chaos: 0.5, vanish: 0.002, load: 2 * time.Minute},
		{name: "Pods, calm", steady: true, metrics: []string{"Pods AverageValue"}, even: true},
		{name: "Pods, wild", metrics: []string{"Pods AverageValue"}, chaos: 2, vanish: 0.002, start: 5 * time.Minute, load: 5 * time.Minute, strangers: 0.05},
		{name: "CPU utilization, calm", steady: true, metrics: []string{"Resource Utilization cpu"}, start: time.Minute, load: 2 * time.Minute},
		{name: "CPU utilization, wild", metrics: []string{"Resource Utilization cpu"}, chaos: 2, start: 5 * time.Minute, load: 9 * time.Minute, strangers: 0.05, podLevel: true},
		{name: "CPU value, other flags", metrics: []string{"Resource AverageValue cpu"}, cfg: windows, chaos: 1, start: 2 * time.Minute, load: 4 * time.Minute, strangers: 0.02},
		{name: "memory utilization", metrics: []string{"Resource Utilization memory"}, chaos: 1, start: 2 * time.Minute, load: 4 * time.Minute, podLevel: true},
		{name: "memory value", metrics: []string{"Resource AverageValue memory"}, chaos: 1, start: time.Minute},
		{name: "container CPU utilization", metrics: []string{"ContainerResource Utilization cpu"}, chaos: 1, start: 2 * time.Minute, load: 4 * time.Minute, strangers: 0.02},
		{name: "container memory value", metrics: []string{"ContainerResource AverageValue memory"}, chaos: 1, start: 2 * time.Minute},
		{name: "container CPU value", metrics: []string{"ContainerResource AverageValue cpu"}, chaos: 2, start: 5 * time.Minute, load: 9 * time.Minute},
		{name: "container, failing", metrics: []string{"ContainerResource Utilization memory"}, fail: 0.005, noRequest: 0.02, behavior: "either"},
		{name: "requests missing", metrics: []string{"Resource Utilization cpu"}, noRequest: 0.03, chaos: 1, start: time.Minute, strangers: 0.1, byHand: 0.005},
		{name: "no metric stated", steady: true, chaos: 0.5, start: time.Minute, load: time.Minute},
		{name: "several, failing", metrics: []string{"External AverageValue", "Pods AverageValue", "Object Value"}, fail: 0.01, chaos: 1, start: time.Minute},
		{name: "several, all types", metrics: []string{"Resource Utilization cpu", "ContainerResource AverageValue cpu", "Pods AverageValue", "Object AverageValue", "External Value"}, fail: 0.01, chaos: 1, start: 3 * time.Minute, load: 3 * time.Minute, behavior: "either", strangers: 0.02},
		{name: "several, a target amiss", metrics: []string{"Object Mismatched", "External AverageValue"}, fail: 0.005, invalid: true},
		{name: "negative values", metrics: []string{"External AverageValue", "Object Value", "External Value", "Pods AverageValue"}, negative: true, noise: 2, least: zeroOrMore},
		{name: "overflowing values", metrics: []string{"External AverageValue", "External Value"}, huge: 0.02, behavior: "either"},
		{name: "overflowing objects", metrics: []string{"Object AverageValue", "Object Value"}, huge: 0.02, chaos: 0.5},
		{name: "overflowing pods", metrics: []string{"Pods AverageValue", "Resource Utilization cpu"}, huge: 0.01, chaos: 0.5, start: time.Minute},
		{name: "behavior, empty", metrics: []string{"External AverageValue"}, behavior: "partial", cfg: windows},
		{name: "behavior, partial", metrics: []string{"Pods AverageValue"}, behavior: "partial", chaos: 0.5, start: time.Minute},
		{name: "behavior, random 1", metrics: []string{"External AverageValue"}, behavior: "random"},
		{name: "behavior, random 2", metrics: []string{"External AverageValue"}, behavior: "random", pace: 24, most: 40},
		{name: "behavior, fixed", steady: true, metrics: []string{"External AverageValue"}, behavior: "random", pace: 24, updateErr: 0.01, byHand: 0.002},
		{name: "behavior, CPU", metrics: []string{"Resource Utilization cpu"}, behavior: "random", chaos: 1, start: 2 * time.Minute, load: 3 * time.Minute},
		{name: "behavior or none", metrics: []string{"External AverageValue", "Pods AverageValue"}, behavior: "either", fail: 0.002, byHand: 0.002},
		{name: "limits, by hand", metrics: []string{"External AverageValue"}, byHand: 0.02, behavior: "either", scaleErr: 0.02, updateErr: 0.05},
		{name: "selectors", metrics: []string{"External Value"}, second: true, selectorErr: 0.02, byHand: 0.01},
		{name: "to zero, External", steady: true, metrics: []string{"External AverageValue"}, least: zero, calm: 0.002, pace: 4},
		{name: "to zero, Value", metrics: []string{"External Value", "Object Value"}, least: zeroOrMore, calm: 0.002, behavior: "either"},
		{name: "to zero, with Pods", metrics: []string{"Pods AverageValue", "Object AverageValue"}, least: zeroOrMore, calm: 0.002, behavior: "either", start: time.Minute, byHand: 0.002},
		{name: "to zero, min raised", metrics: []string{"External AverageValue"}, least: zeroOrMore, calm: 0.01, pace: 4},
		{name: "to zero, min raised, behavior", metrics: []string{"External AverageValue"}, least: zeroOrMore, behavior: "random", calm: 0.05, pace: 4},
		{name: "to zero, gate off", steady: true, metrics: []string{"External AverageValue"}, least: zero, calm: 0.005, cfg: noZero, zeroAtFirst: true, byHand: 0.01, invalid: true},
		{name: "at zero, marked, only Pods", metrics: []string{"Pods AverageValue"}, zeroAtFirst: true, byHand: 0.01, least: zeroOrMore, invalid: true},
	}
	for _, s := range list {
		s.fill()
	}
	return list
}

func (s *scenario) fill() {
	if s.cfg == (hpa.Config{}) {
		s.cfg = hpa.DefaultConfig()
	}
	if s.most == 0 {
		s.most = 12
	}
	if s.pace == 0 {
		s.pace = 1
	}
	if s.noise == 0 {
		s.noise = 0.1
	}
	if s.bursts == 0 {
		s.bursts = 0.01
	}
	if s.edges == 0 {
		s.edges = 0.1
	}
	if !s.zeroAtFirst {
		s.replicas = 2
	}
}
