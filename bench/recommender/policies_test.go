package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender"
)

// TestSorted against a slice that is sorted anew.
func TestSorted(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		var s sorted
		var plain []float64
		for range 4000 {
			if len(plain) > 0 && r.IntN(5) < 2 {
				i := r.IntN(len(plain))
				s.remove(plain[i])
				plain = slices.Delete(plain, i, i+1)
				continue
			}
			v := float64(r.IntN(300)) // many are equal
			s.add(v)
			plain = append(plain, v)
		}
		slices.Sort(plain)
		require.Equal(t, len(plain), s.count)
		for i, v := range plain {
			require.Equal(t, v, s.nth(i), "seed %d", seed)
		}
		s.remove(-1) // was never added
		require.Equal(t, len(plain), s.count)
	}
	var s sorted
	s.remove(1)
	assert.True(t, math.IsNaN(s.quantile(0.5)))
	for _, v := range []float64{40, 10, 30, 20} {
		s.add(v)
	}
	assert.Equal(t, 25.0, s.quantile(0.5), "as quantile_over_time does")
	assert.Equal(t, 40.0, s.quantile(1))
}

func policyNamed(t *testing.T, name string, r recommender.Resource) policy {
	t.Helper()
	all, err := settings(false)
	require.NoError(t, err)
	i := find(all, name)
	require.GreaterOrEqual(t, i, 0, "no setting called %s", name)
	return all[i].make(r)
}

// TestWindowForgets: what is older than the window does not count, nor does a kill of then.
func TestWindowForgets(t *testing.T) {
	p := policyNamed(t, "max 24h", recommender.Memory)
	t0 := time.Unix(1_700_000_000, 0)
	assert.False(t, p.recommend(t0).valid)
	p.add(t0, 900<<20)
	p.oom(t0.Add(time.Minute), 900<<20)
	p.add(t0.Add(2*time.Hour), 100)
	assert.Equal(t, 900*1.2*(1<<20), p.recommend(t0.Add(23*time.Hour)).request)
	assert.Equal(t, 100.0, p.recommend(t0.Add(25*time.Hour)).request)
	p.oom(t0.Add(25*time.Hour), 100<<20)
	assert.Equal(t, 200.0*(1<<20), p.recommend(t0.Add(25*time.Hour)).request, "100 MiB more are more than 20 %")
}

// TestKRR: four of five samples a minute apart are taken at 75 s; memory has 15 % more.
func TestKRR(t *testing.T) {
	w, ok := policyNamed(t, "KRR", recommender.CPU).(*window)
	require.True(t, ok)
	t0 := time.Unix(1_700_000_000, 0)
	for i := range 1000 {
		w.add(t0.Add(time.Duration(i)*time.Minute), float64(i%100))
	}
	assert.InDelta(t, 800, w.values.count, 1)
	assert.InDelta(t, 94, w.recommend(t0.Add(1000*time.Minute)).request, 1)
	memory := policyNamed(t, "KRR", recommender.Memory)
	memory.add(t0, 1000)
	assert.InDelta(t, 1150, memory.recommend(t0).request, 1e-9)
	assert.InDelta(t, 100e6, func() float64 {
		floor := policyNamed(t, "KRR, floors on", recommender.Memory)
		floor.add(t0, 1000)
		return floor.recommend(t0).request
	}(), 1e-9)
}

// TestStockGolden: the library through our adapter gives the figures that were measured of it by itself: 2880 CPU samples of
// 100 to 499 millicores, a minute apart.
func TestStockGolden(t *testing.T) {
	p := policyNamed(t, "VPA", recommender.CPU)
	t0 := time.Unix(1_700_000_000, 0)
	for i := range 2880 {
		p.add(t0.Add(time.Duration(i)*time.Minute), float64(100+i%400)/1000)
	}
	a := p.recommend(t0.Add(48 * time.Hour))
	assert.Equal(t, 0.548, a.request)
	assert.Equal(t, 0.349, math.Floor(a.lower*1000)/1000)
	assert.Equal(t, 0.880, math.Floor(a.upper*1000)/1000)
}

// TestFloors: a container of 3 millicores gets 25 with them.
func TestFloors(t *testing.T) {
	for name, want := range map[string]float64{"VPA": 0.011, "VPA, floors on": 0.025, "KRR": 0.003, "KRR, floors on": 0.010} {
		p := policyNamed(t, name, recommender.CPU)
		t0 := time.Unix(1_700_000_000, 0)
		for i := range 100 {
			p.add(t0.Add(time.Duration(i)*time.Minute), 0.003)
		}
		assert.InDelta(t, want, p.recommend(t0.Add(2*time.Hour)).request, 1e-9, name)
	}
}

// TestTwin: recommender/vpa does on every shape, kills included, what the library does.
func TestTwin(t *testing.T) {
	model, err := twinModel()
	require.NoError(t, err)
	both := []setting{stock(true)[0], twin(model)}
	kills := 0.0
	for _, trace := range synthetic(7, 1) {
		scores, err := judge(t.Context(), trace.series[0], both)
		require.NoError(t, err)
		assert.True(t, scores[0].same(scores[1]), "%s: %+v, want %+v", trace.name, scores[1], scores[0])
		kills += scores[0].kills
	}
	assert.Positive(t, kills, "no trace has a kill, so that path was not compared")
}

// TestOursRecommends: the default estimator knows enough after the warm-up of every shape.
func TestOursRecommends(t *testing.T) {
	for _, trace := range synthetic(3, 1) {
		scores, err := judge(t.Context(), trace.series[0], ours()[:1])
		require.NoError(t, err)
		assert.Zero(t, scores[0].unsized, trace.name)
	}
}
