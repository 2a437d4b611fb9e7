package promapi

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/bound"
	"headroom.dev/headroom/adapter/store"
)

func post(s *Server, path string, kv ...string) *httptest.ResponseRecorder {
	form := url.Values{}
	for i := 0; i < len(kv); i += 2 {
		form.Add(kv[i], kv[i+1])
	}
	return ask(s.Handler(""), "POST "+path+"?"+form.Encode())
}

// TestHarmfulExpressions are each refused, with a reason, soon and without a gigabyte.
func TestHarmfulExpressions(t *testing.T) {
	s := shopServer()
	nest := func(n int, open, mid, end string) string {
		return strings.Repeat(open, n) + mid + strings.Repeat(end, n)
	}
	for name, tt := range map[string]struct{ expr, why string }{
		"long":         {strings.Repeat("1", bound.MaxExpr+1), "65537 bytes"},
		"parentheses":  {nest(bound.MaxExpr/2-1, "(", "1", ")"), "more than 4000 tokens"},
		"brackets":     {nest(1900, "(", "1", ")"), "nests deeper"},
		"minuses":      {strings.Repeat("-", bound.MaxExpr-1) + "b", "more than 4000 tokens"},
		"negations":    {nest(1900, "-(", "b", ")"), "tokens"},
		"calls":        {nest(1000, "abs(", "b", ")"), "nests deeper"},
		"subqueries":   {nest(400, "max_over_time(", "odd", "[1s:1s])"), "nests deeper"},
		"sums":         {"1" + strings.Repeat("+1", bound.MaxExpr/2-1), "more than 4000 tokens"},
		"terms":        {"1" + strings.Repeat("+1", 1900), "nests deeper"},
		"matchers":     {"odd{" + strings.Repeat(`pod="a",`, 2000) + "}", "more than 4000 tokens"},
		"joins":        {nest(7, "label_join(", "odd", `, "pod", "", "pod", "pod")`), "label_join would make labels too long"},
		"separators":   {fmt.Sprintf(`label_join(odd, "a", "%s", "b", "c", "d")`, strings.Repeat("x", 2000)), "label_join would"},
		"in brackets":  {fmt.Sprintf(`label_join(odd, "a", ("%s"), "b", "c", "d")`, strings.Repeat("x", 2000)), "label_join would"},
		"templates":    {fmt.Sprintf(`label_replace(odd, "a", "%s", "pod", "(.*)")`, strings.Repeat("$1", 65)), "label_replace would"},
		"constants":    {fmt.Sprintf(`label_replace(odd, "a", "%s", "pod", "(.*)")`, strings.Repeat("x", 5000)), "label_replace would"},
		"replacements": {`label_replace(odd, "a", "", "pod", "((((a{10}){10}){9})*b)*")`, "instructions"},
		"regexps":      {`odd{pod=~"(((a{10}){10}){11})*"}`, "invalid repeat count"},
		"endless":      {`max_over_time(vector(1)[292y:1ms])`, "subqueries have more than"},
		"nested":       {`max_over_time(max_over_time(odd[1s:1s])[2000s:1ms]) + max_over_time(max_over_time(odd[500s:1s])[900:1ms])`, "subqueries have more than"},
		"no step":      {`max_over_time(vector(1)[1y:])`, "subqueries have more than"},
		"samples":      {`sum_over_time((odd @ 1700000000)[900000s:1s])`, "too many samples"},
		"top":          {`topk by (pod) (1e9, odd)`, "topk by group takes"},
		"bottom":       {`bottomk without (pod) (scalar(vector(1e9)), odd)`, "bottomk by group takes"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			w := post(s, "/query", "query", tt.expr, "time", "1700000000")
			require.GreaterOrEqual(t, w.Code, 400, "%.300s", w.Body)
			require.Contains(t, w.Body.String(), tt.why)
			require.Less(t, time.Since(start), 10*time.Second)
			if strings.Contains(name, "long") {
				for _, path := range []string{"/series", "/labels"} {
					require.Contains(t, post(s, path, "match[]", tt.expr).Body.String(), tt.why)
				}
			}
		})
	}
}

// TestUsefulExpressions are not.
func TestUsefulExpressions(t *testing.T) {
	s := shopServer()
	pods := make([]string, 1000)
	for i := range pods {
		pods[i] = fmt.Sprintf("inference-server-6b8d6f9c7d-x%04d", i)
	}
	for _, expr := range []string{
		`odd{pod=~"` + strings.Join(pods, "|") + `|a"}`,
		`label_join(label_replace(label_replace(odd, "a", "$1", "pod", "(.*)"), "b", "${1}-$2", "namespace", "(.)(.*)"), "c", "/", "a", "b", "pod")`,
		"1" + strings.Repeat("+1", 150),
		"topk(100, odd) or topk by (pod) (3, odd) or topk(1e9, odd)",
		"max_over_time(max_over_time(odd[1m:100ms])[10m:1s])",
	} {
		w := post(s, "/query", "query", expr, "time", "1700000000.5")
		require.Equal(t, 200, w.Code, "%.300s", w.Body)
	}
}

