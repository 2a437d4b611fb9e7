package rules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"headroom.dev/headroom/adapter/direct"
	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/store"
)

// TestScenarios runs the stories in testdata, each with the PromQL engine alone and with plans. Times are seconds. Commands:
//
//	rule name=N [metric=N] [resource=pods|external] [name-label=L] [namespace-label=L] [root] [external] [labels=a,b] [built-in]
//	     [remote] [max-age=15s] [loading] [namespaces=a,b] [after=60s] [value=1] [hold=60s] [unit=U]
//	                                                 adds a rule; the input is its expression
//	defaults                                         adds the built-in rules
//	compile                                          compiles them and starts all anew; prints what is wrong and needed
//	change                                           compiles them and replaces the rules; the store and the values stay
//	pods                                             replaces the directory: "namespace/pod services=a,b deployment=d loading=why over=why"
//	scrape target=T [from=1] [step=1]                one scrape per step; the input is one series a line in promqltest's
//	                                                 notation, "name{labels} 0+5x30": _ is a sample that the scrape lacks;
//	                                                 a step at which all lack is a scrape that failed
//	empty target=T at=S                              a successful scrape without any series
//	forget target=T                                  the target is deleted
//	server err=TEXT                                  the Prometheus server fails; without err it answers again
//	eval at=S [lookup-at=S] [also=NS/POD,…] [in=NS,…] [select=L:V] [candidates]
//	                                                 ticks; prints what Lookup says of every object that has series or that also
//	                                                 names, what External gives in these namespaces, and what is odd about rules;
//	                                                 with select only what External gives for series with that label
func TestScenarios(t *testing.T) {
	for _, planned := range []bool{false, true} {
		t.Run(map[bool]string{false: "engine", true: "plans"}[planned], func(t *testing.T) {
			datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
				w := &world{planned: planned, tick: func(e *Evaluator, now time.Time) *Snapshot { return settle(t, e, now) }}
				t.Cleanup(func() {
					if w.evaluator != nil {
						w.evaluator.Close()
					}
				})
				datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
					t.Helper()
					return w.run(t, d)
				})
			})
		})
	}
}

type world struct {
	planned   bool
	tick      func(*Evaluator, time.Time) *Snapshot
	rules     []Rule
	set       *Set
	store     *store.Store
	pods      *directory
	server    *server
	evaluator *Evaluator
	last      time.Time // newest scrape
}

// settle ticks until everything that is due has been evaluated as of now.
func settle(tb testing.TB, e *Evaluator, now time.Time) *Snapshot {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		s := e.Tick(now)
		e.mu.Lock()
		ready := e.lane == nil || !e.lane.busy
		for _, st := range e.states {
			evaluated := !st.due.Before(now) || e.planned(st) && st.own == nil && (st.result != nil || st.err != nil)
			ready = ready && !st.running && (evaluated || st.c.Err != nil || st.c.Rule.Source == Prometheus && e.opts.Remote == nil)
		}
		if ready {
			s = e.snapshot(now)
		}
		e.mu.Unlock()
		if ready {
			return s
		}
	}
	tb.Fatal("the rules are not evaluated in ten seconds")
	return nil
}

// directory is a metric.Directory.
type directory struct {
	pods    map[[2]string]metric.Pod // by namespace and name
	version uint64
}

func (d *directory) Pod(namespace, name string) (metric.Pod, bool) {
	p, ok := d.pods[[2]string{namespace, name}]
	return p, ok
}

func (d *directory) Version() uint64 { return d.version }

// server is a Remote that runs the PromQL engine over a store.
type server struct {
	store  *store.Store
	engine *promql.Engine
	err    error
}

func newServer(st *store.Store) *server {
	opts := Options{Timeout: time.Second, MaxSamples: 1e6}
	return &server{store: st, engine: newEngine(&opts)}
}

func (s *server) Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	if s.err != nil {
		return nil, s.err
	}
	q, err := s.engine.NewInstantQuery(ctx, s.store, nil, expr, at)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	v, err := q.Exec(ctx).Vector()
	return slices.Clone(v), err
}

func (w *world) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	var target string
	d.MaybeScanArgs(t, "target", &target)
	switch d.Cmd {
	case "rule":
		w.rules = append(w.rules, scanRule(t, d))
	case "defaults":
		w.rules = append(w.rules, someRules()...)
	case "compile":
		return w.compile()
	case "change":
		out := w.change()
		w.store.SetKeep(w.set.Needs())
		w.evaluator.SetRules(w.set)
		return out
	case "pods":
		w.setPods(t, d)
	case "scrape":
		return w.scrape(t, d, target)
	case "empty":
		return printAppend(w.store.Append(target, seconds(t, d, "at", 0), nil))
	case "forget":
		w.store.Forget(target)
	case "server":
		w.server.err = nil
		if text := ""; d.MaybeScanArgs(t, "err", &text) {
			w.server.err = errors.New(text)
		}
	case "eval":
		return w.eval(t, d)
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return ""
}

