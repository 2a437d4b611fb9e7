package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func must(t *testing.T) func(Pattern, error) Pattern {
	t.Helper()
	return func(p Pattern, err error) Pattern {
		t.Helper()
		require.NoError(t, err)
		return p
	}
}

// patterns are one of each kind, of some thousand arrivals each.
func patterns(t *testing.T) map[string]Pattern {
	t.Helper()
	list := []Step{{20, 100 * time.Second}, {0, 50 * time.Second}, {80, 50 * time.Second}}
	trace := &Trace{bucket: 10 * time.Second, sums: []float64{100, 900, 0, 30, 400, 500, 600, 20, 10, 300}}
	return map[string]Pattern{
		"constant": must(t)(Constant(50, 200*time.Second)),
		"steps":    must(t)(Steps(list)),
		"sine":     must(t)(Sine(50, 50, 70*time.Second, 200*time.Second)),
		"wave":     must(t)(Waves(Wave{Night: 5, Peak: 80, Day: 100 * time.Second, Days: 2, Noise: 0.1, Seed: 3})),
		"buckets":  must(t)(trace.Pattern(Replay{Speed: 0.7, Scale: 2, From: 5 * time.Second})),
	}
}

// expected integrates the rate in steps of a millisecond or less.
func expected(p Pattern, from, to time.Duration) float64 {
	sum := 0.0
	for t := from; t < to; t += time.Millisecond {
		sum += p.Rate(t) * min(time.Millisecond, to-t).Seconds()
	}
	return sum
}

// TestArrivalsArePoisson checks the two properties that make a Poisson process: numbers in disjoint intervals have their
// expected mean and a variance equal to it, and gaps are exponential once time is rescaled by the rate.
func TestArrivalsArePoisson(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for name, p := range patterns(t) {
		t.Run(name, func(t *testing.T) {
			arrivals := slices.Collect(p.Arrivals(seed))
			require.True(t, slices.IsSortedFunc(arrivals, func(a, b Arrival) int { return int(a.At - b.At) }))
			total := expected(p, 0, p.Duration())
			// Six standard deviations: wrong once in 5e8 right runs.
			require.InDelta(t, total, float64(len(arrivals)), 6*math.Sqrt(total))

			dispersion, bins := 0.0, 0
			for from := time.Duration(0); from < p.Duration(); from += time.Second {
				to := min(from+time.Second, p.Duration())
				n := 0
				for _, a := range arrivals {
					if a.At >= from && a.At < to {
						n++
					}
				}
				mean := expected(p, from, to)
				if mean < 0.5 {
					continue // (n-mean)²/mean is too heavy-tailed there
				}
				dispersion += (float64(n) - mean) * (float64(n) - mean) / mean
				bins++
			}
			// Each term has mean 1 and variance 2+1/mean, at most 4.
			require.InDelta(t, float64(bins), dispersion, 6*2*math.Sqrt(float64(bins)), "variance is not the mean")

			// Kolmogorov–Smirnov distance of the rescaled gaps from the unit exponential.
			var gaps []float64
			last := time.Duration(0)
			for _, a := range arrivals {
				gaps = append(gaps, 1-math.Exp(-expected(p, last, a.At)))
				last = a.At
			}
			slices.Sort(gaps)
			distance := 0.0
			for i, g := range gaps {
				distance = max(distance, math.Abs(g-float64(i)/float64(len(gaps))))
			}
			// P(√n·D > 3) < 4e-8; 0.002 for the steps of the integral.
			require.Less(t, distance, 3/math.Sqrt(float64(len(gaps)))+0.002)
		})
	}
}

func TestScheduleIsReproducible(t *testing.T) {
	for name, p := range patterns(t) {
		first, again := slices.Collect(p.Arrivals(7)), slices.Collect(p.Arrivals(7))
		require.Equal(t, first, again, name)
		require.NotEqual(t, first, slices.Collect(p.Arrivals(8)), name)
	}
}

func TestRateOutsideIsZero(t *testing.T) {
	for name, p := range patterns(t) {
		require.Zero(t, p.Rate(-1), name)
		require.Zero(t, p.Rate(p.Duration()), name)
	}
}

func TestStepsAndSineRates(t *testing.T) {
	p := must(t)(Steps([]Step{{5, 30 * time.Second}, {20, 45 * time.Second}}))
	require.InDelta(t, 5, p.Rate(30*time.Second-1), 0)
	require.InDelta(t, 20, p.Rate(30*time.Second), 0)
	require.Equal(t, 75*time.Second, p.Duration())
	s := must(t)(Sine(10, 8, time.Minute, 3*time.Minute))
	require.InDelta(t, 10, s.Rate(0), 1e-9)
	require.InDelta(t, 18, s.Rate(15*time.Second), 1e-9)
	require.InDelta(t, 2, s.Rate(45*time.Second), 1e-9)
}

// TestWaveRepeats: without noise each day is the first one, the night and the peak are as asked for, and the mean level is
// as documented.
func TestWaveRepeats(t *testing.T) {
	const day = 8 * time.Minute
	p := must(t)(Waves(Wave{Night: 4, Peak: 40, Day: day, Days: 3}))
	require.Equal(t, 3*day, p.Duration())
	low, high, sum := math.Inf(1), 0.0, 0.0
	for at := time.Duration(0); at < day; at += time.Second {
		rate := p.Rate(at)
		low, high, sum = min(low, rate), max(high, rate), sum+rate
		require.InDelta(t, rate, p.Rate(at+day), 1e-9)
		require.InDelta(t, rate, p.Rate(at+2*day), 1e-9)
	}
	require.InDelta(t, 4, low, 1e-9)
	require.InDelta(t, 40, high, 0.01)
	require.InDelta(t, 0.38, (sum/day.Seconds()-4)/36, 0.01)
	require.InDelta(t, 4, p.Rate(day*27/100), 1e-9)
	require.InDelta(t, 40, p.Rate(time.Duration(WaveRisen*float64(day))), 1e-9)
}

// TestWaveNoise: noise has mean 1, differs from day to day, and is its seed's.
func TestWaveNoise(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := Wave{Night: 10, Peak: 10, Day: 8 * time.Minute, Days: 1000, Noise: 0.1, Seed: seed}
	p := must(t)(Waves(w))
	sum, n := 0.0, 0
	for at := time.Duration(0); at < p.Duration(); at += time.Second {
		sum += p.Rate(at)
		n++
	}
	// The days' factors alone make a standard error of 0.1/√1000 = 0.3 %; six of them.
	require.InEpsilon(t, 10, sum/float64(n), 0.02)
	require.Equal(t, p, must(t)(Waves(w)))
	w.Seed++
	require.NotEqual(t, p.Rate(time.Minute), must(t)(Waves(w)).Rate(time.Minute))
}
