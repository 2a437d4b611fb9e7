package rules

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/direct"
	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/store"
)

// fleet is a random history of pods that come, go, restart, load, hang and change their services.
type fleet struct {
	rng    *rand.Rand
	store  *store.Store
	pods   *directory
	names  []string
	totals map[string]float64 // counters, by series
	hangs  map[string]bool
	steady bool // no series ends, and scrapes never fail
}

func newFleet(t *testing.T, set *Set, steady bool) *fleet {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f := &fleet{
		rng: rand.New(rand.NewPCG(seed, 0)), pods: &directory{pods: map[[2]string]metric.Pod{}},
		totals: map[string]float64{}, hangs: map[string]bool{}, steady: steady,
	}
	keep := set.Needs()
	for _, c := range set.Rules() {
		for name, back := range c.Needs {
			keep[name] = max(keep[name], back)
		}
	}
	f.store = store.New(store.Options{Keep: keep})
	for i := range 12 {
		f.names = append(f.names, fmt.Sprintf("pod-%d", i))
	}
	f.shuffle()
	return f
}

// shuffle changes what the directory says.
func (f *fleet) shuffle() {
	f.pods.version++
	pods := map[[2]string]metric.Pod{}
	for i, name := range f.names {
		if !f.steady && f.rng.IntN(12) == 0 {
			continue
		}
		p := metric.Pod{Services: []string{fmt.Sprint("s", i%3)}, Deployment: fmt.Sprint("d", i%4)}
		switch f.rng.IntN(12) {
		case 0:
			p.Services = nil
		case 1:
			p.Deployment = ""
		case 2:
			p.Loading = "starting"
		case 3:
			p.Over = "terminating"
		default:
			if f.rng.IntN(2) == 0 {
				p.Services = append(p.Services, "zz")
			}
		}
		pods[[2]string{namespaceOf(i), name}] = p
	}
	f.pods.pods = pods
}

func namespaceOf(i int) string { return []string{"m", "n"}[i%2] }

// second scrapes the pods, each at its own time in the second that begins now.
func (f *fleet) second(now time.Time) {
	if f.rng.IntN(4) == 0 {
		f.shuffle()
	}
	for i, name := range f.names {
		if !f.steady {
			switch f.rng.IntN(60) {
			case 0:
				f.store.Forget(name)
				continue
			case 1, 2:
				f.hangs[name] = !f.hangs[name]
			case 3:
				f.store.Append(name, now.Add(time.Duration(i)*10*time.Millisecond), nil)
				continue
			}
			if f.hangs[name] {
				continue
			}
		}
		f.store.Append(name, now.Add(time.Duration(i)*10*time.Millisecond), f.scrape(i, name))
	}
}

func (f *fleet) scrape(i int, name string) (list []store.Sample) {
	add := func(metricName string, v float64, pairs ...string) {
		ls := labels.FromStrings(append([]string{"__name__", metricName, "namespace", namespaceOf(i), "pod", name}, pairs...)...)
		list = append(list, store.Sample{Labels: ls, Value: v})
	}
	count := func(metricName string, by float64, pairs ...string) {
		key := fmt.Sprint(metricName, name, pairs)
		if f.rng.IntN(50) == 0 {
			f.totals[key] = 0
		}
		f.totals[key] += by
		if f.steady || f.rng.IntN(30) > 0 {
			add(metricName, f.totals[key], pairs...)
		}
	}
	for _, code := range []string{"200", "500"} {
		count("requests_total", float64(f.rng.IntN(10)), "code", code)
	}
	total := 0.0
	for _, le := range []string{"0.1", "0.5", "+Inf"} {
		total += float64(f.rng.IntN(5))
		count("latency_bucket", total, "le", le)
	}
	for gpu := range 2 {
		v := f.rng.Float64()
		if f.rng.IntN(40) == 0 {
			v = math.NaN()
		}
		add("gauge", v, "gpu", fmt.Sprint(gpu), "node", fmt.Sprint("node-", i%3))
	}
	return list
}

