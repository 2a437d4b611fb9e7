package rules

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/direct"
	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/store"
)

// hostile fails in its own way for some metric names and passes on the others.
type hostile struct{ storage.Queryable }

func (h hostile) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := h.Queryable.Querier(mint, maxt)
	return hostileQuerier{q}, err
}

type hostileQuerier struct{ storage.Querier }

func (q hostileQuerier) Select(ctx context.Context, s bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	switch ms[0].Value {
	case "slow":
		<-ctx.Done()
		return storage.ErrSeriesSet(ctx.Err())
	case "broken":
		return storage.ErrSeriesSet(errors.New("disk on fire"))
	case "panics":
		panic("not today")
	}
	return q.Querier.Select(ctx, s, h, ms...)
}

func TestOneRuleNeverHarmsAnother(t *testing.T) {
	set := mustCompile(t, podRule("slow", "slow"), podRule("broken", "broken"), podRule("panics", "panics"),
		podRule("huge", `sum by (namespace, pod) (sum_over_time(a[10s]))`), podRule("clash", "a + on (namespace) a"), podRule("good", `max by (namespace, pod) (a)`))
	st := store.New(store.Options{Keep: set.Needs()})
	now := time.UnixMilli(1e12)
	for i := range 10 {
		at := now.Add(time.Duration(i-9) * time.Second)
		st.Append("t", at, []store.Sample{
			{Labels: labels.FromStrings("__name__", "a", "namespace", "n", "pod", "p"), Value: 4},
			{Labels: labels.FromStrings("__name__", "a", "namespace", "n", "pod", "q"), Value: 5},
		})
	}
	snap := evaluate(t, set, Options{Store: hostile{st}, Timeout: 50 * time.Millisecond, MaxSamples: 8}, now)
	v, err := snap.Lookup("good", pod("p"), now)
	require.NoError(t, err)
	require.Equal(t, metric.Value{Value: 4, Time: now, Rule: "good"}, v)
	for name, reason := range map[string]string{
		"slow": "deadline exceeded", "broken": "disk on fire", "panics": "panic: not today", "huge": "too many samples", "clash": "many-to-many",
	} {
		_, err := snap.Lookup(name, pod("p"), now)
		var absent *metric.AbsentError
		require.ErrorAs(t, err, &absent, name)
		require.Contains(t, absent.Reason, reason)
	}
	_, err = snap.Lookup("good", metric.Object{Resource: "services", Namespace: "n", Name: "p"}, now)
	require.Equal(t, &metric.UnknownError{Metric: "good", Resource: "services"}, err)
	require.Len(t, snap.Metrics(), 6, "all stay discoverable")
	require.Equal(t, now, snap.At())
}

// TestEvaluateDuringScrapes is for the race detector: one store, writers, readers, changing rules and ticks at once.
func TestEvaluateDuringScrapes(t *testing.T) {
	sets := []*Set{mustCompile(t, manyRules()[:30]...), mustCompile(t, manyRules()[10:40]...)}
	keep := mustCompile(t, manyRules()...).Needs()
	st := store.New(store.Options{Keep: keep})
	for _, opts := range []Options{
		{Store: st, Directory: manyPods(5)},
		{Store: st, Directory: manyPods(5), Direct: func() *direct.Evaluator { return direct.New(st) }},
	} {
		evaluator := NewEvaluator(opts)
		evaluator.SetRules(sets[0])
		var snapshot atomic.Pointer[Snapshot]
		snapshot.Store(evaluator.Tick(time.UnixMilli(0)))
		var wg sync.WaitGroup
		wg.Go(func() {
			for s := range 60 {
				for p := range 5 {
					fill(st, p, s)
				}
				evaluator.SetRules(sets[s%2])
			}
		})
		wg.Go(func() {
			for range 200 {
				snap := snapshot.Load()
				for _, m := range snap.Metrics() {
					for o := range snap.Objects(m.Name, m.Resource, "") {
						_, _ = snap.Lookup(m.Name, o, snap.At())
					}
				}
			}
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			wg.Wait()
		}()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			snapshot.Store(evaluator.Tick(time.UnixMilli(60_000)))
			for _, status := range snapshot.Load().Statuses() {
				require.NoError(t, status.Err)
			}
		}
		evaluator.Close()
	}
}

// sleepy is a Queryable that takes its time for some metric names.
type sleepy struct {
	storage.Queryable
	mu    sync.Mutex
	takes map[string]time.Duration
	asked map[string]int
}

func (s *sleepy) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := s.Queryable.Querier(mint, maxt)
	return sleepyQuerier{q, s}, err
}

type sleepyQuerier struct {
	storage.Querier
	s *sleepy
}

func (q sleepyQuerier) Select(ctx context.Context, s bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	q.s.mu.Lock()
	takes := q.s.takes[ms[0].Value]
	q.s.asked[ms[0].Value]++
	q.s.mu.Unlock()
	select {
	case <-time.After(takes):
		return q.Querier.Select(ctx, s, h, ms...)
	case <-ctx.Done():
		return storage.ErrSeriesSet(ctx.Err())
	}
}

