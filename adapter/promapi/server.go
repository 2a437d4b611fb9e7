package promapi

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"headroom.dev/headroom/adapter/bound"
	"headroom.dev/headroom/adapter/metric"
)

// Defaults of ServerOptions. One query holds at most some 200 MB: 32 MB of samples, and about 400 bytes for each series
// with what the engine makes of it.
const (
	DefaultQueryTimeout  = 10 * time.Second
	DefaultQueueTimeout  = time.Second
	DefaultMaxConcurrent = 4
	DefaultMaxSamples    = 2_000_000 // 16 bytes each: 1,000 series with 2,000 points
	DefaultMaxSeries     = 800_000   // twice the whole of a full store
	DefaultMaxAnswer     = 16 << 20  // 80,000 results of a query, or 600,000 points of a range
)

// ServerOptions bound the requests to a Server; zero values stand for the defaults.
type ServerOptions struct {
	// Lookback is how far back an instant selector looks for a sample, unless the request says (lookback_delta); default
	// metric.DefaultMaxAge. Prometheus' own 5 minutes would show pods that are long gone.
	Lookback      time.Duration
	Timeout       time.Duration // of one query; a request may ask for less (timeout)
	QueueTimeout  time.Duration // how long a request waits for one of the MaxConcurrent places before it gets a 503
	MaxConcurrent int           // requests that read the store, at one time
	MaxSamples    int           // that one query may hold at one time
	MaxSeries     int           // that one request may examine, counted for each selector
	MaxAnswer     int           // bytes of JSON
	// Metadata says what is known of metrics; nil knows nothing.
	Metadata MetadataReader
	Version  string           // of this program, for status/buildinfo
	Clock    func() time.Time // nil stands for time.Now
	Registry prometheus.Registerer
}

// MetadataReader knows what targets say of their metrics.
type MetadataReader interface {
	// Metadata returns type, unit and help by the name of the metric family, as the exposition has it
	// ("http_request_duration_seconds" for a histogram). The map is shared: neither side changes it.
	Metadata() map[string]metadata.Metadata
}

// Server answers the Prometheus HTTP API. It is safe for concurrent use.
type Server struct {
	opts   ServerOptions
	source storage.Queryable
	engine *promql.Engine
	parser parser.Parser
	places chan struct{} // holds one element for each request that reads the source
	mux    *http.ServeMux

	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
}

// NewServer returns a server of what source holds.
func NewServer(source storage.Queryable, opts ServerOptions) *Server {
	setDefault(&opts.Lookback, metric.DefaultMaxAge)
	setDefault(&opts.Timeout, DefaultQueryTimeout)
	setDefault(&opts.QueueTimeout, DefaultQueueTimeout)
	setDefault(&opts.MaxConcurrent, DefaultMaxConcurrent)
	setDefault(&opts.MaxSamples, DefaultMaxSamples)
	setDefault(&opts.MaxSeries, DefaultMaxSeries)
	setDefault(&opts.MaxAnswer, DefaultMaxAnswer)
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	s := &Server{
		opts:   opts,
		source: source,
		parser: parser.NewParser(parser.Options{}), // what rules may say, and no more
		places: make(chan struct{}, opts.MaxConcurrent),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headroom_adapter_query_api_requests_total",
			Help: "Requests to the Prometheus query API by handler and HTTP status.",
		}, []string{"handler", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "headroom_adapter_query_api_request_duration_seconds",
			Help:    "How long requests to the Prometheus query API took, waiting for a place included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"handler"}),
	}
	s.engine = promql.NewEngine(promql.EngineOpts{
		Parser:                   s.parser,
		Timeout:                  opts.Timeout,
		MaxSamples:               opts.MaxSamples,
		LookbackDelta:            opts.Lookback,
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return bound.SubqueryStep.Milliseconds() },
	})
	if opts.Registry != nil {
		opts.Registry.MustRegister(s.requests, s.durations)
	}
	s.route()
	return s
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Handler returns a handler that shows the series of one namespace alone, or all of them where namespace is "". It
// serves the paths of the API with and without their prefix "/api/v1", so that it can be mounted behind http.StripPrefix.
// Handlers cost nothing: one may be made for each request.
func (s *Server) Handler(namespace string) http.Handler {
	if namespace == "" {
		return s.mux
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), namespaceKey{}, namespace)))
	})
}

// namespaceKey finds the namespace that a request is restricted to in its context.
type namespaceKey struct{}

func namespaceOf(ctx context.Context) string {
	ns, _ := ctx.Value(namespaceKey{}).(string)
	return ns
}

func (s *Server) route() {
	s.mux = http.NewServeMux()
	get := []string{http.MethodGet}
	both := []string{http.MethodGet, http.MethodPost}
	for _, e := range []struct {
		name, path string
		methods    []string
		serve      endpoint
	}{
		{"query", "/query", both, s.placed(s.query)},
		{"query_range", "/query_range", both, s.placed(s.queryRange)},
		{"series", "/series", both, s.placed(s.series)},
		{"labels", "/labels", both, s.placed(s.labelNames)},
		{"label_values", "/label/{name}/values", get, s.placed(s.labelValues)},
		{"metadata", "/metadata", get, s.placed(s.metadata)},
		{"format_query", "/format_query", both, s.formatQuery},
		{"query_exemplars", "/query_exemplars", both, s.queryExemplars},
		{"rules", "/rules", get, always(map[string][]string{"groups": {}})},
		{"alerts", "/alerts", get, always(map[string][]string{"alerts": {}})},
		{"buildinfo", "/status/buildinfo", get, always(buildInfo(s.opts.Version))},
	} {
		var h http.Handler = s.respond(e.serve)
		label := prometheus.Labels{"handler": e.name}
		h = promhttp.InstrumentHandlerCounter(s.requests.MustCurryWith(label), h)
		h = promhttp.InstrumentHandlerDuration(s.durations.MustCurryWith(label), h)
		for _, method := range e.methods {
			s.mux.Handle(method+" "+e.path, h)
			s.mux.Handle(method+" /api/v1"+e.path, h)
		}
	}
}

// placed lets an endpoint run when there is a place for it, and with the time limit of a query.
func (s *Server) placed(next endpoint) endpoint {
	return func(r *http.Request) (answer, error) {
		if err := s.enter(r.Context()); err != nil {
			return answer{}, err
		}
		defer func() { <-s.places }()
		ctx, cancel := context.WithTimeout(r.Context(), s.opts.Timeout)
		defer cancel()
		return next(r.WithContext(ctx))
	}
}

func (s *Server) enter(ctx context.Context) error {
	select {
	case s.places <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(s.opts.QueueTimeout)
	defer timer.Stop()
	select {
	case s.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return promql.ErrQueryCanceled("query queue")
	case <-timer.C:
		return promql.ErrQueryTimeout("query queue")
	}
}
