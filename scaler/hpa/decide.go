package hpa

import "time"

// Reason is that of a condition, in the controller's words. "" is none: the look did not come so far, and the condition
// stays as it was.
type Reason string

// The reasons of the condition AbleToScale. After a decision that rescales, SucceededRescale or FailedUpdateScale takes
// the place of the others, by whether the update succeeds; Decision.Able keeps what came before.
const (
	FailedGetScale      Reason = "FailedGetScale"
	SucceededGetScale   Reason = "SucceededGetScale" // the last word where limits or failing metrics decided
	ReadyForNewScale    Reason = "ReadyForNewScale"
	ScaleUpStabilized   Reason = "ScaleUpStabilized"
	ScaleDownStabilized Reason = "ScaleDownStabilized"
	SucceededRescale    Reason = "SucceededRescale"
	FailedUpdateScale   Reason = "FailedUpdateScale"
)

// The reasons of the condition ScalingActive. All but ValidMetricFound make it False.
const (
	ValidMetricFound                 Reason = "ValidMetricFound"
	ScalingDisabled                  Reason = "ScalingDisabled" // by 0 replicas that the controller did not scale to
	InvalidSelector                  Reason = "InvalidSelector"
	AmbiguousSelector                Reason = "AmbiguousSelector"
	FailedGetResourceMetric          Reason = "FailedGetResourceMetric"
	FailedGetContainerResourceMetric Reason = "FailedGetContainerResourceMetric"
	FailedGetPodsMetric              Reason = "FailedGetPodsMetric"
	FailedGetObjectMetric            Reason = "FailedGetObjectMetric"
	FailedGetExternalMetric          Reason = "FailedGetExternalMetric"
)

// The reasons of the condition ScalingLimited. All but DesiredWithinRange make it True.
const (
	DesiredWithinRange Reason = "DesiredWithinRange"
	TooFewReplicas     Reason = "TooFewReplicas"
	TooManyReplicas    Reason = "TooManyReplicas"
	ScaleUpLimit       Reason = "ScaleUpLimit"
	ScaleDownLimit     Reason = "ScaleDownLimit"
)

// Cause is why replicas are to change.
type Cause uint8

// The causes. NoCause is that of decisions that change nothing before stabilization.
const (
	NoCause Cause = iota
	AboveMax
	BelowMin
	AboveTarget // Decision.Metric asks for more
	AllBelowTarget
)

// Decision is what one look came to.
type Decision struct {
	Replicas   int32 // desired; those of now where nothing is to change
	Rescale    bool  // the scale is to be updated
	Cause      Cause
	Wanted     int32 // what the metrics ask for together, where they were asked and did not fail
	Stabilized int32 // what stabilization leaves of that
	Metric     int   // the one that decided Wanted; -1 where none was asked, or all failed
	Failed     int   // how many metrics failed
	First      int   // the first of those; -1 where none did

	Able, Active, Limited Reason // of the conditions AbleToScale, ScalingActive and ScalingLimited

	// Proposals has each metric's, in their order; nil where none was asked. It is overwritten by the next decision with the
	// same Memory.
	Proposals []Proposal
}

// Limiting says whether the condition ScalingLimited is True.
func (d *Decision) Limiting() bool { return d.Limited != "" && d.Limited != DesiredWithinRange }

// Reconcile is one look of a controller whose updates succeed.
func Reconcile(cfg *Config, a *Autoscaler, m *Memory, obs *Observation) Decision {
	d := Decide(cfg, a, m, obs)
	m.Applied(cfg, a, obs, &d)
	return d
}

