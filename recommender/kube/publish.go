package kube

import "github.com/prometheus/client_golang/prometheus"

// published is what /metrics says of the recommender. Only the leader has any.
type published struct {
	samples    *prometheus.CounterVec // by resource
	refused    *prometheus.CounterVec // by reason
	errors     *prometheus.CounterVec
	writes     *prometheus.CounterVec
	pass       prometheus.Histogram
	containers prometheus.Gauge
	workloads  prometheus.Gauge
	filling    prometheus.Gauge
	valid      *prometheus.GaugeVec
}

// newPublished registers the metrics; it fails where another has done so.
func newPublished(reg prometheus.Registerer) (*published, error) {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headroom_recommender_" + name, Help: help}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "headroom_recommender_" + name, Help: help})
	}
	p := &published{
		samples: counter("samples_total", "Samples that were taken.", "resource"),
		refused: counter("samples_refused_total", "Samples that were not taken, by reason: no number, negative, from the future, too old, of a pod that is not known.", "reason"),
		errors:  counter("errors_total", "What could not be done and is tried again.", "what"),
		writes:  counter("writes_total", "Writes to the API server.", "to"),
		pass: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "headroom_recommender_pass_duration_seconds", Help: "Time that a pass over all pods and samples takes.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 8),
		}),
		containers: gauge("containers", "Running containers whose usage is kept."),
		workloads:  gauge("workloads", "Workloads whose usage is kept."),
		filling:    gauge("workloads_filling", "Workloads whose past is still to be fetched."),
		valid: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "headroom_recommender_objects", Help: "ResourceRecommendations and VerticalPodAutoscalers, by whether they have a recommendation.",
		}, []string{"kind", "recommended"}),
	}
	for _, c := range []prometheus.Collector{p.samples, p.refused, p.errors, p.writes, p.pass, p.containers, p.workloads, p.filling, p.valid} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return p, nil
}
