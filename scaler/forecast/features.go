package forecast

import "math"

// The regression's inputs at step t for step t+lead, all relative to the middle level at t, as is its output: five that need no season
// (1, the last value and the other levels), and three for each season: the median change since the level at the same time of past
// cycles, of single steps (bursts) and smoothed (shapes under noise), and the latter against the slower level (which way a
// deviation will go that began an hour ago).
const (
	plainFeatures  = 5
	seasonFeatures = 3
	maxSeasons     = 3
	featureCount   = plainFeatures + maxSeasons*seasonFeatures
	cycles         = 7 // past cycles a median is taken over: up to three outlier days leave it alone
)

// seasonal is what the past cycles of one season say.
type seasonal struct {
	sharp, smooth, drift float64 // changes of z since the middle level; NaN where no cycle is there
	naive                float64 // z one cycle ago
}

// features is everything the forecasters read at step t about step t+lead.
type features struct {
	base    float64 // the middle level at t
	last    float64 // z at t
	trend   float64 // the damped trend's forecast
	seasons [maxSeasons]seasonal
	input   [featureCount]float64
	used    int // of input
}

// featuresAt reads the history up to t, which must not be a gap.
func (m *Model) featuresAt(t, lead int) (f features) {
	s := &m.series
	at := t & s.mask
	f.base, f.last = s.level[middle][at], s.z[at]
	f.trend = s.trend[at].ahead(lead)
	f.input[0] = 0.1 // of the order of the others, so that one ridge fits all
	f.input[1] = f.last - f.base
	f.input[2] = s.level[quick][at] - f.base
	f.input[3] = s.level[slow][at] - f.base
	f.input[4] = s.level[slower][at] - f.base
	f.used = plainFeatures
	for i, season := range m.seasons {
		c := s.seasonalAt(t, lead, season.steps)
		f.seasons[i] = c
		in := f.input[f.used : f.used+seasonFeatures]
		in[0], in[1], in[2] = orZero(c.sharp), orZero(c.smooth), 0
		if !math.IsNaN(c.drift) {
			in[2] = c.drift + s.level[slower][at] - f.base
		}
		f.used += seasonFeatures
	}
	return f
}

// orZero takes an unknown change for none.
func orZero(x float64) float64 {
	if math.IsNaN(x) {
		return 0
	}
	return x
}

// seasonalAt looks at t+lead in the past cycles of a period, as far as they were known at t.
func (s *series) seasonalAt(t, lead, period int) seasonal {
	var sharp, smooth, drift [cycles]float64
	nSharp, nSmooth := 0, 0
	result := seasonal{sharp: math.NaN(), smooth: math.NaN(), drift: math.NaN(), naive: math.NaN()}
	// smooth at k reads z up to k+half, which must be known at t.
	first := 1 + (lead+s.half-1)/period
	oldest := s.oldest()
	for j := first; j < first+cycles; j++ { // changes are taken in ratio to demand then and now, see gain
		then := t - j*period
		if then < oldest {
			break
		}
		level := s.level[middle][then&s.mask]
		relative := s.gain[t&s.mask] / s.gain[then&s.mask]
		if z := s.z[(then+lead)&s.mask]; !math.IsNaN(z) {
			sharp[nSharp] = (z - level) * relative
			nSharp++
			if j == first {
				result.naive = z
			}
		}
		if z := s.smooth[(then+lead)&s.mask]; !math.IsNaN(z) {
			smooth[nSmooth] = (z - level) * relative
			drift[nSmooth] = (z - s.level[slower][then&s.mask]) * relative
			nSmooth++
		}
	}
	if nSharp > 0 {
		result.sharp = median(sharp[:nSharp])
	}
	if nSmooth > 0 {
		result.smooth, result.drift = median(smooth[:nSmooth]), median(drift[:nSmooth])
	}
	return result
}

// median sorts a handful of values and returns the middle, or the mean of the two middle ones.
func median(values []float64) float64 {
	for i := 1; i < len(values); i++ {
		for j := i; j > 0 && values[j] < values[j-1]; j-- {
			values[j], values[j-1] = values[j-1], values[j]
		}
	}
	n := len(values)
	return (values[n/2] + values[(n-1)/2]) / 2
}
