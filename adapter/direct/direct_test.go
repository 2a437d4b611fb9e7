package direct

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
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/store"
)

func at(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }

func newStore(names ...string) *store.Store {
	keep := map[string]time.Duration{}
	for _, name := range names {
		keep[name] = time.Minute
	}
	return store.New(store.Options{Keep: keep})
}

func sample(v float64, pairs ...string) store.Sample {
	return store.Sample{Labels: labels.FromStrings(pairs...), Value: v}
}

func compile(tb testing.TB, text string, opts Options) *Plan {
	tb.Helper()
	p, err := Compile(parse(tb, text), opts)
	require.NoError(tb, err, text)
	return p
}

func byPod() Options {
	return Options{MaxAge: 15 * time.Second, ObjectLabels: []string{"namespace", "pod"}}
}

func show(out *Output) string {
	var lines []string
	for _, r := range out.Results {
		lines = append(lines, fmt.Sprintf("%s = %.6g (%v)", r.Labels, r.Value, r.Seen))
	}
	for _, o := range out.Missing {
		lines = append(lines, fmt.Sprintf("missing %s (%v)", strings.Join(o.Object, "/"), o.Seen))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestUnsupported(t *testing.T) {
	for text, what := range map[string]string{
		`topk(1, a)`:                    "aggregation topk",
		`quantile(0.5, a)`:              "aggregation quantile",
		`count_values("x", a)`:          "aggregation count_values",
		`sum by (__name__) (a)`:         "aggregation by a metric's name, type or unit",
		`max_over_time(a[5s:1s])`:       "max_over_time of a subquery or a computed range",
		`a @ 1`:                         "the @ modifier",
		`a offset -1s`:                  "an offset that is negative or computed",
		`{__name__=~"a|b"}`:             "a selector of several metric names",
		`{x="y"}`:                       "a selector without a metric name",
		`{__name__="a", __name__!="b"}`: "a selector of several metric names",
		`a * on (namespace, pod) group_left (x) b`: "group_left or group_right",
		`a * on (pod) b`:                       "matching that leaves out the object's label namespace",
		`a and ignoring (pod) b`:               "matching that leaves out the object's label pod",
		`a or on (namespace, pod, __name__) b`: "matching by a metric's name, type or unit",
		`a > scalar(b)`:                        "a scalar that is not a constant",
		`a * time()`:                           "a scalar that is not a constant",
		`histogram_quantile(scalar(a), b)`:     "histogram_quantile of a quantile that is not a constant",
		`histogram_quantile(0.5, a or b)`:      "histogram_quantile of several metrics",
		`clamp_min(a, scalar(b))`:              "function clamp_min with an argument that is not a constant",
		`label_replace(a, "x", "", "", "")`:    "function label_replace with an argument that is not a constant",
		`absent(a)`:                            "function absent",
		`vector(1)`:                            "function vector",
		`quantile_over_time(0.5, a[5s])`:       "function quantile_over_time",
	} {
		_, err := Compile(parse(t, text), byPod())
		require.ErrorAs(t, err, new(*UnsupportedError), text)
		require.EqualError(t, err, what+" is not evaluated directly", text)
	}
}

func TestRules(t *testing.T) {
	st := newStore("requests_total", "latency_bucket", "waiting")
	for s := 1; s <= 20; s++ {
		for pod := range 3 {
			name := fmt.Sprint("p", pod)
			samples := []store.Sample{
				sample(float64(10*s*(pod+1)), "__name__", "requests_total", "namespace", "n", "pod", name, "code", "200"),
				sample(float64(pod), "__name__", "waiting", "namespace", "n", "pod", name),
			}
			for i, le := range []string{"0.1", "1", "+Inf"} {
				samples = append(samples, sample(float64(s*(i+1)), "__name__", "latency_bucket", "namespace", "n", "pod", name, "le", le))
			}
			switch {
			case pod == 2 && s > 15: // hangs
				continue
			case pod == 1 && s == 20:
				samples = samples[:1] // its gauge and histogram end
			}
			st.Append(name, at(float64(s)), samples)
		}
	}
	ev := New(st)
	m := Membership{ID: "services", Label: "service", MaxAge: 4 * time.Second, Of: func(_, pod string) ([]string, bool) {
		return []string{"all", "of-" + pod}, pod != "p1"
	}}
	opts := byPod()
	opts.ObjectLabels, opts.MembershipLabel = []string{"namespace", "service"}, "service"
	perPod := compile(t, `sum by (namespace, pod) (rate(requests_total[10s]))`, byPod())
	perService := compile(t, `sum by (namespace, service) (rate(requests_total[10s]))`, opts)
	quantiles := compile(t, `1000 * histogram_quantile(0.5, sum by (namespace, pod, le) (rate(latency_bucket[5s])))`, byPod())
	waiting := compile(t, `waiting > 0`, byPod())
	for range 3 {
		run := ev.Run(at(20))
		evaluate := func(p *Plan, m Membership) string {
			out, err := run.Evaluate(p, m)
			require.NoError(t, err)
			return show(out)
		}
		require.Equal(t, strings.Join([]string{
			`{namespace="n", pod="p0"} = 10 ({20000 -9223372036854775808})`,
			`{namespace="n", pod="p1"} = 20 ({20000 -9223372036854775808})`,
			`{namespace="n", pod="p2"} = 16.5 ({15000 -9223372036854775808})`, // half of its window is missing, extrapolated by half a second
		}, "\n"), evaluate(perPod, Membership{}))
		require.Equal(t, strings.Join([]string{
			`{namespace="n", service="all"} = 10 ({20000 -9223372036854775808})`,
			`{namespace="n", service="of-p0"} = 10 ({20000 -9223372036854775808})`,
		}, "\n"), evaluate(perService, m), "p1 takes no part, and p2 is too old")
		require.Equal(t, strings.Join([]string{
			`missing n/p0 ({20000 -9223372036854775808})`,
			`missing n/p1 ({9223372036854775807 19000})`,
			`{__name__="waiting", namespace="n", pod="p2"} = 2 ({15000 -9223372036854775808})`,
		}, "\n"), evaluate(waiting, Membership{}))
		require.Equal(t, strings.Join([]string{
			`{namespace="n", pod="p0"} = 550 ({20000 -9223372036854775808})`,
			`{namespace="n", pod="p1"} = 550 ({9223372036854775807 19000})`,
		}, "\n"), evaluate(quantiles, Membership{}))
	}
}

func TestMisuse(t *testing.T) {
	ev := New(newStore("a"))
	run := ev.Run(at(1))
	_, err := run.Evaluate(compile(t, "a", byPod()), Membership{Label: "service", Of: func(_, _ string) ([]string, bool) { return nil, false }})
	require.EqualError(t, err, `the plan expects the membership label "", not "service"`)
	ev.Run(at(2))
	_, err = run.Evaluate(compile(t, "a", byPod()), Membership{})
	require.EqualError(t, err, "the run is over")
}

// TestOverflow holds sums near the largest numbers to the engine's, where their order and way count.
func TestOverflow(t *testing.T) {
	st := newStore("a")
	values := [][]float64{
		{1e308, 1e308, -1e308, 5},
		{-1e308, -1e308, 3, 4},
		{math.MaxFloat64, math.MaxFloat64, math.MaxFloat64, 1},
		{1e17, 1, -1e17, 1e-9},
		{math.Inf(1), 1, 2, 3},
		{math.Inf(1), math.Inf(-1), 2, 3},
		{5e-324, -5e-324, 5e-324, 0},
	}
	for s := range 4 {
		var samples []store.Sample
		for i, v := range values {
			samples = append(samples, sample(v[s], "__name__", "a", "i", fmt.Sprint(i)))
		}
		st.Append("t", at(float64(s+1)), samples)
	}
	w := &world{st: st, engines: newEngine()}
	for _, text := range []string{
		"sum_over_time(a[9s])", "avg_over_time(a[9s])", "avg(a)", "sum(a)", "stddev(a)", "avg(a offset 1s)", "sum(a offset 2s)",
		`avg({__name__="a",i=~"0|2"} offset 3s)`, "rate(a[9s])", "delta(a[9s])", "max(a)", "min_over_time(a[9s])",
	} {
		want, err := w.engine(t, text, Membership{}, at(4))
		require.NoError(t, err)
		got, err := New(st).Run(at(4)).Evaluate(compile(t, text, Options{MaxAge: testMaxAge}), Membership{})
		require.NoError(t, err)
		compareVectors(t, want, got.Results, text)
	}
}

// TestForgets holds memory to the plans and series in use.
func TestForgets(t *testing.T) {
	f, rules := newFleet(20), fleetPlans(t)
	ev := New(f.st)
	use := func(runs int, rules []fleetRule) {
		for range runs {
			run := ev.Run(f.now())
			for _, r := range rules {
				_, err := run.Evaluate(r.plan, r.m)
				require.NoError(t, err)
			}
		}
	}
	use(1, rules[:9])
	nodes := len(ev.nodes)
	use(1, rules)
	require.Greater(t, len(ev.nodes), 2*nodes)
	require.Equal(t, 20, used(ev.pods))
	use(keepRuns+1, rules[:9])
	require.Len(t, ev.nodes, nodes)
	require.Len(t, ev.pipes, 9)
	require.Empty(t, ev.members)
	require.Len(t, ev.objects, 1)
	for pod := range 19 {
		f.st.Forget(f.targets[pod])
	}
	use(1, rules[:9])
	require.Equal(t, 1, used(ev.pods))
	for _, o := range ev.objects {
		require.Equal(t, 1, used(o.table))
	}
	use(keepRuns+1, nil)
	require.Empty(t, ev.nodes)
	require.Empty(t, ev.objects)
	require.Zero(t, used(ev.pods))
}

func used[T any](t *table[T]) int { return len(t.stamp) - len(t.free) }

// TestMemory states what the evaluator keeps for a series under 27 rules.
func TestMemory(t *testing.T) {
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	f, rules := newFleet(200), fleetPlans(t)
	before := heap()
	ev := New(f.st)
	for range 3 {
		run := ev.Run(f.now())
		for _, r := range rules {
			_, err := run.Evaluate(r.plan, r.m)
			require.NoError(t, err)
		}
	}
	each := (heap() - before) / f.st.Stats().Series
	t.Logf("%d bytes a series", each)
	require.Less(t, each, 1000)
	runtime.KeepAlive(ev)
	runtime.KeepAlive(f)
}

// TestConcurrentScrapesAreNeverTorn has each scrape write one number into all its series: the sum over a target must be a
// multiple of it, and differences 0.
func TestConcurrentScrapesAreNeverTorn(t *testing.T) {
	const targets, each, scrapes = 4, 20, 300
	st := newStore("a")
	var writers, readers sync.WaitGroup
	for n := range targets {
		writers.Go(func() {
			name := fmt.Sprint("t", n)
			for i := range scrapes {
				var samples []store.Sample
				for j := range each {
					samples = append(samples, sample(float64(i), "__name__", "a", "pod", name, "j", fmt.Sprint(j)))
				}
				st.Append(name, at(float64(i+1)/10), samples)
				if n == 0 && i%100 == 99 {
					st.Forget(name)
				}
			}
		})
	}
	done := make(chan struct{})
	plan := compile(t, `max by (pod) (a) - min by (pod) (a)`, Options{MaxAge: time.Hour, ObjectLabels: []string{"pod"}})
	for range 2 {
		readers.Go(func() {
			ev := New(st)
			for {
				select {
				case <-done:
					return
				default:
				}
				out, err := ev.Run(at(1000)).Evaluate(plan, Membership{})
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range out.Results {
					if r.Value != 0 {
						t.Errorf("torn scrape of %s: %g", r.Labels, r.Value)
						return
					}
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}