// kinds returns the expressions for every kind of target, with a maximum age that all share.
func kinds(maxAge time.Duration) (list []Rule) {
	add := func(t Target, expr string) {
		name := fmt.Sprint("rule-", len(list))
		list = append(list, Rule{Name: name, Metric: name, Target: t, Expr: expr, MaxAge: maxAge, IncludeLoading: len(list)%3 == 0})
	}
	for _, t := range []struct {
		Target
		by string
	}{
		{Target{Resource: metric.Pods}, "namespace, pod"},
		{Target{Resource: metric.Services, External: true}, "namespace, service"},
		{Target{Resource: metric.Deployments}, "namespace, deployment"},
		{Target{Resource: metric.Namespaces}, "namespace"},
		{Target{Resource: metric.External}, "namespace, code"},
		{Target{Resource: metric.External, Labels: []string{"service"}}, "namespace, service"},
		{Target{Resource: metric.External}, "deployment"},
	} {
		by := "(" + t.by + ")"
		add(t.Target, "sum by "+by+" (rate(requests_total[10s]))")
		add(t.Target, `100 * sum by `+by+` (increase(requests_total{code="500"}[8s])) / sum by `+by+` (increase(requests_total[8s]))`)
		add(t.Target, "1000 * histogram_quantile(0.9, sum by ("+t.by+", le) (rate(latency_bucket[10s])))")
		add(t.Target, "100 * avg by "+by+" (max by ("+t.by+", gpu) (gauge))")
		add(t.Target, "max by "+by+" (gauge offset 3s) or max by "+by+" (requests_total)")
		add(t.Target, "max by "+by+" (max_over_time(gauge[5s])) > 0.5")
		add(t.Target, "count by "+by+` (gauge{gpu="0"}) unless count by `+by+` (absent_series)`)
		add(t.Target, "sum by "+by+" (gauge) * on () group_left sum(requests_total)")
		add(t.Target, "max by "+by+" (max_over_time(gauge[5s:1s]))")
		add(t.Target, "topk(1, sum by "+by+" (gauge))")
		add(t.Target, "sum by "+by+" (stddev_over_time(gauge[6s]))")
	}
	add(Target{Resource: nodes}, "sum by (node) (gauge)")
	add(Target{Resource: metric.Services}, `label_replace(sum by (namespace, pod) (gauge), "service", "x-$1", "pod", ".*-(.)")`)
	add(Target{Resource: metric.Services}, `sum by (namespace, service) (rate(requests_total{service=~"s.*",service!="s1"}[10s]))`)
	add(Target{Resource: metric.Pods}, "gauge")
	add(Target{Resource: metric.External}, "gauge * 2")
	return list
}

// TestPlansAgreeWithTheEngine compares all that is known of every object after every second.
func TestPlansAgreeWithTheEngine(t *testing.T) {
	set := mustCompile(t, kinds(5*time.Second)...)
	f := newFleet(t, set, false)
	engine := NewEvaluator(Options{Store: f.store, Directory: f.pods})
	plans := NewEvaluator(Options{Store: f.store, Directory: f.pods, Direct: func() *direct.Evaluator { return direct.New(f.store) }})
	defer engine.Close()
	defer plans.Close()
	engine.SetRules(set)
	plans.SetRules(set)
	entries, planned := 0, 0
	for s := range 50 {
		now := time.UnixMilli(int64(1e12) + int64(s)*1000)
		f.second(now)
		now = now.Add(time.Duration(120+f.rng.IntN(800)) * time.Millisecond)
		want, got := settle(t, engine, now), settle(t, plans, now)
		for i := range want.views {
			a, b := &want.views[i], &got.views[i]
			about := fmt.Sprintf("%s at %d: %s", a.c.Rule.Name, s, a.c.Rule.Expr)
			require.Equal(t, a.err == nil, b.err == nil, "%s: %v and %v", about, a.err, b.err)
			if a.err != nil {
				continue
			}
			require.Equal(t, a.result.at, b.result.at, about)
			require.Equal(t, a.result.objects, b.result.objects, about)
			require.Equal(t, a.result.unlabelled, b.result.unlabelled, about)
			require.Equal(t, a.result.notes, b.result.notes, about)
			require.Len(t, b.result.entries, len(a.result.entries), about)
			for j := range a.result.entries {
				x, y := a.result.entries[j], b.result.entries[j]
				if x.problem == "" && !x.ended {
					require.InEpsilon(t, 1+math.Abs(x.value), 1+math.Abs(y.value), 1e-9, about)
				}
				x.value, y.value = 0, 0
				require.Equal(t, x, y, about)
				entries++
			}
			if b.direct {
				planned++
				require.Equal(t, a.result.series, b.result.series, about)
			}
		}
	}
	require.Greater(t, entries, 10_000)
	require.Greater(t, planned, 50*50, "plans cover most of them")
	t.Logf("%d entries, %d of %d evaluations by plans", entries, planned, 50*len(set.rules))
}

