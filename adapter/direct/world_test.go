package direct

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/store"
)

// world is a random history of a few pods.
type world struct {
	rng     *rand.Rand
	st      *store.Store
	now     time.Time
	values  map[string]float64
	present map[string]bool // which series targets expose now
	version uint64          // of memberships
	pods    [4]int          // how often each pod was replaced
	engines *promql.Engine
}

func keepAll() map[string]time.Duration {
	keep := map[string]time.Duration{}
	for _, name := range []string{"a_total", "b_total", "g", "f", "h_bucket", "k_bucket"} {
		keep[name] = 20 * time.Second
	}
	return keep
}

func newWorld(rng *rand.Rand) *world {
	return &world{
		rng: rng, st: store.New(store.Options{Keep: keepAll()}), now: time.UnixMilli(1_000_000),
		values: map[string]float64{}, present: map[string]bool{},
		engines: newEngine(),
	}
}

func newEngine() *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{MaxSamples: 1e7, Timeout: time.Minute, LookbackDelta: testMaxAge})
}

// step moves the clock and scrapes some targets.
func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.rng.IntN(1500)) * time.Millisecond)
	switch w.rng.IntN(40) {
	case 0, 1:
		target := w.rng.IntN(6)
		w.st.Forget(fmt.Sprint("t", target))
		if target < 4 && w.rng.IntN(2) == 0 {
			w.pods[target]++
		}
	case 2:
		keep := keepAll()
		delete(keep, "g")
		w.st.SetKeep(keep)
		w.st.SetKeep(keepAll())
	case 3:
		w.version++
	}
	for target := range 6 {
		if w.rng.IntN(5) > 0 {
			w.st.Append(fmt.Sprint("t", target), w.now.Add(-time.Duration(w.rng.IntN(100))*time.Millisecond), w.scrape(target))
		}
	}
}

// scrape returns what a target exposes.
func (w *world) scrape(target int) []store.Sample {
	var out []store.Sample
	add := func(v float64, pairs ...string) {
		b := labels.NewBuilder(labels.FromStrings(pairs...))
		if labelled := target % 5; labelled < 4 { // the last one is the twin of the first
			b.Set("namespace", fmt.Sprint("n", labelled%2)).Set("pod", fmt.Sprint("p", (labelled/2+w.pods[labelled])%10))
		}
		out = append(out, store.Sample{Labels: b.Labels(), Value: v})
	}
	for _, code := range []string{"200", "500", ""} {
		for _, name := range []string{"a_total", "b_total"} {
			if v, ok := w.counter(fmt.Sprint(target, name, code)); ok {
				add(v, "__name__", name, "code", code)
			}
		}
	}
	for _, name := range []string{"g", "f"} {
		for _, x := range []string{"1", "2"} {
			if w.exposed(fmt.Sprint(target, name, x)) {
				add(w.gauge(), "__name__", name, "x", x, "service", []string{"", "own"}[target%5%2])
			}
		}
	}
	for _, le := range []string{"0.1", "1", "1.0", "1e1", "+Inf", "NaN", "abc", "-1", ""} {
		for _, name := range []string{"h_bucket", "k_bucket"} {
			if v, ok := w.counter(fmt.Sprint(target, name, le)); ok {
				add(v, "__name__", name, "le", le)
			}
		}
	}
	return out
}

// exposed says whether a series is there; it comes and goes.
func (w *world) exposed(key string) bool {
	if _, ok := w.present[key]; !ok || w.rng.IntN(30) == 0 {
		w.present[key] = w.rng.IntN(3) > 0
	}
	return w.present[key]
}

func (w *world) counter(key string) (float64, bool) {
	w.values[key] += float64(w.rng.IntN(20)) / 4
	switch w.rng.IntN(60) {
	case 0:
		w.values[key] = float64(w.rng.IntN(3))
	case 1:
		return math.NaN(), w.exposed(key)
	case 2:
		return -w.values[key], w.exposed(key)
	}
	return w.values[key], w.exposed(key)
}

