package rollout

import (
	"fmt"
	"math"
)

// refit fits the steps to another number of replicas. The share of the new version stays, surge does not grow.
func (d *decider) refit(n int) {
	old := d.Schedule.Replicas
	s := *d.Schedule
	s.Steps = append([]Step(nil), s.Steps...)
	keep := d.keep()
	for i := range s.Steps {
		at := &s.Steps[i]
		surge := min(at.Surge, n)
		if !at.Held {
			at.Surge, at.New = surge, n
			at.Unavailable = min(at.Unavailable, max(0, n-keep))
			if s.Strategy == Recreate {
				at.Unavailable = n
			} else if at.Surge+at.Unavailable == 0 {
				at.Surge = 1
			}
			continue
		}
		matched := at.Weight == Matched(at.New, at.Old)
		// The mix of the present step follows the Deployment controller, which scales in proportion; those to come are as they
		// would be planned.
		fresh, most := max(1, n*at.New/old), n-1
		if i > d.Step && at.Share > 0 {
			fresh, most = min(n, int(math.Ceil(float64(n)*at.Share-1e-9))), max(0, n-keep)
		}
		at.Surge = min(surge, fresh)
		at.Unavailable = min(fresh-at.Surge, most)
		at.Old, at.New = n-at.Unavailable, at.Surge+at.Unavailable
		if matched {
			at.Weight = Matched(at.New, at.Old)
		}
	}
	rise(s.Steps, d.Step, n)
	// What was seen of the new version, by the judge or a person, holds for any number of replicas; an HPA that scales every half a
	// minute would else keep a step from ever passing.
	s.Replicas, d.Replicas, d.Schedule = n, n, &s
	d.say(d.now, "Scaled", fmt.Sprintf("scaled from %d to %d replicas: the step is now %d old and %d new", old, n, d.step().Old, d.step().New))
}

// rise keeps held steps from asking for less than those before them from one on: a hold gives nothing back.
func rise(steps []Step, from, n int) {
	for i := from + 1; i < len(steps); i++ {
		before, at := steps[i-1], &steps[i]
		if !at.Held || !before.Held || at.Surge >= before.Surge && at.Unavailable >= before.Unavailable {
			continue
		}
		matched := at.Weight == Matched(at.New, at.Old)
		at.Surge, at.Unavailable = max(at.Surge, before.Surge), max(at.Unavailable, before.Unavailable)
		at.Old, at.New = n-at.Unavailable, min(n, at.Surge+at.Unavailable)
		if matched {
			at.Weight = Matched(at.New, at.Old)
		}
	}
}

// amend makes the mix that there is the step's.
func (d *decider) amend(old, fresh int) {
	s := *d.Schedule
	s.Steps = append([]Step(nil), s.Steps...)
	at := &s.Steps[d.Step]
	if at.Weight == Matched(at.New, at.Old) {
		at.Weight = Matched(fresh, old)
	}
	at.Unavailable, at.Old, at.New = max(0, d.w.Replicas-old), old, fresh
	at.Surge = max(0, fresh-at.Unavailable)
	rise(s.Steps, d.Step, d.w.Replicas)
	d.Schedule = &s
}
