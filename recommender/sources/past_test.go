package sources

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/promapi"
	"headroom.dev/headroom/recommender"
)

// TestPastInChunks compares what comes in chunks, from servers with all kinds of limits and faults, with the answer to one
// query without any.
func TestPastInChunks(t *testing.T) {
	for round := range 12 {
		seed := uint64(time.Now().UnixNano())
		if round == 0 {
			seed = 1
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			m, resource := randomHistory(rng)
			of := recommender.Past{
				Resource: resource, Step: time.Duration(1+rng.IntN(5)) * 30 * time.Second, Start: time.Unix(int64(rng.IntN(600)), 0),
			}
			of.End = of.Start.Add(time.Duration(1+rng.IntN(4*3600)) * time.Second)
			if rng.IntN(2) == 0 {
				of.Namespace = "shop"
			}
			if rng.IntN(2) == 0 {
				of.Pods = "pod-[0-4]"
			}
			want, err := collect(t.Context(), NewPrometheus(prometheus(t, m, promapi.ServerOptions{}, nil), Options{}), of)
			require.NoError(t, err)

			opts, points, every := promapi.ServerOptions{}, 1+rng.IntN(200), int64(0)
			if rng.IntN(2) == 0 {
				opts.MaxSamples = 150 + rng.IntN(2000)
			}
			if rng.IntN(2) == 0 {
				every = int64(3 + rng.IntN(5))
			}
			server := prometheus(t, m, opts, func(next http.Handler) http.Handler { return limited(next, points, every) })
			mine := Options{Backoff: time.Nanosecond, MaxSamples: 1 + rng.IntN(3000)}
			var last time.Time
			var got []recommender.Sample
			chunks := 0
			err = NewPrometheus(server, mine).Past(t.Context(), of, func(samples []recommender.Sample) error {
				assert.LessOrEqual(t, len(samples), max(mine.MaxSamples, 2*len(*m)))
				assert.False(t, samples[0].At.Before(last), "a chunk goes back in time")
				assert.True(t, slices.IsSortedFunc(samples, func(a, b recommender.Sample) int { return a.At.Compare(b.At) }))
				last = samples[len(samples)-1].At
				got = append(got, samples...)
				chunks++
				return nil
			})
			require.NoError(t, err)
			sortSamples(want)
			sortSamples(got)
			for i := range min(len(want), len(got)) {
				require.Equal(t, want[i], got[i])
			}
			require.Len(t, got, len(want))
			t.Logf("%s: %d samples in %d chunks; %d points, %d samples, a fault every %d",
				resource, len(got), chunks, points, opts.MaxSamples, every)
		})
	}
}

func sortSamples(list []recommender.Sample) {
	slices.SortFunc(list, func(a, b recommender.Sample) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(fmt.Sprint(a.Container), fmt.Sprint(b.Container)))
	})
}

// randomHistory makes up to 40 containers that come and go, with gaps, resets and nonsense.
func randomHistory(rng *rand.Rand) (*memory, recommender.Resource) {
	kinds := []struct {
		r     recommender.Resource
		names []string
	}{
		{recommender.CPU, []string{"container_cpu_usage_seconds_total"}},
		{recommender.Memory, []string{"container_memory_working_set_bytes"}},
		{recommender.GPUMemory, []string{"gpu_pod_memory_used_bytes", "gpu_pod_memory_peak_bytes", "DCGM_FI_DEV_FB_USED"}},
		{recommender.GPUCompute, []string{"gpu_pod_sm_active_ratio", "DCGM_FI_PROF_SM_ACTIVE"}},
		{recommender.KVCache, []string{"vllm:kv_cache_usage_perc"}},
	}
	kind := kinds[rng.IntN(len(kinds))]
	var m memory
	for i := range 1 + rng.IntN(20) {
		for _, name := range kind.names {
			ls := labels.FromStrings("__name__", name, "namespace", []string{"shop", "bank"}[rng.IntN(2)], "pod", "pod-"+strconv.Itoa(i),
				"container", "main", "uuid", "GPU-"+strconv.Itoa(i/2), "UUID", "GPU-"+strconv.Itoa(i/2))
			var points []chunks.Sample
			from, to := int64(rng.IntN(3*3600)), int64(rng.IntN(5*3600))
			v := rng.Float64()
			for at := from; at < to; at += 20 + int64(rng.IntN(20)) {
				switch v += rng.Float64(); rng.IntN(100) {
				case 0:
					at += 900
				case 1:
					v = 0
				case 2:
					points = append(points, point{at * 1000, math.NaN()})
					continue
				}
				points = append(points, point{at * 1000, v})
			}
			if len(points) > 0 {
				m.add(ls, points)
			}
		}
	}
	return &m, kind.r
}