func (w *world) gauge() float64 {
	switch w.rng.IntN(30) {
	case 0:
		return math.NaN()
	case 1:
		return math.Inf(1)
	case 2:
		return math.Inf(-1)
	case 3:
		return 0
	}
	return float64(w.rng.IntN(4000)-1000) / 8
}

func (w *world) membership(id string) Membership {
	version := w.version
	switch id {
	case "filter":
		return Membership{ID: id, Version: version, MaxAge: 3 * time.Second, Of: func(namespace, pod string) ([]string, bool) {
			return []string{namespace + pod, "common"}, (version+uint64(len(namespace))+uint64(pod[1]))%3 > 0
		}}
	case "service":
		return Membership{ID: id, Version: version, Of: func(namespace, pod string) ([]string, bool) {
			switch (version + uint64(namespace[1])) % 3 {
			case 0:
				return nil, true
			case 1:
				return []string{"s" + pod}, true
			}
			return []string{"s" + pod, "all"}, true
		}}
	}
	return Membership{}
}

func (w *world) engine(t *testing.T, text string, m Membership, now time.Time) (promql.Vector, error) {
	q, err := w.engines.NewInstantQuery(t.Context(), &membersQueryable{w.st, m}, nil, text, now)
	require.NoError(t, err, text)
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	return slices.Clone(v), err
}

// membersQueryable is the dumb way to a membership: it writes down every series as the engine shall see it.
type membersQueryable struct {
	storage.Queryable
	m Membership
}

func (q *membersQueryable) Querier(mint, maxt int64) (storage.Querier, error) {
	in, err := q.Queryable.Querier(mint, maxt)
	return &membersQuerier{in, q.m}, err
}

type membersQuerier struct {
	storage.Querier
	m Membership
}

func (q *membersQuerier) Select(
	ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher,
) storage.SeriesSet {
	if q.m.Of == nil {
		return q.Querier.Select(ctx, sorted, hints, matchers...)
	}
	var own, others []*labels.Matcher
	for _, m := range matchers {
		if q.m.Label != "" && m.Name == q.m.Label {
			own = append(own, m)
		} else {
			others = append(others, m)
		}
	}
	set := q.Querier.Select(ctx, sorted, hints, others...)
	out := &listSet{i: -1}
	for set.Next() {
		s := set.At()
		ls := s.Labels()
		if last, _ := newest(s, hints.Start, hints.End); q.m.MaxAge > 0 && last <= hints.End-q.m.MaxAge.Milliseconds() {
			continue
		}
		sets := []labels.Labels{ls}
		if pod := ls.Get("pod"); pod != "" {
			values, ok := q.m.Of(ls.Get("namespace"), pod)
			switch {
			case !ok:
				sets = nil
			case q.m.Label != "":
				sets = nil
				for _, v := range values {
					sets = append(sets, labels.NewBuilder(ls).Set(q.m.Label, v).Labels())
				}
			}
		}
		for _, ls := range sets {
			if !slices.ContainsFunc(own, func(m *labels.Matcher) bool { return !m.Matches(ls.Get(m.Name)) }) {
				out.list = append(out.list, relabelled{s, ls})
			}
		}
	}
	return out
}

type relabelled struct {
	storage.Series
	labels labels.Labels
}

func (r relabelled) Labels() labels.Labels { return r.labels }

type listSet struct {
	list []storage.Series
	i    int
}

func (s *listSet) Next() bool                        { s.i++; return s.i < len(s.list) }
func (s *listSet) At() storage.Series                { return s.list[s.i] }
func (s *listSet) Err() error                        { return nil }
func (s *listSet) Warnings() annotations.Annotations { return nil }

// newest returns the time of the newest sample in a range, and whether the series ended after it.
func newest(s storage.Series, from, to int64) (last int64, ended bool) {
	last = math.MinInt64
	it := s.Iterator(nil)
	for it.Next() != chunkenc.ValNone {
		t, v := it.At()
		if t < from || t > to {
			continue
		}
		if ended = value.IsStaleNaN(v); !ended {
			last = t
		}
	}
	return last, ended
}
