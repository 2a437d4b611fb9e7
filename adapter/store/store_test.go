package store

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

func at(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }

func sample(v float64, pairs ...string) Sample {
	return Sample{Labels: labels.FromStrings(pairs...), Value: v}
}

func equal(name, v string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, name, v) }

// dump returns what a query of [from, to] seconds sees, one sorted line per series: "{labels} 1=10 2=stale".
func dump(t *testing.T, q storage.Queryable, from, to float64, matchers ...*labels.Matcher) string {
	t.Helper()
	querier, err := q.Querier(at(from).UnixMilli(), at(to).UnixMilli())
	require.NoError(t, err)
	set := querier.Select(t.Context(), true, nil, matchers...)
	var b strings.Builder
	for set.Next() {
		b.WriteString(set.At().Labels().String())
		it := set.At().Iterator(nil)
		for it.Next() == chunkenc.ValFloat {
			ts, v := it.At()
			if value.IsStaleNaN(v) {
				fmt.Fprintf(&b, " %g=stale", float64(ts)/1000)
			} else {
				fmt.Fprintf(&b, " %g=%g", float64(ts)/1000, v)
			}
		}
		require.NoError(t, it.Err())
		b.WriteByte('\n')
	}
	require.NoError(t, set.Err())
	require.NoError(t, querier.Close())
	return b.String()
}

func keep(d time.Duration, names ...string) map[string]time.Duration {
	m := map[string]time.Duration{}
	for _, n := range names {
		m[n] = d
	}
	return m
}

func TestSeriesEndWhenTheScrapeLacksThem(t *testing.T) {
	st := New(Options{Keep: keep(time.Minute, "a")})
	two := []Sample{sample(1, "__name__", "a", "x", "1"), sample(2, "__name__", "a", "x", "2")}
	require.Equal(t, AppendResult{Stored: 2}, st.Append("t", at(1), two))
	require.Equal(t, AppendResult{Stored: 1, Ended: 1}, st.Append("t", at(2), two[:1]))
	require.Equal(t, AppendResult{Stored: 1}, st.Append("t", at(3), two[:1]), "one marker is enough")
	require.Equal(t, AppendResult{Stored: 2}, st.Append("t", at(4), two))
	require.Equal(t, AppendResult{Ended: 2}, st.Append("t", at(5), nil), "an empty scrape ends all")
	require.Equal(t, "{__name__=\"a\", x=\"1\"} 1=1 2=1 3=1 4=1 5=stale\n{__name__=\"a\", x=\"2\"} 1=2 2=stale 4=2 5=stale\n",
		dump(t, st, 0, 10))
	require.Equal(t, "{__name__=\"a\", x=\"2\"} 2=stale 4=2\n", dump(t, st, 2, 4, equal("x", "2")))
}

func TestRefusals(t *testing.T) {
	st := New(Options{Keep: keep(time.Minute, "a"), MaxSeries: 3, MaxSeriesPerTarget: 2, MaxSamplesPerSeries: 2})
	require.True(t, st.Wants("a"))
	require.False(t, st.Wants("b"))
	res := st.Append("t", at(1), []Sample{
		sample(1, "__name__", "a", "x", "1"), sample(2, "__name__", "a", "x", "1"), sample(3, "__name__", "b"), sample(4, "x", "1"),
		sample(5, "__name__", "a", "x", "2"), sample(6, "__name__", "a", "x", "3"),
	})
	require.Equal(t, AppendResult{Stored: 2, Duplicate: 1, Unwanted: 2, OverLimit: 1}, res)
	require.Equal(t, AppendResult{Stored: 1, OverLimit: 1}, st.Append("u", at(1), []Sample{
		sample(1, "__name__", "a", "y", "1"), sample(1, "__name__", "a", "y", "2"),
	}))
	require.Equal(t, AppendResult{Late: true}, st.Append("t", at(1), nil), "not later is late")
	require.Equal(t, AppendResult{Late: true}, st.Append("t", at(0.5), nil))
	st.Append("u", at(2), []Sample{sample(2, "__name__", "a", "y", "1")})
	st.Append("u", at(3), []Sample{sample(3, "__name__", "a", "y", "1")})
	require.Equal(t, "{__name__=\"a\", y=\"1\"} 2=2 3=3\n", dump(t, st, 0, 9, equal("y", "1")))

	got := st.Stats()
	got.Bytes = 0
	require.Equal(t, Stats{
		Targets: 2, Series: 3, Samples: 4, LateScrapes: 2, UnwantedSamples: 2, DuplicateSamples: 1, OverLimitSamples: 2, CutSamples: 1,
	}, got)
}

