//go:build linux && cgo

package nvml

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
	"headroom.dev/headroom/gpu/nvmltest"
)

// ring is n samples, a seventh of a second apart, that end at the last stamp.
func ring(last uint64, percents ...uint) []nvmltest.RingSample {
	var out []nvmltest.RingSample
	for i, p := range percents {
		out = append(out, nvmltest.RingSample{Stamp: last - uint64(len(percents)-1-i)*142_857, Percent: p})
	}
	return out
}

func ratios(s *gpu.Sample) (out []float64) {
	for _, p := range s.Ring {
		out = append(out, p.Ratio)
	}
	return out
}

func TestRingIsReadOnce(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		a := &m.Devices[0]
		a.Ring = ring(5e6, 10, 20, 30)
		s.write(m)
		d := s.open()
		first := s.read(d)
		assert.Empty(t, first.Samples[0].Ring, "what was there before may be of any age")
		assert.Equal(t, gpu.Known(0.87), first.Samples[0].Utilization, "the instantaneous rate in its place")
		assert.Equal(t, gpu.Known(0), first.Samples[1].Utilization, "an idle GPU's ring is empty")

		a.Ring = append(append([]nvmltest.RingSample{{}}, ring(5e6, 10, 20, 30)[1:]...), ring(6e6, 40, 50)...) // wrapped, with a placeholder
		s.write(m)
		r := s.read(d)
		assert.Equal(t, []float64{0.4, 0.5}, ratios(&r.Samples[0]))
		assert.Equal(t, uint64(6e6), r.Samples[0].Ring[1].Stamp)
		assert.Empty(t, s.read(d).Samples[0].Ring, "nothing is new")

		m.Devices[1].Ring = ring(3e6, 70) // by a clock that is behind the other device's
		s.write(m)
		r = s.read(d)
		assert.Equal(t, []float64{0.7}, ratios(&r.Samples[1]), "each device has a cursor of its own")
		a.Ring = ring(8e6, 101, 60)
		a.Fault = "grow nvmlDeviceGetSamples 1"
		s.write(m)
		r = s.read(d)
		assert.Equal(t, gpu.Known(0.87), r.Samples[0].Utilization, "a ring that grows all the time cannot be read")
		a.Fault = ""
		s.write(m)
		r = s.read(d)
		assert.Equal(t, []float64{0.6}, ratios(&r.Samples[0]), "and loses nothing; what is no percentage is left out")
		assert.Empty(t, s.bad)
	})
}

func TestProcesses(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		a := &m.Devices[0]
		a.Processes = []nvmltest.Process{{PID: 11, MemoryBytes: 3 * gib}, {PID: 12, MemoryUnknown: true}, {PID: 13, MemoryBytes: gib, MPS: true}}
		a.ProcessSamples = []nvmltest.ProcessSample{{PID: 9, Stamp: 1e6, SMPercent: 50}}
		s.write(m)
		d := s.open()
		r := s.read(d)
		list := r.Samples[0].Processes
		require.Len(t, list, 3)
		assert.Equal(t, gpu.Known(3*gib), list[0].Memory)
		assert.Equal(t, "the driver does not know the process's memory", list[1].Memory.Reason())
		assert.Equal(t, "accounting mode is off", list[0].PeakMemory.Reason())
		assert.Equal(t, uint32(13), list[2].PID, "an MPS client")
		assert.Empty(t, r.Samples[0].ProcessRing, "of processes that are long gone")
		assert.Empty(t, r.Samples[1].Processes)
		assert.Empty(t, r.Samples[1].ProcessFail, "none is known")

		a.ProcessSamples = append(a.ProcessSamples, nvmltest.ProcessSample{PID: 11, Stamp: 2e6, SMPercent: 70},
			nvmltest.ProcessSample{PID: 12, Stamp: 2.1e6, SMPercent: 30}, nvmltest.ProcessSample{Stamp: 2.2e6, SMPercent: 30})
		a.Accounting, a.AccountingOn = []nvmltest.Account{{PID: 11, MaxMemoryBytes: 5 * gib, Running: true}}, true
		s.write(m)
		r = s.read(d)
		assert.Equal(t, []gpu.ProcessUse{{PID: 11, Stamp: 2e6, SM: 0.7}, {PID: 12, Stamp: 2.1e6, SM: 0.3}}, r.Samples[0].ProcessRing)
		assert.Equal(t, gpu.Known(5*gib), r.Samples[0].Processes[0].PeakMemory)
		assert.Contains(t, r.Samples[0].Processes[1].PeakMemory.Reason(), "nvmlDeviceGetAccountingStats")
		assert.Empty(t, s.read(d).Samples[0].ProcessRing, "each once")

		for pid := uint32(100); pid < 161; pid++ {
			a.Processes = append(a.Processes, nvmltest.Process{PID: pid, MemoryBytes: 1 << 20})
			a.ProcessSamples = append(a.ProcessSamples, nvmltest.ProcessSample{PID: pid, Stamp: 3e6, SMPercent: 1})
		}
		a.Fault = "grow nvmlDeviceGetProcessUtilization 5" // go-nvml panics
		s.write(m)
		r = s.read(d)
		assert.Len(t, r.Samples[0].Processes, 64)
		assert.Empty(t, r.Samples[0].ProcessRing)
		a.Fault = "error nvmlDeviceGetComputeRunningProcesses_v3 4"
		s.write(m)
		r = s.read(d)
		assert.Len(t, r.Samples[0].ProcessRing, 61, "nothing is lost")
		assert.Equal(t, "nvmlDeviceGetComputeRunningProcesses_v3: Insufficient Permissions (4)", r.Samples[0].ProcessFail)
	})
}

