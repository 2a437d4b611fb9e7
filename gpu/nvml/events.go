//go:build linux && cgo

package nvml

import (
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"headroom.dev/headroom/gpu"
)

// wanted are the events that say something about a GPU's health.
const wanted = nvml.EventTypeXidCriticalError | nvml.EventTypeGpuUnavailableError | nvml.EventTypeGpuRecoveryAction

// maxEvents bounds what one pass takes: a GPU in a storm of XIDs must not keep the others from being read.
const maxEvents = 64

// register asks the driver to report events of every GPU that can.
func (s *session) register() {
	var set nvml.EventSet
	ret := s.call("nvmlEventSetCreate", func() (ret nvml.Return) {
		set, ret = s.lib.EventSetCreate()
		return ret
	})
	if ret != nvml.SUCCESS {
		return
	}
	s.events = set
	for _, d := range s.devices {
		if d.parent != nil || d.handle == nil {
			continue
		}
		var supported uint64
		ret := s.ask(d, "nvmlDeviceGetSupportedEventTypes", func() (ret nvml.Return) {
			supported, ret = d.handle.GetSupportedEventTypes()
			return ret
		})
		if ret != nvml.SUCCESS || supported&wanted == 0 {
			continue
		}
		_ = s.ask(d, "nvmlDeviceRegisterEvents", func() nvml.Return { return d.handle.RegisterEvents(supported&wanted, set) })
	}
}

// receive takes the events that came since the last pass. It waits for none: other calls share the thread.
func (s *session) receive(into *gpu.Reading, now time.Time) {
	if s.events == nil {
		return
	}
	for range maxEvents {
		var data nvml.EventData
		ret := s.call("nvmlEventSetWait_v2", func() (ret nvml.Return) {
			data, ret = s.events.Wait(0)
			return ret
		})
		if ret != nvml.SUCCESS {
			return
		}
		for _, d := range s.devices {
			if d.parent == nil && d.handle == data.Device {
				d.condition.due = now // what is to be done about it may have changed
				into.Events = append(into.Events, event(d, &data, now))
			}
		}
	}
}

func event(d *device, data *nvml.EventData, now time.Time) gpu.Event {
	e := gpu.Event{UUID: d.UUID, Time: now}
	switch data.EventType {
	case nvml.EventTypeXidCriticalError:
		e.Kind, e.XID = "xid", data.EventData
	case nvml.EventTypeGpuRecoveryAction:
		e.Kind = "recovery-action"
	default:
		e.Kind = "unavailable"
	}
	return e
}
