package scrape

import (
	"bytes"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	text        = "text/plain; version=0.0.4; charset=utf-8"
	openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

func wantRequests(name string) bool {
	return name == "http_requests_total" || strings.HasPrefix(name, "vllm:")
}

var targetLabels = labels.FromStrings("namespace", "demo", "pod", "chat-1")

// read parses without a layout.
func read(body []byte, contentType string, merge *merger, limit int) (samples, error) {
	e := exposition{
		body: terminate(body, contentType), names: nameFilter{wants: wantRequests, all: len(merge.relabel) > 0},
		merge: merge, limit: limit,
	}
	if err := e.parse(contentType); err != nil {
		return samples{}, err
	}
	return e.out, nil
}

// render writes samples one a line, the way a person would check them.
func render(s samples) string {
	var b strings.Builder
	for i, ls := range s.labels {
		fmt.Fprintf(&b, "%s %g\n", ls, s.values[i])
	}
	return b.String()
}

func TestParse(t *testing.T) {
	f := func(contentType, body, want string) {
		t.Helper()
		got, err := read([]byte(body), contentType, newMerger(targetLabels, false, nil), 100)
		require.NoError(t, err)
		assert.Equal(t, want, render(got))
	}
	f(text, "", "")
	f("", "http_requests_total 3", "{__name__=\"http_requests_total\", namespace=\"demo\", pod=\"chat-1\"} 3\n")
	f(text, "# HELP http_requests_total x\n# TYPE http_requests_total counter\n"+
		"http_requests_total{code=\"200\"} 3 1700000000000\nother{a=\"b\"} 4\nhttp_requests_total{code=\"500\"} NaN\n",
		"{__name__=\"http_requests_total\", code=\"200\", namespace=\"demo\", pod=\"chat-1\"} 3\n"+
			"{__name__=\"http_requests_total\", code=\"500\", namespace=\"demo\", pod=\"chat-1\"} NaN\n")
	f(text, "{\"vllm:kv\", a=\"b\"} 1\n{\"other\"} 2\n", "{__name__=\"vllm:kv\", a=\"b\", namespace=\"demo\", pod=\"chat-1\"} 1\n")
	f(openMetrics, "# TYPE http_requests counter\nhttp_requests_total 3 # {trace=\"x\"} 1\n# EOF\n",
		"{__name__=\"http_requests_total\", namespace=\"demo\", pod=\"chat-1\"} 3\n")
}

func TestParseFaults(t *testing.T) {
	f := func(contentType, body, want string) {
		t.Helper()
		_, err := read([]byte(body), contentType, newMerger(targetLabels, false, nil), 3)
		require.Error(t, err)
		assert.Contains(t, err.Error(), want)
		assert.Less(t, len(err.Error()), 250)
	}
	f(text, "<html><body>404</body></html>", "line 1: ")
	f(text, "http_requests_total 3\n\n# a comment\nother 4\n\n%&garbage\n", "line 6: ")
	f(text, "http_requests_total 3\nother{a=\"b\" 4\n", "line 2: ")
	f(text, "other three\n", "line 1: ")
	f(text, "http_requests_total{a=\""+strings.Repeat("x", 100_000), "line 1: ")
	f(text, "http_requests_total{a=\"1\",a=\"2\"} 1\n", `label "a" twice`)
	f(text, "http_requests_total{__name__=\"vllm:x\"} 1\n", `label "__name__" twice`)
	f(text, strings.Repeat("http_requests_total 1\n", 4), "limit of 3 samples")
	f("text/html", "http_requests_total 3", `content type "text/html" is no metrics format`)
	f("application/vnd.google.protobuf", "\x00", "is no metrics format")
	f(openMetrics, "# TYPE a gauge\na 1\n", "line 3: data does not end with # EOF")
	f(openMetrics, "# TYPE a gauge\na 1", "line")
	f("application/openmetrics-text; version=2.0.0", "# EOF\n", "OpenMetrics 2.0")
}

func TestLabelClash(t *testing.T) {
	f := func(honor bool, exposed, want string) {
		t.Helper()
		got, err := read([]byte("http_requests_total"+exposed+" 1\n"), text, newMerger(targetLabels, honor, nil), 3)
		require.NoError(t, err)
		assert.Equal(t, "{__name__=\"http_requests_total\", "+want+"} 1\n", render(got))
	}
	f(false, `{pod="victim",namespace="prod"}`, `exported_namespace="prod", exported_pod="victim", namespace="demo", pod="chat-1"`)
	f(false, `{pod="a",exported_pod="b"}`, `exported_exported_pod="a", exported_pod="b", namespace="demo", pod="chat-1"`)
	f(false, `{pod=""}`, `namespace="demo", pod="chat-1"`)
	f(true, `{pod="other",namespace="prod"}`, `namespace="prod", pod="other"`)
	f(true, `{pod="other"}`, `namespace="demo", pod="other"`)
	f(true, `{pod="",code="200"}`, `code="200", namespace="demo"`)
}

// TestParseAgreesWithSplit checks the parser's wiring against a dumb reader of generated lines.
func TestParseAgreesWithSplit(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	names := []string{"http_requests_total", "other", "vllm:a", "vllm:b_bucket", "http_requests_totals", "http_requests"}
	for range 200 {
		var body, want strings.Builder
		for i := range r.Intn(40) {
			name, value := names[r.Intn(len(names))], r.Intn(1000)
			switch r.Intn(4) {
			case 0:
				fmt.Fprintf(&body, "# HELP %s help\n", name)
			case 1:
				body.WriteString("\n")
			default:
				fmt.Fprintf(&body, "%s{i=\"%d\"} %d\n", name, i, value)
				if wantRequests(name) {
					fmt.Fprintf(&want, "{__name__=%q, i=\"%d\", namespace=\"demo\", pod=\"chat-1\"} %d\n", name, i, value)
				}
			}
		}
		got, err := read([]byte(body.String()), text, newMerger(targetLabels, false, nil), 100)
		require.NoError(t, err, body.String())
		require.Equal(t, want.String(), render(got))
		// The same answer with one bad line names that line.
		lines := strings.SplitAfter(body.String(), "\n")
		at := r.Intn(len(lines))
		bad := strings.Join(lines[:at], "") + "!bad\n" + strings.Join(lines[at:], "")
		_, err = read([]byte(bad), text, newMerger(targetLabels, false, nil), 100)
		require.ErrorContains(t, err, fmt.Sprintf("line %d: ", at+1), bad)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("http_requests_total{a=\"b\"} 3 17\n"), false)
	f.Add([]byte("# TYPE http_requests counter\nhttp_requests_total 3 # {t=\"x\"} 1\n# EOF\n"), true)
	f.Add([]byte("{\"vllm:kv\",a=\"b\"} 1\n"), false)
	f.Add([]byte("# HELP \n#\n# TYPE x y\n\x00{"), true)
	f.Fuzz(func(t *testing.T, body []byte, om bool) {
		contentType := text
		if om {
			contentType = openMetrics
		}
		got, err := read(bytes.Clone(body), contentType, newMerger(targetLabels, false, nil), 50)
		if err != nil {
			require.Less(t, len(err.Error()), 250)
			return
		}
		require.LessOrEqual(t, len(got.values), 50)
		for _, ls := range got.labels {
			require.True(t, wantRequests(ls.Get("__name__")))
			require.Equal(t, "chat-1", ls.Get("pod"))
			require.Equal(t, "demo", ls.Get("namespace"))
		}
	})
}