func TestCounters(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].GPM = []nvmltest.GPMMetric{{ID: 1, Value: 90}, {ID: 2, Value: 60.5}, {ID: 3, Value: 25}, {ID: 5, Value: 30}, {ID: 10, Value: 100.05}, {ID: 20, Value: 2}, {ID: 60, Value: -1}}
		s.write(m)
		d := s.open()
		began := time.Now()
		first := s.read(d).Samples
		assert.Equal(t, "the first sample of the counters", first[0].Activity.SM.Reason())
		assert.Contains(t, first[1].Activity.SM.Reason(), "Hopper")
		if soon := s.read(d).Samples[0].Activity; time.Since(began) < minCounted {
			assert.Equal(t, "the first sample of the counters", soon.SM.Reason(), "too soon for the driver")
		}
		s.eventually(d, "counters", func(r *gpu.Reading, err error) bool {
			require.NoError(t, err)
			return r.Samples[0].Activity.SM == gpu.Known(0.605)
		})
		a := s.read(d).Samples[0].Activity
		assert.Equal(t, gpu.Known(0.9), a.Graphics)
		assert.Equal(t, gpu.Known(0.25), a.Occupancy)
		assert.Equal(t, gpu.Known(0.3), a.Tensor)
		dram, _ := a.DRAM.Get()
		assert.InDelta(t, 1, dram, 0.001)
		assert.Equal(t, gpu.Known(2<<20), a.PCIeSent)
		assert.Equal(t, "nvmlGpmMetricsGet: Not Supported (3)", a.ContextSwitch.Reason(), "metric by metric")
		assert.Equal(t, "nvmlGpmMetricsGet returned what cannot be", a.LinkReceived.Reason())
		assert.Empty(t, s.bad)
	})
}

func TestConditions(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		a := &m.Devices[0]
		a.PowerMilliwatts, a.PowerLimitMilliwatts, a.TemperatureCelsius, a.SMClockMHz, a.MemoryClockMHz, a.ClockReasons = 412_500, 700_000, 61, 1980, 2619, 4
		a.Fields = []nvmltest.Field{{ID: 83, Value: 5000}, {ID: 94, Value: 3}, {ID: 38, Value: 1}, {ID: 45, Value: 2}, {ID: 142, Value: 1}, {ID: 143, Value: 1}, {ID: 230, Value: 1}}
		s.write(m)
		d := s.open()
		c := s.read(d).Samples[0].Condition
		assert.WithinDuration(t, time.Now(), c.Time, time.Minute)
		for name, pair := range map[string][2]gpu.Value{
			"power": {gpu.Known(412.5), c.Power}, "limit": {gpu.Known(700), c.PowerLimit}, "energy": {gpu.Known(5), c.Energy},
			"temperature": {gpu.Known(61), c.Temperature}, "SM clock": {gpu.Known(1.98e9), c.SMClock}, "memory clock": {gpu.Known(2.619e9), c.MemoryClock},
			"reasons": {gpu.Known(4), c.ClockReasons}, "replays": {gpu.Known(3), c.PCIeReplays}, "CRC": {gpu.Known(3), c.LinkCRCErrors},
			"remapped": {gpu.Known(2), c.RemappedRows}, "recovery": {gpu.Known(1), c.RecoveryAction},
		} {
			assert.Equal(t, pair[0], pair[1], name)
		}
		assert.Equal(t, "nvmlDeviceGetFieldValues: Not Supported (3)", c.ECCUncorrected.Reason(), "field by field")

		require.NoError(t, d.Close(t.Context()))
		rarely := Open(Options{Library: s.library, Slow: time.Hour})
		s.read(rarely)
		a.TemperatureCelsius = 70
		s.write(m)
		assert.Equal(t, gpu.Known(61), s.read(rarely).Samples[0].Condition.Temperature, "read rarely")
		require.NoError(t, rarely.Close(t.Context()))
		s.eventually(s.open(), "but read", func(r *gpu.Reading, err error) bool {
			require.NoError(t, err)
			return r.Samples[0].Condition.Temperature == gpu.Known(70)
		})
	})
}

