package rules

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/store"
)

func mustCompile(tb testing.TB, rules ...Rule) *Set {
	tb.Helper()
	set, err := Compile(rules)
	require.NoError(tb, err)
	return set
}

func podRule(name, expr string) Rule { return Rule{Metric: name, Resource: Pods, Expr: expr} }

func pod(name string) metric.Object {
	return metric.Object{Resource: Pods, Namespace: "n", Name: name}
}

func TestDefaultsCompile(t *testing.T) {
	set := mustCompile(t, Defaults()...)
	for _, c := range set.Rules() {
		require.NoError(t, c.Err)
		require.False(t, c.mixes, c.Rule.Metric)
		require.NotEmpty(t, c.Rule.Unit)
	}
	require.Equal(t, map[string]time.Duration{
		"vllm:request_success_total":              10 * time.Second,
		"http_requests_total":                     10 * time.Second,
		"vllm:e2e_request_latency_seconds_bucket": 30 * time.Second,
		"http_request_duration_seconds_bucket":    30 * time.Second,
		"gpu_pod_utilization_ratio":               15 * time.Second,
	}, set.Needs())
}

func TestRuleErrorsAreTyped(t *testing.T) {
	set, err := Compile([]Rule{podRule("bad", "rate("), podRule("good", "a"), podRule("worse", "1")})
	var bad *RuleError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "bad", bad.Metric)
	var parseErr parser.ParseErrors
	require.ErrorAs(t, err, &parseErr)
	require.Equal(t, 2, strings.Count(err.Error(), "rule \""))
	require.Error(t, set.Rules()[0].Err)
	require.NoError(t, set.Rules()[1].Err)
	require.Equal(t, map[string]time.Duration{"a": metric.DefaultMaxAge}, set.Needs())
}

// TestNeedsAgreesWithTheEngine: the largest look-back is what the engine itself would ask a storage for.
func TestNeedsAgreesWithTheEngine(t *testing.T) {
	for _, expr := range []string{
		"a", "a offset 20s", "rate(a[10s])", "rate(a[10s] offset 3s)", "rate(a[10s] anchored)", "max_over_time(a[10s:1s])",
		"max_over_time(rate(a[10s])[1m:])", "max_over_time(rate(a[10s] offset 7s)[1m:5s] offset 2m) / b",
		"sum_over_time(max_over_time(a[5s:1s] offset 1s)[30s:2s] offset 4s)", "histogram_quantile(0.9, sum by (le) (rate(a[5m]))) or rate(b[1h])",
	} {
		c := mustCompile(t, podRule("m", expr)).Rules()[0]
		parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
		require.NoError(t, err)
		now := time.UnixMilli(1e12)
		mint, maxt := promql.FindMinMaxTime(&parser.EvalStmt{Expr: parsed, Start: now, End: now, LookbackDelta: metric.DefaultMaxAge})
		require.LessOrEqual(t, maxt, now.UnixMilli())
		// The engine's range begins one millisecond after the look-back: it is open there.
		require.Equal(t, time.Duration(now.UnixMilli()-mint+1)*time.Millisecond, c.lookBack(), expr)
	}
}

func TestMixes(t *testing.T) {
	for expr, want := range map[string]bool{
		`a`: false, `a / b`: false, `a or b`: false, `sum by (namespace, pod) (a)`: false,
		`a / on (namespace, pod) group_left (x) b`: false, `a / ignoring (uuid) b`: false, `a * 2`: false, `label_replace(a, "x", "$1", "y", "(.*)")`: false,
		`a / on (namespace) group_left b`: true, `a / ignoring (pod) group_left b`: true, `a * on (namespace, node) group_left (pod) b`: true,
		`a * ignoring (uuid) group_left (pod) b`: true, `a / scalar(b)`: true, `label_replace(a, "pod", "$1", "y", "(.*)")`: true,
		`label_join(a, "namespace", "", "y")`: true, `label_replace(a, ("pod"), "$1", "y", "(.*)")`: true, `count_values by (namespace) ("pod", a)`: true,
		`a and on () b`: true, `a unless on (namespace) b`: true,
	} {
		require.Equal(t, want, mustCompile(t, podRule("m", expr)).Rules()[0].mixes, expr)
	}
}