// TestServersAgreeWithEmbedded: the same expressions on a server that has the same series. Series do not end here, since the
// server's scrapes would end them otherwise than ours, and nobody adds services to its series.
func TestServersAgreeWithEmbedded(t *testing.T) {
	const maxAge = metric.DefaultMaxAge // what the server's instant selectors look back
	here := kinds(maxAge)
	there := kinds(maxAge)
	for i := range there {
		there[i].Source = Prometheus
	}
	set, remoteSet := mustCompile(t, here...), mustCompile(t, there...)
	require.Empty(t, remoteSet.Needs())
	f := newFleet(t, set, true)
	embedded := NewEvaluator(Options{Store: f.store})
	remote := NewEvaluator(Options{Store: f.store, Remote: newServer(f.store), RemoteInterval: time.Millisecond})
	defer embedded.Close()
	defer remote.Close()
	embedded.SetRules(set)
	remote.SetRules(remoteSet)
	served := 0
	for s := range 15 {
		now := time.UnixMilli(int64(1e12) + int64(s)*1000)
		f.second(now)
		now = now.Add(time.Duration(120+f.rng.IntN(800)) * time.Millisecond)
		want, got := settle(t, embedded, now), settle(t, remote, now)
		for i := range want.views {
			a, b := &want.views[i], &got.views[i]
			about := fmt.Sprintf("%s at %d: %s", a.c.Rule.Name, s, a.c.Rule.Expr)
			require.NoError(t, a.err, about)
			require.NoError(t, b.err, about)
			require.Equal(t, now, b.result.at, about)
			require.Equal(t, a.result.objects, b.result.objects, about)
			require.Equal(t, a.result.unlabelled, b.result.unlabelled, about)
			require.Len(t, b.result.entries, len(a.result.entries), about)
			for j := range a.result.entries {
				x, y := a.result.entries[j], b.result.entries[j]
				if x.problem == "" {
					require.InEpsilon(t, 1+math.Abs(x.value), 1+math.Abs(y.value), 1e-9, about)
					served++
				}
				x.value, y.value = 0, 0
				require.Equal(t, x, y, about)
			}
		}
	}
	require.Greater(t, served, 2_000)
}

