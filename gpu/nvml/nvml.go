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
	// Observe, if set, is told of every call that returned: the C function, how long it took, and whether it failed
	// for another reason than that the device does not support it. It runs on the NVML thread and must not block.
	Observe func(call string, took time.Duration, failed bool)
}

func (o Options) withDefaults() Options {
	if o.Library == "" {
		o.Library = DefaultLibrary
	}
	if o.CallDeadline == 0 {
		o.CallDeadline = 2 * time.Second
	}
	if o.InitDeadline == 0 {
		o.InitDeadline = 30 * time.Second
	}
	if o.Retry == 0 {
		o.Retry = time.Second
	}
	if o.Observe == nil {
		o.Observe = func(string, time.Duration, bool) {}
	}
	return o
}
