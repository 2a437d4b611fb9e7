package recommender

import (
	"fmt"
	"math"
	"time"
)

// Estimate recommends. The Usage is not changed: if an hour has ended since the last sample or Tick, a copy is told so.
func Estimate(u *Usage, now time.Time) Recommendation {
	if u.samples > 0 && u.hourOf(now) > u.time.next {
		u = u.clone()
		u.Tick(now)
	}
	l := &u.learnt
	r := Recommendation{Startup: u.startupPeak(now), Evidence: u.evidence()}
	r.basis = basis{rule: l.rule, fitted: l.fitted, margin: l.margin, hours: l.hours}
	if l.issued == 0 {
		r.Reason = ReasonNoHistory
		r.ReadyAt = u.readyAt(now)
		r.Lower, r.Upper, r.Request = unknown(), unknown(), unknown()
		return r
	}
	unit := unitOf(u.resource)
	level := float64(l.issued)
	r.Valid, r.Reason = true, l.reason
	if up, ok := u.surge(); ok {
		level, r.Reason = up, ReasonSurge
	}
	r.Request = levelValue(level) * unit
	lower := float64(l.lower)
	if !isMemory(u.resource) {
		lower = max(1, lower-1) // what needed a level needed more than the level below
	}
	// What was held, or is about to change, may be outside of what is expected now; the range that is claimed holds it.
	r.Lower, r.Upper = levelValue(min(lower, level))*unit, levelValue(max(float64(l.upper), level))*unit
	r.basis.reason = r.Reason
	p := &u.policy
	if p.Min > 0 && r.Request < p.Min {
		r.Request, r.Reason = p.Min, ReasonMinimum
	}
	if p.Max > 0 && r.Request > p.Max {
		r.Request, r.Reason = p.Max, ReasonMaximum
	}
	return r
}

// surge is what the open hour needs, if it needs more than is recommended already: by most of its samples, or by one where that kills.
func (u *Usage) surge() (level float64, ok bool) {
	l := &u.learnt
	if u.open.n == 0 {
		return 0, false
	}
	if isMemory(u.resource) {
		peak := markLevel(u.open.max)
		return peak + max(float64(l.margin), 1), peak > float64(l.issued)
	}
	if u.open.n < surgeSamples || u.open.over(float64(l.issued)) < 0.5 {
		return 0, false
	}
	return float64(u.open.quantile(u.policy.Risk)) + 1, true
}

// surgeSamples is how many there must be of an hour before it can contradict the hours before it.
const surgeSamples = 5

// readyAt is when minHours hours will have ended.
func (u *Usage) readyAt(now time.Time) time.Time {
	missing := minHours - int(u.learnt.hours)
	number := u.hourOf(now)
	if u.samples > 0 && u.open.n > 0 {
		number = u.time.next
	}
	return u.startOf(number + missing)
}

func (u *Usage) evidence() Evidence {
	l := &u.learnt
	e := Evidence{Samples: int(u.samples), Hours: int(min(l.hours, lifetime)), Certainty: float64(u.sure), Covered: l.held.value(), Over: l.over.value()}
	if u.samples == 0 {
		e.Certainty = unknown()
		return e
	}
	e.Since, e.Until = time.Unix(u.since, 0).UTC(), time.Unix(u.until, 0).UTC()
	if u.version > 0 {
		e.Since = u.startOf(int(u.version))
	}
	return e
}

// basis is what Why needs.
type basis struct {
	reason Reason // before clamping
	rule   rule
	fitted bool
	margin float32
	hours  int32
}

// Why says in a sentence, with numbers, what the request rests on, or what is missing.
func (r *Recommendation) Why() string {
	b := &r.basis
	factor := math.Exp(float64(b.margin) * levelWidth)
	more := 100 * (factor - 1)
	switch {
	case r.Note != "":
		return r.Note
	case !r.Valid && r.Evidence.Samples == 0:
		return "there are no samples yet"
	case !r.Valid:
		return fmt.Sprintf("%d of %d hours are known", b.hours, minHours)
	case b.reason == ReasonSurge:
		return "this hour needs more than the hours before it did"
	case b.reason == ReasonOOM:
		return fmt.Sprintf("killed for want of memory within the week, and %.0f%% more than that", more)
	case b.reason == ReasonPeak:
		return fmt.Sprintf("the highest peak and %.0f%% more, by how much peaks have exceeded those before them", more)
	case b.reason == ReasonSteady:
		return "the same at all hours, from the distribution of the last week: no pattern does better"
	case !b.fitted:
		return fmt.Sprintf("the most of the %d hours known and %.0f%% more", b.hours, more)
	}
	return fmt.Sprintf("%s, times %.2f: with that use was above it %.1f%% of the time", b.rule, factor, 100*r.Evidence.Over)
}
