package rules

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/direct"
	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/store"
)

// fill appends second s of a pod: 10 requests/s, a histogram of 12 buckets, two devices.
func fill(st *store.Store, p, s int) {
	base := []string{"namespace", "inference", "pod", podName(p)}
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

func podName(p int) string { return fmt.Sprintf("llama-70b-7d9f8c6b5d-%05d", p) }

// manyRules returns 300 rules: a hundred expressions for pods, services and deployments each, of which every tenth finds
// series in what fill writes.
func manyRules() []Rule {
	var list []Rule
	for i := range 100 {
		r := someRules()[i%3]
		by := map[string]string{metric.Pods: "pod", metric.Services: "service", metric.Deployments: "deployment"}
		for resource, label := range by {
			r := r
			r.Name, r.Metric, r.Target = fmt.Sprint(i, resource), fmt.Sprint(r.Metric, i), Target{Resource: resource}
			r.Expr = strings.ReplaceAll(r.Expr, "pod", label)
			r.Expr = strings.ReplaceAll(r.Expr, "gpu_"+label, "gpu_pod")
			if i%10 > 0 {
				r.Expr = regexp.MustCompile(`vllm:|http_|gpu_pod`).ReplaceAllString(r.Expr, fmt.Sprintf("other%d_", i))
			}
			list = append(list, r)
		}
	}
	return list
}

func manyPods(n int) *directory {
	d := &directory{pods: map[[2]string]metric.Pod{}}
	for p := range n {
		d.pods[[2]string{"inference", podName(p)}] = metric.Pod{Services: []string{fmt.Sprint("s", p%20)}, Deployment: fmt.Sprint("d", p%20)}
	}
	return d
}

// BenchmarkEvaluate is a tick of 300 rules over 1,000 pods with 17 series each, a second after the last one.
func BenchmarkEvaluate(b *testing.B) {
	const pods = 1000
	set := mustCompile(b, manyRules()...)
	for _, planned := range []bool{false, true} {
		b.Run(map[bool]string{false: "engine", true: "plans"}[planned], func(b *testing.B) {
			st := store.New(store.Options{Keep: set.Needs()})
			for p := range pods {
				for s := range 60 {
					fill(st, p, s)
				}
			}
			opts := Options{Store: st, Directory: manyPods(pods), Budget: time.Minute}
			if planned {
				opts.Direct = func() *direct.Evaluator { return direct.New(st) }
			}
			e := NewEvaluator(opts)
			defer e.Close()
			e.SetRules(set)
			snap := settle(b, e, time.UnixMilli(60_000))
			found := 0
			for _, s := range snap.Statuses() {
				require.NoError(b, s.Err)
				require.Equal(b, planned, s.Direct, s.Rule.Expr)
				if s.Objects > 0 {
					found++
				}
			}
			require.Equal(b, 30, found)
			now, second := time.UnixMilli(60_000), 60
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for p := range pods {
					fill(st, p, second)
				}
				second++
				now = now.Add(time.Second)
				b.StartTimer()
				e.Tick(now)
			}
			b.ReportMetric(float64(st.Stats().Series), "series")
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	set := mustCompile(b, someRules()...)
	st := store.New(store.Options{Keep: set.Needs()})
	for p := range 1000 {
		fill(st, p, 0)
	}
	now := time.UnixMilli(1000)
	snap := evaluate(b, set, Options{Store: st}, now)
	o := metric.Object{Resource: metric.Pods, Namespace: "inference", Name: "llama-70b-7d9f8c6b5d-00567"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := snap.Lookup("gpu_utilization_percent", o, now); err != nil {
			b.Fatal(err)
		}
	}
}
