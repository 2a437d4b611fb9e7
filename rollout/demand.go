package rollout

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Forecast is demand over time, as steps, in the unit of Service.Capacity.
type Forecast struct {
	// Points are in order of time; each lasts until the next, the last one for ever. A single one is a constant.
	Points []Point `json:"points,omitempty"`
	// Missing says why demand is not known; "" where it is.
	Missing string `json:"missing,omitempty"`
}

// Point is demand from a moment on.
type Point struct {
	At    time.Time `json:"at"`
	Value float64   `json:"value"`
}

// Constant is the forecast of a demand that does not change.
func Constant(value float64) Forecast { return Forecast{Points: []Point{{Value: value}}} }

// validate names the first point that makes no sense.
func (f Forecast) validate() error {
	if f.Missing != "" {
		return nil
	}
	if len(f.Points) == 0 {
		return errors.New("the demand has no points: say why it is missing, or give at least one")
	}
	for i, p := range f.Points {
		if !(p.Value >= 0) || math.IsInf(p.Value, 0) {
			return fmt.Errorf("demand.points[%d] is %v: it must be a number of at least 0", i, p.Value)
		}
		if i > 0 && !p.At.After(f.Points[i-1].At) {
			return fmt.Errorf("demand.points[%d] is at %s, not after the one before it", i, p.At.Format(time.RFC3339))
		}
	}
	return nil
}

// At is the demand at a moment; before the first point it is the first point's.
func (f Forecast) At(t time.Time) float64 {
	if len(f.Points) == 0 {
		return math.NaN()
	}
	v := f.Points[0].Value
	for _, p := range f.Points {
		if p.At.After(t) {
			break
		}
		v = p.Value
	}
	return v
}

// Peak is the largest demand from a moment to another, both included; NaN where none is known.
func (f Forecast) Peak(from, to time.Time) float64 {
	peak := f.At(from)
	for _, p := range f.Points {
		if p.At.After(from) && !p.At.After(to) {
			peak = max(peak, p.Value)
		}
	}
	return peak
}

// replicasFor is the number of replicas that serve a demand. A billionth of a replica is rounding, not demand.
func replicasFor(demand, capacity float64) int {
	return int(math.Ceil(demand/capacity - 1e-9))
}

// needed is the number of replicas for the largest demand from the request's now until a duration later. Where demand is
// unknown, every replica is needed.
func (r *Request) needed(within time.Duration) int {
	if r.Demand.Missing != "" {
		return r.Service.Replicas
	}
	return replicasFor(r.Demand.Peak(r.Now, r.Now.Add(within)), r.Service.Capacity)
}
