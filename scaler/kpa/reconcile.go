package kpa

import (
	"fmt"
	"time"
)

// Phase is the Active condition of Knative's PodAutoscaler.
type Phase int

// A revision is Activating until as many pods are ready as it must have, Active while it is to have pods, Inactive when it
// is about to go or has gone to zero.
const (
	Activating Phase = iota // Unknown
	Active                  // True
	Inactive                // False
)

func (p Phase) String() string {
	switch p {
	case Activating:
		return "activating"
	case Active:
		return "active"
	case Inactive:
		return "inactive"
	}
	return fmt.Sprintf("Phase(%d)", int(p))
}

const (
	// unknown is Knative's scaleUnknown: no count was computed, so the replicas stay as they are.
	unknown = -1
	// activationBuffer keeps the revision's own diagnosis of pods that fail ahead of the end of activation.
	activationBuffer = 30 * time.Second
)

// reconciler is what pkg/reconciler/autoscaling/kpa (kpa.go, scaler.go) adds to the decider's wish: bounds, the first
// scale of a new revision, and the way to zero.
type reconciler struct {
	cfg Config

	desired int // the last valid wish, unknown before the first
	excess  int // the excess burst capacity that came with it

	replicas    int  // spec.replicas of the Deployment
	initialized bool // it once had its initial scale ready

	phase Phase
	cause string    // the condition's reason: when only that changes, since starts anew
	since time.Time // of phase and cause

	proxied      bool // the activator is in the path
	proxiedSince time.Time
}

// newReconciler is for a new revision where no pod is ready, else for one that is active with as many replicas.
func newReconciler(c Config, total float64, now time.Time, readyPods int) reconciler {
	r := reconciler{cfg: c, desired: unknown, since: now}
	switch c.TargetBurstCapacity {
	case -1, 0:
		r.excess = int(c.TargetBurstCapacity)
	default:
		r.excess = int(float64(c.InitialScale)*total - c.TargetBurstCapacity)
	}
	if readyPods == 0 {
		r.replicas = c.InitialScale
		r.proxied, r.proxiedSince = true, now
		return r
	}
	r.replicas, r.initialized, r.phase = readyPods, true, Active
	return r
}

// step brings the replicas to the last wish and then looks how the revision fares, in the order of ReconcileKind.
func (r *reconciler) step(now time.Time, readyPods int) Reasons {
	want, apply, why := r.scale(now)
	if apply {
		r.replicas = want
	}
	serve := want > 0 && r.excess >= 0 && readyPods > 0
	if serve == r.proxied {
		r.proxied, r.proxiedSince = !serve, now
	}
	r.updatePhase(now, want, readyPods)
	return why
}

// scale returns the count wanted and whether it is to be applied.
func (r *reconciler) scale(now time.Time) (want int, apply bool, why Reasons) {
	if r.desired < 0 && r.phase != Activating {
		return unknown, false, 0
	}
	least, cause := 0, MinScale
	if r.cfg.Reachable {
		least = r.cfg.MinScale
		if r.cfg.InitialScale > 1 && !r.initialized && r.cfg.InitialScale > least {
			least, cause = r.cfg.InitialScale, InitialScale
		}
	}
	want = r.desired
	switch {
	case want < 0 && least == 0: // no wish yet
		want = 0
	case want < least:
		want, why = least, cause
	case r.cfg.MaxScale != 0 && want > r.cfg.MaxScale:
		want, why = r.cfg.MaxScale, MaxScale
	}
	if want != 0 {
		return want, true, why
	}
	return r.scaleToZero(now)
}

// scaleToZero is handleScaleToZero: how to go on where no pod is wanted.
func (r *reconciler) scaleToZero(now time.Time) (want int, apply bool, why Reasons) {
	if !r.cfg.EnableScaleToZero {
		return 1, true, ZeroDisabled
	}
	elapsed := now.Sub(r.since)
	switch r.phase {
	case Activating:
		if elapsed > r.cfg.ProgressDeadline+activationBuffer {
			return 0, true, ActivationTimeout
		}
		return unknown, false, AwaitActivation
	case Active:
		if elapsed >= r.cfg.StableWindow {
			return 0, false, Deactivated
		}
		return 1, true, ActiveTooShort
	case Inactive:
	}
	retention := r.cfg.ScaleToZeroPodRetentionPeriod
	if !r.cfg.Reachable {
		retention = 0
	}
	switch {
	case elapsed >= max(r.cfg.ScaleToZeroGracePeriod, retention):
		return 0, true, 0
	case elapsed < retention:
		return 0, false, PodRetention
	case r.proxied && now.Sub(r.proxiedSince) >= r.cfg.ScaleToZeroGracePeriod:
		return 0, true, 0
	}
	return 0, false, GracePeriod
}

// Reasons of the Active condition, as far as they tell one state from another.
const (
	queued    = "Queued"
	noTraffic = "NoTraffic"
	timedOut  = "TimedOut"
)

// updatePhase is computeActiveCondition.
func (r *reconciler) updatePhase(now time.Time, want, readyPods int) {
	least := r.activeThreshold()
	if readyPods >= least {
		r.initialized = true
	}
	switch {
	case want == 0 || least == 0:
		if r.phase == Activating && least > 0 {
			r.mark(now, Inactive, timedOut)
		} else {
			r.mark(now, Inactive, noTraffic)
		}
	case want <= 0 && r.phase == Inactive:
		if readyPods < least {
			r.mark(now, Inactive, noTraffic)
		}
	case readyPods < least:
		r.mark(now, Activating, queued)
	default:
		r.mark(now, Active, "")
	}
}

// activeThreshold is how many ready pods make a revision active.
func (r *reconciler) activeThreshold() int {
	least := 0
	if r.cfg.Reachable {
		least = r.cfg.MinScale
	}
	if !r.initialized {
		return max(least, r.cfg.InitialScale)
	}
	return max(least, 1)
}

func (r *reconciler) mark(now time.Time, p Phase, cause string) {
	if r.phase != p || r.cause != cause {
		r.phase, r.cause, r.since = p, cause, now
	}
}