func TestEndedSeriesMakeRoom(t *testing.T) {
	st := New(Options{Keep: keep(2*time.Second, "a"), MaxSeries: 1})
	st.Append("t", at(1), []Sample{sample(1, "__name__", "a", "x", "1")})
	for _, s := range []float64{2, 3, 4} { // the marker is at 2; the window is 2 s and 1 s of slack
		require.Equal(t, 1, st.Append("t", at(s), []Sample{sample(1, "__name__", "a", "x", "2")}).OverLimit, s)
	}
	st.Append("t", at(5), nil)
	require.Equal(t, 1, st.Append("t", at(6), []Sample{sample(1, "__name__", "a", "x", "2")}).Stored)
	require.Equal(t, "{__name__=\"a\", x=\"2\"} 6=1\n", dump(t, st, 0, 9))
}

func TestForgetAndSetKeep(t *testing.T) {
	st := New(Options{Keep: keep(time.Minute, "a", "b")})
	for _, target := range []string{"t", "u"} {
		st.Append(target, at(1), []Sample{
			sample(1, "__name__", "a", "target", target), sample(2, "__name__", "b", "target", target), sample(3, "__name__", "c", "target", target),
		})
	}
	st.Forget("t")
	st.Forget("nobody")
	require.Equal(t, "{__name__=\"a\", target=\"u\"} 1=1\n{__name__=\"b\", target=\"u\"} 1=2\n", dump(t, st, 0, 9))
	version := st.WantsVersion()
	st.SetKeep(keep(time.Second, "b", "c"))
	require.False(t, st.Wants("a"))
	require.NotEqual(t, version, st.WantsVersion())
	version = st.WantsVersion()
	st.SetKeep(keep(2*time.Second, "b", "c"))
	require.Equal(t, version, st.WantsVersion(), "the same names")
	st.SetKeep(keep(time.Second, "b", "c"))
	for s := range 4 {
		st.Append("u", at(float64(2+s)), []Sample{sample(float64(s), "__name__", "b", "target", "u"), sample(3, "__name__", "c", "target", "u")})
	}
	require.Equal(t, "{__name__=\"b\", target=\"u\"} 4=2 5=3\n{__name__=\"c\", target=\"u\"} 4=3 5=3\n", dump(t, st, 0, 9))
	st.Forget("u")
	require.Zero(t, st.Stats().Series)
	require.Empty(t, st.byLabels)
	require.Empty(t, st.families)
}

func TestTwinsAreOneSeries(t *testing.T) {
	st := New(Options{Keep: keep(time.Minute, "a")})
	one := func(v float64) []Sample { return []Sample{sample(v, "__name__", "a")} }
	st.Append("v", at(1), one(10))
	st.Append("u", at(1), one(20))
	require.Equal(t, "{__name__=\"a\"} 1=20\n", dump(t, st, 0, 9), "equal times: the lesser name")
	st.Append("v", at(2), one(11))
	require.Equal(t, "{__name__=\"a\"} 1=10 2=11\n", dump(t, st, 0, 9), "the newest sample wins, whole")
	require.Equal(t, "{__name__=\"a\"} 1=20\n", dump(t, st, 0, 1), "in the range that is asked for")
	st.Append("v", at(3), nil)
	require.Equal(t, "{__name__=\"a\"} 1=20\n", dump(t, st, 0, 9), "what has not ended wins over what has")
	st.Forget("u")
	require.Equal(t, "{__name__=\"a\"} 1=10 2=11 3=stale\n", dump(t, st, 0, 9))
}

