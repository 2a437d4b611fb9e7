package profiles

// Scrapes and probes come every second and are no load; servers that count them do so under one of these labels.
const (
	notOverhead   = `!~"/(metrics|health|healthz|live|livez|ready|readyz|ping|v1/health/.*|v2/health/.*)"`
	plainRequests = `handler` + notOverhead + `,path` + notOverhead + `,route` + notOverhead
	otelRequests  = `http_route` + notOverhead + `,url_path` + notOverhead
)

// plainHTTP reads the names that Prometheus' own instrumentation advice and most libraries use. The status is in the label
// code (client_golang) or status (starlette, fastapi: "500" or "5xx").
func plainHTTP(b *builder) {
	const requests = "http_requests_total"
	b.add("requests_per_second", sumRate(requests+"{"+plainRequests+"}"))
	b.add("requests_in_flight", sum("http_requests_in_flight"))
	b.latency("http_request_duration_seconds_bucket{"+plainRequests+"}", 1000)
	b.add("request_error_percent", `100 * (sum by ($by) (rate(`+requests+`{code=~"5..",`+plainRequests+`}[30s]))`+
		` or sum by ($by) (rate(`+requests+`{status=~"5..|5xx",`+plainRequests+`}[30s]))`+
		` or 0 * sum by ($by) (rate(`+requests+`{`+plainRequests+`}[30s])))`+
		` / sum by ($by) (rate(`+requests+`{`+plainRequests+`}[30s]))`)
}

// otelHTTP reads the stable HTTP server conventions of OpenTelemetry (semantic conventions 1.23 and later) in their
// Prometheus spelling.
func otelHTTP(b *builder) {
	const requests = "http_server_request_duration_seconds"
	b.add("requests_per_second", sumRate(requests+"_count{"+otelRequests+"}"))
	b.add("requests_in_flight", sum("http_server_active_requests"))
	b.latency(requests+"_bucket{"+otelRequests+"}", 1000)
	b.errorPercent(requests+`_count{http_response_status_code=~"5..",`+otelRequests+`}`, requests+"_count{"+otelRequests+"}")
}

// istio reads what a pod's sidecar counts of the requests to it (Istio's standard metrics). Envoy writes the labels.
func istio(b *builder) {
	const requests = `istio_requests_total{reporter="destination"`
	b.add("requests_per_second", sumRate(requests+"}"))
	b.latency(`istio_request_duration_milliseconds_bucket{reporter="destination"}`, 1)
	b.errorPercent(requests+`,response_code=~"5.."}`, requests+"}")
}

// envoy reads the connection managers of an Envoy, without its own admin port and what a sidecar sends out.
func envoy(b *builder) {
	const in = `envoy_http_conn_manager_prefix!~"admin|agent|stats|outbound.*"`
	b.add("requests_per_second", sumRate("envoy_http_downstream_rq_total{"+in+"}"))
	b.add("requests_in_flight", sum("envoy_http_downstream_rq_active{"+in+"}"))
	b.latency("envoy_http_downstream_rq_time_bucket{"+in+"}", 1)
	b.errorPercent(`envoy_http_downstream_rq_xx{envoy_response_code_class="5",`+in+`}`, "envoy_http_downstream_rq_total{"+in+"}")
}
