package profiles

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation"

	"headroom.dev/headroom/adapter/direct"
	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/adapter/store"
)

// cluster is one pod, prod/chat-1, of the Deployment chat behind the Service chat-api on node n.
type cluster struct{}

func (cluster) Version() uint64 { return 1 }

func (cluster) Pod(namespace, name string) (metric.Pod, bool) {
	return metric.Pod{Node: "n", Services: []string{"chat-api"}, Deployment: "chat"}, namespace == "prod" && name == "chat-1"
}

// TestScenarios reads what servers expose. The commands:
//
//	scrape        what the pod exposes; a number A+Bt is A at the first of 60 scrapes, one a second, and grows by B each
//	values        what is served at the last of them, for the pod, its Service, its Deployment, its node, and externally
//	reset         nothing has been scraped
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var exposed []string
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "reset":
				exposed = nil
			case "scrape":
				exposed = append(exposed, strings.Split(d.Input, "\n")...)
			case "values":
				plans, engine := served(t, exposed, true), served(t, exposed, false)
				require.Equal(t, engine, plans, "directly and in the engine")
				return plans
			default:
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			return ""
		})
	})
}

// served scrapes for a minute and lists what the built-in rules make of it.
func served(t *testing.T, exposed []string, plans bool) string {
	t.Helper()
	list, err := Rules(Names()...)
	require.NoError(t, err)
	set, err := rules.Compile(list)
	require.NoError(t, err)
	st := store.New(store.Options{Keep: set.Needs()})
	opts := rules.Options{Store: st, Directory: cluster{}, Budget: time.Minute}
	if plans {
		opts.Direct = func() *direct.Evaluator { return direct.New(st) }
	}
	evaluator := rules.NewEvaluator(opts)
	defer evaluator.Close()
	evaluator.SetRules(set)

	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := start
	for i := range 60 {
		now = start.Add(time.Duration(i) * time.Second)
		var samples []store.Sample
		for _, line := range exposed {
			samples = append(samples, sample(t, line, float64(i)))
		}
		st.Append("chat-1", now, samples)
	}
	snapshot := evaluator.Tick(now)
	var b strings.Builder
	for _, d := range snapshot.Metrics() {
		for o := range snapshot.Objects(d.Name, d.Resource, "") {
			if v, err := snapshot.Lookup(d.Name, o, now); err == nil {
				fmt.Fprintf(&b, "%s %s: %s %s (%s)\n", o.Resource, d.Name, strconv.FormatFloat(v.Value, 'g', 10, 64), d.Unit, v.Rule)
			}
		}
		if d.Resource != metric.External {
			continue
		}
		for _, label := range []string{"service", "deployment", "scalepolicy"} {
			series, err := snapshot.External(d.Name, "prod", func(ls map[string]string) bool { return ls[label] != "" }, now)
			for _, s := range series {
				fmt.Fprintf(&b, "external %s %v: %s %s\n", d.Name, s.Labels, strconv.FormatFloat(s.Value.Value, 'g', 10, 64), d.Unit)
			}
			if len(exposed) > 0 && err != nil {
				require.ErrorAs(t, err, new(*metric.AbsentError))
			}
		}
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func sample(t *testing.T, line string, at float64) store.Sample {
	t.Helper()
	series, number, found := strings.Cut(line, "} ")
	if series += "}"; !found {
		series, number, _ = strings.Cut(line, " ")
	}
	ls, err := parser.NewParser(parser.Options{}).ParseMetric(series)
	require.NoError(t, err, line)
	base, growth, grows := strings.Cut(strings.TrimSuffix(number, "t"), "+")
	v, err := strconv.ParseFloat(base, 64)
	require.NoError(t, err, line)
	if grows {
		g, err := strconv.ParseFloat(growth, 64)
		require.NoError(t, err, line)
		v += g * at
	}
	if strings.Contains(series, `pod=""`) { // what a trusted exporter says of no pod
		return store.Sample{Labels: labels.NewBuilder(ls).Del("pod").Labels(), Value: v}
	}
	return store.Sample{Labels: withTarget(ls), Value: v}
}

func withTarget(ls labels.Labels) labels.Labels {
	b := labels.NewBuilder(ls)
	return b.Set("namespace", "prod").Set("pod", "chat-1").Set("node", "n").Labels()
}

// TestRulesAreSound compiles every rule, as a direct plan, and checks the names by which users find and replace them.
func TestRulesAreSound(t *testing.T) {
	list, err := Rules(Names()...)
	require.NoError(t, err)
	set, err := rules.Compile(list)
	require.NoError(t, err)
	names := map[string]bool{}
	for _, c := range set.Rules() {
		require.NoError(t, c.Err, c.Rule.Name)
		assert.False(t, names[c.Rule.Name], "%s twice", c.Rule.Name)
		names[c.Rule.Name] = true
		assert.Empty(t, validation.IsDNS1123Subdomain(c.Rule.Name), "%s must be able to name a MetricRule", c.Rule.Name)
		assert.NotContains(t, c.Rule.Expr, by)
	}
	st := store.New(store.Options{Keep: set.Needs()})
	evaluator := rules.NewEvaluator(rules.Options{Store: st, Direct: func() *direct.Evaluator { return direct.New(st) }})
	defer evaluator.Close()
	evaluator.SetRules(set)
	for _, s := range evaluator.Tick(time.Unix(1e9, 0)).Statuses() {
		assert.True(t, s.Direct, "%s does not run directly: %s", s.Rule.Name, s.Rule.Expr)
	}

	one, err := Rules("vllm")
	require.NoError(t, err)
	assert.Equal(t, "vllm.requests-per-second.pods", one[0].Name)
	_, err = Rules("vlm")
	require.ErrorContains(t, err, `there is no profile "vlm"; there are vllm, sglang, tgi,`)
}
