// Package nvml reads GPUs through NVIDIA's management library. It is the only caller of go-nvml.
//
// It guarantees:
//   - All calls run one after another on one OS thread; several threads in NVML only queue for its lock.
//   - No caller waits for a wedged driver: a call that outlasts its deadline cannot be cancelled, but Read returns an
//     *gpu.OverdueError that names it, at once for as long as it lasts, and works again when it returns.
//   - A symbol that the loaded library lacks is never called, which would end the process: it reads as "not found".
//   - Without a library or a driver Read returns the reason and tries again, at most every Options.Retry.
//   - After a code that says that the session with the driver is over (GPU_IS_LOST, UNINITIALIZED, DRIVER_NOT_LOADED,
//     LIB_RM_VERSION_MISMATCH) NVML is initialised anew. While there are devices that still answer, they are read, and
//     the others are tried for by a new session at most every ten Options.Retry.
//   - A call that a device does not support is made once and then left alone until the devices are enumerated anew: when
//     their number or the MIG instances change, or with a new session.
//   - A reading that is read into again costs no allocations but go-nvml's own.
//
// What a pass asks: the sample rings, memory, hardware counters and events each time, processes every Options.Processes,
// conditions and the layout of MIG every Options.Slow, one GPU after the other. The driver's rings go back 10 s, so
// their samples are complete for passes up to that far apart; one cursor per device and ring sees to it that each sample
// is taken once, and what a ring held before the first pass is left out, because it may be of any age.
//
// A library once called stays mapped: the C linker pins it, whatever dlclose says. When the host's driver was replaced
// under a running process, the mismatch of versions therefore stays until the process is restarted, and the error
// wraps gpu.ErrRestartNeeded.
//
// The package needs linux and cgo. Elsewhere it compiles, and Read returns ErrNoDriver.
package nvml

import (
	"errors"
	"time"
)

// ErrNoDriver is returned by Read where the program was built without cgo or not for Linux.
var ErrNoDriver = errors.New("built without NVML: needs linux and cgo")

// errClosed is returned by Read after Close.
var errClosed = errors.New("NVML reader is closed")

// DefaultLibrary is found through the loader's path: LD_LIBRARY_PATH, then the ld.so cache.
const DefaultLibrary = "libnvidia-ml.so.1"

// Options configure a Driver. The zero value is usable.
type Options struct {
	// Library is a path, or a file name for the loader to find. DefaultLibrary if empty.
	Library string
	// CallDeadline is how long a call may take before the driver counts as wedged; 2 s if zero. The slowest call of
	// interest measured on a busy machine took 5 ms. nvmlInit_v2 wakes sleeping GPUs and gets InitDeadline.
	CallDeadline time.Duration
	// InitDeadline is CallDeadline for nvmlInit_v2; 30 s if zero.
	InitDeadline time.Duration
	// Retry is the shortest time between two attempts to initialise NVML; 1 s if zero. Without a library or a driver an
	// attempt costs less than a millisecond.
	Retry time.Duration
	// Processes is the shortest time between two lists of a device's processes; 2 s if zero. A list can take
	// milliseconds, under the driver's global lock; use by process comes from a ring that loses nothing in that time.
	Processes time.Duration
	// Slow is the time between two readings of what changes slowly or costs much; 10 s if zero.
	Slow time.Duration
	// Observe, if set, is told of every call that returned: the C function, how long it took, and whether it failed
	// for another reason than that the device does not support it or has nothing to say. It runs on the NVML thread and
	// must not block.
	Observe func(call string, took time.Duration, failed bool)
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	if o.Library == "" {
		o.Library = DefaultLibrary
	}
	def(&o.CallDeadline, 2*time.Second)
	def(&o.InitDeadline, 30*time.Second)
	def(&o.Retry, time.Second)
	def(&o.Processes, 2*time.Second)
	def(&o.Slow, 10*time.Second)
	if o.Observe == nil {
		o.Observe = func(string, time.Duration, bool) {}
	}
	return o
}
