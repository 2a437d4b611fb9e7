package direct

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/store"
)

// fleet is a store full of pods with what rules want of vLLM: 47 series each.
type fleet struct {
	st    *store.Store
	pods  int
	clock int // s
	// By pod: its target, labels, and refs and values by series.
	targets []string
	sets    [][]labels.Labels
	refs    [][]uint64
	values  [][]float64
}

func newFleet(pods int) *fleet {
	f := &fleet{pods: pods, st: store.New(store.Options{MaxSeries: 1_000_000, Keep: map[string]time.Duration{
		"vllm:e2e_request_latency_seconds_bucket": 30 * time.Second, "vllm:time_to_first_token_seconds_bucket": 30 * time.Second,
		"vllm:request_success_total": 15 * time.Second, "vllm:generation_tokens_total": 15 * time.Second,
		"vllm:num_requests_waiting": 15 * time.Second, "vllm:num_requests_running": 15 * time.Second, "vllm:kv_cache_usage_perc": 15 * time.Second,
	}})}
	for pod := range pods {
		f.add(fmt.Sprintf("llama-%d-7d9f8c6b5d-%05d", pod%20, pod))
	}
	for range 31 {
		f.scrape()
	}
	return f
}

func (f *fleet) add(pod string) {
	base := labels.FromStrings("engine", "0", "model_name", "meta-llama/Llama-3.1-70B-Instruct", "namespace", "inference", "node", "gpu-node-17", "pod", pod)
	var sets []labels.Labels
	add := func(pairs ...string) {
		b := labels.NewBuilder(base)
		for i := 0; i < len(pairs); i += 2 {
			b.Set(pairs[i], pairs[i+1])
		}
		sets = append(sets, b.Labels())
	}
	for _, name := range []string{"vllm:e2e_request_latency_seconds_bucket", "vllm:time_to_first_token_seconds_bucket"} {
		for le := range 20 {
			add("__name__", name, "le", []string{fmt.Sprint(float64(le+1) * 0.25), "+Inf"}[le/19])
		}
	}
	for _, reason := range []string{"stop", "length", "abort"} {
		add("__name__", "vllm:request_success_total", "finished_reason", reason)
	}
	for _, name := range []string{"generation_tokens_total", "num_requests_waiting", "num_requests_running", "kv_cache_usage_perc"} {
		add("__name__", "vllm:"+name)
	}
	f.targets, f.sets = append(f.targets, pod), append(f.sets, sets)
	f.refs, f.values = append(f.refs, make([]uint64, len(sets))), append(f.values, make([]float64, len(sets)))
}

// scrape lets a second pass.
func (f *fleet) scrape() {
	f.clock++
	for pod := range f.targets {
		f.scrapeOne(pod)
	}
}

func (f *fleet) scrapeOne(pod int) {
	for i := range f.values[pod] {
		f.values[pod][i] += float64(1 + (i+pod)%20)
	}
	f.st.AppendRefs(f.targets[pod], f.now(), f.refs[pod], f.values[pod], func(i int) labels.Labels { return f.sets[pod][i] })
}

func (f *fleet) now() time.Time { return time.UnixMilli(int64(f.clock) * 1000) }

// fleetRules are nine rules: per pod, per service and per deployment 27.
func fleetRules(by string) []string {
	rules := []string{
		`sum by (namespace, BY) (rate(vllm:request_success_total[10s]))`,
		`1000 * histogram_quantile(0.50, sum by (namespace, BY, le) (rate(vllm:e2e_request_latency_seconds_bucket[30s])))`,
		`1000 * histogram_quantile(0.95, sum by (namespace, BY, le) (rate(vllm:e2e_request_latency_seconds_bucket[30s])))`,
		`1000 * histogram_quantile(0.99, sum by (namespace, BY, le) (rate(vllm:e2e_request_latency_seconds_bucket[30s])))`,
		`1000 * histogram_quantile(0.95, sum by (namespace, BY, le) (rate(vllm:time_to_first_token_seconds_bucket[30s])))`,
		`sum by (namespace, BY) (rate(vllm:generation_tokens_total[10s]))`,
		`sum by (namespace, BY) (vllm:num_requests_waiting)`,
		`sum by (namespace, BY) (vllm:num_requests_running)`,
		`100 * avg by (namespace, BY) (vllm:kv_cache_usage_perc)`,
	}
	for i := range rules {
		rules[i] = strings.ReplaceAll(rules[i], "BY", by)
	}
	return rules
}

