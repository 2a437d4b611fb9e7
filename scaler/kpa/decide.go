package kpa

import (
	"math"
	"time"
)

// spec is scaling.DeciderSpec of knative.dev/serving, as far as it takes part.
type spec struct {
	target, total       float64 // per pod
	maxUp, maxDown      float64 // rates
	panicThreshold      float64 // times what the ready pods are meant to take
	targetBurstCapacity float64
	stableWindow        time.Duration
	activationScale     int
	reachable           bool
}

func (c Config) spec() spec {
	target, total := c.targets()
	return spec{
		target: target, total: total,
		maxUp: c.MaxScaleUpRate, maxDown: c.MaxScaleDownRate,
		panicThreshold:      c.PanicThresholdPercentage / 100,
		targetBurstCapacity: c.TargetBurstCapacity,
		stableWindow:        c.StableWindow,
		activationScale:     c.ActivationScale,
		reachable:           c.Reachable,
	}
}

// decider is the autoscaler of pkg/autoscaler/scaling/autoscaler.go: it turns two averages and the ready pods into a wish.
type decider struct {
	spec spec

	panicking bool
	panicTime time.Time // when the load was last above the threshold
	panicPods int       // the most pods wished for since panic began

	delayed bool
	delay   delay
}

// newDecider starts in panic when there is more than one pod: without a history the first decisions would scale down.
func newDecider(s spec, scaleDownDelay time.Duration, now time.Time, readyPods int) decider {
	d := decider{spec: s, panicPods: readyPods}
	if readyPods > 1 {
		d.panicking, d.panicTime = true, now
	}
	if scaleDownDelay > 0 {
		d.delayed, d.delay = true, newDelay(scaleDownDelay)
	}
	return d
}

// decide returns the count wished for, the excess burst capacity, and what bound the count.
func (d *decider) decide(now time.Time, readyPods int, stable, panicked float64) (desired, excess int, why Reasons) {
	ready := math.Max(1, float64(readyPods))
	stableWish := math.Ceil(stable / d.spec.target)
	panicWish := math.Ceil(panicked / d.spec.target)

	desired, why = d.limit(stableWish, ready)
	inPanic, panicWhy := d.limit(panicWish, ready)

	d.updatePanic(now, panicWish/ready >= d.spec.panicThreshold)
	if d.panicking {
		if desired < inPanic {
			desired, why = inPanic, panicWhy|PanicWindow
		}
		if desired > d.panicPods {
			d.panicPods = desired
		} else if desired < d.panicPods {
			desired, why = d.panicPods, why|PanicHold
		}
	}
	if d.spec.reachable && d.delayed {
		if held := d.delay.record(now, desired); held != desired {
			desired, why = held, why|Delayed
		}
	}
	return desired, d.excessBurstCapacity(readyPods, panicked), why
}

// limit bounds a wish by the rates, both relative to the ready pods, and by the activation scale.
func (d *decider) limit(wish, ready float64) (int, Reasons) {
	var why Reasons
	most := math.Ceil(d.spec.maxUp * ready) // rounded up, or a small rate could never add a pod
	least := 0.
	if d.spec.reachable {
		least = math.Floor(ready / d.spec.maxDown)
	}
	switch {
	case wish > most:
		why |= ScaleUpRate
	case wish < least:
		why |= ScaleDownRate
	}
	count := int(math.Min(math.Min(math.Max(wish, least), most), maxScale))
	if d.spec.activationScale > 1 && wish > 0 && d.spec.activationScale > count {
		return d.spec.activationScale, why | ActivationScale
	}
	return count, why
}

// updatePanic ends panic only when the load has stayed below the threshold for longer than the stable window.
func (d *decider) updatePanic(now time.Time, over bool) {
	switch {
	case over:
		d.panicking, d.panicTime = true, now
	case d.panicking && d.panicTime.Add(d.spec.stableWindow).Before(now):
		d.panicking, d.panicTime, d.panicPods = false, time.Time{}, 0
	}
}

// excessBurstCapacity is what the ready pods could take beyond the present load and the target burst capacity; negative
// values put Knative's activator into the path.
func (d *decider) excessBurstCapacity(readyPods int, panicked float64) int {
	switch {
	case d.spec.targetBurstCapacity == 0:
		return 0
	case d.spec.targetBurstCapacity > 0:
		spare := math.Floor(float64(readyPods)*d.spec.total - d.spec.targetBurstCapacity - panicked)
		return int(math.Max(-maxScale, math.Min(spare, maxScale)))
	}
	return -1
}
