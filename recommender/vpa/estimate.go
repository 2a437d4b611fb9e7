package vpa

import (
	"math"
	"time"
)

// Amounts are of CPU in millicores and of memory in bytes.
type Amounts struct {
	CPU, Memory int64
}

// Estimate is what follows from samples alone.
type Estimate struct {
	Target, Lower, Upper Amounts
}

// Rules are those of a VerticalPodAutoscaler for a container. The zero value has none.
type Rules struct {
	MinAllowed, MaxAllowed Amounts // 0 for none; the maximum wins
	IntegerCPU             bool    // the annotation vpa-post-processor.kubernetes.io/CONTAINER_integerCPU
}

// Recommendation is what a VerticalPodAutoscaler's status says of a container.
type Recommendation struct {
	Estimate

	UncappedTarget Amounts // Target but for MinAllowed and MaxAllowed
}

// Estimate estimates what a container needs, which shares its pod's minimum with all containers that there are aggregates of.
// Without any samples Upper is 1e14.
func (m *Model) Estimate(a *Aggregate, containers int) Estimate {
	fraction := 1.0 / float64(max(containers, 1))
	c := &m.config
	var e Estimate
	var p, q [3]float64
	p = [3]float64{c.CPU.Target, c.CPU.Lower, c.CPU.Upper}
	a.cpu.Percentiles(p[:], q[:])
	for i := range q {
		q[i] *= 1000.0
	}
	lower, upper := a.multipliers(c.CPU.Confidence)
	floor := scale(amount(c.PodMinCPU*0.001*1000.0), fraction)
	e.Target.CPU, e.Lower.CPU, e.Upper.CPU = m.bounds(q, lower, upper, floor)

	p = [3]float64{c.Memory.Target, c.Memory.Lower, c.Memory.Upper}
	a.memory.Percentiles(p[:], q[:])
	if c.Memory.Confidence != c.CPU.Confidence {
		lower, upper = a.multipliers(c.Memory.Confidence)
	}
	floor = scale(amount(c.PodMinMemoryMB*1024*1024), fraction)
	e.Target.Memory, e.Lower.Memory, e.Upper.Memory = m.bounds(q, lower, upper, floor)
	return e
}

// multipliers widen the bounds while there is little history: none at all makes the lower 0 and the upper infinite, a day
// 0.998 and 2.
func (a *Aggregate) multipliers(interval time.Duration) (lower, upper float64) {
	c := a.confidence(interval)
	return math.Pow(1+0.001/c, -2), 1 + 1/c
}

// bounds truncates to whole amounts at each step, as the library does.
func (m *Model) bounds(percentiles [3]float64, lower, upper float64, floor int64) (target, low, high int64) {
	with := func(i int) int64 {
		base := amount(percentiles[i])
		return base + scale(base, m.config.Margin)
	}
	return max(with(0), floor), max(scale(with(1), lower), floor), max(scale(with(2), upper), floor)
}

// Recommend makes of an estimate what the VPA writes: rounded, with whole CPUs where that is asked for, and clamped.
func (m *Model) Recommend(e Estimate, r Rules) Recommendation {
	process := func(v Amounts) Amounts {
		v = Amounts{CPU: roundUp(v.CPU, m.config.RoundCPU), Memory: roundUp(v.Memory, m.config.RoundMemory)}
		if r.IntegerCPU {
			v.CPU = (v.CPU + 999) / 1000 * 1000
		}
		return v
	}
	capped := func(v Amounts) Amounts {
		return Amounts{CPU: clamp(v.CPU, r.MinAllowed.CPU, r.MaxAllowed.CPU), Memory: clamp(v.Memory, r.MinAllowed.Memory, r.MaxAllowed.Memory)}
	}
	target := process(e.Target)
	return Recommendation{
		Estimate:       Estimate{Target: capped(target), Lower: capped(process(e.Lower)), Upper: capped(process(e.Upper))},
		UncappedTarget: target,
	}
}

func roundUp(v, to int64) int64 {
	if to <= 1 {
		return v
	}
	return int64(math.Ceil(float64(v)/float64(to))) * to
}

// clamp clamps; 0 is no bound, and the maximum wins.
func clamp(v, least, most int64) int64 {
	if least > 0 {
		v = max(v, least)
	}
	if most > 0 {
		v = min(v, most)
	}
	return v
}
