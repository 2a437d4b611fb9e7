package scrape

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/metric"
)

// sink records what reaches it and fails the test when an append follows a Forget.
type sink struct {
	t *testing.T

	mu      sync.Mutex
	appends []appended
	series  map[uint64]labels.Labels // by ref
	forgot  map[string]int
	gone    map[string]bool
	err     error
	full    bool // no room for further series
	reuse   bool // an ID may come back after Forget

	ref     uint64        // the last one given
	asked   int           // for labels
	version atomic.Uint64 // from 1 on "other" is wanted, too
}

type appended struct {
	target  string
	at      time.Time
	samples string
}

func newSink(t *testing.T) *sink {
	return &sink{t: t, series: map[uint64]labels.Labels{}, forgot: map[string]int{}, gone: map[string]bool{}}
}

func (s *sink) WantsVersion() uint64 { return s.version.Load() }

func (s *sink) Wants(name string) bool {
	return wantRequests(name) || s.version.Load() > 0 && name == "other"
}

func (s *sink) Append(target string, at time.Time, refs []uint64, values []float64, labelsOf func(int) labels.Labels) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone[target] && !s.reuse {
		s.t.Errorf("append to %s after Forget", target)
	}
	require.Len(s.t, values, len(refs))
	var out samples
	for i, ref := range refs {
		ls, found := s.series[ref]
		if !found {
			s.asked++
			ls = labelsOf(i)
			if s.full {
				continue
			}
			s.ref++
			s.series[s.ref] = ls
			refs[i] = s.ref
		}
		out.labels, out.values = append(out.labels, ls), append(out.values, values[i])
	}
	s.appends = append(s.appends, appended{target, at, render(out)})
	return s.err
}

func (s *sink) Forget(target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgot[target]++
	s.gone[target] = true
}

func (s *sink) count(target string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, a := range s.appends {
		if a.target == target {
			n++
		}
	}
	return n
}

func (s *sink) take() []appended {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.appends
	s.appends = nil
	return out
}

func targetOf(name, url string) Target {
	return Target{
		ID: "demo/" + name, Incarnation: "1", URL: url,
		Pod:    metric.Object{Resource: "pods", Namespace: "demo", Name: name},
		Labels: labels.FromStrings("namespace", "demo", "pod", name),
	}
}

// handler answers one request; a nil response hangs up.
type handler func(*http.Request) *http.Response

// virtual returns a Manager whose targets are answered by the function over pipes; for synctest bubbles, where no socket
// is of use.
func virtual(s *sink, opts Options, h handler) *Manager {
	m := NewManager(s, opts)
	m.dial = func(_ context.Context, _, address string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go h.serve(theirs) //nolint:contextcheck // the other side's own
		return ours, nil
	}
	return m
}

// serve answers until the other side hangs up, which ends the context of the request.
func (h handler) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		peeked := make(chan struct{})
		go func() {
			defer close(peeked)
			if _, err := r.Peek(1); err != nil {
				cancel()
			}
		}()
		resp := h(req.WithContext(ctx)) //nolint:bodyclose // written below
		if resp == nil || resp.Write(conn) != nil {
			cancel()
			return
		}
		<-peeked
		cancel()
	}
}

func reply(body string) *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
	}
}

func ok(*http.Request) *http.Response { return reply("http_requests_total 1\n") }

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		m := virtual(s, Options{}, ok)
		defer m.Close()
		began := time.Now()
		for i := range 100 {
			m.Add(targetOf(fmt.Sprint("pod-", i), fmt.Sprintf("http://pod-%d/metrics", i)))
		}
		synctest.Wait()
		first := s.take()
		require.Len(t, first, 100)
		for _, a := range first {
			require.Equal(t, began, a.at, "the first scrape is at once")
		}
		time.Sleep(10*time.Second + 500*time.Millisecond)
		synctest.Wait()
		per, slots := map[string][]time.Time{}, map[time.Duration]int{}
		for _, a := range s.take() {
			per[a.target] = append(per[a.target], a.at)
		}
		for target, at := range per {
			require.InDelta(t, 10, len(at), 1, target)
			gap := at[0].Sub(began)
			require.True(t, gap >= 500*time.Millisecond && gap <= 1500*time.Millisecond, "%s: %s", target, gap)
			slots[at[0].Sub(at[0].Truncate(time.Second)).Truncate(100*time.Millisecond)]++
			for i := range at[1:] {
				require.Equal(t, time.Second, at[i+1].Sub(at[i]), target)
			}
		}
		assert.Greater(t, len(slots), 7, "the targets are spread over the second: %v", slots)
	})
}

func TestHangingTargetDoesNotSlowTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		m := virtual(s, Options{}, func(r *http.Request) *http.Response {
			if r.Host == "hangs" {
				<-r.Context().Done()
				return nil
			}
			return ok(r)
		})
		defer m.Close()
		bad := targetOf("hangs", "http://hangs/metrics")
		m.Add(bad)
		m.Add(targetOf("good", "http://good/metrics"))
		time.Sleep(10*time.Second + time.Nanosecond)
		assert.GreaterOrEqual(t, s.count("demo/good"), 10)
		status, found := m.Status(bad.Pod)
		require.True(t, found)
		assert.Equal(t, "http://hangs/metrics: no full answer within 1s", status.Reason())
		assert.GreaterOrEqual(t, status.Failures, 4)
		assert.Equal(t, time.Second, status.Duration)
	})
}

func TestRemoveInMidScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		cancelled := make(chan struct{})
		release := make(chan struct{})
		m := virtual(s, Options{Timeout: time.Minute}, func(r *http.Request) *http.Response {
			<-r.Context().Done()
			close(cancelled)
			<-release // an answer that arrives although the request was given up
			return ok(r)
		})
		defer m.Close()
		target := targetOf("a", "http://a/metrics")
		m.Add(target)
		synctest.Wait()
		status, _ := m.Status(target.Pod)
		assert.Equal(t, "the first scrape of http://a/metrics has not finished yet", status.Reason())
		m.Remove(target.ID)
		<-cancelled
		assert.Equal(t, 1, s.forgot[target.ID])
		_, found := m.Status(target.Pod)
		assert.False(t, found)
		m.Remove(target.ID)
		close(release)
		synctest.Wait()
		assert.Equal(t, 1, s.forgot[target.ID], "once")
		assert.Empty(t, s.take(), "the late answer is thrown away")
	})
}

func TestRemoveRacesWithAppend(t *testing.T) {
	s := newSink(t) // fails the test on an append after Forget
	m := virtual(s, Options{Interval: 100 * time.Microsecond, Timeout: time.Minute}, ok)
	defer m.Close()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 200 {
				target := targetOf(fmt.Sprintf("pod-%d-%d", w, i), "http://a/metrics")
				m.Add(target)
				time.Sleep(time.Duration(i%5) * 50 * time.Microsecond)
				m.Remove(target.ID)
			}
		})
	}
	wg.Wait()
	assert.Zero(t, m.Len())
	for id, n := range s.forgot {
		require.Equal(t, 1, n, id)
	}
	require.Len(t, s.forgot, 800)
}

func TestChangedTargetStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		s.reuse = true
		m := virtual(s, Options{}, ok)
		defer m.Close()
		target := targetOf("a", "http://a/metrics")
		m.Add(target)
		m.Add(target)
		synctest.Wait()
		assert.Empty(t, s.forgot, "the same target is left alone")
		assert.Len(t, s.take(), 1)
		target.Incarnation = "2"
		m.Add(target)
		synctest.Wait()
		assert.Equal(t, map[string]int{target.ID: 1}, s.forgot)
		assert.Len(t, s.take(), 1)
		assert.Equal(t, 1, m.Len())
	})
}

func TestRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		var down atomic.Bool
		down.Store(true)
		m := virtual(s, Options{}, func(r *http.Request) *http.Response {
			if down.Load() {
				return nil
			}
			return ok(r)
		})
		defer m.Close()
		target := targetOf("a", "http://a/metrics")
		m.Add(target)
		time.Sleep(5 * time.Second)
		status, _ := m.Status(target.Pod)
		assert.GreaterOrEqual(t, status.Failures, 4)
		down.Store(false)
		time.Sleep(2 * time.Second)
		status, _ = m.Status(target.Pod)
		assert.Zero(t, status.Failures)
		assert.Empty(t, status.Reason())
		assert.Equal(t, status.LastAttempt, status.LastSuccess)
	})
}

func TestOwnMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		m := virtual(s, Options{Registerer: reg}, func(r *http.Request) *http.Response {
			if r.Host == "bad" {
				resp := reply("")
				resp.StatusCode = http.StatusTeapot
				return resp
			}
			return ok(r)
		})
		m.Add(targetOf("good", "http://good/metrics"))
		m.Add(targetOf("bad", "http://bad/metrics"))
		synctest.Wait()
		m.Close()
	})
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	assert.Equal(t, []promlint.Problem(nil), problems)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP headroom_adapter_scrapes_total Finished scrapes by outcome.
# TYPE headroom_adapter_scrapes_total counter
headroom_adapter_scrapes_total{outcome="parse"} 0
headroom_adapter_scrapes_total{outcome="settings"} 0
headroom_adapter_scrapes_total{outcome="status"} 1
headroom_adapter_scrapes_total{outcome="success"} 1
headroom_adapter_scrapes_total{outcome="timeout"} 0
headroom_adapter_scrapes_total{outcome="too_large"} 0
headroom_adapter_scrapes_total{outcome="transport"} 0
`), "headroom_adapter_scrapes_total"))
}
