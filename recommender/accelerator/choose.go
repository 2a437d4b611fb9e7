package accelerator

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// need is what a workload needs of a device's memory, in whichever way it is known.
type need struct {
	bytes  float64 // enough with the policy's risk
	risk   func(bytes float64, within time.Duration) float64
	engine *layout // nil where the use of memory itself is looked at
	kv     float64 // of the engine, with the policy's risk
	growth float64 // of use, bytes an hour
}

// need computes what is needed and notes it, or notes why it cannot.
func (in Input) need(a *Advice) (need, bool) {
	p := in.Policy
	tails := [2]float64{1 - (1-p.Confidence)/2, (1 - p.Confidence) / 2}
	var n need
	if in.Engine != nil {
		e := *in.Engine
		if a.Peak > 0 && !(e.Used > 0) {
			e.Used = a.Peak
		}
		l, missing := e.layout()
		if missing != "" {
			*a = a.without(ReasonPreallocated, fmt.Sprintf(
				"%s allocates its memory ahead, so that use shows the setting, not the need, and the need cannot be computed: %s", in.Engine.Kind, missing))
			if l.waiting { // what else is missing a person must give
				a.ReadyAt = in.Now.Add(time.Duration(minHours-len(in.Engine.KV.known())) * in.Engine.KV.step())
			}
			return need{}, false
		}
		n = need{risk: l.risk, engine: &l, kv: l.demand(p.Risk, p.Hold)}
		n.bytes = l.need(n.kv)
		a.Lower, a.Upper = l.need(l.demand(tails[0], p.Hold)), l.need(l.demand(tails[1], p.Hold))
	} else {
		t, _ := NewTail(in.Memory) // refuse has counted the hours
		n = need{risk: t.Risk, bytes: t.Bound(p.Risk, p.Hold), growth: t.Growth()}
		a.Lower, a.Upper = t.Bound(tails[0], p.Hold), t.Bound(tails[1], p.Hold)
	}
	a.Need = n.bytes
	a.Upper = max(a.Upper, n.bytes)
	return n, true
}

// candidate is a size and how it fares.
type candidate struct {
	size      Size
	risk      float64
	fits      bool // memory and compute
	byCompute bool // a cheaper size has the memory, but not the compute
	plan      Plan
	instead   *Size // would do, but has no place
}

// choose takes the cheapest size that has the memory and the compute and a place on the nodes; if none has a place, the cheapest without;
// if none has the memory, the largest.
func (in Input) choose(sizes []Size, n need, compute float64) candidate {
	var cheapest *candidate
	largest := candidate{risk: math.Inf(1)}
	memory := false
	for _, size := range sizes {
		c := candidate{size: size, risk: n.risk(float64(size.Bytes), in.Policy.Hold), byCompute: memory}
		enough := !(compute > size.SMs+1e-9)
		c.fits = c.risk <= in.Policy.Risk && enough
		memory = memory || c.risk <= in.Policy.Risk && !enough
		if c.risk < largest.risk || c.risk == largest.risk && size.Bytes > largest.size.Bytes {
			largest = c
		}
		if !c.fits {
			continue
		}
		c.plan = Place(in.Nodes, []Demand{in.demand(size)})
		if cheapest == nil {
			cheapest = &c
		}
		if c.plan.OK || len(in.Nodes) == 0 {
			if cheapest.size != size {
				c.instead = &cheapest.size
			}
			return c
		}
	}
	if cheapest != nil {
		return *cheapest
	}
	largest.plan = Place(in.Nodes, []Demand{in.demand(largest.size)})
	return largest
}

func (in Input) demand(s Size) Demand {
	return Demand{Workload: in.Workload, Size: s, Model: in.Model, Count: max(1, in.Replicas)}
}

// fill writes what was chosen into the advice.
func (in Input) fill(a *Advice, c candidate, n need, m Model, known bool) {
	a.Recommended = &Allocation{Size: c.size, Count: 1}
	a.Risk = c.risk
	a.Placed, a.Placement = c.plan.OK, c.plan.Why
	a.Claim = Claim{Product: in.Model, Size: c.size, Count: 1, Need: int64(math.Ceil(min(n.bytes, float64(c.size.Bytes)))), Consumable: in.Consumable}.YAML()
	if n.engine != nil {
		name, _ := n.engine.kind.Setting()
		a.Settings = []Setting{{Engine: n.engine.kind, Name: name, Now: n.engine.now(), Recommended: n.engine.setting(c.size, n.kv)}}
	}
	switch {
	case !c.fits:
		a.Reason = ReasonLargest
	case !known:
		a.Reason = ReasonUnknownModel
	case c.byCompute && math.IsNaN(a.Compute):
		a.Reason = ReasonComputeUnknown
	case c.byCompute:
		a.Reason = ReasonCompute
	case n.engine != nil:
		a.Reason = ReasonEngine
	default:
		a.Reason = ReasonMemory
	}
	a.Why = in.explain(a, c, n, m)
}

// explain says in a sentence, or two, why.
func (in Input) explain(a *Advice, c candidate, n need, m Model) string {
	var b strings.Builder
	if n.engine != nil {
		fmt.Fprintf(&b, "%s needs %s: %s that do not depend on load, and a KV-cache of %s for a peak use of %.0f%% of its %s",
			n.engine.kind, gib(n.bytes), gib(n.engine.fixed), gib(n.kv), 100*n.engine.use.Peak(), gib(n.engine.kv))
		for _, note := range append(n.engine.note, n.engine.doubt...) {
			b.WriteString("; " + note)
		}
	} else {
		fmt.Fprintf(&b, "the highest use in %d hours was %s, and %s are enough with a risk of %s in %s", a.Hours, gib(a.Peak), gib(n.bytes), percent(in.Policy.Risk), span(in.Policy.Hold))
		if n.growth > 0 {
			fmt.Fprintf(&b, ", since it grows by %s an hour", gib(n.growth))
		}
	}
	fmt.Fprintf(&b, ". %s has %s", capital(c.size.String()), gib(float64(c.size.Bytes)))
	if c.size.Estimated {
		b.WriteString(" (estimated)")
	}
	fmt.Fprintf(&b, ", a risk of %s", percent(c.risk))
	switch {
	case math.IsNaN(a.Compute):
		b.WriteString("; the use of its SMs is not known")
	case !(a.Compute > c.size.SMs):
		fmt.Fprintf(&b, "; it has %.0f%% of the SMs, of which %.0f%% are needed", 100*c.size.SMs, 100*a.Compute)
	default:
		fmt.Fprintf(&b, "; it has %.0f%% of the SMs, and %.0f%% are needed", 100*c.size.SMs, 100*a.Compute)
	}
	if c.instead != nil {
		fmt.Fprintf(&b, "; %s would do, but the nodes have no room for it", c.instead)
	}
	if c.size.Sharing == TimeSlicing {
		b.WriteString("; nothing keeps the others that share the GPU from its memory")
	}
	switch a.Reason {
	case ReasonLargest:
		b.WriteString("; no larger one is allowed")
	case ReasonUnknownModel:
		fmt.Fprintf(&b, "; the sizes of %s are not known", m.Name)
	case ReasonComputeUnknown:
		b.WriteString(", and no fewer than now are recommended, though a smaller size has the memory")
	case ReasonCompute:
		b.WriteString("; a smaller one has the memory, but not the SMs")
	default:
	}
	return b.String()
}

func percent(p float64) string {
	if p < 0.0001 {
		return "less than 0.01%"
	}
	return fmt.Sprintf("%.3g%%", 100*p)
}

func span(d time.Duration) string {
	if d == 24*time.Hour {
		return "a day"
	}
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