// ticking runs an evaluator for some time, half a second a tick, on a store in which gauges named by their values tell
// the time of their scrape. It calls look after each tick.
func ticking(t *testing.T, opts Options, set *Set, st *store.Store, length time.Duration, look func(*Snapshot, time.Time)) {
	t.Helper()
	opts.Clock = time.Now
	e := NewEvaluator(opts)
	e.SetRules(set)
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(500*time.Millisecond - time.Duration(time.Now().UnixNano())%(500*time.Millisecond)) {
		now := time.Now()
		var samples []store.Sample
		for name := range set.Needs() {
			samples = append(samples, store.Sample{
				Labels: labels.FromStrings("__name__", name, "namespace", "n", "pod", "p"), Value: float64(now.UnixMilli()) / 1000,
			})
		}
		st.Append("t", now, samples)
		snap := e.Tick(now)
		require.LessOrEqual(t, time.Since(now), DefaultBudget, "a tick is out after its budget")
		require.Equal(t, now, snap.At())
		look(snap, now)
	}
	e.Close() // and the bubble sees whether a goroutine is left
}

// dataAge returns how old the data of the one pod's value is; -1 for no value.
func dataAge(t *testing.T, snap *Snapshot, name string, now time.Time) time.Duration {
	t.Helper()
	v, err := snap.Lookup(name, pod("p"), now)
	if err != nil {
		return -1
	}
	require.InDelta(t, float64(v.Time.UnixMilli())/1000, v.Value, 1e-6)
	return v.Age(now)
}

func TestSlowRulesDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var list []Rule
		for i := range 40 {
			list = append(list, podRule(fmt.Sprint("quick", i), fmt.Sprint("q", i)))
		}
		// More of them than there are processors.
		takes := map[string]time.Duration{}
		for i := range 6 {
			list = append(list, podRule(fmt.Sprint("slow", i), fmt.Sprint("s", i)))
			takes[fmt.Sprint("s", i)] = 500 * time.Millisecond // twice: a look whether there is anything, then the query
		}
		takes["s5"] = time.Hour
		set := mustCompile(t, list...)
		st := store.New(store.Options{Keep: set.Needs()})
		s := &sleepy{Queryable: st, takes: takes, asked: map[string]int{}}
		begin := time.Now()
		worst := map[string]time.Duration{}
		ticking(t, Options{Store: s}, set, st, time.Minute, func(snap *Snapshot, now time.Time) {
			if now.Sub(begin) < 10*time.Second { // new rules take turns with slow ones at first
				return
			}
			for _, c := range set.Rules() {
				age := dataAge(t, snap, c.Rule.Name, now)
				if c.Rule.Name != "slow5" {
					require.GreaterOrEqual(t, age, time.Duration(0), c.Rule.Name)
				}
				worst[c.Rule.Name] = max(worst[c.Rule.Name], age)
			}
			require.ErrorContains(t, snap.Statuses()[45].Err, "deadline exceeded")
		})
		for i := range 40 {
			require.Zero(t, worst[fmt.Sprint("quick", i)])
		}
		for i := range 5 {
			name := fmt.Sprint("s", i)
			require.LessOrEqual(t, worst["slow"+name[1:]], 12*time.Second, "ten times its duration, and a tick")
			require.LessOrEqual(t, s.asked[name], 14, "a tenth of the time: 60 s of 5 s each, and twice at the start")
		}
		require.LessOrEqual(t, s.asked["s5"], 4, "60 s of 20 s each")
	})
}

// TestARuleThatBecomesSlow: what it had is carried until it is too old, while it goes on in the background.
func TestARuleThatBecomesSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := mustCompile(t, podRule("a", "a"), podRule("b", "b"), podRule("c", "c"))
		st := store.New(store.Options{Keep: set.Needs()})
		s := &sleepy{Queryable: st, takes: map[string]time.Duration{}, asked: map[string]int{}}
		begin := time.Now()
		ticking(t, Options{Store: s}, set, st, time.Minute, func(snap *Snapshot, now time.Time) {
			s.mu.Lock()
			defer s.mu.Unlock()
			switch since := now.Sub(begin); {
			case since < 10*time.Second:
				require.Zero(t, dataAge(t, snap, "a", now))
			case since == 10*time.Second:
				s.takes["a"] = 1500 * time.Millisecond
				s.takes["b"] = 1500 * time.Millisecond
			case since > 16*time.Second && since < 25*time.Second:
				require.Positive(t, dataAge(t, snap, "a", now), "evaluated every 15 s")
				require.Zero(t, dataAge(t, snap, "c", now))
			case since == 26*time.Second:
				clear(s.takes)
			case since > 42*time.Second:
				require.Zero(t, dataAge(t, snap, "a", now), "it is quick again")
				require.Zero(t, dataAge(t, snap, "b", now))
			}
			require.NoError(t, snap.Statuses()[0].Err)
		})
	})
}

// slowPods is a directory that takes its time for one pod.
type slowPods struct {
	takes   atomic.Int64
	version atomic.Uint64
	panics  atomic.Bool
}

