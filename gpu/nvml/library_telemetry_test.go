//go:build linux && cgo

package nvml

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu/nvmltest"
)

func TestLibraryServesTheRing(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		ring := []nvmltest.RingSample{{}, {}, {Stamp: 100, Percent: 10}, {Stamp: 200, Percent: 255}}
		m.Devices[0].Ring = ring
		lib := initialised(s, m)
		a := deviceAt(s, lib, 0)
		read := func(last uint64) ([]nvmltest.RingSample, nvml.Return) {
			kind, samples, ret := a.GetSamples(nvml.GPU_UTILIZATION_SAMPLES, last)
			if ret != nvml.SUCCESS {
				return nil, ret
			}
			assert.Equal(t, nvml.VALUE_TYPE_UNSIGNED_INT, kind)
			out := []nvmltest.RingSample{}
			for _, v := range samples {
				out = append(out, nvmltest.RingSample{Stamp: v.TimeStamp, Percent: uint(binary.NativeEndian.Uint32(v.SampleValue[:]))})
			}
			return out, ret
		}
		all, ret := read(0)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, ring, all, "with the placeholders")
		some, ret := read(100)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, ring[3:], some)
		_, ret = read(200)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)

		m.Devices[0].Ring = []nvmltest.RingSample{{Stamp: 300, Percent: 1}, {Stamp: 400, Percent: 2}}
		s.write(m)
		some, ret = read(200)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Len(t, some, 2, "it went round")

		m.Devices[0].Fault = "grow nvmlDeviceGetSamples 1"
		s.write(m)
		_, ret = read(200)
		assert.Equal(t, nvml.ERROR_INSUFFICIENT_SIZE, ret)
		m.Devices[0].Fault = "grow * 2"
		s.write(m)
		_, ret = read(200)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)

		_, _, ret = deviceAt(s, lib, 1).GetSamples(nvml.GPU_UTILIZATION_SAMPLES, 0)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret, "idle")
		_, _, ret = a.GetSamples(nvml.TOTAL_POWER_SAMPLES, 0)
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
	})
}

func TestLibraryServesProcessUtilization(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].ProcessSamples = []nvmltest.ProcessSample{
			{PID: 7, Stamp: 100, SMPercent: 1, MemoryPercent: 2}, {PID: 8, Stamp: 200, SMPercent: 3}, {PID: 9},
		}
		lib := initialised(s, m)
		a := deviceAt(s, lib, 0)
		all, ret := a.GetProcessUtilization(0)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, []nvml.ProcessUtilizationSample{
			{Pid: 7, TimeStamp: 100, SmUtil: 1, MemUtil: 2}, {Pid: 8, TimeStamp: 200, SmUtil: 3}, {Pid: 9},
		}, all)
		some, ret := a.GetProcessUtilization(100)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, all[1:2], some)
		_, ret = a.GetProcessUtilization(200)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)
		_, ret = deviceAt(s, lib, 1).GetProcessUtilization(0)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)

		m.Devices[0].Fault = "grow nvmlDeviceGetProcessUtilization 1"
		s.write(m)
		assert.Panics(t, func() { _, _ = a.GetProcessUtilization(0) }, "go-nvml's, when the count grows between its two calls")
	})
}

func TestLibraryServesSensors(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		d := &m.Devices[0]
		d.BusID = "0001F0A0:B7:1F.0"
		d.PowerMilliwatts, d.PowerLimitMilliwatts, d.TemperatureCelsius = 350_000, 700_000, 61
		d.SMClockMHz, d.MemoryClockMHz, d.ClockReasons = 1980, 2619, 1<<40|4
		lib := initialised(s, m)
		a, b := deviceAt(s, lib, 0), deviceAt(s, lib, 1)
		numbers := map[uint32]func() (uint32, nvml.Return){
			350_000: a.GetPowerUsage,
			700_000: a.GetEnforcedPowerLimit,
			61:      func() (uint32, nvml.Return) { return a.GetTemperature(nvml.TEMPERATURE_GPU) },
			1980:    func() (uint32, nvml.Return) { return a.GetClockInfo(nvml.CLOCK_SM) },
			2619:    func() (uint32, nvml.Return) { return a.GetClockInfo(nvml.CLOCK_MEM) },
			0:       b.GetPowerUsage,
		}
		for want, get := range numbers {
			got, ret := get()
			require.Equal(t, nvml.SUCCESS, ret)
			assert.Equal(t, want, got)
		}
		for _, get := range []func() (uint64, nvml.Return){a.GetCurrentClocksEventReasons, a.GetCurrentClocksThrottleReasons} {
			mask, ret := get()
			require.Equal(t, nvml.SUCCESS, ret)
			assert.Equal(t, d.ClockReasons, mask)
		}
		_, ret := a.GetClockInfo(nvml.CLOCK_VIDEO)
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
		_, ret = a.GetClockInfo(nvml.CLOCK_COUNT)
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret)
		_, ret = a.GetTemperature(1)
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
		_, ret = a.GetTemperature(2)
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret)

		pci, ret := a.GetPciInfo()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, d.BusID, text(pci.BusId[:]))
		assert.Equal(t, "F0A0:B7:1F.0", text(pci.BusIdLegacy[:]))
		assert.Equal(t, []uint32{0x1F0A0, 0xB7, 0x1F, 0x10DE}, []uint32{pci.Domain, pci.Bus, pci.Device, pci.PciDeviceId})
		pci, ret = b.GetPciInfo()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, "00000000:02:00.0", text(pci.BusId[:]))
	})
}

func text[T int8 | uint8](from []T) string {
	var out []byte
	for _, c := range from {
		if c == 0 {
			break
		}
		out = append(out, byte(c))
	}
	return string(out)
}

func TestLibraryServesFields(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].Fields = []nvmltest.Field{{ID: nvml.FI_DEV_GET_GPU_RECOVERY_ACTION, Value: 1<<63 + 2}, {ID: 82}}
		a := deviceAt(s, initialised(s, m), 0)
		values := []nvml.FieldValue{{FieldId: 1}, {FieldId: nvml.FI_DEV_GET_GPU_RECOVERY_ACTION, ScopeId: 3}, {FieldId: 82}}
		before := time.Now().Add(-time.Millisecond)
		require.Equal(t, nvml.SUCCESS, a.GetFieldValues(values))
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, nvml.Return(values[0].NvmlReturn))
		for i, want := range []uint64{1<<63 + 2, 0} {
			v := values[1+i]
			assert.Equal(t, nvml.SUCCESS, nvml.Return(v.NvmlReturn))
			assert.Equal(t, nvml.VALUE_TYPE_UNSIGNED_LONG_LONG, nvml.ValueType(v.ValueType))
			assert.Equal(t, want, binary.NativeEndian.Uint64(v.Value[:]))
			assert.WithinRange(t, time.UnixMicro(v.Timestamp), before, time.Now())
		}
		assert.Equal(t, uint32(3), values[1].ScopeId)
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, a.GetFieldValues(nil))
	})
}
