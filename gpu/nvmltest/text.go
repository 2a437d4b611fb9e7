package nvmltest

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Limits of the library's fixed tables. All of them used up make a file of 7.4 MB, which it takes.
const (
	maxDevices        = 64
	maxInstances      = 8
	maxFaults         = 16
	maxRing           = 128
	maxProcesses      = 128
	maxProcessSamples = 256
	maxGPM            = 64
	maxFields         = 64
	maxAccounts       = 128
	maxEvents         = 64
	maxText           = 95
)

// Text returns the machine in the format of the package comment. It errs on what the library would refuse.
func (m Machine) Text() (string, error) {
	w := &writer{}
	w.b.WriteString("nvmltest 2\n")
	w.text("driver", m.Driver)
	w.faults(m.Fault)
	w.limit("devices", len(m.Devices), maxDevices)
	for i, d := range m.Devices {
		if w.err != nil {
			break
		}
		w.device(d)
		if w.err != nil {
			w.err = fmt.Errorf("device %d: %w", i, w.err)
		}
	}
	if w.err != nil {
		return "", w.err
	}
	return w.b.String(), nil
}

// writer writes lines and remembers the first reason why it cannot.
type writer struct {
	b   strings.Builder
	err error
}

func (w *writer) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

func (w *writer) limit(what string, n, most int) {
	if n > most {
		w.fail("%d %s are more than %d", n, what, most)
	}
}

func (w *writer) text(word, text string) {
	if text == "" || len(text) > maxText || strings.ContainsAny(text, "\x00\n") {
		w.fail("%s %q is not one line of 1 to %d bytes", word, text, maxText)
	}
	w.b.WriteString(word + " " + text + "\n")
}

// line writes numbers of 64 bits.
func (w *writer) line(word string, numbers ...uint64) {
	w.b.WriteString(word)
	for _, n := range numbers {
		w.b.WriteByte(' ')
		w.b.WriteString(strconv.FormatUint(n, 10))
	}
	w.b.WriteByte('\n')
}

// narrow returns a number for line that the library takes 32 bits of.
func (w *writer) narrow(what string, n uint) uint64 {
	if uint64(n) > math.MaxUint32 {
		w.fail("%s %d is more than 32 bits", what, n)
	}
	return uint64(n)
}

func (w *writer) device(d Device) {
	w.text("device", d.UUID)
	w.text("name", d.Name)
	w.line("memory", d.MemoryTotalBytes, d.MemoryUsedBytes)
	w.line("utilization", w.narrow("utilization", d.UtilizationPercent), w.narrow("utilization", d.MemoryUtilizationPercent))
	w.bus(d.BusID)
	w.sensors(d)
	w.samples(d)
	w.processes(d.Processes)
	w.gpm(d.GPM)
	w.records(d)
	w.faults(d.Fault)
	if !d.MIG {
		if len(d.Instances) > 0 {
			w.fail("%d instances without MIG", len(d.Instances))
		}
		return
	}
	w.b.WriteString("mig on\n")
	w.limit("instances", len(d.Instances), maxInstances)
	for _, i := range d.Instances {
		w.instance(i)
	}
}

func (w *writer) bus(id string) {
	if id == "" {
		return
	}
	if ok, _ := regexp.MatchString(`^[0-9A-F]{8}:[0-9A-F]{2}:[01][0-9A-F]\.0$`, id); !ok { // the pattern is good
		w.fail("bus ID %q is not like 00000000:17:00.0", id)
	}
	w.b.WriteString("pci " + id + "\n")
}

// sensors leaves out what is 0, as most tests have it.
func (w *writer) sensors(d Device) {
	if d.PowerMilliwatts != 0 || d.PowerLimitMilliwatts != 0 {
		w.line("power", w.narrow("power", d.PowerMilliwatts), w.narrow("power", d.PowerLimitMilliwatts))
	}
	if d.TemperatureCelsius != 0 {
		w.line("temperature", w.narrow("temperature", d.TemperatureCelsius))
	}
	if d.SMClockMHz != 0 || d.MemoryClockMHz != 0 || d.ClockReasons != 0 {
		w.line("clocks", w.narrow("clock", d.SMClockMHz), w.narrow("clock", d.MemoryClockMHz), d.ClockReasons)
	}
}

func (w *writer) samples(d Device) {
	w.limit("ring samples", len(d.Ring), maxRing)
	for _, s := range d.Ring {
		w.line("ring", s.Stamp, w.narrow("percent", s.Percent))
	}
	w.limit("process samples", len(d.ProcessSamples), maxProcessSamples)
	for _, s := range d.ProcessSamples {
		w.line("sample", uint64(s.PID), s.Stamp, w.narrow("percent", s.SMPercent), w.narrow("percent", s.MemoryPercent))
	}
}

func (w *writer) processes(processes []Process) {
	w.limit("processes", len(processes), maxProcesses)
	for _, p := range processes {
		word, bytes := "process", p.MemoryBytes
		if p.MPS {
			word = "mps"
		}
		if p.MemoryUnknown {
			bytes = math.MaxUint64 // NVML_VALUE_NOT_AVAILABLE
		}
		w.line(word, uint64(p.PID), bytes)
	}
}

func (w *writer) gpm(metrics []GPMMetric) {
	w.limit("GPM metrics", len(metrics), maxGPM)
	for _, m := range metrics {
		w.b.WriteString("gpm " + strconv.FormatUint(uint64(m.ID), 10) + " " + strconv.FormatFloat(m.Value, 'g', -1, 64) + "\n")
	}
}

// records writes what the driver keeps beside measurements.
func (w *writer) records(d Device) {
	w.limit("fields", len(d.Fields), maxFields)
	for _, f := range d.Fields {
		w.line("field", uint64(f.ID), f.Value)
	}
	if d.AccountingOn {
		w.b.WriteString("accounting on\n")
	}
	w.limit("accounts", len(d.Accounting), maxAccounts)
	for _, a := range d.Accounting {
		running := uint64(0)
		if a.Running {
			running = 1
		}
		w.line("account", uint64(a.PID), a.MaxMemoryBytes, running)
	}
	w.limit("events", len(d.Events), maxEvents)
	for _, e := range d.Events {
		w.line("event", e.Sequence, e.XID, uint64(e.GPUInstance))
	}
}

func (w *writer) instance(i Instance) {
	w.text("instance", i.UUID)
	w.text("name", i.Name)
	w.line("memory", i.MemoryTotalBytes, i.MemoryUsedBytes)
	w.line("placement", w.narrow("GPU instance", i.GPUInstance), w.narrow("compute instance", i.ComputeInstance),
		w.narrow("slices", i.Slices))
	w.processes(i.Processes)
	w.gpm(i.GPM)
	w.faults(i.Fault)
}

func (w *writer) faults(faults string) {
	n := 0
	for line := range strings.Lines(faults) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if err := checkFault(f); err != nil {
			w.fail("fault %q: %w", line, err)
		}
		n++
		w.b.WriteString(strings.Join(f, " ") + "\n")
	}
	w.limit("faults", n, maxFaults)
}

func checkFault(words []string) error {
	if len(words) != 3 || (words[0] != "error" && words[0] != "hang" && words[0] != "grow") || len(words[1]) > maxText {
		return errors.New(`neither "error FUNCTION CODE", "hang FUNCTION MILLISECONDS" nor "grow FUNCTION N"`)
	}
	_, err := strconv.ParseUint(words[2], 10, 31)
	return err
}
