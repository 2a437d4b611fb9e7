// Package policy reads a ScalePolicy's spec in the scaler's terms, for the controller that follows it and the backtest that tries it.
package policy

import (
	"errors"
	"fmt"
	"time"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler"
)

// Error is why a policy cannot be followed: the reason and the message of its condition.
type Error struct {
	Reason string
	Field  string // of the policy; "" where no field is to blame
	Err    error
}

func (p *Error) Error() string {
	if p.Field == "" {
		return p.Err.Error()
	}
	return p.Field + ": " + p.Err.Error()
}

// Unwrap returns the cause.
func (p *Error) Unwrap() error { return p.Err }

// Invalid is an Error of a spec that makes no sense.
func Invalid(field, format string, args ...any) error {
	return &Error{Reason: v1alpha1.ReasonInvalid, Field: field, Err: fmt.Errorf(format, args...)}
}

// InFlight is the metric of pods that is their load.
const InFlight = "requests_in_flight"

// Settings are a policy's spec in the scaler's terms.
type Settings struct {
	Config   scaler.Config // its Schedule is empty: see Schedule
	Schedule Schedule
	Metric   string // of demand, or
	Query    string
	Latency  string // the SLO's metric; "" without one
}

// Read reads a spec; its errors are Errors that name the field. What the CRD's own rules refuse is refused here as
// well: they do not run where the CRD is older.
func Read(spec *v1alpha1.ScalePolicySpec, period time.Duration) (Settings, error) {
	s := Settings{Metric: spec.Demand.Metric, Query: spec.Demand.Query}
	if s.Metric == "" && s.Query == "" {
		s.Metric = "requests_per_second"
	}
	p := &s.Config.Policy
	p.Max, p.Period, p.Min = spec.MaxReplicas, period, 1
	if spec.MinReplicas != nil {
		p.Min = *spec.MinReplicas
	}
	p.Utilization = float64(spec.UtilizationPercent) / 100
	s.Config.NoForecast = spec.Forecast.Disabled
	p.Quantile = float64(spec.Forecast.QuantilePercent) / 100
	p.Concurrency = s.Metric == InFlight
	if c := spec.Demand.Concurrency; c != nil {
		p.Concurrency = *c
	}
	if q := spec.CapacityPerReplica; q != nil {
		if p.Capacity = q.AsApproximateFloat64(); p.Capacity <= 0 {
			return s, Invalid("spec.capacityPerReplica", "%s is not positive", q)
		}
	}
	if d := spec.StartupTime; d != nil {
		p.StartUp = d.Duration
	}
	if d := spec.ScaleDownWindow; d != nil {
		p.Window = max(d.Duration, 1) // the scaler's zero is its default
	}
	if d := spec.Forecast.Step; d != nil {
		s.Config.Step = d.Duration
		p.Period = min(p.Period, d.Duration) // or steps would have no sample
	}
	if slo := spec.SLO; slo != nil {
		s.Latency = slo.Metric
		if s.Config.LatencyTarget = slo.Target.AsApproximateFloat64(); s.Config.LatencyTarget <= 0 {
			return s, Invalid("spec.slo.target", "%s is not positive", &slo.Target)
		}
	}
	var err error
	if s.Schedule, err = parse(spec.Schedule, p.Max); err != nil {
		return s, err
	}
	return s, s.consistent()
}

// consistent says which fields contradict each other.
func (s *Settings) consistent() error {
	p := &s.Config.Policy
	switch {
	case s.Metric != "" && s.Query != "":
		return Invalid("spec.demand", "metric and query are both set")
	case p.Min > p.Max:
		return Invalid("spec.minReplicas", "%d is above maxReplicas, %d", p.Min, p.Max)
	case p.Capacity == 0 && s.Latency == "":
		return Invalid("spec.slo", "without it or capacityPerReplica nothing says how much a replica can serve")
	}
	if err := p.Validate(); err != nil {
		return Invalid("spec", "%w", err)
	}
	return nil
}

// ErrorOf is a Error, or nil.
func ErrorOf(err error) *Error {
	p, _ := errors.AsType[*Error](err)
	return p
}

// Demand is what a history is of: the metric or the query.
func (s *Settings) Demand() string {
	if s.Query != "" {
		return s.Query
	}
	return s.Metric
}

// Step is the grid of the series that forecasts rest on.
func (s *Settings) Step() time.Duration {
	if s.Config.Step == 0 {
		return time.Minute
	}
	return s.Config.Step
}
