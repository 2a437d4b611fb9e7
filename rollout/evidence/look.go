package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/judge"
)

// maxAge is how old a value of a metric may be, and for how long a look waits for requests of both versions: servers are scraped
// once a minute at the least, and a look between two scrapes sees the same counters again.
const maxAge = time.Minute

// Judged is the judge's state after a look.
type Judged struct {
	// State is to be stored, and given to the next look.
	State   []byte
	Verdict rollout.Verdict
	Status  v1alpha1.RolloutVerdict
	// Next is when the next look is due.
	Next time.Time
}

// scene is one look.
type scene struct {
	arms

	client    *Client
	namespace string
	plan      *plan
	record    *record
	notes     []string
	readings  readings
	gauges    map[string]map[string]float64 // by metric and pod
	faults    map[string]string             // why a metric cannot be had, by metric
}

// Judge takes a look, if one is due, at the versions' pods. State is what the last look returned, nil at the first; it begins anew
// where it is about another rollout (the part of the key before the first slash), or cannot be read, or what is judged has
// changed, and at another key than that of a Fail: then somebody has the version tried again. A Fail stays for its key.
//
// What is not known is Inconclusive with a message, not an error; the error is ctx's.
func (c *Client) Judge(ctx context.Context, p *v1alpha1.RolloutPolicy, state []byte, l Look) (Judged, error) {
	now := c.Now()
	plan, err := read(&p.Spec.Analysis)
	if err != nil {
		return without(l.Key, now.Add(plan.interval), state, "Invalid", oneLine(err)), nil
	}
	r, note := remembered(plan, state, l.Key, now)
	if waiting, ok := r.standing(plan, l.Key, now); ok {
		waiting.State = state
		return waiting, nil
	}
	if r.Key != l.Key {
		r.Here = 0
	}
	r.Key, r.Policy, r.Next = l.Key, plan.fingerprint(), now.Add(plan.interval)
	s := &scene{
		client: c, namespace: p.Namespace, plan: plan, record: r, arms: arms{now: now, new: judged(l.New), old: judged(l.Old)},
		gauges: map[string]map[string]float64{}, faults: map[string]string{},
	}
	if note != "" {
		s.notes = append(s.notes, note)
	}
	s.look(ctx)
	if err := ctx.Err(); err != nil {
		return Judged{}, fmt.Errorf("cannot judge %s: %w", l.Key, err)
	}
	encoded, err := r.encode()
	if err != nil {
		return without(l.Key, r.Next, nil, "StateTooLarge", oneLine(err)), nil
	}
	return Judged{State: encoded, Verdict: r.Verdict, Status: r.Status, Next: r.Next}, nil
}

// without is the answer where nothing can be judged at all.
func without(key string, next time.Time, state []byte, reason, message string) Judged {
	return Judged{
		State: state, Next: next, Verdict: rollout.Verdict{Key: key, Result: rollout.Inconclusive, Message: message},
		Status: v1alpha1.RolloutVerdict{Result: string(rollout.Inconclusive), Reason: reason, Message: message},
	}
}

// remembered is what a look builds on, and why that is nothing where it began before.
func remembered(plan *plan, state []byte, key string, now time.Time) (*record, string) {
	r, err := decode(state)
	switch {
	case err != nil:
		return &record{}, "begun anew: " + oneLine(err)
	case r.Key == "" || about(r.Key) != about(key):
		return &record{}, ""
	case r.Policy != plan.fingerprint():
		return &record{}, "begun anew: the analysis was changed"
	case r.Verdict.Result == rollout.Fail && r.Key != key:
		return &record{}, "begun anew: the version failed before and is tried again"
	case r.Judged.After(now.Add(10 * time.Minute)):
		return &record{}, "begun anew: the clock went back"
	}
	return r, ""
}

