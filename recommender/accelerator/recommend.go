package accelerator

import (
	"fmt"
	"math"
	"slices"
	"time"

	"headroom.dev/headroom/recommender"
)

// Policy is what is asked of a recommendation.
type Policy struct {
	// Risk bounds the probability that the need exceeds the size within Hold: 0 < Risk < 0.5.
	Risk float64
	Hold time.Duration
	// Confidence is the share of times in which the highest use lies between Lower and Upper.
	Confidence float64
	// Sharing are the ways that are allowed.
	Sharing []Sharing
}

// DefaultPolicy is that of GPU memory: 1 % a day, whole GPUs and MIG.
func DefaultPolicy() Policy {
	p := recommender.DefaultPolicy(recommender.GPUMemory)
	return Policy{Risk: p.Risk, Hold: p.Hold, Confidence: p.Confidence, Sharing: []Sharing{Whole, MIG}}
}

// Request is what a container requests.
type Request struct {
	Resource string // nvidia.com/gpu, nvidia.com/mig-2g.35gb, nvidia.com/gpu.shared; or a device class with Profile
	Profile  string // of a claim's MIG device
	Count    int
}

// Input is what a recommendation is made from.
type Input struct {
	Now      time.Time
	Workload string // in messages
	Model    string // the GPU's, as its driver says
	// Device is a GPU's memory as its driver says, bytes; 0 if not known. Usable is that of MIG profiles, where a driver says so.
	Device int64
	Usable map[string]int64

	Present  Request
	Replicas int
	// Memory is of all GPUs of the container together; Compute and Tensor are shares of one whole GPU.
	Memory, Compute, Tensor History
	// Engine is nil where none that allocates ahead is known. Its Device may be left unknown: it is what Present is then.
	Engine *Engine
	Policy Policy
	// Nodes are those that the workload may run on. What the workload itself uses must not be marked as busy.
	Nodes []Node
	// Consumable is Claim's.
	Consumable bool
}

// Reason is how an advice came about.
type Reason string

// The reasons. Those marked * come without a recommendation.
const (
	ReasonNoHistory    Reason = "NoHistory"    // *: too few hours; ReadyAt says until when
	ReasonInvalid      Reason = "Invalid"      // *: the policy or the request cannot be followed; Why says what
	ReasonUncertain    Reason = "Uncertain"    // *: samples are too uncertainly the workload's
	ReasonPreallocated Reason = "Preallocated" // *: use shows configuration, and what the need could be computed from is missing
	ReasonMultipleGPUs Reason = "MultipleGPUs" // *: the model is divided among GPUs
	ReasonMemory       Reason = "Memory"       // memory decides
	ReasonCompute      Reason = "Compute"      // compute decides
	ReasonEngine       Reason = "Engine"       // the need that was computed for an engine decides
	// ReasonComputeUnknown: memory would allow a smaller size, but what is not known of the SMs does not count as no use.
	ReasonComputeUnknown Reason = "ComputeUnknown"
	ReasonLargest        Reason = "Largest"      // no size keeps the risk; this is the largest
	ReasonUnknownModel   Reason = "UnknownModel" // the sizes of the model are not known: a whole GPU
)

// Allocation is a number of devices of a size.
type Allocation struct {
	Size  Size
	Count int
}

// Setting is one of an engine's. Now is NaN if not known.
type Setting struct {
	Engine           EngineKind
	Name             string
	Now, Recommended float64
}

// Advice is the answer. Numbers that are not known are NaN.
type Advice struct {
	Model string
	// Present and Recommended are nil if there is none, or if it is not known.
	Present, Recommended *Allocation
	// Need is the memory that is enough with the policy's risk, in bytes; Lower and Upper are the interval of the need over
	// Policy.Hold; Peak is the most that was used.
	Need, Lower, Upper, Peak float64
	// Compute is the share of a whole GPU's SMs that is needed.
	Compute float64
	// Risk is the probability that the need exceeds what is recommended within Policy.Hold, PresentRisk what is requested now.
	Risk, PresentRisk float64
	Settings          []Setting
	// Claim is the spec of a ResourceClaim as YAML, "" without a recommendation.
	Claim string
	// Placed says that the nodes can hold it; Placement where, or why not, and is "" without a recommendation.
	Placed    bool
	Placement string

	Reason  Reason
	Why     string
	ReadyAt time.Time

	Since     time.Time
	Hours     int
	Certainty float64
}

// leastCertainty is how certain the attribution must be for any advice: below, more of the memory may be another's than the
// workload's.
const leastCertainty = 0.5

