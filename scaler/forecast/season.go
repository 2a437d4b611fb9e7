package forecast

import (
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/floats"
)

// Season is a period found in the data.
type Season struct {
	Period   time.Duration
	Strength float64 // the autocorrelation at the period of what longer trends and stronger seasons leave: 0 to 1
	steps    int
	name     string // of the forecasters that stand on it
	naive    string
}

// Periods are looked for by octaves: [8, 16) steps, [16, 32), [32, 64), and so on with the series averaged over 2, 4, … steps, so that
// an octave never has more than 32 lags and all of them cost less than 90 passes over the series. In each, trends slower than the
// octave are taken out by a centred mean as wide as its longest period.
const (
	shortest   = 8
	octaveLags = 32

	// A period must fit into the series this often, and its correlation must be above a level that falls with the number of cycles:
	// smooth noise has about four independent values a cycle. The tests of walks and white noise tell that hardly any passes.
	leastCycles   = 2.2
	leastStrength = 0.1
	noiseStrength = 2
	// A season found before stays down to this part of the level, and two to ten of an outer season (the days of a week) need no more.
	stays         = 0.75
	mostMultiples = 10

	// Of several periods the strongest is taken, or one that it is a multiple of: a shorter one that has this part of its strength, and
	// in the shorter one's own octave, where noise counts the same for both, nearly all of it.
	alike     = 0.45
	alikeHere = 0.85
	near      = 0.03 // periods this close are the same

	// A known period moves when that takes half a percent off what is missing to a perfect correlation.
	movesFor = 1.005
	snapsFor = 1.05 // and gives way to a multiple of an outer one for 5 % more
)

// findSeasons looks for up to maxSeasons periods in what is kept, each in what the stronger ones leave.
func (s *series) findSeasons() []Season {
	x := s.filled()
	var found []Season
	for range maxSeasons {
		season, ok := strongest(x, s.found, found)
		if !ok {
			break
		}
		found = append(found, season)
		subtract(x, season.steps)
	}
	s.found = s.found[:0]
	for _, season := range found {
		s.found = append(s.found, season.steps)
	}
	return found
}

// filled returns z without gaps, each taken by the level then, and without outliers: five mean deviations from the median.
func (s *series) filled() []float64 {
	x := make([]float64, 0, s.head-s.oldest()+1)
	for i := s.oldest(); i <= s.head; i++ {
		z := s.z[i&s.mask]
		if math.IsNaN(z) {
			z = s.level[slower][i&s.mask]
		}
		x = append(x, z)
	}
	var sample []float64 // of some hundred: sorting all would cost as much as looking for seasons
	for i := 0; i < len(x); i += len(x)/500 + 1 {
		sample = append(sample, x[i])
	}
	slices.Sort(sample)
	middle, deviation := sample[len(sample)/2], 0.0
	for _, v := range x {
		deviation += math.Abs(v - middle)
	}
	limit := 5 * deviation / float64(len(x))
	for i, v := range x {
		x[i] = max(middle-limit, min(middle+limit, v)) - middle
	}
	return x
}

// candidate is a local maximum of the autocorrelation.
type candidate struct {
	period   int
	strength float64
	blur     int // the period is known to ± this
}

// strongest finds the season to take out next. known are the periods found the last time, outer those found in this one.
func strongest(x []float64, known []int, outer []Season) (Season, bool) {
	var all []candidate
	var best candidate
	for _, c := range candidates(x) {
		if c.strength < noise(len(x), c.period)*leniency(c.period, known, outer) || taken(c.period, outer) {
			continue
		}
		all = append(all, c)
		if c.strength > best.strength {
			best = c
		}
	}
	for _, c := range all { // by rising period
		if c.strength < alike*best.strength || c != best && !divides(x, c, best) {
			continue
		}
		period := refine(x, c)
		if i := slices.IndexFunc(known, func(k int) bool { return alikePeriods(k, period) }); i >= 0 && 1-agreement(x, known[i], 1) < movesFor*(1-agreement(x, period, 1)) {
			period = known[i]
		} else {
			period = snap(x, period, outer)
		}
		if taken(period, outer) {
			continue
		}
		return Season{Strength: c.strength, steps: period}, true
	}
	return Season{}, false
}

// divides says whether what repeats after best repeats after c as well.
func divides(x []float64, c, best candidate) bool {
	y := newSignal(highPass(x, 2*c.period))
	here := y.correlation(best.period)
	for lag := best.period - best.blur; lag <= best.period+best.blur; lag++ {
		here = max(here, y.correlation(lag))
	}
	return y.correlation(c.period) >= alikeHere*here
}

// noise is the correlation that noise could show at a period in n steps.
func noise(n, period int) float64 {
	return leastStrength + noiseStrength/math.Sqrt(4*(float64(n)/float64(period)-1))
}

// leniency is the part of that level that will do.
func leniency(period int, known []int, outer []Season) float64 {
	for _, k := range known {
		if alikePeriods(k, period) {
			return stays
		}
	}
	for _, o := range outer {
		multiple := float64(period) / float64(o.steps)
		if whole := math.Round(multiple); whole >= 2 && whole <= mostMultiples && math.Abs(multiple-whole) < 0.01*whole {
			return stays
		}
	}
	return 1
}

func alikePeriods(a, b int) bool { return math.Abs(float64(a-b)) <= near*float64(b)+1 }

func taken(period int, outer []Season) bool {
	return slices.ContainsFunc(outer, func(o Season) bool { return alikePeriods(o.steps, period) })
}