type fleetRule struct {
	plan *Plan
	m    Membership
	text string
}

func fleetPlans(tb testing.TB) []fleetRule {
	tb.Helper()
	var rules []fleetRule
	for _, by := range []string{"pod", "service", "deployment"} {
		m := Membership{ID: by, Version: 1, Label: by, MaxAge: 15 * time.Second, Of: func(_, pod string) ([]string, bool) {
			return []string{pod[:strings.Index(pod[6:], "-")+6]}, true
		}}
		opts := Options{MaxAge: 15 * time.Second, ObjectLabels: []string{"namespace", by}, MembershipLabel: by}
		if by == "pod" {
			m, opts.MembershipLabel = Membership{}, ""
		}
		for _, text := range fleetRules(by) {
			p, err := Compile(parse(tb, text), opts)
			require.NoError(tb, err)
			rules = append(rules, fleetRule{p, m, text})
		}
	}
	return rules
}

// BenchmarkRun measures the evaluation of all rules at one tick.
func BenchmarkRun(b *testing.B) {
	for _, pods := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("direct/pods=%d", pods), func(b *testing.B) {
			f, rules := newFleet(pods), fleetPlans(b)
			ev := New(f.st)
			tick := func() (results int) {
				run := ev.Run(f.now())
				for _, r := range rules {
					out, err := run.Evaluate(r.plan, r.m)
					require.NoError(b, err)
					results += len(out.Results)
				}
				return results
			}
			require.Equal(b, 9*(pods+40), tick())
			b.ReportAllocs()
			for b.Loop() {
				tick()
			}
		})
	}
}

// BenchmarkRunEngine is the same in the engine.
func BenchmarkRunEngine(b *testing.B) {
	for _, pods := range []int{100, 1000} {
		b.Run(fmt.Sprintf("engine/pods=%d", pods), func(b *testing.B) {
			f, rules := newFleet(pods), fleetPlans(b)
			engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e8, Timeout: time.Minute, LookbackDelta: 15 * time.Second})
			b.ReportAllocs()
			for b.Loop() {
				for _, r := range rules {
					q, err := engine.NewInstantQuery(b.Context(), &membersQueryable{f.st, r.m}, nil, r.text, f.now())
					require.NoError(b, err)
					require.NoError(b, q.Exec(b.Context()).Err)
					q.Close()
				}
			}
		})
	}
}

// BenchmarkFirstRun measures the run after a start, when nothing is known yet.
func BenchmarkFirstRun(b *testing.B) {
	f, rules := newFleet(1000), fleetPlans(b)
	b.ReportAllocs()
	for b.Loop() {
		run := New(f.st).Run(f.now())
		for _, r := range rules {
			_, err := run.Evaluate(r.plan, r.m)
			require.NoError(b, err)
		}
	}
}

// BenchmarkChurn measures a run after one pod in a hundred was replaced.
func BenchmarkChurn(b *testing.B) {
	f, rules := newFleet(1000), fleetPlans(b)
	ev := New(f.st)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		f.clock++
		for range 10 {
			n++
			pod := n % f.pods
			f.st.Forget(f.targets[pod])
			f.add(fmt.Sprintf("llama-%d-7d9f8c6b5d-%05d", pod%20, f.pods+n))
			last := len(f.targets) - 1
			f.targets[pod], f.sets[pod], f.refs[pod], f.values[pod] = f.targets[last], f.sets[last], f.refs[last], f.values[last]
			f.targets, f.sets, f.refs, f.values = f.targets[:last], f.sets[:last], f.refs[:last], f.values[:last]
			f.scrapeOne(pod)
		}
		b.StartTimer()
		run := ev.Run(f.now())
		for _, r := range rules {
			_, err := run.Evaluate(r.plan, r.m)
			require.NoError(b, err)
		}
	}
}
