package hpa

import (
	"errors"
	"math"
)

// Tolerances say which ratios of usage to target leave the number of replicas as it is: 1-Down to 1+Up, both inclusive.
type Tolerances struct{ Down, Up float64 }

func (t Tolerances) within(ratio float64) bool { return 1-t.Down <= ratio && ratio <= 1+t.Up }

// Verdict says how a proposal came about.
type Verdict string

// Usage is brought to the target, is near enough to change nothing, or the pods without a value, counted the cautious way,
// would turn the direction round.
const (
	Scaled          Verdict = "Scaled"
	WithinTolerance Verdict = "WithinTolerance"
	WouldReverse    Verdict = "WouldReverse"
)

// Proposal is how many replicas one metric asks for.
type Proposal struct {
	// Err is why it asks for none: the Err or RequestErr of its reading, or one of the errors of this package.
	Err      error
	Replicas int32
	Verdict  Verdict
	// Usage is in thousandths: the mean over the measured pods, the whole for Value, or the whole divided by the created
	// replicas (where there is none, the whole, while the controller writes the least int64).
	Usage int64
	Ratio float64 // of usage to target, by what was measured
	// Percent is of the requests, for Utilization.
	Percent int32
	// How many pods are in each group, and of how many Strangers there are values.
	Measured, Missing, Unready, Ignored, Strangers int
	// Cautious says that the pods without a value were counted in: Assumed is what each missing one counted as (thousandths;
	// percent of its request for Utilization), unready ones count as 0 when scaling up; CautiousRatio is of usage to target
	// with these. Where the measured usage is at the target exactly, missing pods are not counted in.
	Cautious      bool
	Assumed       int64
	CautiousRatio float64
}

// ErrNoValues is why nothing is proposed when no pod has a value.
var ErrNoValues = errors.New("did not receive metrics for targeted pods (pods might be unready)")

// ErrNoPods is why nothing is proposed when the selector matches no pod.
var ErrNoPods = errors.New("no pods returned by selector while calculating replica count")

// ErrNoMatch is why nothing is proposed when the pods with a value request nothing.
var ErrNoMatch = errors.New("no metrics returned matched known pods")

// ErrNoTarget is why nothing is proposed when the target's type and its value do not fit together.
var ErrNoTarget = errors.New("invalid metric source: the target has no value of its type")

// ErrNoReading is why nothing is proposed when a reading has neither a value nor an error.
var ErrNoReading = errors.New("no metrics returned")

// Propose is what one metric asks for.
func Propose(cfg *Config, m *Metric, obs *Observation, r *Reading, t Tolerances) Proposal {
	switch {
	case m.Kind == "":
		return Proposal{Err: ErrNoTarget}
	case r.Err != nil:
		return Proposal{Err: r.Err}
	case m.Source != Object && m.Source != External:
		return forPods(cfg, m, obs, r, t)
	case len(r.Values) == 0:
		return Proposal{Err: ErrNoReading}
	case m.Kind == AverageValue:
		return ForAverageValue(m, obs.Created, r.total(m), t)
	}
	p := ForValue(m, obs.Replicas, ready(obs.Pods), r.total(m), t)
	if p.Verdict == Scaled && obs.Replicas != 0 && len(obs.Pods) == 0 {
		return Proposal{Err: ErrNoPods}
	}
	return p
}

// total adds up series. What does not fit an int64 is the greatest one; the controller looks for that in two ways.
func (r *Reading) total(m *Metric) int64 {
	var sum int64
	for _, v := range r.Values {
		if m.Kind == Value && v > 0 && sum > math.MaxInt64-v {
			return math.MaxInt64
		}
		sum += v
		if m.Kind == AverageValue && m.Source == External && sum < 0 {
			return math.MaxInt64 // so is a negative sum
		}
	}
	return sum
}

// ForValue is for an Object or External metric with a target of type Value. replicas are those of the scale's spec, ready
// the pods that are Running and Ready.
func ForValue(m *Metric, replicas int32, ready int, usage int64, t Tolerances) Proposal {
	p := Proposal{Replicas: replicas, Usage: usage, Ratio: float64(usage) / float64(m.Target)}
	switch {
	case replicas == 0:
		p.Verdict, p.Replicas = Scaled, ceil(p.Ratio)
	case t.within(p.Ratio):
		p.Verdict = WithinTolerance
	default:
		p.Verdict, p.Replicas = Scaled, capped(p.Ratio*float64(ready))
	}
	return p
}

// ForAverageValue is for an Object or External metric with a target of type AverageValue: usage is divided by the replicas
// of the scale's status.
func ForAverageValue(m *Metric, created int32, usage int64, t Tolerances) Proposal {
	p := Proposal{
		Replicas: created, Verdict: WithinTolerance, Ratio: float64(usage) / (float64(m.Target) * float64(created)),
	}
	if !t.within(p.Ratio) { // 0 of 0 replicas is not a number, and that is not within
		wanted := float64(usage) / float64(m.Target)
		p.Verdict, p.Replicas = Scaled, ceil(wanted)
		if m.Source == External {
			p.Replicas = capped(wanted)
		}
	}
	p.Usage = usage
	switch {
	case m.Source == External && float64(usage) >= math.MaxInt64: // the next lower 512 round up to that
		p.Usage = math.MaxInt64
	case created != 0:
		p.Usage = int64(math.Ceil(float64(usage) / float64(created)))
	}
	return p
}

// ceil overflows as the controller does where it has no cap: on amd64 to the least int32, so that too large a value asks for
// no replica at all.
func ceil(replicas float64) int32 { return int32(math.Ceil(replicas)) }

func capped(replicas float64) int32 {
	if replicas > math.MaxInt32 {
		return math.MaxInt32
	}
	return ceil(replicas)
}