// candidates returns the local maxima of the autocorrelation, at most two in an octave, by rising period.
func candidates(x []float64) (all []candidate) {
	fine := x
	for scale, from := 1, shortest; ; {
		if float64(from*scale)*leastCycles > float64(len(x)) {
			return all
		}
		all = append(all, octave(fine, from, 2*from, scale, len(x))...)
		if from < octaveLags {
			from *= 2
			continue
		}
		scale *= 2
		fine = halve(fine)
	}
}

// halve averages pairs.
func halve(x []float64) []float64 {
	y := make([]float64, len(x)/2)
	for i := range y {
		y[i] = (x[2*i] + x[2*i+1]) / 2
	}
	return y
}

// octave returns the two highest local maxima at from ≤ lag < to.
func octave(x []float64, from, to, scale, n int) (found []candidate) {
	y := newSignal(highPass(x, to))
	last := y.correlation(from - 1)
	here := y.correlation(from)
	for lag := from; lag < to && float64(lag*scale)*leastCycles <= float64(n); lag++ {
		next := y.correlation(lag + 1)
		if here > 0 && here >= last && here > next {
			found = append(found, candidate{period: lag * scale, strength: here, blur: scale})
		}
		last, here = here, next
	}
	if len(found) > 2 {
		slices.SortFunc(found, func(a, b candidate) int {
			switch {
			case a.strength > b.strength:
				return -1
			case a.strength < b.strength:
				return 1
			}
			return a.period - b.period
		})
		found = found[:2]
		slices.SortFunc(found, func(a, b candidate) int { return a.period - b.period })
	}
	return found
}

// highPass subtracts the centred mean over width values, which is narrower near the ends.
func highPass(x []float64, width int) []float64 {
	y := make([]float64, len(x))
	sum, from, to := 0.0, 0, 0
	for i := range x {
		for ; to < min(len(x), i+width/2+1); to++ {
			sum += x[to]
		}
		for ; from < i-width/2; from++ {
			sum -= x[from]
		}
		y[i] = x[i] - sum/float64(to-from)
	}
	return y
}

// signal is a series of mean 0 with the sums of its squares, so that a correlation costs one product.
type signal struct {
	x       []float64
	squares []float64 // of all before
}

func newSignal(x []float64) signal {
	squares := make([]float64, len(x)+1)
	for i, v := range x {
		squares[i+1] = squares[i] + v*v
	}
	return signal{x: x, squares: squares}
}

// correlation is the autocorrelation at a lag, over the values that overlap.
func (s signal) correlation(lag int) float64 {
	n := len(s.x) - lag
	if n <= 0 {
		return 0
	}
	early, late := s.squares[n], s.squares[len(s.x)]-s.squares[lag]
	if early <= 0 || late <= 0 {
		return 0
	}
	return floats.Dot(s.x[:n], s.x[lag:]) / math.Sqrt(early*late)
}

// refine finds the period to one step: the octave knew it to some, and the sum of correlations at its first multiples is sharper.
func refine(x []float64, c candidate) int {
	y := level(x, c.period)
	period := c.period
	for step := c.blur; step >= 1; step /= 2 {
		most := math.Inf(-1)
		centre, z := period, averaged(y, step)
		for try := max(shortest, centre-step); try <= centre+step; try += step {
			if a := agreementOf(z, step, try, len(x)); a > most {
				most, period = a, try
			}
		}
	}
	return period
}

// level takes out what is slower than a period, where there are cycles enough: with three, the narrower means near the ends would move
// the best period by 2 %.
func level(x []float64, period int) []float64 {
	width := 2 * period
	if len(x) >= 3*width {
		return highPass(x, width)
	}
	mean := floats.Sum(x) / float64(len(x))
	y := slices.Clone(x)
	floats.AddConst(-mean, y)
	return y
}

// snap takes a multiple of an outer season for a period that is close to one and no better.
func snap(x []float64, period int, outer []Season) int {
	for _, o := range outer {
		multiple := (period + o.steps/2) / o.steps * o.steps
		if multiple > 0 && alikePeriods(multiple, period) && 1-agreement(x, multiple, o.steps/48+1) < snapsFor*(1-agreement(x, period, o.steps/48+1)) {
			return multiple
		}
	}
	return period
}

// averaged is the means of stretches of a stride.
func averaged(y []float64, stride int) signal {
	z := make([]float64, len(y)/stride)
	for i := range z {
		z[i] = floats.Sum(y[i*stride:(i+1)*stride]) / float64(stride)
	}
	return newSignal(z)
}

func agreement(x []float64, period, stride int) float64 {
	return agreementOf(averaged(level(x, period), stride), stride, period, len(x))
}

// agreementOf is the mean correlation at the multiples 1, 2, 4, … of the period, of y averaged over a stride. A period that is wrong by a
// stride is wrong by as many strides as the multiple, which must stay well below the period.
func agreementOf(y signal, stride, period, length int) float64 {
	total, n := 0.0, 0
	for multiple := 1; multiple == 1 || multiple*stride*3 <= period && (float64(multiple)+1.5)*float64(period) < float64(length); multiple *= 2 {
		total += y.correlation((multiple*period + stride/2) / stride)
		n++
	}
	if n == 0 {
		return 0
	}
	return total / float64(n)
}

// subtract takes out the mean of each phase.
func subtract(x []float64, period int) {
	for phase := range min(period, len(x)) {
		sum, n := 0.0, 0
		for i := phase; i < len(x); i += period {
			sum += x[i]
			n++
		}
		for i := phase; i < len(x); i += period {
			x[i] -= sum / float64(n)
		}
	}
}

// sameSeasons says whether what was learnt with one list of seasons holds for another, whose periods may differ by a hair.
func sameSeasons(a, b []Season) bool {
	return slices.EqualFunc(a, b, func(a, b Season) bool { return alikePeriods(a.steps, b.steps) })
}