// Decide is reconcileAutoscaler of horizontal.go up to the update of the scale; Memory.Applied is what follows. Of the memory
// it changes the recommendations, as the controller does, whether or not an update succeeds. The autoscaler must be valid,
// and have its defaults.
func Decide(cfg *Config, a *Autoscaler, m *Memory, obs *Observation) Decision {
	current, least := obs.Replicas, a.least()
	d := Decision{Replicas: current, Metric: -1, First: -1}
	if obs.ScaleErr != nil {
		d.Able = FailedGetScale
		return d
	}
	d.Able = SucceededGetScale
	m.first(current, obs.Now)
	toZero := cfg.ScaleToZero && m.ScaledToZero
	switch {
	case current == 0:
		if !toZero || least == 0 && !a.readsWithoutPods() {
			d.Active = ScalingDisabled
			m.ScaledToZero = toZero
			return d
		}
	case current > a.Max:
		d.Cause, d.Replicas, d.Rescale = AboveMax, a.Max, true
		return d
	case current < least:
		d.Cause, d.Replicas, d.Rescale = BelowMin, least, true
		return d
	}
	if !d.ask(cfg, a, m, obs) {
		return d
	}
	switch {
	case d.Wanted > current:
		d.Cause = AboveTarget
	case d.Wanted < current:
		d.Cause = AllBelowTarget
	}
	d.stabilize(cfg, a, m, obs)
	d.Replicas, d.Limited = a.limit(current, d.Stabilized, m, obs.Now)
	if current == 0 && d.Replicas < least { // min was raised after the scaling to 0
		d.Replicas = least
		if d.Cause == NoCause {
			d.Cause = BelowMin
		}
	}
	d.Rescale = d.Replicas != current
	return d
}

// ask is computeReplicasForMetrics: the highest proposal counts, and where a metric fails none below the replicas of now. It
// returns false where there is nothing to go by.
func (d *Decision) ask(cfg *Config, a *Autoscaler, m *Memory, obs *Observation) bool {
	if obs.Selector != "" {
		d.Active = obs.Selector
		return false
	}
	t := a.Tolerances(cfg)
	m.proposals = m.proposals[:0]
	var most int32
	for i := range a.Metrics {
		r := &Reading{Err: ErrNoReading}
		if i < len(obs.Readings) {
			r = &obs.Readings[i]
		}
		p := Propose(cfg, &a.Metrics[i], obs, r, t)
		m.proposals = append(m.proposals, p)
		switch {
		case p.Err != nil:
			if d.Failed == 0 {
				d.First = i
			}
			d.Failed++
		case most == 0 || p.Replicas > most: // so after a 0 the next one counts, even a negative one
			most, d.Metric = p.Replicas, i
		}
	}
	d.Proposals = m.proposals
	if len(a.Metrics) == 0 { // the API server lets none be without
		return false
	}
	if d.Failed == len(a.Metrics) || d.Failed > 0 && most < obs.Replicas {
		d.Metric = -1
		d.Active = "FailedGet" + Reason(a.Metrics[d.First].Source) + "Metric"
		return false
	}
	d.Active = ValidMetricFound
	d.Wanted = max(0, most)
	return true
}

// stabilize is the first half of normalizeDesiredReplicas, and of normalizeDesiredReplicasWithBehaviors.
func (d *Decision) stabilize(cfg *Config, a *Autoscaler, m *Memory, obs *Observation) {
	d.Able = ReadyForNewScale
	if b := a.Behavior; b != nil {
		d.Stabilized = m.stabilize(b.Up.window(0), b.Down.window(cfg.DownscaleStabilization), obs.Replicas, d.Wanted, obs.Now)
	} else {
		d.Stabilized = m.highest(cfg.DownscaleStabilization, d.Wanted, obs.Now)
	}
	switch {
	case d.Stabilized == d.Wanted:
	case a.Behavior != nil && d.Wanted >= obs.Replicas:
		d.Able = ScaleUpStabilized
	default:
		d.Able = ScaleDownStabilized
	}
}

// window is in whole seconds, as in the API.
func (r *Rules) window(flag time.Duration) time.Duration {
	if r.Window != nil {
		return *r.Window
	}
	return flag.Truncate(time.Second)
}