func scanRule(t *testing.T, d *datadriven.TestData) Rule {
	t.Helper()
	r := Rule{Target: Target{Resource: metric.Pods}, Expr: d.Input}
	d.ScanArgs(t, "name", &r.Name)
	r.Metric = r.Name
	d.MaybeScanArgs(t, "metric", &r.Metric)
	d.MaybeScanArgs(t, "unit", &r.Unit)
	d.MaybeScanArgs(t, "resource", &r.Target.Resource)
	if r.Target.Resource == "external" {
		r.Target.Resource = metric.External
	}
	d.MaybeScanArgs(t, "name-label", &r.Target.NameLabel)
	d.MaybeScanArgs(t, "namespace-label", &r.Target.NamespaceLabel)
	r.Target.RootScoped, r.Target.External = d.HasArg("root"), d.HasArg("external")
	r.IncludeLoading = d.HasArg("loading")
	if d.HasArg("built-in") {
		r.Origin = BuiltIn
	}
	if d.HasArg("remote") {
		r.Source = Prometheus
	}
	r.MaxAge = duration(t, d, "max-age")
	r.Target.Labels, r.Namespaces = list(t, d, "labels"), list(t, d, "namespaces")
	if d.HasArg("after") {
		r.Fallback = &Fallback{After: duration(t, d, "after"), HoldFor: duration(t, d, "hold")}
		if value := 0.0; d.HasArg("value") {
			var s string
			d.ScanArgs(t, "value", &s)
			if _, err := fmt.Sscan(s, &value); err != nil {
				d.Fatalf(t, "%v", err)
			}
			r.Fallback.Value = &value
		}
	}
	return r
}

// list scans "a,b"; nil where the argument is missing, empty for "none".
func list(t *testing.T, d *datadriven.TestData, arg string) []string {
	t.Helper()
	var s string
	switch {
	case !d.MaybeScanArgs(t, arg, &s):
		return nil
	case s == "none":
		return []string{}
	}
	return strings.Split(s, ",")
}

func duration(t *testing.T, d *datadriven.TestData, arg string) time.Duration {
	t.Helper()
	var s string
	if !d.MaybeScanArgs(t, arg, &s) {
		return 0
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	return v
}

func seconds(t *testing.T, d *datadriven.TestData, arg string, def float64) time.Time {
	t.Helper()
	s := fmt.Sprint(def)
	d.MaybeScanArgs(t, arg, &s)
	var f float64
	if _, err := fmt.Sscan(s, &f); err != nil {
		d.Fatalf(t, "%s: %v", arg, err)
	}
	return time.UnixMilli(int64(f * 1000))
}

func (w *world) compile() string {
	out := w.change()
	if w.evaluator != nil {
		w.evaluator.Close()
	}
	keep := w.set.Needs()
	for _, c := range w.set.Rules() { // the server's store is ours
		for name, back := range c.Needs {
			keep[name] = max(keep[name], back)
		}
	}
	w.store = store.New(store.Options{Keep: keep})
	w.server = newServer(w.store)
	opts := Options{Store: w.store, Remote: w.server, RemoteInterval: time.Millisecond}
	if w.planned {
		opts.Direct = func() *direct.Evaluator { return direct.New(w.store) }
	}
	if w.pods != nil {
		opts.Directory = w.pods
	}
	w.evaluator = NewEvaluator(opts)
	w.evaluator.SetRules(w.set)
	return out
}

func (w *world) change() string {
	set, err := Compile(w.rules)
	w.rules, w.set = nil, set
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "error: %s\n", strings.ReplaceAll(err.Error(), "\n", "\nerror: "))
	}
	needs := set.Needs()
	for _, name := range slices.Sorted(maps.Keys(needs)) {
		fmt.Fprintf(&b, "needs %s of %s\n", needs[name], name)
	}
	return b.String()
}

func (w *world) setPods(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	if w.pods == nil {
		w.pods = &directory{}
	}
	w.pods.version++
	w.pods.pods = map[[2]string]metric.Pod{}
	for line := range strings.Lines(d.Input) {
		fields := strings.Fields(line)
		ns, name, _ := strings.Cut(fields[0], "/")
		var p metric.Pod
		for _, f := range fields[1:] {
			k, v, _ := strings.Cut(f, "=")
			switch k {
			case "services":
				p.Services = strings.Split(v, ",")
			case "deployment":
				p.Deployment = v
			case "loading":
				p.Loading = v
			case "over":
				p.Over = v
			default:
				d.Fatalf(t, "unknown field %s", k)
			}
		}
		w.pods.pods[[2]string{ns, name}] = p
	}
}

