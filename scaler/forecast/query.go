package forecast

import (
	"fmt"
	"math"
	"time"
)

// Forecast is what demand will be at one time.
type Forecast struct {
	Horizon time.Duration // from now, as asked
	Method  string        // the forecaster in use: "last value", "damped trend", "seasonal 24h0m0s", "seasonal naive 24h0m0s", "regression", "combination"
	Skilful bool          // it beats last value at this horizon at present; where not, the values are last value's and no floor
	Score   float64       // 1 − loss/loss of last value over the recent past; NaN while unknown
	Samples int           // scored forecasts behind Score, faded
	Valid   bool
	Reason  string // why it is not valid
	values  [gridSize]float64
}

// Quantile returns the demand that is not exceeded with probability p: ≥ 0, rising with p, and NaN while the forecast is not valid or
// p is no probability. Below 0.01 and above 0.999 it is the quantile there, as errors seen tell no more.
func (f Forecast) Quantile(p float64) float64 {
	if !f.Valid || math.IsNaN(p) || p < 0 || p > 1 {
		return math.NaN()
	}
	if p <= grid[0] {
		return f.values[0]
	}
	for i := 1; i < gridSize; i++ {
		if p <= grid[i] {
			part := (p - grid[i-1]) / (grid[i] - grid[i-1])
			return f.values[i-1] + part*(f.values[i]-f.values[i-1])
		}
	}
	return f.values[gridSize-1]
}

// cache keeps the answers at whole leads between observations.
type cache struct {
	valid   bool
	round   int // entries of other rounds are void
	entries []entry
	reasons reasons
}

type entry struct {
	round  int
	values [gridSize]float64
}

// reasons keeps texts, so that asking again for a forecast that is not there allocates nothing.
type reasons struct {
	age  time.Duration
	text string
}

// Forecast says what demand will be at now+horizon. Its lead, the time from the last observation, is what errors depend on: leads
// below the first of Options.Horizons have that one's errors, those beyond the last have errors that grow with the square root of the
// lead. It is not valid before 30 observations and 30 scored steps, once the last observation is older than the last horizon, and for
// leads beyond twice the last horizon.
func (m *Model) Forecast(now time.Time, horizon time.Duration) Forecast {
	f := Forecast{Horizon: horizon, Method: "last value", Score: math.NaN()}
	if reason := m.unable(now, horizon); reason != "" {
		f.Reason = reason
		return f
	}
	lead := float64(now.Add(horizon).Sub(m.timeOf(m.series.last))) / float64(m.step)
	lead = max(lead, 0)
	whole := int(lead)
	above := m.learnerFor(int(math.Ceil(lead)))
	l := &m.learners[above]
	r := &l.records[l.inUse]
	f.Method, f.Skilful, f.Score, f.Samples = m.method(l.inUse), l.inUse != lastValue, r.score(), int(r.weight)
	f.Valid = true
	f.values = *m.quantilesAt(whole)
	if part := lead - float64(whole); part > 0 {
		next := m.quantilesAt(whole + 1)
		for i := range f.values {
			f.values[i] += part * (next[i] - f.values[i])
		}
	}
	return f
}

// unable says why there is no forecast, "" when there is one.
func (m *Model) unable(now time.Time, horizon time.Duration) string {
	far := time.Duration(m.far()) * m.step
	switch {
	case m.series.last < 0:
		return "no observation"
	case horizon < 0:
		return "the horizon is negative"
	}
	age := now.Sub(m.timeOf(m.series.last))
	if age > far {
		if r := &m.cache.reasons; r.text == "" || r.age != age {
			r.age, r.text = age, fmt.Sprintf("no observation for %v", age)
		}
		return m.cache.reasons.text
	}
	switch {
	case age < -m.step:
		return "now is before the last observation"
	case horizon > 2*far-age:
		return "no forecasts are made further than twice the last of Options.Horizons"
	case m.series.observations < warmUp:
		return fmt.Sprintf("%d of %d observations", m.series.observations, warmUp)
	case !m.warm:
		return "no demand above 0 seen"
	}
	for i := range m.learners {
		if n := m.learners[i].spreads[lastValue].count; n < warmUp {
			return fmt.Sprintf("%d of %d forecasts scored %v ahead", n, warmUp, time.Duration(m.learners[i].horizon)*m.step)
		}
	}
	return ""
}

// learnerFor is the place of the first horizon at or above a lead, else of the last.
func (m *Model) learnerFor(lead int) int {
	for i, h := range m.horizons {
		if h >= lead {
			return i
		}
	}
	return len(m.horizons) - 1
}

// quantilesAt are the quantiles of demand at a whole lead, from the cache.
func (m *Model) quantilesAt(lead int) *[gridSize]float64 {
	if !m.cache.valid {
		m.cache.valid = true
		m.cache.round++
	}
	lead = max(1, min(lead, len(m.cache.entries)-1)) // the step that has begun is as uncertain as one step ahead
	e := &m.cache.entries[lead]
	if e.round != m.cache.round {
		e.round = m.cache.round
		m.compute(lead, &e.values)
	}
	return &e.values
}

// compute makes the forecast for a lead: the point for this very step, so that a burst between two horizons is seen, with the
// coefficients and error sizes interpolated between them.
func (m *Model) compute(lead int, values *[gridSize]float64) {
	t := m.series.last
	above := m.learnerFor(lead)
	hi := &m.learners[above]
	f := m.featuresAt(t, lead)
	point, size := m.pointAt(hi, hi.inUse, &f, t, lead)
	if above > 0 && lead < hi.horizon {
		lo := &m.learners[above-1]
		part := float64(lead-lo.horizon) / float64(hi.horizon-lo.horizon)
		p, s := m.pointAt(lo, hi.inUse, &f, t, lead)
		if !math.IsNaN(p) {
			point, size = p+part*(point-p), s+part*(size-s)
		}
	}
	if lead > hi.horizon {
		size *= math.Sqrt(float64(lead) / float64(hi.horizon))
	}
	for i, u := range hi.spreads[hi.inUse].errors.table {
		values[i] = m.series.toDemand(point + size*u)
	}
}

// pointAt is one forecaster's point, and the size of its error, with what a learner knows.
func (m *Model) pointAt(l *learner, forecaster int, f *features, t, lead int) (point, size float64) {
	points := l.points(m, f)
	point = points[forecaster]
	if math.IsNaN(point) {
		point = f.last
	}
	s := &l.spreads[forecaster]
	x := s.inputs(l.usual(m, t, lead), point, f.last)
	return point, s.expect(&x)
}

// jump finds a change of level that the averages would take long to follow.
type jump struct {
	run  int
	side bool
	sum  float64
}

// A jump is jumpRun steps in a row whose errors one horizon ahead are on the same side and jumpSize times the mean size.
const (
	jumpRun  = 3
	jumpSize = 5
)

// followJump moves the averages to the new level once a change is plain.
func (m *Model) followJump() {
	t := m.series.head
	l := &m.learners[0]
	s := &l.spreads[regression]
	z := m.series.at(t)
	if math.IsNaN(z) || s.count < warmUp {
		return
	}
	e := z - l.lastSaid
	if math.IsNaN(l.lastSaid) || math.Abs(e) < jumpSize*s.mean {
		m.jump = jump{}
		return
	}
	if side := e > 0; m.jump.run == 0 || side != m.jump.side {
		m.jump = jump{side: side}
	}
	m.jump.run++
	m.jump.sum += z
	if m.jump.run == jumpRun {
		m.series.shift(m.jump.sum / jumpRun)
		m.jump = jump{}
	}
}
