package promapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"
)

func newClient(tb testing.TB, opts ClientOptions) *Client {
	tb.Helper()
	c, err := NewClient(opts)
	require.NoError(tb, err)
	tb.Cleanup(c.CloseIdleConnections)
	return c
}

// answering returns a server that gives one answer to every request.
func answering(tb testing.TB, code int, body string) *httptest.Server {
	tb.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}))
	tb.Cleanup(srv.Close)
	return srv
}

const emptyVector = `{"status":"success","data":{"resultType":"vector","result":[]}}`

// TestClientReadsServer compares what comes out of server and client with what the engine gives.
func TestClientReadsServer(t *testing.T) {
	s := shopServer()
	srv := httptest.NewServer(http.StripPrefix("/prefix", s.Handler("")))
	defer srv.Close()
	c := newClient(t, ClientOptions{URL: srv.URL + "/prefix/"})
	at := time.Unix(epoch, 123e6)
	for _, expr := range []string{
		"http_requests_total", "odd", "nothing", "rate(http_requests_total[10s]) / 3", "vector(1e300) * 1e300", "-odd", "vector(5e-324)",
		`label_replace(vector(0), "a-b", "<é\"\\\n>", "", "")`, "histogram_quantile(0.9, d_bucket)", "odd == 2", "vector(-0) or late",
	} {
		query, err := s.engine.NewInstantQuery(t.Context(), s.source, nil, expr, at)
		require.NoError(t, err, expr)
		want, err := query.Exec(t.Context()).Vector()
		require.NoError(t, err, expr)
		got, err := c.Query(t.Context(), expr, at)
		require.NoError(t, err, expr)
		require.ElementsMatch(t, bits(want), bits(got), expr)
		query.Close()

		query, err = s.engine.NewRangeQuery(t.Context(), s.source, nil, expr, at.Add(-20*time.Second), at, 1500*time.Millisecond)
		require.NoError(t, err)
		matrix, err := query.Exec(t.Context()).Matrix()
		require.NoError(t, err)
		gotMatrix, err := c.QueryRange(t.Context(), expr, at.Add(-20*time.Second), at, 1500*time.Millisecond)
		require.NoError(t, err, expr)
		require.Len(t, gotMatrix, len(matrix))
		for i := range matrix {
			require.Equal(t, bits(flat(matrix[i])), bits(flat(gotMatrix[i])), expr)
		}
		query.Close()
	}

	sets, err := c.Series(t.Context(), []string{`odd{pod="a"}`, `late{pod="a"}`}, at.Add(-time.Minute), at)
	require.NoError(t, err)
	require.Equal(t, []labels.Labels{
		labels.FromStrings("__name__", "late", "namespace", "shop", "pod", "a"),
		labels.FromStrings("__name__", "odd", "namespace", "shop", "pod", "a", "text", `<"é\`+"\n"),
	}, sets)
	names, err := c.LabelValues(t.Context(), "pod", []string{`late`, `odd{namespace="bank"}`}, at.Add(-time.Second), at)
	require.NoError(t, err)
	require.Equal(t, []string{"c"}, names)
	names, err = c.LabelValues(t.Context(), "pöd/x", nil, at.Add(-time.Second), at)
	require.NoError(t, err)
	require.Empty(t, names)

	_, err = c.Query(t.Context(), "sum(", at)
	require.EqualError(t, err, "cannot query "+srv.URL+`/prefix/api/v1/query: HTTP 400: bad_data: invalid parameter "query": 1:5: parse error: unclosed left parenthesis`)
	_, err = c.Query(t.Context(), "1", at)
	require.EqualError(t, err, "cannot query "+srv.URL+`/prefix/api/v1/query: the answer is of type "scalar", not an instant vector`)
}

// bits makes samples comparable, NaN included.
func bits(v promql.Vector) []string {
	out := make([]string, len(v))
	for i, s := range v {
		out[i] = fmt.Sprintf("%s %d %x", s.Metric, s.T, math.Float64bits(s.F))
		if math.IsNaN(s.F) {
			out[i] = fmt.Sprintf("%s %d NaN", s.Metric, s.T)
		}
	}
	return out
}

func flat(s promql.Series) (v promql.Vector) {
	for _, p := range s.Floats {
		v = append(v, promql.Sample{Metric: s.Metric, T: p.T, F: p.F})
	}
	return v
}

// TestForeignClient lets Prometheus' own client library read the server.
func TestForeignClient(t *testing.T) {
	srv := httptest.NewServer(shopServer().Handler("shop"))
	defer srv.Close()
	foreign, err := api.NewClient(api.Config{Address: srv.URL})
	require.NoError(t, err)
	a, ctx, at := v1.NewAPI(foreign), t.Context(), time.Unix(epoch, 500e6)

	value, warnings, infos, err := a.Query(ctx, `rate(odd{pod="a"}[5s])`, at, v1.WithLookbackDelta(time.Second), v1.WithLimit(3), v1.WithTimeout(time.Second))
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Len(t, infos, 1)
	require.Equal(t, model.ValVector, value.Type())
	value, _, _, err = a.QueryRange(ctx, "http_requests_total", v1.Range{Start: at.Add(-3 * time.Second), End: at, Step: time.Second})
	require.NoError(t, err)
	require.Len(t, value, 4)
	sets, _, _, err := a.Series(ctx, []string{"late"}, time.Time{}, time.Time{})
	require.NoError(t, err)
	require.Len(t, sets, 2)
	names, _, _, err := a.LabelNames(ctx, nil, at.Add(-time.Second), at)
	require.NoError(t, err)
	require.Len(t, names, 6)
	values, _, _, err := a.LabelValues(ctx, "pod", []string{"odd"}, time.Time{}, time.Time{}, v1.WithLimit(1))
	require.NoError(t, err)
	require.Equal(t, model.LabelValues{"a"}, values)
	info, err := a.Buildinfo(ctx)
	require.NoError(t, err)
	require.Equal(t, engineVersion, info.Version)
	require.Equal(t, "v1.2.3", info.Revision)
	ruleGroups, err := a.Rules(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, ruleGroups.Groups)
	alerts, err := a.Alerts(ctx)
	require.NoError(t, err)
	require.Empty(t, alerts.Alerts)
	known, err := a.Metadata(ctx, "", "")
	require.NoError(t, err)
	require.Len(t, known, 2)
	formatted, err := a.FormatQuery(ctx, "a+b")
	require.NoError(t, err)
	require.Equal(t, `"a + b"`, formatted)
	exemplars, err := a.QueryExemplars(ctx, "odd", at, at)
	require.NoError(t, err)
	require.Empty(t, exemplars)
	_, _, _, err = a.Query(ctx, "odd / on (namespace) odd", at)
	require.ErrorContains(t, err, "execution: found duplicate series")
}

func TestRequest(t *testing.T) {
	var got *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got = r
		_, _ = io.WriteString(w, emptyVector)
	}))
	defer srv.Close()
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("first\n"), 0o600))
	c := newClient(t, ClientOptions{
		URL: srv.URL + "/select/0/prometheus/", BearerTokenFile: token, Lookback: 15 * time.Second, Timeout: 1500 * time.Millisecond,
		Headers: map[string]string{"x-scope-orgid": "team-a"},
		Params:  url.Values{"latency_offset": {"1ms"}, "nocache": {"1"}},
	})
	at := time.UnixMilli(1700000000123)
	_, err := c.Query(t.Context(), `sum(x{a="ä&b"})`, at)
	require.NoError(t, err)
	require.Equal(t, "POST /select/0/prometheus/api/v1/query", got.Method+" "+got.URL.String())
	require.Equal(t, url.Values{
		"query": {`sum(x{a="ä&b"})`}, "time": {"1700000000.123"}, "timeout": {"1.5"}, "lookback_delta": {"15"},
		"latency_offset": {"1ms"}, "nocache": {"1"},
	}, got.Form)
	require.Equal(t, "team-a", got.Header.Get("X-Scope-OrgID"))
	require.Equal(t, "Bearer first", got.Header.Get("Authorization"))

	require.NoError(t, os.WriteFile(token, []byte("second"), 0o600))
	_, err = c.QueryRange(t.Context(), "x", at, at.Add(time.Minute), time.Second/4)
	require.Error(t, err, "the answer is no matrix")
	require.Equal(t, "Bearer second", got.Header.Get("Authorization"), "the file is read again")
	require.Equal(t, "1700000000.123 1700000060.123 0.25", got.Form.Get("start")+" "+got.Form.Get("end")+" "+got.Form.Get("step"))

	_, err = c.Series(t.Context(), []string{"a", "b"}, at, at)
	require.Error(t, err)
	require.Equal(t, []string{"a", "b"}, got.Form["match[]"])
	require.Empty(t, got.Form.Get("lookback_delta"))
	_, err = c.LabelValues(t.Context(), "my label", []string{"a"}, at, at)
	require.Error(t, err)
	require.Equal(t, "GET /select/0/prometheus/api/v1/label/U__my_20_label/values", got.Method+" "+got.URL.Path)
	require.Equal(t, "1ms", got.Form.Get("latency_offset"))
	_, err = c.LabelValues(t.Context(), "", nil, at, at)
	require.Error(t, err)

	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("s3cret"), 0o600))
	_, err = newClient(t, ClientOptions{URL: srv.URL, Username: "me", PasswordFile: password}).Query(t.Context(), "x", at)
	require.NoError(t, err)
	user, pass, _ := got.BasicAuth()
	require.Equal(t, "me s3cret", user+" "+pass)
}

// TestSecretsStayOutOfErrors makes requests fail in every way that involves one.
func TestSecretsStayOutOfErrors(t *testing.T) {
	const secret = "s3cret"
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte(secret+"\nline"), 0o600)) // cannot stand in a header
	closed := httptest.NewServer(nil)
	closed.Close()
	redirecting := httptest.NewServer(http.RedirectHandler("https://u:"+secret+"@other/login?token="+secret, http.StatusFound))
	defer redirecting.Close()
	for name, opts := range map[string]ClientOptions{
		"a broken token": {URL: "http://127.0.0.1:1", BearerTokenFile: file},
		"no server":      {URL: closed.URL, Headers: map[string]string{"X-Key": secret}, Params: url.Values{"key": {secret}}},
		"a redirect":     {URL: redirecting.URL, Params: url.Values{"key": {secret}}},
		"no token file":  {URL: closed.URL, BearerTokenFile: "/nowhere", Params: url.Values{"key": {secret}}},
	} {
		c := newClient(t, opts)
		_, err := c.Query(t.Context(), "x", time.Time{})
		require.ErrorContains(t, err, "cannot query "+opts.URL+"/api/v1/query: ", name)
		require.NotContains(t, fmt.Sprintf("%v %+v", err, err), secret, name)
		_, err = c.LabelValues(t.Context(), "l", nil, time.Time{}, time.Time{})
		require.ErrorContains(t, err, "cannot query "+opts.URL+"/api/v1/label/l/values: ", name)
		require.NotContains(t, fmt.Sprintf("%v %+v", err, err), secret, name)
		t.Log(err)
	}
	_, err := NewClient(ClientOptions{URL: "http://u:" + secret + "@h"})
	require.EqualError(t, err, "URL: must not hold credentials; use Username and PasswordFile")
	_, err = NewClient(ClientOptions{URL: "http://u:" + secret + "@h:x"})
	require.EqualError(t, err, "URL: cannot be parsed")
	_, err = NewClient(ClientOptions{URL: "http://h", Headers: map[string]string{"X-Key": secret + "\n"}})
	require.EqualError(t, err, "Headers: the value of X-Key cannot stand in a header")
}

func TestTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"status":"success","data":["%d"]}`, len(r.TLS.PeerCertificates))
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	ca := write("ca.pem", "CERTIFICATE", srv.Certificate().Raw)
	key, err := x509.MarshalPKCS8PrivateKey(srv.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	cert, keyFile := write("cert.pem", "CERTIFICATE", srv.Certificate().Raw), write("key.pem", "PRIVATE KEY", key)
	ask := func(opts ClientOptions) (string, error) {
		opts.URL = srv.URL
		names, err := newClient(t, opts).LabelValues(t.Context(), "l", nil, time.Time{}, time.Time{})
		return strings.Join(names, ","), err
	}
	_, err = ask(ClientOptions{})
	require.ErrorContains(t, err, "certificate signed by unknown authority")
	n, err := ask(ClientOptions{InsecureSkipVerify: true})
	require.NoError(t, err)
	require.Equal(t, "0", n)
	n, err = ask(ClientOptions{CAFile: ca, CertFile: cert, KeyFile: keyFile})
	require.NoError(t, err)
	require.Equal(t, "1", n)
	_, err = ask(ClientOptions{CAFile: ca, ServerName: "other.org"})
	require.ErrorContains(t, err, "not other.org")
	n, err = ask(ClientOptions{CAFile: ca, ServerName: "example.com"})
	require.NoError(t, err)
	require.Equal(t, "0", n)
	_, err = NewClient(ClientOptions{URL: srv.URL, CAFile: "/nowhere"})
	require.EqualError(t, err, "cannot prepare queries to "+srv.URL+": unable to read CA cert: unable to read file /nowhere: open /nowhere: no such file or directory")
}

func TestErrors(t *testing.T) {
	long := strings.Repeat("ä", maxMessage)
	for name, tt := range map[string]struct {
		code       int
		body, want string
	}{
		"prometheus":       {503, `{"status":"error","errorType":"timeout","error":"query timed out\nin queue"}`, "HTTP 503: timeout: query timed out in queue"},
		"victoria":         {422, `{"status":"error","errorType":"422","error":"too many points"}`, "HTTP 422: too many points"},
		"proxy":            {502, "<html>\r\n <b>Bad\tGateway</b>\x00", "HTTP 502: <html> <b>Bad Gateway</b>"},
		"silent":           {401, "", "HTTP 401: Unauthorized"},
		"bare":             {400, "{}", "HTTP 400: Bad Request"},
		"mimir":            {429, "too many requests", "HTTP 429: too many requests"},
		"long":             {500, long, "HTTP 500: " + strings.Repeat("ä", maxMessage/2) + "…"},
		"error with 200":   {200, `{"status":"error","errorType":"execution","error":"no"}`, "execution: no"},
		"no content":       {204, "", "not a Prometheus answer: it is no JSON object"},
		"text":             {200, "hello", "not a Prometheus answer: it is no JSON object"},
		"other JSON":       {200, `{"a":1}`, "not a Prometheus answer: it has no status"},
		"cut":              {200, emptyVector[:40], "not a Prometheus answer: "},
		"no data":          {200, `{"status":"success"}`, `the answer is of type "", not an instant vector`},
		"scalar":           {200, `{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}`, `the answer is of type "scalar", not an instant vector`},
		"listing":          {200, `{"status":"success","data":["a"]}`, `the answer is of type "listing", not an instant vector`},
		"wrong type":       {200, `{"status":"success","data":{"result":[{"metric":{},"values":[[1,"2"]]}],"resultType":"vector"}}`, `the results are not of the type "vector"`},
		"histogram":        {200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"histogram":[1,{"count":"1"}]}]}}`, `{a="b"} is a native histogram, which cannot be read from JSON; take histogram_quantile of it`},
		"no value":         {200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"}}]}}`, `{a="b"} does not have one value, or values`},
		"no number":        {200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}`, `"x" is not a number`},
		"half a sample":    {200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1]}]}}`, "a sample is a time and a value"},
		"thanos":           {200, `{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["PromQL warning: x","No StoreAPIs matched for this query"]}`, "partial answer: No StoreAPIs matched for this query"},
		"victoria partial": {200, `{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[]}}`, "partial answer: isPartial"},
	} {
		srv := answering(t, tt.code, tt.body)
		_, err := newClient(t, ClientOptions{URL: srv.URL}).Query(t.Context(), "x", time.Unix(1, 0))
		require.ErrorContains(t, err, "cannot query "+srv.URL+"/api/v1/query: ", name)
		require.ErrorContains(t, err, tt.want, name)
		require.NotRegexp(t, `[\r\n\x00]`, err.Error(), name)
		var e *Error
		require.ErrorAs(t, err, &e, name)
		require.Equal(t, tt.code, e.Code, name)
	}
}

