package nvmltest

import (
	"fmt"
	"strconv"
	"strings"
)

// Device is one GPU; its index is its place in Machine.Devices.
type Device struct {
	UUID                     string // "GPU-…"
	Name                     string // product, "NVIDIA H100 80GB HBM3"
	BusID                    string // PCI address; made from the index if empty
	MemoryTotalBytes         uint64
	MemoryUsedBytes          uint64 // without the 1/128 of the total that the library reserves for the driver
	UtilizationPercent       uint   // 0 to 100; more is served as it is
	MemoryUtilizationPercent uint

	Ring           []RingSample    // the driver's samples of utilization
	Processes      []Process       // with a context on the device
	ProcessSamples []ProcessSample // the driver's samples of processes
	Accounting     []Account       // served while AccountingOn
	AccountingOn   bool

	GPM                  []GPMMetric // none: the device does not support GPM
	Fields               []Field
	PowerMilliwatts      uint
	PowerLimitMilliwatts uint
	TemperatureCelsius   uint
	SMClockMHz           uint
	MemoryClockMHz       uint
	ClockReasons         uint64 // mask
	Events               []Event

	MIG       bool // MIG mode is on
	Instances []Instance
	Fault     string // "" or lines of "error FUNCTION CODE", "hang FUNCTION MILLISECONDS" and "grow FUNCTION NUMBER"
}

// RingSample is an entry of the ring of utilization samples. Stamp 0 is a placeholder, as drivers have them.
type RingSample struct {
	Stamp   uint64 // µs by any clock
	Percent uint
}

// Process is a process on a device.
type Process struct {
	PID           uint32
	MemoryBytes   uint64
	MemoryUnknown bool
	MPS           bool // it is a client of MPS
}

// ProcessSample is an entry of the ring of process samples.
type ProcessSample struct {
	PID           uint32
	Stamp         uint64 // µs by any clock
	SMPercent     uint
	MemoryPercent uint
}

// Account is what accounting mode keeps of a process.
type Account struct {
	PID            uint32
	MaxMemoryBytes uint64
	Running        bool
}

// GPMMetric is a hardware counter's value, NVML_GPM_METRIC_….
type GPMMetric struct {
	ID    uint32
	Value float64
}

// Field is a value of nvmlDeviceGetFieldValues, NVML_FI_DEV_….
type Field struct {
	ID    uint32
	Value uint64
}

// Event is an XID. An event set gives it out once, if its Sequence is higher than those of before and those of when the
// device was registered.
type Event struct {
	Sequence    uint64
	XID         uint64
	GPUInstance uint32 // 0xFFFFFFFF for the whole GPU
}

// Instance is a MIG instance.
type Instance struct {
	UUID             string // "MIG-…"
	Name             string
	GPUInstance      uint
	ComputeInstance  uint
	Slices           uint
	MemoryTotalBytes uint64
	MemoryUsedBytes  uint64
	Processes        []Process
	GPM              []GPMMetric
	Fault            string // as a Device's
}

// Text returns the machine in the format of the package comment. It errs on what the library would refuse.
func (m Machine) Text() (string, error) {
	w := &writer{}
	w.line("nvmltest 2")
	w.text("driver", m.Driver)
	w.faults(m.Fault)
	w.atMost("devices", len(m.Devices), maxDevices)
	for i := range m.Devices {
		outer := w.err
		w.device(&m.Devices[i])
		if outer == nil && w.err != nil {
			w.err = fmt.Errorf("device %d: %w", i, w.err)
		}
	}
	w.atMost("bytes", w.b.Len(), maxFile)
	return w.b.String(), w.err
}

// writer writes lines until something is wrong.
type writer struct {
	b   strings.Builder
	err error // the first
}

func (w *writer) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

func (w *writer) line(format string, args ...any) {
	fmt.Fprintf(&w.b, format+"\n", args...)
}

func (w *writer) atMost(what string, n, limit int) {
	if n > limit {
		w.fail("%d %s are more than %d", n, what, limit)
	}
}

