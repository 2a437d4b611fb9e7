package forecast

import "math"

// Inputs of the expected size of an error: 1, its size of late, its size at this time of past seasons, how low demand is (counts have
// relative noise that falls with the root of the level), and how far the forecast is from the last value.
const spreadInputs = 5

// Memories in forecasts. Error quantiles need some thousand errors for the 0.99 and should follow a change of the service within
// days; how large errors are of late is a matter of an hour.
const (
	errorMemory  = 4320
	spreadMemory = 4320
	recentMemory = 40
	meanMemory   = 720
)

// spread tells the quantiles of one forecaster's error at one horizon: empirical quantiles of the error over its expected size.
type spread struct {
	size   ridge
	errors *histogram
	recent float64 // size of late
	mean   float64 // size over a longer time
	count  int
}

func newSpread(edges *[allBins + 1]float64) spread {
	return spread{
		size:   newRidge(spreadInputs, spreadMemory, 20, []float64{0, 0.5, 0.5, 0, 0}),
		errors: newHistogram(errorMemory, edges),
	}
}

func (s *spread) forget() {
	s.size.clear()
	s.errors.clear()
	s.recent, s.mean, s.count = 0, 0, 0
}

// expect returns the expected size of an error. Its limits keep an extrapolation from promising certainty, or from none at all.
func (s *spread) expect(x *[spreadInputs]float64) float64 {
	floor := 0.02 / float64(1+s.count) // until errors tell more, some
	return max(min(s.size.of(x[:]), 8*s.mean), 0.25*s.mean, floor)
}

// add takes in an error that was expected to be of a size, from inputs x.
func (s *spread) add(x *[spreadInputs]float64, expected, e float64) {
	size := math.Abs(e)
	s.errors.add(e / expected)
	s.count++
	if s.count > 20 {
		size = min(size, 6*s.mean) // an outlier is one error, not a hundred
	}
	s.size.add(x[:], size, 1)
	s.recent += max(1.0/recentMemory, 1/float64(s.count)) * (size - s.recent)
	s.mean += max(1.0/meanMemory, 1/float64(s.count)) * (size - s.mean)
}
