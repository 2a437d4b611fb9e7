package scrape

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rig is a Manager with one target whose answers a test chooses, at a virtual second each.
type rig struct {
	t      *testing.T
	s      *sink
	m      *Manager
	target Target
	body   atomic.Value
}

func newRig(t *testing.T, opts Options) *rig {
	t.Helper()
	r := &rig{t: t, s: newSink(t), target: targetOf("a", "http://a/metrics")}
	r.m = virtual(r.s, opts, func(*http.Request) *http.Response {
		body, _ := r.body.Load().(string)
		if body == "" {
			return nil
		}
		return reply(body)
	})
	t.Cleanup(r.m.Close)
	return r
}

// answer has the target scraped with this body, "" for a connection that breaks, and returns what the sink got.
func (r *rig) answer(body string) string {
	r.t.Helper()
	r.body.Store(body)
	r.m.Add(r.target)
	time.Sleep(time.Second)
	synctest.Wait()
	list := r.s.take()
	if len(list) == 0 {
		return ""
	}
	require.Len(r.t, list, 1)
	return strings.NewReplacer(", namespace=\"demo\", pod=\"a\"", "", "__name__=", "").Replace(list[0].samples)
}

func (r *rig) read(how path) float64 { return testutil.ToFloat64(r.m.metrics.paths[how]) }

// begin gets the first scrape, which is off the target's phase, out of the way.
func (r *rig) begin() {
	r.body.Store("")
	r.m.Add(r.target)
	time.Sleep(time.Second)
	synctest.Wait()
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(phase(r.target.ID, time.Second) + 1500*time.Millisecond)))
	r.s.take()
}

// TestLayoutAcrossScrapes walks one target through what can happen between two scrapes.
func TestLayoutAcrossScrapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{SampleLimit: 3})
		r.begin()
		f := func(body, want string, layout, parser float64, asked int) {
			t.Helper()
			before := [2]float64{r.read(byLayout), r.read(byParser)}
			askedBefore := r.s.asked
			assert.Equal(t, want, r.answer(body))
			assert.InDelta(t, layout, r.read(byLayout)-before[0], 0, "by layout")
			assert.InDelta(t, parser, r.read(byParser)-before[1], 0, "by parser")
			assert.Equal(t, asked, r.s.asked-askedBefore, "labels asked for")
		}
		const req = `{"http_requests_total"} `
		f("http_requests_total 1\nother 5\n", req+"1\n", 0, 1, 1)
		f("http_requests_total 22\nother NaN\n", req+"22\n", 1, 0, 0)
		f("http_requests_total NaN\nother 5", req+"NaN\n", 1, 0, 0)
		f("http_requests_total -Inf\nother -5.5e-5\n", req+"-Inf\n", 1, 0, 0)

		f("http_requests_total 3\nother x\n", "", 0, 0, 0) // a failed scrape leaves the layout
		f("", "", 0, 0, 0)
		f("http_requests_total 4\nother 5\n", req+"4\n", 1, 0, 0)

		f("http_requests_total 5 1700000000000\nother 5\n", req+"5\n", 0, 1, 1) // a timestamp has no layout
		f("http_requests_total 5 1700000000001\nother 5\n", req+"5\n", 0, 1, 1)
		f("http_requests_total 6\nother 5\n", req+"6\n", 0, 1, 1)
		f("# c\nhttp_requests_total 7\nother 5\n", req+"7\n", 0, 1, 1) // a comment changes
		f("# d\nhttp_requests_total 8\nother 5\n", req+"8\n", 0, 1, 1)
		f("# d\nhttp_requests_total 8\nother 5\nhttp_requests_total{a=\"b\"} 9\n", req+"8\n"+`{"http_requests_total", a="b"} `+"9\n", 0, 1, 2)
		f("# d\nhttp_requests_total 9\nother 6\nhttp_requests_total{a=\"b\"} 10\n", req+"9\n"+`{"http_requests_total", a="b"} `+"10\n", 1, 0, 0)

		delete(r.s.series, r.s.ref) // the sink loses the second series
		f("# d\nhttp_requests_total 1\nother 6\nhttp_requests_total{a=\"b\"} 2\n", req+"1\n"+`{"http_requests_total", a="b"} `+"2\n", 1, 0, 1)
		f("# d\nhttp_requests_total 2\nother 6\nhttp_requests_total{a=\"b\"} 3\n", req+"2\n"+`{"http_requests_total", a="b"} `+"3\n", 1, 0, 0)

		r.s.version.Store(1) // from now on, other is wanted
		f("http_requests_total 1\nother 5\n", req+"1\n{\"other\"} 5\n", 0, 1, 2)
		f("http_requests_total 2\nother 6\n", req+"2\n{\"other\"} 6\n", 1, 0, 0)
		r.s.version.Store(2)
		f("http_requests_total 3\nother 7\n", req+"3\n{\"other\"} 7\n", 0, 1, 2)
		f(strings.Repeat("other 1\n", 4), "", 0, 0, 0)
		f("http_requests_total 4\nother 8\n", req+"4\n{\"other\"} 8\n", 1, 0, 0)

		r.s.full = true // no room for new series
		f("http_requests_total{n=\"1\"} 3\nother 7\n", "", 0, 1, 2)
		f("http_requests_total{n=\"1\"} 4\nother 8\n", "", 1, 0, 2)
		r.s.full = false
		f("http_requests_total{n=\"1\"} 5\nother 9\n", `{"http_requests_total", n="1"} `+"5\n{\"other\"} 9\n", 1, 0, 2)
		f("http_requests_total{n=\"1\"} 6\nother 9\n", `{"http_requests_total", n="1"} `+"6\n{\"other\"} 9\n", 1, 0, 0)
	})
}

