package rules

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/promql/parser"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/store"
)

// TestScenarios runs the stories in testdata. Times are seconds. Commands:
//
//	rule metric=NAME [resource=pods] [max-age=15s]   adds a rule; the input is its expression
//	defaults                                         adds the built-in rules
//	compile                                          compiles them, starts an empty store; prints what is wrong and needed
//	scrape target=T [from=1] [step=1]                one scrape per step; the input is one series a line in promqltest's
//	                                                 notation, "name{labels} 0+5x30": _ is a sample that the scrape lacks;
//	                                                 a step at which all lack is a scrape that failed
//	empty target=T at=S                              a successful scrape without any series
//	forget target=T                                  the target is deleted
//	eval at=S [lookup-at=S] [also=NS/POD,…]          evaluates; prints what Lookup says for every object, and each rule's
//	                                                 errors
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := &world{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			return w.run(t, d)
		})
	})
}

type world struct {
	rules []Rule
	set   *Set
	store *store.Store
	last  time.Time // newest scrape
}

func (w *world) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	var target string
	d.MaybeScanArgs(t, "target", &target)
	switch d.Cmd {
	case "rule":
		w.rules = append(w.rules, scanRule(t, d))
	case "defaults":
		w.rules = append(w.rules, Defaults()...)
	case "compile":
		return w.compile()
	case "scrape":
		return w.scrape(t, d, target)
	case "empty":
		return printAppend(w.store.Append(target, seconds(t, d, "at", 0), nil))
	case "forget":
		w.store.Forget(target)
	case "eval":
		return w.eval(t, d)
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return ""
}

func scanRule(t *testing.T, d *datadriven.TestData) Rule {
	t.Helper()
	r := Rule{Resource: Pods, Expr: d.Input}
	d.ScanArgs(t, "metric", &r.Metric)
	d.MaybeScanArgs(t, "resource", &r.Resource)
	var maxAge string
	if d.MaybeScanArgs(t, "max-age", &maxAge) {
		var err error
		if r.MaxAge, err = time.ParseDuration(maxAge); err != nil {
			d.Fatalf(t, "%v", err)
		}
	}
	return r
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
	set, err := Compile(w.rules)
	w.rules, w.set = nil, set
	w.store = store.New(store.Options{Keep: set.Needs()})
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
	snap := NewEvaluator(w.set, EvaluatorOptions{}).Evaluate(t.Context(), w.store, now)
	var also string
	d.MaybeScanArgs(t, "also", &also)

	var b strings.Builder
	for _, m := range snap.Metrics() {
		objects := slices.Collect(snap.Objects(m.Name, m.Resource, ""))
		for _, name := range strings.FieldsFunc(also, func(r rune) bool { return r == ',' }) {
			ns, pod, _ := strings.Cut(name, "/")
			objects = append(objects, metric.Object{Resource: m.Resource, Namespace: ns, Name: pod})
		}
		for _, o := range objects {
			v, err := snap.Lookup(m.Name, o, lookupAt)
			var absent *metric.AbsentError
			switch {
			case err == nil:
				fmt.Fprintf(&b, "%s %s/%s: %.5g %s, %s old, window %s\n", m.Name, o.Namespace, o.Name, v.Value, cmp.Or(m.Unit, "-"), v.Age(lookupAt), v.Window)
			case errors.As(err, &absent):
				fmt.Fprintf(&b, "%s %s/%s: absent: %s\n", m.Name, o.Namespace, o.Name, absent.Reason)
			default:
				fmt.Fprintf(&b, "%s %s/%s: %v\n", m.Name, o.Namespace, o.Name, err)
			}
		}
	}
	for _, s := range snap.Statuses() {
		if s.Err != nil || s.Unlabelled+s.Ambiguous > 0 {
			fmt.Fprintf(&b, "status of %s: %d objects, %d unlabelled, %d ambiguous, error %v\n", s.Rule.Metric, s.Objects, s.Unlabelled, s.Ambiguous, s.Err)
		}
		for _, e := range s.Examples {
			fmt.Fprintf(&b, "  %s\n", e)
		}
	}
	return b.String()
}
