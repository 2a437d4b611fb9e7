package simulate

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"headroom.dev/headroom/scaler/hpa"
)

// StockHPA is the HorizontalPodAutoscaler as kube-controller-manager runs it with default flags, on the metrics that the plant
// has (Measured).
type StockHPA struct {
	Autoscaler hpa.Autoscaler // valid, with its defaults
	// Poll is how long the value of an External or Object metric is kept, as KEDA keeps it for its polling interval; 0: each look
	// has a fresh one.
	Poll time.Duration
	// Label replaces the name hpa.
	Label string

	cfg    hpa.Config
	memory hpa.Memory
	seen   hpa.Observation
	polled int // the second of the readings; -1 before the first
}

// Measured are the metrics that the plant has, by the names of the adapter.
func Measured() []string {
	return []string{"requests_per_second", "requests_in_flight", "requests_waiting", "gpu_utilization_percent", "kv_cache_usage_percent"}
}

// Name is the policy's.
func (h *StockHPA) Name() string {
	if h.Label != "" {
		return h.Label
	}
	return "hpa"
}

// Setting lists the metrics with their targets.
func (h *StockHPA) Setting() string {
	var parts []string
	for i := range h.Autoscaler.Metrics {
		m := &h.Autoscaler.Metrics[i]
		each := " a pod"
		if m.Kind == hpa.Value {
			each = " in all"
		}
		parts = append(parts, m.Name+" "+strconv.FormatFloat(float64(m.Target)/1000, 'g', 4, 64)+each)
	}
	if b := h.Autoscaler.Behavior; b != nil && b.Down.Window != nil {
		parts = append(parts, "window "+b.Down.Window.String())
	}
	return strings.Join(parts, ", ")
}

// Period is the controller's.
func (h *StockHPA) Period() int { return 15 }

// Prepare begins as a controller that has just started.
func (h *StockHPA) Prepare(_ *Load, _ Plant) error {
	h.cfg, h.memory, h.seen, h.polled = hpa.DefaultConfig(), hpa.Memory{}, hpa.Observation{}, -1
	for i := range h.Autoscaler.Metrics {
		if m := &h.Autoscaler.Metrics[i]; m.Source == hpa.Resource || m.Source == hpa.ContainerResource {
			return fmt.Errorf("metric %s is a resource, and the plant has none", m.Name)
		}
	}
	if err := h.Autoscaler.Validate(&h.cfg); err != nil {
		return err
	}
	h.seen.Readings = make([]hpa.Reading, len(h.Autoscaler.Metrics))
	return nil
}

// Decide is a look of the controller.
func (h *StockHPA) Decide(v *View) int32 {
	o := &h.seen
	o.Now, o.Replicas, o.Created = v.Now(), v.Replicas(), v.Replicas()
	fresh := h.polled < 0 || v.Second()-h.polled >= int(h.Poll/time.Second)
	if fresh {
		h.polled = v.Second()
		for i := range o.Readings {
			h.read(v, &h.Autoscaler.Metrics[i], &o.Readings[i])
		}
	}
	start := v.Now().Add(-time.Duration(v.Second()) * time.Second)
	at := func(second int) time.Time { return start.Add(time.Duration(second) * time.Second) }
	scheduling := int(v.run.plant.Scheduling / time.Second)
	o.Pods = o.Pods[:0]
	v.EachPod(func(p PodView) {
		pod := hpa.Pod{Phase: hpa.Running, Ready: hpa.NotReady, Started: at(p.Created + scheduling), ReadySince: at(p.Created + scheduling)}
		switch {
		case p.Ready:
			pod.Ready, pod.ReadySince = hpa.Ready, at(p.ReadyAt)
		case v.Second() < p.Created+scheduling:
			pod.Phase = hpa.Pending
		}
		o.Pods = append(o.Pods, pod)
	})
	return hpa.Reconcile(&h.cfg, &h.Autoscaler, &h.memory, o).Replicas
}

// errGap is why there is no metric.
var errGap = errors.New("a gap of the trace")

// read fills a reading with what the metrics API would say.
func (h *StockHPA) read(v *View, m *hpa.Metric, into *hpa.Reading) {
	*into = hpa.Reading{Samples: into.Samples[:0], Values: into.Values[:0]}
	if !v.Known() {
		into.Err = errGap
		return
	}
	sum, n := 0.0, 0
	v.EachPod(func(p PodView) {
		value := metricOf(m.Name, &p, v.Slots())
		if p.Measured {
			sum += value
			n++
		}
		into.Samples = append(into.Samples, hpa.Sample{Measured: p.Measured, Milli: milli(value)})
	})
	if m.Source == hpa.Pods {
		return
	}
	into.Samples = into.Samples[:0]
	if n == 0 {
		into.Err = hpa.ErrNoReading
		return
	}
	if strings.HasSuffix(m.Name, "_percent") { // a mean over the pods; all else adds up
		sum /= float64(n)
	}
	into.Values = append(into.Values, milli(sum))
}

// metricOf is what a pod has of a metric. A GPU is busy while there is any request, whatever room there is for more: with
// requests that come and go at random that is so for 1-e^-n of the time, n being those on average. The cache is as full as
// slots are taken.
func metricOf(name string, p *PodView, slots float64) float64 {
	switch name {
	case "requests_per_second":
		return p.Rate
	case "requests_in_flight":
		return p.Running
	case "requests_waiting":
		return p.Waiting
	case "gpu_utilization_percent":
		return 100 * (1 - math.Exp(-p.Running))
	case "kv_cache_usage_percent":
		return 100 * p.Running / slots
	}
	return math.NaN()
}

// milli rounds up to thousandths, as quantities do.
func milli(v float64) int64 { return int64(math.Ceil(v * 1000)) }
