package store

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

// naive is the dumb oracle: every sample ever told, in one slice; it forgets nothing but targets.
type naive struct {
	rows    []row
	scraped map[string]int64         // newest scrape of each target
	last    map[string]labelSetNames // what that scrape had
}

type row struct {
	target string
	labels labels.Labels
	t      int64
	v      float64
}

type labelSetNames map[string]labels.Labels

func newNaive() *naive {
	return &naive{scraped: map[string]int64{}, last: map[string]labelSetNames{}}
}

func (n *naive) append(target string, t int64, samples []Sample, wanted map[string]time.Duration) {
	if last, ok := n.scraped[target]; ok && t <= last {
		return
	}
	now := labelSetNames{}
	for _, s := range samples {
		key := s.Labels.String()
		_, want := wanted[s.Labels.Get("__name__")]
		if _, twice := now[key]; twice || !want {
			continue
		}
		now[key] = s.Labels
		n.rows = append(n.rows, row{target, s.Labels, t, s.Value})
	}
	for key, ls := range n.last[target] {
		if _, ok := now[key]; !ok {
			n.rows = append(n.rows, row{target, ls, t, math.Float64frombits(value.StaleNaN)})
		}
	}
	n.scraped[target], n.last[target] = t, now
}

func (n *naive) forget(target string) {
	n.rows = slices.DeleteFunc(n.rows, func(r row) bool { return r.target == target })
	delete(n.scraped, target)
	delete(n.last, target)
}

func (n *naive) Querier(mint, maxt int64) (storage.Querier, error) {
	return &naiveQuerier{n: n, mint: mint, maxt: maxt}, nil
}

type naiveQuerier struct {
	storage.LabelQuerier
	n          *naive
	mint, maxt int64
}

func (q *naiveQuerier) Close() error { return nil }

