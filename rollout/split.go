package rollout

import (
	"fmt"
	"math"
	"time"
)

// Matched is the share of traffic at which each of so many new pods carries what each old one does.
func Matched(fresh, old int) float64 {
	if fresh+old <= 0 {
		return 0
	}
	return float64(fresh) / float64(fresh+old)
}

// blueGreen runs both versions side by side: both complete where there is room, else both at the largest equal size.
func (r *Request) blueGreen(p *pool) (Schedule, *shortfall) {
	n := r.Service.Replicas
	if r.Service.Kind != Deployment {
		return Schedule{}, short(Unsupported, "blue/green needs a second set of pods, which a %s has not", r.Service.Kind)
	}
	if !r.Service.Router {
		return Schedule{}, short(Unsupported, "blue/green needs a router or a Service selector that switches traffic, and none is configured")
	}
	each := min(n, (n+r.surge(p))/2)
	if !p.spare || r.Policy.NoShrink {
		if r.surge(p) < n {
			return Schedule{}, short(NoCapacity, "both versions at full size need %d more replicas, and %d fit", n, r.surge(p))
		}
		each = n
	}
	u := n - each
	if r.Policy.MaxUnavailable != nil && u > *r.Policy.MaxUnavailable {
		return Schedule{}, short(NoCapacity, "both versions fit at %d replicas each, which takes %d unavailable, more than the %d allowed", each, u, *r.Policy.MaxUnavailable)
	}
	steps := r.blueGreenSteps(max(0, 2*each-n), u)
	m, ok := r.walk(p, steps, r.Service.StartUp.P90, r.Service.Drain.P90)
	if !ok || steps[0].New == 0 {
		return Schedule{}, r.noRoom(p, "as blue/green")
	}
	if keep := r.keep(p, m.now); min(each, steps[0].New) < keep {
		return Schedule{}, short(NoCapacity, "the GPUs hold two versions of %d replicas each, and demand within the update needs %d%s", each, keep-r.kept(p), r.reserveText(p, keep))
	}
	r.returns(p, steps, r.keep(p, m.now))
	typical, _ := r.walk(p, append([]Step(nil), steps...), r.Service.StartUp.P50, r.Service.Drain.P50)
	out := r.schedule(p, steps, m, typical.now)
	if each < n {
		out.Notes = append(out.Notes, fmt.Sprintf("shrink and switch: both versions run at %d of %d replicas", each, n))
	}
	return out, nil
}

func (r *Request) blueGreenSteps(s, u int) []Step {
	n := r.Service.Replicas
	green := min(n, s+u)
	return []Step{
		{Name: "green", Surge: s, Unavailable: u, Old: n - u, New: green, Held: true, Judged: !r.Policy.Unjudged, Gates: r.Policy.Gates},
		{Name: "switch", Surge: s, Unavailable: u, Old: n - u, New: green, Weight: 1, Held: true, Judged: !r.Policy.Unjudged, Keep: r.Policy.KeepOld},
		{Name: "finish", Surge: s, Unavailable: u, New: n, Weight: 1},
	}
}

// canary goes by steps of the new version's share; between two of them it walks as far at a time as demand allows, counting on
// the new version once it has passed.
func (r *Request) canary(p *pool) (Schedule, *shortfall) {
	if r.Service.Kind == DaemonSet {
		return Schedule{}, short(Unsupported, "a DaemonSet cannot be held at a mix of versions: use Rolling")
	}
	within := time.Duration(0)
	for range 16 {
		keep := r.keep(p, within)
		steps, why := r.canarySteps(p, keep)
		if why != nil {
			return Schedule{}, why
		}
		m, ok := r.walk(p, steps, r.Service.StartUp.P90, r.Service.Drain.P90)
		if !ok {
			return Schedule{}, r.noRoom(p, "as a canary")
		}
		if r.keep(p, m.now) <= keep {
			r.returns(p, steps, keep)
			if why := r.weights(steps, m.now); why != nil {
				return Schedule{}, why
			}
			typical, _ := r.walk(p, append([]Step(nil), steps...), r.Service.StartUp.P50, r.Service.Drain.P50)
			return r.schedule(p, steps, m, typical.now), nil
		}
		within = m.now
	}
	return Schedule{}, short(Overloaded, "demand rises faster than the canary can go")
}

// fresh is how many replicas a step gives to the new version.
func (c CanaryStep) fresh(n int) int {
	if c.Replicas > 0 {
		return min(c.Replicas, n)
	}
	return min(n, int(math.Ceil(float64(n)*c.Percent/100-1e-9)))
}

func (c CanaryStep) name() string {
	switch {
	case c.Replicas > 0:
		return plural(c.Replicas, "replica")
	default:
		return fmt.Sprintf("%g%%", c.Percent)
	}
}

