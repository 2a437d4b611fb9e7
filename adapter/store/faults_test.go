package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
)

// TestMillionSeries pushes 10⁶ series, from targets that invent new ones at every scrape: the store stays within its
// limits, says what it refused, and serves those that were there first.
func TestMillionSeries(t *testing.T) {
	st := New(Options{Keep: keep(time.Minute, "a"), MaxSeries: 20_000, MaxSeriesPerTarget: 1_000})
	good := []Sample{sample(1, "__name__", "a", "pod", "good")}
	st.Append("good", at(1), good)
	pushed, refused := 0, 0
	samples := make([]Sample, 2_000)
	for scrape := range 10 {
		for target := range 50 {
			for i := range samples {
				samples[i] = Sample{Labels: labels.FromStrings("__name__", "a", "target", fmt.Sprint(target), "id", fmt.Sprint(scrape, i))}
			}
			res := st.Append(fmt.Sprint(target), at(float64(scrape+1)), samples)
			pushed, refused = pushed+len(samples), refused+res.OverLimit
			require.Equal(t, len(samples), res.Stored+res.OverLimit)
		}
		require.Equal(t, 1, st.Append("good", at(float64(scrape+2)), good).Stored)
	}
	require.Equal(t, 1_000_000, pushed)
	stats := st.Stats()
	require.Equal(t, 20_000, stats.Series)
	require.Less(t, stats.Bytes, 20_000*500)
	require.Equal(t, uint64(refused), stats.OverLimitSamples)
	checkSums(t, st)
}

// TestLongExposition has 10⁵ lines of one metric in one scrape.
func TestLongExposition(t *testing.T) {
	st := New(Options{Keep: keep(time.Minute, "a")})
	samples := make([]Sample, 100_000)
	for i := range samples {
		samples[i] = sample(1, "__name__", "a", "id", fmt.Sprint(i))
	}
	require.Equal(t, AppendResult{Stored: DefaultMaxSeriesPerTarget, OverLimit: 95_000}, st.Append("t", at(1), samples))
	require.Equal(t, AppendResult{Stored: DefaultMaxSeriesPerTarget, OverLimit: 95_000}, st.Append("t", at(2), samples))
	require.Equal(t, AppendResult{Ended: DefaultMaxSeriesPerTarget}, st.Append("t", at(3), nil))
	st.Forget("t")
	require.Zero(t, st.Stats().Bytes)
}

// TestMaxBytes lets windows grow until they meet the cap, and new series arrive at it.
func TestMaxBytes(t *testing.T) {
	const limit = 200_000
	st := New(Options{Keep: keep(time.Hour, "a"), MaxBytes: limit})
	var samples []Sample
	for i := range 100 {
		samples = append(samples, sample(float64(i), "__name__", "a", "id", fmt.Sprint(i)))
	}
	for s := range 600 {
		require.Equal(t, 100, st.Append("t", at(float64(s+1)), samples).Stored)
		require.LessOrEqual(t, st.Stats().Bytes, limit)
	}
	stats := st.Stats()
	require.Greater(t, stats.CutSamples, uint64(100*400))
	require.Greater(t, stats.Bytes, limit*9/10)
	require.Greater(t, stats.Samples, limit/16/2, "what is cut is a part")
	checkSums(t, st)
	res := st.Append("u", at(1), []Sample{sample(1, "__name__", "a", "more", "x")})
	if res.OverLimit == 0 { // there was room for a few
		for i := range 1000 {
			res = st.Append(fmt.Sprint("u", i), at(1), []Sample{sample(1, "__name__", "a", "more", fmt.Sprint(i))})
		}
	}
	require.Equal(t, AppendResult{OverLimit: 1}, res)
	require.LessOrEqual(t, st.Stats().Bytes, limit)
}

// TestView holds places to their promise while series come and go.
func TestView(t *testing.T) {
	st := New(Options{Keep: keep(3*time.Second, "a", "b")})
	rng := seeded(t)
	seen := map[int]uint64{}
	sets := map[uint64]string{} // by stamp
	version := uint64(0)
	for clock := range 400 {
		for target := range 3 {
			var samples []Sample
			for i := range 6 {
				if rng.IntN(3) == 0 {
					samples = append(samples, sample(float64(clock), "__name__", "a", "id", fmt.Sprint(i), "target", fmt.Sprint(target)))
				}
			}
			st.Append(fmt.Sprint(target), at(float64(clock)/2+1), samples)
		}
		if rng.IntN(20) == 0 {
			st.Forget(fmt.Sprint(rng.IntN(3)))
		}
		st.View("a", func(f Family) {
			changed := false
			for place := range max(f.Places(), len(seen)) {
				stamp := uint64(0)
				if place < f.Places() {
					stamp = f.Stamp(place)
				}
				changed = changed || stamp != seen[place]
				seen[place] = stamp
				if stamp == 0 {
					continue
				}
				ls := f.Labels(place).String()
				if before, ok := sets[stamp]; ok {
					require.Equal(t, before, ls)
				}
				sets[stamp] = ls
				checkEven(t, f, place, at(float64(clock)/2-rng.Float64()*3).UnixMilli())
			}
			if changed {
				require.NotEqual(t, version, f.Version())
			}
			version = f.Version()
		})
	}
	require.Greater(t, len(sets), 100)
}

func checkEven(t *testing.T, f Family, place int, mint int64) {
	t.Helper()
	points, even := f.Window(place, mint, 1e9)
	for i := 0; even && i < len(points); i++ {
		require.False(t, value.IsStaleNaN(points[i].V))
		require.True(t, i == 0 || points[i].V >= points[i-1].V)
	}
}

// BenchmarkReplace replaces 2,000 pods at once: the old ones are forgotten, and the new ones scraped.
func BenchmarkReplace(b *testing.B) {
	const pods = 2000
	st := New(Options{Keep: rulesKeep()})
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		var scrapes [][]Sample
		for range pods {
			scrapes = append(scrapes, scrapeOf(n))
			n++
		}
		b.StartTimer()
		for i := range pods {
			st.Forget(fmt.Sprint("t", n-2*pods+i))
			st.Append(fmt.Sprint("t", n-pods+i), at(float64(n)), scrapes[i])
		}
	}
	require.Equal(b, pods*24, st.Stats().Series)
}
