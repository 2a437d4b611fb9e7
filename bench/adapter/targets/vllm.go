package targets

import "math"

// podSeries is how many series a pod exposes.
const podSeries = 300

// speeds are the mean latencies, in seconds, of the pods: pod i has that of i modulo their number.
func speeds() []float64 { return []float64{0.6, 0.9, 1.3, 1.9, 2.8, 4.1, 6, 9} }

// distribution is Weibull's, of shape 1.5 and near the given mean: a hump with a tail, as latencies are.
func distribution(mean float64) func(float64) float64 {
	return func(x float64) float64 { return 1 - math.Exp(-math.Pow(x/(1.1*mean), 1.5)) }
}

// vllm is what a vLLM server with one engine exposes (vllm/v1/metrics/loggers.py, prometheus_fastapi_instrumentator and
// Python's process metrics), cut to podSeries series.
func vllm(latency float64) *exposition {
	const before, after = `engine="0",`, `,model_name="meta-llama/Llama-3.3-70B-Instruct"`
	const engine = `{engine="0",model_name="meta-llama/Llama-3.3-70B-Instruct"}`
	b := &builder{}
	python(b)
	for _, g := range [][3]string{
		{"vllm:num_requests_running", "Number of requests in model execution batches.", "17.0"},
		{"vllm:num_requests_waiting", "Number of requests waiting to be processed.", "3.0"},
		{"vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", "0.4375"},
	} {
		b.family(g[0], "gauge", g[1])
		b.fixed(g[0], engine, g[2])
	}
	b.counter("vllm:prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.", []string{engine}, large, 300)
	b.counter("vllm:prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", []string{engine}, large, 120)
	b.counter("vllm:num_preemptions", "Cumulative number of preemption from the engine.", []string{engine}, count, 0.01)
	b.counter("vllm:prompt_tokens", "Number of prefill tokens processed.", []string{engine}, large, 300)
	b.counter("vllm:generation_tokens", "Number of generation tokens processed.", []string{engine}, large, 150)
	var reasons []string
	for _, r := range []string{"stop", "length", "abort"} {
		reasons = append(reasons, `{engine="0",finished_reason="`+r+`",model_name="meta-llama/Llama-3.3-70B-Instruct"}`)
	}
	first := len(b.fields)
	b.counter("vllm:request_success", "Count of successfully processed requests.", reasons, count, 0.8, 0.2, 0)
	b.fields[first].step = true

	tokens := []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}
	seconds := []float64{.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
	for _, h := range []struct {
		name, help string
		bounds     []float64
		mean       float64
	}{
		{"vllm:request_prompt_tokens", "Number of prefill tokens processed.", tokens, 300},
		{"vllm:request_generation_tokens", "Number of generation tokens processed.", tokens, 150},
		{"vllm:iteration_tokens_total", "Histogram of number of tokens per engine_step.", []float64{1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}, 90},
		{"vllm:request_max_num_generation_tokens", "Histogram of maximum number of requested generation tokens.", tokens, 400},
		{"vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}, latency / 8},
		{"vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}, latency / 50},
		{"vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", seconds, latency},
		{"vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", seconds, latency / 10},
		{"vllm:request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", seconds, latency * 0.9},
		{"vllm:request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", seconds, latency / 8},
		{"vllm:request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", seconds, latency * 0.8},
	} {
		b.histogram(h.name, h.help, before, after, h.bounds, h.mean, distribution(h.mean))
	}
	b.family("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig")
	b.fixed("vllm:cache_config_info", `{block_size="16",cache_dtype="auto",calculate_kv_scales="False",cpu_offload_gb="0",enable_prefix_caching="True",`+
		`engine="0",gpu_memory_utilization="0.9",is_attention_free="False",num_gpu_blocks="27464",num_gpu_blocks_override="None",sliding_window="None",swap_space="4"}`, "1.0")
	fastAPI(b)
	return b.finish()
}

// python is what every Python process exposes.
func python(b *builder) {
	for _, c := range [][2]string{
		{"python_gc_objects_collected", "Objects collected during gc"},
		{"python_gc_objects_uncollectable", "Uncollectable objects found during GC"},
		{"python_gc_collections", "Number of times this generation was collected"},
	} {
		b.family(c[0]+"_total", "counter", c[1])
		for _, generation := range []string{"0", "1", "2"} {
			b.growing(c[0]+"_total", `{generation="`+generation+`"}`, count, 0.1)
		}
	}
	b.family("python_info", "gauge", "Python platform information")
	b.fixed("python_info", `{implementation="CPython",major="3",minor="12",patchlevel="11",version="3.12.11"}`, "1.0")
	for _, g := range [][3]string{
		{"process_virtual_memory_bytes", "Virtual memory size in bytes.", "2.9581467648e+010"},
		{"process_resident_memory_bytes", "Resident memory size in bytes.", "6.24476160e+08"},
		{"process_start_time_seconds", "Start time of the process since unix epoch in seconds.", "1.76388837155e+09"},
		{"process_open_fds", "Number of open file descriptors.", "89.0"},
		{"process_max_fds", "Maximum number of open file descriptors.", "1.048576e+06"},
	} {
		b.family(g[0], "gauge", g[1])
		b.fixed(g[0], "", g[2])
	}
	b.family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.")
	b.growing("process_cpu_seconds_total", "", sum, 0.01)
}

// fastAPI is what prometheus_fastapi_instrumentator exposes of the HTTP server.
func fastAPI(b *builder) {
	b.counter("http_requests", "Total number of requests by method, status and handler.", []string{
		`{handler="/v1/chat/completions",method="POST",status="2xx"}`, `{handler="/v1/completions",method="POST",status="2xx"}`,
		`{handler="/health",method="GET",status="2xx"}`,
	}, count, 0.9, 0.1, 0.05)
	b.histogram("http_request_duration_seconds", "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important.",
		`handler="/v1/chat/completions",`, `,method="POST"`, []float64{0.1, 0.5, 1}, 1, distribution(1))
}
