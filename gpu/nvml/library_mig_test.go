//go:build linux && cgo

package nvml

import (
	"math"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu/nvmltest"
)

// migGPU is twoGPUs whose second has two instances.
func migGPU() nvmltest.Machine {
	m := twoGPUs()
	d := &m.Devices[1]
	d.MIG = true
	d.UtilizationPercent = 50
	d.Ring = []nvmltest.RingSample{{Stamp: 1}}
	d.ProcessSamples = []nvmltest.ProcessSample{{Stamp: 1}}
	d.Processes = []nvmltest.Process{{PID: 1}}
	d.Instances = []nvmltest.Instance{
		{
			UUID: "MIG-a", Name: "H100 MIG 1g.10gb", GPUInstance: 9, Slices: 1, MemoryTotalBytes: 10 * gib, MemoryUsedBytes: gib,
			Processes: []nvmltest.Process{{PID: 2, MemoryBytes: gib}, {PID: 3, MPS: true}},
			GPM:       []nvmltest.GPMMetric{{ID: 2, Value: 12.5}},
		},
		{
			UUID: "MIG-b", Name: "H100 MIG 3g.40gb", GPUInstance: 2, ComputeInstance: 1, Slices: 3, MemoryTotalBytes: 40 * gib,
			GPM: []nvmltest.GPMMetric{{ID: 2, Value: 99}},
		},
	}
	return m
}

func TestLibraryServesInstances(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := migGPU()
		lib := initialised(s, m)
		gpu := deviceAt(s, lib, 1)
		current, pending, ret := gpu.GetMigMode()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, []int{nvml.DEVICE_MIG_ENABLE, nvml.DEVICE_MIG_ENABLE}, []int{current, pending})
		most, ret := gpu.GetMaxMigDeviceCount()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, 8, most)
		_, ret = gpu.GetMigDeviceHandleByIndex(2)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)
		_, ret = gpu.GetMigDeviceHandleByIndex(8)
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret)

		for i, want := range m.Devices[1].Instances {
			handle, ret := gpu.GetMigDeviceHandleByIndex(i)
			require.Equal(t, nvml.SUCCESS, ret)
			describes(t, want, handle)
			parent, ret := handle.GetDeviceHandleFromMigDeviceHandle()
			require.Equal(t, nvml.SUCCESS, ret)
			sameHandle(t, gpu, parent)
			byUUID, ret := lib.DeviceGetHandleByUUID(want.UUID)
			require.Equal(t, nvml.SUCCESS, ret)
			sameHandle(t, handle, byUUID)
		}
		is, ret := gpu.IsMigDeviceHandle()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.False(t, is)
		_, ret = gpu.GetGpuInstanceId()
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
		_, ret = gpu.GetAttributes()
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
		_, ret = gpu.GetDeviceHandleFromMigDeviceHandle()
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)

		other := deviceAt(s, lib, 0)
		current, _, ret = other.GetMigMode()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, nvml.DEVICE_MIG_DISABLE, current)
		most, ret = other.GetMaxMigDeviceCount()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Zero(t, most)
		_, ret = other.GetMigDeviceHandleByIndex(0)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)
	})
}

func describes(t *testing.T, want nvmltest.Instance, handle nvml.Device) {
	t.Helper()
	got := nvmltest.Instance{Processes: want.Processes, GPM: want.GPM}
	var ret [7]nvml.Return
	var is bool
	var id int
	var memory nvml.Memory_v2
	var attributes nvml.DeviceAttributes
	got.UUID, ret[0] = handle.GetUUID()
	got.Name, ret[1] = handle.GetName()
	id, ret[2] = handle.GetGpuInstanceId()
	got.GPUInstance = uint(id)
	id, ret[3] = handle.GetComputeInstanceId()
	got.ComputeInstance = uint(id)
	memory, ret[4] = handle.GetMemoryInfo_v2()
	got.MemoryTotalBytes, got.MemoryUsedBytes = memory.Total, memory.Used
	attributes, ret[5] = handle.GetAttributes()
	got.Slices = uint(attributes.GpuInstanceSliceCount)
	is, ret[6] = handle.IsMigDeviceHandle()
	assert.Equal(t, [7]nvml.Return{}, ret)
	assert.Equal(t, want, got)
	assert.True(t, is)
	assert.Equal(t, want.MemoryTotalBytes>>20, attributes.MemorySizeMB)
	v1, first := handle.GetMemoryInfo()
	assert.Equal(t, nvml.SUCCESS, first)
	assert.Equal(t, want.MemoryTotalBytes, v1.Total)
}

func TestLibraryRefusesWhatMIGLacks(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := migGPU()
		lib := initialised(s, m)
		gpu := deviceAt(s, lib, 1)
		instance, ret := gpu.GetMigDeviceHandleByIndex(0)
		require.Equal(t, nvml.SUCCESS, ret)
		for _, d := range []nvml.Device{gpu, instance} {
			_, ret = d.GetUtilizationRates()
			assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
			_, _, ret = d.GetSamples(nvml.GPU_UTILIZATION_SAMPLES, 0)
			assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
			_, ret = d.GetProcessUtilization(0)
			assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
		}
		_, ret = instance.GetPowerUsage()
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
		_, ret = instance.GetMinorNumber()
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
		_, ret = instance.GetPciInfo()
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret, "nvml.h lists no NOT_SUPPORTED")
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, instance.GetFieldValues(make([]nvml.FieldValue, 1)))

		processes := func(d nvml.Device) (pids []uint32, instances []uint32) {
			list, ret := d.GetComputeRunningProcesses()
			require.Equal(t, nvml.SUCCESS, ret)
			for _, p := range list {
				pids, instances = append(pids, p.Pid), append(instances, p.GpuInstanceId)
			}
			return pids, instances
		}
		pids, instances := processes(gpu)
		assert.Equal(t, []uint32{1, 2}, pids, "of all instances")
		assert.Equal(t, []uint32{math.MaxUint32, 9}, instances)
		pids, instances = processes(instance)
		assert.Equal(t, []uint32{2}, pids)
		assert.Equal(t, []uint32{9}, instances)

		m.Devices[1].Instances[0].Fault = "error nvmlDeviceGetName 4"
		s.write(m)
		_, ret = instance.GetName()
		assert.Equal(t, nvml.ERROR_NO_PERMISSION, ret)
		_, ret = gpu.GetName()
		assert.Equal(t, nvml.SUCCESS, ret, "not the instance's alone")
		m.Devices[1].Fault = "error * 15"
		m.Devices[1].Instances[0].Fault = ""
		s.write(m)
		_, ret = instance.GetName()
		assert.Equal(t, nvml.ERROR_GPU_IS_LOST, ret, "with its GPU")
		m.Devices[1].Fault = ""
		m.Devices[1].Instances = nil
		s.write(m)
		_, ret = instance.GetName()
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret, "destroyed")
	})
}
