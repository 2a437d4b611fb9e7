package load

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// roundTrip stands for the network, so that a run is in virtual time.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answerAfter answers with the code after the time, or fails when the request is given up.
func answerAfter(d time.Duration, code int) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
			return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader("{}"))}, nil
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}
}

func oneTarget() []string { return []string{"127.1.0.5:8000"} }

func newGenerator(t *testing.T, o Options) *Generator {
	t.Helper()
	if o.Targets == nil {
		o.Targets = oneTarget
	}
	g, err := New(o)
	require.NoError(t, err)
	return g
}

func TestOpenLoopIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pattern := must(t)(Constant(100, 10*time.Second))
		hang := answerAfter(time.Hour, 200)
		g := newGenerator(t, Options{Pattern: pattern, Seed: 5, Timeout: 3 * time.Second, transport: hang})
		began := time.Now()
		require.NoError(t, g.Run(t.Context()))
		// A server that never answers delays the end by one timeout and no request at all.
		require.LessOrEqual(t, time.Since(began), 13*time.Second)
		results := g.Record().Results()
		slices.SortFunc(results, func(a, b Result) int { return int(a.Scheduled - b.Scheduled) })
		var schedule []time.Duration
		for _, r := range results {
			require.Zero(t, r.Wait)
			require.Equal(t, 3*time.Second, r.Latency)
			require.Equal(t, ClassTimeout, r.Class)
			schedule = append(schedule, r.Scheduled)
		}
		var want []time.Duration
		for a := range pattern.Arrivals(5) {
			want = append(want, a.At)
		}
		require.Equal(t, want, schedule)
	})
}

func TestLatencyCountsFromTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stalls := 0
		stallOnce := func() []string {
			if stalls++; stalls == 1 {
				time.Sleep(2 * time.Second) // the generator itself is stuck: a full machine, say
			}
			return oneTarget()
		}
		g := newGenerator(t, Options{
			Pattern: must(t)(Constant(100, 10*time.Second)), Targets: stallOnce, transport: answerAfter(10*time.Millisecond, 200),
		})
		require.NoError(t, g.Run(t.Context()))
		late := 0
		for _, r := range g.Record().Results() {
			require.Equal(t, r.Wait+10*time.Millisecond, r.Latency)
			if r.Wait > 0 {
				late++
			}
		}
		require.InDelta(t, 200, late, 90, "all that came due in the two seconds")
		require.InDelta(t, 2000, g.Record().Summary().WaitMax, 1e-6)
		require.Greater(t, g.Record().Summary().Latency.P95, 900.0)
	})
}

func TestEveryArrivalIsRecorded(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 0))
		pattern := must(t)(Sine(50, 40, 7*time.Second, 20*time.Second))
		g := newGenerator(t, Options{
			Pattern: pattern, Seed: seed, MaxInFlight: 20, Timeout: time.Second,
			Targets: func() []string {
				if rng.Float64() < 0.2 {
					return nil
				}
				return []string{"127.1.0.5:8000", "127.1.0.6:8000", "[::1]:8000"}
			},
			transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				codes := []int{200, 200, 500, 503}
				delay := time.Duration(rand.ExpFloat64() * float64(400*time.Millisecond))
				return answerAfter(delay, codes[rand.N(len(codes))])(r)
			}),
		})
		require.NoError(t, g.Run(t.Context()))
		results := g.Record().Results()
		require.Len(t, results, len(slices.Collect(pattern.Arrivals(seed))))
		outcomes, targets := map[string]int{}, map[string]int{}
		for _, r := range results {
			outcomes[r.Outcome()]++
			targets[r.Target]++
		}
		for _, outcome := range []string{"ok", "http 500", "http 503", "timeout", "dropped", "no endpoint"} {
			require.Positive(t, outcomes[outcome], outcome)
		}
		require.Len(t, targets, 4, "each of the three, and none")
		s := g.Record().Summary()
		require.Equal(t, outcomes["ok"], s.OK)
		delete(outcomes, "ok")
		require.Equal(t, outcomes, s.Failures)
		require.Equal(t, len(results)-outcomes["dropped"]-outcomes["no endpoint"], s.Sent)
		require.Zero(t, g.Record().Window(time.Second).InFlight)
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("operator went home")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(why) })
		g := newGenerator(t, Options{Pattern: must(t)(Constant(10, time.Hour)), transport: answerAfter(time.Minute, 200)})
		began := time.Now()
		require.ErrorIs(t, g.Run(ctx), why)
		require.Equal(t, 3*time.Second, time.Since(began))
		for _, r := range g.Record().Results() {
			require.Equal(t, ClassCanceled, r.Class)
		}
		require.Equal(t, 3.0, g.Record().Summary().Seconds)
		require.ErrorContains(t, g.Run(ctx), "was run before")
	})
}