// limited refuses ranges of too many points, and fails now and then.
func limited(next http.Handler, points int, every int64) http.Handler {
	var requests atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := requests.Add(1); every > 0 && n%every == 0 {
			http.Error(w, "upstream connect error", http.StatusBadGateway)
			return
		}
		if r.FormValue("step") != "" {
			start, _ := strconv.ParseFloat(r.FormValue("start"), 64)
			end, _ := strconv.ParseFloat(r.FormValue("end"), 64)
			step, _ := strconv.ParseFloat(r.FormValue("step"), 64)
			if (end-start)/step > float64(points) {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, `{"status":"error","errorType":"bad_data","error":"exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"}`)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// asked is a Querier that answers by a function; one container has the value 1 always.
type asked struct {
	fail  func(expr string, start, end time.Time) error
	calls []string
}

func (a *asked) Query(_ context.Context, expr string, at time.Time) (promql.Vector, error) {
	a.calls = append(a.calls, expr)
	if err := a.fail(expr, at, at); err != nil {
		return nil, err
	}
	return promql.Vector{{T: at.UnixMilli(), F: 1, Metric: labels.FromStrings("pod", "p")}}, nil
}

func (a *asked) QueryRange(_ context.Context, expr string, start, end time.Time, step time.Duration) (promql.Matrix, error) {
	a.calls = append(a.calls, expr)
	if err := a.fail(expr, start, end); err != nil {
		return nil, err
	}
	s := promql.Series{Metric: labels.FromStrings("namespace", "n", "pod", "p", "container", "c")}
	for at := start; !at.After(end); at = at.Add(step) {
		s.Floats = append(s.Floats, promql.FPoint{T: at.UnixMilli(), F: 1})
	}
	return promql.Matrix{s}, nil
}

func hour() recommender.Past {
	return recommender.Past{Resource: recommender.KVCache, Start: time.Unix(0, 0), End: time.Unix(3600, 0), Step: time.Minute}
}

// TestPastWithGaps: what cannot be had is told, and the rest comes.
func TestPastWithGaps(t *testing.T) {
	a := &asked{fail: func(_ string, start, end time.Time) error {
		if !start.After(time.Unix(1500, 0)) && !end.Before(time.Unix(1500, 0)) {
			return errors.New("the disk is on fire")
		}
		return nil
	}}
	var told []Progress
	p := NewPrometheus(a, Options{MaxPoints: 10, Backoff: time.Nanosecond, Progress: func(p Progress) { told = append(told, p) }})
	got, err := collect(t.Context(), p, hour())
	gaps, ok := errors.AsType[*GapError](err)
	require.True(t, ok, err)
	require.Len(t, gaps.Gaps, 1)
	assert.Equal(t, [2]int64{1200, 1740}, [2]int64{gaps.Gaps[0].Start.Unix(), gaps.Gaps[0].End.Unix()})
	require.EqualError(t, err, "no history from 1970-01-01T00:20:00Z to 1970-01-01T00:29:00Z: the disk is on fire")
	assert.Len(t, got, 51)
	require.Len(t, told, 7)
	assert.Equal(t, 51, told[6].Samples)
	assert.Equal(t, time.Unix(3600, 0), told[6].Until)
	assert.NotNil(t, told[2].Gap)
	assert.Nil(t, told[3].Gap)
}

// TestPastGivesUp on a server that is down, at once on one that will never answer, and where it is told to.
func TestPastGivesUp(t *testing.T) {
	down := &asked{fail: func(string, time.Time, time.Time) error { return errors.New("connection refused") }}
	_, err := collect(t.Context(), NewPrometheus(down, Options{MaxPoints: 2, Backoff: time.Nanosecond}), hour())
	require.EqualError(t, err, "cannot read history from 1970-01-01T00:00:00Z on: connection refused")
	assert.Len(t, down.calls, 3*4, "three chunks, each tried four times")

	lost := &asked{fail: func(_ string, start, _ time.Time) error {
		if start.After(time.Unix(1800, 0)) {
			return errors.New("connection refused")
		}
		return nil
	}}
	got, err := collect(t.Context(), NewPrometheus(lost, Options{MaxPoints: 5, Retries: -1}), hour())
	require.EqualError(t, err, "cannot read history from 1970-01-01T00:30:00Z on: connection refused")
	require.NotErrorAs(t, err, new(*GapError))
	assert.Len(t, got, 30)

	forbidden := &asked{fail: func(string, time.Time, time.Time) error { return errors.New("HTTP 403: forbidden") }}
	_, err = collect(t.Context(), NewPrometheus(forbidden, Options{Backoff: time.Nanosecond}), hour())
	require.EqualError(t, err, "cannot read history: HTTP 403: forbidden")
	assert.Len(t, forbidden.calls, 1)

	small := &asked{fail: func(string, time.Time, time.Time) error {
		return errors.New("the query exceeded the maximum number of chunks")
	}}
	_, err = collect(t.Context(), NewPrometheus(small, Options{Backoff: time.Nanosecond}), hour())
	require.ErrorContains(t, err, "exceeded the maximum number of chunks")
	assert.Less(t, len(small.calls), 40)

	ok1 := &asked{fail: func(string, time.Time, time.Time) error { return nil }}
	enough := errors.New("enough")
	require.ErrorIs(t, NewPrometheus(ok1, Options{}).Past(t.Context(), hour(), func([]recommender.Sample) error { return enough }), enough)

	ctx, cancel := context.WithCancel(t.Context())
	waits := &asked{fail: func(string, time.Time, time.Time) error { cancel(); return errors.New("connection refused") }}
	_, err = collect(ctx, NewPrometheus(waits, Options{Backoff: time.Hour}), hour())
	require.ErrorContains(t, err, "connection refused")

	for _, of := range []recommender.Past{
		{Resource: recommender.CPU, Start: time.Unix(1, 0), End: time.Unix(0, 0), Step: time.Minute},
		{Resource: recommender.CPU, Step: time.Millisecond},
		{Resource: recommender.CPU, Step: time.Minute, Pods: "("},
		{Resource: "coffee", Step: time.Minute},
	} {
		_, err := collect(t.Context(), NewPrometheus(ok1, Options{}), of)
		require.Error(t, err)
	}
}

// TestPastNamesPods: where fewer steps do not help, fewer pods are asked for.
func TestPastNamesPods(t *testing.T) {
	a := &asked{fail: func(expr string, start, end time.Time) error {
		if end.After(start) && !strings.Contains(expr, `pod=~"p"`) {
			return errors.New("query processing would load too many samples into memory in query execution")
		}
		return nil
	}}
	got, err := collect(t.Context(), NewPrometheus(a, Options{}), hour())
	require.NoError(t, err)
	assert.Len(t, got, 61)
}

// many is a server of 100,000 containers, of which it returns the first.
type many struct {
	asked
	t *testing.T
}

func (m *many) Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	v, err := m.asked.Query(ctx, expr, at)
	v[0].F = 100_000
	return v, err
}

func (m *many) QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) (promql.Matrix, error) {
	steps := int(end.Sub(start)/step) + 1
	assert.LessOrEqual(m.t, 100_000*steps, 500_000)
	return m.asked.QueryRange(ctx, expr, start, end, step)
}

