package profiles

import "strings"

// vllm reads vLLM's own metrics (vllm/v1/metrics/loggers.py). A request is counted when it ends.
func vllm(b *builder) {
	b.add("requests_per_second", sumRate("vllm:request_success_total"))
	b.add("requests_in_flight", sum("vllm:num_requests_running"))
	b.add("requests_waiting", sum("vllm:num_requests_waiting"))
	b.latency("vllm:e2e_request_latency_seconds_bucket", 1000)
	b.firstToken("vllm:time_to_first_token_seconds_bucket", 1000)
	// A client that hangs up is "abort", which is not the server's fault.
	b.errorPercent(`vllm:request_success_total{finished_reason="error"}`, "vllm:request_success_total")
	b.add("tokens_per_second", sumRate("vllm:generation_tokens_total"))
	// The second name is that of releases before 0.10; some in between expose both.
	b.add("preemptions_per_second", rareRate("vllm:num_preemptions_total"))
	b.add("kv_cache_usage_percent", percent("vllm:kv_cache_usage_perc")+" or "+percent("vllm:gpu_cache_usage_perc"))
	// One for each data-parallel rank. The recommender reads the labels, which say how large the cache is: the series is kept for this rule.
	b.addPods("inference_engines", "count by ($by) (vllm:cache_config_info)")
}

// sglang reads SGLang's metrics (python/sglang/srt/metrics/collector.py); they need --enable-metrics.
func sglang(b *builder) {
	b.add("requests_per_second", sumRate("sglang:num_requests_total"))
	b.add("requests_in_flight", sum("sglang:num_running_reqs"))
	b.add("requests_waiting", sum("sglang:num_queue_reqs"))
	b.latency("sglang:e2e_request_latency_seconds_bucket", 1000)
	b.firstToken("sglang:time_to_first_token_seconds_bucket", 1000)
	// Of the HTTP server: what the engine counts as aborted are clients that hung up.
	const responses = "sglang:http_responses_total{"
	b.errorPercent(responses+`status_code=~"5..",endpoint`+notOverhead+`}`, responses+`endpoint`+notOverhead+`}`)
	b.add("tokens_per_second", sumRate("sglang:generation_tokens_total"))
	b.add("preemptions_per_second", rareRate("sglang:num_retracted_requests_total"))
	b.add("kv_cache_usage_percent", percent("sglang:token_usage"))
	// Each rank of a tensor-parallel engine says the whole.
	b.addPods("kv_cache_capacity_tokens", "max by ($by) (sglang:max_total_num_tokens)")
}

// tgi reads Text Generation Inference's metrics (router/src/infer, router/src/server.rs). Its counters bear no _total.
func tgi(b *builder) {
	b.add("requests_per_second", sumRate("tgi_request_count"))
	b.add("requests_in_flight", sum("tgi_batch_current_size"))
	b.add("requests_waiting", sum("tgi_queue_size"))
	b.latency("tgi_request_duration_bucket", 1000)
	b.errorPercent("tgi_request_failure", "tgi_request_count")
	b.add("tokens_per_second", sumRate("tgi_request_generated_tokens_sum"))
}

// triton reads Triton's metrics (docs/user_guide/metrics.md). Its request times are bare sums unless the server is told
// --metrics-config summary_latencies=true, and summaries of several pods cannot be merged: so latencies are per pod, the
// worst model's. Those summaries look back over the server's own window.
func triton(b *builder) {
	// Releases that expose no failures before the first one have the successes alone.
	const (
		successes = "sum by ($by) (rate(nv_inference_request_success[%s]))"
		failures  = "(sum by ($by) (rate(nv_inference_request_failure[%s])) or 0 * " + successes + ")"
	)
	over := func(expr, window string) string { return strings.ReplaceAll(expr, "%s", window) }
	b.add("requests_per_second", over(successes+" + "+failures, "10s"))
	b.add("requests_waiting", sum("nv_inference_pending_request_count"))
	b.add("request_error_percent", over("100 * "+failures+" / ("+successes+" + "+failures+")", "30s"))
	for _, q := range []string{"50", "95", "99"} {
		b.addPods("request_latency_p"+q+"_ms", `max by ($by) (nv_inference_request_summary_us{quantile="0.`+q+`"}) / 1000`)
	}
	// Of decoupled models, with --metrics-config histogram_latencies=true: the first response is the first chunk of tokens.
	b.firstToken("nv_inference_first_response_histogram_ms_bucket", 1)
	// Of the TensorRT-LLM backend.
	b.add("requests_in_flight", sum(`nv_trt_llm_request_metrics{request_type="active"}`))
	b.add("kv_cache_usage_percent", percent(`nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"}`))
	const blocks = "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="
	b.addPods("kv_cache_capacity_tokens", "max by ($by) ("+blocks+`"max"}) * max by ($by) (`+blocks+`"tokens_per"})`)
}

// trtllm reads TensorRT-LLM's own server, trtllm-serve (tensorrt_llm/metrics/collector.py), at /prometheus/metrics. It counts no
// failures.
func trtllm(b *builder) {
	b.add("requests_per_second", sumRate("trtllm_request_success_total"))
	b.latency("trtllm_e2e_request_latency_seconds_bucket", 1000)
	b.firstToken("trtllm_time_to_first_token_seconds_bucket", 1000)
}

// rayServe reads the metrics of Ray Serve's replicas (python/ray/serve/_private/replica.py), which count where the work is
// done: a request that passes through two deployments counts in both. Ray's own label deployment is not Kubernetes'.
func rayServe(b *builder) {
	const requests = "ray_serve_deployment_request_counter_total"
	b.add("requests_per_second", sumRate(requests))
	b.add("requests_in_flight", sum("ray_serve_replica_processing_queries"))
	b.add("requests_waiting", sum("ray_serve_deployment_queued_queries"))
	b.latency("ray_serve_deployment_processing_latency_ms_bucket", 1)
	b.errorPercent("ray_serve_deployment_error_counter_total", requests)
}
