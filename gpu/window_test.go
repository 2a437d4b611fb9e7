package gpu

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// oracle sums up points that each stand for a whole number of milliseconds, millisecond by millisecond.
func oracle(points []windowPoint) (mean, p50, p95, highest float64) {
	var all []float64
	for _, p := range points {
		for range p.weight.Milliseconds() {
			all = append(all, p.value)
		}
		highest = max(highest, p.value)
	}
	slices.Sort(all)
	for _, v := range all {
		mean += v / float64(len(all))
	}
	rank := func(q float64) float64 { return all[max(0, int(q*float64(len(all))+0.999999)-1)] }
	return mean, rank(0.50), rank(0.95), highest
}

func TestWindowAgainstOracle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	now := time.Unix(1e9, 0)
	for range 500 {
		w := Window{Span: 10 * time.Second}
		w.Add(now, random.Float64())
		w.points[0].weight = 166 * time.Millisecond
		for range 1 + random.IntN(80) {
			now = now.Add(time.Duration(1+random.IntN(400)) * time.Millisecond)
			w.Add(now, float64(random.IntN(101))/100)
		}
		s := w.Summary(now)
		require.Len(t, w.points, s.Samples)
		require.False(t, w.points[0].at.Before(now.Add(-w.Span)))
		mean, p50, p95, highest := oracle(w.points)
		for name, pair := range map[string][2]float64{
			"mean": {mean, get(s.Mean)}, "p50": {p50, get(s.P50)}, "p95": {p95, get(s.P95)}, "max": {highest, get(s.Max)},
		} {
			require.InDelta(t, pair[0], pair[1], 1e-9, name)
		}
	}
}

func get(v Value) float64 { n, _ := v.Get(); return n }

// The driver's ring and one instantaneous rate a second say the same of the same load.
func TestWindowWeighsPointsByTime(t *testing.T) {
	start := time.Unix(1e9, 0)
	w := Window{Span: 10 * time.Second}
	for i := range 5 { // idle: the ring is empty
		w.Add(start.Add(time.Duration(i)*time.Second), 0)
	}
	var ring []RingPoint
	for i := range 30 { // then busy for 5 s
		ring = append(ring, RingPoint{Stamp: uint64(7e6 + i*166667), Ratio: 1})
	}
	now := start.Add(9*time.Second + 200*time.Millisecond)
	w.AddRing(ring, now)
	s := w.Summary(now)
	assert.InDelta(t, 0.5, get(s.Mean), 0.1, "half of the time, though six sevenths of the samples")
	assert.Equal(t, 35, s.Samples)
	assert.InDelta(t, 1, get(s.P95), 0)
	assert.Equal(t, now, s.Newest)
}

func TestWindowWithoutSamplesKnowsNothing(t *testing.T) {
	w := Window{Span: time.Second}
	now := time.Unix(1e9, 0)
	for _, v := range []Value{w.Summary(now).Mean, w.Summary(now).P95, w.Summary(now).Max} {
		assert.Equal(t, "no samples", v.Reason())
	}
	w.Add(now, 0.5)
	w.AddRing([]RingPoint{{Stamp: 5, Ratio: 0.7}, {Stamp: 3, Ratio: 0.1}, {Stamp: 1 << 62, Ratio: 0.2}}, now) // stamps that cannot be
	assert.Equal(t, 4, w.Summary(now).Samples)
	assert.InDelta(t, 0.7, get(w.Summary(now).Max), 0)
	assert.Zero(t, w.Summary(now.Add(2*time.Second)).Samples)
}

func TestWindowAllocatesNothing(t *testing.T) {
	w := Window{Span: 10 * time.Second}
	now := time.Unix(1e9, 0)
	ring := make([]RingPoint, 7)
	tick := func() {
		now = now.Add(time.Second)
		for i := range ring {
			ring[i] = RingPoint{Stamp: uint64(now.UnixMicro()) + uint64(i)*140000, Ratio: 0.5}
		}
		w.AddRing(ring, now)
		w.Summary(now)
	}
	for range 20 {
		tick()
	}
	assert.Zero(t, testing.AllocsPerRun(100, tick))
}

func TestAssess(t *testing.T) {
	now := time.Unix(1e9, 0)
	codes := func(c Condition, x *XIDs, life int) (out []string, fit bool) {
		findings := Assess(nil, &c, x, life, now)
		for _, f := range findings {
			out = append(out, f.Code)
		}
		return out, Fit(findings)
	}
	var x XIDs
	found, fit := codes(Condition{}, &x, 1)
	assert.Empty(t, found)
	assert.True(t, fit, "what is not known is held against nobody")

	found, fit = codes(Condition{RecoveryAction: Known(0), RemapFailed: Known(0), RemapPending: Known(1)}, &x, 1)
	assert.Equal(t, []string{"row-remap-pending"}, found)
	assert.True(t, fit)
	for action, code := range map[float64]string{
		1: "recovery-action-reset", 2: "recovery-action-reboot", 3: "recovery-action-drain-p2p",
		4: "recovery-action-drain-and-reset", 9: "recovery-action-unknown",
	} {
		found, fit = codes(Condition{RecoveryAction: Known(action)}, &x, 1)
		assert.Equal(t, []string{code}, found)
		assert.False(t, fit)
	}
	found, fit = codes(Condition{RemapFailed: Known(1)}, &x, 1)
	assert.Equal(t, []string{"row-remap-failed"}, found)
	assert.False(t, fit)

	x.Add(31, now, 1)
	found, fit = codes(Condition{}, &x, 1)
	assert.Empty(t, found, "a program's own fault")
	assert.True(t, fit)
	x.Add(63, now, 1)
	found, fit = codes(Condition{}, &x, 1)
	assert.Equal(t, []string{"xid-63"}, found)
	assert.True(t, fit)
	x.Add(79, now.Add(-time.Minute), 1)
	x.Add(79, now.Add(-time.Second), 1)
	found, fit = codes(Condition{}, &x, 1)
	assert.Equal(t, []string{"xid-63", "xid-79"}, found)
	assert.False(t, fit)
	_, fit = codes(Condition{}, &x, 2)
	assert.True(t, fit, "the GPU was lost and has come back")
	now = now.Add(xidHold)
	found, _ = codes(Condition{}, &x, 1)
	assert.Equal(t, []string{"xid-63"}, found, "an XID that was last seen too long ago is history")
	counts := map[uint64]uint64{}
	x.Each(func(xid, count uint64, _ time.Time) { counts[xid] = count })
	assert.Equal(t, map[uint64]uint64{31: 1, 63: 1, 79: 2}, counts)
}