// standing is what still stands, where no look is due.
func (r *record) standing(plan *plan, key string, now time.Time) (Judged, bool) {
	due := !now.Before(r.Next) || r.Next.Sub(now) > plan.interval
	switch {
	case r.Key == key && r.Verdict.Result == rollout.Fail:
		return Judged{Verdict: r.Verdict, Status: r.Status, Next: now.Add(plan.interval)}, true
	case due:
		return Judged{}, false
	case r.Key == key:
		return Judged{Verdict: r.Verdict, Status: r.Status, Next: r.Next}, true
	}
	message := "the first look at this step is due at " + r.Next.UTC().Format(time.TimeOnly)
	return Judged{
		Verdict: rollout.Verdict{Key: key, Message: message}, Next: r.Next,
		Status: v1alpha1.RolloutVerdict{Result: string(judge.Inconclusive), Reason: string(judge.Gathering), Message: message},
	}, true
}

// fingerprint changes with what is judged.
func (p *plan) fingerprint() string {
	var of []any
	for _, m := range p.metrics {
		var sources []string
		for _, s := range m.sources {
			sources = append(sources, s.id)
		}
		of = append(of, []any{m.metric, m.query, m.optional, sources})
	}
	raw, _ := json.Marshal([]any{p.spec, of}) // numbers that JSON lacks are no valid spec
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// look asks, gives the judge what it got, and says what that means here.
func (s *scene) look(ctx context.Context) {
	if err := s.ask(ctx); err != nil {
		s.say(rollout.Inconclusive, "NoAnswer", "the metric plane cannot be asked: "+oneLine(err), nil)
		return
	}
	s.choose()
	if !s.begin() {
		return
	}
	observed := s.observe()
	if waiting := s.quiet(observed); waiting != "" && s.now.Sub(s.record.Judged) < maxAge && s.record.Status.Looks > 0 {
		s.keep(waiting)
		return
	}
	s.remember(observed)
	if s.now.After(s.record.Judged) {
		s.record.Judged = s.now
	}
	s.conclude(s.record.judge.Look(s.now, observed))
}

// ask gets everything that the metrics need.
func (s *scene) ask(ctx context.Context) error {
	var names []string
	for i := range s.plan.metrics {
		m := &s.plan.metrics[i]
		for _, src := range m.candidates(s.record) {
			for _, name := range src.names() {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		if m.Kind == judge.Gauge {
			s.askGauge(ctx, m)
		}
	}
	if len(names) == 0 || len(s.new)+len(s.old) == 0 {
		s.readings = readings{}
		return nil
	}
	slices.Sort(names)
	samples, err := s.client.Plane.Query(ctx, s.namespace, expression(s.namespace, names, s.new, s.old))
	if err != nil {
		return err
	}
	s.readings = byPod(samples, s.namespace)
	return nil
}

// candidates are the source that was chosen, or all.
func (w *wanted) candidates(r *record) []source {
	if id := r.Sources[w.Name]; id != "" {
		for _, one := range w.sources {
			if one.id == id {
				return []source{one}
			}
		}
	}
	return w.sources
}

// askGauge gets a gauge's values; why there are none goes to faults.
func (s *scene) askGauge(ctx context.Context, m *wanted) {
	values := map[string]float64{}
	take := func(pod string, one Sample) {
		if s.now.Sub(one.At) <= maxAge {
			values[pod] = one.Value
		}
	}
	s.gauges[m.Name] = values
	if m.query != "" {
		samples, err := s.client.Plane.Query(ctx, s.namespace, m.query)
		if err != nil {
			s.faults[m.Name] = oneLine(err)
			return
		}
		seen := map[string]bool{}
		for _, one := range samples {
			pod := one.Labels[podLabel]
			if ns, said := one.Labels[namespaceLabel]; said && ns != s.namespace {
				continue
			}
			if seen[pod] {
				one.Value = math.NaN() // which of them is meant, nobody knows
				s.faults[m.Name] = fmt.Sprintf("the query has several results for pod %q", pod)
			}
			seen[pod] = true
			take(pod, one)
		}
		return
	}
	found, err := s.client.podMetric(ctx, s.namespace, slices.Concat(s.new, s.old), m.metric)
	if err != nil {
		s.faults[m.Name] = oneLine(err)
	}
	for pod, one := range found {
		take(pod, one)
	}
}

// choose settles where each metric is read, as soon as both versions have it there.
func (s *scene) choose() {
	for i := range s.plan.metrics {
		m := &s.plan.metrics[i]
		if m.Kind == judge.Gauge || s.record.Sources[m.Name] != "" {
			continue
		}
		for _, src := range m.sources {
			if s.readings.has(src, s.new) && s.readings.has(src, s.old) {
				if s.record.Sources == nil {
					s.record.Sources = map[string]string{}
				}
				s.record.Sources[m.Name] = src.id
				break
			}
		}
	}
}

// begin makes the judge where there is none, or where an optional metric has come or gone; false where there is nothing to judge by.
func (s *scene) begin() bool {
	left := s.record.LeftOut
	if s.readings.some(s.new) && s.readings.some(s.old) {
		left = nil
		for i := range s.plan.metrics {
			if m := &s.plan.metrics[i]; m.optional && m.Kind != judge.Gauge && s.record.Sources[m.Name] == "" && !s.either(m) {
				left = append(left, m.Name)
			}
		}
	}
	if s.record.judge != nil && slices.Equal(left, s.record.LeftOut) {
		return true
	}
	if s.record.judge != nil {
		s.notes = append(s.notes, "begun anew: optional metrics have come or gone")
	}
	spec := s.plan.spec
	spec.Metrics = slices.DeleteFunc(slices.Clone(spec.Metrics), func(m judge.Metric) bool { return slices.Contains(left, m.Name) })
	s.record.LeftOut, s.record.Requests, s.record.Here, s.record.judge, s.record.Status = left, nil, 0, nil, v1alpha1.RolloutVerdict{}
	if len(spec.Metrics) == 0 {
		s.say(rollout.Inconclusive, string(judge.NoData), "no metric is there to judge by, all are optional and absent: "+s.lookedFor(left), nil)
		return false
	}
	j, err := judge.New(spec)
	if err != nil { // the plan's spec was tried with all metrics
		s.say(rollout.Inconclusive, "Invalid", oneLine(err), nil)
		return false
	}
	s.record.judge = j
	return true
}

// either says whether one version has a metric somewhere.
func (s *scene) either(m *wanted) bool {
	return slices.ContainsFunc(m.sources, func(src source) bool { return s.readings.has(src, s.new) || s.readings.has(src, s.old) })
}

// keep leaves the verdict as it was, unless it is about another key.
func (s *scene) keep(waiting string) {
	r := s.record
	result := r.Verdict.Result
	if r.Verdict.Key != r.Key {
		result = rollout.NoResult
	}
	r.Verdict = rollout.Verdict{Key: r.Key, Result: result, Message: waiting}
	r.Status.Message = waiting
	if r.Status.Result = string(result); result == rollout.NoResult {
		r.Status.Result = string(judge.Inconclusive)
	}
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// say stores a verdict.
func (s *scene) say(result rollout.Result, reason, message string, v *judge.Verdict) {
	if len(s.notes) > 0 {
		message += " (" + strings.Join(s.notes, "; ") + ")"
	}
	r := s.record
	r.Verdict = rollout.Verdict{Key: r.Key, Result: result, Message: message}
	status := v1alpha1.RolloutVerdict{Result: string(result), Reason: reason, Message: message, Looks: r.Status.Looks, At: r.Status.At}
	if result == rollout.NoResult {
		status.Result = string(judge.Inconclusive)
	}
	if v != nil {
		at := metav1.NewTime(s.now)
		status.Looks, status.At, status.Metrics = int32(min(v.Looks, math.MaxInt32)), &at, s.figures(v)
	}
	r.Status = status
}
