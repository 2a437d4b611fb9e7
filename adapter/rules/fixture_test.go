package rules

import (
	"time"

	"headroom.dev/headroom/adapter/metric"
)

// someRules are like the built-in ones of pods.
func someRules() []Rule {
	return []Rule{
		{
			Name: "requests_per_second", Origin: BuiltIn, Metric: "requests_per_second", Target: Target{Resource: metric.Pods}, Unit: "1/s",
			Expr: `sum by (namespace, pod) (rate(vllm:request_success_total[10s]))` +
				` or sum by (namespace, pod) (rate(http_requests_total[10s]))`,
			MaxAge: 5 * time.Second,
		},
		{
			Name: "request_latency_p95_ms", Origin: BuiltIn, Metric: "request_latency_p95_ms", Target: Target{Resource: metric.Pods}, Unit: "ms",
			Expr: `1000 * (histogram_quantile(0.95, sum by (namespace, pod, le) (rate(vllm:e2e_request_latency_seconds_bucket[30s])))` +
				` or histogram_quantile(0.95, sum by (namespace, pod, le) (rate(http_request_duration_seconds_bucket[30s]))))`,
			MaxAge: metric.DefaultMaxAge,
		},
		{
			Name: "gpu_utilization_percent", Origin: BuiltIn, Metric: "gpu_utilization_percent", Target: Target{Resource: metric.Pods}, Unit: "percent",
			Expr:   `100 * avg by (namespace, pod) (max by (namespace, pod, uuid) (gpu_pod_utilization_ratio))`,
			MaxAge: metric.DefaultMaxAge,
		},
	}
}
