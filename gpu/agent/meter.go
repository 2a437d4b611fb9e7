package agent

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Meter counts what the agent itself does. It is safe for concurrent use.
type Meter struct {
	calls     *prometheus.HistogramVec
	errors    *prometheus.CounterVec
	ticks     prometheus.Histogram
	mu        sync.Mutex
	observers map[string]prometheus.Observer // of calls: looking one up in the vector allocates
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
		ticks: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gpu_agent_tick_duration_seconds",
			Help:    "How long passes over the GPUs took, with the attribution of their use.",
			Buckets: []float64{1e-4, 1e-3, 0.01, 0.1, 1, 10},
		}),
		observers: map[string]prometheus.Observer{},
	}
	registry.MustRegister(m.calls, m.errors, m.ticks)
	for _, what := range []string{"nvml", "pod-resources"} {
		m.errors.WithLabelValues(what) // a rate needs the zero before the first failure
	}
	return m
}

// ObserveCall records a call into NVML that returned: the C function, how long it took and whether it failed.
func (m *Meter) ObserveCall(call string, took time.Duration, failed bool) {
	m.mu.Lock()
	observer := m.observers[call]
	if observer == nil {
		observer = m.calls.WithLabelValues(call)
		m.observers[call] = observer
	}
	m.mu.Unlock()
	observer.Observe(took.Seconds())
	if failed {
		m.failed(call)
	}
}

func (m *Meter) failed(what string) { m.errors.WithLabelValues(what).Inc() }
