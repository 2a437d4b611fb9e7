package kube

import (
	"fmt"
	"math"
	"time"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler"
	"headroom.dev/headroom/scaler/policy"
)

// service is the scaler of one policy between two looks.
type service struct {
	settings policy.Settings
	core     *scaler.Service
	memory   scaler.Memory
	history  *history
	source   string // of the history
	account  account

	generation int64 // of the spec that settings are
	wish       int32 // the last decision of this process; 0 where there was none
	said       int32 // the last decision, be it of a former process, for the record alone
	last       time.Time
	foreseen   []foreseen
	records    []v1alpha1.DecisionRecord // newest first
	saved      time.Time                 // when the history was written last
	written    time.Time                 // when the status was written last
}

// foreseen is what was forecast for a time.
type foreseen struct {
	at     time.Time
	demand float64
}

// outcome is one look's result.
type outcome struct {
	now        time.Time
	decision   scaler.Decision
	input      scaler.Input
	before     int32    // the wish before
	previously *float64 // what had been forecast for now; nil where nothing had
}

// newService starts with what a former process knew.
func newService(s policy.Settings, generation int64, past *history, source string, known scaler.Knowledge) (*service, error) {
	core, err := scaler.NewService(s.Config)
	if err != nil {
		return nil, policy.Invalid("spec", "%w", err)
	}
	step := s.Config.Step
	if step == 0 {
		step = time.Minute
	}
	if past == nil {
		past, source = newHistory(step), sourceObserved
	}
	v := &service{settings: s, core: core, history: past.regrid(step), source: source, generation: generation}
	if err := v.history.replay(core.Replay); err != nil {
		return nil, fmt.Errorf("cannot replay the history of demand: %w", err)
	}
	core.Restore(known)
	return v, nil
}

// follow takes over another spec: what was learnt and measured stays, unless demand now means something else.
func (v *service) follow(s policy.Settings, generation int64) (*service, error) {
	past, known := v.history, v.core.Knowledge()
	same := s.Metric == v.settings.Metric && s.Query == v.settings.Query
	if !same {
		past, known.Capacity = nil, nil
	} else if s.Latency != v.settings.Latency || s.Config.LatencyTarget != v.settings.Config.LatencyTarget {
		known.Capacity = nil // learnt at another SLO
	}
	next, err := newService(s, generation, past, v.source, known)
	if err != nil {
		return nil, err
	}
	next.memory, next.account, next.wish, next.said, next.last = v.memory, v.account, v.wish, v.said, v.last
	next.records, next.saved = v.records, v.saved
	return next, nil
}

// look observes and decides. hold says that the last wish is the number to hold while data is missing: it stands published, and
// the target may not have followed yet.
func (v *service) look(o scaler.Observation, hold bool) (outcome, error) {
	if err := v.core.Observe(o); err != nil {
		return outcome{}, err
	}
	measured := math.NaN()
	if o.Demand.Missing == "" {
		measured = o.Demand.Value
	}
	v.history.add(o.Now, measured)

	in := v.core.Input(o.Now)
	ahead := time.Duration(in.StartUp.Value * float64(time.Second))
	in.Policy.Schedule = v.settings.Schedule.Floors(o.Now, o.Now.Add(ahead))
	in.Memory = v.memory
	if hold && v.wish > 0 && in.Demand.Missing != "" {
		in.Replicas = v.wish
	}
	d := scaler.Decide(in)
	v.memory = d.Memory

	out := outcome{now: o.Now, decision: d, input: in, before: v.wish, previously: v.recall(o.Now)}
	if in.Ahead.Valid && !math.IsNaN(in.Ahead.Demand) {
		v.foreseen = append(v.foreseen, foreseen{o.Now.Add(in.Ahead.Horizon), in.Ahead.Demand})
	}
	v.count(o, in, d)
	v.record(o, d)
	v.wish, v.last = d.Replicas, o.Now
	return out, nil
}

// recall returns what had been forecast for now, if a forecast was for less than two periods ago.
func (v *service) recall(now time.Time) *float64 {
	var found *foreseen
	for len(v.foreseen) > 0 && !v.foreseen[0].at.After(now) {
		found = &foreseen{v.foreseen[0].at, v.foreseen[0].demand}
		v.foreseen = v.foreseen[1:]
	}
	if found == nil || now.Sub(found.at) > 2*v.period() {
		return nil
	}
	return &found.demand
}

func (v *service) count(o scaler.Observation, in scaler.Input, d scaler.Decision) {
	wish := v.wish
	if wish == 0 {
		wish = d.Replicas
	}
	v.account.add(moment{
		now: o.Now, replicas: o.Replicas, serving: in.Pods.Ready, wish: wish, demand: o.Demand,
		capacity: in.Capacity.Value, startUp: time.Duration(in.StartUp.Value * float64(time.Second)),
	}, v.pause())
}

// period is the time between two looks.
func (v *service) period() time.Duration { return v.settings.Config.Policy.Period }

// pause is the longest time between two looks that is not an absence.
func (v *service) pause() time.Duration { return 4*v.period() + time.Second }

// record keeps the decisions that changed the wish; the first one changes what the target had.
func (v *service) record(o scaler.Observation, d scaler.Decision) {
	from := v.said
	if from == 0 {
		from = o.Replicas
	}
	v.said = d.Replicas
	if d.Replicas == from {
		return
	}
	r := v1alpha1.DecisionRecord{
		Time: timeOf(o.Now), From: from, To: d.Replicas, Reactive: d.Reactive, Limit: d.Limit.String(), Message: d.Message(),
	}
	const kept = 10
	v.records = append([]v1alpha1.DecisionRecord{r}, v.records[:min(len(v.records), kept-1)]...)
}
