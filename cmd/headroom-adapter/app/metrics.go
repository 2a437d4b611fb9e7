package app

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	apimetrics "k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/adapter/store"
)

// metricsHandler serves the adapter's own registry together with Kubernetes' global one, into which the API machinery
// puts its metrics; ours stay out of it.
func metricsHandler(own prometheus.Gatherer) http.Handler {
	apimetrics.Register() // once, however often it is called
	return promhttp.HandlerFor(prometheus.Gatherers{legacyregistry.DefaultGatherer, own}, promhttp.HandlerOpts{})
}

// steadyClock is the wall clock at the start of the process, carried on by the monotonic one: a step of the wall clock
// neither refuses scrapes nor makes old samples young. Samples, evaluations and lookups are timed by it.
func steadyClock() func() time.Time {
	start := time.Now()
	return func() time.Time { return start.Add(time.Since(start)) }
}

// storeCollector exposes the store's figures.
type storeCollector struct {
	store                            *store.Store
	series, samples, bytes, rejected *prometheus.Desc
}

func newStoreCollector(st *store.Store) *storeCollector {
	return &storeCollector{
		store:    st,
		series:   prometheus.NewDesc("headroom_adapter_store_series", "Series kept in memory.", nil, nil),
		samples:  prometheus.NewDesc("headroom_adapter_store_samples", "Samples kept in memory.", nil, nil),
		bytes:    prometheus.NewDesc("headroom_adapter_store_bytes", "Memory of the kept series, estimated.", nil, nil),
		rejected: prometheus.NewDesc("headroom_adapter_store_rejected_samples_total", "Wanted samples that were not kept, by reason.", []string{"reason"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.store.Stats()
	ch <- prometheus.MustNewConstMetric(c.series, prometheus.GaugeValue, float64(s.Series))
	ch <- prometheus.MustNewConstMetric(c.samples, prometheus.GaugeValue, float64(s.Samples))
	ch <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(s.Bytes))
	for reason, n := range map[string]uint64{"duplicate": s.DuplicateSamples, "over_limit": s.OverLimitSamples, "window_full": s.CutSamples} {
		ch <- prometheus.MustNewConstMetric(c.rejected, prometheus.CounterValue, float64(n), reason)
	}
}

// ruleCollector exposes how each rule that has something to say fared: the users', those that found series, and those that
// failed. The built-in ones about servers that this cluster does not have would be hundreds of zeros.
type ruleCollector struct {
	statuses                           func() []rules.Status
	duration, series, objects, failing *prometheus.Desc
}

func newRuleCollector(statuses func() []rules.Status) *ruleCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("headroom_adapter_rule_"+name, help, []string{"rule"}, nil)
	}
	return &ruleCollector{
		statuses: statuses,
		duration: desc("evaluation_duration_seconds", "Time that the rule's last evaluation took."),
		series:   desc("series", "Series that the rule's last evaluation read."),
		objects:  desc("objects", "Objects that have a value by the rule."),
		failing:  desc("failing", "Whether the rule does not compile or its last evaluation failed."),
	}
}

// Describe implements prometheus.Collector.
func (c *ruleCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.duration, c.series, c.objects, c.failing} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *ruleCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.statuses() {
		if s.Err == nil && s.Series == 0 && s.Rule.Origin == rules.BuiltIn {
			continue
		}
		failing := 0.0
		if s.Err != nil {
			failing = 1
		}
		for desc, value := range map[*prometheus.Desc]float64{
			c.duration: s.Duration.Seconds(), c.series: float64(s.Series), c.objects: float64(s.Objects), c.failing: failing,
		} {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, s.Rule.Name)
		}
	}
}
