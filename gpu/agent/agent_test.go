package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
)

// fakes is a driver and a kubelet that say what they were told to.
type fakes struct {
	mu      sync.Mutex
	reading func(context.Context) (gpu.Reading, error)
	owners  func(context.Context) (map[string][]gpu.Owner, error)
}

func (f *fakes) Read(ctx context.Context) (gpu.Reading, error) {
	f.mu.Lock()
	read := f.reading
	f.mu.Unlock()
	return read(ctx)
}

func (f *fakes) Owners(ctx context.Context) (map[string][]gpu.Owner, error) {
	f.mu.Lock()
	owners := f.owners
	f.mu.Unlock()
	return owners(ctx)
}

func (f *fakes) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// world is an agent in a bubble of fake time, with everything about it that a scenario can see and change.
type world struct {
	fakes
	agent *Agent
	meter *Meter
	log   strings.Builder // written in the bubble only, read when all else waits
	stuck chan struct{}   // closed to release a driver that ignores its context
}

func newWorld() *world {
	w := &world{stuck: make(chan struct{})}
	w.reading = func(context.Context) (gpu.Reading, error) { return gpu.Reading{}, nil }
	w.owners = func(context.Context) (map[string][]gpu.Owner, error) { return map[string][]gpu.Owner{}, nil }
	registry := prometheus.NewRegistry()
	w.meter = NewMeter(registry)
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	w.agent = New(Config{
		Driver: w, Lookup: w, Meter: w.meter, Registry: registry, Interval: time.Second, Node: "node-1",
		Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{ReplaceAttr: noTime})),
	})
	return w
}

func (w *world) get(path string) (int, string) {
	recorder := httptest.NewRecorder()
	w.agent.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder.Code, recorder.Body.String()
}

// TestScenarios runs the stories in testdata. The agent ticks every second from the moment of "run".
//
//	gpus            what the driver reads from now on. A line per GPU "UUID utilization used total", with "-" for an
//	                unknown number and for an unknown UUID; or "error TEXT", "overdue CALL", "restart" (only a new process
//	                can help), "stuck" (returns only after the end)
//	owners          what the kubelet says from now on. Lines "UUID NAMESPACE POD CONTAINER"; or "error TEXT", "hang" (until
//	                the context ends), and "error TEXT" after owners for a partial answer
//	run             starts the agent
//	wait DURATION   lets time pass
//	call NAME DURATION [failed]   reports a call into NVML
//	metrics [PREFIX…]             series that begin with a prefix; without one the whole exposition, linted
//	probe           what /healthz and /readyz answer
//	log             what was logged since the last time, sorted: the two loops log in any order
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			ctx, cancel := context.WithCancel(t.Context())
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				t.Helper()
				return w.command(ctx, t, d)
			})
			cancel()
			close(w.stuck)
		})
	})
}

func (w *world) command(ctx context.Context, t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "gpus":
		read := w.parseGPUs(t, d.Input)
		w.set(func() { w.reading = read })
	case "owners":
		owners := parseOwners(t, d.Input)
		w.set(func() { w.owners = owners })
	case "run":
		go w.agent.Run(ctx)
		synctest.Wait()
	case "wait":
		duration, err := time.ParseDuration(d.CmdArgs[0].Key)
		require.NoError(t, err)
		time.Sleep(duration)
		synctest.Wait()
	case "call":
		duration, err := time.ParseDuration(d.CmdArgs[1].Key)
		require.NoError(t, err)
		w.meter.ObserveCall(d.CmdArgs[0].Key, duration, d.HasArg("failed"))
	case "metrics":
		return w.metrics(t, d.CmdArgs)
	case "probe":
		health, healthBody := w.get("/healthz")
		ready, readyBody := w.get("/readyz")
		return fmt.Sprintf("healthz %d\n%sreadyz %d\n%s", health, healthBody, ready, readyBody)
	case "log":
		lines := slices.Sorted(strings.Lines(w.log.String()))
		w.log.Reset()
		return strings.Join(lines, "")
	default:
		t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
	return ""
}

func (w *world) metrics(t *testing.T, prefixes []datadriven.CmdArg) string {
	t.Helper()
	code, body := w.get("/metrics")
	require.Equal(t, http.StatusOK, code, body)
	if len(prefixes) == 0 {
		problems, err := promlint.New(strings.NewReader(body)).Lint()
		require.NoError(t, err)
		require.Empty(t, problems)
		return body
	}
	var out strings.Builder
	for line := range strings.Lines(body) {
		for _, prefix := range prefixes {
			if strings.HasPrefix(line, prefix.Key) {
				out.WriteString(line)
			}
		}
	}
	if out.Len() == 0 {
		return "none\n"
	}
	return out.String()
}

func (w *world) parseGPUs(t *testing.T, input string) func(context.Context) (gpu.Reading, error) {
	t.Helper()
	word, rest, _ := strings.Cut(input, " ")
	switch word {
	case "error":
		return func(context.Context) (gpu.Reading, error) { return gpu.Reading{}, errors.New(rest) }
	case "overdue":
		err := &gpu.OverdueError{Call: rest, Since: time.Now()}
		return func(context.Context) (gpu.Reading, error) { return gpu.Reading{}, err }
	case "restart":
		return func(context.Context) (gpu.Reading, error) {
			return gpu.Reading{}, fmt.Errorf("mismatch: %w", gpu.ErrRestartNeeded)
		}
	case "stuck":
		return func(context.Context) (gpu.Reading, error) { <-w.stuck; return gpu.Reading{}, errors.New("stuck") }
	}
	reading := gpu.Reading{Driver: "570.124.06"}
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		require.Len(t, f, 4, line)
		i := len(reading.Samples)
		s := gpu.Sample{
			Device:      gpu.Device{Index: i, UUID: strings.TrimPrefix(f[0], "-"), Name: "NVIDIA H100 80GB HBM3", Minor: gpu.Known(float64(i))},
			Utilization: parseValue(t, f[1]), MemoryUsed: parseValue(t, f[2]), MemoryTotal: parseValue(t, f[3]),
		}
		reading.Samples = append(reading.Samples, s)
	}
	return func(context.Context) (gpu.Reading, error) { return at(reading, time.Now()), nil }
}

// at returns a copy of the reading whose samples were taken now.
func at(r gpu.Reading, now time.Time) gpu.Reading {
	samples := make([]gpu.Sample, len(r.Samples))
	for i, s := range r.Samples {
		s.Time = now
		samples[i] = s
	}
	r.Samples = samples
	return r
}

func parseValue(t *testing.T, text string) gpu.Value {
	t.Helper()
	if text == "-" {
		return gpu.Unknown("nvmlDeviceGetSomething: Not Supported (3)")
	}
	number, err := strconv.ParseFloat(text, 64)
	require.NoError(t, err)
	return gpu.Known(number)
}

func parseOwners(t *testing.T, input string) func(context.Context) (map[string][]gpu.Owner, error) {
	t.Helper()
	owners := map[string][]gpu.Owner{}
	var problem error
	hang := false
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		switch f[0] {
		case "hang":
			hang = true
		case "error":
			problem = errors.New(strings.Join(f[1:], " "))
		default:
			require.Len(t, f, 4, line)
			owners[f[0]] = append(owners[f[0]], gpu.Owner{Namespace: f[1], Pod: f[2], Container: f[3]})
		}
	}
	if problem != nil && len(owners) == 0 {
		owners = nil
	}
	return func(ctx context.Context) (map[string][]gpu.Owner, error) {
		if hang {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return owners, problem
	}
}