// TestAgesAgreeWithAnOracle replays random histories and works out by brute force what may be served how old.
func TestAgesAgreeWithAnOracle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	type series struct {
		newest int64 // ms
		ended  bool
	}
	set := mustCompile(t, podRule("gauge", `sum by (namespace, pod) (g)`), podRule("rate", `sum by (namespace, pod) (rate(c_total[8s]))`))
	ranges := map[string]int64{"gauge": metric.DefaultMaxAge.Milliseconds(), "rate": 8000}
	st := store.New(store.Options{Keep: set.Needs()})
	evaluator := NewEvaluator(set, EvaluatorOptions{})
	known := map[string]map[string]*series{} // metric/pod → series
	served := 0
	clock := int64(1_000_000)
	for range 1500 {
		clock += rng.Int64N(1500)
		name := fmt.Sprint("p", rng.IntN(3))
		target := fmt.Sprint(name, "-", rng.IntN(2)) // two targets describe each pod
		if rng.IntN(4) > 0 {
			var samples []store.Sample
			now := map[string]bool{}
			for rule, base := range map[string]string{"gauge": "g", "rate": "c_total"} {
				key := rule + "/" + name
				if known[key] == nil {
					known[key] = map[string]*series{}
				}
				for i := range 2 {
					id := fmt.Sprint(target, "/", i)
					if rng.IntN(3) == 0 {
						continue
					}
					samples = append(samples, store.Sample{Value: float64(clock), Labels: labels.FromStrings("__name__", base, "namespace", "n", "pod", name, "id", id)})
					known[key][id] = &series{newest: clock}
					now[key+id] = true
				}
				for id, s := range known[key] {
					if strings.HasPrefix(id, target) && !now[key+id] && s.newest < clock {
						s.ended = true
					}
				}
			}
			if st.Append(target, time.UnixMilli(clock), samples).Late {
				continue
			}
		}
		lookup := time.UnixMilli(clock).Add(time.Duration(rng.IntN(20)) * time.Second)
		snap := evaluator.Evaluate(t.Context(), st, time.UnixMilli(clock))
		for rule, window := range ranges {
			oldest := int64(math.MaxInt64)
			for _, s := range known[rule+"/"+name] {
				if !s.ended && s.newest > clock-window {
					oldest = min(oldest, s.newest)
				}
			}
			v, err := snap.Lookup(rule, pod(name), lookup)
			if err != nil {
				var absent *metric.AbsentError
				require.ErrorAs(t, err, &absent)
				young := oldest != math.MaxInt64 && lookup.UnixMilli()-oldest <= metric.DefaultMaxAge.Milliseconds()
				require.False(t, young && rule == "gauge", "%s at %d: %v", rule, clock, err) // a rate may lack its second sample
				continue
			}
			served++
			require.Equal(t, oldest, v.Time.UnixMilli(), "%s of %s at %d", rule, name, clock)
			require.LessOrEqual(t, v.Age(lookup), metric.DefaultMaxAge)
		}
	}
	require.Greater(t, served, 300)
}

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
	snap := NewEvaluator(set, EvaluatorOptions{Timeout: 50 * time.Millisecond, MaxSamples: 8}).Evaluate(t.Context(), hostile{st}, now)
	v, err := snap.Lookup("good", pod("p"), now)
	require.NoError(t, err)
	require.Equal(t, metric.Value{Value: 4, Time: now}, v)
	for name, reason := range map[string]string{
		"slow": "timed out", "broken": "disk on fire", "panics": "panic: not today", "huge": "too many samples", "clash": "many-to-many",
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

func TestObjectsOfANamespace(t *testing.T) {
	set := mustCompile(t, podRule("m", "a"))
	st := store.New(store.Options{Keep: set.Needs()})
	var samples []store.Sample
	for _, name := range []string{"b/2", "b/1", "a/9", "c/0", "ba/3"} {
		ns, p, _ := strings.Cut(name, "/")
		samples = append(samples, store.Sample{Labels: labels.FromStrings("__name__", "a", "namespace", ns, "pod", p)})
	}
	st.Append("t", time.UnixMilli(1000), samples)
	var durations time.Time
	snap := NewEvaluator(set, EvaluatorOptions{Clock: func() time.Time { durations = durations.Add(time.Second); return durations }}).
		Evaluate(t.Context(), st, time.UnixMilli(1000))
	list := func(ns string) (names []string) {
		for o := range snap.Objects("m", Pods, ns) {
			names = append(names, o.Namespace+"/"+o.Name)
		}
		return names
	}
	require.Equal(t, []string{"a/9", "b/1", "b/2", "ba/3", "c/0"}, list(""))
	require.Equal(t, []string{"b/1", "b/2"}, list("b"))
	require.Empty(t, list("bb"))
	for o := range snap.Objects("m", Pods, "") {
		require.Equal(t, "9", o.Name)
		break
	}
	for range snap.Objects("other", Pods, "") {
		t.Fatal("no such metric")
	}
	require.Equal(t, time.Second, snap.Statuses()[0].Duration)
	require.Equal(t, 5, snap.Statuses()[0].Objects)
}

// TestEvaluateDuringScrapes is for the race detector: one store, writers and evaluations at once.
func TestEvaluateDuringScrapes(t *testing.T) {
	set := mustCompile(t, Defaults()...)
	st := store.New(store.Options{Keep: set.Needs()})
	evaluator := NewEvaluator(set, EvaluatorOptions{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range 60 {
			for p := range 5 {
				fill(st, p, s)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for _, status := range evaluator.Evaluate(t.Context(), st, time.UnixMilli(60_000)).Statuses() {
			require.NoError(t, status.Err)
		}
	}
}

// fill appends second s of a pod: 10 requests/s, a histogram of 12 buckets, two devices.
func fill(st *store.Store, p, s int) {
	base := []string{"namespace", "inference", "pod", fmt.Sprintf("llama-70b-7d9f8c6b5d-%05d", p)}
	var out []store.Sample
	add := func(v float64, pairs ...string) {
		out = append(out, store.Sample{Labels: labels.FromStrings(append(pairs, base...)...), Value: v})
	}
	for le := range 12 {
		add(float64(s*le), "__name__", "vllm:e2e_request_latency_seconds_bucket", "model_name", "m", "le", fmt.Sprint(float64(le+1)*0.25))
	}
	add(float64(s*10), "__name__", "vllm:e2e_request_latency_seconds_bucket", "model_name", "m", "le", "+Inf")
	add(float64(s*8), "__name__", "vllm:request_success_total", "model_name", "m", "finished_reason", "stop")
	add(float64(s*2), "__name__", "vllm:request_success_total", "model_name", "m", "finished_reason", "length")
	for gpu := range 2 {
		add(0.5, "__name__", "gpu_pod_utilization_ratio", "container", "vllm", "uuid", fmt.Sprintf("GPU-%d-%d", p, gpu))
	}
	st.Append(fmt.Sprint("t", p), time.UnixMilli(int64(s+1)*1000), out)
}

func BenchmarkEvaluate(b *testing.B) {
	const pods = 1000
	set := mustCompile(b, Defaults()...)
	st := store.New(store.Options{Keep: set.Needs()})
	for p := range pods {
		for s := range 60 {
			fill(st, p, s)
		}
	}
	evaluator := NewEvaluator(set, EvaluatorOptions{})
	now := time.UnixMilli(60_000)
	b.ReportAllocs()
	var snap *Snapshot
	for b.Loop() {
		snap = evaluator.Evaluate(b.Context(), st, now)
	}
	for _, s := range snap.Statuses() {
		require.NoError(b, s.Err)
		require.Equal(b, pods, s.Objects)
	}
	b.ReportMetric(float64(st.Stats().Series), "series")
}

func BenchmarkLookup(b *testing.B) {
	set := mustCompile(b, Defaults()...)
	st := store.New(store.Options{Keep: set.Needs()})
	for p := range 1000 {
		fill(st, p, 0)
	}
	now := time.UnixMilli(1000)
	snap := NewEvaluator(set, EvaluatorOptions{}).Evaluate(b.Context(), st, now)
	o := metric.Object{Resource: Pods, Namespace: "inference", Name: "llama-70b-7d9f8c6b5d-00567"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := snap.Lookup("gpu_utilization_percent", o, now); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzCompile: no expression may panic, and one that compiles runs on a small store within its bounds.
func FuzzCompile(f *testing.F) {
	for _, r := range Defaults() {
		f.Add(r.Expr)
	}
	for _, expr := range []string{
		``, `a`, `{__name__="a"}`, `rate(a[5s:])`, `a @ end()`, `a offset -1s`, `"x"`, `(a)`, `-a`, `a[5s] smoothed`, `a[step()]`, `topk(1, a) by (pod)`,
		`label_replace(a, "pod", "$1", "x", "(")`, `count_values("pod", a)`, `a offset 1e9`, `max_over_time(a[1d:1ms])`, `absent(a)`, `histogram_quantile(a, a)`,
		`label_join(a, "pod")`, `sort_by_label(a)`, `a == bool on() group_left(pod) a`, `vector(scalar(a))`, `time() + a`, `predict_linear(a[10s], 1e300)`,
	} {
		f.Add(expr)
	}
	st := store.New(store.Options{Keep: map[string]time.Duration{"a": time.Minute}})
	for s := range 5 {
		st.Append("t", time.UnixMilli(int64(s)*1000), []store.Sample{
			{Labels: labels.FromStrings("__name__", "a", "namespace", "n", "pod", "p", "le", "1"), Value: float64(s)},
			{Labels: labels.FromStrings("__name__", "a", "namespace", "n", "pod", "q", "le", "+Inf"), Value: math.NaN()},
		})
	}
	f.Fuzz(func(t *testing.T, expr string) {
		set, err := Compile([]Rule{podRule("m", expr), podRule("other", "a")})
		c := set.Rules()[0]
		if (err == nil) != (c.Err == nil) {
			t.Fatalf("%q: %v and %v", expr, err, c.Err)
		}
		if set.Rules()[1].Err != nil {
			t.Fatalf("%q spoils another rule", expr)
		}
		for name, back := range set.Needs() {
			if name == "" || back <= 0 || back > MaxLookBack {
				t.Fatalf("%q looks %s back at %q", expr, back, name)
			}
		}
		now := time.UnixMilli(5000)
		snap := NewEvaluator(set, EvaluatorOptions{Timeout: 200 * time.Millisecond, MaxSamples: 10_000}).Evaluate(t.Context(), st, now)
		if err := snap.Statuses()[0].Err; c.Err == nil && err != nil && strings.Contains(err.Error(), "panic") {
			t.Fatalf("%q: %v", expr, err)
		}
		if snap.Statuses()[1].Objects != 1 { // q is NaN
			t.Fatalf("%q spoils another rule's values", expr)
		}
		for o := range snap.Objects("m", Pods, "") {
			if v, err := snap.Lookup("m", o, now); err == nil && (math.IsNaN(v.Value) || math.IsInf(v.Value, 0) || v.Age(now) > c.Rule.MaxAge) {
				t.Fatalf("%q serves %v", expr, v)
			}
		}
	})
}
