//go:build linux && cgo

package nvml

import (
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"headroom.dev/headroom/gpu"
)

// condition is what was last read of how well a GPU is.
type condition struct {
	due    time.Time // of the next reading; zero: at once
	last   gpu.Condition
	fields []nvml.FieldValue
}

// fields lists what one nvmlDeviceGetFieldValues asks, in the order in which readFields gives it out.
func fields() [15]uint32 {
	return [...]uint32{
		nvml.FI_DEV_TOTAL_ENERGY_CONSUMPTION, nvml.FI_DEV_MEMORY_TEMP, nvml.FI_DEV_PCIE_REPLAY_COUNTER,
		nvml.FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, nvml.FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL,
		nvml.FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, nvml.FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL,
		nvml.FI_DEV_ECC_SBE_VOL_TOTAL, nvml.FI_DEV_ECC_DBE_VOL_TOTAL, nvml.FI_DEV_ECC_DBE_AGG_TOTAL,
		nvml.FI_DEV_REMAPPED_COR, nvml.FI_DEV_REMAPPED_UNC, nvml.FI_DEV_REMAPPED_PENDING, nvml.FI_DEV_REMAPPED_FAILURE,
		nvml.FI_DEV_GET_GPU_RECOVERY_ACTION,
	}
}

// conditionOf reads the condition of a GPU when it is due. After the first time the GPUs take turns, so that no pass has
// the slow calls of them all.
func (s *session) conditionOf(d *device, now time.Time) gpu.Condition {
	c := &d.condition
	if now.Before(c.due) {
		return c.last
	}
	next := s.opts.Slow
	if c.due.IsZero() {
		next = s.opts.Slow * time.Duration(d.Index+1) / time.Duration(max(1, s.gpus()))
	}
	c.due = now.Add(next)
	const power, limit, temperature, smClock, memoryClock = "nvmlDeviceGetPowerUsage", "nvmlDeviceGetEnforcedPowerLimit",
		"nvmlDeviceGetTemperature", "nvmlDeviceGetClockInfo SM", "nvmlDeviceGetClockInfo memory"
	c.last = gpu.Condition{
		Time:       now,
		Power:      s.scalar(d, power, 1e-3, d.handle.GetPowerUsage), // mW
		PowerLimit: s.scalar(d, limit, 1e-3, d.handle.GetEnforcedPowerLimit),
		Temperature: s.scalar(d, temperature, 1, func() (uint32, nvml.Return) {
			return d.handle.GetTemperature(nvml.TEMPERATURE_GPU)
		}),
		SMClock:      s.scalar(d, smClock, 1e6, func() (uint32, nvml.Return) { return d.handle.GetClockInfo(nvml.CLOCK_SM) }), // MHz
		MemoryClock:  s.scalar(d, memoryClock, 1e6, func() (uint32, nvml.Return) { return d.handle.GetClockInfo(nvml.CLOCK_MEM) }),
		ClockReasons: s.clockReasons(d),
	}
	s.readFields(d)
	return c.last
}

func (s *session) scalar(d *device, symbol string, unit float64, get func() (uint32, nvml.Return)) gpu.Value {
	var value uint32
	ret := s.ask(d, symbol, func() (ret nvml.Return) {
		value, ret = get()
		return ret
	})
	return s.answer(d, symbol, ret, float64(value)*unit)
}

// clockReasons asks by the name of 2023 where the library has it, and by the former one where not.
func (s *session) clockReasons(d *device) gpu.Value {
	symbol, get := "nvmlDeviceGetCurrentClocksEventReasons", d.handle.GetCurrentClocksEventReasons
	if !s.has(symbol) {
		symbol, get = "nvmlDeviceGetCurrentClocksThrottleReasons", d.handle.GetCurrentClocksThrottleReasons
	}
	var mask uint64
	ret := s.ask(d, symbol, func() (ret nvml.Return) {
		mask, ret = get()
		return ret
	})
	return s.answer(d, symbol, ret, float64(mask))
}

// readFields reads with one call what NVML has as fields. Each has a code of its own.
func (s *session) readFields(d *device) {
	const symbol = "nvmlDeviceGetFieldValues"
	c := &d.condition
	ids := fields()
	if c.fields == nil {
		c.fields = make([]nvml.FieldValue, len(ids))
	}
	for i, id := range ids {
		c.fields[i] = nvml.FieldValue{FieldId: id}
	}
	ret := s.ask(d, symbol, func() nvml.Return { return d.handle.GetFieldValues(c.fields) })
	value := func(i int, unit float64) gpu.Value {
		if ret != nvml.SUCCESS {
			return s.answer(d, symbol, ret, 0)
		}
		f := &c.fields[i]
		if code := nvml.Return(f.NvmlReturn); code != nvml.SUCCESS {
			return gpu.Unknown(s.reason(symbol, code))
		}
		v, ok := number(nvml.ValueType(f.ValueType), f.Value)
		if !ok {
			return gpu.Unknown(symbol + " returned a value of unknown type")
		}
		return gpu.Known(v * unit)
	}
	l := &c.last
	l.Energy, l.MemoryTemperature, l.PCIeReplays = value(0, 1e-3), value(1, 1), value(2, 1) // mJ
	l.LinkReplays, l.LinkRecoveries, l.LinkCRCErrors = value(3, 1), value(4, 1), sum(value(5, 1), value(6, 1))
	l.ECCCorrected, l.ECCUncorrected, l.ECCUncorrectedEver = value(7, 1), value(8, 1), value(9, 1)
	l.RemappedRows, l.RemapPending, l.RemapFailed = sum(value(10, 1), value(11, 1)), value(12, 1), value(13, 1)
	l.RecoveryAction = value(14, 1)
}

// sum is unknown where a part of it is.
func sum(a, b gpu.Value) gpu.Value {
	x, ok := a.Get()
	y, both := b.Get()
	switch {
	case !ok:
		return a
	case !both:
		return b
	default:
		return gpu.Known(x + y)
	}
}
