//go:build linux && cgo

package nvml

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
	"headroom.dev/headroom/gpu/nvmltest"
)

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
		assert.Equal(t, gpu.Device{UUID: "GPU-a", Name: "NVIDIA H100 80GB HBM3", Minor: gpu.Known(0), BusID: "00000000:01:00.0"}, a.Device)
		assert.Equal(t, gpu.Device{Index: 1, UUID: "GPU-b", Name: "NVIDIA H100 80GB HBM3", Minor: gpu.Known(1), BusID: "00000000:02:00.0"}, b.Device)
		assert.WithinRange(t, a.Time, before, time.Now())
		assert.Equal(t, gpu.Known(0.87), a.Utilization)
		assert.Equal(t, gpu.Known(3*gib), a.Memory.Used, "version 2: without the driver's own")
		assert.Equal(t, gpu.Known(80*gib), a.Memory.Total)
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
		_, err := once(t.Context(), d)
		require.ErrorContains(t, err, "cannot load NVML: "+s.library)
		require.NoError(t, os.Symlink(there, s.library))
		s.eventually(d, "reads once the library is there", func(_ *gpu.Reading, err error) bool { return err == nil })
	})
}

func TestRetriesInit(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		d := s.open()
		_, err := once(t.Context(), d) // there is no file
		require.ErrorContains(t, err, "nvmlInit_v2: Driver Not Loaded (9)")
		m := twoGPUs()
		m.Fault = "error nvmlInit_v2 999"
		s.write(m)
		s.eventually(d, "another reason", func(_ *gpu.Reading, err error) bool {
			return err != nil && assert.ObjectsAreEqual("cannot initialise NVML of "+s.library+": nvmlInit_v2: Unknown Error (999)", err.Error())
		})
		m.Fault = ""
		s.write(m)
		s.eventually(d, "reads once it initialises", func(_ *gpu.Reading, err error) bool { return err == nil })
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
		s.eventually(d, "initialised anew, and the healthy device is read all the while", func(r *gpu.Reading, err error) bool {
			require.NoError(t, err)
			require.Len(t, r.Samples, 2)
			require.Equal(t, gpu.Known(0.87), r.Samples[0].Utilization)
			require.Contains(t, r.Samples[1].Utilization.Reason(), "GPU is lost (15)")
			return r.Samples[1].Device.UUID == ""
		})
		m.Devices[1].Fault = ""
		s.write(m)
		s.eventually(d, "the device is back", func(r *gpu.Reading, err error) bool {
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
		_, err := once(t.Context(), d)
		require.ErrorContains(t, err, "Driver Not Loaded (9)")
		s.eventually(d, "tries to initialise", func(_ *gpu.Reading, err error) bool {
			return err != nil && s.observed("nvmlInit_v2") >= 2
		})
		s.write(twoGPUs())
		s.eventually(d, "reads again", func(_ *gpu.Reading, err error) bool { return err == nil })
	})
}

func TestVersionMismatchNeedsRestart(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Fault = "error * 18"
		s.write(m)
		_, err := once(t.Context(), s.open())
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
		_, err := once(t.Context(), d)
		var overdue *gpu.OverdueError
		require.ErrorAs(t, err, &overdue)
		assert.Equal(t, "nvmlDeviceGetUtilizationRates", overdue.Call)
		assert.WithinRange(t, overdue.Since, began, time.Now())
		assert.GreaterOrEqual(t, time.Since(began), callDeadline)

		again := time.Now()
		_, err = once(t.Context(), d)
		require.ErrorAs(t, err, &overdue)
		assert.Less(t, time.Since(again), callDeadline, "nobody waits for a call that is known to be overdue")

		m.Devices[1].Fault = ""
		s.write(m)
		s.eventually(d, "works again when the call has returned", func(_ *gpu.Reading, err error) bool { return err == nil })
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
		_, err := once(ctx, d)
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
		assert.Equal(t, gpu.Known(3*gib+80*gib/128), a.Memory.Used, "version 1: with the driver's own")
		assert.Equal(t, "nvmlDeviceGetMemoryInfo: NVML error (3)", b.Memory.Used.Reason())
		for _, call := range hidden {
			assert.NotContains(t, s.calls, call)
		}
		assert.Empty(t, s.bad, "not supported is no failure")
	}, hidden...)
}

func TestMissingInitIsNotCalled(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		s.write(twoGPUs())
		_, err := once(t.Context(), s.open())
		require.ErrorContains(t, err, "nvmlInit_v2: not found in the library")
	}, "nvmlInit_v2")
}

func TestCloseDuringHang(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].Fault = "hang nvmlDeviceGetName 1000"
		s.write(m)
		d := s.open()
		_, err := once(t.Context(), d)
		require.Error(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorContains(t, d.Close(ctx), "nvmlDeviceGetName")
		_, err = once(t.Context(), d)
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
					r, err := once(t.Context(), d)
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
	var r gpu.Reading
	for b.Loop() {
		require.NoError(b, d.Read(b.Context(), &r))
	}
}
