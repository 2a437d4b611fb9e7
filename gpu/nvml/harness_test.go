//go:build linux && cgo

package nvml

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
	"headroom.dev/headroom/gpu/nvmltest"
)

// scenario is one test against the real go-nvml. What go-nvml loads and initialises belongs to the process, so every
// scenario runs in one of its own.
type scenario struct {
	t       *testing.T
	library string
	file    string

	mu    sync.Mutex
	calls []string // observed, in order
	bad   []string // observed as failed
}

const (
	childVariable   = "HEADROOM_NVML_TEST_CHILD"
	libraryVariable = "HEADROOM_NVML_TEST_LIBRARY"

	callDeadline = 150 * time.Millisecond
	retry        = 50 * time.Millisecond
	slow         = 200 * time.Millisecond
)

// inOwnProcess runs the calling test again in a process of its own, and body there.
func inOwnProcess(t *testing.T, body func(*scenario), hide ...string) {
	t.Helper()
	if os.Getenv(childVariable) == t.Name() {
		body(&scenario{t: t, library: os.Getenv(libraryVariable), file: os.Getenv(nvmltest.FileVariable)})
		return
	}
	t.Parallel()
	dir := t.TempDir()
	library, err := nvmltest.Build(t.Context(), buildFolder(), hide...)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), childVariable+"="+t.Name(), libraryVariable+"="+library,
		nvmltest.FileVariable+"="+filepath.Join(dir, "machine"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
}

// buildFolder is shared by all tests and runs of one user: what is in it is named by the hash of its source.
func buildFolder() string {
	return filepath.Join(os.TempDir(), "headroom-nvmltest-"+strconv.Itoa(os.Getuid()))
}

func (s *scenario) write(m nvmltest.Machine) {
	s.t.Helper()
	require.NoError(s.t, m.WriteFile(s.file))
}

func (s *scenario) open() *Driver {
	d := Open(Options{
		Library: s.library, CallDeadline: callDeadline, Retry: retry, Processes: time.Nanosecond, Slow: slow,
		Observe: func(call string, _ time.Duration, failed bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.calls = append(s.calls, call)
			if failed {
				s.bad = append(s.bad, call)
			}
		},
	})
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		assert.NoError(s.t, d.Close(ctx))
	})
	return d
}

func (s *scenario) observed(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if c == call {
			n++
		}
	}
	return n
}

// once reads into memory of its own.
func once(ctx context.Context, d *Driver) (*gpu.Reading, error) {
	r := &gpu.Reading{}
	return r, d.Read(ctx, r)
}

func (s *scenario) read(d *Driver) *gpu.Reading {
	s.t.Helper()
	r, err := once(s.t.Context(), d)
	require.NoError(s.t, err)
	return r
}

// eventually polls Read until ok.
func (s *scenario) eventually(d *Driver, what string, ok func(*gpu.Reading, error) bool) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return ok(once(s.t.Context(), d)) }, 10*time.Second, 10*time.Millisecond, what)
}

const gib = 1 << 30

func twoGPUs() nvmltest.Machine {
	return nvmltest.Machine{Driver: "570.124.06", Devices: []nvmltest.Device{
		{UUID: "GPU-a", Name: "NVIDIA H100 80GB HBM3", MemoryTotalBytes: 80 * gib, MemoryUsedBytes: 3 * gib, UtilizationPercent: 87},
		{UUID: "GPU-b", Name: "NVIDIA H100 80GB HBM3", MemoryTotalBytes: 80 * gib},
	}}
}