func (q *naiveQuerier) Select(_ context.Context, _ bool, _ *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	byTarget := map[string]map[string][]chunks.Sample{} // labels → target → points
	sets := labelSetNames{}
	for _, r := range q.n.rows {
		match := r.t >= q.mint && r.t <= q.maxt
		for _, m := range ms {
			match = match && m.Matches(r.labels.Get(m.Name))
		}
		if match {
			key := r.labels.String()
			sets[key] = r.labels
			if byTarget[key] == nil {
				byTarget[key] = map[string][]chunks.Sample{}
			}
			byTarget[key][r.target] = append(byTarget[key][r.target], naiveSample{r.t, r.v})
		}
	}
	var list []storage.Series
	for key, targets := range byTarget {
		var names []string
		for name := range targets {
			names = append(names, name)
		}
		// Worst first: ended, older, greater name.
		slices.SortFunc(names, func(a, b string) int {
			la, lb := targets[a][len(targets[a])-1], targets[b][len(targets[b])-1]
			if ea, eb := value.IsStaleNaN(la.F()), value.IsStaleNaN(lb.F()); ea != eb {
				if ea {
					return -1
				}
				return 1
			}
			if la.T() != lb.T() {
				return int(la.T() - lb.T())
			}
			return strings.Compare(b, a)
		})
		list = append(list, storage.NewListSeries(sets[key], targets[names[len(names)-1]]))
	}
	slices.SortFunc(list, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return &listSet{list: list, i: -1}
}

type listSet struct {
	list []storage.Series
	i    int
}

func (s *listSet) Next() bool                        { s.i++; return s.i < len(s.list) }
func (s *listSet) At() storage.Series                { return s.list[s.i] }
func (s *listSet) Err() error                        { return nil }
func (s *listSet) Warnings() annotations.Annotations { return nil }

type naiveSample struct {
	t int64
	v float64
}

func (s naiveSample) ST() int64                     { return 0 }
func (s naiveSample) T() int64                      { return s.t }
func (s naiveSample) F() float64                    { return s.v }
func (s naiveSample) H() *histogram.Histogram       { return nil }
func (s naiveSample) FH() *histogram.FloatHistogram { return nil }
func (s naiveSample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s naiveSample) Copy() chunks.Sample           { return s }

const oracleKeep = 8 * time.Second

// play sends one random history to the store and the oracle and calls check(now) after every step. It returns how many
// samples the store took in.
func play(
	rng *rand.Rand, steps int, twins bool, st *Store, n *naive, wanted map[string]time.Duration, check func(now int64),
) (stored int) {
	clock := int64(1_000_000)
	counters := map[string]float64{}
	appended := appender(rng, st)
	for range steps {
		clock += rng.Int64N(700)
		target := fmt.Sprint("t", rng.IntN(4))
		switch rng.IntN(20) {
		case 0:
			st.Forget(target)
			n.forget(target)
		case 1: // a scrape that comes too late, or just in time
			t := clock - rng.Int64N(2000)
			s := randomScrape(rng, target, twins, counters)
			stored += appended(target, t, s).Stored
			n.append(target, t, s, wanted)
		default:
			s := randomScrape(rng, target, twins, counters)
			stored += appended(target, clock, s).Stored
			n.append(target, clock, s, wanted)
		}
		check(clock)
	}
	return stored
}

// appender appends now by labels and now by refs, of which it remembers some that the store has long dropped.
func appender(rng *rand.Rand, st *Store) func(target string, t int64, samples []Sample) AppendResult {
	known := map[string]uint64{}
	var buffer labels.Labels // a caller may reuse the memory of labels
	return func(target string, t int64, samples []Sample) AppendResult {
		if rng.IntN(2) == 0 {
			return st.Append(target, time.UnixMilli(t), samples)
		}
		refs, values := make([]uint64, len(samples)), make([]float64, len(samples))
		for i, s := range samples {
			refs[i], values[i] = known[target+s.Labels.String()], s.Value
		}
		res := st.AppendRefs(target, time.UnixMilli(t), refs, values, func(i int) labels.Labels {
			b := labels.NewScratchBuilder(4)
			samples[i].Labels.Range(func(l labels.Label) { b.Add(l.Name, l.Value) })
			b.Overwrite(&buffer)
			return buffer
		})
		for i, s := range samples {
			known[target+s.Labels.String()] = refs[i]
		}
		return res
	}
}

func randomScrape(rng *rand.Rand, target string, twins bool, counters map[string]float64) []Sample {
	var out []Sample
	for range rng.IntN(8) {
		b := labels.NewBuilder(labels.FromStrings("__name__", []string{"a_total", "b", "h_bucket", "unwanted"}[rng.IntN(4)]))
		if !twins || rng.IntN(2) == 0 {
			b.Set("pod", target)
			b.Set("namespace", "n")
		}
		b.Set("le", []string{"", "0.1", "1", "+Inf"}[rng.IntN(4)])
		ls := b.Labels()
		key := target + ls.String()
		counters[key] += float64(rng.IntN(10))
		if rng.IntN(30) == 0 {
			counters[key] = 0 // a restart
		}
		v := counters[key]
		if rng.IntN(40) == 0 {
			v = math.NaN()
		}
		out = append(out, Sample{Labels: ls, Value: v})
	}
	return out
}

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestStoreAgreesWithTheOracle(t *testing.T) {
	rng := seeded(t)
	wanted := keep(oracleKeep, "a_total", "b", "h_bucket")
	st, n := New(Options{Keep: wanted}), newNaive()
	matchers := func() []*labels.Matcher {
		pool := []*labels.Matcher{
			equal("__name__", "a_total"), equal("pod", "t1"), equal("pod", ""),
			labels.MustNewMatcher(labels.MatchRegexp, "__name__", "a.*|b"), labels.MustNewMatcher(labels.MatchNotEqual, "__name__", "b"),
			labels.MustNewMatcher(labels.MatchNotRegexp, "le", ".+"), equal("nothing", "x"),
		}
		rng.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
		return pool[:rng.IntN(3)]
	}
	stored := play(rng, 3000, true, st, n, wanted, func(now int64) {
		ms := matchers()
		from := now - rng.Int64N(oracleKeep.Milliseconds())
		to := from + rng.Int64N(now-from+1)
		want := dump(t, n, float64(from)/1000, float64(to)/1000, ms...)
		require.Equal(t, want, dump(t, st, float64(from)/1000, float64(to)/1000, ms...), "%v in [%d, %d]", ms, from, to)
	})
	require.Less(t, st.Stats().Samples, stored/4, "the store forgets")
	checkSums(t, st)
}

// checkSums counts everything again, and holds indexes to each other.
func checkSums(t *testing.T, st *Store) {
	t.Helper()
	got := st.Stats()
	want := Stats{
		Targets: len(st.targets), LateScrapes: got.LateScrapes, UnwantedSamples: got.UnwantedSamples,
		DuplicateSamples: got.DuplicateSamples, OverLimitSamples: got.OverLimitSamples, CutSamples: got.CutSamples,
	}
	for _, tg := range st.targets {
		live := 0
		for spot, s := range tg.series {
			if s != nil {
				live++
				require.Equal(t, uint32(spot), s.spot)
				require.Same(t, s, tg.find(s.ref()))
			}
		}
		require.Equal(t, live, tg.live())
	}
	sets := 0
	for name, f := range st.families {
		free := 0
		for i, p := range f.places {
			if p.series == nil {
				free++
				require.Zero(t, p.stamp)
				continue
			}
			sets++
			require.Same(t, p.series, st.byLabels[p.series.labels])
			for s := p.series; s != nil; s = s.twin {
				require.Equal(t, name, s.labels.Get("__name__"))
				require.Equal(t, uint32(i), s.place)
				require.Same(t, s, s.target.series[s.spot])
				want.Series++
				want.Samples += len(s.points)
				want.Bytes += seriesBytes + int(s.labels.ByteSize()) + pointBytes*int(s.room)
				require.GreaterOrEqual(t, int(s.room), cap(s.points))
			}
		}
		require.Len(t, f.free, free)
		require.Less(t, free, len(f.places))
	}
	require.Len(t, st.byLabels, sets)
	require.Equal(t, want, got)
}

// TestPromQLAgreesWithTheOracle runs one engine over both storages.
func TestPromQLAgreesWithTheOracle(t *testing.T) {
	rng := seeded(t)
	wanted := keep(oracleKeep, "a_total", "b", "h_bucket")
	st, n := New(Options{Keep: wanted}), newNaive()
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: oracleKeep / 2,
		NoStepSubqueryIntervalFn: func(int64) int64 { return 1000 },
	})
	// None looks back further than oracleKeep, the engine's LookbackDelta included: beyond it the store owes nothing.
	exprs := []string{
		`a_total`, `sum by (namespace, pod) (rate(a_total[5s]))`, `increase(a_total[8s])`, `irate(a_total{le!=""}[4s])`, `resets(a_total[8s])`,
		`histogram_quantile(0.9, sum by (namespace, pod, le) (rate(h_bucket[8s])))`, `avg by (pod) (b) or max by (pod) (a_total)`,
		`max_over_time(b[4s:1s])`, `rate(a_total[3s] offset 4s)`, `{__name__=~"a_total|b"}`, `count by (__name__) ({__name__=~".+"})`, `b offset 3s`,
		`quantile_over_time(0.5, a_total[7s]) / on (pod, le) last_over_time(a_total[7s])`, `absent(b)`, `timestamp(b)`,
	}
	eval := func(q storage.Queryable, expr string, now int64) string {
		query, err := engine.NewInstantQuery(t.Context(), q, nil, expr, time.UnixMilli(now))
		require.NoError(t, err)
		defer query.Close()
		res := query.Exec(t.Context())
		if res.Err != nil {
			return "error: " + res.Err.Error()
		}
		v, err := res.Vector()
		require.NoError(t, err)
		lines := make([]string, len(v))
		for i, s := range v {
			lines[i] = fmt.Sprintf("%s %.9g", s.Metric, s.F) // sums depend on the order in the last digits
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	nonEmpty := 0
	play(rng, 1000, false, st, n, wanted, func(now int64) {
		expr := exprs[rng.IntN(len(exprs))]
		want := eval(n, expr, now)
		require.Equal(t, want, eval(st, expr, now), "%s at %d", expr, now)
		if want != "" {
			nonEmpty++
		}
	})
	require.Greater(t, nonEmpty, 500)
}
