//go:build linux && cgo

package nvml

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
		Library: s.library, CallDeadline: callDeadline, Retry: retry,
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

func (s *scenario) read(d *Driver) gpu.Reading {
	s.t.Helper()
	r, err := d.Read(s.t.Context())
	require.NoError(s.t, err)
	return r
}

// eventually polls Read until ok.
func (s *scenario) eventually(d *Driver, what string, ok func(gpu.Reading, error) bool) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return ok(d.Read(s.t.Context())) }, 10*time.Second, 10*time.Millisecond, what)
}

const gib = 1 << 30

func twoGPUs() nvmltest.Machine {
	return nvmltest.Machine{Driver: "570.124.06", Devices: []nvmltest.Device{
		{UUID: "GPU-a", Name: "NVIDIA H100 80GB HBM3", MemoryTotalBytes: 80 * gib, MemoryUsedBytes: 3 * gib, UtilizationPercent: 87},
		{UUID: "GPU-b", Name: "NVIDIA H100 80GB HBM3", MemoryTotalBytes: 80 * gib},
	}}
}

func TestReadsDevices(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		s.write(m)
		d := s.open()
		before := time.Now()
		r := s.read(d)
		assert.Equal(t, "570.124.06", r.Driver)
		require.Len(t, r.Samples, 2)
		a, b := r.Samples[0], r.Samples[1]
		assert.Equal(t, gpu.Device{UUID: "GPU-a", Name: "NVIDIA H100 80GB HBM3", Minor: gpu.Known(0)}, a.Device)
		assert.Equal(t, gpu.Device{Index: 1, UUID: "GPU-b", Name: "NVIDIA H100 80GB HBM3", Minor: gpu.Known(1)}, b.Device)
		assert.WithinRange(t, a.Time, before, time.Now())
		assert.Equal(t, gpu.Known(0.87), a.Utilization)
		assert.Equal(t, gpu.Known(3*gib), a.MemoryUsed, "version 2: without the driver's own")
		assert.Equal(t, gpu.Known(80*gib), a.MemoryTotal)
		assert.Equal(t, gpu.Known(0), b.Utilization, "idle is a number")

		m.Devices[0].UtilizationPercent = 12
		s.write(m)
		assert.Equal(t, gpu.Known(0.12), s.read(d).Samples[0].Utilization)
		assert.Equal(t, 1, s.observed("nvmlInit_v2"))
		assert.Equal(t, 2, s.observed("nvmlDeviceGetUUID"), "identity is read once")

		m.Devices = m.Devices[:1]
		s.write(m)
		assert.Len(t, s.read(d).Samples, 1)
		m.Devices[0].UtilizationPercent = 255
		s.write(m)
		assert.Equal(t, "nvmlDeviceGetUtilizationRates returned 255 %", s.read(d).Samples[0].Utilization.Reason())
		assert.Empty(t, s.bad)
	})
}

func TestRetriesWithoutLibrary(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		s.write(twoGPUs())
		there := s.library
		s.library = filepath.Join(t.TempDir(), nvmltest.LibraryName)
		d := s.open()
		_, err := d.Read(t.Context())
		require.ErrorContains(t, err, "cannot load NVML: "+s.library)
		require.NoError(t, os.Symlink(there, s.library))
		s.eventually(d, "reads once the library is there", func(_ gpu.Reading, err error) bool { return err == nil })
	})
}

func TestRetriesInit(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		d := s.open()
		_, err := d.Read(t.Context()) // there is no file
		require.ErrorContains(t, err, "nvmlInit_v2: Driver Not Loaded (9)")
		m := twoGPUs()
		m.Fault = "error nvmlInit_v2 999"
		s.write(m)
		s.eventually(d, "another reason", func(_ gpu.Reading, err error) bool {
			return err != nil && assert.ObjectsAreEqual("cannot initialise NVML of "+s.library+": nvmlInit_v2: Unknown Error (999)", err.Error())
		})
		m.Fault = ""
		s.write(m)
		s.eventually(d, "reads once it initialises", func(_ gpu.Reading, err error) bool { return err == nil })
	})
}

func TestLostDevice(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		s.write(m)
		d := s.open()
		s.read(d)
		m.Devices[1].Fault = "error * 15"
		s.write(m)
		s.eventually(d, "initialised anew, and the healthy device is read all the while", func(r gpu.Reading, err error) bool {
			require.NoError(t, err)
			require.Len(t, r.Samples, 2)
			require.Equal(t, gpu.Known(0.87), r.Samples[0].Utilization)
			require.Contains(t, r.Samples[1].Utilization.Reason(), "GPU is lost (15)")
			return r.Samples[1].Device.UUID == ""
		})
		m.Devices[1].Fault = ""
		s.write(m)
		s.eventually(d, "the device is back", func(r gpu.Reading, err error) bool {
			require.NoError(t, err)
			return r.Samples[1].Device.UUID == "GPU-b" && r.Samples[1].Utilization == gpu.Known(0)
		})
		assert.GreaterOrEqual(t, s.observed("nvmlInit_v2"), 2)
	})
}

func TestLostDriver(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		s.write(twoGPUs())
		d := s.open()
		s.read(d)
		require.NoError(t, os.Remove(s.file))
		_, err := d.Read(t.Context())
		require.ErrorContains(t, err, "Driver Not Loaded (9)")
		s.eventually(d, "tries to initialise", func(_ gpu.Reading, err error) bool {
			return err != nil && s.observed("nvmlInit_v2") >= 2
		})
		s.write(twoGPUs())
		s.eventually(d, "reads again", func(_ gpu.Reading, err error) bool { return err == nil })
	})
}

