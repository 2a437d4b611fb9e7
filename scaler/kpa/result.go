package kpa

import (
	"fmt"
	"strings"
)

// Reasons is the set of what bound a decision.
type Reasons uint32

// What bound the wish, in the order in which it is asked for.
const (
	NoData          Reasons = 1 << iota // nothing was recorded within the stable window; the last valid wish stands
	ScaleUpRate                         // ready pods × MaxScaleUpRate
	ScaleDownRate                       // ready pods ÷ MaxScaleDownRate
	ActivationScale                     // raised to ActivationScale
	PanicWindow                         // the panic window's load asked for more than the stable window's
	PanicHold                           // no pod is taken away in panic
	Delayed                             // a larger wish lies within ScaleDownDelay

	// What bound the replicas.

	MinScale          // raised to MinScale
	InitialScale      // raised to InitialScale, which was not ready yet
	MaxScale          // cut to MaxScale
	ZeroDisabled      // the last pod stays because EnableScaleToZero is false
	AwaitActivation   // replicas stay as they are, because pods may still become ready
	ActivationTimeout // to zero, because pods were not ready by ProgressDeadline and 30 s more
	ActiveTooShort    // one pod stays, because the revision was active for less than StableWindow
	Deactivated       // replicas stay, because the revision becomes inactive first
	PodRetention      // replicas stay for ScaleToZeroPodRetentionPeriod
	GracePeriod       // replicas stay for ScaleToZeroGracePeriod
	endOfReasons
)

func (r Reasons) name() string {
	switch r {
	case NoData:
		return "no data"
	case ScaleUpRate:
		return "scale-up rate"
	case ScaleDownRate:
		return "scale-down rate"
	case ActivationScale:
		return "activation scale"
	case PanicWindow:
		return "panic window"
	case PanicHold:
		return "no scale-down in panic"
	case Delayed:
		return "scale-down delay"
	case MinScale:
		return "min scale"
	case InitialScale:
		return "initial scale"
	case MaxScale:
		return "max scale"
	case ZeroDisabled:
		return "scale to zero disabled"
	case AwaitActivation:
		return "pods not ready yet"
	case ActivationTimeout:
		return "activation timed out"
	case ActiveTooShort:
		return "active for less than the stable window"
	case Deactivated:
		return "becomes inactive first"
	case PodRetention:
		return "pod retention period"
	case GracePeriod:
		return "grace period"
	}
	return fmt.Sprintf("Reasons(%#x)", uint32(r))
}

// Has reports whether all of some reasons are in the set.
func (r Reasons) Has(some Reasons) bool { return r&some == some }

// String lists the reasons in the order in which they took effect; "" where nothing bound.
func (r Reasons) String() string {
	var names []string
	for one := NoData; one < endOfReasons; one <<= 1 {
		if r.Has(one) {
			names = append(names, one.name())
		}
	}
	return strings.Join(names, ", ")
}

// Result is one decision.
type Result struct {
	Replicas int // spec.replicas of the Deployment from now on

	// Desired is the wish before bounds: of this step where Valid, else the last valid one, and -1 before the first.
	Desired int
	Valid   bool
	Panic   bool // in panic mode; of the last valid step where not Valid

	// StableValue and PanicValue are the averages over the windows, in the unit of the Metric over all pods; they and
	// ExcessBurstCapacity, in the same unit, mean something only where Valid.
	StableValue, PanicValue float64
	ExcessBurstCapacity     int

	Phase   Phase
	Reasons Reasons
}

// String tells the decision in one line.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d replicas, %v", r.Replicas, r.Phase)
	switch {
	case r.Valid:
		fmt.Fprintf(&b, ": desired %d of stable %g, panic %g", r.Desired, r.StableValue, r.PanicValue)
	case r.Desired >= 0:
		fmt.Fprintf(&b, ": desired %d as before", r.Desired)
	}
	if r.Panic {
		b.WriteString(", in panic")
	}
	if r.Reasons != 0 {
		fmt.Fprintf(&b, " (%v)", r.Reasons)
	}
	return b.String()
}
