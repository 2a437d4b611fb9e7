//go:build linux && cgo

package nvml

import (
	"fmt"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"headroom.dev/headroom/gpu"
)

// device is a GPU or a MIG instance.
type device struct {
	gpu.Device
	handle nvml.Device // nil if the driver gave none
	reason string      // why there is no handle
	lost   string      // why the driver will not speak of it in this pass
	parent *device     // of a MIG instance
	// crowded says that the GPU instance has other compute instances as well. Memory and counters are the GPU instance's: they
	// would be given out twice.
	crowded bool

	lacks     map[string]string // calls that the device does not support, with the reason
	ring      cursor            // nvmlDeviceGetSamples
	uses      cursor            // nvmlDeviceGetProcessUtilization
	counters  counters
	processes processes
	condition condition
}

// enumerate finds out which devices there are, if that may have changed.
func (s *session) enumerate(count int, now time.Time) {
	look := s.opts.Slow
	if s.changed {
		look = s.opts.Retry
	}
	if s.devices != nil && count == s.gpus() && (now.Sub(s.looked) < look || !s.repartitioned()) {
		return
	}
	s.forget()
	s.looked = now
	s.devices = make([]*device, 0, count)
	for i := range count {
		d := s.identify(i)
		s.devices = append(s.devices, d)
		if d.Partitioned {
			s.devices = append(s.devices, s.instances(d)...)
		}
	}
	s.register()
}

func (s *session) gpus() int {
	n := 0
	for _, d := range s.devices {
		if d.parent == nil {
			n++
		}
	}
	return n
}

// identify gets the handle of a GPU and what stays the same about it.
func (s *session) identify(index int) *device {
	d := &device{Device: gpu.Device{Index: index}, lacks: map[string]string{}}
	symbol := "nvmlDeviceGetHandleByIndex_v2"
	ret := s.call(symbol, func() (ret nvml.Return) {
		d.handle, ret = s.lib.DeviceGetHandleByIndex(index)
		return ret
	})
	if ret == nvml.SUCCESS {
		symbol = "nvmlDeviceGetUUID"
		ret = s.call(symbol, func() (ret nvml.Return) {
			d.UUID, ret = d.handle.GetUUID()
			return ret
		})
	}
	if ret != nvml.SUCCESS {
		d.handle, d.UUID, d.reason = nil, "", s.reason(symbol, ret)
		d.Minor = gpu.Unknown(d.reason)
		return d
	}
	_ = s.call("nvmlDeviceGetName", func() (ret nvml.Return) {
		d.Name, ret = d.handle.GetName()
		return ret
	})
	var minor int
	ret = s.call("nvmlDeviceGetMinorNumber", func() (ret nvml.Return) {
		minor, ret = d.handle.GetMinorNumber()
		return ret
	})
	d.Minor = s.known("nvmlDeviceGetMinorNumber", ret, float64(minor))
	_ = s.call("nvmlDeviceGetPciInfo_v3", func() nvml.Return {
		pci, ret := d.handle.GetPciInfo()
		if ret == nvml.SUCCESS {
			d.BusID = busID(pci.BusId[:])
		}
		return ret
	})
	d.Partitioned = s.migEnabled(d)
	return d
}

func busID(chars []int8) string {
	out := make([]byte, 0, len(chars))
	for _, c := range chars {
		if c == 0 {
			break
		}
		out = append(out, byte(c))
	}
	return string(out)
}

func (s *session) migEnabled(d *device) bool {
	var current int
	ret := s.ask(d, "nvmlDeviceGetMigMode", func() (ret nvml.Return) {
		current, _, ret = d.handle.GetMigMode()
		return ret
	})
	return ret == nvml.SUCCESS && current == nvml.DEVICE_MIG_ENABLE
}

// repartitioned reports whether MIG was switched or its instances are others than those enumerated.
func (s *session) repartitioned() bool {
	s.looked, s.changed = time.Now(), false
	for i, d := range s.devices {
		if d.parent != nil || d.handle == nil {
			continue
		}
		if s.migEnabled(d) != d.Partitioned {
			return true
		}
		next := i + 1
		if d.Partitioned && s.each(d, func(handle nvml.Device) bool {
			uuid, ret := s.uuid(handle)
			same := ret == nvml.SUCCESS && next < len(s.devices) && s.devices[next].parent == d && s.devices[next].UUID == uuid
			next++
			return same
		}) {
			return true
		}
		if d.Partitioned && next < len(s.devices) && s.devices[next].parent == d {
			return true
		}
	}
	return false
}

