// Package profiles has the built-in rules: what the common model servers, meshes and GPU exporters expose, under the
// names that the metric plane serves. The same metric means the same thing whichever server it comes from.
//
// A profile is the rules for one kind of server. Each of its metrics becomes three rules, for the pod, for the Service and
// for the Deployment (the agent's also for the node), named PROFILE.METRIC.RESOURCE ("vllm.requests-per-second.pods"); a MetricRule of that name takes its
// place. Where several profiles know a metric, the first that has a value for the object wins: model servers say more than
// what stands before them, and the agent more than exporters that copy a shared GPU's figures.
//
// # Windows
//
// Rates of requests and tokens look back 10 s, quantiles and error shares 30 s.
//
// The HPA compares the mean over the pods with its target and ignores 10 % of difference. With N requests in the window,
// Poisson noise is 1/sqrt(N). At 40 requests/s over all pods that is, for one look in
//
//	 5 s:  7.1 %, and 16 % of the looks leave the tolerance with no change of load;
//	10 s:  5.0 %,      5 %;
//	15 s:  4.1 %,      1.4 %.
//
// 10 s is also less than the HPA's 15 s between two looks: a step is wholly in the value by the next look, shows in part
// from the next scrape, and no request counts in two looks. Services below 10 requests/s (10 %, 32 %) want a rule of their
// own with 30 s or more. The first 10 s of a pod read low, those of the pods that it relieves read high by as much: the sum
// that the HPA acts on is right. When scrapes fail, a rate falls by about a tenth for each second that is missing; a maximum
// age of 5 s bounds that error near one half, then the value is withheld.
//
// A quantile needs more requests than a mean: of n requests the 95th percentile lies, one standard deviation each way,
// between the percentiles 95 ± 100*sqrt(0.95*0.05/n). At 10 requests/s a pod that is 92.8 to 97.2 in 10 s, 93.7 to 96.3 in
// 30 s. Missing scrapes do not bend a quantile as they do a rate.
//
// # Sums, means and quantiles of a Service
//
// What adds up (requests, tokens, bytes) is a sum over the pods; percentages are means; a quantile is taken of the merged
// histograms and is never a mean of quantiles; health is that of the worst.
package profiles

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/rules"
)

// Profile is the rules for one kind of server or exporter.
type Profile struct {
	Name  string // as in --profiles: "vllm"
	About string // whose metrics they are, for --help
	make  func(*builder)
}

// All returns every profile in the order in which their rules are asked.
func All() []Profile {
	return []Profile{
		{"vllm", "vLLM", vllm},
		{"sglang", "SGLang", sglang},
		{"tgi", "Hugging Face Text Generation Inference", tgi},
		{"triton", "NVIDIA Triton Inference Server", triton},
		{"trtllm", "TensorRT-LLM's trtllm-serve", trtllm},
		{"ray-serve", "Ray Serve", rayServe},
		{"http", "http_requests_total and http_request_duration_seconds", plainHTTP},
		{"otel-http", "OpenTelemetry's http.server.request.duration", otelHTTP},
		{"istio", "Istio's sidecars", istio},
		{"envoy", "Envoy", envoy},
		{"headroom", "headroom-agent", agent},
		{"dcgm", "dcgm-exporter", dcgm},
		{"scaler", "headroom-controller", scaler},
	}
}

// Names returns the names of all profiles.
func Names() []string {
	var names []string
	for _, p := range All() {
		names = append(names, p.Name)
	}
	return names
}

// Rules returns the rules of the named profiles, in the order of All.
func Rules(names ...string) ([]rules.Rule, error) {
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			return nil, fmt.Errorf("there is no profile %q; there are %s", name, strings.Join(Names(), ", "))
		}
	}
	var list []rules.Rule
	for _, p := range All() {
		if slices.Contains(names, p.Name) {
			b := &builder{profile: p.Name}
			p.make(b)
			list = append(list, b.rules...)
		}
	}
	return list, nil
}

// level is one kind of object that a metric is served for, and how PromQL groups by it.
type level struct{ resource, suffix, by string }

