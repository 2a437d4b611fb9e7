package kpa

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The cases of this test are those of TestTimedFloat64BucketsWindowAverage in Knative's pkg/autoscaler/aggregation.
func TestWindowAverage(t *testing.T) {
	w, now := newWindow(5*time.Second, Linear), int64(1000)
	average := func(want float64, at int64) { t.Helper(); assert.Equal(t, math.Round(want*1e6)/1e6, w.average(at)) }

	assert.True(t, w.empty(now))
	average(0, now)
	w.record(now, 1)
	average(1, now) // over one second, as there was none before
	for i := range int64(4) {
		w.record(now+1+i, float64(i+2))
	}
	average(15./5, now+4)
	average(15./5, now+3) // now lags behind
	average((15.-1-2)/(5-2), now+6)
	assert.False(t, w.empty(now+9), "a window ago is not too long ago")
	average(0, now+9)
	assert.True(t, w.empty(now+10))
	average(0, now+10)
	w.record(now+6, 91)
	average((15.-1-2+91)/5, now+6)

	now += 60
	w.record(now, 1984)
	average(1984, now)
	w.record(now-3, 4)
	average((4.+1984)/4, now)
	now++
	w.record(now, 5)
	average((4.+1984+5)/5, now)
	w.record(now-3, 10)
	average((4.+10+1984+5)/5, now)
	w.record(now-6, 10) // too old
	average((4.+10+1984+5)/5, now)
	w.record(now-5, 10) // too old by one
	average((4.+10+1984+5)/5, now)
	w.record(now+5, 10) // silent for just a window
	average(10, now+5)
}

func TestDescendingRecord(t *testing.T) {
	w := newWindow(5*time.Second, Linear)
	for i := int64(8); i >= 0; i-- {
		w.record(1000+i, 5)
	}
	assert.Equal(t, 5., w.average(1005))
}

// The cases are those of TestTimedFloat64BucketsWeightedAverage.
func TestWeightedAverage(t *testing.T) {
	w, now := newWindow(5*time.Second, WeightedExponential), int64(1000)
	m := w.decay
	w.record(now, 2)
	want := 2 * m
	assert.Equal(t, want, w.average(now))
	want *= 1 - m
	assert.Equal(t, want, w.average(now+1))
	w.record(now+1, 2)
	want += 2 * m
	assert.Equal(t, want, w.average(now+1))
	for i := range int64(5) {
		w.record(now+2+i, float64(i+2))
	}
	want = 6*m + 5*m*(1-m) + 4*m*(1-m)*(1-m) + 3*m*(1-m)*(1-m)*(1-m) + 2*m*(1-m)*(1-m)*(1-m)*(1-m)
	assert.InDelta(t, want, w.average(now+6), 1e-12)
	assert.Zero(t, w.average(now+16))
}

// TestComputeDecayMultiplier has Knative's cases, closer than Knative's own tolerance of 0.9999.
func TestComputeDecayMultiplier(t *testing.T) {
	for seconds, want := range map[time.Duration]float64{100: 0.2, 60: 0.2, 40: 0.20567, 6: 0.78456} {
		w := newWindow(seconds*time.Second, WeightedExponential)
		assert.InDelta(t, want, w.decay, 1e-5)
	}
}

// TestWindowOracle holds the windows to sums over every report there was: whole numbers, so that sums are exact.
func TestWindowOracle(t *testing.T) {
	type report struct {
		second int64
		value  float64
	}
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		length := int64(1 + rng.IntN(20))
		linear := newWindow(time.Duration(length)*time.Second, Linear)
		weighted := newWindow(time.Duration(length)*time.Second, WeightedExponential)
		var kept []report
		first, last := int64(math.MaxInt64), int64(math.MinInt64)
		for now := int64(-50); now < 300; now += int64(rng.IntN(4)) {
			if rng.IntN(40) == 0 {
				now += int64(rng.IntN(int(2 * length)))
			}
			second, value := now-int64(rng.IntN(3)*rng.IntN(int(length)+2)), float64(rng.IntN(100))
			linear.record(second, value)
			weighted.record(second, value)
			if len(kept) == 0 || second > last-length {
				if len(kept) == 0 || second-last >= length {
					kept, first = nil, second
				}
				kept, first, last = append(kept, report{second, value}), min(first, second), max(last, second)
			}

			at := last + int64(rng.IntN(int(length)+3))
			sum, decayed := 0., 0.
			for _, r := range kept {
				if r.second > at-length {
					sum += r.value
					decayed += r.value * weighted.decay * math.Pow(1-weighted.decay, float64(at-r.second))
				}
			}
			mean := 0.
			if n := min(last-first+1, length-(at-last)); n > 0 {
				mean = math.Round(sum/float64(n)*1e6) / 1e6
			}
			require.Equal(t, mean, linear.average(at), "seed %d, second %d", seed, at)
			require.InDelta(t, decayed, weighted.average(at), 1e-9*(1+decayed), "seed %d, second %d", seed, at)
			require.Equal(t, at-last > length, linear.empty(at), "seed %d, second %d", seed, at)
		}
	}
}