func TestLabels(t *testing.T) {
	st := New(Options{Keep: keep(time.Minute, "a", "b")})
	st.Append("t", at(1), []Sample{
		sample(1, "__name__", "a", "x", "2"), sample(1, "__name__", "a", "x", "1", "y", "1"), sample(1, "__name__", "b", "z", "1"),
	})
	q, err := st.Querier(0, 9000)
	require.NoError(t, err)
	names, _, err := q.LabelNames(t.Context(), nil, equal("__name__", "a"))
	require.NoError(t, err)
	require.Equal(t, []string{"__name__", "x", "y"}, names)
	values, _, err := q.LabelValues(t.Context(), "x", &storage.LabelHints{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, values)
	q, err = st.Querier(2000, 9000)
	require.NoError(t, err)
	values, _, err = q.LabelValues(t.Context(), "__name__", nil)
	require.NoError(t, err)
	require.Empty(t, values, "nothing in that range")
}

// TestLabelMemoryMayBeReused holds the promise that lets a scraper parse every line into one buffer.
func TestLabelMemoryMayBeReused(t *testing.T) {
	st := New(Options{Keep: keep(time.Minute, "a")})
	b := labels.NewScratchBuilder(2)
	var ls labels.Labels
	for i := range 3 {
		b.Reset()
		b.Add("__name__", "a")
		b.Add("x", fmt.Sprint(i))
		b.Overwrite(&ls)
		st.Append(fmt.Sprint("t", i), at(1), []Sample{{Labels: ls, Value: float64(i)}})
	}
	require.Equal(t, "{__name__=\"a\", x=\"0\"} 1=0\n{__name__=\"a\", x=\"1\"} 1=1\n{__name__=\"a\", x=\"2\"} 1=2\n", dump(t, st, 0, 9))
}

// TestConcurrentScrapesAreNeverTorn has each scrape write one number into all its series: a query must see one number.
func TestConcurrentScrapesAreNeverTorn(t *testing.T) {
	const targets, seriesEach, scrapes = 4, 20, 300
	st := New(Options{Keep: keep(5*time.Second, "a")})
	var writers, readers sync.WaitGroup
	for n := range targets {
		writers.Go(func() {
			name := fmt.Sprint("t", n)
			for i := range scrapes {
				samples := make([]Sample, seriesEach)
				for j := range samples {
					samples[j] = sample(float64(i), "__name__", "a", "target", name, "j", fmt.Sprint(j))
				}
				st.Append(name, at(float64(i+1)/10), samples)
			}
			if n == 0 {
				st.Forget(name)
			}
		})
	}
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				checkUntorn(t, st)
				st.Stats()
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	require.Equal(t, (targets-1)*seriesEach, st.Stats().Series)
}

func checkUntorn(t *testing.T, st *Store) {
	t.Helper()
	q, err := st.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Error(err)
		return
	}
	newest := map[string]float64{}
	set := q.Select(t.Context(), false, nil, equal("__name__", "a"))
	for set.Next() {
		target := set.At().Labels().Get("target")
		it := set.At().Iterator(nil)
		prev, last := math.Inf(-1), 0.0
		for it.Next() != chunkenc.ValNone {
			ts, v := it.At()
			if v <= prev || math.Abs(v-(float64(ts)/100-1)) > 1e-6 {
				t.Errorf("point %d=%g after %g", ts, v, prev)
				return
			}
			prev, last = v, v
		}
		if v, ok := newest[target]; ok && v != last {
			t.Errorf("torn scrape of %s: %g and %g", target, v, last)
			return
		}
		newest[target] = last
	}
}

// scrapeOf returns what a pod with a latency histogram of 20 buckets exposes to rules, as requests go up.
func scrapeOf(pod int) []Sample {
	base := []string{"namespace", "inference", "pod", fmt.Sprintf("llama-70b-7d9f8c6b5d-%05d", pod), "model_name", "meta-llama/Llama-3.1-70B-Instruct"}
	var out []Sample
	for le := range 20 {
		out = append(out, sample(0, append([]string{
			"__name__", "vllm:e2e_request_latency_seconds_bucket", "engine", "0", "le", fmt.Sprint(float64(le+1) * 0.25),
		}, base...)...))
	}
	for _, reason := range []string{"stop", "length", "abort"} {
		out = append(out, sample(0, append([]string{"__name__", "vllm:request_success_total", "finished_reason", reason}, base...)...))
	}
	return append(out, sample(0, append([]string{"__name__", "gpu_pod_utilization_ratio", "container", "vllm", "uuid", fmt.Sprintf("GPU-%032d", pod)}, base...)...))
}

