//go:build linux && cgo

package nvml

import (
	"math"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"headroom.dev/headroom/gpu"
)

// processes is what was last listed of a device.
type processes struct {
	due  time.Time // of the next list
	list []gpu.Process
	fail string // why there is no list
}

// listProcesses lists the processes with a context on a device, and MPS's clients, which NVML keeps apart.
func (s *session) listProcesses(d *device, into *gpu.Sample, now time.Time) {
	if p := &d.processes; !now.Before(p.due) {
		p.due = now.Add(s.opts.Processes)
		p.list, p.fail = p.list[:0], ""
		const compute = "nvmlDeviceGetComputeRunningProcesses"
		ret := s.processesBy(d, compute, func() ([]nvml.ProcessInfo, nvml.Return) { return d.handle.GetComputeRunningProcesses() })
		if ret != nvml.SUCCESS {
			p.fail = s.answer(d, s.version(compute), ret, 0).Reason()
		}
		_ = s.processesBy(d, "nvmlDeviceGetMPSComputeRunningProcesses",
			func() ([]nvml.ProcessInfo, nvml.Return) { return d.handle.GetMPSComputeRunningProcesses() })
		s.account(d)
	}
	into.Processes = append(into.Processes, d.processes.list...)
	into.ProcessFail = d.processes.fail
}

// version is the newest form of a call that the library has; go-nvml calls that one.
func (s *session) version(symbol string) string {
	newest, ok := s.versions[symbol]
	if ok {
		return newest
	}
	newest = symbol
	for _, suffix := range []string{"_v2", "_v3"} {
		if s.has(symbol + suffix) {
			newest = symbol + suffix
		}
	}
	s.versions[symbol] = newest
	return newest
}

func (s *session) processesBy(d *device, symbol string, list func() ([]nvml.ProcessInfo, nvml.Return)) nvml.Return {
	var infos []nvml.ProcessInfo
	ret := s.ask(d, s.version(symbol), func() (ret nvml.Return) {
		infos, ret = list()
		return ret
	})
	if ret != nvml.SUCCESS {
		return ret
	}
	p := &d.processes
	for _, info := range infos {
		memory := gpu.Known(float64(info.UsedGpuMemory))
		if info.UsedGpuMemory == math.MaxUint64 { // NVML_VALUE_NOT_AVAILABLE
			memory = gpu.Unknown("the driver does not know the process's memory")
		}
		p.add(gpu.Process{PID: info.Pid, Memory: memory, PeakMemory: gpu.Unknown("accounting mode is off")})
	}
	return ret
}

// add leaves a process out that is in both lists.
func (p *processes) add(process gpu.Process) {
	for i := range p.list {
		if p.list[i].PID == process.PID {
			return
		}
	}
	p.list = append(p.list, process)
}

// account reads what each process has used at most, if the driver keeps account. Only root can switch that on.
func (s *session) account(d *device) {
	const mode, stats = "nvmlDeviceGetAccountingMode", "nvmlDeviceGetAccountingStats"
	if d.parent != nil || len(d.processes.list) == 0 {
		return
	}
	var on nvml.EnableState
	ret := s.ask(d, mode, func() (ret nvml.Return) {
		on, ret = d.handle.GetAccountingMode()
		return ret
	})
	if ret != nvml.SUCCESS || on != nvml.FEATURE_ENABLED {
		return
	}
	for i := range d.processes.list {
		p := &d.processes.list[i]
		var account nvml.AccountingStats
		ret := s.ask(d, stats, func() (ret nvml.Return) {
			account, ret = d.handle.GetAccountingStats(p.PID)
			return ret
		})
		if ret == nvml.SUCCESS && account.MaxMemoryUsage == math.MaxUint64 {
			p.PeakMemory = gpu.Unknown("the driver does not know the process's memory")
			continue
		}
		p.PeakMemory = s.answer(d, stats, ret, float64(account.MaxMemoryUsage))
	}
}

// processRing takes what the ring of process samples got since the last pass.
func (s *session) processRing(d *device, into *gpu.Sample) {
	const symbol = "nvmlDeviceGetProcessUtilization"
	var samples []nvml.ProcessUtilizationSample
	get := func() (ret nvml.Return) {
		// go-nvml slices beyond its buffer when the count has grown between its two calls.
		defer func() {
			if recover() != nil {
				ret = nvml.ERROR_INSUFFICIENT_SIZE
			}
		}()
		samples, ret = d.handle.GetProcessUtilization(d.uses.seen)
		return ret
	}
	ret := s.ask(d, symbol, get)
	if ret == nvml.ERROR_INSUFFICIENT_SIZE {
		samples = nil
		ret = s.ask(d, symbol, get)
	}
	if ret != nvml.SUCCESS && ret != nvml.ERROR_NOT_FOUND && ret != nvml.ERROR_INSUFFICIENT_SIZE {
		return
	}
	before, primed := d.uses.seen, d.uses.primed
	d.uses.primed = true
	if ret != nvml.SUCCESS {
		return
	}
	for i := range samples {
		u := &samples[i]
		if u.TimeStamp <= before || u.Pid == 0 { // placeholders
			continue
		}
		d.uses.seen = max(d.uses.seen, u.TimeStamp)
		if primed && u.SmUtil <= 100 {
			into.ProcessRing = append(into.ProcessRing, gpu.ProcessUse{PID: u.Pid, Stamp: u.TimeStamp, SM: float64(u.SmUtil) / 100})
		}
	}
}