func (s *session) uuid(handle nvml.Device) (uuid string, ret nvml.Return) {
	ret = s.call("nvmlDeviceGetUUID", func() (ret nvml.Return) {
		uuid, ret = handle.GetUUID()
		return ret
	})
	return uuid, ret
}

// each calls f with the handle of every MIG instance of d until it returns false, and reports whether it did. The
// indices have gaps where instances were destroyed.
func (s *session) each(d *device, f func(nvml.Device) bool) (stopped bool) {
	var most int
	ret := s.call("nvmlDeviceGetMaxMigDeviceCount", func() (ret nvml.Return) {
		most, ret = d.handle.GetMaxMigDeviceCount()
		return ret
	})
	if ret != nvml.SUCCESS {
		return false
	}
	for i := range most {
		var handle nvml.Device
		ret := s.call("nvmlDeviceGetMigDeviceHandleByIndex", func() (ret nvml.Return) {
			handle, ret = d.handle.GetMigDeviceHandleByIndex(i)
			return ret
		})
		if ret == nvml.SUCCESS && !f(handle) {
			return true
		}
	}
	return false
}

// instances returns the MIG instances of a GPU.
func (s *session) instances(parent *device) []*device {
	var out []*device
	s.each(parent, func(handle nvml.Device) bool {
		uuid, ret := s.uuid(handle)
		if ret != nvml.SUCCESS {
			return true
		}
		d := &device{handle: handle, parent: parent, lacks: map[string]string{}, Device: gpu.Device{
			Index: parent.Index, UUID: uuid, Minor: parent.Minor, BusID: parent.BusID,
			Instance: gpu.Instance{Parent: parent.UUID},
		}}
		_ = s.call("nvmlDeviceGetName", func() (ret nvml.Return) {
			d.Name, ret = handle.GetName()
			return ret
		})
		_ = s.call("nvmlDeviceGetGpuInstanceId", func() (ret nvml.Return) {
			d.Instance.GPU, ret = handle.GetGpuInstanceId()
			return ret
		})
		_ = s.call("nvmlDeviceGetComputeInstanceId", func() (ret nvml.Return) {
			d.Instance.Compute, ret = handle.GetComputeInstanceId()
			return ret
		})
		d.Instance.Profile = s.profile(d)
		out = append(out, d)
		return true
	})
	for _, d := range out {
		for _, other := range out {
			d.crowded = d.crowded || d != other && d.Instance.GPU == other.Instance.GPU
		}
	}
	return out
}

// profile is in the instance's name with most drivers; others tell the slices and the memory, of which it is made.
func (s *session) profile(d *device) string {
	if profile := gpu.Profile(d.Name); profile != "" {
		return profile
	}
	var a nvml.DeviceAttributes
	ret := s.call("nvmlDeviceGetAttributes_v2", func() (ret nvml.Return) {
		a, ret = d.handle.GetAttributes()
		return ret
	})
	if ret != nvml.SUCCESS {
		return ""
	}
	return fmt.Sprintf("%dg.%dgb", a.GpuInstanceSliceCount, (a.MemorySizeMB+1023)/1024)
}

// ask is call for what a device may not support: it is not asked a second time. What follows a space in symbol tells apart
// what the same call is asked for.
func (s *session) ask(d *device, symbol string, f func() nvml.Return) nvml.Return {
	if _, lacking := d.lacks[symbol]; lacking {
		return nvml.ERROR_NOT_SUPPORTED
	}
	name, _, _ := strings.Cut(symbol, " ")
	ret := s.call(name, f)
	switch ret {
	case nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_FUNCTION_NOT_FOUND:
		d.lacks[symbol] = s.reason(symbol, ret)
	case nvml.ERROR_NOT_FOUND, nvml.ERROR_INVALID_ARGUMENT:
		s.changed = s.changed || d.parent != nil // its handle is no longer good
	case nvml.ERROR_GPU_IS_LOST, nvml.ERROR_RESET_REQUIRED:
		d.lost = s.reason(symbol, ret)
	default:
	}
	return ret
}

// answer is the Value of what was asked of a device.
func (s *session) answer(d *device, symbol string, ret nvml.Return, number float64) gpu.Value {
	if ret == nvml.SUCCESS {
		return gpu.Known(number)
	}
	if reason, lacking := d.lacks[symbol]; lacking {
		return gpu.Unknown(reason)
	}
	return gpu.Unknown(s.reason(symbol, ret))
}
