package forecast

import "math"

// The forecasters. Those of a season stand for nothing until it is found.
const (
	lastValue = iota
	dampedTrend
	seasonalNaive
	seasonalFirst // one for each season
	regression    = seasonalFirst + maxSeasons
	combination   = regression + 1
	forecasters   = combination + 1
)

// solveEvery is after how many steps coefficients are computed anew.
const solveEvery = 60

// regressionMemory is in steps: several days at 1m, since a season's worth of an input shows over days.
const regressionMemory = 10080

// learner makes and scores all forecasts at one horizon.
type learner struct {
	horizon  int
	mask     int
	pending  []promise // by target
	model    ridge
	spreads  [forecasters]spread
	past     []float64 // the size of the regression's errors by step, averaged over some steps
	pastMean float64
	lastSaid float64 // the regression's point for the last step, NaN when there was none
	records  [forecasters]record
	inUse    int
	solveIn  int // steps until coefficients are computed anew
	turn     int // of spreads
}

// promise is what was said about one step.
type promise struct {
	target int // −1 when nothing was
	base   float64
	input  [featureCount]float64
	used   int
	said   [forecasters]said
}

// said is one forecaster's part.
type said struct {
	point    float64 // z; NaN when it had none
	size     float64 // of the expected error
	x        [spreadInputs]float64
	quantile [len(scored)]float64 // demand
}

func newLearner(horizon int, edges *[allBins + 1]float64) learner {
	size := 1
	for size < horizon+1 {
		size *= 2
	}
	l := learner{horizon: horizon, mask: size - 1, pending: make([]promise, size)}
	// The prior is the quick level: something between the last value and a mean.
	l.model = newRidge(featureCount, regressionMemory, 2, []float64{0, 0, 1})
	for i := range l.spreads {
		l.spreads[i] = newSpread(edges)
	}
	l.forget()
	return l
}

// forget drops what was learnt, and keeps the scores.
func (l *learner) forget() {
	l.model.clear()
	for i := range l.spreads {
		l.spreads[i].forget()
	}
	for i := range l.pending {
		l.pending[i].target = -1
	}
	clear(l.past)
	l.pastMean, l.solveIn, l.turn, l.lastSaid = 0, 0, 0, math.NaN()
}

// forgetSeasons drops the scores of forecasters whose season is another now.
func (l *learner) forgetSeasons(before, now []Season) {
	for i := range maxSeasons {
		same := i < len(before) && i < len(now) && alikePeriods(before[i].steps, now[i].steps)
		if same {
			continue
		}
		l.drop(seasonalFirst + i)
		if i == 0 {
			l.drop(seasonalNaive)
		}
	}
	if l.inUse == lastValue {
		l.choose()
	}
}

func (l *learner) drop(forecaster int) {
	l.records[forecaster] = record{}
	if l.inUse == forecaster {
		l.inUse = lastValue
	}
}

// points are what each forecaster says, NaN where it says nothing.
func (l *learner) points(m *Model, f *features) (p [forecasters]float64) {
	p[lastValue] = f.last
	p[dampedTrend] = f.trend
	p[seasonalNaive] = math.NaN()
	for i, c := range f.seasons {
		point := &p[seasonalFirst+i] //nolint:gosec // there are maxSeasons of both
		*point = math.NaN()
		if i < len(m.seasons) {
			*point = f.base + c.sharp
		}
	}
	if len(m.seasons) > 0 {
		p[seasonalNaive] = f.seasons[0].naive
	}
	p[regression] = f.base + l.model.of(f.input[:f.used])
	p[combination] = l.combine(&p)
	return p
}

// combine is the mean of the other points, weighted by the fourth power of how small their errors were: the best few count.
func (l *learner) combine(p *[forecasters]float64) float64 {
	sum, weights := 0.0, 0.0
	for i := range combination {
		s := &l.spreads[i]
		if math.IsNaN(p[i]) || s.count < warmUp {
			continue
		}
		size := s.mean + 1e-9
		w := 1 / (size * size)
		w *= w
		sum += w * p[i]
		weights += w
	}
	if weights == 0 {
		return p[lastValue]
	}
	return sum / weights
}

