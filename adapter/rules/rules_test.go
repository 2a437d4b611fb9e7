package rules

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/direct"
	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/store"
)

func mustCompile(tb testing.TB, rules ...Rule) *Set {
	tb.Helper()
	set, err := Compile(rules)
	require.NoError(tb, err)
	return set
}

func podRule(name, expr string) Rule {
	return Rule{Name: name, Metric: name, Target: Target{Resource: metric.Pods}, Expr: expr}
}

func pod(name string) metric.Object {
	return metric.Object{Resource: metric.Pods, Namespace: "n", Name: name}
}

// evaluate runs a set once.
func evaluate(tb testing.TB, set *Set, opts Options, now time.Time) *Snapshot {
	tb.Helper()
	e := NewEvaluator(opts)
	defer e.Close()
	e.SetRules(set)
	return settle(tb, e, now)
}

func TestDefaultsCompile(t *testing.T) {
	set := mustCompile(t, someRules()...)
	for _, c := range set.Rules() {
		require.NoError(t, c.Err)
		require.True(t, c.tellsObjects(), c.Rule.Metric)
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
	require.Equal(t, "bad", bad.Rule)
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
		require.Equal(t, time.Duration(now.UnixMilli()-mint+1)*time.Millisecond, c.sight(), expr)
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
		c := mustCompile(t, podRule("m", expr)).Rules()[0]
		require.Equal(t, want, !c.tellsObjects(), expr)
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
	evaluator := NewEvaluator(Options{Store: st})
	defer evaluator.Close()
	evaluator.SetRules(set)
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
		snap := settle(t, evaluator, time.UnixMilli(clock))
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
	snap := evaluate(t, set, Options{Store: st, Clock: func() time.Time { durations = durations.Add(time.Second); return durations }}, time.UnixMilli(1000))
	list := func(ns string) (names []string) {
		for o := range snap.Objects("m", metric.Pods, ns) {
			names = append(names, o.Namespace+"/"+o.Name)
		}
		return names
	}
	require.Equal(t, []string{"a/9", "b/1", "b/2", "ba/3", "c/0"}, list(""))
	require.Equal(t, []string{"b/1", "b/2"}, list("b"))
	require.Empty(t, list("bb"))
	for o := range snap.Objects("m", metric.Pods, "") {
		require.Equal(t, "9", o.Name)
		break
	}
	for range snap.Objects("other", metric.Pods, "") {
		t.Fatal("no such metric")
	}
	require.Equal(t, time.Second, snap.Statuses()[0].Duration)
	require.Equal(t, 5, snap.Statuses()[0].Objects)
}

// FuzzCompile: no expression may panic, and one that compiles runs on a small store within its bounds.
func FuzzCompile(f *testing.F) {
	for _, r := range someRules() {
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
		opts := Options{Store: st, Timeout: 200 * time.Millisecond, MaxSamples: 10_000}
		for _, opts.Direct = range []func() *direct.Evaluator{nil, func() *direct.Evaluator { return direct.New(st) }} {
			snap := evaluate(t, set, opts, now)
			if err := snap.Statuses()[0].Err; c.Err == nil && err != nil && strings.Contains(err.Error(), "panic") {
				t.Fatalf("%q: %v", expr, err)
			}
			if snap.Statuses()[1].Objects != 1 { // q is NaN
				t.Fatalf("%q spoils another rule's values", expr)
			}
			for o := range snap.Objects("m", metric.Pods, "") {
				if v, err := snap.Lookup("m", o, now); err == nil && (math.IsNaN(v.Value) || math.IsInf(v.Value, 0) || v.Age(now) > c.Rule.MaxAge) {
					t.Fatalf("%q serves %v", expr, v)
				}
			}
		}
	})
}
