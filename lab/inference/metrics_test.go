package inference

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// TestScenarios runs testdata/scenarios/* in virtual time. Commands:
//
//	server             (input: a spec; start-up is not simulated here)  makes the server
//	update             (input: a spec)                                  changes its spec
//	ask [n=1] [tokens=100] [patience=1h] [path=/v1/completions]         sends n requests now
//	advance TIME                                                        lets time pass; prints the answers
//	usage                                                               prints Usage
//	metrics [PREFIX…]                                                   prints samples whose names begin so; all without
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			var s *scenario
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				t.Helper()
				if d.Cmd == "server" {
					spec, err := ParseSpec(d.Input)
					if err != nil {
						return err.Error() + "\n"
					}
					server := New(spec, 1, 0)
					server.enter(phaseReady)
					s = &scenario{server: server, handler: server.handler(), began: time.Now()}
					return ""
				}
				return s.run(t, d)
			})
		})
	})
}

type scenario struct {
	server  *Server
	handler http.Handler
	began   time.Time
	asked   int
	mu      sync.Mutex
	answers []reply
}

type reply struct {
	at      time.Duration
	request int
	text    string
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "update":
		spec, err := ParseSpec(d.Input)
		require.NoError(t, err)
		require.NoError(t, s.server.Update(spec))
		return ""
	case "ask":
		n, tokens, patience, path := 1, ReferenceTokens, "1h", "/v1/completions"
		d.MaybeScanArgs(t, "n", &n)
		d.MaybeScanArgs(t, "tokens", &tokens)
		d.MaybeScanArgs(t, "patience", &patience)
		d.MaybeScanArgs(t, "path", &path)
		limit, err := time.ParseDuration(patience)
		require.NoError(t, err)
		for range n {
			s.asked++
			go s.ask(s.asked, path, tokens, limit)
			synctest.Wait()
		}
		return s.flush()
	case "advance":
		passed, err := time.ParseDuration(d.CmdArgs[0].Key)
		require.NoError(t, err)
		time.Sleep(passed)
		synctest.Wait()
		return s.flush()
	case "usage":
		u := s.server.Usage()
		return fmt.Sprintf("running %d, waiting %d, busy %s, slot time %s, GPU memory %s\n",
			u.Running, u.Waiting, u.Busy, u.SlotTime, Bytes(u.GPUMemoryBytes))
	case "metrics":
		recorder := httptest.NewRecorder()
		s.handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
		var out strings.Builder
		for line := range strings.Lines(recorder.Body.String()) {
			if len(d.CmdArgs) == 0 || slices.ContainsFunc(d.CmdArgs, func(a datadriven.CmdArg) bool { return strings.HasPrefix(line, a.Key) }) {
				out.WriteString(line)
			}
		}
		return out.String()
	}
	t.Fatalf("unknown command %s", d.Cmd)
	return ""
}

func (s *scenario) ask(n int, path string, tokens int, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	method, body := http.MethodPost, fmt.Sprintf(`{"max_tokens":%d}`, tokens)
	if path == "/" {
		method = http.MethodGet
	}
	recorder := httptest.NewRecorder()
	s.handler.ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body)))
	answer := fmt.Sprint(recorder.Code)
	if ctx.Err() != nil {
		answer = "gone"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, reply{time.Since(s.began), n, answer})
}

func (s *scenario) flush() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Those of one moment come in any order.
	slices.SortFunc(s.answers, func(a, b reply) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.request, b.request))
	})
	var out strings.Builder
	for _, a := range s.answers {
		fmt.Fprintf(&out, "%s: request %d: %s\n", a.at, a.request, a.text)
	}
	s.answers = nil
	return out.String()
}

func TestMetricsAreLinted(t *testing.T) {
	m := newMetrics("m", func() state { return state{spec: DefaultSpec()} })
	problems, err := testutil.GatherAndLint(m.http)
	require.NoError(t, err)
	require.Empty(t, problems)
	problems, err = testutil.GatherAndLint(m.vllm)
	require.NoError(t, err)
	for _, p := range problems {
		// vLLM's own style, kept because it is what real pods expose.
		require.Equal(t, "metric names should not contain ':'", p.Text, p.Metric)
	}
}

// TestEveryRequestIsCountedOnce sends a mix of requests with every kind of end and adds up.
func TestEveryRequestIsCountedOnce(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 0))
		spec := DefaultSpec()
		spec.Slots, spec.Queue, spec.ErrorRate = 2, 5, 0.2
		s := New(spec, seed, 0)
		handler := s.handler()
		const n = 3000
		seen := map[string]float64{}
		var mu sync.Mutex
		var all sync.WaitGroup
		for range n {
			time.Sleep(time.Duration(rng.ExpFloat64() * float64(30*time.Millisecond)))
			patience := time.Duration(rng.ExpFloat64() * float64(time.Second))
			body := []string{`{}`, `{"max_tokens":150}`, `{`}[rng.IntN(3)]
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				recorder := httptest.NewRecorder()
				handler.ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/completions", strings.NewReader(body)))
				code := fmt.Sprint(recorder.Code)
				if recorder.Body.Len() == 0 {
					code = "499"
				}
				mu.Lock()
				seen[code]++
				mu.Unlock()
			})
		}
		all.Wait()
		sum := 0.0
		for _, code := range []string{"200", "400", "499", "500", "503"} {
			require.Positive(t, seen[code], code)
			require.InDelta(t, seen[code], testutil.ToFloat64(s.metrics.requests.WithLabelValues(code, "/v1/completions", "POST")), 0, code)
			sum += seen[code]
		}
		require.InDelta(t, n, sum, 0)
		succeeded := testutil.ToFloat64(s.metrics.finished.WithLabelValues("stop")) + testutil.ToFloat64(s.metrics.finished.WithLabelValues("length"))
		require.InDelta(t, seen["200"], succeeded, 0)
		require.InDelta(t, seen["499"], testutil.ToFloat64(s.metrics.finished.WithLabelValues("abort")), 0)
	})
}
