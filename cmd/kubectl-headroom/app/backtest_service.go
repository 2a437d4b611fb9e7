package app

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler"
	"headroom.dev/headroom/scaler/hpa"
	hpakube "headroom.dev/headroom/scaler/hpa/kube"
	"headroom.dev/headroom/scaler/policy"
	"headroom.dev/headroom/scaler/simulate"
)

// usualUtilization is the share of a replica's capacity that an HPA is given as its target where nobody says another.
const usualUtilization = 0.7

// service is what the policies are told.
type service struct {
	hpa    hpa.Autoscaler
	scaler scaler.Config
	notes  []string
}

// service reads the manifests. What they say of the replicas' bounds goes into the plant.
func (b *backtest) service(m *manifests, plant *simulate.Plant, trace *simulate.Trace) (*service, error) {
	s := &service{}
	var err error
	if m.hpa != nil {
		if s.hpa, err = readHPA(m.hpa); err != nil {
			return nil, fmt.Errorf("-f: %s: %w", m.hpaFrom, err)
		}
	}
	if m.policy != nil {
		if err = s.readPolicy(&m.policy.Spec, trace); err != nil {
			return nil, fmt.Errorf("-f: %s: %w", m.policyFrom, err)
		}
	}
	least, most := b.bounds(m, s)
	plant.Min, plant.Max = least, most
	if m.hpa == nil {
		s.hpa = b.plainHPA(plant)
		s.hpa.Default()
		if b.target == 0 && !b.tune {
			s.notes = append(s.notes, fmt.Sprintf("no manifest says the HPA's target, so it is %.0f%% of what a replica can do: --target, -f and --tune are other ways", usualUtilization*100))
		}
	}
	p := &s.scaler.Policy
	if m.policy == nil {
		p.Min, p.Max = least, most
	}
	if b.plant.capacity > 0 {
		p.Capacity = b.plant.capacity
	}
	*p = p.WithDefaults() // tables show them
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("cannot use what the manifests and flags say of the scaler: %w", err)
	}
	return s, nil
}

// bounds are the widest of the manifests'; flags count where no manifest says anything.
func (b *backtest) bounds(m *manifests, s *service) (least, most int32) {
	least, most = b.plant.min, b.plant.max
	if m.hpa != nil {
		least, most = *s.hpa.Min, s.hpa.Max
	}
	if m.policy != nil {
		p := s.scaler.Policy
		if m.hpa == nil {
			return p.Min, p.Max
		}
		least, most = min(least, p.Min), max(most, p.Max)
	}
	return least, most
}

// plainHPA has one metric of pods and no behavior.
func (b *backtest) plainHPA(plant *simulate.Plant) hpa.Autoscaler {
	target := b.target
	if target == 0 {
		target = usualUtilization * plant.Capacity()
		switch b.metric {
		case "requests_in_flight":
			target = usualUtilization * float64(plant.Slots)
		case "gpu_utilization_percent", "kv_cache_usage_percent":
			target = usualUtilization * 100
		case "requests_waiting":
			target = 1
		}
	}
	least := plant.Min
	return hpa.Autoscaler{Min: &least, Max: plant.Max, Metrics: []hpa.Metric{{
		Source: hpa.Pods, Name: b.metric, Kind: hpa.AverageValue, Target: max(int64(math.Round(target*1000)), 1),
	}}}
}

// readHPA refuses what the API server would, and what the plant cannot measure. Errors begin with the field.
func readHPA(h *autoscalingv2.HorizontalPodAutoscaler) (hpa.Autoscaler, error) {
	if len(h.Spec.Metrics) == 0 {
		return hpa.Autoscaler{}, fmt.Errorf("spec.metrics: is empty, which the API server makes 80%% of the CPU request; the plant has no CPU, but %s",
			strings.Join(simulate.Measured(), ", "))
	}
	for i := range h.Spec.Metrics {
		if err := checkMetric(&h.Spec.Metrics[i]); err != nil {
			return hpa.Autoscaler{}, fmt.Errorf("spec.metrics[%d].%w", i, err)
		}
	}
	a := hpakube.Autoscaler(&h.Spec)
	a.Default()
	cfg := hpa.DefaultConfig()
	return a, a.Validate(&cfg)
}

// checkMetric finds metrics that the plant does not have.
func checkMetric(m *autoscalingv2.MetricSpec) error {
	var field, name string
	switch {
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		field, name = "pods", m.Pods.Metric.Name
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		field, name = "object", m.Object.Metric.Name
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		field, name = "external", m.External.Metric.Name
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		return fmt.Errorf("resource.name: the plant has no %s; it has %s", m.Resource.Name, strings.Join(simulate.Measured(), ", "))
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		return fmt.Errorf("containerResource.name: the plant has no %s; it has %s", m.ContainerResource.Name, strings.Join(simulate.Measured(), ", "))
	default:
		return fmt.Errorf("type: is %q, and there is no source of that type beside it", m.Type)
	}
	if !slices.Contains(simulate.Measured(), name) {
		return fmt.Errorf("%s.metric.name: the plant has no %s; it has %s", field, name, strings.Join(simulate.Measured(), ", "))
	}
	return nil
}

// controllerPeriod is how often the controller looks, by default.
const controllerPeriod = 15 * time.Second

// readPolicy reads a ScalePolicy as the controller does. Errors begin with the field.
func (s *service) readPolicy(spec *v1alpha1.ScalePolicySpec, trace *simulate.Trace) error {
	read, err := policy.Read(spec, controllerPeriod)
	if err != nil {
		return err
	}
	if m := read.Metric; m != "" && m != "requests_per_second" && m != policy.InFlight {
		return fmt.Errorf("spec.demand.metric: the plant has no %s that adds up; it has requests_per_second, requests_in_flight", m)
	}
	s.scaler = read.Config
	s.scaler.LatencyTarget = 0
	s.scaler.Policy.Schedule = read.Schedule.Floors(trace.Start, trace.Start.Add(trace.Duration()))
	if read.Query != "" {
		s.notes = append(s.notes, "spec.demand.query is taken to be the trace's requests per second")
	}
	if read.Latency != "" && s.scaler.Policy.Capacity == 0 {
		s.notes = append(s.notes, fmt.Sprintf("spec.slo: the plant has no %s; capacity is learnt from requests that wait", read.Latency))
	}
	if len(read.Schedule) > 0 && trace.Start.Year() == 1970 {
		s.notes = append(s.notes, "spec.schedule: the trace's times count from its beginning, which is taken to be Thursday, 1 January 1970, 00:00 UTC")
	}
	return nil
}
