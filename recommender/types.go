package recommender

import (
	"math"
	"time"
)

// Resource is what is used.
type Resource string

// The resources, with the unit of their samples.
const (
	CPU         Resource = "cpu"          // cores
	Memory      Resource = "memory"       // bytes of working set
	GPUMemory   Resource = "gpu-memory"   // bytes of frame buffer, the most since the sample before
	GPUCompute  Resource = "gpu-compute"  // 0 to 1: share of a whole GPU's SMs that were active
	GPUTensor   Resource = "gpu-tensor"   // 0 to 1: share of time in which a whole GPU's tensor cores were active
	KVCache     Resource = "kv-cache"     // 0 to 1: share of an engine's KV-cache that was in use
	Queue       Resource = "queue"        // requests that waited in an engine
	Preemptions Resource = "pre-emptions" // requests that an engine set back for want of KV-cache, per second
)

// ContainerID names a container of a pod.
type ContainerID struct {
	Namespace, Pod, Container string
}

// Sample is one reading of one container. A CPU sample is the mean use since the one before.
type Sample struct {
	Container ContainerID
	Resource  Resource
	At        time.Time
	Value     float64
	// Certainty is how far the value is known to be this container's: 1 where it was measured for the container alone, less
	// where it was told apart from others' on a shared device.
	Certainty float64
}

// Past asks a source for what was: one resource of the containers of some pods.
type Past struct {
	Namespace  string
	Pods       string // RE2, of whole names
	Resource   Resource
	Start, End time.Time
	Step       time.Duration
}

// Policy is what its owner asks of a recommendation. The zero value is not valid: start from DefaultPolicy.
type Policy struct {
	// Risk bounds what may go wrong: of CPU the share of time in which use may exceed the request; of memory the probability
	// that a day's peak exceeds it. 0 < Risk < 0.5.
	Risk float64
	// Hold is for how long a recommendation is meant to stand; Lower and Upper are about that time.
	Hold time.Duration
	// Confidence is the share of times in which the need lies between Lower and Upper.
	Confidence float64
	// Min and Max clamp the request; 0 for none. Max wins.
	Min, Max float64
	// Step is the length of what is called an hour everywhere; 0 for an hour. Less is for tests that compress the day.
	Step time.Duration
}

func (p Policy) step() time.Duration {
	if p.Step > 0 {
		return p.Step
	}
	return time.Hour
}

// hold is in steps.
func (p Policy) hold() int { return max(1, int(p.Hold/p.step())) }

// Reason says in a word how a recommendation came about.
type Reason string

// The reasons.
const (
	ReasonNoHistory Reason = "NoHistory" // not valid: too few samples; ReadyAt says until when
	ReasonRecent    Reason = "Recent"    // from the last hours: no pattern beats them
	ReasonDaily     Reason = "Daily"     // from the same hours of the days before
	ReasonWeekly    Reason = "Weekly"    // from the same hours of the week before
	ReasonSteady    Reason = "Steady"    // from all hours kept: nothing else does better
	ReasonPeak      Reason = "Peak"      // from the highest peaks seen
	ReasonSurge     Reason = "Surge"     // from the hour that is not over: it needs more than those before
	ReasonOOM       Reason = "OOM"       // a container was killed for want of memory
	ReasonMinimum   Reason = "Minimum"   // Policy.Min
	ReasonMaximum   Reason = "Maximum"   // Policy.Max
)

// Recommendation is the answer for one resource of one container.
type Recommendation struct {
	// Valid says that there is one. If not, ReadyAt says when there will be, as far as one can tell.
	Valid   bool
	Request float64 // in the resource's unit
	// Lower and Upper bound the need over the next Policy.Hold, the smallest request that would keep the risk.
	Lower, Upper float64
	// Startup is the peak while starting; NaN where no start was seen.
	Startup float64

	Reason  Reason
	ReadyAt time.Time

	Evidence Evidence

	// Note is what Why says, where another estimator than this package's made the recommendation.
	Note  string
	basis basis
}

// Evidence is what a recommendation rests on.
type Evidence struct {
	Since, Until time.Time // of the samples, since the last change of version that mattered
	Samples      int
	Hours        int     // of which something is known
	Certainty    float64 // mean of the samples', 0 to 1
	// Covered is the share of past intervals [Lower, Upper] that held what was needed then; NaN before there were any.
	Covered float64
	// Over is the share of time in which use exceeded the request that was recommended then; NaN before there was one.
	Over float64
}

// Hour is what is known of one hour (of one step, where Policy.Step is less). Values are upper bounds, at most 5.6 %
// above the true ones; Max of memory 0.03 %, and its P98 is Max.
type Hour struct {
	Start              time.Time
	Known              bool // false: nothing is known, and the values are NaN
	P50, P90, P98, Max float64
}

// Replay is what the kept hours would have been like at a fixed request.
type Replay struct {
	Since time.Time
	Hours int // of which something is known
	// Over is the share of time in which use exceeds the request, Excess how much of the use lies above it: both 0 to 1, what
	// would have been throttled under full nodes, or with a limit of that size.
	Over, Excess float64
	// Kills is the number of hours whose peak exceeds it: with a memory limit of that size each is at least one OOM kill.
	Kills int
}

// DefaultPolicy is the policy without any wish.
func DefaultPolicy(r Resource) Policy {
	p := Policy{Risk: 0.02, Hold: time.Hour, Confidence: 0.9}
	if r == Memory || r == GPUMemory {
		p.Risk, p.Hold = 0.01, 24*time.Hour
	}
	return p
}

// unknown is the value of what is not known.
func unknown() float64 { return math.NaN() }
