package kube

import (
	"errors"
	"fmt"
	"time"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler"
)

// PolicyError is why a policy cannot be followed: the reason and the message of its condition.
type PolicyError struct {
	Reason string
	Field  string // of the policy; "" where no field is to blame
	Err    error
}

func (p *PolicyError) Error() string {
	if p.Field == "" {
		return p.Err.Error()
	}
	return p.Field + ": " + p.Err.Error()
}

// Unwrap returns the cause.
func (p *PolicyError) Unwrap() error { return p.Err }

func invalid(field, format string, args ...any) error {
	return &PolicyError{Reason: v1alpha1.ReasonInvalid, Field: field, Err: fmt.Errorf(format, args...)}
}

// inFlight is the metric of pods that is their load.
const inFlight = "requests_in_flight"

// settings are a policy's spec in the scaler's terms.
type settings struct {
	config   scaler.Config
	schedule schedule
	metric   string // of demand, or
	query    string
	latency  string // the SLO's metric; "" without one
}

// settingsOf reads a spec; its errors are PolicyErrors that name the field. What the CRD's own rules refuse is refused here as
// well: they do not run where the CRD is older.
func settingsOf(spec *v1alpha1.ScalePolicySpec, period time.Duration) (settings, error) {
	s := settings{metric: spec.Demand.Metric, query: spec.Demand.Query}
	if s.metric == "" && s.query == "" {
		s.metric = "requests_per_second"
	}
	p := &s.config.Policy
	p.Max, p.Period, p.Min = spec.MaxReplicas, period, 1
	if spec.MinReplicas != nil {
		p.Min = *spec.MinReplicas
	}
	p.Utilization = float64(spec.UtilizationPercent) / 100
	s.config.NoForecast = spec.Forecast.Disabled
	p.Quantile = float64(spec.Forecast.QuantilePercent) / 100
	p.Concurrency = s.metric == inFlight
	if c := spec.Demand.Concurrency; c != nil {
		p.Concurrency = *c
	}
	if q := spec.CapacityPerReplica; q != nil {
		if p.Capacity = q.AsApproximateFloat64(); p.Capacity <= 0 {
			return s, invalid("spec.capacityPerReplica", "%s is not positive", q)
		}
	}
	if d := spec.StartupTime; d != nil {
		p.StartUp = d.Duration
	}
	if d := spec.ScaleDownWindow; d != nil {
		p.Window = max(d.Duration, 1) // the scaler's zero is its default
	}
	if d := spec.Forecast.Step; d != nil {
		s.config.Step = d.Duration
		p.Period = min(p.Period, d.Duration) // or steps would have no sample
	}
	if slo := spec.SLO; slo != nil {
		s.latency = slo.Metric
		if s.config.LatencyTarget = slo.Target.AsApproximateFloat64(); s.config.LatencyTarget <= 0 {
			return s, invalid("spec.slo.target", "%s is not positive", &slo.Target)
		}
	}
	var err error
	if s.schedule, err = parseSchedule(spec.Schedule, p.Max); err != nil {
		return s, err
	}
	return s, s.consistent()
}

// consistent says which fields contradict each other.
func (s *settings) consistent() error {
	p := &s.config.Policy
	switch {
	case s.metric != "" && s.query != "":
		return invalid("spec.demand", "metric and query are both set")
	case p.Min > p.Max:
		return invalid("spec.minReplicas", "%d is above maxReplicas, %d", p.Min, p.Max)
	case p.Capacity == 0 && s.latency == "":
		return invalid("spec.slo", "without it or capacityPerReplica nothing says how much a replica can serve")
	}
	if err := p.Validate(); err != nil {
		return invalid("spec", "%w", err)
	}
	return nil
}

// problemOf is a PolicyError, or nil.
func problemOf(err error) *PolicyError {
	p, _ := errors.AsType[*PolicyError](err)
	return p
}
