package forecast

import "math"

// scaleShare times mean demand is the scale: demand far above it is modelled in ratios, demand far below it in differences, so that
// noise about zero is not blown up.
const scaleShare = 1

// ceiling is a factor of e.
const ceiling = 1

// levels are the time constants of the moving averages, in longest horizons.
var levels = [...]float64{0.3, 1, 4, 16} //nolint:gochecknoglobals // a constant in all but name

// The moving averages by name.
const (
	quick = iota
	middle
	slow
	slower
	levelCount
)

// series is a ring of z with its moving averages. Indices count steps since the first observation and are never negative.
type series struct {
	steps        int // how many are kept
	mask         int
	head         int // the last index, −1 before the first
	last         int // the last index that is no gap, −1 before the first
	observations int
	scale        float64
	half         int // half the width of smooth's window

	z      []float64             // NaN is a gap
	smooth []float64             // the centred mean over 2·half+1 steps
	gain   []float64             // by how much z changes when demand at the slow level changes by a factor of e: 1 − exp(−level)
	level  [levelCount][]float64 // exponentially weighted, carried on through gaps
	now    [levelCount]float64
	rate   [levelCount]float64
	seen   float64    // observations since the averages began
	peak   float64    // the largest z kept, or that was kept at the last look at seasons
	found  []int      // periods found the last time
	trend  []trending // damped trend
}

// trending is the state of Holt's method.
type trending struct{ level, slope float64 }

// newSeries makes room for steps values; far is the longest horizon.
func newSeries(steps, far int) series {
	size := 1
	for size < steps+1 {
		size *= 2
	}
	s := series{steps: steps, mask: size - 1, half: max(1, int(0.2*float64(far)))}
	s.z, s.smooth, s.trend = make([]float64, size), make([]float64, size), make([]trending, size)
	s.gain = make([]float64, size)
	for i := range s.level {
		s.level[i] = make([]float64, size)
		s.rate[i] = 1 / max(1, levels[i]*float64(far))
	}
	s.clear()
	return s
}

func (s *series) clear() {
	s.head, s.last, s.observations, s.scale = -1, -1, 0, math.NaN()
	s.found = nil
	s.restart()
}

// restart makes the averages begin anew.
func (s *series) restart() {
	s.peak = 0
	s.now, s.seen = [levelCount]float64{}, 0
}

// oldest is the first index kept.
func (s *series) oldest() int { return max(0, s.head-s.steps+1) }

// at returns z at an index, NaN where it is a gap or not kept.
func (s *series) at(index int) float64 {
	if index < s.oldest() || index > s.head {
		return math.NaN()
	}
	return s.z[index&s.mask]
}

func (s *series) toZ(demand float64) float64 { return math.Log1p(demand / s.scale) }

// toDemand is the inverse of toZ, never below 0 and never above ceiling times the largest demand kept: a ratio that was seen once at
// night must not make a promise of a thousand times the day's peak.
func (s *series) toDemand(z float64) float64 {
	switch {
	case z <= 0:
		return 0
	case z < 0.01:
		return s.scale * math.Expm1(z)
	}
	return s.scale * (math.Exp(min(z, s.peak+ceiling)) - 1)
}

// append adds z, or before begin demand itself.
func (s *series) append(z float64) {
	s.head++
	s.put(s.head, z)
}

// put writes z at an index, and the averages up to it.
func (s *series) put(index int, z float64) {
	at := index & s.mask
	s.z[at] = z
	state := s.trend[(index-1)&s.mask]
	if !math.IsNaN(z) {
		s.last = index
		s.peak = max(s.peak, z)
		s.seen++
		for i := range s.now {
			// The first averages are plain means, or the first value would weigh for hours.
			s.now[i] += max(s.rate[i], 1/s.seen) * (z - s.now[i])
		}
		state = state.next(z, s.seen == 1)
	}
	s.trend[at] = state
	for i := range s.now {
		s.level[i][at] = s.now[i]
	}
	s.gain[at] = gain(s.now[slow])
	s.smooth[at] = math.NaN()
	if centre := index - s.half; centre >= s.oldest() {
		s.smooth[centre&s.mask] = s.mean(centre-s.half, index)
	}
}

// gain keeps away from 0, where demand has no ratio to what it was.
func gain(level float64) float64 { return 1 - math.Exp(-max(0.02, level)) }

// Holt's parameters: middling values, since better ones would have to be fitted and the regression does that.
const (
	trendLevel = 0.4
	trendSlope = 0.1
	trendDamp  = 0.9
)

func (t trending) next(z float64, first bool) trending {
	if first {
		return trending{level: z}
	}
	expected := t.level + trendDamp*t.slope
	level := expected + trendLevel*(z-expected)
	return trending{level: level, slope: trendDamp*t.slope + trendSlope*(level-t.level-trendDamp*t.slope)}
}

// ahead is the level h steps on.
func (t trending) ahead(h int) float64 {
	return t.level + t.slope*trendDamp*(1-math.Pow(trendDamp, float64(h)))/(1-trendDamp)
}

// mean is the mean of z over from ≤ index ≤ to, NaN when more than half of it are gaps.
func (s *series) mean(from, to int) float64 {
	sum, n := 0.0, 0
	for i := max(from, s.oldest()); i <= to; i++ {
		if z := s.z[i&s.mask]; !math.IsNaN(z) {
			sum += z
			n++
		}
	}
	if 2*n < to-from+1 {
		return math.NaN()
	}
	return sum / float64(n)
}

// begin turns the demand kept so far into z.
func (s *series) begin(scale float64) {
	s.scale = scale
	s.transform(s.toZ)
}

// transform changes all z and computes the averages anew.
func (s *series) transform(change func(float64) float64) {
	s.restart()
	for i := s.oldest(); i <= s.head; i++ {
		s.put(i, change(s.z[i&s.mask]))
	}
}

// rescale chooses the scale anew when mean demand has moved by more than a factor of four; it says whether it did.
func (s *series) rescale() bool {
	sum, n := 0.0, 0
	s.peak = 0
	for i := s.oldest(); i <= s.head; i++ {
		if z := s.z[i&s.mask]; !math.IsNaN(z) {
			s.peak = max(s.peak, z)
			sum += math.Expm1(z)
			n++
		}
	}
	ratio := scaleShare * sum / float64(n)
	if n == 0 || math.IsInf(ratio, 0) || ratio*s.scale < 1e-300 || ratio > 0.25 && ratio < 4 {
		return false
	}
	s.scale *= ratio
	s.transform(func(z float64) float64 { return math.Log1p(math.Expm1(z) / ratio) })
	return true
}

// shift moves the averages at the head to a new level.
func (s *series) shift(level float64) {
	at := s.head & s.mask
	for i := range s.now {
		s.now[i] = level
		s.level[i][at] = level
	}
	s.gain[at] = gain(level)
	s.trend[at] = trending{level: level}
}