func TestEvents(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[1].Events = []nvmltest.Event{{Sequence: 1, XID: 79, GPUInstance: math.MaxUint32}}
		s.write(m)
		d := s.open()
		assert.Empty(t, s.read(d).Events, "of before")
		m.Devices[1].Events = append(m.Devices[1].Events, nvmltest.Event{Sequence: 2, XID: 63, GPUInstance: math.MaxUint32})
		m.Devices[1].Fields = []nvmltest.Field{{ID: 230, Value: 2}}
		s.write(m)
		r := s.read(d)
		require.Len(t, r.Events, 1)
		assert.Equal(t, gpu.Event{UUID: "GPU-b", XID: 63, Kind: "xid", Time: r.Events[0].Time}, r.Events[0])
		assert.Equal(t, gpu.Known(2), r.Samples[1].Condition.RecoveryAction, "read at once after an event")
		assert.Empty(t, s.read(d).Events)
		for i := range uint64(100) {
			m.Devices[0].Events = append(m.Devices[0].Events, nvmltest.Event{Sequence: 1 + i, XID: 31, GPUInstance: math.MaxUint32})
		}
		m.Devices[0].Events = m.Devices[0].Events[:min(len(m.Devices[0].Events), 64)]
		s.write(m)
		total := 0
		s.eventually(d, "a storm is taken a part at a time", func(r *gpu.Reading, err error) bool {
			require.NoError(t, err)
			total += len(r.Events)
			return total == len(m.Devices[0].Events)
		})
	})
}

func partitionedGPU() nvmltest.Machine {
	m := twoGPUs()
	m.Devices[0].MIG = true
	m.Devices[0].GPM = []nvmltest.GPMMetric{{ID: 1, Value: 50}}
	m.Devices[0].Instances = []nvmltest.Instance{
		{
			UUID: "MIG-1", Name: "NVIDIA H100 80GB HBM3 MIG 3g.40gb", GPUInstance: 1, MemoryTotalBytes: 40 * gib, MemoryUsedBytes: 7 * gib,
			Processes: []nvmltest.Process{{PID: 21, MemoryBytes: 6 * gib}}, GPM: []nvmltest.GPMMetric{{ID: 1, Value: 80}, {ID: 2, Value: 40}},
		},
		{UUID: "MIG-2", Name: "NVIDIA H100 80GB HBM3", GPUInstance: 2, ComputeInstance: 0, Slices: 2, MemoryTotalBytes: 20 * gib},
	}
	return m
}

func TestInstances(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := partitionedGPU()
		s.write(m)
		d := s.open()
		r := s.read(d)
		require.Len(t, r.Samples, 4)
		whole, first, second := &r.Samples[0], &r.Samples[1], &r.Samples[2]
		assert.True(t, whole.Device.Partitioned)
		assert.True(t, whole.Device.Whole())
		assert.Equal(t, gpu.Instance{Parent: "GPU-a", GPU: 1, Profile: "3g.40gb"}, first.Device.Instance)
		assert.Equal(t, gpu.Instance{Parent: "GPU-a", GPU: 2, Profile: "2g.20gb"}, second.Device.Instance, "made from its attributes")
		assert.Equal(t, gpu.Known(7*gib), first.Memory.Used)
		require.Len(t, first.Processes, 1)
		assert.Equal(t, uint32(21), first.Processes[0].PID)
		assert.Equal(t, "GPU-b", r.Samples[3].Device.UUID)
		s.eventually(d, "counters of GPU and instance", func(r *gpu.Reading, err error) bool {
			require.NoError(t, err)
			return r.Samples[0].Utilization == gpu.Known(0.5) && r.Samples[1].Utilization == gpu.Known(0.8) && r.Samples[1].Activity.SM == gpu.Known(0.4)
		})

		m.Devices[0].Instances = append(m.Devices[0].Instances, nvmltest.Instance{
			UUID: "MIG-3", Name: "NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb", GPUInstance: 1, ComputeInstance: 1, MemoryTotalBytes: 40 * gib, MemoryUsedBytes: 7 * gib,
		})
		s.write(m)
		s.eventually(d, "two compute instances in one GPU instance", func(r *gpu.Reading, err error) bool {
			require.NoError(t, err)
			return len(r.Samples) == 5
		})
		for _, sample := range s.read(d).Samples {
			crowded := sample.Device.Instance.GPU == 1 && !sample.Device.Whole()
			assert.Equal(t, crowded, strings.Contains(sample.Memory.Used.Reason(), "several compute instances"), sample.Device.UUID)
		}

		m.Devices[0].Instances = []nvmltest.Instance{{UUID: "MIG-7", Name: "NVIDIA H100 80GB HBM3 MIG 7g.80gb", MemoryTotalBytes: 80 * gib}}
		s.write(m)
		s.eventually(d, "the new layout", func(r *gpu.Reading, err error) bool {
			require.NoError(t, err)
			return len(r.Samples) == 3 && r.Samples[1].Device.UUID == "MIG-7"
		})
		m.Devices[0].MIG, m.Devices[0].Instances = false, nil
		s.write(m)
		s.eventually(d, "MIG off", func(r *gpu.Reading, err error) bool {
			require.NoError(t, err)
			return len(r.Samples) == 2 && r.Samples[0].Utilization == gpu.Known(0.87)
		})
		assert.Equal(t, 1, s.observed("nvmlInit_v2"))
	})
}

