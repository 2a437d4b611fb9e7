// Package nvmltest is a libnvidia-ml.so.1 of our own, written in C, that the real go-nvml loads: tests and the lab drive
// it through a file instead of a GPU.
//
// Build compiles the library. It serves the machine that the file named by the environment variable
// HEADROOM_NVMLTEST_FILE describes, and reads that file again whenever it changed, so a writer that calls
// Machine.WriteFile several times a second is followed call by call. Without the file the library behaves like a host
// whose driver is not loaded; a malformed file makes every call return NVML_ERROR_UNKNOWN.
//
// The format is lines of "word rest". The first line is "nvmltest 2". Lines before the first device are about the host.
// Numbers are decimal and not negative, but for those of pci and the value of gpm.
//
//	nvmltest 2
//	driver 570.124.06
//	error nvmlInit_v2 9                          every nvmlInit_v2 returns 9, NVML_ERROR_DRIVER_NOT_LOADED
//	device GPU-4f6a1f0e-…                        starts a device; the index and the minor number count from 0
//	name NVIDIA H100 80GB HBM3
//	memory 85899345920 1073741824                total and used bytes
//	utilization 87 12                            percent of time that a kernel ran, that memory was accessed
//	pci 00000000:17:00.0                         domain, bus and device; without it the bus is the index + 1
//	power 350000 700000                          mW used and allowed
//	temperature 61                               °C
//	clocks 1980 2619 4                           MHz of SM and memory, mask of the reasons why they are not higher
//	ring 1718900000000000 87                     a sample of nvmlDeviceGetSamples: stamp (µs) and percent
//	process 4242 1073741824                      a process and its bytes; 18446744073709551615 is "not available"
//	mps 4243 1073741824                          the same for a client of MPS
//	sample 4242 1718900000000000 80 10           a sample of nvmlDeviceGetProcessUtilization: PID, stamp, SM and memory %
//	gpm 2 73.5                                   a GPM metric and its value; one at least makes GPM supported
//	field 230 0                                  a field of nvmlDeviceGetFieldValues, an unsigned long long
//	accounting on
//	account 4242 2147483648 1                    PID, most bytes ever, whether it runs
//	event 7 79 4294967295                        sequence, XID, GPU instance (4294967295: none)
//	error nvmlDeviceGetUtilizationRates 15       this device's call returns 15, NVML_ERROR_GPU_IS_LOST
//	hang nvmlDeviceGetName 2000                  this device's call takes 2000 ms longer
//	grow nvmlDeviceGetSamples 1                  this device's size query says 1 less than the next call has
//	mig on
//	instance MIG-2c9d…                           starts an instance of the device
//	name NVIDIA H100 80GB HBM3 MIG 1g.10gb       name, memory, process, mps, gpm and faults are as a device's
//	placement 9 0 1                              GPU instance, compute instance, slices
//
// A fault names a C function as the library exports it ("nvmlInit_v2", not "nvmlInit"), or "*" for all of them. An error
// and a hang for one function both apply, the hang first. An instance's calls know its device's faults too, and all
// calls know the host's; those without a device know no others: also nvmlEventSetWait_v2 and nvmlGpmMetricsGet.
// nvmlShutdown, nvmlErrorString and nvmlGpmSampleFree know no faults, and only nvmlDeviceGetSamples and
// nvmlDeviceGetProcessUtilization know grow.
package nvmltest

import (
	"fmt"
	"os"
)

// FileVariable is the environment variable that names the file which the library serves.
const FileVariable = "HEADROOM_NVMLTEST_FILE"

// LibraryName is the file name and the soname of the library.
const LibraryName = "libnvidia-ml.so.1"

// NoInstance is the GPU instance of an Event that concerns the whole device.
const NoInstance = 0xFFFFFFFF

// Machine is a host with its GPUs.
type Machine struct {
	Driver  string // version, "570.124.06"
	Fault   string // faults of calls on any device and on none; see Device.Fault
	Devices []Device
}

// Device is one GPU; its index is its place in Machine.Devices.
type Device struct {
	UUID                     string // "GPU-…"
	Name                     string // product, "NVIDIA H100 80GB HBM3"
	MemoryTotalBytes         uint64
	MemoryUsedBytes          uint64 // without the 1/128 of the total that the library reserves for the driver
	UtilizationPercent       uint   // 0 to 100; more is served as it is
	MemoryUtilizationPercent uint
	Fault                    string // "" or lines of "error FUNCTION CODE", "hang FUNCTION MILLISECONDS" and "grow FUNCTION N"

	BusID          string          // PCI, "00000000:17:00.0"; "" is made from the index
	Ring           []RingSample    // of NVML_GPU_UTILIZATION_SAMPLES; with none, as on an idle GPU, there is nothing to find
	Processes      []Process       // with MIG those outside of all instances
	ProcessSamples []ProcessSample // of nvmlDeviceGetProcessUtilization
	GPM            []GPMMetric     // with none here and in all Instances the device does not support GPM
	Fields         []Field         // of nvmlDeviceGetFieldValues; others are not supported
	Accounting     []Account       // oldest first; of two with one PID the later counts
	AccountingOn   bool

	PowerMilliwatts      uint
	PowerLimitMilliwatts uint
	TemperatureCelsius   uint
	SMClockMHz           uint // also the graphics clock
	MemoryClockMHz       uint
	ClockReasons         uint64 // mask of nvmlClocksEventReason…

	Events    []Event
	MIG       bool // current and pending; utilization, ring and process samples are not supported then
	Instances []Instance
}

// Instance is a compute instance of a device in MIG mode, with a handle of its own.
type Instance struct {
	UUID             string // "MIG-…"
	Name             string // "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
	GPUInstance      uint
	ComputeInstance  uint
	Slices           uint
	MemoryTotalBytes uint64
	MemoryUsedBytes  uint64
	Processes        []Process
	GPM              []GPMMetric
	Fault            string // as Device.Fault, of calls on the instance
}

// RingSample is the utilization of one of the driver's periods. Real rings hold placeholders whose Stamp is 0, so they are
// delivered here too, to a caller that has seen none yet.
type RingSample struct {
	Stamp   uint64 // µs
	Percent uint
}

// Process is one that holds memory of a GPU.
type Process struct {
	PID           uint32
	MemoryBytes   uint64
	MemoryUnknown bool // the driver says "not available", and MemoryBytes is not looked at
	MPS           bool // listed by nvmlDeviceGetMPSComputeRunningProcesses, and not by nvmlDeviceGetComputeRunningProcesses
}

// ProcessSample is a process's use of a GPU in one of the driver's periods.
type ProcessSample struct {
	PID           uint32
	Stamp         uint64 // µs
	SMPercent     uint
	MemoryPercent uint
}

// GPMMetric is what nvmlGpmMetricsGet computes from two samples of which the second was taken when it was this.
type GPMMetric struct {
	ID    uint32
	Value float64 // also NaN and infinite
}

// Field is a value of nvmlDeviceGetFieldValues.
type Field struct {
	ID    uint32
	Value uint64
}

// Account is what the driver remembers of a process in accounting mode.
type Account struct {
	PID            uint32
	MaxMemoryBytes uint64
	Running        bool
}

// Event is an XID error. An event set on which the device is registered delivers it once, unless it was there already
// when the device was registered. What tells is the Sequence, which must rise from event to event of a device.
type Event struct {
	Sequence    uint64 // from 1
	XID         uint64
	GPUInstance uint32 // NoInstance if the error is not of one
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