func TestOnlyLoopbackIsSentTo(t *testing.T) {
	for _, target := range []string{"10.0.0.1:80", "localhost:80", "127.0.0.1", "", "0.0.0.0:80", "[::ffff:10.0.0.1]:80", "127.0.0.1.nip.io:80"} {
		synctest.Test(t, func(t *testing.T) {
			sent := 0
			g := newGenerator(t, Options{
				Pattern: must(t)(Constant(10, time.Minute)),
				Targets: func() []string { return []string{target} },
				transport: roundTrip(func(*http.Request) (*http.Response, error) {
					sent++
					return nil, io.EOF
				}),
			})
			require.ErrorIs(t, g.Run(t.Context()), ErrNotLoopback, target)
			require.Zero(t, sent)
		})
	}
	// And where the check of the target is passed by, the transport itself refuses.
	transport := newTransport(1)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://192.0.2.1:80/", http.NoBody)
	require.NoError(t, err)
	_, err = transport.RoundTrip(request) //nolint:bodyclose // there is none
	require.ErrorIs(t, err, ErrNotLoopback)
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bodies []string
		keep := roundTrip(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			bodies = append(bodies, string(body))
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, err
		})
		pattern, err := Parse("trace:testdata/requests.csv")
		require.NoError(t, err)
		require.NoError(t, newGenerator(t, Options{Pattern: pattern, transport: keep}).Run(t.Context()))
		require.JSONEq(t, `{"model":"simulated","prompt":"","max_tokens":44,"simulated_prompt_tokens":374}`, bodies[0])
		bodies = nil
		own := func(n int, a Arrival) Tokens { return Tokens{Prompt: a.Tokens.Prompt, Output: 100 * n} }
		require.NoError(t, newGenerator(t, Options{Pattern: pattern, Tokens: own, transport: keep}).Run(t.Context()))
		require.Contains(t, bodies[0], `"max_tokens":100,`, "0 is the default")
		require.Contains(t, bodies[3], `"max_tokens":300,`)
	})
}

// TestFailureClasses goes over the real network.
func TestFailureClasses(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	abort := func(reset bool) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, out, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			if reset {
				_ = conn.(*net.TCPConn).SetLinger(0)
			} else {
				_, _ = out.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
				_ = out.Flush()
			}
			_ = conn.Close()
		}))
		t.Cleanup(server.Close)
		return server.Listener.Addr().String()
	}
	redirect := httptest.NewServer(http.RedirectHandler("http://192.0.2.1/", http.StatusFound))
	t.Cleanup(redirect.Close)
	for target, outcome := range map[string]string{
		closed.Addr().String():            "refused",
		abort(true):                       "reset",
		abort(false):                      "cut off",
		redirect.Listener.Addr().String(): "http 302",
	} {
		g := newGenerator(t, Options{
			Pattern: must(t)(Constant(100, 100*time.Millisecond)), Seed: 1, Targets: func() []string { return []string{target} },
		})
		require.NoError(t, g.Run(t.Context()))
		s := g.Record().Summary()
		require.Positive(t, s.Requests)
		require.Equal(t, map[string]int{outcome: s.Requests}, s.Failures)
		require.Nil(t, s.Latency)
	}
}

func TestPercentileAgainstDefinition(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		list := make([]time.Duration, 1+rng.IntN(300))
		for i := range list {
			list[i] = time.Duration(rng.IntN(50))
		}
		slices.Sort(list)
		for _, percent := range []int{1, 50, 90, 95, 99, 100} {
			// The definition: the smallest value that at least percent of all values do not exceed.
			want := time.Duration(-1)
			for _, candidate := range list {
				below := 0
				for _, v := range list {
					if v <= candidate {
						below++
					}
				}
				if below*100 >= percent*len(list) {
					want = candidate
					break
				}
			}
			require.Equal(t, want, percentile(list, percent), "p%d of %v", percent, list)
		}
	}
}