func TestRelease(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := partitionedGPU()
		s.write(m)
		d := s.open()
		require.NoError(t, d.Release(t.Context()), "there is nothing to give back yet")
		s.read(d)
		require.NoError(t, d.Release(t.Context()))
		assert.Equal(t, 1, s.observed("nvmlShutdown"))
		assert.Equal(t, s.observed("nvmlGpmSampleAlloc"), s.observed("nvmlGpmSampleFree"))
		assert.Equal(t, s.observed("nvmlEventSetCreate"), s.observed("nvmlEventSetFree"))
		r := s.read(d)
		assert.Len(t, r.Samples, 4)
		assert.Equal(t, 2, r.Session)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, d.Release(ctx), context.Canceled)
	})
}

// An old driver: no counters, no fields, no events, no processes of the newer kinds, no MIG.
func TestOldDriver(t *testing.T) {
	hidden := []string{
		"nvmlGpmQueryDeviceSupport", "nvmlGpmSampleGet", "nvmlGpmMigSampleGet", "nvmlGpmMetricsGet", "nvmlGpmSampleAlloc", "nvmlGpmSampleFree",
		"nvmlDeviceGetFieldValues", "nvmlEventSetCreate", "nvmlEventSetWait_v2", "nvmlDeviceGetComputeRunningProcesses_v3",
		"nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses", "nvmlDeviceGetMPSComputeRunningProcesses_v2",
		"nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMigMode", "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetSamples",
		"nvmlDeviceGetProcessUtilization", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetAccountingMode",
	}
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].Processes = []nvmltest.Process{{PID: 11, MemoryBytes: gib}}
		m.Devices[0].ClockReasons = 8
		s.write(m)
		d := s.open()
		s.read(d)
		a := s.read(d).Samples[0]
		assert.Equal(t, gpu.Known(0.87), a.Utilization)
		assert.Equal(t, gpu.Known(8), a.Condition.ClockReasons, "by its former name")
		require.Len(t, a.Processes, 1, "by the first form")
		assert.Equal(t, gpu.Known(gib), a.Processes[0].Memory)
		assert.Equal(t, "nvmlGpmSampleGet: not found in the library (13)", a.Activity.SM.Reason())
		assert.Equal(t, "nvmlDeviceGetFieldValues: not found in the library (13)", a.Condition.RecoveryAction.Reason())
		for _, call := range hidden {
			assert.Zero(t, s.observed(call), call)
		}
		assert.Empty(t, s.bad)
	}, hidden...)
}

// A pass over what does not change, into memory that was used before, costs what go-nvml costs.
func TestReadAllocatesLittle(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		s.write(m)
		d := Open(Options{Library: s.library})
		defer func() { require.NoError(t, d.Close(context.Background())) }()
		var r gpu.Reading
		read := func() { require.NoError(t, d.Read(t.Context(), &r)) }
		for range 10 {
			read()
		}
		perPass := testing.AllocsPerRun(200, read)
		t.Logf("%.1f allocations", perPass)
		// go-nvml: the count, and of each device rates, memory, size of the ring, type of its values, processes' count; EventSetWait.
		assert.LessOrEqual(t, perPass, 20.0)
	})
}