// TestFaultsTogether runs every bad target there is beside a good one, which must not miss a beat.
func TestFaultsTogether(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(bytes.Repeat([]byte("http_requests_total 1\n"), 1<<20))
	_ = z.Close()
	garbage := bytes.Repeat([]byte{0xff, 0, '\n', '{', '"', 0x80}, 50_000)
	bad := map[string]struct {
		want string
		h    http.HandlerFunc
	}{
		"hang":    {"no full answer within 200ms", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		"drip":    {"no full answer within 200ms", drip("http_requests_total 1\n")},
		"10mb":    {"larger than the limit", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 10<<20)) }},
		"garbage": {"line 1: ", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(garbage) }},
		"html":    {`content type "text/html`, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/html") }},
		"half": {"unexpected EOF", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "http_requests_total 1\n")
		}},
		"bomb": {"larger than the limit", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped.Bytes())
		}},
		"lines": {"more than the limit of 10000 samples", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100_000 {
				_, _ = fmt.Fprintf(w, "vllm:x{i=\"%d\"} 1\n", i)
			}
		}},
		"redirects": {"more than 10 redirects", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }},
		"headers": {"header is larger than the limit", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 10_000 {
				w.Header().Set(fmt.Sprint("X-", i), "flood")
			}
		}},
		"hints": {"header is larger than the limit", func(w http.ResponseWriter, _ *http.Request) {
			for range 10_000 {
				w.WriteHeader(http.StatusEarlyHints)
			}
		}},
		"panic": {"closed without an answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	}
	s := newSink(t)
	reg := prometheus.NewRegistry()
	m := NewManager(s, Options{Interval: 250 * time.Millisecond, Timeout: 200 * time.Millisecond, Registerer: reg})
	defer m.Close()
	add := func(name string, h http.HandlerFunc) Target {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", text)
			h(w, r)
		}))
		t.Cleanup(srv.Close)
		target := targetOf(name, srv.URL)
		m.Add(target)
		return target
	}
	targets := map[string]Target{}
	for name, fault := range bad {
		targets[name] = add(name, fault.h)
	}
	var n atomic.Int64
	good := add("good", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "http_requests_total %d\n", n.Add(1))
	})
	for name, target := range targets {
		said := ""
		if !assert.Eventually(t, func() bool {
			status, _ := m.Status(target.Pod)
			said = status.LastError
			return status.Failures >= 2 && (strings.Contains(said, bad[name].want) || said == "no full answer within 200ms")
		}, 20*time.Second, 5*time.Millisecond, name) {
			t.Fatalf("%s: %q", name, said)
		}
		assert.Zero(t, s.count(target.ID), name)
	}
	require.Eventually(t, func() bool { return s.count(good.ID) >= 4 }, 10*time.Second, 5*time.Millisecond)
	status, _ := m.Status(good.Pod)
	assert.Zero(t, status.Failures)
}

// drip writes one byte at a time for ever.
func drip(line string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; r.Context().Err() == nil; i++ {
			_, _ = io.WriteString(w, line[i%len(line):i%len(line)+1])
			w.(http.Flusher).Flush()
			time.Sleep(time.Millisecond)
		}
	}
}

// rawServer answers every request on a connection by what the function writes; false ends the connection.
func rawServer(t *testing.T, serve func(conn net.Conn, request int) bool) (url string, dialled *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	dialled = new(atomic.Int64)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			go func() {
				defer conn.Close()
				buf := make([]byte, 4096)
				for request := 0; ; request++ {
					if _, err := conn.Read(buf); err != nil || !serve(conn, request) {
						return
					}
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String() + "/metrics", dialled
}

// TestConnections holds every scrape good although servers end connections as they like.
func TestConnections(t *testing.T) {
	const good = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n\r\nhttp_requests_total 1\n"
	f := func(name string, answer string, keep bool, wantDialled int64) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			url, dialled := rawServer(t, func(conn net.Conn, _ int) bool {
				_, _ = io.WriteString(conn, answer)
				return keep
			})
			s := newSink(t)
			m := NewManager(s, Options{Interval: time.Hour, Timeout: 5 * time.Second})
			defer m.Close()
			l := newLoop(m, targetOf("a", url))
			for range 5 {
				l.scrape(time.Now())
				require.Empty(t, l.current().Reason())
			}
			assert.Equal(t, 5, s.count("demo/a"))
			assert.Equal(t, wantDialled, dialled.Load())
		})
	}
	f("kept", good, true, 1)
	f("closed behind our back", good, false, 5)
	f("announced", strings.Replace(good, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1), true, 5)
	f("HTTP/1.0", strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), true, 5)
	f("to the end of the connection", "HTTP/1.1 200 OK\r\n\r\nhttp_requests_total 1\n", false, 5)
	f("more than announced", good+"junk", true, 5)
	f("interim answer", "HTTP/1.1 103 Early Hints\r\n\r\n"+good, true, 1)
	f("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11\r\nhttp_requests_tot\r\n5\r\nal 1\n\r\n0\r\n\r\n", true, 1)
}

func TestPhasesAreEven(t *testing.T) {
	count := map[time.Duration]int{}
	const targets = 5000
	for i := range targets {
		p := phase(fmt.Sprintf("inference/llama-7f9c6d5b%02x-x%03d", i%16, i), time.Second)
		require.Less(t, p, time.Second)
		count[p]++
	}
	assert.Len(t, count, slots)
	for p, n := range count {
		assert.InDelta(t, targets/slots, n, 5*14.1, "%s: five standard deviations", p)
	}
}