func (w *world) scrape(t *testing.T, d *datadriven.TestData, target string) string {
	t.Helper()
	from := seconds(t, d, "from", 1)
	step := seconds(t, d, "step", 1).Sub(time.UnixMilli(0))
	var scrapes [][]store.Sample
	for line := range strings.Lines(d.Input) {
		ls, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(strings.TrimSpace(line))
		if err != nil {
			d.Fatalf(t, "%s: %v", line, err)
		}
		for i, v := range values {
			if i == len(scrapes) {
				scrapes = append(scrapes, nil)
			}
			if !v.Omitted {
				scrapes[i] = append(scrapes[i], store.Sample{Labels: ls, Value: v.Value})
			}
		}
	}
	var sum store.AppendResult
	for i, samples := range scrapes {
		if samples == nil {
			continue
		}
		w.last = from.Add(time.Duration(i) * step)
		res := w.store.Append(target, w.last, samples)
		sum.Stored += res.Stored
		sum.Ended += res.Ended
		sum.Unwanted += res.Unwanted
	}
	return printAppend(sum)
}

func printAppend(r store.AppendResult) string {
	return fmt.Sprintf("stored %d, ended %d, unwanted %d\n", r.Stored, r.Ended, r.Unwanted)
}

func (w *world) eval(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	now := seconds(t, d, "at", 0)
	if now.Before(w.last) {
		d.Fatalf(t, "the store may have forgotten what a query before the newest scrape looks at")
	}
	lookupAt := seconds(t, d, "lookup-at", float64(now.UnixMilli())/1000)
	snap := w.tick(w.evaluator, now)

	var b strings.Builder
	for _, m := range snap.Metrics() {
		if m.Resource == metric.External {
			w.external(t, d, &b, snap, m, lookupAt)
			continue
		}
		if d.HasArg("select") {
			continue
		}
		objects := slices.Collect(snap.Objects(m.Name, m.Resource, ""))
		for _, name := range list(t, d, "also") {
			ns, name, _ := strings.Cut(name, "/")
			if (ns != "") == m.Namespaced {
				objects = append(objects, metric.Object{Resource: m.Resource, Namespace: ns, Name: name})
			}
		}
		for _, o := range objects {
			v, err := snap.Lookup(m.Name, o, lookupAt)
			what := m.Name + " "
			if m.Resource != metric.Pods {
				what += m.Resource + " "
			}
			what += o.Namespace + "/" + o.Name
			fmt.Fprintf(&b, "%s: %s\n", what, outcome(v, err, m.Unit, lookupAt))
			if d.HasArg("candidates") {
				for _, c := range snap.Candidates(m.Name, o, lookupAt) {
					fmt.Fprintf(&b, "  by %s: %s\n", c.Rule, outcome(c.Value, c.Err, m.Unit, lookupAt))
				}
			}
		}
	}
	for _, s := range snap.Statuses() {
		if d.HasArg("select") {
			break
		}
		if s.Err != nil || s.Unlabelled+s.Shadowed+len(s.Notes) > 0 {
			fmt.Fprintf(&b, "status of %s: %d objects, %d shadowed, %d unlabelled, error %v\n", s.Rule.Name, s.Objects, s.Shadowed, s.Unlabelled, s.Err)
		}
		for _, e := range s.Notes {
			fmt.Fprintf(&b, "  %s\n", e)
		}
	}
	return b.String()
}

func (w *world) external(t *testing.T, d *datadriven.TestData, b *strings.Builder, snap *Snapshot, m metric.Descriptor, now time.Time) {
	t.Helper()
	var selected string
	d.MaybeScanArgs(t, "select", &selected)
	for _, ns := range list(t, d, "in") {
		series, err := snap.External(m.Name, ns, func(set map[string]string) bool {
			k, v, ok := strings.Cut(selected, ":")
			return !ok || set[k] == v
		}, now)
		if err != nil {
			fmt.Fprintf(b, "%s in %s: %s\n", m.Name, ns, outcome(metric.Value{}, err, "", now))
		}
		for _, s := range series {
			fmt.Fprintf(b, "%s in %s %v: %s\n", m.Name, ns, s.Labels, outcome(s.Value, nil, m.Unit, now))
		}
	}
}

func outcome(v metric.Value, err error, unit string, now time.Time) string {
	if absent, ok := errors.AsType[*metric.AbsentError](err); ok {
		return "absent: " + absent.Reason
	}
	if err != nil {
		return err.Error()
	}
	s := fmt.Sprintf("%.5g %s, %s old, window %s", v.Value, cmp.Or(unit, "-"), v.Age(now), v.Window)
	if v.Fallback != metric.NoFallback {
		s += fmt.Sprintf(", %s by %s", v.Fallback, v.Rule)
	}
	return s
}
