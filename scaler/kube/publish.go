package kube

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler"
)

// published is what /metrics says of the policies. Only the leader has any.
type published struct {
	desired                             *prometheus.GaugeVec // what the owned HPAs follow
	wanted, reactive, held              *prometheus.GaugeVec
	score, capacity, startUp, demandNow *prometheus.GaugeVec
	decisions                           *prometheus.CounterVec
	series                              []interface{ DeletePartialMatch(prometheus.Labels) int }
}

// newPublished registers the metrics; it fails where another has done so.
func newPublished(reg prometheus.Registerer) (*published, error) {
	p := &published{}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append([]string{"namespace", policyLabel}, labels...))
		p.series = append(p.series, v)
		return v
	}
	// The empty label says that the series is of no pod, not of the one that is scraped; see adapter/profiles.
	p.desired = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: v1alpha1.MetricDesiredReplicas, Help: "Replicas that a ScalePolicy in mode Act asks its HPA for.",
		ConstLabels: prometheus.Labels{"pod": ""},
	}, []string{"namespace", policyLabel})
	p.series = append(p.series, p.desired)
	p.wanted = gauge("headroom_scaler_desired_replicas", "Replicas that a ScalePolicy decided on, in either mode.")
	p.reactive = gauge("headroom_scaler_reactive_replicas", "Replicas that present demand alone would ask for.")
	p.held = gauge("headroom_scaler_held", "Whether the last decision was held for lack of data.")
	p.demandNow = gauge("headroom_scaler_demand", "Demand of the service, in the unit of the policy's metric.")
	p.score = gauge("headroom_scaler_forecast_score_ratio", "By how much the forecast's loss is below last-value's.", "horizon", "method")
	p.capacity = gauge("headroom_scaler_capacity_per_replica", "Demand that one replica serves within the SLO.", "version", "gpu")
	p.startUp = gauge("headroom_scaler_startup_seconds", "Time that pods take from their creation until they serve.", "percentile")
	p.decisions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "headroom_scaler_decisions_total", Help: "Decisions, by what bound them.",
	}, []string{"namespace", policyLabel, "limit"})
	p.series = append(p.series, p.decisions)
	for _, c := range []prometheus.Collector{p.desired, p.wanted, p.reactive, p.held, p.demandNow, p.score, p.capacity, p.startUp, p.decisions} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// show writes what a look decided; act says that the policy's HPA is to follow it.
func (p *published) show(of types.NamespacedName, o *scaler.Observation, out *outcome, known *scaler.Knowledge, act bool) {
	ls := func(more ...string) []string { return append([]string{of.Namespace, of.Name}, more...) }
	id := prometheus.Labels{"namespace": of.Namespace, policyLabel: of.Name}
	d := &out.decision
	if act {
		p.desired.WithLabelValues(ls()...).Set(float64(d.Replicas))
	} else {
		p.desired.DeletePartialMatch(id)
	}
	p.wanted.WithLabelValues(ls()...).Set(float64(d.Replicas))
	p.decisions.WithLabelValues(ls(d.Limit.String())...).Inc()
	if d.Valid {
		p.held.WithLabelValues(ls()...).Set(0)
		p.reactive.WithLabelValues(ls()...).Set(float64(d.Reactive))
	} else {
		p.held.WithLabelValues(ls()...).Set(1)
		p.reactive.DeletePartialMatch(id)
	}
	p.demandNow.DeletePartialMatch(id)
	if o.Demand.Missing == "" {
		p.demandNow.WithLabelValues(ls()...).Set(o.Demand.Value)
	}
	p.score.DeletePartialMatch(id)
	for _, s := range known.Forecast {
		p.score.WithLabelValues(ls(s.Horizon.String(), s.Method)...).Set(s.Score)
	}
	p.capacity.DeletePartialMatch(id)
	if out.input.Capacity.Source == scaler.Stated {
		p.capacity.WithLabelValues(ls("", "")...).Set(out.input.Capacity.Value)
	} else {
		for _, c := range known.Capacity {
			p.capacity.WithLabelValues(ls(c.Version, c.GPU)...).Set(c.PerReplica.Value)
		}
	}
	p.startUp.DeletePartialMatch(id)
	if known.StartUp.Source != scaler.Unknown {
		for q, v := range map[string]time.Duration{"50": known.StartUp.P50, "90": known.StartUp.P90} {
			p.startUp.WithLabelValues(ls(q)...).Set(v.Seconds())
		}
	}
}

// withdraw takes the wish back, so that the HPA leaves the target as it is.
func (p *published) withdraw(of types.NamespacedName) {
	p.desired.DeletePartialMatch(prometheus.Labels{"namespace": of.Namespace, policyLabel: of.Name})
}

// forget removes all that is said of a policy.
func (p *published) forget(of types.NamespacedName) {
	for _, v := range p.series {
		v.DeletePartialMatch(prometheus.Labels{"namespace": of.Namespace, policyLabel: of.Name})
	}
}