func TestPartialAnswersAndNotices(t *testing.T) {
	srv := answering(t, 200, `{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]}]},`+
		`"warnings":["store down","PromQL warning: w"],"infos":["PromQL info: i"]}`)
	var said []string
	opts := ClientOptions{URL: srv.URL, Notice: func(expr string, warnings, infos []string) {
		said = append(said, expr)
		said = append(said, warnings...)
		said = append(said, infos...)
	}}
	_, err := newClient(t, opts).Query(t.Context(), "x", time.Unix(1, 0))
	require.ErrorContains(t, err, "partial answer: store down")
	opts.AllowPartial = true
	v, err := newClient(t, opts).Query(t.Context(), "x", time.Unix(1, 0))
	require.NoError(t, err)
	require.Len(t, v, 1)
	once := []string{"x", "store down", "PromQL warning: w", "PromQL info: i"}
	require.Equal(t, append(once, once...), said)

	whole := answering(t, 200, `{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["PromQL warning: w"],"infos":["PromQL info: i"]}`)
	_, err = newClient(t, ClientOptions{URL: whole.URL}).Query(t.Context(), "x", time.Unix(1, 0))
	require.NoError(t, err)
}

func TestSlowAndOversized(t *testing.T) {
	done := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(r.URL.Path, "query") { // the headers come, the rest does not
			_, _ = io.WriteString(w, `{"status":`)
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-done:
		case <-r.Context().Done():
		}
	}))
	defer slow.Close()
	defer close(done)
	c := newClient(t, ClientOptions{URL: slow.URL, Timeout: 50 * time.Millisecond})
	_, err := c.Query(t.Context(), "x", time.Unix(1, 0))
	require.EqualError(t, err, "cannot query "+slow.URL+"/api/v1/query: no answer within 50ms")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = c.Series(t.Context(), nil, time.Unix(1, 0), time.Unix(1, 0))
	require.EqualError(t, err, "cannot query "+slow.URL+"/api/v1/series: no answer within 50ms")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Query(ctx, "x", time.Unix(1, 0))
	require.ErrorIs(t, err, context.Canceled)

	exact := newClient(t, ClientOptions{URL: answering(t, 200, emptyVector).URL, MaxResponse: int64(len(emptyVector))})
	_, err = exact.Query(t.Context(), "x", time.Unix(1, 0))
	require.NoError(t, err)
	large := answering(t, 200, emptyVector+strings.Repeat(" ", 1<<20))
	_, err = newClient(t, ClientOptions{URL: large.URL, MaxResponse: 1000}).Query(t.Context(), "x", time.Unix(1, 0))
	require.EqualError(t, err, "cannot query "+large.URL+"/api/v1/query: the answer is larger than 1000 bytes")
}

