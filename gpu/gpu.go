// Package gpu holds the types that describe GPUs, what was measured on them and who owns them, and the arithmetic that
// splits a device's use among its owners.
//
// It imports the standard library alone, so that the NVML reader, the attribution and the agent share it without knowing
// each other. A quantity that could not be read is a Value without a number and with a reason; nothing here turns that
// into zero. What a Split hands out is conserved: for every device, the shares and the unattributed rest add up to what
// the device did.
//
// A device is what a container can be given: a whole GPU, or one MIG instance of a partitioned GPU. A partitioned GPU is
// read too, for its health and power, but is nobody's.
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
