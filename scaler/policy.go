package scaler

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// WithDefaults returns the policy with what is unset as documented.
func (p Policy) WithDefaults() Policy {
	if p.Min == 0 {
		p.Min = 1
	}
	if p.Utilization == 0 {
		p.Utilization = 0.9
	}
	if p.Quantile == 0 {
		p.Quantile = 0.95
	}
	if p.Drain == 0 {
		p.Drain = 30 * time.Second
	}
	if p.Window == 0 {
		p.Window = 5 * time.Minute
	}
	if p.Period == 0 {
		p.Period = 15 * time.Second
	}
	return p
}

// Validate returns an error that names the first field that makes no sense.
func (p Policy) Validate() error {
	p = p.WithDefaults()
	switch {
	case p.Min < 0 || p.Max < 1:
		return fmt.Errorf("min is %d and max is %d: they must be at least 0 and 1", p.Min, p.Max)
	case p.Min > p.Max:
		return fmt.Errorf("min (%d) is above max (%d)", p.Min, p.Max)
	case p.Capacity < 0 || math.IsNaN(p.Capacity) || math.IsInf(p.Capacity, 0):
		return fmt.Errorf("capacity is %v: it must be a positive number, or 0 to be learnt", p.Capacity)
	case p.StartUp < 0:
		return fmt.Errorf("start-up is %s: it must not be negative", p.StartUp)
	case !(p.Utilization > 0 && p.Utilization <= 1):
		return fmt.Errorf("utilization is %v: it must be above 0 and at most 1", p.Utilization)
	case !(p.Quantile >= 0.5 && p.Quantile < 1):
		return fmt.Errorf("quantile is %v: it must be at least 0.5 and below 1", p.Quantile)
	case min(p.Drain, p.Window, p.Period) < 0:
		return fmt.Errorf("drain (%s), window (%s) and period (%s) must not be negative", p.Drain, p.Window, p.Period)
	}
	for i, f := range p.Schedule {
		if err := f.validate(p.Max); err != nil {
			return fmt.Errorf("schedule[%d] (%s) %w", i, f.Name, err)
		}
	}
	return nil
}

func (f Floor) validate(most int32) error {
	if f.Replicas < 0 || f.Replicas > most {
		return fmt.Errorf("wants %d replicas: they must be within 0 and max (%d)", f.Replicas, most)
	}
	if !f.End.After(f.Start) {
		return errors.New("ends before it starts")
	}
	return nil
}
