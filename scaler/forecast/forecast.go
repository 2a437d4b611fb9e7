// Package forecast says what the demand of one inference service will be a few minutes from now, with quantiles, and how far
// that may be trusted.
//
// Demand is a series on a grid of steps. It is modelled as z = log(1 + demand/scale), where what multiplies demand adds up: a season
// keeps its shape when traffic doubles, and errors grow with the level. Six forecasters run side by side, at every horizon:
//
//   - last value, the baseline
//   - damped trend (Gardner and McKenzie, "Forecasting trends in time series", 1985)
//   - seasonal naive: the value one season ago
//   - seasonal: the recent level, plus the median over past seasons of the change from the level then
//   - regression: ridge regression on recent levels and on each season's change, refitted as data comes
//   - combination: their mean, weighted by recent errors
//
// Each carries its own empirical error quantiles, scaled by how large errors are to be expected (at this level, at this time of the
// season, of late), and each is scored live: what it said is compared with what came, by the mean pinball loss over the quantiles
// 0.5, 0.75, 0.9, 0.95 and 0.99. A forecaster is in use at a horizon only while it beats last value there; see switching in score.go.
//
// A Model is not safe for concurrent use. It has no clock and no randomness: the same calls give the same answers.
package forecast

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Options say what a Model is for; zero values stand for the defaults.
type Options struct {
	Step     time.Duration   // the grid of the series; 1m
	History  time.Duration   // what is kept; 40,320 steps, which are 28 days at 1m
	Horizons []time.Duration // lead times at which forecasts are scored; 1, 3, 5 and 10 steps
}

// The defaults, in steps, and the limits that keep a mistyped option from taking all memory.
const (
	defaultHistory = 40320
	maxHistory     = 1 << 22
	maxHorizons    = 16
	warmUp         = 30 // observations before the first forecast
)

// Model holds the recent history of one service's demand and what was learnt from it.
type Model struct {
	step     time.Duration
	origin   time.Time // the time of index 0, the first observation
	horizons []int     // in steps, rising
	series   series
	seasons  []Season
	learners []learner // one for each horizon
	warm     bool      // scale is known: series holds z, not demand itself
	raw      rawSums   // until then
	replay   bool      // learners are trained on history: nothing is scored
	examine  int       // the index at which seasons are looked for again
	jump     jump
	cache    cache
}

// rawSums is what warming up counts.
type rawSums struct {
	count int
	sum   float64
}

// New returns a model without observations.
func New(o Options) (*Model, error) {
	if o.Step == 0 {
		o.Step = time.Minute
	}
	if o.Step < 0 {
		return nil, fmt.Errorf("cannot make a forecast model: step %v is negative", o.Step)
	}
	if o.History == 0 {
		o.History = defaultHistory * o.Step
	}
	if len(o.Horizons) == 0 {
		o.Horizons = []time.Duration{o.Step, 3 * o.Step, 5 * o.Step, 10 * o.Step}
	}
	steps := int(o.History / o.Step)
	if steps > maxHistory {
		return nil, fmt.Errorf("cannot make a forecast model: history %v is %d steps of %v, more than %d", o.History, steps, o.Step, maxHistory)
	}
	if len(o.Horizons) > maxHorizons {
		return nil, fmt.Errorf("cannot make a forecast model: %d horizons, more than %d", len(o.Horizons), maxHorizons)
	}
	m := &Model{step: o.Step}
	for _, h := range o.Horizons {
		if h < o.Step {
			return nil, fmt.Errorf("cannot make a forecast model: horizon %v is shorter than the step %v", h, o.Step)
		}
		m.horizons = append(m.horizons, int((h+o.Step/2)/o.Step))
	}
	slices.Sort(m.horizons)
	m.horizons = slices.Compact(m.horizons)
	far := m.horizons[len(m.horizons)-1]
	if steps < 4*far || steps < 2*warmUp {
		return nil, fmt.Errorf("cannot make a forecast model: history %v is too short for horizon %v at step %v: it takes at least %v",
			o.History, time.Duration(far)*o.Step, o.Step, time.Duration(max(4*far, 2*warmUp))*o.Step)
	}
	m.series = newSeries(steps, far)
	m.cache.entries = make([]entry, 2*far+2)
	m.reset()
	return m, nil
}

// reset forgets everything but the options.
func (m *Model) reset() {
	m.series.clear()
	m.seasons, m.warm, m.raw, m.jump = nil, false, rawSums{}, jump{}
	m.learners = make([]learner, len(m.horizons))
	edges := binEdges()
	for i, h := range m.horizons {
		m.learners[i] = newLearner(h, &edges)
	}
	m.cache.valid = false
}

