package inference

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// vLLM's values of finished_reason.
const (
	finishedStop   = "stop"
	finishedLength = "length"
	finishedAbort  = "abort"
)

// metrics are one server's own: nothing is registered globally, so hundreds of servers live in one process.
type metrics struct {
	http, vllm *prometheus.Registry

	requests *prometheus.CounterVec
	duration prometheus.Histogram

	finished         *prometheus.CounterVec
	latency          prometheus.Histogram
	firstToken       prometheus.Histogram
	prompt, generate prometheus.Counter
}

func newMetrics(model string, read func() state) *metrics {
	m := &metrics{http: prometheus.NewRegistry(), vllm: prometheus.NewRegistry()}
	m.registerHTTP()
	// One engine a server, as in vLLM without data parallelism.
	m.registerVLLM(prometheus.WrapRegistererWith(prometheus.Labels{"model_name": model, "engine": "0"}, m.vllm), read)
	return m
}

func (m *metrics) registerHTTP() {
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "http_requests_total", Help: "Requests of work that ended, by status code; 499 for a client that went away.",
	}, []string{"code", "handler", "method"})
	m.duration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "http_request_duration_seconds", Help: "Time from a request's arrival to its end.",
		// Steps of at most 2 from 5 ms, and of at most 1.5 about the default service time: a quantile is at most that far off.
		Buckets: []float64{
			.005, .01, .015, .02, .03, .04, .05, .06, .08, .1, .125, .15, .2, .25, .3, .4, .5, .75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 20, 30, 60,
		},
	})
	m.http.MustRegister(m.requests, m.duration)
	// Known series begin at 0: a rate over a new pod would else miss the first request of each.
	for handler, method := range map[string]string{
		"/": http.MethodGet, "/v1/completions": http.MethodPost, "/v1/chat/completions": http.MethodPost,
	} {
		for _, code := range []string{"200", "500", "503"} {
			m.requests.WithLabelValues(code, handler, method)
		}
	}
}

// registerVLLM makes the metrics with the names, labels and buckets of vLLM's vllm/v1/metrics/loggers.py.
//
//nolint:promlinter // the colons are vLLM's
func (m *metrics) registerVLLM(to prometheus.Registerer, read func() state) {
	gauge := func(name, help string, value func(state) float64) {
		to.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(read()) }))
	}
	gauge("vllm:num_requests_running", "Number of requests in model execution batches.",
		func(s state) float64 { return float64(s.running) })
	gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.",
		func(s state) float64 { return float64(s.waiting) })
	gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", state.cacheUsage)
	m.finished = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "vllm:request_success_total", Help: "Count of successfully processed requests.",
	}, []string{"finished_reason"})
	m.latency = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "vllm:e2e_request_latency_seconds", Help: "Histogram of e2e request latency in seconds.",
		Buckets: []float64{.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680},
	})
	m.firstToken = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "vllm:time_to_first_token_seconds", Help: "Histogram of time to first token in seconds.",
		Buckets: []float64{
			.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
		},
	})
	m.prompt = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "vllm:prompt_tokens_total", Help: "Number of prefill tokens processed.",
	})
	m.generate = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "vllm:generation_tokens_total", Help: "Number of generation tokens processed.",
	})
	to.MustRegister(newCacheConfig(read), m.finished, m.latency, m.firstToken, m.prompt, m.generate)
	for _, reason := range []string{finishedStop, finishedLength, finishedAbort} {
		m.finished.WithLabelValues(reason)
	}
}

// cacheConfig is vLLM's info metric, whose labels are the fields of its CacheConfig. All are there that say how large the cache is.
type cacheConfig struct {
	desc *prometheus.Desc
	read func() state
}

func newCacheConfig(read func() state) cacheConfig {
	return cacheConfig{read: read, desc: prometheus.NewDesc("vllm:cache_config_info", "Information of the LLMEngine CacheConfig",
		[]string{"block_size", "cache_dtype", "enable_prefix_caching", "gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks"}, nil)}
}

// Describe implements prometheus.Collector.
func (c cacheConfig) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

// A block of vLLM has 16 tokens; of an 8B model (32 layers, 8 key-value heads of 128, 2 bytes) each takes 128 KiB.
const (
	blockTokens = 16
	tokenBytes  = 128 << 10
)

// Collect implements prometheus.Collector.
func (c cacheConfig) Collect(to chan<- prometheus.Metric) {
	spec := c.read().spec
	blocks := int64(spec.KVCache) / (blockTokens * tokenBytes)
	to <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, 1, strconv.Itoa(blockTokens), "auto", "True",
		strconv.FormatFloat(spec.GPUMemoryUtilization, 'g', -1, 64), "None", strconv.FormatInt(blocks, 10))
}

// count books one request that ended.
func (m *metrics) count(o outcome) {
	m.requests.WithLabelValues(strconv.Itoa(o.code), o.handler, o.method).Inc()
	m.duration.Observe(o.latency.Seconds())
	m.prompt.Add(float64(o.prompt))
	m.generate.Add(float64(o.output))
	if o.finished == "" {
		return
	}
	m.finished.WithLabelValues(o.finished).Inc()
	m.latency.Observe(o.latency.Seconds())
	m.firstToken.Observe(o.firstToken.Seconds())
}

// handler returns the exposition of the families that names asks for.
func (m *metrics) handler(names MetricNames) http.Handler {
	var from prometheus.Gatherers
	if names != MetricNamesVLLM {
		from = append(from, m.http)
	}
	if names != MetricNamesHTTP {
		from = append(from, m.vllm)
	}
	// Compressing 10 kB costs more than sending it over the loopback.
	return promhttp.HandlerFor(from, promhttp.HandlerOpts{DisableCompression: true})
}
