// Package gpu holds the types that describe GPUs, what was measured on them and who owns them, and the arithmetic that
// splits a device's use among its owners.
//
// It imports the standard library alone, so that the NVML reader, the attribution and the agent share it without knowing
// each other. A quantity that could not be read is a Value without a number and with a reason; nothing here turns that
// into zero. What Attribute hands out is conserved: for every device, the owners' shares and the unattributed rest add up
// to what the device did.
package gpu

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrRestartNeeded is wrapped by errors that only a new process can get over.
var ErrRestartNeeded = errors.New("the process has to be restarted")

// OverdueError says that a call into the driver has not returned in time. Such a call cannot be cancelled.
type OverdueError struct {
	Call  string    // C function, "nvmlDeviceGetUtilizationRates"
	Since time.Time // when it was called
}

func (e *OverdueError) Error() string {
	return fmt.Sprintf("%s was called at %s and has not returned", e.Call, e.Since.UTC().Format("15:04:05.000"))
}

// Value is a number, or the reason why there is none. The zero Value is unknown.
type Value struct {
	number float64
	known  bool
	reason string
}

// Known returns the Value of a measured number. NaN and infinities are no measurements: they become unknown.
func Known(number float64) Value {
	if math.IsNaN(number) || math.IsInf(number, 0) {
		return Unknown(fmt.Sprintf("%v is no measurement", number))
	}
	return Value{number: number, known: true}
}

// Unknown returns the Value of something that could not be measured because of reason.
func Unknown(reason string) Value { return Value{reason: reason} }

// Get returns the number, and whether there is one.
func (v Value) Get() (float64, bool) { return v.number, v.known }

// Reason says why there is no number; it is empty when there is one.
func (v Value) Reason() string {
	if !v.known && v.reason == "" {
		return "not read"
	}
	return v.reason
}

// String returns the number, or "unknown: reason".
func (v Value) String() string {
	if !v.known {
		return "unknown: " + v.Reason()
	}
	return fmt.Sprintf("%g", v.number)
}

// Device is what stays the same about a GPU while its driver runs.
type Device struct {
	Index int    // NVML's, from 0; not stable over reboots
	UUID  string // "GPU-…"; empty when the driver cannot say, and then the device can be counted but not named
	Name  string // product, "NVIDIA H100 80GB HBM3"; empty when unknown
	Minor Value  // N of /dev/nvidiaN
}

// Sample is what was measured on one device.
type Sample struct {
	Device      Device
	Time        time.Time // when the measuring of this device ended
	Utilization Value     // 0 to 1: part of the driver's last period (1/6 to 1 s by product) in which a kernel ran
	MemoryUsed  Value     // bytes allocated, without what the driver reserves where it tells that apart
	MemoryTotal Value     // bytes
}

// Reading is one pass over all devices of a node.
type Reading struct {
	Driver  string // version, "570.124.06"; empty when unknown
	Samples []Sample
}

// Owner is a container that was given a device.
type Owner struct {
	Namespace string
	Pod       string
	Container string
}

// Usage is a part, or the whole, of what a device did.
type Usage struct {
	Utilization Value // 0 to 1 of the device
	MemoryUsed  Value // bytes
}

// Share is the part of a device's usage that is known to be its owner's.
type Share struct {
	Owner Owner
	Usage Usage
}

// Attribution is a device's usage, split.
type Attribution struct {
	Sharers      int // owners the device has; with more than one there are no Shares
	Shares       []Share
	Unattributed Usage
}

// Attribute splits a sample among the device's owners, which are distinct. A single owner is credited with everything
// that happens on its device. Several owners share it by time-slicing or MPS, which the device's counters do not tell
// apart: no split is invented, and the whole usage is unattributed. The shares and the rest add up to the sample; where
// the sample is unknown they are, for the same reason.
func Attribute(s Sample, owners []Owner) Attribution {
	whole := Usage{Utilization: s.Utilization, MemoryUsed: s.MemoryUsed}
	if len(owners) != 1 {
		return Attribution{Sharers: len(owners), Unattributed: whole}
	}
	return Attribution{
		Sharers:      1,
		Shares:       []Share{{Owner: owners[0], Usage: whole}},
		Unattributed: Usage{Utilization: nothingOf(whole.Utilization), MemoryUsed: nothingOf(whole.MemoryUsed)},
	}
}

// nothingOf returns the zero that is left of a known value, and an unknown value as it is: what is left of it is unknown too.
func nothingOf(v Value) Value {
	if v.known {
		return Known(0)
	}
	return v
}
