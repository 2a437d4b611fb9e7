// Package nvmltest is a libnvidia-ml.so.1 of our own, written in C, that the real go-nvml loads: tests and the lab drive
// it through a file instead of a GPU.
//
// Build compiles the library. It serves the machine that the file named by the environment variable
// HEADROOM_NVMLTEST_FILE describes, and reads that file again whenever it changed, so a writer that calls
// Machine.WriteFile several times a second is followed call by call. Without the file the library behaves like a host
// whose driver is not loaded; a malformed file makes every call return NVML_ERROR_UNKNOWN.
//
// The format is lines of "word rest". The first line is "nvmltest 2". Lines before the first device are about the host.
//
//	nvmltest 2
//	driver 570.124.06
//	error nvmlInit_v2 9                          every nvmlInit_v2 returns 9, NVML_ERROR_DRIVER_NOT_LOADED
//	device GPU-4f6a1f0e-…                        starts a device; the index and the minor number count from 0
//	name NVIDIA H100 80GB HBM3
//	bus 00000000:17:00.0                         made from the index without this line
//	memory 85899345920 1073741824                total and used bytes
//	utilization 87 12                            percent of time that a kernel ran, that memory was accessed
//	sample 1000000 87                            an entry of the ring: stamp in µs and percent; stamp 0 is a placeholder
//	process 4711 1073741824                      PID and bytes, "-" for not available; "mps-process" for a client of MPS
//	use 4711 1000000 60 10                       an entry of the ring of processes: PID, stamp, percent of SM and memory
//	account 4711 2147483648 1                    PID, most bytes, whether it runs; with "accounting on"
//	gpm 2 61.5                                   a counter and its value; without any the device does not support GPM
//	field 230 0                                  for nvmlDeviceGetFieldValues; other fields are not supported
//	power 412000 700000                          milliwatts and their limit
//	temperature 61
//	clocks 1980 2619 4                           MHz of SM and memory, mask of reasons
//	event 1 79 4294967295                        sequence, XID and GPU instance: given out once where it is new
//	mig on
//	instance MIG-…                               starts an instance of the last device, with name, memory, process, gpm
//	placement 1 0 2                              GPU instance, compute instance, slices
//	error nvmlDeviceGetUtilizationRates 15       this device's call returns 15, NVML_ERROR_GPU_IS_LOST
//	hang nvmlDeviceGetName 2000                  this device's call takes 2000 ms longer
//	grow nvmlDeviceGetSamples 3                  the size that this call tells is 3 less than what there is then
//
// A fault names a C function as the library exports it ("nvmlInit_v2", not "nvmlInit"), or "*" for all of them. An error
// and a hang for one function both apply, the hang first. nvmlShutdown and nvmlErrorString know no faults.
package nvmltest

import (
	"fmt"
	"os"
)

// FileVariable is the environment variable that names the file which the library serves.
const FileVariable = "HEADROOM_NVMLTEST_FILE"

// LibraryName is the file name and the soname of the library.
const LibraryName = "libnvidia-ml.so.1"

// Limits of the library's fixed tables; those of lists are for each device.
const (
	maxDevices   = 64
	maxInstances = 8 // of a device
	maxFaults    = 16
	maxText      = 95
	maxRing      = 128
	maxProcesses = 128
	maxUses      = 256
	maxMetrics   = 64
	maxFields    = 64
	maxEvents    = 64
	maxFile      = 1 << 20
)

// Machine is a host with its GPUs.
type Machine struct {
	Driver  string // version, "570.124.06"
	Fault   string // faults of calls on any device and on none; see Device.Fault
	Devices []Device
}

// WriteFile replaces the file at path in one step: a library that reads it at the same time sees the old machine or the
// new one. One writer per path at a time.
func (m Machine) WriteFile(path string) error {
	text, err := m.Text()
	if err != nil {
		return fmt.Errorf("cannot describe machine: %w", err)
	}
	next := path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return fmt.Errorf("cannot write machine: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("cannot publish machine: %w", err)
	}
	return nil
}
