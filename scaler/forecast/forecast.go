// Package forecast forecasts the demand of a service, with quantiles.
package forecast

import (
	"errors"
	"time"
)

// Options shape a Model.
type Options struct {
	Step     time.Duration
	History  time.Duration
	Horizons []time.Duration
}

// Model forecasts one series.
type Model struct {
	last float64
	at   time.Time
}

// New makes a model.
func New(o Options) (*Model, error) {
	if o.Step < 0 {
		return nil, errors.New("step is negative")
	}
	return &Model{}, nil
}

// Observe adds the mean demand of the step that ends at at.
func (m *Model) Observe(at time.Time, value float64) error {
	m.at, m.last = at, value
	return nil
}

// Forecast is for demand at now+horizon.
func (m *Model) Forecast(_ time.Time, horizon time.Duration) Forecast {
	return Forecast{Horizon: horizon, Method: "last value", Valid: !m.at.IsZero(), value: m.last}
}

// Skill returns nothing yet.
func (m *Model) Skill() []Skill { return nil }

// Skill is how a forecaster did.
type Skill struct {
	Horizon  time.Duration
	Method   string
	Loss     float64
	Baseline float64
	Score    float64
	Samples  int
	InUse    bool
}

// Forecast is a forecast.
type Forecast struct {
	Horizon time.Duration
	Method  string
	Skilful bool
	Score   float64
	Samples int
	Valid   bool
	Reason  string
	value   float64
}

// Quantile is the demand that is not exceeded with probability p.
func (f Forecast) Quantile(float64) float64 { return f.value }
