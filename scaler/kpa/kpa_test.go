package kpa

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newTest(t testing.TB, ready int, set func(*Config)) *Autoscaler {
	t.Helper()
	c := DefaultConfig()
	if set != nil {
		set(&c)
	}
	a, err := New(c, testStart(), ready)
	require.NoError(t, err)
	return a
}

// feed records a load each second and decides each 2 s, and returns the last decision.
func feed(t testing.TB, a *Autoscaler, from time.Time, length time.Duration, load float64, ready int) (Result, time.Time) {
	t.Helper()
	var r Result
	for end := from.Add(length); from.Before(end); {
		require.NoError(t, a.Record(from, load))
		require.NoError(t, a.Record(from.Add(time.Second), load))
		from = from.Add(tick)
		r = a.Scale(from, ready)
	}
	return r, from
}

func TestNewRevisionToZeroAndBack(t *testing.T) {
	a := newTest(t, 0, func(c *Config) { c.Target = 10 })
	r := a.Scale(testStart(), 0)
	assert.Equal(t, Result{Replicas: 1, Desired: -1, Phase: Activating, Reasons: NoData | AwaitActivation}, r)
	assert.Equal(t, "1 replicas, activating (no data, pods not ready yet)", r.String())

	r, now := feed(t, a, testStart(), 2*time.Minute, 35, 1)
	assert.Equal(t, 5, r.Replicas, "35 of 7 per pod")
	assert.Equal(t, Active, r.Phase)
	assert.True(t, r.Panic, "more than twice what a pod is meant to take")
	assert.Equal(t, "5 replicas, active: desired 5 of stable 35, panic 35, in panic", r.String())

	r, now = feed(t, a, now, 30*time.Second, 0, 5)
	assert.True(t, r.Panic)
	assert.Equal(t, 5, r.Replicas)
	assert.True(t, r.Reasons.Has(PanicHold))
	// When panic ends after 60 s only the rate slows the way down.
	r, now = feed(t, a, now, 40*time.Second, 0, 5)
	assert.False(t, r.Panic)
	assert.Equal(t, 2, r.Replicas)
	assert.Equal(t, ScaleDownRate, r.Reasons)
	r, now = feed(t, a, now, 2*time.Second, 0, 1)
	assert.Equal(t, Inactive, r.Phase)
	assert.Equal(t, Deactivated, r.Reasons)
	assert.Equal(t, 2, r.Replicas)
	// The activator was in the path all the time, since 211 requests more would have been too many.
	r, now = feed(t, a, now, 2*time.Second, 0, 1)
	assert.Equal(t, 0, r.Replicas)

	r = a.Scale(now.Add(2*time.Minute), 0)
	assert.False(t, r.Valid)
	assert.Equal(t, 0, r.Replicas)
	assert.Equal(t, 0, r.Desired, "the last one stands")

	now = now.Add(3 * time.Minute)
	require.NoError(t, a.Record(now, 1))
	r = a.Scale(now, 0)
	assert.Equal(t, 1, r.Replicas)
	assert.Equal(t, Activating, r.Phase)
}

func TestSilenceIsZeroOnlyBehindTheActivator(t *testing.T) {
	for burst, valid := range map[float64]bool{-1: true, 0: false, 211: false} {
		a := newTest(t, 3, func(c *Config) { c.TargetBurstCapacity = burst })
		r := a.Scale(testStart().Add(2*time.Minute), 3)
		assert.Equal(t, valid, r.Valid, "%v", burst)
		assert.Equal(t, valid, !r.Reasons.Has(NoData), "%v", burst)
	}
}

func TestRecordRefusesWhatIsNoNumber(t *testing.T) {
	a := newTest(t, 1, nil)
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		require.ErrorIs(t, a.Record(testStart(), x), ErrNotFinite)
	}
	assert.False(t, a.Scale(testStart(), 1).Valid, "nothing was recorded")
	require.NoError(t, a.Record(testStart(), 3))
	assert.Equal(t, 3., a.Scale(testStart(), 1).StableValue)
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := NoData; r < endOfReasons; r <<= 1 {
		assert.NotContains(t, r.String(), "Reasons(")
		assert.False(t, seen[r.String()], r.String())
		seen[r.String()] = true
	}
	assert.Equal(t, "scale-up rate, max scale", (ScaleUpRate | MaxScale).String())
	assert.Empty(t, Reasons(0).String())
}