// Recommend recommends.
func Recommend(in Input) Advice {
	unknown := math.NaN()
	a := Advice{
		Model: in.Model, Need: unknown, Lower: unknown, Upper: unknown, Peak: unknown, Compute: unknown, Risk: unknown, PresentRisk: unknown,
	}
	model, known := in.model()
	replicas := in.replicas()
	present, hasPresent := in.present(model, replicas)
	if hasPresent {
		a.Present = &Allocation{Size: present, Count: max(1, in.Present.Count)}
	}
	a.evidence(in)
	if in.refuse(&a, model, present, hasPresent) {
		return a
	}
	saturated := hasPresent && present.SMs < 1 && a.Compute >= full*present.SMs
	if saturated {
		a.Compute = min(1, present.SMs*more)
	}
	in.Engine = in.Engine.on(model, present, hasPresent)
	need, ok := in.need(&a)
	if !ok {
		return a
	}
	if len(in.Nodes) == 0 {
		replicas = []int{2, 4}
	}
	sizes := model.Sizes(in.Policy.Sharing, in.Usable, replicas)
	sizes = slices.DeleteFunc(sizes, func(s Size) bool {
		return s.Bytes <= 0 || s.Sharing == TimeSlicing && need.engine != nil && !need.engine.divisible()
	})
	if len(sizes) == 0 {
		return a.without(ReasonInvalid, in.noSizes(model, known))
	}
	compute := a.Compute
	if hasPresent {
		a.PresentRisk = need.risk(float64(present.Bytes), in.Policy.Hold)
		if math.IsNaN(compute) {
			compute = present.SMs
		}
	}
	best := in.choose(sizes, need, compute)
	in.fill(&a, best, need, model, known)
	if saturated {
		a.Why += "; the SMs that it has now were all active, so a quarter more are taken to be needed"
	}
	return a
}

// model finds the model, with the memory that the driver reports.
func (in Input) model() (m Model, known bool) {
	m, known = Find(in.Model)
	if in.Device > 0 {
		m.Bytes = in.Device
	}
	if m.Bytes == 0 && len(m.Profiles) > 0 {
		for _, p := range m.Profiles {
			m.Bytes = max(m.Bytes, p.Bytes) // the whole GPU has a little more
		}
	}
	return m, known
}

// replicas are the numbers of time slices that the nodes' GPUs are set up for.
func (in Input) replicas() []int {
	var numbers []int
	for _, node := range in.Nodes {
		for _, gpu := range node.GPUs {
			if gpu.Replicas > 1 && !slices.Contains(numbers, gpu.Replicas) {
				numbers = append(numbers, gpu.Replicas)
			}
		}
	}
	slices.Sort(numbers)
	return numbers
}

func (in Input) present(m Model, replicas []int) (Size, bool) {
	if in.Present.Resource == migClass {
		return m.parse(migPrefix+in.Present.Profile, in.Usable, replicas)
	}
	return m.parse(in.Present.Resource, in.Usable, replicas)
}

// evidence notes what the advice rests on.
func (a *Advice) evidence(in Input) {
	hours := in.Memory.known()
	a.Hours, a.Certainty = len(hours), in.Memory.certainty()
	for _, hour := range hours {
		if a.Since.IsZero() || hour.Start.Before(a.Since) {
			a.Since = hour.Start
		}
		a.Peak = max(zeroOf(a.Peak), hour.Max)
	}
	a.Compute = computeShare(in.Compute, in.Tensor)
}

func zeroOf(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

// refuse notes why there can be no recommendation, and reports whether so.
func (in Input) refuse(a *Advice, m Model, present Size, hasPresent bool) bool {
	p := in.Policy
	switch {
	case !(p.Risk > 0 && p.Risk < 0.5) || p.Hold <= 0 || !(p.Confidence > 0 && p.Confidence < 1) || len(p.Sharing) == 0:
		*a = a.without(ReasonInvalid, "the policy is not valid: the risk must be between 0 and 0.5, the confidence between 0 and 1, and some sharing allowed")
	case in.Engine == nil && a.Hours < minHours:
		a.ReadyAt = in.Now.Add(time.Duration(minHours-a.Hours) * in.Memory.step())
		*a = a.without(ReasonNoHistory, fmt.Sprintf("GPU memory is known for %d hours, and %d are needed", a.Hours, minHours))
	case in.Engine == nil && a.Certainty < leastCertainty:
		*a = a.without(ReasonUncertain, fmt.Sprintf("only %.0f%% of what was measured is known to be this container's: its GPU is shared", 100*a.Certainty))
	case a.Present != nil && a.Present.Count > 1:
		*a = a.without(ReasonMultipleGPUs, fmt.Sprintf(
			"the container divides its model among %d devices and used at most %s of them; another number or smaller devices need another division (tensor parallelism), which is not recommended from use",
			a.Present.Count, gib(a.Peak)))
	case in.Engine == nil && preallocated(in.Memory.known(), deviceBytes(m, present, hasPresent)):
		*a = a.without(ReasonPreallocated, fmt.Sprintf(
			"use is constant at %s of %s, which looks like an engine that allocates ahead: it shows the setting, not the need; the engine's kind, setting and KV-cache are needed",
			gib(a.Peak), gib(float64(deviceBytes(m, present, hasPresent)))))
	default:
		return false
	}
	return true
}

func deviceBytes(m Model, present Size, hasPresent bool) int64 {
	if hasPresent {
		return present.Bytes
	}
	return m.Bytes
}

// without is the advice without a recommendation.
func (a Advice) without(reason Reason, why string) Advice {
	a.Reason, a.Why = reason, why
	return a
}

func (in Input) noSizes(m Model, known bool) string {
	if !known && m.Bytes == 0 {
		return fmt.Sprintf("the GPU model %q is not known, and neither is its memory", in.Model)
	}
	return fmt.Sprintf("%s offers none of the ways allowed (%v)", in.Model, in.Policy.Sharing)
}
