//go:build linux && cgo

package nvml

import (
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"headroom.dev/headroom/gpu"
)

// minCounted is the shortest time between two samples of the hardware counters that NVML promises to compute from.
const minCounted = 100 * time.Millisecond

const mebibyte = 1 << 20

// counters is what reading the hardware counters (GPM) of a device needs.
type counters struct {
	unsupported string // why there are none; empty if there are, or it is not known yet
	asked       bool
	last, next  nvml.GpmSample
	at          time.Time // of last; zero if it holds nothing
	activity    gpu.Activity
	get         nvml.GpmMetricsGetType // 19 KB: kept
}

// metrics lists what is asked, in the order in which activityOf reads it.
func metrics() [10]nvml.GpmMetricId {
	return [...]nvml.GpmMetricId{
		nvml.GPM_METRIC_GRAPHICS_UTIL, nvml.GPM_METRIC_SM_UTIL, nvml.GPM_METRIC_SM_OCCUPANCY, nvml.GPM_METRIC_ANY_TENSOR_UTIL,
		nvml.GPM_METRIC_DRAM_BW_UTIL, nvml.GPM_METRIC_GR0_CTXSW_ACTIVE_PCT, nvml.GPM_METRIC_PCIE_TX_PER_SEC,
		nvml.GPM_METRIC_PCIE_RX_PER_SEC, nvml.GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC, nvml.GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC,
	}
}

// activity reads the hardware counters and returns what they did since the last pass. A pass that comes too soon
// returns what the last one did.
func (s *session) activity(d *device, now time.Time) gpu.Activity {
	c := &d.counters
	if !c.asked {
		c.asked = true
		c.unsupported = s.prepareCounters(d)
	}
	if c.unsupported != "" {
		return noActivity(gpu.Unknown(c.unsupported))
	}
	if !c.at.IsZero() && now.Sub(c.at) < minCounted {
		return c.activity
	}
	if symbol, ret := s.takeCounters(d); ret != nvml.SUCCESS {
		c.at = time.Time{}
		return noActivity(gpu.Unknown(s.reason(symbol, ret)))
	}
	if c.at.IsZero() {
		c.activity = noActivity(gpu.Unknown("the first sample of the counters"))
	} else {
		c.activity = s.compute(c)
	}
	c.last, c.next, c.at = c.next, c.last, now
	return c.activity
}

// takeCounters reads the counters into c.next.
func (s *session) takeCounters(d *device) (string, nvml.Return) {
	if d.parent != nil {
		const symbol = "nvmlGpmMigSampleGet"
		return symbol, s.call(symbol, func() nvml.Return { return d.parent.handle.GpmMigSampleGet(d.Instance.GPU, d.counters.next) })
	}
	const symbol = "nvmlGpmSampleGet"
	return symbol, s.call(symbol, func() nvml.Return { return d.handle.GpmSampleGet(d.counters.next) })
}

// prepareCounters allocates what the counters need, or says why there are none.
func (s *session) prepareCounters(d *device) string {
	handle := d.handle
	if d.parent != nil {
		handle = d.parent.handle
	}
	const support, alloc = "nvmlGpmQueryDeviceSupport", "nvmlGpmSampleAlloc"
	for _, symbol := range []string{"nvmlGpmSampleGet", "nvmlGpmMigSampleGet", "nvmlGpmMetricsGet", "nvmlGpmSampleFree"} {
		if !s.has(symbol) {
			return s.reason(symbol, nvml.ERROR_FUNCTION_NOT_FOUND)
		}
	}
	var supported nvml.GpmSupport
	ret := s.call(support, func() (ret nvml.Return) {
		supported, ret = handle.GpmQueryDeviceSupport()
		return ret
	})
	if ret != nvml.SUCCESS {
		return s.reason(support, ret)
	}
	if supported.IsSupportedDevice == 0 {
		return "the GPU has no counters that NVML reads (Hopper and later do)"
	}
	for _, sample := range []*nvml.GpmSample{&d.counters.last, &d.counters.next} {
		ret := s.call(alloc, func() (ret nvml.Return) {
			*sample, ret = s.lib.GpmSampleAlloc()
			return ret
		})
		if ret != nvml.SUCCESS {
			*sample = nil
			s.freeCounters(d)
			return s.reason(alloc, ret)
		}
	}
	return ""
}

func (s *session) freeCounters(d *device) {
	for _, sample := range []*nvml.GpmSample{&d.counters.last, &d.counters.next} {
		if *sample != nil {
			_ = s.call("nvmlGpmSampleFree", (*sample).Free)
			*sample = nil
		}
	}
}

// compute asks NVML what lies between the samples last and next.
func (s *session) compute(c *counters) gpu.Activity {
	const symbol = "nvmlGpmMetricsGet"
	ids := metrics()
	c.get.NumMetrics = uint32(len(ids))
	c.get.Sample1, c.get.Sample2 = c.last, c.next
	for i, id := range ids {
		c.get.Metrics[i] = nvml.GpmMetric{MetricId: uint32(id)}
	}
	if ret := s.call(symbol, func() nvml.Return { return s.lib.GpmMetricsGet(&c.get) }); ret != nvml.SUCCESS {
		return noActivity(gpu.Unknown(s.reason(symbol, ret)))
	}
	value := func(i int, unit, most float64) gpu.Value {
		m := &c.get.Metrics[i]
		if ret := nvml.Return(m.NvmlReturn); ret != nvml.SUCCESS {
			return gpu.Unknown(s.reason(symbol, ret))
		}
		if m.Value < 0 || m.Value*unit > most {
			return gpu.Unknown("nvmlGpmMetricsGet returned what cannot be")
		}
		return gpu.Known(m.Value * unit)
	}
	const percent, ratio, rate = 0.01, 1.001, 1e15 // rounding may carry a full percentage a little over
	return gpu.Activity{
		Graphics: value(0, percent, ratio), SM: value(1, percent, ratio), Occupancy: value(2, percent, ratio),
		Tensor: value(3, percent, ratio), DRAM: value(4, percent, ratio), ContextSwitch: value(5, percent, ratio),
		PCIeSent: value(6, mebibyte, rate), PCIeReceived: value(7, mebibyte, rate),
		LinkSent: value(8, mebibyte, rate), LinkReceived: value(9, mebibyte, rate),
	}
}

func noActivity(v gpu.Value) gpu.Activity {
	return gpu.Activity{
		Graphics: v, SM: v, Occupancy: v, Tensor: v, DRAM: v, ContextSwitch: v,
		PCIeSent: v, PCIeReceived: v, LinkSent: v, LinkReceived: v,
	}
}
