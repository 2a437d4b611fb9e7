//go:build linux && cgo

package nvml

import (
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu/nvmltest"
)

// opened initialises the library and returns its first device.
func (s *scenario) opened(m nvmltest.Machine) (nvml.Interface, nvml.Device) {
	s.t.Helper()
	s.write(m)
	lib := nvml.New(nvml.WithLibraryPath(s.library))
	require.Equal(s.t, nvml.SUCCESS, lib.Init())
	d, ret := lib.DeviceGetHandleByIndex(0)
	require.Equal(s.t, nvml.SUCCESS, ret)
	return lib, d
}

func TestLibraryRings(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		_, d := s.opened(m)
		_, _, ret := d.GetSamples(nvml.GPU_UTILIZATION_SAMPLES, 0)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret, "an empty ring")
		_, ret = d.GetProcessUtilization(0)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)

		a := &m.Devices[0]
		a.Ring = []nvmltest.RingSample{{}, {Stamp: 10, Percent: 20}, {Stamp: 20, Percent: 30}}
		a.ProcessSamples = []nvmltest.ProcessSample{{PID: 7, Stamp: 10, SMPercent: 40, MemoryPercent: 5}, {PID: 8, Stamp: 20, SMPercent: 50}}
		s.write(m)
		kind, samples, ret := d.GetSamples(nvml.GPU_UTILIZATION_SAMPLES, 0)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, nvml.VALUE_TYPE_UNSIGNED_INT, kind)
		assert.Len(t, samples, 3, "with the placeholder")
		_, samples, ret = d.GetSamples(nvml.GPU_UTILIZATION_SAMPLES, 10)
		require.Equal(t, nvml.SUCCESS, ret)
		require.Len(t, samples, 1)
		assert.Equal(t, uint64(20), samples[0].TimeStamp)
		_, _, ret = d.GetSamples(nvml.GPU_UTILIZATION_SAMPLES, 20)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)
		_, _, ret = d.GetSamples(nvml.MEMORY_UTILIZATION_SAMPLES, 0)
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
		uses, ret := d.GetProcessUtilization(0)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, []nvml.ProcessUtilizationSample{{Pid: 7, TimeStamp: 10, SmUtil: 40, MemUtil: 5}, {Pid: 8, TimeStamp: 20, SmUtil: 50}}, uses)

		a.Fault = "grow nvmlDeviceGetSamples 1\ngrow nvmlDeviceGetProcessUtilization 1"
		s.write(m)
		_, _, ret = d.GetSamples(nvml.GPU_UTILIZATION_SAMPLES, 0)
		assert.Equal(t, nvml.ERROR_INSUFFICIENT_SIZE, ret)
		assert.Panics(t, func() { _, _ = d.GetProcessUtilization(0) }, "go-nvml slices beyond its buffer")
	})
}

func TestLibraryCounters(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := migGPU()
		m.Devices[1].GPM = []nvmltest.GPMMetric{{ID: 2, Value: 61.5}}
		lib, partitioned := s.opened(m)
		whole, ret := lib.DeviceGetHandleByIndex(1)
		require.Equal(t, nvml.SUCCESS, ret)
		support, ret := whole.GpmQueryDeviceSupport()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, uint32(1), support.IsSupportedDevice)
		first, ret := lib.GpmSampleAlloc()
		require.Equal(t, nvml.SUCCESS, ret)
		second, ret := lib.GpmSampleAlloc()
		require.Equal(t, nvml.SUCCESS, ret)
		get := &nvml.GpmMetricsGetType{NumMetrics: 2, Sample1: first, Sample2: second}
		get.Metrics[0].MetricId, get.Metrics[1].MetricId = 2, 3
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, lib.GpmMetricsGet(get), "nothing was sampled")
		require.Equal(t, nvml.SUCCESS, whole.GpmSampleGet(first))
		time.Sleep(time.Millisecond) // the clock has to move
		require.Equal(t, nvml.SUCCESS, whole.GpmSampleGet(second))
		require.Equal(t, nvml.SUCCESS, lib.GpmMetricsGet(get))
		assert.InDelta(t, 61.5, get.Metrics[0].Value, 0)
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, nvml.Return(get.Metrics[1].NvmlReturn))
		get.Sample1, get.Sample2 = second, first
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, lib.GpmMetricsGet(get), "in the wrong order")
		require.Equal(t, nvml.SUCCESS, partitioned.GpmMigSampleGet(1, first))
		get.Sample1, get.Sample2 = second, first
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, lib.GpmMetricsGet(get), "of different devices")
		assert.Equal(t, nvml.ERROR_NOT_FOUND, partitioned.GpmMigSampleGet(9, first))
		require.Equal(t, nvml.SUCCESS, first.Free())
		require.Equal(t, nvml.SUCCESS, second.Free())
	})
}