// TestWindowAgainstResults reads the rolling view while the run goes on and compares it with one computed from the
// whole record afterwards.
func TestWindowAgainstResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGenerator(t, Options{
			Pattern: must(t)(Steps([]Step{{50, 10 * time.Second}, {0, 10 * time.Second}, {200, 10 * time.Second}})), Seed: 9, MaxInFlight: 60,
			transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				return answerAfter(time.Duration(rand.N(800))*time.Millisecond, []int{200, 500}[rand.N(2)])(r)
			}),
		})
		require.Equal(t, Window{Failures: map[string]int{}}, g.Record().Window(time.Second), "before the start")
		ended := make(chan error, 1)
		began := time.Now()
		go func() { ended <- g.Run(t.Context()) }()
		const span = 3 * time.Second
		views := map[time.Duration]Window{}
		for range 40 {
			time.Sleep(700*time.Millisecond + 1)
			views[time.Since(began)] = g.Record().Window(span)
		}
		require.NoError(t, <-ended)
		for at, view := range views {
			from := max(0, at-span)
			var due, unsent, ok, failed, inFlight int
			var latencies []time.Duration
			for _, r := range g.Record().Results() {
				sent, end := r.Scheduled+r.Wait, r.Scheduled+r.Latency
				if sent > from && sent <= at {
					due++
					if !r.sent() {
						unsent++
					}
				}
				if r.sent() && sent <= at && end > at {
					inFlight++
				}
				switch {
				case end <= from || end > at:
				case r.OK():
					ok++
					latencies = append(latencies, r.Latency)
				default:
					failed++
				}
			}
			seconds := (at - from).Seconds()
			require.InDelta(t, float64(due)/seconds, view.Offered, 1e-9, "%s", at)
			require.InDelta(t, float64(due-unsent)/seconds, view.Sent, 1e-9)
			require.InDelta(t, float64(ok)/seconds, view.OK, 1e-9)
			require.Equal(t, inFlight, view.InFlight)
			sum := 0
			for _, n := range view.Failures {
				sum += n
			}
			require.Equal(t, failed, sum)
			require.Equal(t, latencyOf(latencies), view.Latency)
		}
	})
}

func TestSummaryAndCSV(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pattern, err := Parse("trace:testdata/requests.csv")
		require.NoError(t, err)
		g := newGenerator(t, Options{Pattern: pattern, Seed: 3, transport: answerAfter(250*time.Millisecond, 200)})
		require.NoError(t, g.Run(t.Context()))
		text, err := json.Marshal(g.Record().Summary())
		require.NoError(t, err)
		require.JSONEq(t, `{"seed":3,"seconds":10.25,"requests":4,"sent":4,"ok":4,"failures":{},
			"latency":{"mean_ms":250,"p50_ms":250,"p90_ms":250,"p95_ms":250,"p99_ms":250,"max_ms":250},
			"wait_p99_ms":0,"wait_max_ms":0,"output_tokens":224}`, string(text))
		var out bytes.Buffer
		require.NoError(t, g.Record().WriteCSV(&out))
		rows, err := csv.NewReader(&out).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 5)
		require.Equal(t, []string{"4.314579", "0.000", "250.000", "200", "ok", "127.1.0.5:8000", "396", "109"}, rows[2])
	})
}

func TestNewRefusesNonsense(t *testing.T) {
	_, err := New(Options{})
	require.ErrorContains(t, err, "needs a pattern and targets")
	_, err = New(Options{Pattern: steps{{1, time.Second}}, Targets: oneTarget, Timeout: -1})
	require.ErrorContains(t, err, "must not be negative")
}

func TestWindowIsOpenAtItsBeginning(t *testing.T) {
	for from, want := range map[time.Duration]int{-1: 0, 0: 1, 4: 1, 5: 3, 6: 3, 9: 4} {
		require.Equal(t, want, firstAfter([]time.Duration{0, 5, 5, 9}, from), "%d", from)
	}
}
