// Package rules turns metric rules, each a PromQL expression with one result per Kubernetes object, into immutable
// snapshots of values that carry the time of the data behind them.
//
// Compile checks rules one by one: a bad one costs only itself. Evaluator runs the good ones with Prometheus' own engine
// over any storage.Queryable. Snapshot answers Lookup for one object with a metric.Value or with the reason why there is
// none. Nothing here reads a clock (an injected one measures durations) or does I/O.
//
// # How old a value is
//
// While the engine reads its series, the evaluator notes for every selector and every (namespace, pod) the newest sample
// of each series. A value's Time is the oldest of these newest samples over the series behind its object, so one device
// that was scraped 12 s ago makes an average 12 s old. For a selector with an offset, age counts from the moment that it
// looks at. Where the expression can carry samples from one object to another (label_replace or label_join into these
// labels, vector matching that leaves them out, scalar, count_values), every series that it read stands behind every
// object: then one dead exporter withholds all its values, which is the price of never serving one as younger than it is.
//
// A value older than its rule's MaxAge when it is looked up is withheld, whatever the age of the snapshot. MaxAge is also
// how far back instant selectors look: a series without a sample in that time is out of their sight, and what remains of
// the object's series makes and dates the value.
//
// # When series end
//
// A series ends when a scrape succeeds and lacks it (a stale marker). To an instant selector it is gone at once. To a
// range selector its samples count until the last of them leaves the range: rate(x[10s]) goes on to yield falling
// values for up to 10 s. Therefore:
//   - an object whose series have all ended is withheld at once, though the expression still yields a value for it;
//   - of a selector that has live series for the object beside ended ones (a counter whose status code vanished in a
//     restart), only the live ones date the value;
//   - of a range selector that has ended series alone, while another selector has live ones, the newest ended sample
//     dates the value as well: it ages from there until the range is empty.
//
// A failed scrape ends nothing: its series age. A rate then falls, because it is not extrapolated over more than about
// one scrape interval; which is why the default rule for requests sets a MaxAge below 15 s.
package rules

import (
	"time"

	"headroom.dev/headroom/adapter/metric"
)

// Pods is the one resource that rules can describe so far; the result's namespace and pod labels name the object.
const Pods = "pods"

const (
	nameLabel      = "__name__"
	namespaceLabel = "namespace"
	podLabel       = "pod"
)

// Rule defines one metric for one kind of object.
type Rule struct {
	Metric   string // as users write it in an HPA: "requests_per_second"
	Resource string // Pods
	// Expr is PromQL. Each result must carry labels namespace and pod, and no object may have two results.
	Expr   string
	Unit   string        // for people: "1/s", "ms", "percent"
	MaxAge time.Duration // 0 stands for metric.DefaultMaxAge; also the look-back of instant selectors
}

// Defaults returns the built-in rules. They assume a scrape every second, and read vLLM's own series where a pod has them
// and the plain HTTP ones else.
func Defaults() []Rule {
	return []Rule{
		{
			Metric: "requests_per_second", Resource: Pods, Unit: "1/s",
			// The HPA compares the mean over the pods with its target and ignores 10 % of difference. With N requests in the
			// window, Poisson noise is 1/sqrt(N). At 40 requests/s over all pods that is, for one look in
			//    5 s:  7.1 %, and 16 % of the looks leave the tolerance with no change of load;
			//   10 s:  5.0 %,      5 %;
			//   15 s:  4.1 %,      1.4 %.
			// 10 s is also less than the HPA's 15 s between two looks: a step is wholly in the value by the next look, shows
			// in part from the next scrape, and no request counts in two looks. Services below 10 requests/s (10 %, 32 %)
			// want a rule of their own with 30 s or more.
			//
			// The first 10 s of a pod read low, those of the pods that it relieves read high by as much: the sum that the HPA
			// acts on is right. When scrapes fail the rate falls by about a tenth for each second that is missing (testdata/gap). 5 s of age
			// bound that error near one half; then the value is withheld.
			Expr: `sum by (namespace, pod) (rate(vllm:request_success_total[10s]))` +
				` or sum by (namespace, pod) (rate(http_requests_total[10s]))`,
			MaxAge: 5 * time.Second,
		},
		{
			Metric: "request_latency_p95_ms", Resource: Pods, Unit: "ms",
			// A quantile needs more requests than a mean: of n requests the 95th percentile lies, one standard deviation
			// each way, between the percentiles 95 ± 100*sqrt(0.95*0.05/n). At 10 requests/s a pod that is 92.8 to 97.2 in
			// 10 s, 93.7 to 96.3 in 30 s. Missing scrapes do not bend a quantile as they do a rate.
			Expr: `1000 * (histogram_quantile(0.95, sum by (namespace, pod, le) (rate(vllm:e2e_request_latency_seconds_bucket[30s])))` +
				` or histogram_quantile(0.95, sum by (namespace, pod, le) (rate(http_request_duration_seconds_bucket[30s]))))`,
			MaxAge: metric.DefaultMaxAge,
		},
		{
			Metric: "gpu_utilization_percent", Resource: Pods, Unit: "percent",
			// The inner max counts a device that two containers of the pod share once.
			Expr:   `100 * avg by (namespace, pod) (max by (namespace, pod, uuid) (gpu_pod_utilization_ratio))`,
			MaxAge: metric.DefaultMaxAge,
		},
	}
}
