package scrape

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// path is how an answer was read.
type path int

const (
	byParser path = iota // by Prometheus' parser
	byLayout             // by the layout of the former answer
)

// metrics are the Manager's own; none has a label per target.
type metrics struct {
	duration prometheus.Histogram
	outcomes *prometheus.CounterVec
	paths    [2]prometheus.Counter
	bytes    prometheus.Counter
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
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "headroom_adapter_scrape_bytes_total", Help: "Bytes of answers, decompressed.",
		}),
	}
	paths := f.NewCounterVec(prometheus.CounterOpts{
		Name: "headroom_adapter_scrape_parses_total",
		Help: "Good answers by how they were read: by the layout of the former one, or by the full parser.",
	}, []string{"path"})
	m.paths = [...]prometheus.Counter{byParser: paths.WithLabelValues("parser"), byLayout: paths.WithLabelValues("layout")}
	for _, o := range []outcome{outcomeSuccess, outcomeSettings, outcomeTimeout, outcomeTransport, outcomeStatus, outcomeTooLarge, outcomeParse} {
		m.outcomes.WithLabelValues(string(o))
	}
	return m
}

func (m *metrics) observe(took time.Duration, size int, how path, err error) {
	m.duration.Observe(took.Seconds())
	m.bytes.Add(float64(size))
	o := outcomeSuccess
	if failed, ok := errors.AsType[*scrapeError](err); ok {
		o = failed.outcome
	} else {
		m.paths[how].Inc()
	}
	m.outcomes.WithLabelValues(string(o)).Inc()
}