func TestVersionMismatchNeedsRestart(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Fault = "error * 18"
		s.write(m)
		_, err := s.open().Read(t.Context())
		require.ErrorIs(t, err, gpu.ErrRestartNeeded)
	})
}

// The reason for gpu.ErrRestartNeeded: a library that was called once is used for ever, whatever go-nvml loads later.
func TestLibraryIsPinned(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		s.write(twoGPUs())
		d := s.open()
		s.read(d)
		require.NoError(t, d.Close(t.Context()))
		maps, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		assert.Contains(t, string(maps), s.library)
	})
}

func TestHangIsNamedAndPasses(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		s.write(m)
		d := s.open()
		s.read(d)
		m.Devices[1].Fault = "hang nvmlDeviceGetUtilizationRates 1000"
		s.write(m)
		began := time.Now()
		_, err := d.Read(t.Context())
		var overdue *gpu.OverdueError
		require.ErrorAs(t, err, &overdue)
		assert.Equal(t, "nvmlDeviceGetUtilizationRates", overdue.Call)
		assert.WithinRange(t, overdue.Since, began, time.Now())
		assert.GreaterOrEqual(t, time.Since(began), callDeadline)

		again := time.Now()
		_, err = d.Read(t.Context())
		require.ErrorAs(t, err, &overdue)
		assert.Less(t, time.Since(again), callDeadline, "nobody waits for a call that is known to be overdue")

		m.Devices[1].Fault = ""
		s.write(m)
		s.eventually(d, "works again when the call has returned", func(_ gpu.Reading, err error) bool { return err == nil })
		assert.Equal(t, 1, s.observed("nvmlInit_v2"))
	})
}

func TestContextEndsRead(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].Fault = "hang nvmlDeviceGetName 100"
		s.write(m)
		d := s.open()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := d.Read(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var overdue *gpu.OverdueError
		require.ErrorAs(t, err, &overdue)
		assert.Equal(t, "nvmlDeviceGetName", overdue.Call)
	})
}

func TestMissingSymbolsAreNotCalled(t *testing.T) {
	hidden := []string{"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMinorNumber", "nvmlErrorString"}
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[1].Fault = "error nvmlDeviceGetMemoryInfo 3"
		s.write(m)
		r := s.read(s.open())
		a, b := r.Samples[0], r.Samples[1]
		assert.Equal(t, "nvmlDeviceGetUtilizationRates: not found in the library (13)", a.Utilization.Reason())
		_, ok := a.Device.Minor.Get()
		assert.False(t, ok)
		assert.Equal(t, gpu.Known(3*gib+80*gib/128), a.MemoryUsed, "version 1: with the driver's own")
		assert.Equal(t, "nvmlDeviceGetMemoryInfo: NVML error (3)", b.MemoryUsed.Reason())
		for _, call := range hidden {
			assert.NotContains(t, s.calls, call)
		}
		assert.Empty(t, s.bad, "not supported is no failure")
	}, hidden...)
}

func TestMissingInitIsNotCalled(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		s.write(twoGPUs())
		_, err := s.open().Read(t.Context())
		require.ErrorContains(t, err, "nvmlInit_v2: not found in the library")
	}, "nvmlInit_v2")
}

func TestCloseDuringHang(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].Fault = "hang nvmlDeviceGetName 1000"
		s.write(m)
		d := s.open()
		_, err := d.Read(t.Context())
		require.Error(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorContains(t, d.Close(ctx), "nvmlDeviceGetName")
		_, err = d.Read(t.Context())
		require.ErrorIs(t, err, errClosed)
		require.NoError(t, d.Close(t.Context()))
		assert.True(t, slices.Contains(s.calls, "nvmlShutdown"))
	})
}

// A writer that replaces the file all the time is never seen half done, by several readers at once.
func TestConcurrentReadsWhileWritten(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		s.write(m)
		d := s.open()
		stop := make(chan struct{})
		var writer, readers sync.WaitGroup
		writer.Go(func() {
			for i := uint(0); ; i = (i + 1) % 101 {
				select {
				case <-stop:
					return
				default:
					m.Devices[0].UtilizationPercent = i
					assert.NoError(t, m.WriteFile(s.file))
				}
			}
		})
		for range 4 {
			readers.Go(func() {
				for range 200 {
					r, err := d.Read(t.Context())
					if err != nil || len(r.Samples) != 2 {
						t.Errorf("%d samples, %v", len(r.Samples), err)
						return
					}
					_, ok := r.Samples[0].Utilization.Get()
					assert.True(t, ok, r.Samples[0].Utilization.Reason())
				}
			})
		}
		readers.Wait()
		close(stop)
		writer.Wait()
	})
}

// BenchmarkRead measures what the package and go-nvml cost on top of the driver: one pass over 8 devices.
func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	library, err := nvmltest.Build(b.Context(), buildFolder())
	require.NoError(b, err)
	m := nvmltest.Machine{Driver: "570.124.06"}
	for i := range 8 {
		m.Devices = append(m.Devices, nvmltest.Device{UUID: "GPU-" + string(rune('a'+i)), Name: "H100", MemoryTotalBytes: 80 * gib})
	}
	file := filepath.Join(dir, "machine")
	require.NoError(b, m.WriteFile(file))
	b.Setenv(nvmltest.FileVariable, file)
	d := Open(Options{Library: library})
	defer func() { require.NoError(b, d.Close(context.Background())) }()
	for b.Loop() {
		_, err := d.Read(b.Context())
		require.NoError(b, err)
	}
}