func TestLibraryInstances(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := migGPU()
		lib, d := s.opened(m)
		current, pending, ret := d.GetMigMode()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, [2]int{1, 1}, [2]int{current, pending})
		_, ret = d.GetUtilizationRates()
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret, "while MIG is on")
		most, ret := d.GetMaxMigDeviceCount()
		require.Equal(t, nvml.SUCCESS, ret)
		require.GreaterOrEqual(t, most, 7)
		second, ret := d.GetMigDeviceHandleByIndex(1)
		require.Equal(t, nvml.SUCCESS, ret)
		_, ret = d.GetMigDeviceHandleByIndex(2)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)
		is, ret := second.IsMigDeviceHandle()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.True(t, is)
		parent, ret := second.GetDeviceHandleFromMigDeviceHandle()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, d, parent)
		_, ret = d.GetGpuInstanceId()
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret, "of a whole GPU")
		_, ret = second.GetPowerUsage()
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret, "of an instance")
		byUUID, ret := lib.DeviceGetHandleByUUID("MIG-2")
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, second, byUUID)

		other, ret := lib.DeviceGetHandleByIndex(1)
		require.Equal(t, nvml.SUCCESS, ret)
		m.Devices[0].Instances = m.Devices[0].Instances[:1]
		s.write(m)
		_, ret = second.GetName()
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret, "an instance that was destroyed")
		uuid, ret := other.GetUUID()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, "GPU-b", uuid, "handles of other devices stay")
	})
}

func TestLibraryEventsAndAccounts(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].Events = []nvmltest.Event{{Sequence: 3, XID: 31, GPUInstance: 0xFFFFFFFF}}
		lib, d := s.opened(m)
		set, ret := lib.EventSetCreate()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, d.RegisterEvents(nvml.EventTypeClock, set))
		require.Equal(t, nvml.SUCCESS, d.RegisterEvents(nvml.EventTypeXidCriticalError, set))
		began := time.Now()
		_, ret = set.Wait(20)
		assert.Equal(t, nvml.ERROR_TIMEOUT, ret)
		assert.GreaterOrEqual(t, time.Since(began), 20*time.Millisecond)
		m.Devices[0].Events = append(m.Devices[0].Events, nvmltest.Event{Sequence: 4, XID: 79, GPUInstance: 0xFFFFFFFF})
		s.write(m)
		e, ret := set.Wait(0)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, uint64(79), e.EventData)
		assert.Equal(t, d, e.Device)
		require.Equal(t, nvml.SUCCESS, set.Free())

		_, ret = d.GetAccountingStats(7)
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret, "off")
		m.Devices[0].Accounting, m.Devices[0].AccountingOn = []nvmltest.Account{{PID: 7, MaxMemoryBytes: 5, Running: true}}, true
		s.write(m)
		mode, ret := d.GetAccountingMode()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, nvml.FEATURE_ENABLED, mode)
		pids, ret := d.GetAccountingPids()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, []int{7}, pids)
		account, ret := d.GetAccountingStats(7)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, uint64(5), account.MaxMemoryUsage)
		_, ret = d.GetAccountingStats(8)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)
		fields := []nvml.FieldValue{{FieldId: 230}, {FieldId: 1}}
		m.Devices[0].Fields = []nvmltest.Field{{ID: 230, Value: 2}}
		s.write(m)
		require.Equal(t, nvml.SUCCESS, d.GetFieldValues(fields))
		assert.Equal(t, nvml.SUCCESS, nvml.Return(fields[0].NvmlReturn))
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, nvml.Return(fields[1].NvmlReturn))
	})
}