// drive runs an hour of random load and pods and calls look with each decision.
func drive(t *testing.T, seed uint64, c Config, shift time.Duration, factor float64, look func(ready int, r Result)) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	start := testStart().Add(shift)
	a, err := New(c, start, rng.IntN(4))
	require.NoError(t, err)
	load, ready := 20., 0
	for second := range 3600 {
		now := start.Add(time.Duration(second) * time.Second)
		switch rng.IntN(200) {
		case 0:
			load = 0
		case 1:
			load = 1 + 200*rng.Float64()
		}
		if rng.IntN(10) > 0 {
			require.NoError(t, a.Record(now, load*factor))
		}
		if second%2 == 1 {
			r := a.Scale(now, ready)
			look(ready, r)
			if rng.IntN(5) == 0 {
				ready = r.Replicas
			}
		}
	}
}

// TestSameWhenMovedOrScaled: what is decided depends neither on the date nor on the unit of the load.
func TestSameWhenMovedOrScaled(t *testing.T) {
	for seed := range uint64(20) {
		c := DefaultConfig()
		c.Target, c.TargetBurstCapacity, c.ScaleDownDelay = 10, 16, time.Duration(seed)*time.Second
		bigger := c
		bigger.Target, bigger.TargetBurstCapacity = 40, 64 // powers of two are exact but for the rounding to 1e-6
		var first, moved, scaled []Result
		drive(t, seed, c, 0, 1, func(_ int, r Result) { first = append(first, r) })
		drive(t, seed, c, 1000*time.Hour, 1, func(_ int, r Result) { moved = append(moved, r) })
		drive(t, seed, bigger, 0, 4, func(_ int, r Result) { scaled = append(scaled, r) })
		require.Equal(t, first, moved, "seed %d", seed)
		for i, r := range scaled {
			require.Equal(t, first[i].Replicas, r.Replicas, "seed %d", seed)
			require.Equal(t, first[i].Reasons, r.Reasons, "seed %d", seed)
			require.Equal(t, first[i].Panic, r.Panic, "seed %d", seed)
		}
	}
}

// TestReplicasStayWithinBounds, whatever is asked for and whichever pods come.
func TestReplicasStayWithinBounds(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 4))
		c := DefaultConfig()
		c.Target, c.MinScale, c.MaxScale = 0.1+5*rng.Float64(), 1+rng.IntN(3), 3+rng.IntN(5)
		c.MaxScaleUpRate, c.MaxScaleDownRate = 1.1+rng.Float64(), 1.1+rng.Float64()
		var last Result
		drive(t, seed, c, 0, 1, func(ready int, r Result) {
			if r.Desired >= 0 {
				require.GreaterOrEqual(t, r.Replicas, c.MinScale, "seed %d", seed)
				require.LessOrEqual(t, r.Replicas, c.MaxScale, "seed %d", seed)
			}
			if r.Valid && last.Valid {
				up := math.Ceil(c.MaxScaleUpRate * math.Max(1, float64(ready)))
				require.LessOrEqual(t, float64(r.Desired), math.Max(up, float64(last.Desired)), "seed %d", seed)
			}
			if last.Panic && r.Panic {
				require.GreaterOrEqual(t, r.Desired, last.Desired, "seed %d: panic takes no pod away", seed)
			}
			last = r
		})
	}
}

func TestStepDoesNotAllocate(t *testing.T) {
	for _, aggregation := range []Aggregation{Linear, WeightedExponential} {
		a := newTest(t, 3, func(c *Config) { c.Aggregation, c.ScaleDownDelay = aggregation, time.Minute })
		now := testStart()
		assert.Zero(t, testing.AllocsPerRun(1000, func() { now = step(a, now, 100) }))
	}
}

// step is what 2 s of virtual time cost: two observations and a decision.
func step(a *Autoscaler, now time.Time, load float64) time.Time {
	_ = a.Record(now, load)
	_ = a.Record(now.Add(time.Second), load)
	now = now.Add(tick)
	a.Scale(now, 3)
	return now
}

// BenchmarkStep is one step of 2 s; a month has 1.3 million.
func BenchmarkStep(b *testing.B) {
	for _, c := range []struct {
		name string
		set  func(*Config)
	}{
		{"defaults", nil},
		{"delay", func(c *Config) { c.ScaleDownDelay = 5 * time.Minute }},
		{"weighted", func(c *Config) { c.Aggregation = WeightedExponential }},
		{"hour", func(c *Config) { c.StableWindow = time.Hour }},
	} {
		b.Run(c.name, func(b *testing.B) {
			a := newTest(b, 3, c.set)
			rng := rand.New(rand.NewPCG(1, 5))
			loads := make([]float64, 1024)
			for i := range loads {
				loads[i] = 1000 * rng.Float64()
			}
			now := testStart()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now = step(a, now, loads[i%len(loads)])
			}
		})
	}
}