func rulesKeep() map[string]time.Duration {
	return map[string]time.Duration{
		"vllm:e2e_request_latency_seconds_bucket": 30 * time.Second,
		"vllm:request_success_total":              10 * time.Second,
		"gpu_pod_utilization_ratio":               15 * time.Second,
	}
}

// TestBytes holds the arithmetic of Stats().Bytes to what the heap really grew by.
func TestBytes(t *testing.T) {
	const pods = 1000
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	st := New(Options{Keep: rulesKeep()})
	for pod := range pods {
		samples := scrapeOf(pod)
		for s := range 60 {
			st.Append(fmt.Sprintf("10.0.%d.%d:8000", pod/250, pod%250), at(float64(s+1)), samples)
		}
	}
	grown := heap() - before
	stats := st.Stats()
	t.Logf("%d series, %d samples: heap %d bytes/series, stated %d bytes/series",
		stats.Series, stats.Samples, grown/stats.Series, stats.Bytes/stats.Series)
	require.InEpsilon(t, grown, stats.Bytes, 0.05)
	runtime.KeepAlive(st)
}

// BenchmarkAppend appends scrapes of 1,000 targets in turn, by labels and by refs.
func BenchmarkAppend(b *testing.B) {
	const pods = 1000
	scrapes := make([][]Sample, pods)
	values := make([][]float64, pods)
	names := make([]string, pods)
	for pod := range pods {
		scrapes[pod], names[pod] = scrapeOf(pod), fmt.Sprintf("10.0.%d.%d:8000", pod/250, pod%250)
		values[pod] = make([]float64, len(scrapes[pod]))
	}
	run := func(b *testing.B, scrape func(st *Store, pod int, at time.Time)) {
		b.Helper()
		st := New(Options{Keep: rulesKeep()})
		n := 0
		next := func() {
			scrape(st, n%pods, at(float64(n/pods+1)))
			n++
		}
		for range 40 * pods { // until windows are full
			next()
		}
		b.ReportAllocs()
		for b.Loop() {
			next()
		}
		stats := st.Stats()
		b.ReportMetric(float64(len(scrapes[0])), "samples/op")
		b.ReportMetric(float64(stats.Bytes)/float64(stats.Series), "bytes/series")
	}
	b.Run("labels", func(b *testing.B) {
		run(b, func(st *Store, pod int, at time.Time) { st.Append(names[pod], at, scrapes[pod]) })
	})
	b.Run("refs", func(b *testing.B) {
		refs := make([][]uint64, pods)
		for pod := range pods {
			refs[pod] = make([]uint64, len(scrapes[pod]))
		}
		run(b, func(st *Store, pod int, at time.Time) {
			st.AppendRefs(names[pod], at, refs[pod], values[pod], func(i int) labels.Labels { return scrapes[pod][i].Labels })
		})
	})
}

func BenchmarkSelect(b *testing.B) {
	const pods = 1000
	st := New(Options{Keep: rulesKeep()})
	for pod := range pods {
		samples := scrapeOf(pod)
		for s := range 30 {
			st.Append(fmt.Sprint("t", pod), at(float64(s+1)), samples)
		}
	}
	q, err := st.Querier(0, 30_000)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		set := q.Select(b.Context(), false, nil, equal("__name__", "vllm:e2e_request_latency_seconds_bucket"))
		require.True(b, set.Next())
	}
}

func TestSearch(t *testing.T) {
	rng := seeded(t)
	for range 2000 {
		var points []Point
		now := int64(0)
		for range rng.IntN(40) {
			step := int64(1000)
			if rng.IntN(4) == 0 {
				step = 1 + rng.Int64N(20_000)
			}
			now += step
			points = append(points, Point{T: now})
		}
		at := rng.Int64N(now+2000) - 500
		want := slices.IndexFunc(points, func(p Point) bool { return p.T >= at })
		if want < 0 {
			want = len(points)
		}
		require.Equal(t, want, search(points, at), "%d in %v", at, points)
	}
}