// predict promises what comes horizon steps after t.
func (l *learner) predict(m *Model, t int) {
	target := t + l.horizon
	p := &l.pending[target&l.mask]
	p.target = -1
	if math.IsNaN(m.series.at(t)) {
		return
	}
	p.target = target
	f := m.featuresAt(t, l.horizon)
	p.base, p.input, p.used = f.base, f.input, f.used
	points := l.points(m, &f)
	usual := l.usual(m, t, l.horizon)
	for i, point := range points {
		s := &p.said[i]
		s.point = point
		if math.IsNaN(point) {
			continue
		}
		spread := &l.spreads[i]
		s.x = spread.inputs(usual, point, f.last)
		s.size = spread.expect(&s.x)
		if target <= m.series.head {
			continue // learnt again from history: it will not be scored
		}
		for k, g := range scored {
			s.quantile[k] = m.series.toDemand(point + s.size*spread.errors.table[g])
		}
	}
}

// inputs are those of the expected size of an error.
func (s *spread) inputs(usual, point, last float64) [spreadInputs]float64 {
	if math.IsNaN(usual) {
		usual = s.mean
	}
	level := max(0, point)
	return [spreadInputs]float64{0.1, s.recent, usual, 0.1 * math.Exp(-level/2), math.Abs(point - last)}
}

// usual is how large errors were at t+lead in the last cycles of the strongest season, NaN when that is not known.
func (l *learner) usual(m *Model, t, lead int) float64 {
	if len(m.seasons) == 0 || l.past == nil {
		return math.NaN()
	}
	period := m.seasons[0].steps
	sum, n := 0.0, 0
	first := 1 + (lead+m.series.half-1)/period
	for j := first; j < first+3; j++ {
		k := t + lead + m.series.half - j*period
		if k < m.series.oldest() {
			break
		}
		if v := l.past[k&m.series.mask]; v > 0 {
			sum += v
			n++
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / float64(n)
}

// settle compares what was said about step t with what came.
func (l *learner) settle(s *series, t int, replay bool) {
	if l.past == nil {
		l.past = make([]float64, len(s.z))
	}
	p := &l.pending[t&l.mask]
	z := s.at(t)
	l.lastSaid = math.NaN()
	if p.target == t && !math.IsNaN(z) {
		l.lastSaid = p.said[regression].point
		e := z - p.said[regression].point
		l.pastMean += (math.Abs(e) - l.pastMean) / float64(s.half+1)
		l.train(p, z)
		if !replay {
			l.score(p, s.toDemand(z))
		}
		for i := range p.said {
			if q := &p.said[i]; !math.IsNaN(q.point) {
				l.spreads[i].add(&q.x, q.size, z-q.point)
			}
		}
	}
	l.past[t&s.mask] = l.pastMean
	if l.solveIn--; l.solveIn <= 0 {
		l.solveIn = solveEvery
		l.model.solve(featureCount)
		// Sizes change less than coefficients, and there are eight of them: one at a time.
		l.turn = (l.turn + 1) % forecasters
		for i := range l.spreads {
			if s := &l.spreads[i]; i == l.turn && s.count > 0 || s.count > 0 && s.count < 4*solveEvery {
				s.size.solve(spreadInputs)
			}
		}
	}
}

// train adds an observation to the regression. An error far beyond the usual counts as one just beyond it.
func (l *learner) train(p *promise, z float64) {
	q := &p.said[regression]
	e, weight := z-q.point, 1.0
	if l.spreads[regression].count > 5*warmUp {
		weight = min(4, l.spreads[regression].mean/q.size)
		limit := 6 * max(q.size, l.spreads[regression].mean)
		e = max(-limit, min(limit, e))
	}
	l.model.add(p.input[:], q.point+e-p.base, weight)
}