func (d *slowPods) Pod(_, name string) (metric.Pod, bool) {
	if d.panics.Load() {
		panic("not today")
	}
	time.Sleep(time.Duration(d.takes.Load()))
	return metric.Pod{Services: []string{name}}, true
}

func (d *slowPods) Version() uint64 { return d.version.Add(1) }

// TestThePlansLane: a plan that hangs is left to itself, and the other plans get on.
func TestThePlansLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := podRule("slow", "sum by (namespace, service) (a)")
		slow.Target.Resource = metric.Services
		set := mustCompile(t, podRule("quick", "sum by (namespace, pod) (b)"), slow, podRule("after", "sum by (namespace, pod) (c)"))
		st := store.New(store.Options{Keep: set.Needs()})
		pods := &slowPods{}
		begin := time.Now()
		object := metric.Object{Resource: metric.Services, Namespace: "n", Name: "p"}
		ticking(t, Options{Store: st, Direct: func() *direct.Evaluator { return direct.New(st) }, Directory: pods}, set, st, 2*time.Minute,
			func(snap *Snapshot, now time.Time) {
				for _, s := range snap.Statuses() {
					if !pods.panics.Load() {
						require.True(t, s.Direct)
						require.NoError(t, s.Err)
					}
				}
				switch since := now.Sub(begin); {
				case since == 10*time.Second:
					pods.takes.Store(int64(3 * time.Second))
				case since == 110500*time.Millisecond: // the lane that panicked is given up
				case since < 10*time.Second, since > 12*time.Second:
					require.Zero(t, dataAge(t, snap, "quick", now), since)
					require.Zero(t, dataAge(t, snap, "after", now), since)
				}
				v, err := snap.Lookup("slow", object, now)
				switch since := now.Sub(begin); {
				case since < 10*time.Second:
					require.NoError(t, err)
					require.Zero(t, v.Age(now))
				case since == 70*time.Second:
					pods.takes.Store(0)
				case since > 105*time.Second && since < 110*time.Second: // after its pause
					require.NoError(t, err)
					require.Zero(t, v.Age(now))
				case since == 110*time.Second:
					pods.panics.Store(true)
				case since > 111*time.Second:
					require.ErrorContains(t, snap.Statuses()[1].Err, "not today")
				}
			})
	})
}

func TestTooManyObjects(t *testing.T) {
	set := mustCompile(t, podRule("many", "a"), podRule("few", "sum by (namespace, pod) (a) > 96"), podRule("one", "topk(1, a)"))
	st := store.New(store.Options{Keep: set.Needs()})
	now := time.UnixMilli(1e12)
	var samples []store.Sample
	for i := range 100 {
		samples = append(samples, store.Sample{Labels: labels.FromStrings("__name__", "a", "namespace", "n", "pod", fmt.Sprint(i)), Value: float64(i)})
	}
	st.Append("t", now, samples)
	snap := evaluate(t, set, Options{Store: st, MaxResults: 99}, now)
	for i, s := range snap.Statuses() {
		if i > 0 { // objects without a result are told of as far as there is room
			require.NoError(t, s.Err)
			continue
		}
		require.EqualError(t, s.Err, "cannot evaluate: the expression describes 100 objects, at most 99; aggregate, or select fewer series")
	}
	snap = evaluate(t, set, Options{Store: st, MaxResults: 100}, now)
	for i, want := range []int{100, 3, 1} {
		require.NoError(t, snap.Statuses()[i].Err)
		require.Equal(t, want, snap.Statuses()[i].Objects)
	}
}

// TestChangedRulesKeepWhatStays: equal rules keep values and pauses, and what is known of their series.
func TestChangedRulesKeepWhatStays(t *testing.T) {
	st := store.New(store.Options{Keep: map[string]time.Duration{"a": time.Minute}})
	now := time.UnixMilli(1e12)
	st.Append("t", now, []store.Sample{{Labels: labels.FromStrings("__name__", "a", "namespace", "n", "pod", "p"), Value: 4}})
	e := NewEvaluator(Options{Store: st})
	defer e.Close()
	stays := podRule("stays", "a")
	e.SetRules(mustCompile(t, stays, podRule("goes", "a")))
	settle(t, e, now)
	kept := e.states[0]
	kept.due = now.Add(time.Hour)
	stays.Unit = "things"
	e.SetRules(mustCompile(t, podRule("comes", "a"), stays))
	snap := settle(t, e, now.Add(time.Second))
	require.Same(t, kept, e.states[1])
	_, err := snap.Lookup("stays", pod("p"), now)
	require.NoError(t, err)
	require.Equal(t, now, snap.Statuses()[1].Evaluated)
	require.Equal(t, "things", snap.Metrics()[1].Unit)
	_, err = snap.Lookup("goes", pod("p"), now)
	require.Equal(t, &metric.UnknownError{Metric: "goes", Resource: metric.Pods}, err)
	e.Close()
	require.Equal(t, now.Add(2*time.Second), e.Tick(now.Add(2*time.Second)).At(), "a tick after the end evaluates nothing")
}
