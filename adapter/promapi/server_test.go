package promapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/store"
)

// epoch is the time of the last scrape in the tests' stores, in seconds.
const epoch = 1_700_000_000

// shop returns a store with 30 scrapes, one a second, of two pods of namespace shop and one of namespace bank.
func shop() *store.Store {
	st := store.New(store.Options{Keep: map[string]time.Duration{
		"http_requests_total": time.Minute, "odd": time.Minute, "d_bucket": time.Minute, "late": time.Minute,
	}})
	for i := range 30 {
		at := time.Unix(epoch-29+int64(i), 250e6)
		for n, pod := range []string{"shop/a", "shop/b", "bank/c"} {
			ns, name, _ := strings.Cut(pod, "/")
			sample := func(v float64, kv ...string) store.Sample {
				return store.Sample{Value: v, Labels: labels.FromStrings(append(kv, "namespace", ns, "pod", name)...)}
			}
			samples := []store.Sample{
				sample(float64(i*10*(n+1)), "__name__", "http_requests_total", "code", "200"),
				sample(float64(i), "__name__", "http_requests_total", "code", "500"),
				sample([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}[n], "__name__", "odd", "text", `<"é\`+"\n"),
				sample(float64(i), "__name__", "d_bucket", "le", "0.5"),
				sample(float64(i*2), "__name__", "d_bucket", "le", "+Inf"),
			}
			if i < 5 {
				samples = append(samples, sample(1e21, "__name__", "late"))
			}
			st.Append(pod, at, samples)
		}
	}
	return st
}

type knownMetadata map[string]metadata.Metadata

func (k knownMetadata) Metadata() map[string]metadata.Metadata { return k }

func shopServer() *Server {
	return NewServer(shop(), ServerOptions{
		Clock:   func() time.Time { return time.Unix(epoch, 500e6) },
		Version: "v1.2.3",
		Metadata: knownMetadata{
			"http_requests_total": {Type: model.MetricTypeCounter, Help: "Requests."},
			"d":                   {Type: model.MetricTypeHistogram, Help: "Durations.", Unit: "seconds"},
			"elsewhere":           {Type: model.MetricTypeGauge, Help: "No series has this name."},
		},
	})
}

// ask sends a request to a handler. what is "GET /path?parameters" or "POST /path?form".
func ask(h http.Handler, what string) *httptest.ResponseRecorder {
	method, target, _ := strings.Cut(what, " ")
	path, form, _ := strings.Cut(target, "?")
	var r *http.Request
	if method == http.MethodPost {
		r = httptest.NewRequest(method, path, strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		r = httptest.NewRequest(method, target, nil)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestAnswers holds answers to those in testdata. In the files parameters stand unescaped, one on each line.
func TestAnswers(t *testing.T) {
	s := shopServer()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "fuzz") {
			return
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var ns string
			d.MaybeScanArgs(t, "namespace", &ns)
			lines := strings.Split(d.Input, "\n")
			form := url.Values{}
			for _, line := range lines[1:] {
				name, value, _ := strings.Cut(line, "=")
				form.Add(name, value)
			}
			w := ask(s.Handler(ns), lines[0]+"?"+form.Encode())
			require.True(t, w.Header().Get("Content-Type") != "application/json" || json.Valid(w.Body.Bytes()), "%s", w.Body)
			return fmt.Sprintf("%d %s\n%s", w.Code, w.Header().Get("Content-Type"), w.Body)
		})
	})
}

func TestPrefixesAndMethods(t *testing.T) {
	s := shopServer()
	mounted := map[string]http.Handler{
		"":                        s.Handler(""),
		"/api/v1":                 s.Handler(""),
		"/apis/g/v1/namespaces/n": http.StripPrefix("/apis/g/v1/namespaces/n", s.Handler("shop")),
		"/p/api/v1":               http.StripPrefix("/p", s.Handler("shop")),
		"/q/api/v1":               http.StripPrefix("/q/api/v1", s.Handler("shop")),
	}
	for prefix, h := range mounted {
		require.Equal(t, 200, ask(h, "GET "+prefix+"/query?query=1").Code, prefix)
		require.Equal(t, 200, ask(h, "POST "+prefix+"/query?query=1").Code, prefix)
		require.Equal(t, 200, ask(h, "GET "+prefix+"/label/pod/values").Code, prefix)
		require.Equal(t, 404, ask(h, "GET "+prefix+"/admin/tsdb/delete_series").Code, prefix)
		require.Equal(t, 405, ask(h, "DELETE "+prefix+"/query").Code, prefix)
	}
}

func TestEngineVersionIsTheLinkedOne(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	version, _ := strings.CutPrefix(engineVersion, "3.")
	require.Contains(t, string(mod), "github.com/prometheus/prometheus v0.3"+version+"\n")
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := NewServer(shop(), ServerOptions{Registry: reg})
	for _, what := range []string{"GET /query?query=1", "POST /api/v1/query?query=1", "GET /query?query=(", "GET /label/pod/values"} {
		ask(s.Handler("shop"), what)
	}
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP headroom_adapter_query_api_requests_total Requests to the Prometheus query API by handler and HTTP status.
# TYPE headroom_adapter_query_api_requests_total counter
headroom_adapter_query_api_requests_total{code="200",handler="query"} 2
headroom_adapter_query_api_requests_total{code="400",handler="query"} 1
headroom_adapter_query_api_requests_total{code="200",handler="label_values"} 1
`), "headroom_adapter_query_api_requests_total"))
	require.Equal(t, 2, testutil.CollectAndCount(s.durations))
}

// blocking is a source whose Selects wait for their context, or for gate.
type blocking struct {
	storage.Queryable
	gate chan struct{}
}

func (b blocking) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := b.Queryable.Querier(mint, maxt)
	return blockingQuerier{q, b.gate}, err
}

