package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
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
	reading func(context.Context, *gpu.Reading) error
	holders func(context.Context) (map[string]gpu.Holders, error)
	owners  map[uint32]gpu.Owner
	kinds   map[uint32]string // of processes that are no container's
	pause   string
	absent  bool

	released int
}

func (f *fakes) Read(ctx context.Context, r *gpu.Reading) error {
	f.mu.Lock()
	read := f.reading
	f.mu.Unlock()
	return read(ctx, r)
}

func (f *fakes) Release(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.released++
	return nil
}

func (f *fakes) Owners(ctx context.Context) (map[string]gpu.Holders, error) {
	f.mu.Lock()
	holders := f.holders
	f.mu.Unlock()
	return holders(ctx)
}

func (f *fakes) Container(pid uint32) (gpu.Owner, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if owner, ok := f.owners[pid]; ok {
		return owner, "owned"
	}
	return gpu.Owner{}, cmp.Or(f.kinds[pid], "foreign")
}

func (f *fakes) Sweep() {}

func (f *fakes) paused() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pause
}

func (f *fakes) noGPUs() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.absent
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

// newWorld is an agent that can tell processes apart, unless unseen says why not.
func newWorld(unseen string) *world {
	w := &world{stuck: make(chan struct{})}
	w.reading = func(context.Context, *gpu.Reading) error { return nil }
	w.holders = func(context.Context) (map[string]gpu.Holders, error) { return map[string]gpu.Holders{}, nil }
	registry := prometheus.NewRegistry()
	w.meter = NewMeter(registry)
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	cfg := Config{
		Driver: w, Lookup: w, Unseen: unseen, Paused: w.paused, Absent: w.noGPUs, Meter: w.meter, Gatherer: registry,
		Interval: time.Second, Window: 10 * time.Second, Node: "node-1", DCGM: true,
		Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{ReplaceAttr: noTime})),
	}
	if unseen == "" {
		cfg.Processes = w
	}
	w.agent = New(cfg)
	return w
}

func (w *world) get(path string) (int, string) {
	recorder := httptest.NewRecorder()
	w.agent.Handler(nil).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder.Code, recorder.Body.String()
}

// TestScenarios runs the stories in testdata. The agent ticks every second from the moment of "run"; it can tell
// processes apart, unless the story's file says "unseen" in its name.
//
//	gpus            what the driver reads from now on. A line per device "UUID utilization used total [WORD=VALUE]…", with
//	                "-" for an unknown number and for an unknown UUID; or "error TEXT", "overdue CALL", "restart" (only a new
//	                process can help), "stuck" (returns only after the end). The words: ring=RATIO,… use=PID:SM,…
//	                process=PID:MEMORY[:PEAK],… sm=, tensor=, dram=RATIO; xid=N (once); recovery=, remap-pending=N; lost=WHY;
//	                session=N; mig=PARENT/GI/PROFILE for an instance, partitioned for its GPU; condition for a full one
//	owners          what the kubelet says from now on. Lines "UUID NAMESPACE POD CONTAINER", or "UUID reserved"; or "error
//	                TEXT", "hang" (until the context ends), and "error TEXT" after owners for a partial answer
//	processes       whose processes are. Lines "PID NAMESPACE POD CONTAINER", or "PID KIND"
//	pause [REASON]  why the hardware must be left alone; without a reason it need not
//	absent          there are no GPUs on the node
//	run             starts the agent
//	wait DURATION   lets time pass
//	call NAME DURATION [failed]   reports a call into NVML
//	metrics [PREFIX…]             series that begin with a prefix; without one the whole exposition, linted
//	dcgm            what /metrics/dcgm answers
//	gpus.json       what /gpus answers
//	probe           what /healthz and /readyz answer
//	log             what was logged since the last time, sorted: the two loops log in any order
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		t.Helper()
		unseen := ""
		if strings.Contains(path, "unseen") {
			unseen = "the agent does not run in the host's PID namespace"
		}
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(unseen)
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
		w.set(func() { w.holders = owners })
	case "processes":
		w.parseProcesses(t, d.Input)
	case "pause":
		released := 0
		w.set(func() { w.pause, released = strings.TrimSpace(d.Input), w.released })
		return fmt.Sprintf("released %d times before", released)
	case "absent":
		w.set(func() { w.absent = true })
	case "dcgm":
		code, body := w.get("/metrics/dcgm")
		require.Equal(t, http.StatusOK, code, body)
		return body
	case "gpus.json":
		code, body := w.get("/gpus")
		require.Equal(t, http.StatusOK, code, body)
		return body
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