func (r *Request) canarySteps(p *pool, keep int) ([]Step, *shortfall) {
	n, most := r.Service.Replicas, r.surge(p)
	var steps []Step
	var at Step
	at.Old = n
	for _, c := range r.Policy.Steps {
		goal := c.fresh(n)
		s := min(max(at.Surge, min(goal, most)), most)
		u := max(at.Unavailable, goal-s)
		for at.Unavailable < u {
			// What serves while old ones go and new ones load: the old ones that are left and the new ones passed so far.
			room := at.Old + at.New - keep
			if !p.spare {
				room = 0
			}
			if at.New == 0 && s > 0 && room < u {
				// Surge pods load beside everything that serves. What follows counts on them, so they are judged first.
				at = r.mix(s, 0)
				at.Name, at.Judged = "toward "+c.name(), !c.Unjudged
				steps = append(steps, at)
				continue
			}
			if room = r.pace(room); room <= 0 {
				return nil, r.noRoom(p, fmt.Sprintf("to %d new replicas", goal))
			}
			next := r.mix(s, min(u, at.Unavailable+room))
			if next.Unavailable == u {
				break
			}
			next.Name = "toward " + c.name()
			steps, at = append(steps, next), next
		}
		if s+u == 0 {
			return nil, r.noRoom(p, fmt.Sprintf("to %d new replicas", goal))
		}
		at = r.mix(s, u)
		if r.Policy.InstantReturn && at.Old < keep {
			return nil, short(NoCapacity, "at %s %d old replicas are left, and instant return needs %d", c.name(), at.Old, keep)
		}
		at.Name, at.Gates, at.Judged, at.Match, at.Share = c.name(), c.Gates, !c.Unjudged, c.Match, c.Percent/100
		switch {
		case c.Match != "":
			at.Weight = 0 // only what matches goes to the new version
		case c.Weight > 0:
			at.Weight = c.Weight / 100
		}
		steps = append(steps, at)
	}
	u := r.unavailable(p, keep)
	if most+u == 0 {
		return nil, r.noRoom(p, "to the end")
	}
	return append(steps, Step{Name: "finish", Surge: most, Unavailable: u, New: n, Weight: 1}), nil
}

// pace bounds how many replicas may be replaced at once.
func (r *Request) pace(room int) int {
	if r.Policy.MaxUnavailable != nil {
		room = min(room, *r.Policy.MaxUnavailable)
	}
	if r.Service.Serial {
		room = min(room, 1)
	}
	return room
}

// atOnce is how many pods of a StatefulSet are replaced at a time on the way from a step to the next.
func (r *Request) atOnce(before, at Step) int {
	u := at.Unavailable
	switch {
	case r.Policy.Strategy == Recreate:
		return max(1, u)
	case at.Held:
		u -= before.Unavailable
	}
	return max(1, r.pace(max(1, u)))
}

// mix is the held step with a setting.
func (r *Request) mix(s, u int) Step {
	n := r.Service.Replicas
	out := Step{Surge: s, Unavailable: u, Old: n - u, New: min(n, s+u), Held: true}
	out.Weight = Matched(out.New, out.Old)
	return out
}

// weights refuses shares of traffic that the replicas of a version cannot serve, or that nothing can split.
func (r *Request) weights(steps []Step, makespan time.Duration) *shortfall {
	demand := float64(r.Service.Replicas) * r.Service.Capacity
	if r.Demand.Missing == "" {
		demand = r.Demand.Peak(r.Now, r.Now.Add(makespan))
	}
	for _, s := range steps {
		if !s.Held || s.Match == "" && s.Weight == Matched(s.New, s.Old) {
			continue
		}
		if got, can := s.Weight*demand, float64(s.New)*r.Service.Capacity; got > can*(1+1e-9) {
			return short(Invalid, "step %s sends %.4g of a demand of %.4g to %d new replicas, which serve %.4g", s.Name, got, demand, s.New, can)
		}
		if got, can := (1-s.Weight)*demand, float64(s.Old)*r.Service.Capacity; got > can*(1+1e-9) {
			return short(Invalid, "step %s leaves %.4g of a demand of %.4g to %d old replicas, which serve %.4g", s.Name, got, demand, s.Old, can)
		}
	}
	return nil
}

// walk takes a model through steps, and writes down when each is reached and what serves on the way.
func (r *Request) walk(p *pool, steps []Step, startUp, drain time.Duration) (*model, bool) {
	m := r.start(p, startUp, drain)
	var before Step
	for i := range steps {
		s := &steps[i]
		s.Starts = m.now
		if r.Policy.Strategy == BlueGreen && s.Weight == 0 {
			m.route(onlyOld)
		}
		if r.Service.Kind == StatefulSet {
			m.limit = s.New
			m.set(0, r.atOnce(before, *s), false)
		} else {
			m.set(s.Surge, s.Unavailable, s.Held)
		}
		if r.Policy.Strategy == BlueGreen && s.Weight > 0 {
			m.route(onlyNew)
		}
		if !m.run() {
			return m, false
		}
		s.Settles, s.Least, before = m.now, m.least(s.Starts), *s
		if s.Held {
			m.wait(s.Keep)
			if s.Judged {
				m.wait(r.Policy.Hold)
			}
			for _, g := range s.Gates {
				m.wait(g.Pause)
			}
		}
	}
	return m, true
}

func (r *Request) returns(p *pool, steps []Step, keep int) {
	for i := range steps {
		steps[i].Return = r.back(p, steps[i], keep)
	}
}