type blockingQuerier struct {
	storage.Querier
	gate chan struct{}
}

func (q blockingQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	select {
	case <-q.gate:
		return q.Querier.Select(ctx, sorted, h, ms...)
	case <-ctx.Done():
		return storage.ErrSeriesSet(ctx.Err())
	}
}

// answerOf returns status and body without the envelope's beginning.
func answerOf(w *httptest.ResponseRecorder) string { return fmt.Sprintf("%d %s", w.Code, w.Body) }

func TestPlacesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := NewServer(blocking{shop(), gate}, ServerOptions{MaxConcurrent: 2, QueueTimeout: time.Second, Timeout: time.Minute})
		h := s.Handler("")
		running := make(chan string, 2)
		for _, what := range []string{"GET /query?query=odd", "GET /series?match[]=odd"} {
			go func() { running <- answerOf(ask(h, what)) }()
		}
		synctest.Wait()
		start := time.Now()
		require.Equal(t, `503 {"status":"error","errorType":"timeout","error":"query timed out in query queue"}`,
			answerOf(ask(h, "GET /query?query=odd")))
		require.Equal(t, time.Second, time.Since(start))
		require.Equal(t, 200, ask(h, "GET /status/buildinfo").Code, "what reads no series needs no place")

		waiting := make(chan string)
		go func() { waiting <- answerOf(ask(h, "GET /label/code/values")) }()
		synctest.Wait()
		close(gate)
		require.Equal(t, `200 {"status":"success","data":["200","500"]}`, <-waiting)
		require.Contains(t, <-running, `200 {"status":"success"`)
		require.Contains(t, <-running, `200 {"status":"success"`)
	})
}

func TestTimeAndCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(blocking{shop(), nil}, ServerOptions{Timeout: 10 * time.Second})
		for what, took := range map[string]time.Duration{
			"GET /query?query=odd":                                         10 * time.Second,
			"GET /query?query=odd&timeout=2s":                              2 * time.Second,
			"GET /query?query=odd&timeout=1h":                              10 * time.Second,
			"GET /query_range?query=odd&start=0&end=9&step=1":              10 * time.Second,
			"POST /query_range?query=odd&start=0&end=9&step=1&timeout=0.5": time.Second / 2,
			"GET /series?match[]=odd":                                      10 * time.Second,
			"GET /labels":                                                  10 * time.Second,
		} {
			start := time.Now()
			w := ask(s.Handler("shop"), what)
			require.Equal(t, 503, w.Code, "%s: %s", what, w.Body)
			require.Contains(t, w.Body.String(), `"errorType":"timeout"`, what)
			require.Equal(t, took, time.Since(start), what)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		w := httptest.NewRecorder()
		s.Handler("").ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/query?query=odd", nil))
		require.Equal(t, 499, w.Code)
		require.Contains(t, w.Body.String(), `"errorType":"canceled"`)
	})
}

// TestMinutesLongQuery is one that the engine itself has to stop.
func TestMinutesLongQuery(t *testing.T) {
	s := NewServer(shop(), ServerOptions{Timeout: 50 * time.Millisecond})
	start := time.Now()
	w := ask(s.Handler(""), "GET /query?query="+url.QueryEscape(
		`max_over_time(sum(max_over_time(http_requests_total[30s:10ms]))[1000s:2ms])`)+fmt.Sprintf("&time=%d", epoch))
	require.Equal(t, `503 {"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}`, answerOf(w))
	require.Less(t, time.Since(start), 5*time.Second)
}

type broken struct{}

func (broken) Querier(int64, int64) (storage.Querier, error) { panic("no disk") }

func TestPanicIsAnAnswer(t *testing.T) {
	s := NewServer(broken{}, ServerOptions{})
	for _, what := range []string{"GET /query?query=odd", "GET /labels"} {
		w := ask(s.Handler(""), what)
		require.Equal(t, 500, w.Code)
		require.Contains(t, w.Body.String(), "no disk")
	}
	require.Empty(t, s.places)
}

func TestBodyIsBounded(t *testing.T) {
	w := ask(shopServer().Handler(""), "POST /query?query="+strings.Repeat("1", maxBody))
	require.Equal(t, 400, w.Code)
	require.Contains(t, w.Body.String(), "error parsing form values: http: request body too large")
	_, _ = io.Copy(io.Discard, w.Body)
}