func (w *writer) text(word, text string) {
	if text == "" || len(text) > maxText || strings.ContainsAny(text, "\x00\n") {
		w.fail("%s %q is not one line of 1 to %d bytes", word, text, maxText)
		return
	}
	w.line("%s %s", word, text)
}

func (w *writer) device(d *Device) {
	w.text("device", d.UUID)
	w.text("name", d.Name)
	if d.BusID != "" {
		w.text("bus", d.BusID)
	}
	w.line("memory %d %d", d.MemoryTotalBytes, d.MemoryUsedBytes)
	w.line("utilization %d %d", d.UtilizationPercent, d.MemoryUtilizationPercent)
	w.line("power %d %d", d.PowerMilliwatts, d.PowerLimitMilliwatts)
	w.line("temperature %d", d.TemperatureCelsius)
	w.line("clocks %d %d %d", d.SMClockMHz, d.MemoryClockMHz, d.ClockReasons)
	w.atMost("samples", len(d.Ring), maxRing)
	for _, s := range d.Ring {
		w.line("sample %d %d", s.Stamp, s.Percent)
	}
	w.processes(d.Processes)
	w.atMost("process samples", len(d.ProcessSamples), maxUses)
	for _, s := range d.ProcessSamples {
		w.line("use %d %d %d %d", s.PID, s.Stamp, s.SMPercent, s.MemoryPercent)
	}
	if d.AccountingOn {
		w.line("accounting on")
	}
	w.atMost("accounts", len(d.Accounting), maxProcesses)
	for _, a := range d.Accounting {
		w.line("account %d %d %d", a.PID, a.MaxMemoryBytes, map[bool]int{true: 1}[a.Running])
	}
	w.counters(d.GPM)
	w.atMost("fields", len(d.Fields), maxFields)
	for _, f := range d.Fields {
		w.line("field %d %d", f.ID, f.Value)
	}
	w.atMost("events", len(d.Events), maxEvents)
	for _, e := range d.Events {
		w.line("event %d %d %d", e.Sequence, e.XID, e.GPUInstance)
	}
	if d.MIG {
		w.line("mig on")
	} else if len(d.Instances) > 0 {
		w.fail("instances without MIG")
	}
	w.faults(d.Fault)
	w.atMost("instances", len(d.Instances), maxInstances)
	for i := range d.Instances {
		w.instance(&d.Instances[i])
	}
}

func (w *writer) instance(i *Instance) {
	w.text("instance", i.UUID)
	w.text("name", i.Name)
	w.line("placement %d %d %d", i.GPUInstance, i.ComputeInstance, i.Slices)
	w.line("memory %d %d", i.MemoryTotalBytes, i.MemoryUsedBytes)
	w.processes(i.Processes)
	w.counters(i.GPM)
	w.faults(i.Fault)
}

func (w *writer) processes(list []Process) {
	w.atMost("processes", len(list), maxProcesses)
	for _, p := range list {
		word, memory := "process", strconv.FormatUint(p.MemoryBytes, 10)
		if p.MPS {
			word = "mps-process"
		}
		if p.MemoryUnknown {
			memory = "-"
		}
		w.line("%s %d %s", word, p.PID, memory)
	}
}

func (w *writer) counters(list []GPMMetric) {
	w.atMost("counters", len(list), maxMetrics)
	for _, m := range list {
		w.line("gpm %d %g", m.ID, m.Value)
	}
}

func (w *writer) faults(faults string) {
	n := 0
	for line := range strings.Lines(faults) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 || (f[0] != "error" && f[0] != "hang" && f[0] != "grow") || len(f[1]) > maxText {
			w.fail("fault %q is none of \"error FUNCTION CODE\", \"hang FUNCTION MILLISECONDS\" and \"grow FUNCTION NUMBER\"", line)
			return
		}
		if _, err := strconv.ParseUint(f[2], 10, 31); err != nil {
			w.fail("fault %q: %w", line, err)
			return
		}
		if n++; n > maxFaults {
			w.fail("more than %d faults", maxFaults)
			return
		}
		w.line("%s", strings.Join(f, " "))
	}
}
