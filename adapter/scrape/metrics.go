package scrape

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the Manager's own; none has a label per target.
type metrics struct {
	duration prometheus.Histogram
	outcomes *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, targets func() int) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "headroom_adapter_scrape_targets", Help: "Pods that are scraped now.",
	}, func() float64 { return float64(targets()) })
	m := &metrics{
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name: "headroom_adapter_scrape_duration_seconds", Help: "Time from the start of a scrape to its samples being parsed.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5},
		}),
		outcomes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "headroom_adapter_scrapes_total", Help: "Finished scrapes by outcome.",
		}, []string{"outcome"}),
	}
	for _, o := range []outcome{outcomeSuccess, outcomeTimeout, outcomeTransport, outcomeStatus, outcomeTooLarge, outcomeParse} {
		m.outcomes.WithLabelValues(string(o))
	}
	return m
}

func (m *metrics) observe(took time.Duration, err error) {
	o := outcomeSuccess
	if failed, ok := errors.AsType[*scrapeError](err); ok {
		o = failed.outcome
	}
	m.duration.Observe(took.Seconds())
	m.outcomes.WithLabelValues(string(o)).Inc()
}