// full is a store with n series of the name "x".
func full(n int) *store.Store {
	st := store.New(store.Options{Keep: map[string]time.Duration{"x": time.Minute}, MaxSeries: n, MaxSeriesPerTarget: n})
	samples := make([]store.Sample, n)
	for i := range samples {
		samples[i] = store.Sample{
			Labels: labels.FromStrings("__name__", "x", "namespace", "n", "pod", fmt.Sprint("pod-", i)), Value: float64(i) / 3,
		}
	}
	st.Append("t", time.Unix(epoch, 0), samples)
	return st
}

func TestSeriesAreBounded(t *testing.T) {
	s := NewServer(full(1000), ServerOptions{MaxSeries: 2500})
	many := func(w *httptest.ResponseRecorder) {
		t.Helper()
		require.Equal(t, 422, w.Code)
		require.Contains(t, w.Body.String(), errTooManySeries.Error())
	}
	require.Equal(t, 200, post(s, "/query", "query", "count(x + x)", "time", "1700000000").Code)
	many(post(s, "/query", "query", "count(x + x + x)", "time", "1700000000"))
	many(post(s, "/query", "query", `count(x{pod=~"pod-1"} + x{pod=~"pod-1"} + x{pod=~"pod-1"})`, "time", "1700000000"))
	require.Equal(t, 200, post(s, "/query", "query", `count(x{pod="pod-1"} + x{pod="pod-1"} + x{pod="pod-1"})`, "time", "1700000000").Code)
	many(post(s, "/series", "match[]", "x", "match[]", "x", "match[]", "x"))
	many(post(s, "/labels", "match[]", "x", "match[]", "x", "match[]", `x{pod=~"nothing"}`))
}

func TestAnswersAreBounded(t *testing.T) {
	s := NewServer(full(1000), ServerOptions{MaxAnswer: 20_000})
	for _, w := range []*httptest.ResponseRecorder{
		post(s, "/query", "query", "x", "time", "1700000000"),
		post(s, "/query_range", "query", `x{pod="pod-1"}`, "start", "1700000000", "end", "1700000010", "step", "0.001"),
		post(s, "/series", "match[]", "x"),
		ask(s.Handler(""), "GET /label/pod/values?"),
	} {
		if w.Code != 200 {
			require.Equal(t, `422 {"status":"error","errorType":"execution","error":"the answer is larger than 20000 bytes; aggregate, or select less"}`, answerOf(w))
		} else {
			require.LessOrEqual(t, w.Body.Len(), 20_100)
		}
	}
	require.Equal(t, 200, post(s, "/query", "query", "x", "time", "1700000000", "limit", "100").Code)
}

// TestPointsLimit is at its edge: 11,001 points pass, as in Prometheus.
func TestPointsLimit(t *testing.T) {
	w := post(shopServer(), "/query_range", "query", "time()", "start", "0", "end", "11000", "step", "1")
	require.Equal(t, 200, w.Code)
	require.Equal(t, 11_001, strings.Count(w.Body.String(), ",[")+1)
	w = post(shopServer(), "/query_range", "query", "max_over_time(odd[1m:1s])", "start", "0", "end", "11000000", "step", "1000")
	require.Contains(t, w.Body.String(), "subqueries have more than")
	w = post(shopServer(), "/query_range", "query", "time()", "start", "-2199023255552", "end", "2199023255552", "step", "292y")
	require.Equal(t, 200, w.Code)
}

// FuzzParams sends any parameters to every path; no answer is an internal error, every answer is JSON.
func FuzzParams(f *testing.F) {
	f.Add("odd", "1700000000", "1", "2023-11-14T22:13:20Z", "10")
	f.Add("rate(odd[1m] @ 1e9)", "-1e300", "9223372036", "Inf", "1")
	f.Add(`odd offset -100y`, "2199023255552", "1ms", "-0", "99999999999999999999")
	s := NewServer(shop(), ServerOptions{Timeout: time.Second})
	f.Fuzz(func(t *testing.T, query, start, step, end, limit string) {
		for _, path := range []string{"/query", "/query_range", "/series", "/labels", "/format_query", "/query_exemplars"} {
			w := post(s, path, "query", query, "match[]", query, "time", start, "start", start, "end", end, "step", step, "limit", limit,
				"timeout", step, "lookback_delta", step)
			require.NotEqual(t, 500, w.Code, "%s: %s", path, w.Body)
			normalised(t, w.Body.Bytes())
		}
	})
}