func levels() []level {
	return []level{
		{metric.Pods, "pods", "namespace, pod"},
		{metric.Services, "services", "namespace, service"},
		{metric.Deployments, "deployments", "namespace, deployment"},
	}
}

const nodes = "nodes"

// by stands in an expression for the labels of the object.
const by = "$by"

// rateMaxAge is for rates over 10 s; the package comment says why.
const rateMaxAge = 5 * time.Second

type builder struct {
	profile string
	rules   []rules.Rule
}

// add defines a metric for every level.
func (b *builder) add(name, expr string) { b.addAt(levels(), name, expr) }

// addPods defines a metric that says nothing about several pods together.
func (b *builder) addPods(name, expr string) { b.addAt(levels()[:1], name, expr) }

// addNodes defines a metric of nodes, whose expression groups by node.
func (b *builder) addNodes(name, expr string) { b.addAt([]level{{nodes, nodes, "node"}}, name, expr) }

func (b *builder) addAt(at []level, name, expr string) {
	for _, l := range at {
		b.rules = append(b.rules, rules.Rule{
			Name:   b.profile + "." + strings.ReplaceAll(name, "_", "-") + "." + l.suffix,
			Origin: rules.BuiltIn,
			Metric: name,
			Target: rules.Target{
				Resource: l.resource, RootScoped: l.resource == nodes, External: l.resource == metric.Services || l.resource == metric.Deployments,
			},
			Expr:   strings.ReplaceAll(expr, by, l.by),
			Unit:   unit(name),
			MaxAge: maxAge(name),
		})
	}
}

// latency defines the three quantiles of a histogram of request times; toMs is what makes milliseconds of its unit.
func (b *builder) latency(buckets string, toMs int) {
	for _, q := range []string{"50", "95", "99"} {
		b.add("request_latency_p"+q+"_ms", quantile(q, buckets, toMs))
	}
}

// firstToken defines the time to the first token.
func (b *builder) firstToken(buckets string, toMs int) {
	b.add("time_to_first_token_p95_ms", quantile("95", buckets, toMs))
}

func quantile(percent, buckets string, toMs int) string {
	expr := fmt.Sprintf("histogram_quantile(0.%s, sum by (%s, le) (rate(%s[30s])))", percent, by, buckets)
	if toMs != 1 {
		expr = fmt.Sprintf("%d * %s", toMs, expr)
	}
	return expr
}

// errorPercent defines the share of requests that failed. Without failed requests there are no series of them, which is
// 0 %; without requests there is no share.
func (b *builder) errorPercent(failed, all string) {
	sum := func(series string) string { return fmt.Sprintf("sum by (%s) (rate(%s[30s]))", by, series) }
	b.add("request_error_percent", fmt.Sprintf("100 * (%s or 0 * %s) / %s", sum(failed), sum(all), sum(all)))
}

func sumRate(counter string) string { return fmt.Sprintf("sum by (%s) (rate(%s[10s]))", by, counter) }

// rareRate is of what happens now and then: over a minute, a look each minute misses none.
func rareRate(counter string) string { return fmt.Sprintf("sum by (%s) (rate(%s[1m]))", by, counter) }

func sum(gauge string) string { return fmt.Sprintf("sum by (%s) (%s)", by, gauge) }

func percent(ratio string) string { return fmt.Sprintf("100 * avg by (%s) (%s)", by, ratio) }

func unit(name string) string {
	switch {
	case strings.HasSuffix(name, "_per_second"):
		return "1/s"
	case strings.HasSuffix(name, "_ms"):
		return "ms"
	case strings.HasSuffix(name, "_percent"):
		return "percent"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	case name == "gpu_healthy":
		return "bool"
	case name == "gpus_healthy":
		return "GPUs"
	case name == "gpu_mig_instances":
		return "instances"
	case name == "inference_engines":
		return "engines"
	case strings.HasSuffix(name, "_tokens"):
		return "tokens"
	}
	return "requests"
}

func maxAge(name string) time.Duration {
	if strings.HasSuffix(name, "_per_second") {
		return rateMaxAge
	}
	return metric.DefaultMaxAge
}