// TestGroupsAgreeWithAnOracle joins by brute force: every sample that was scraped, every pod, every service.
func TestGroupsAgreeWithAnOracle(t *testing.T) {
	const maxAge = 5 * time.Second
	r := Rule{Name: "r", Metric: "r", MaxAge: maxAge, Target: Target{Resource: metric.Services}, Expr: "sum by (namespace, service) (gauge)"}
	deployment := r
	deployment.Name, deployment.Target.Resource, deployment.Expr = "d", metric.Deployments, "sum by (namespace, deployment) (max_over_time(gauge[10s]))"
	deployment.IncludeLoading = true
	set := mustCompile(t, r, deployment)
	f := newFleet(t, set, false)
	plans := []*Evaluator{
		NewEvaluator(Options{Store: f.store, Directory: f.pods}),
		NewEvaluator(Options{Store: f.store, Directory: f.pods, Direct: func() *direct.Evaluator { return direct.New(f.store) }}),
	}
	for _, e := range plans {
		e.SetRules(set)
		defer e.Close()
	}
	type series struct {
		labels labels.Labels
		t      []time.Time
		v      []float64
		ended  bool
	}
	all := map[string]map[string]*series{} // by pod and labels
	checked := 0
	for s := range 300 {
		begin := time.UnixMilli(int64(1e12) + int64(s)*1000)
		if f.rng.IntN(4) == 0 {
			f.shuffle()
		}
		for i, name := range f.names {
			if f.rng.IntN(10) == 0 {
				f.hangs[name] = !f.hangs[name]
			}
			if f.hangs[name] {
				continue
			}
			at := begin.Add(time.Duration(i) * 10 * time.Millisecond)
			if all[name] == nil {
				all[name] = map[string]*series{}
			}
			for _, sr := range all[name] {
				sr.ended = true
			}
			var samples []store.Sample
			for gpu := range 3 {
				if f.rng.IntN(20) == 0 {
					continue
				}
				ls := labels.FromStrings("__name__", "gauge", "namespace", namespaceOf(i), "pod", name, "gpu", fmt.Sprint(gpu))
				v := float64(f.rng.IntN(1000))
				samples = append(samples, store.Sample{Labels: ls, Value: v})
				sr := all[name][ls.String()]
				if sr == nil {
					sr = &series{labels: ls}
					all[name][ls.String()] = sr
				}
				sr.t, sr.v, sr.ended = append(sr.t, at), append(sr.v, v), false
			}
			require.False(t, f.store.Append(name, at, samples).Late)
		}
		now := begin.Add(time.Duration(120+f.rng.IntN(800)) * time.Millisecond)
		want := map[metric.Object]metric.Value{}
		add := func(o metric.Object, v float64, sr *series) {
			sum := want[o]
			newest := sr.t[len(sr.t)-1]
			if !sr.ended && (sum.Time.IsZero() || newest.Before(sum.Time)) {
				sum.Time = newest
			}
			sum.Value += v
			want[o] = sum
		}
		for _, list := range all {
			for _, sr := range list {
				ns, name := sr.labels.Get("namespace"), sr.labels.Get("pod")
				p, ok := f.pods.Pod(ns, name)
				if !ok || p.Over != "" || now.Sub(sr.t[len(sr.t)-1]) >= maxAge-time.Second {
					continue
				}
				for _, service := range p.Services {
					if p.Loading == "" && !sr.ended {
						add(metric.Object{Resource: metric.Services, Namespace: ns, Name: service}, sr.v[len(sr.v)-1], sr)
					}
				}
				most := math.Inf(-1)
				for i := range sr.t {
					if now.Sub(sr.t[i]) < 10*time.Second {
						most = max(most, sr.v[i])
					}
				}
				if p.Deployment != "" {
					add(metric.Object{Resource: metric.Deployments, Namespace: ns, Name: p.Deployment}, most, sr)
				}
			}
		}
		for _, e := range plans {
			snap := settle(t, e, now)
			for _, resource := range []string{metric.Services, metric.Deployments} {
				for o := range snap.Objects("r", resource, "") {
					if _, ok := want[o]; !ok {
						_, err := snap.Lookup("r", o, now)
						require.Error(t, err, o)
					}
				}
			}
			for o, v := range want {
				got, err := snap.Lookup("r", o, now.Add(time.Second)) // as young as it must be until the next snapshot
				if v.Time.IsZero() {
					require.ErrorContains(t, err, "its series have ended")
					continue
				}
				require.NoError(t, err, "%s at %d", o, s)
				require.Equal(t, v.Value, got.Value, "%s at %d", o, s)
				require.Equal(t, v.Time, got.Time, "%s at %d", o, s)
				checked++
			}
		}
	}
	require.Greater(t, checked, 2000)
}
