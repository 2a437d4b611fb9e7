//go:build linux && cgo

package nvml

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"headroom.dev/headroom/gpu"
)

// cursor is how far a ring of the driver's was read: one for each device and call. Stamps are opaque.
type cursor struct {
	seen   uint64
	primed bool // what was in the ring before is behind us
}

// sample measures one device.
func (s *session) sample(d *device, into *gpu.Sample) {
	into.Device = d.Device
	d.lost = d.reason
	began := time.Now()
	switch {
	case d.handle == nil:
		v := gpu.Unknown(d.reason)
		into.Utilization, into.ProcessFail = v, d.reason
		into.Memory = gpu.Memory{Total: v, Used: v, Free: v, Reserved: v}
		into.Activity = noActivity(v)
	case d.crowded:
		v := gpu.Unknown("several compute instances share the GPU instance, and the driver does not tell them apart")
		into.Utilization, into.Memory, into.Activity = v, gpu.Memory{Total: v, Used: v, Free: v, Reserved: v}, noActivity(v)
		s.listProcesses(d, into, began)
	case d.parent != nil:
		into.Memory = s.memory(d)
		into.Activity = s.activity(d, began)
		into.Utilization = into.Activity.Graphics // NVML has no other for instances
		s.listProcesses(d, into, began)
	default:
		s.wholeUtilization(d, into)
		into.Memory = s.memory(d)
		into.Activity = s.activity(d, began)
		if d.Partitioned {
			into.Utilization = into.Activity.Graphics
		} else {
			s.listProcesses(d, into, began)
			s.processRing(d, into)
		}
		into.Condition = s.conditionOf(d, began)
	}
	into.Lost = d.lost
	into.Time = time.Now()
}

// wholeUtilization reads the sample ring of a GPU, and where that has nothing the instantaneous rate: an idle GPU's ring
// is empty, and one that does not support it says so once.
func (s *session) wholeUtilization(d *device, into *gpu.Sample) {
	if s.utilizationRing(d, into); len(into.Ring) > 0 {
		into.Utilization = gpu.Unknown("in the ring")
		return
	}
	const symbol = "nvmlDeviceGetUtilizationRates"
	var rates nvml.Utilization
	ret := s.ask(d, symbol, func() (ret nvml.Return) {
		rates, ret = d.handle.GetUtilizationRates()
		return ret
	})
	if ret == nvml.SUCCESS && rates.Gpu > 100 {
		into.Utilization = gpu.Unknown(fmt.Sprintf("%s returned %d %%", symbol, rates.Gpu))
		return
	}
	into.Utilization = s.answer(d, symbol, ret, float64(rates.Gpu)/100)
}

// utilizationRing takes what the ring got since the last pass.
func (s *session) utilizationRing(d *device, into *gpu.Sample) {
	var kind nvml.ValueType
	var samples []nvml.Sample
	get := func() (ret nvml.Return) {
		kind, samples, ret = d.handle.GetSamples(nvml.GPU_UTILIZATION_SAMPLES, d.ring.seen)
		return ret
	}
	ret := s.ask(d, "nvmlDeviceGetSamples", get)
	if ret == nvml.ERROR_INSUFFICIENT_SIZE { // the ring grew between the library's question for its size and its reading
		ret = s.ask(d, "nvmlDeviceGetSamples", get)
	}
	if ret != nvml.SUCCESS && ret != nvml.ERROR_NOT_FOUND {
		return
	}
	before, primed := d.ring.seen, d.ring.primed
	d.ring.primed = true
	if ret != nvml.SUCCESS {
		return
	}
	for i := range samples {
		stamp := samples[i].TimeStamp
		if stamp <= before { // placeholders have stamp 0
			continue
		}
		d.ring.seen = max(d.ring.seen, stamp)
		percent, ok := number(kind, samples[i].SampleValue)
		if primed && ok && percent >= 0 && percent <= 100 {
			into.Ring = append(into.Ring, gpu.RingPoint{Stamp: stamp, Ratio: percent / 100})
		}
	}
}

// number reads an nvmlValue_t.
func number(kind nvml.ValueType, value [8]byte) (float64, bool) {
	bits := binary.NativeEndian.Uint64(value[:])
	switch kind {
	case nvml.VALUE_TYPE_DOUBLE:
		return math.Float64frombits(bits), true
	case nvml.VALUE_TYPE_UNSIGNED_INT:
		return float64(uint32(bits)), true
	case nvml.VALUE_TYPE_UNSIGNED_LONG, nvml.VALUE_TYPE_UNSIGNED_LONG_LONG:
		return float64(bits), true
	case nvml.VALUE_TYPE_SIGNED_LONG_LONG:
		return float64(int64(bits)), true
	case nvml.VALUE_TYPE_SIGNED_INT:
		return float64(int32(bits)), true
	case nvml.VALUE_TYPE_UNSIGNED_SHORT:
		return float64(uint16(bits)), true
	default:
		return 0, false
	}
}

// memory prefers version 2 of the call, which tells the driver's own memory from the programs'. Drivers before 510 lack it.
func (s *session) memory(d *device) gpu.Memory {
	const v1, v2 = "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2"
	var second nvml.Memory_v2
	ret := s.ask(d, v2, func() (ret nvml.Return) {
		second, ret = d.handle.GetMemoryInfo_v2()
		return ret
	})
	if ret == nvml.SUCCESS {
		return gpu.Memory{
			Total: gpu.Known(float64(second.Total)), Used: gpu.Known(float64(second.Used)),
			Free: gpu.Known(float64(second.Free)), Reserved: gpu.Known(float64(second.Reserved)),
		}
	}
	if _, lacking := d.lacks[v2]; !lacking {
		v := s.answer(d, v2, ret, 0)
		return gpu.Memory{Total: v, Used: v, Free: v, Reserved: v}
	}
	var first nvml.Memory
	ret = s.ask(d, v1, func() (ret nvml.Return) {
		first, ret = d.handle.GetMemoryInfo()
		return ret
	})
	return gpu.Memory{
		Total: s.answer(d, v1, ret, float64(first.Total)), Used: s.answer(d, v1, ret, float64(first.Used)),
		Free: s.answer(d, v1, ret, float64(first.Free)), Reserved: gpu.Unknown(d.lacks[v2]),
	}
}
