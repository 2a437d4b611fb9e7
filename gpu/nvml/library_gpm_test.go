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

// gpmSample returns a new sample, filled by get if that is not nil.
func gpmSample(s *scenario, lib nvml.Interface, get func(nvml.GpmSample) nvml.Return) nvml.GpmSample {
	s.t.Helper()
	sample, ret := lib.GpmSampleAlloc()
	require.Equal(s.t, nvml.SUCCESS, ret)
	if get != nil {
		require.Equal(s.t, nvml.SUCCESS, get(sample))
	}
	return sample
}

func gpmMetrics(lib nvml.Interface, a, b nvml.GpmSample, ids ...uint32) ([]nvml.GpmMetric, nvml.Return) {
	get := &nvml.GpmMetricsGetType{NumMetrics: uint32(len(ids)), Sample1: a, Sample2: b}
	for i, id := range ids {
		get.Metrics[i].MetricId = id
	}
	get.Metrics[len(ids)].NvmlReturn = 77
	ret := lib.GpmMetricsGet(get)
	if get.Metrics[len(ids)].NvmlReturn != 77 {
		return nil, nvml.ERROR_UNKNOWN // written past the last
	}
	return get.Metrics[:len(ids)], ret
}

func TestLibraryServesGPM(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].GPM = []nvmltest.GPMMetric{{ID: 2, Value: 10}, {ID: 248, Value: 1e18}, {ID: 5, Value: math.NaN()}}
		lib := initialised(s, m)
		a, b := deviceAt(s, lib, 0), deviceAt(s, lib, 1)
		for device, want := range map[nvml.Device][2]int{a: {1, 9}, b: {0, 8}} {
			support, ret := device.GpmQueryDeviceSupport()
			require.Equal(t, nvml.SUCCESS, ret)
			major, _, ret := device.GetCudaComputeCapability()
			require.Equal(t, nvml.SUCCESS, ret)
			assert.Equal(t, want, [2]int{int(support.IsSupportedDevice), major})
		}
		empty := gpmSample(s, lib, nil)
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, b.GpmSampleGet(empty))
		first := gpmSample(s, lib, a.GpmSampleGet)
		m.Devices[0].GPM[0].Value = 20
		s.write(m)
		second := gpmSample(s, lib, a.GpmSampleGet)
		m.Devices[0].GPM[0].Value = 30
		s.write(m)

		metrics, ret := gpmMetrics(lib, first, second, 2, 3, 248, 5)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, 20.0, metrics[0].Value, "when the second sample was taken")
		assert.Equal(t, 1e18, metrics[2].Value)
		assert.True(t, math.IsNaN(metrics[3].Value))
		for i, want := range []nvml.Return{nvml.SUCCESS, nvml.ERROR_NOT_SUPPORTED, nvml.SUCCESS, nvml.SUCCESS} {
			assert.Equal(t, want, nvml.Return(metrics[i].NvmlReturn))
		}
		require.Equal(t, nvml.SUCCESS, a.GpmSampleGet(first))
		metrics, ret = gpmMetrics(lib, second, first, 2)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, 30.0, metrics[0].Value, "samples are used again, in turn")

		m.Devices[1].GPM = m.Devices[0].GPM
		s.write(m)
		other := gpmSample(s, lib, b.GpmSampleGet)
		for why, pair := range map[string][2]nvml.GpmSample{
			"the wrong way round": {first, second}, "the same": {first, first}, "never taken": {empty, second}, "of two devices": {first, other},
		} {
			_, ret = gpmMetrics(lib, pair[0], pair[1], 2)
			assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret, why)
		}
		tooMany := &nvml.GpmMetricsGetType{NumMetrics: 478, Sample1: second, Sample2: first}
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, lib.GpmMetricsGet(tooMany))

		require.Equal(t, nvml.SUCCESS, first.Free())
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, first.Free(), "twice")
		_, ret = gpmMetrics(lib, second, first, 2)
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret, "freed")
		for range 1152 - 3 {
			gpmSample(s, lib, nil)
		}
		_, ret = lib.GpmSampleAlloc()
		assert.Equal(t, nvml.ERROR_MEMORY, ret, "a leak shows")
	})
}

func TestLibraryServesGPMOfInstances(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := migGPU()
		lib := initialised(s, m)
		plain, gpu := deviceAt(s, lib, 0), deviceAt(s, lib, 1)
		of := func(id int) func(nvml.GpmSample) nvml.Return {
			return func(sample nvml.GpmSample) nvml.Return { return gpu.GpmMigSampleGet(id, sample) }
		}
		a, b, other := gpmSample(s, lib, of(9)), gpmSample(s, lib, of(9)), gpmSample(s, lib, of(2))
		metrics, ret := gpmMetrics(lib, a, b, 2)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, 12.5, metrics[0].Value)
		_, ret = gpmMetrics(lib, a, other, 2)
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret, "of two instances")

		instance, ret := gpu.GetMigDeviceHandleByIndex(1)
		require.Equal(t, nvml.SUCCESS, ret)
		metrics, ret = gpmMetrics(lib, other, gpmSample(s, lib, instance.GpmSampleGet), 2)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, 99.0, metrics[0].Value)
		support, ret := instance.GpmQueryDeviceSupport()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, uint32(1), support.IsSupportedDevice)

		assert.Equal(t, nvml.ERROR_NOT_FOUND, of(1)(a))
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, gpu.GpmSampleGet(a), "the device has none of its own")
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, plain.GpmMigSampleGet(9, a))
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, instance.GpmMigSampleGet(9, a))
		m.Devices[1].Instances[0].Fault = "error nvmlGpmMigSampleGet 16"
		s.write(m)
		assert.Equal(t, nvml.ERROR_RESET_REQUIRED, of(9)(a))
		assert.Equal(t, nvml.SUCCESS, of(2)(a))
	})
}
