package kube

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/rollout"
)

const policyLabel = "rolloutpolicy"

// published is what /metrics says of the policies. Only the leader has any.
type published struct {
	phase, step, replicas, weight, verdict *prometheus.GaugeVec
	ended, refusals                        *prometheus.CounterVec
	duration                               *prometheus.HistogramVec
	series                                 []interface{ DeletePartialMatch(prometheus.Labels) int }
}

// newPublished registers the metrics; it fails where another has done so.
func newPublished(reg prometheus.Registerer) (*published, error) {
	p := &published{}
	labels := func(more ...string) []string { return append([]string{"namespace", policyLabel}, more...) }
	gauge := func(name, help string, more ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels(more...))
	}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels(more...))
	}
	p.phase = gauge("headroom_rollout_phase", "1 for the phase that a rollout is in.", "phase")
	p.step = gauge("headroom_rollout_step", "The step that an update is at, from 1; 0 at rest.")
	p.replicas = gauge("headroom_rollout_replicas", "Replicas of a version, Ready or not.", "version", "state")
	p.weight = gauge("headroom_rollout_weight_ratio", "The share of requests of the new version that the router has in force.")
	p.verdict = gauge("headroom_rollout_verdict", "1 for what the judge says of the present step.", "result")
	p.ended = counter("headroom_rollouts_total", "Updates that have ended, by outcome.", "outcome")
	p.refusals = counter("headroom_rollout_refusals_total", "Updates that were refused for the time being, by reason.", "reason")
	p.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "headroom_rollout_duration_seconds", Help: "From the start of an update to its end.",
		Buckets: prometheus.ExponentialBuckets(15, 2, 14), // 15 s to 34 h
	}, labels("outcome"))
	for _, v := range []interface {
		prometheus.Collector
		DeletePartialMatch(prometheus.Labels) int
	}{p.phase, p.step, p.replicas, p.weight, p.verdict, p.ended, p.refusals, p.duration} {
		p.series = append(p.series, v)
		if err := reg.Register(v); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// show writes what a look found.
func (p *published) show(of types.NamespacedName, l *look) {
	id := prometheus.Labels{"namespace": of.Namespace, policyLabel: of.Name}
	ls := func(more ...string) []string { return append([]string{of.Namespace, of.Name}, more...) }
	s := &l.record.State
	p.phase.DeletePartialMatch(id)
	p.phase.WithLabelValues(ls(phaseName(s.Phase))...).Set(1)
	step := 0
	if s.Schedule != nil {
		step = s.Step + 1
	}
	p.step.WithLabelValues(ls()...).Set(float64(step))
	p.replicas.DeletePartialMatch(id)
	for name, template := range map[string]string{"stable": s.From, "update": s.To} {
		if template == "" {
			continue
		}
		v := l.versions[template]
		for state, n := range map[string]int{"ready": v.Ready, "no_gpu": v.NoGPU, "loading": v.Loading, "broken": v.Broken} {
			p.replicas.WithLabelValues(ls(name, state)...).Set(float64(n))
		}
	}
	p.weight.DeletePartialMatch(id)
	if l.weight != nil {
		p.weight.WithLabelValues(ls()...).Set(*l.weight)
	}
	p.verdict.DeletePartialMatch(id)
	if s.Phase == rollout.Settled && l.verdict.Result != rollout.NoResult {
		p.verdict.WithLabelValues(ls(string(l.verdict.Result))...).Set(1)
	}
}

// forget removes all that is said of a policy.
func (p *published) forget(of types.NamespacedName) {
	for _, v := range p.series {
		v.DeletePartialMatch(prometheus.Labels{"namespace": of.Namespace, policyLabel: of.Name})
	}
}

// phaseName is a phase as people are told of it.
func phaseName(p rollout.Phase) string {
	if p == rollout.Adopting {
		return "Adopting"
	}
	return string(p)
}
