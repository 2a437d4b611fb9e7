package accelerator_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
)

const day = 24 * time.Hour

func begin() time.Time { return time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC) }

// history makes hours with the given peaks; NaN for one of which nothing is known.
func history(peaks ...float64) accelerator.History {
	h := accelerator.History{Certainty: 1}
	for i, peak := range peaks {
		hour := recommender.Hour{Start: begin().Add(time.Duration(i) * time.Hour), Known: true, P50: peak, P90: peak, Max: peak}
		if math.IsNaN(peak) {
			hour.Known = false
		}
		h.Hours = append(h.Hours, hour)
	}
	return h
}

func tail(t *testing.T, peaks ...float64) accelerator.Tail {
	t.Helper()
	tail, ok := accelerator.NewTail(history(peaks...))
	require.True(t, ok)
	return tail
}

// source makes a generator whose seed is printed.
func source(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// noise are peaks of one of several shapes.
func noise(random *rand.Rand, n int) []float64 {
	base, spread, shape := 1+60*random.Float64(), 20*random.Float64(), random.IntN(4)
	peaks := make([]float64, n)
	for i := range peaks {
		switch shape {
		case 0:
			peaks[i] = base + spread*random.ExpFloat64()
		case 1:
			peaks[i] = base + spread*random.Float64()
		case 2:
			peaks[i] = base * float64(random.IntN(2))
		default:
			peaks[i] = base
		}
	}
	return peaks
}

func TestRiskFallsWithTheLevelAndGrowsWithTime(t *testing.T) {
	random := source(t)
	for range 300 {
		peaks := noise(random, 4+random.IntN(300))
		tail := tail(t, peaks...)
		before := 1.0
		for level := 0.0; level < 200; level += 0.5 {
			risk := tail.Risk(level, day)
			require.LessOrEqual(t, risk, before+1e-12, "at %v of %v", level, peaks)
			require.GreaterOrEqual(t, tail.Risk(level, 2*day), risk-1e-12, "at %v of %v", level, peaks)
			before = risk
		}
	}
}

// The oracle for Bound walks up until the risk is low enough.
func TestBoundIsTheFirstLevelWithinTheRisk(t *testing.T) {
	random := source(t)
	for range 200 {
		tail := tail(t, noise(random, 4+random.IntN(60))...)
		risk := 0.001 + 0.4*random.Float64()
		bound, level := tail.Bound(risk, day), 0.0
		for tail.Risk(level, day) > risk {
			level += 0.01
		}
		require.InDelta(t, level, bound, 0.0101)
	}
}

func TestBoundNeverLiesBelowThePeakThatIsKept(t *testing.T) {
	random := source(t)
	for range 300 {
		tail := tail(t, noise(random, 4+random.IntN(700))...)
		require.GreaterOrEqual(t, tail.Bound(0.01, day), tail.Peak())
	}
}

func TestMoreUseNeverNeedsLess(t *testing.T) {
	random := source(t)
	for range 300 {
		peaks := noise(random, 4+random.IntN(60))
		bound := tail(t, peaks...).Bound(0.01, day)
		factor, shift := 1+random.Float64(), 10*random.Float64()
		scaled, shifted, higher := make([]float64, len(peaks)), make([]float64, len(peaks)), slices.Clone(peaks)
		for i, peak := range peaks {
			scaled[i], shifted[i] = factor*peak, peak+shift
		}
		higher[slices.Index(peaks, slices.Max(peaks))] += shift
		require.InEpsilon(t, factor*max(bound, 1e-9), max(tail(t, scaled...).Bound(0.01, day), factor*1e-9), 1e-6, "scaled %v", peaks)
		require.GreaterOrEqual(t, tail(t, shifted...).Bound(0.01, day), bound+shift-1e-6, "shifted %v", peaks)
		if tail(t, higher...).Growth() == tail(t, peaks...).Growth() {
			require.GreaterOrEqual(t, tail(t, higher...).Bound(0.01, day), bound-1e-6, "a higher peak of %v", peaks)
		}
	}
}

func TestUncertaintyNeedsMore(t *testing.T) {
	random := source(t)
	for range 200 {
		h := history(noise(random, 4+random.IntN(60))...)
		need := 0.0
		for _, certainty := range []float64{1, 0.9, 0.7, 0.5} {
			h.Certainty = certainty
			tail, ok := accelerator.NewTail(h)
			require.True(t, ok)
			if bound := tail.Bound(0.01, day); tail.Peak() > 0 {
				assert.GreaterOrEqual(t, bound, need*(1-1e-9), "certainty %v", certainty)
				need = bound
			}
		}
	}
}

func TestFewHoursNeedMore(t *testing.T) {
	var few, many []float64
	for i := range 200 {
		peak := 20 + 5*float64(i%5)
		if i < 10 {
			few = append(few, peak)
		}
		many = append(many, peak)
	}
	assert.Greater(t, tail(t, few...).Bound(0.01, day), tail(t, many...).Bound(0.01, day))
}

// With peaks that are independent, as the tail takes them, what it states must hold about as often as it says: of the 1 % that are
// stated, 3 % may be exceeded, and 7 % after one day of history.
func TestStatedRiskIsKept(t *testing.T) {
	draws := map[string]func(*rand.Rand) float64{
		"exponential": func(r *rand.Rand) float64 { return 20 + 4*r.ExpFloat64() },
		"uniform":     func(r *rand.Rand) float64 { return 20 + 15*r.Float64() },
		"normal":      func(r *rand.Rand) float64 { return max(0, 40+4*r.NormFloat64()) },
		"log-normal":  func(r *rand.Rand) float64 { return 20 * math.Exp(0.25*r.NormFloat64()) },
	}
	for name, draw := range draws {
		for _, hours := range []int{24, 72, 168} {
			random := rand.New(rand.NewPCG(11, uint64(hours)))
			exceeded, runs := 0, 4000
			for range runs {
				peaks := make([]float64, hours)
				for i := range peaks {
					peaks[i] = draw(random)
				}
				bound := tail(t, peaks...).Bound(0.01, day)
				for range 24 {
					if draw(random) > bound {
						exceeded++
						break
					}
				}
			}
			share := float64(exceeded) / float64(runs)
			t.Logf("%s, %d hours: %.2f%% of days exceed the 1%% bound", name, hours, 100*share)
			most := 0.03
			if hours == 24 {
				most = 0.07
			}
			assert.Less(t, share, most, "%s, %d hours", name, hours)
		}
	}
}

func TestGrowthIsCarriedOn(t *testing.T) {
	leak := make([]float64, 12)
	for i := range leak {
		leak[i] = 20 + 0.5*float64(i)
	}
	growing := tail(t, leak...)
	assert.InDelta(t, 0.5, growing.Growth(), 1e-9)
	assert.Greater(t, growing.Bound(0.01, day), leak[11]+24*0.5, "a leak goes on for the day")

	var days []float64 // a rise each morning to the same height is no leak
	for i := range 72 {
		days = append(days, 20+float64(i%24)/2)
	}
	assert.Zero(t, tail(t, days...).Growth())
	assert.Zero(t, tail(t, 20, 21, 22, 23, 24).Growth(), "five hours do not show a leak")
}

func TestUnknownHoursAreNotZero(t *testing.T) {
	n := math.NaN()
	assert.InDelta(t, tail(t, 20, 25, 22, 21, 26).Bound(0.01, day), tail(t, 20, n, 25, 22, n, 21, 26, math.Inf(1)).Bound(0.01, day), 1e-9)
	_, ok := accelerator.NewTail(history(20, n, 21, 22))
	assert.False(t, ok, "three hours are too few")
	idle := tail(t, 0, 0, 0, 0)
	assert.Zero(t, idle.Risk(1, day))
	assert.InDelta(t, 0, idle.Bound(0.01, day), 1e-9)
}
