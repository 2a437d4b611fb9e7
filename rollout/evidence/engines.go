package evidence

import (
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// series selects samples of one metric name. Of several alternatives one must fit; none stands for every series.
type series struct {
	name         string
	alternatives [][]*labels.Matcher
}

func (s series) fits(of map[string]string) bool {
	return len(s.alternatives) == 0 || slices.ContainsFunc(s.alternatives, func(all []*labels.Matcher) bool { return matchAll(all, of) })
}

func matchAll(all []*labels.Matcher, of map[string]string) bool {
	return !slices.ContainsFunc(all, func(m *labels.Matcher) bool { return !m.Matches(of[m.Name]) })
}

// source is one way in which engines say what a metric needs. Its id names it in stored states and in messages.
type source struct {
	id string
	// all and failed are summed, for errors.
	all, failed []series
	// counts must fit a series of all, or the engine is not known to count failures: without a single failure so far a counter of
	// successes looks just like one of all requests.
	counts series
	// histogram is, for latencies, the name of the buckets, without its suffix; all is then what restricts them.
	histogram string
}

// names are the metric names that the source reads.
func (s source) names() []string {
	var names []string
	for _, one := range slices.Concat(s.all, s.failed) {
		if !slices.Contains(names, one.name) {
			names = append(names, one.name)
		}
	}
	return names
}

func is(label, value string) []*labels.Matcher {
	return []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, label, value)}
}

func like(label, pattern string) []*labels.Matcher {
	return []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, label, pattern)}
}

const serverError = "5.." // also "5xx", as FastAPI's instrumentator groups them

// byStatus is a counter of all requests whose series tell HTTP's status in one of the labels.
func byStatus(id, name string, statusLabels ...string) source {
	s := source{id: id, all: []series{{name: name}}, failed: []series{{name: name}}, counts: series{name: name}}
	for _, label := range statusLabels {
		s.failed[0].alternatives = append(s.failed[0].alternatives, like(label, serverError))
		s.counts.alternatives = append(s.counts.alternatives, like(label, ".+"))
	}
	return s
}

// errorSources are asked in this order; the first that both versions have is judged by for the whole rollout. What answers the
// request knows best, so HTTP's status stands before the engine's own reasons; of the counters of an engine only those that
// count failures are here. SGLang's num_aborted_requests_total counts clients that hung up, trtllm_request_success_total only
// what went well.
func errorSources() []source {
	counted := func(id, all string, failed ...string) source {
		s := source{id: id, all: []series{{name: all}}, counts: series{name: all}}
		for _, name := range failed {
			s.failed = append(s.failed, series{name: name})
		}
		return s
	}
	const (
		tritonSuccess, tritonFailure = "nv_inference_request_success", "nv_inference_request_failure"
		vllm                         = "vllm:request_success_total"
		envoy                        = "envoy_http_downstream_rq_xx"
	)
	triton := counted("Triton", tritonSuccess, tritonFailure)
	triton.all = append(triton.all, series{name: tritonFailure})
	return []source{
		byStatus("SGLang", "sglang:http_responses_total", "status_code"),
		counted("TGI", "tgi_request_count", "tgi_request_failure"),
		triton,
		counted("Ray Serve", "ray_serve_deployment_request_counter_total", "ray_serve_deployment_error_counter_total"),
		byStatus("HTTP", "http_requests_total", "code", "status"),
		byStatus("OpenTelemetry", "http_server_request_duration_seconds_count", "http_response_status_code"),
		istio(byStatus("Istio", "istio_requests_total", "response_code")),
		{
			id: "Envoy", all: []series{{envoy, inbound()}}, counts: series{envoy, inbound()},
			failed: []series{{envoy, [][]*labels.Matcher{slices.Concat(inbound()[0], is("envoy_response_code_class", "5"))}}},
		},
		{
			// Releases since the end of 2025 have the reason error, from the start and at 0; older ones count no failures.
			id: "vLLM", all: []series{{name: vllm}}, counts: series{vllm, [][]*labels.Matcher{is("finished_reason", "error")}},
			failed: []series{{vllm, [][]*labels.Matcher{is("finished_reason", "error")}}},
		},
	}
}

// istio leaves only what the pod's own sidecar says of the requests to it.
func istio(s source) source {
	own := is("reporter", "destination")
	for _, list := range [][]series{s.all, s.failed} {
		for i := range list {
			if len(list[i].alternatives) == 0 {
				list[i].alternatives = [][]*labels.Matcher{nil}
			}
			for k := range list[i].alternatives {
				list[i].alternatives[k] = slices.Concat(own, list[i].alternatives[k])
			}
		}
	}
	return s
}

// inbound leaves out Envoy's own port and what a sidecar sends out.
func inbound() [][]*labels.Matcher {
	return [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchNotRegexp, "envoy_http_conn_manager_prefix", "admin|agent|stats|outbound.*")}}
}

// latencySources are asked as errorSources are. An engine's own histogram ends with the last token, where HTTP middleware may
// stop at the first byte of a stream.
func latencySources() []source {
	var list []source
	for _, name := range []string{
		"vllm:e2e_request_latency_seconds", "sglang:e2e_request_latency_seconds", "tgi_request_duration", "trtllm_e2e_request_latency_seconds",
		"ray_serve_deployment_processing_latency_ms", "nv_inference_first_response_histogram_ms", "http_request_duration_seconds",
		"http_server_request_duration_seconds",
	} {
		list = append(list, histogram(name))
	}
	sidecar, proxy := istio(histogram("istio_request_duration_milliseconds")), histogram("envoy_http_downstream_rq_time")
	proxy.all[0].alternatives = inbound()
	return append(list, sidecar, proxy)
}

func histogram(name string) source {
	return source{id: name, histogram: name, all: []series{{name: name + "_bucket"}}}
}

// unit is that of a histogram by its name.
func (s source) unit() string {
	for suffix, unit := range map[string]string{"_seconds": "s", "_ms": "ms", "_milliseconds": "ms", "tgi_request_duration": "s", "_rq_time": "ms"} {
		if strings.HasSuffix(s.histogram, suffix) {
			return unit
		}
	}
	return ""
}

// overhead says whether a series counts scrapes and probes, which come every second, never fail, and are no load.
func overhead(of map[string]string) bool {
	for _, label := range []string{"handler", "path", "route", "http_route", "url_path", "endpoint"} {
		switch path := of[label]; {
		case slices.Contains([]string{"/metrics", "/health", "/healthz", "/live", "/livez", "/ready", "/readyz", "/ping"}, path),
			strings.HasPrefix(path, "/v1/health/"), strings.HasPrefix(path, "/v2/health/"):
			return true
		}
	}
	return false
}