// far is the longest horizon in steps.
func (m *Model) far() int { return m.horizons[len(m.horizons)-1] }

// timeOf is when the step of an index ends.
func (m *Model) timeOf(index int) time.Time { return m.origin.Add(time.Duration(index) * m.step) }

var errValue = errors.New("demand is a finite number, 0 or above")

// Observe adds the mean demand of the step that ends at the time given, which is rounded to the grid that the first observation
// started. NaN is a gap, and so are steps left out. A gap as long as the history makes a new beginning. After an error the model is
// as it was.
func (m *Model) Observe(at time.Time, value float64) error {
	if value < 0 || math.IsInf(value, 0) {
		return fmt.Errorf("cannot observe %v at %v: %w", value, at, errValue)
	}
	if m.series.head < 0 {
		m.origin = at
		m.advance(value)
		return nil
	}
	head := m.timeOf(m.series.head)
	since := at.Sub(head)
	if !at.After(head) || since < m.step/2 {
		return fmt.Errorf("cannot observe at %v: the observation at %v was not before that step of %v", at, head, m.step)
	}
	steps := (since-m.step/2)/m.step + 1 // rounds, without overflow at the largest durations
	if steps > time.Duration(m.series.steps) {
		m.reset()
		m.origin = at
		m.advance(value)
		return nil
	}
	for range steps - 1 {
		m.advance(math.NaN())
	}
	m.advance(value)
	return nil
}

// advance adds the next step, NaN for a gap.
func (m *Model) advance(value float64) {
	m.cache.valid = false
	if !m.warm {
		m.warmUp(value)
		return
	}
	z := m.series.toZ(value)
	if !math.IsNaN(z) {
		m.series.observations++
	}
	m.series.append(z)
	m.learn(m.series.head)
	m.followJump()
	if m.series.head >= m.examine {
		m.reexamine()
	}
}

// warmUp keeps demand itself until its scale can be told.
func (m *Model) warmUp(value float64) {
	m.series.append(value)
	if math.IsNaN(value) {
		return
	}
	m.series.observations++
	m.raw.count++
	m.raw.sum += value
	// Scales below that of normal numbers would make a division overflow.
	if mean := m.raw.sum / float64(m.raw.count); m.raw.count >= warmUp && mean > 1e-300 && !math.IsInf(mean, 0) {
		m.series.begin(mean * scaleShare)
		m.warm = true
		m.examine = m.series.head + m.patience()
		m.rebuild()
	}
}

// patience is how many steps go by until seasons are looked for again: a sixth of what there is, so that a season is found when
// little more than the cycles it takes are there and all the looking of a month costs as much as seven looks at its end.
func (m *Model) patience() int { return max(warmUp, min(m.series.head+1, m.series.steps)/6) }

// reexamine looks for seasons and at the scale; when either has changed, everything learnt is learnt again from history.
func (m *Model) reexamine() {
	m.examine = m.series.head + m.patience()
	changed := m.series.rescale()
	found := m.series.findSeasons()
	if !sameSeasons(found, m.seasons) {
		for i := range m.learners {
			m.learners[i].forgetSeasons(m.seasons, found)
		}
		changed = true
	}
	for i := range found {
		found[i].Period = time.Duration(found[i].steps) * m.step
		found[i].name, found[i].naive = "seasonal "+found[i].Period.String(), "seasonal naive "+found[i].Period.String()
	}
	m.seasons = found
	if changed {
		m.rebuild()
	}
}

// trainSteps is how much history is learnt again: three days at 1m. On the traces of bench/forecast a week was no better, and twice the
// work.
const trainSteps = 4320

// rebuild trains the learners anew, at each step on what was known then. What was scored before stays; nothing is scored now, since a
// season was chosen because it fits this very history.
func (m *Model) rebuild() {
	for i := range m.learners {
		m.learners[i].forget()
	}
	m.replay = true
	for t := max(m.series.oldest(), m.series.head-trainSteps); t <= m.series.head; t++ {
		m.learn(t)
	}
	m.replay = false
}

// learn settles the forecasts made for step t and makes those that start from it.
func (m *Model) learn(t int) {
	for i := range m.learners {
		m.learners[i].settle(&m.series, t, m.replay)
		m.learners[i].predict(m, t)
	}
}

// Seasons returns the periods found in the data, each in what those before it leave.
func (m *Model) Seasons() []Season {
	return slices.Clone(m.seasons)
}
