// Package hpa is the arithmetic of the stock Horizontal Pod Autoscaler (Kubernetes 1.37,
// pkg/controller/podautoscaler/replica_calculator.go) over plain structs: how many replicas each metric asks for, and why.
//
// Guarantees: the functions are pure, round as the controller does (thousandths as int64, ratios as float64), and return
// with the number everything that led to it. What depends on the past, stabilization and the changes within a policy's
// period, is the controller's alone to know. Resource metrics are not here yet.
package hpa

import (
	"errors"
	"math"
)

// Tolerances say which ratios of usage to target leave the number of replicas as it is: 1-Down to 1+Up, both inclusive.
type Tolerances struct{ Down, Up float64 }

// DefaultTolerances are the controller's: 0.1 each way.
func DefaultTolerances() Tolerances { return Tolerances{Down: 0.1, Up: 0.1} }

func (t Tolerances) within(ratio float64) bool { return 1-t.Down <= ratio && ratio <= 1+t.Up }

// Pod is what the arithmetic knows of a pod that the scale target's selector matches.
type Pod struct {
	Name    string
	Ignored bool   // it is being deleted or has failed
	Pending bool   // its phase
	Milli   *int64 // the metric's value in thousandths; nil where it has none
}

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
	Replicas int32
	Verdict  Verdict
	Usage    int64   // thousandths; the mean over the measured pods, or of the whole divided by the replicas
	Ratio    float64 // of usage to target, by what was measured
	Measured int     // pods with a value
	// Missing and Unready pods have no value. AssumedMilli is what each missing one was counted with where that decided;
	// unready ones count as 0, when scaling up.
	Missing, Unready, Ignored []string
	AssumedMilli              *int64
	CautiousRatio             *float64 // of usage to target with these counted in; nil where it needs none
}

// ErrNoValues is why nothing is proposed when no pod has a value.
var ErrNoValues = errors.New("did not receive metrics for targeted pods (pods might be unready)")

// ErrNoPods is why nothing is proposed when the selector matches no pod.
var ErrNoPods = errors.New("no pods returned by selector while calculating replica count")

// ForPods is for a Pods metric: targetMilli is the value wanted of the average pod, current the replicas of the scale's spec.
func ForPods(current int32, targetMilli int64, pods []Pod, tolerances Tolerances) (Proposal, error) {
	if len(pods) == 0 {
		return Proposal{}, ErrNoPods
	}
	var p Proposal
	var sum int64
	for _, pod := range pods {
		switch {
		case pod.Ignored:
			p.Ignored = append(p.Ignored, pod.Name)
		case pod.Pending:
			p.Unready = append(p.Unready, pod.Name)
		case pod.Milli == nil:
			p.Missing = append(p.Missing, pod.Name)
		default:
			sum += *pod.Milli
			p.Measured++
		}
	}
	if p.Measured == 0 {
		return p, ErrNoValues
	}
	p.Replicas = current
	p.Usage = sum / int64(p.Measured)
	p.Ratio = float64(p.Usage) / float64(targetMilli)
	unreadyCount := 0
	if p.Ratio > 1 {
		unreadyCount = len(p.Unready)
	}
	if unreadyCount == 0 && len(p.Missing) == 0 {
		if tolerances.within(p.Ratio) {
			p.Verdict = WithinTolerance
			return p, nil
		}
		p.Verdict, p.Replicas = Scaled, ceil(p.Ratio*float64(p.Measured))
		return p, nil
	}
	p.cautious(current, sum, targetMilli, unreadyCount, tolerances)
	return p, nil
}

// cautious counts the pods without a value against the change: missing ones at the target when scaling down, at 0 when
// scaling up, unready ones at 0 when scaling up.
func (p *Proposal) cautious(current int32, sum, targetMilli int64, unready int, tolerances Tolerances) {
	n := p.Measured + unready
	var assumed int64
	if p.Ratio < 1 {
		assumed = targetMilli
	}
	if p.Ratio != 1 { // at exactly the target the controller adds no missing pod
		n += len(p.Missing)
		sum += assumed * int64(len(p.Missing))
		if len(p.Missing) > 0 {
			p.AssumedMilli = &assumed
		}
	}
	ratio := float64(sum/int64(n)) / float64(targetMilli)
	p.CautiousRatio = &ratio
	switch {
	case tolerances.within(ratio):
		p.Verdict = WithinTolerance
	case p.Ratio < 1 && ratio > 1 || p.Ratio > 1 && ratio < 1:
		p.Verdict = WouldReverse
	default:
		replicas := ceil(ratio * float64(n))
		if ratio < 1 && replicas > current || ratio > 1 && replicas < current {
			p.Verdict = WouldReverse
			return
		}
		p.Verdict, p.Replicas = Scaled, replicas
	}
}

// ForValue is for an Object or External metric with a target of type Value. ready is the number of Running and Ready pods,
// current the replicas of the scale's spec.
func ForValue(current int32, usageMilli, targetMilli int64, ready int, tolerances Tolerances) Proposal {
	p := Proposal{Replicas: current, Usage: usageMilli, Ratio: float64(usageMilli) / float64(targetMilli)}
	switch {
	case current == 0:
		p.Verdict, p.Replicas = Scaled, ceil(p.Ratio)
	case tolerances.within(p.Ratio):
		p.Verdict = WithinTolerance
	default:
		p.Verdict, p.Replicas = Scaled, ceil(p.Ratio*float64(ready))
	}
	return p
}

// ForAverageValue is for an Object or External metric with a target of type AverageValue: usage is divided by the replicas
// of the scale's status.
func ForAverageValue(statusReplicas int32, usageMilli, targetMilli int64, tolerances Tolerances) Proposal {
	p := Proposal{
		Replicas: statusReplicas, Verdict: WithinTolerance,
		Ratio: float64(usageMilli) / (float64(targetMilli) * float64(statusReplicas)),
	}
	if !tolerances.within(p.Ratio) {
		p.Verdict, p.Replicas = Scaled, ceil(float64(usageMilli)/float64(targetMilli))
	}
	p.Usage = usageMilli
	if statusReplicas != 0 {
		p.Usage = int64(math.Ceil(float64(usageMilli) / float64(statusReplicas)))
	}
	return p
}

func ceil(replicas float64) int32 {
	if replicas > math.MaxInt32 {
		return math.MaxInt32
	}
	return int32(math.Ceil(replicas))
}