// TestPastOfManyContainers: what is asked for at a time is bounded by the number of containers, not of steps alone.
func TestPastOfManyContainers(t *testing.T) {
	m := &many{asked: asked{fail: func(string, time.Time, time.Time) error { return nil }}, t: t}
	got, err := collect(t.Context(), NewPrometheus(m, Options{}), hour())
	require.NoError(t, err)
	assert.Len(t, got, 61)
	assert.Len(t, m.calls, 2*13, "a count and a range for every five steps")
}

func TestLimitsAreRecognised(t *testing.T) {
	for _, text := range []string{
		"exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
		"query processing would load too many samples into memory in query execution",
		"execution: query timed out in expression evaluation",
		"the request examines too many series; name the metrics, or select less",
		"expanding series: exceeded chunks limit: rpc error: code = ResourceExhausted",
		"the query exceeded the maximum number of series (limit: 100000 series) (err-mimir-max-series-per-query)",
		"cannot select more than -search.maxSamplesPerQuery=1000000000 samples; possible solutions: increase the -search.maxSamplesPerQuery",
		"not enough memory for processing 12 data points across 5 time series",
		"too many points for the given step=1, start=2 and end=3: 40000; the maximum number of points is 30000",
		"the answer is larger than 67108864 bytes", "no answer within 5s", "HTTP 413: Request Entity Too Large", "HTTP 504: Gateway Timeout",
	} {
		assert.True(t, tooMuch(errors.New(text)), text)
		assert.False(t, permanent(errors.New(text)), text)
	}
	for _, text := range []string{"connection refused", "HTTP 502: Bad Gateway", "HTTP 429: Too Many Requests", "EOF", "bad_data: 1:3: parse error: unclosed"} {
		assert.False(t, tooMuch(errors.New(text)), text)
	}
}
