package scrape

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scrapeOnce serves with the handler and returns the status after the first scrape.
func scrapeOnce(t *testing.T, opts Options, h http.HandlerFunc) (Status, *sink) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return scrapeURL(t, opts, srv.URL+"/metrics")
}

func scrapeURL(t *testing.T, opts Options, url string) (Status, *sink) {
	t.Helper()
	s := newSink(t)
	opts.Interval = time.Hour
	m := NewManager(s, opts)
	t.Cleanup(m.Close)
	target := targetOf("chat-1", url)
	m.Add(target)
	return finished(t, m, target), s
}

// finished waits for the first scrape.
func finished(t *testing.T, m *Manager, target Target) (status Status) {
	t.Helper()
	require.Eventually(t, func() bool {
		status, _ = m.Status(target.Pod)
		return !status.LastAttempt.IsZero()
	}, 10*time.Second, time.Millisecond)
	return status
}

func TestGoodAnswer(t *testing.T) {
	var header http.Header
	status, s := scrapeOnce(t, Options{Timeout: time.Second}, func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		w.Header().Set("Content-Type", text)
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, "http_requests_total 1\nhttp_requests_total 1\nother 2\n")
		_ = z.Close()
	})
	assert.Empty(t, status.Reason())
	assert.Equal(t, status.LastAttempt, status.LastSuccess)
	assert.Equal(t, 2, status.Samples)
	assert.Equal(t, 52, status.Bytes)
	assert.Contains(t, header.Get("Accept"), "application/openmetrics-text;version=1.0.0")
	assert.Equal(t, "identity", header.Get("Accept-Encoding"))
	assert.Equal(t, "1", header.Get("X-Prometheus-Scrape-Timeout-Seconds"))
	one := `{__name__="http_requests_total", namespace="demo", pod="chat-1"} 1` + "\n"
	assert.Equal(t, []appended{{"demo/chat-1", status.LastAttempt, one + one}}, s.take(), "duplicates are the sink's to judge")
}

func TestSinkNoteIsAReason(t *testing.T) {
	s := newSink(t)
	s.err = errors.New("the store is full")
	m := NewManager(s, Options{Interval: time.Hour})
	defer m.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	target := targetOf("a", srv.URL)
	m.Add(target)
	require.Eventually(t, func() bool {
		status, _ := m.Status(target.Pod)
		return status.Reason() == "the store is full" && status.Failures == 0
	}, 10*time.Second, time.Millisecond)
}

func TestBadAnswers(t *testing.T) {
	f := func(name, want string, opts Options, h http.HandlerFunc) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			status, s := scrapeOnce(t, opts, h)
			assert.Contains(t, status.LastError, want)
			assert.Equal(t, status.Target.URL+": "+status.LastError, status.Reason())
			assert.Equal(t, 1, status.Failures)
			assert.Zero(t, status.LastSuccess)
			assert.Empty(t, s.take(), "nothing of a bad answer is kept")
		})
	}
	second := Options{Timeout: 5 * time.Second}
	short := Options{Timeout: 50 * time.Millisecond}
	f("hang before the header", "no full answer within 50ms", short, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})
	f("hang in the body", "no full answer within 50ms", short, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "http_requests_total 1\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	f("garbage", "line 2: ", second, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", text)
		_, _ = io.WriteString(w, "http_requests_total 1\n<html>\n")
	})
	f("500", "HTTP 500 Internal Server Error", second, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "http_requests_total 1\n")
	})
	f("204", "HTTP 204 No Content", second, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	f("cut off", "unexpected EOF", second, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "http_requests_total 1\n")
	})
	f("gzip that is none", "gzip: invalid header", second, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, strings.Repeat("http_requests_total 1\n", 3))
	})
	f("unasked encoding", `content encoding "zstd"`, second, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "zstd")
	})
	f("redirect away", "redirects to another host, 127.9.9.9:1", second, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.9.9.9:1/metrics", http.StatusFound)
	})
	f("redirect for ever", "more than 10 redirects", second, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/again", http.StatusFound)
	})
	f("huge header", "the answer's header is larger than the limit of 65536 bytes", second, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Large", strings.Repeat("x", 200<<10))
	})
}

func TestRedirectWithinThePodIsFollowed(t *testing.T) {
	status, s := scrapeOnce(t, Options{Timeout: 5 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			http.Redirect(w, r, "/metrics/", http.StatusMovedPermanently)
			return
		}
		_, _ = io.WriteString(w, "http_requests_total 1\n")
	})
	assert.Empty(t, status.LastError)
	assert.Len(t, s.take(), 1)
}

func TestConnectionRefused(t *testing.T) {
	srv := httptest.NewServer(nil)
	srv.Close()
	status, _ := scrapeURL(t, Options{Timeout: 5 * time.Second}, srv.URL)
	assert.Equal(t, srv.URL+": connection refused", status.Reason())
}

// countingConn counts what is read from it.
type countingConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestBodyLimit(t *testing.T) {
	line := []byte("http_requests_total{a=\"b\"} 1\n")
	big := bytes.Repeat(line, 10<<20/len(line))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(big)
	require.NoError(t, z.Close())
	bomb := bytes.Repeat(zipped.Bytes(), 100) // 1 GB in 3 MB: members may follow one another

	f := func(name, encoding string, body []byte) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", encoding)
				_, _ = w.Write(body)
			}))
			defer srv.Close()
			s := newSink(t)
			m := NewManager(s, Options{Timeout: time.Minute, Interval: time.Hour})
			defer m.Close()
			var read atomic.Int64
			dial := m.dial
			m.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				return countingConn{conn, &read}, err
			}
			target := targetOf("a", srv.URL)
			m.Add(target)
			status := finished(t, m, target)
			assert.Equal(t, "the answer is larger than the limit of 4194304 bytes", status.LastError)
			assert.LessOrEqual(t, status.Bytes, DefaultBodyLimit+1)
			assert.Less(t, read.Load(), int64(DefaultBodyLimit+2*readerSize), "the rest is not read")
			assert.Empty(t, s.take())
		})
	}
	f("10 MB", "identity", big)
	f("bomb", "gzip", bomb)
	f("10 MB that do not unpack to more", "gzip", append(emptyMembers(10<<20), zipped.Bytes()...))
}

// emptyMembers is n bytes or more of gzip members that unpack to nothing.
func emptyMembers(n int) []byte {
	var one bytes.Buffer
	_ = gzip.NewWriter(&one).Close()
	return bytes.Repeat(one.Bytes(), 1+n/one.Len())
}

func TestConnectionIsReused(t *testing.T) {
	var dialled, answered atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answered.Add(1)
		_, _ = io.WriteString(w, "http_requests_total 1\n")
	}))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			dialled.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	m := NewManager(newSink(t), Options{Interval: time.Millisecond, Timeout: 10 * time.Second})
	defer m.Close()
	m.Add(targetOf("a", srv.URL))
	require.Eventually(t, func() bool { return answered.Load() > 20 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, int64(1), dialled.Load())
}
