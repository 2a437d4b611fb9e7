package agent

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"headroom.dev/headroom/gpu"
)

// Meter counts what the agent itself does.
type Meter struct {
	calls  *prometheus.HistogramVec
	errors *prometheus.CounterVec
}

// NewMeter returns a Meter whose metrics are in registry.
func NewMeter(registry prometheus.Registerer) *Meter {
	m := &Meter{
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gpu_agent_nvml_call_duration_seconds",
			Help: "How long calls into NVIDIA's management library took.",
			// Calls take from 2.5 us (utilisation) over 5 ms (processes) to seconds (initialisation).
			Buckets: []float64{1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10},
		}, []string{"call"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gpu_agent_errors_total",
			Help: "What failed: a call into NVIDIA's management library by name, nvml (a pass over the GPUs), pod-resources.",
		}, []string{"what"}),
	}
	registry.MustRegister(m.calls, m.errors)
	for _, what := range []string{"nvml", "pod-resources"} {
		m.errors.WithLabelValues(what) // a rate needs the zero before the first failure
	}
	return m
}

// ObserveCall records a call into NVML that returned: the C function, how long it took and whether it failed.
func (m *Meter) ObserveCall(call string, took time.Duration, failed bool) {
	m.calls.WithLabelValues(call).Observe(took.Seconds())
	if failed {
		m.failed(call)
	}
}

func (m *Meter) failed(what string) { m.errors.WithLabelValues(what).Inc() }

// descriptors of what a scrape renders. The GPU's static facts are in gpu_info alone.
type descriptors struct {
	info, utilization, memoryUsed, memoryTotal *prometheus.Desc
	sharers, restUtilization, restMemory       *prometheus.Desc
	podUtilization, podMemory                  *prometheus.Desc
	lastTick, ownersAge, unreadable, unmatched *prometheus.Desc
}

func describe() descriptors {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	device := []string{"uuid", "gpu"}
	owner := []string{"namespace", "pod", "container", "uuid"}
	return descriptors{
		info: desc("gpu_info", "Static facts about a GPU; always 1.",
			"uuid", "gpu", "minor", "model", "driver", "node"),
		utilization: desc("gpu_utilization_ratio",
			"Part of the driver's last sampling period (1/6 to 1 s) in which a kernel ran on the GPU.", device...),
		memoryUsed:  desc("gpu_memory_used_bytes", "Memory allocated on the GPU, without what the driver reserves.", device...),
		memoryTotal: desc("gpu_memory_total_bytes", "Memory of the GPU.", device...),
		sharers:     desc("gpu_sharers", "Containers that were given the GPU.", device...),
		restUtilization: desc("gpu_unattributed_utilization_ratio",
			"Part of gpu_utilization_ratio that is no single container's.", device...),
		restMemory: desc("gpu_unattributed_memory_used_bytes",
			"Part of gpu_memory_used_bytes that is no single container's.", device...),
		podUtilization: desc("gpu_pod_utilization_ratio",
			"Part of gpu_utilization_ratio that is the container's. Absent for containers that share the GPU.", owner...),
		podMemory: desc("gpu_pod_memory_used_bytes",
			"Part of gpu_memory_used_bytes that is the container's. Absent for containers that share the GPU.", owner...),
		lastTick: desc("gpu_agent_last_tick_timestamp_seconds",
			"When the last pass over the GPUs ended, successful or not."),
		ownersAge: desc("gpu_agent_attribution_age_seconds",
			"Age of the kubelet's last answer about which containers hold which GPUs. Absent before the first."),
		unreadable: desc("gpu_agent_unreadable_devices", "GPUs that the driver counts but cannot identify."),
		unmatched: desc("gpu_agent_unmatched_devices",
			"Device IDs of GPU resources that containers hold and that are not the UUID of a GPU read here."),
	}
}

// collector renders what the loops published last.
type collector struct {
	agent *Agent
	descriptors
}

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		c.info, c.utilization, c.memoryUsed, c.memoryTotal, c.sharers, c.restUtilization, c.restMemory,
		c.podUtilization, c.podMemory, c.lastTick, c.ownersAge, c.unreadable, c.unmatched,
	} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	r := renderer{descriptors: c.descriptors, node: c.agent.cfg.Node, to: to}
	now := time.Now()
	owners, known := map[string][]gpu.Owner(nil), false
	if o := c.agent.owners.Load(); o != nil && !o.at.IsZero() {
		r.gauge(r.ownersAge, now.Sub(o.at).Seconds())
		if known = c.agent.fresh(o.at, now); known {
			owners = o.value
		}
	}
	o := c.agent.reading.Load()
	if o == nil {
		return
	}
	r.gauge(r.lastTick, float64(o.finished.UnixMilli())/1000)
	if !c.agent.fresh(o.at, now) {
		return
	}
	unreadable, unmatched := 0, len(owners)
	seen := map[string]bool{}
	for _, s := range o.value.Samples {
		uuid := s.Device.UUID
		if uuid == "" {
			unreadable++
		}
		if uuid == "" || seen[uuid] || !c.agent.fresh(s.Time, now) {
			continue // a UUID that a driver gives twice would spoil the whole scrape
		}
		seen[uuid] = true
		if _, ok := owners[uuid]; ok {
			unmatched--
		}
		r.device(o.value.Driver, s)
		r.split(s, owners[uuid], known)
	}
	r.gauge(r.unreadable, float64(unreadable))
	if known {
		r.gauge(r.unmatched, float64(unmatched))
	}
}

// renderer turns measurements into Prometheus metrics.
type renderer struct {
	descriptors
	node string
	to   chan<- prometheus.Metric
}

func (r renderer) device(driver string, s gpu.Sample) {
	d := s.Device
	minor := ""
	if n, ok := d.Minor.Get(); ok {
		minor = strconv.Itoa(int(n))
	}
	r.gauge(r.info, 1, d.UUID, index(d), minor, d.Name, driver, r.node)
	r.value(r.utilization, s.Utilization, d.UUID, index(d))
	r.value(r.memoryUsed, s.MemoryUsed, d.UUID, index(d))
	r.value(r.memoryTotal, s.MemoryTotal, d.UUID, index(d))
}

// split renders who did what on a device. Where the owners are not known all of it is unattributed.
func (r renderer) split(s gpu.Sample, owners []gpu.Owner, known bool) {
	a := gpu.Attribute(s, owners)
	d := s.Device
	if known {
		r.gauge(r.sharers, float64(a.Sharers), d.UUID, index(d))
	}
	r.value(r.restUtilization, a.Unattributed.Utilization, d.UUID, index(d))
	r.value(r.restMemory, a.Unattributed.MemoryUsed, d.UUID, index(d))
	for _, share := range a.Shares {
		o := share.Owner
		r.value(r.podUtilization, share.Usage.Utilization, o.Namespace, o.Pod, o.Container, d.UUID)
		r.value(r.podMemory, share.Usage.MemoryUsed, o.Namespace, o.Pod, o.Container, d.UUID)
	}
}

// value renders a known value, and nothing for an unknown one.
func (r renderer) value(desc *prometheus.Desc, v gpu.Value, labels ...string) {
	if number, ok := v.Get(); ok {
		r.gauge(desc, number, labels...)
	}
}

func (r renderer) gauge(desc *prometheus.Desc, number float64, labels ...string) {
	for i, label := range labels {
		labels[i] = strings.ToValidUTF8(label, "\uFFFD") // a driver's name for a GPU is any bytes
	}
	r.to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, number, labels...)
}

func index(d gpu.Device) string { return strconv.Itoa(d.Index) }
