package gpu

import (
	"strings"
	"time"
)

// Device is what stays the same about a GPU or a MIG instance while its driver runs.
type Device struct {
	Index       int    // NVML's index of the GPU, from 0; not stable over reboots
	UUID        string // "GPU-…", "MIG-…"; empty when the driver cannot say, and then the device can be counted but not named
	Name        string // product, "NVIDIA H100 80GB HBM3"; empty when unknown
	Minor       Value  // N of /dev/nvidiaN of the GPU
	BusID       string // PCI address of the GPU, "00000000:17:00.0"; empty when unknown
	Partitioned bool   // MIG is on: what containers are given are the instances
	Instance    Instance
}

// Instance says which part of a GPU a MIG device is. It is zero for a whole GPU.
type Instance struct {
	Parent  string // UUID of the GPU
	GPU     int    // GPU instance ID
	Compute int    // compute instance ID
	Profile string // "1g.10gb"; empty when unknown
}

// Whole reports whether the device is a GPU and no part of one.
func (d *Device) Whole() bool { return d.Instance.Parent == "" }

// Sample is what was measured on one device. Its slices are valid until the Reading is read into again.
type Sample struct {
	Device      Device
	Time        time.Time   // when the measuring of this device ended
	Utilization Value       // 0 to 1: part of the driver's last period in which a kernel ran; asked only where Ring is empty
	Ring        []RingPoint // the driver's own samples since the last reading, oldest first
	Memory      Memory
	Activity    Activity     // since the last reading
	Processes   []Process    // that have a context on the device
	ProcessRing []ProcessUse // the driver's samples of processes since the last reading, oldest first
	ProcessFail string       // why Processes are not known; empty where they are, and then there may be none
	Condition   Condition    // of a whole GPU; read rarely
	Lost        string       // why the GPU does not answer; empty when it does
}

// RingPoint is one entry of the driver's sample ring (nvmlDeviceGetSamples): 6 to 7 a second for the last 10 s.
type RingPoint struct {
	Stamp uint64  // microseconds by a clock that the driver does not name: only differences mean something
	Ratio float64 // 0 to 1 of the sample's period in which a kernel ran
}

// Memory is a device's memory in bytes.
type Memory struct {
	Total    Value
	Used     Value // allocated by programs, without Reserved where the driver tells that apart (from 510 on)
	Free     Value
	Reserved Value // by the driver and the firmware
}

// Activity is what the hardware counters say of the time since the last reading (NVML's GPM, Hopper and later).
type Activity struct {
	Graphics      Value // 0 to 1 of the time in which a graphics or compute engine was active
	SM            Value // 0 to 1: mean part of the multiprocessors that were busy
	Occupancy     Value // 0 to 1: resident warps of those possible
	Tensor        Value // 0 to 1 of the time in which tensor cores were active
	DRAM          Value // 0 to 1 of the memory bandwidth
	ContextSwitch Value // 0 to 1 of the time in which the engine switched between contexts
	PCIeSent      Value // bytes per second
	PCIeReceived  Value // bytes per second
	LinkSent      Value // bytes per second over all NVLinks
	LinkReceived  Value // bytes per second
}

// Process is a process with a context on a device.
type Process struct {
	PID        uint32
	Memory     Value // bytes of the device
	PeakMemory Value // bytes; most that it ever had, where accounting mode is on
}

// ProcessUse is one entry of the driver's ring of process samples (nvmlDeviceGetProcessUtilization): the process that
// was active when the sample was taken is credited with the whole engine's use.
type ProcessUse struct {
	PID   uint32
	Stamp uint64  // as in RingPoint
	SM    float64 // 0 to 1
}

// Condition is what says how well a GPU is. Counters count since the driver was loaded unless they say else.
type Condition struct {
	Time               time.Time // when it was read; zero: not yet
	Power, PowerLimit  Value     // watts
	Energy             Value     // joules
	Temperature        Value     // degrees Celsius, of the chip
	MemoryTemperature  Value     // degrees Celsius
	SMClock            Value     // hertz
	MemoryClock        Value     // hertz
	ClockReasons       Value     // mask of NVML's clocks event reasons
	PCIeReplays        Value
	LinkReplays        Value // NVLink, over all links
	LinkRecoveries     Value
	LinkCRCErrors      Value // flits and data
	ECCCorrected       Value
	ECCUncorrected     Value
	ECCUncorrectedEver Value // over the GPU's life
	RemappedRows       Value // for correctable and uncorrectable errors, over the GPU's life
	RemapPending       Value // 1: rows wait for a reset to be remapped
	RemapFailed        Value // 1: there was no spare row
	RecoveryAction     Value // see Recovery
}

// Event is something that the driver reported on its own.
type Event struct {
	UUID string // of the GPU
	XID  uint64 // NVIDIA's catalogue number; 0 for events that are no XID
	Kind string // "xid", "recovery-action", "unavailable"
	Time time.Time
}

// Reading is one pass over all devices of a node: each GPU, followed by its MIG instances. It is reused from pass to pass.
type Reading struct {
	Driver  string // version, "570.124.06"; empty when unknown
	Samples []Sample
	Events  []Event // since the last reading
	Session int     // counts the initialisations of NVML: samples of another session are history
}

// Next extends r.Samples by one whose slices keep their memory, and returns it.
func (r *Reading) Next() *Sample {
	if len(r.Samples) < cap(r.Samples) {
		r.Samples = r.Samples[:len(r.Samples)+1]
	} else {
		r.Samples = append(r.Samples, Sample{})
	}
	s := &r.Samples[len(r.Samples)-1]
	*s = Sample{Ring: s.Ring[:0], Processes: s.Processes[:0], ProcessRing: s.ProcessRing[:0]}
	return s
}

// Reset empties r and keeps its memory.
func (r *Reading) Reset() { *r = Reading{Samples: r.Samples[:0], Events: r.Events[:0]} }

// Profile returns the MIG profile that ends a MIG device's name ("NVIDIA H100 80GB HBM3 MIG 1g.10gb" → "1g.10gb").
func Profile(name string) string {
	_, profile, _ := strings.Cut(name, " MIG ")
	return profile
}

// ClockReason is a reason for which a GPU's clocks are lower than they could be.
type ClockReason struct {
	Mask uint64
	Name string
}

// ClockReasons lists NVML's clocks event reasons (nvml.h), without those that say that nothing is the matter.
func ClockReasons() [8]ClockReason {
	return [...]ClockReason{
		{0x2, "application-clocks"},
		{0x4, "power-cap"},
		{0x8, "hardware-slowdown"},
		{0x10, "sync-boost"},
		{0x20, "thermal-slowdown"},
		{0x40, "hardware-thermal-slowdown"},
		{0x80, "power-brake"},
		{0x100, "display-clocks"},
	}
}