// TestLostConnection is a server that closes an idle connection as the next request arrives; that must not fail.
func TestLostConnection(t *testing.T) {
	type requests struct{}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := r.Context().Value(requests{}).(*atomic.Int64); n.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, emptyVector)
	}))
	srv.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, requests{}, new(atomic.Int64))
	}
	srv.Start()
	defer srv.Close()
	c := newClient(t, ClientOptions{URL: srv.URL})
	for range 5 {
		_, err := c.Query(t.Context(), "x", time.Unix(1, 0))
		require.NoError(t, err)
	}
}

func TestValidate(t *testing.T) {
	for _, to := range []string{"", "prometheus:9090", "ftp://h", "http://", "/path"} {
		require.ErrorContains(t, (&ClientOptions{URL: to}).Validate(), "URL: ", to)
	}
	err := (&ClientOptions{
		URL: "http://h?x=1", BearerTokenFile: "f", PasswordFile: "p", CertFile: "c", Timeout: -1, MaxResponse: -1, Lookback: -1,
		Headers: map[string]string{"authorization": "x", "Host": "x", "content-length": "1", "a b": "x", "": "x"},
		Params:  url.Values{"query": {"x"}, "limit": {"1"}, "fine": {"1"}},
	}).Validate()
	require.Equal(t, `BearerTokenFile: cannot be used together with Username and PasswordFile
CertFile: CertFile and KeyFile need each other
Headers: "" cannot be the name of a header
Headers: "a b" cannot be the name of a header
Headers: Authorization is not for the user to set
Headers: Content-Length is not for the user to set
Headers: Host is not for the user to set
Lookback: must not be negative
MaxResponse: must not be negative
Params: limit is not for the user to set
Params: query is not for the user to set
PasswordFile: needs Username
Timeout: must not be negative
URL: must not hold parameters; use Params`, err.Error())
	require.NoError(t, (&ClientOptions{URL: "https://h:1/p/"}).Validate())
}
