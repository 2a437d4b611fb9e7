package rollout

import (
	"fmt"
	"time"
)

// pool is the capacity that a plan may use: what is listed of the sources so far.
type pool struct {
	sources []Source
	free    int  // replicas that fit now
	extra   int  // replicas that fit now or later
	spare   bool // replicas that demand and reserve do not need may be unavailable
	degrade bool // the reserve may be unavailable as well
}

func (p *pool) add(s Source) {
	p.sources = append(p.sources, s)
	switch s.Kind {
	case Spare:
		p.spare = true
	case Degrade:
		p.spare, p.degrade = true, true
	case Free, Preempt, Provision:
		p.extra += s.Replicas
		if s.Delay == 0 {
			p.free += s.Replicas
		}
	}
}

// shortfall is why a strategy cannot be had with a pool.
type shortfall struct {
	reason  Reason
	message string
}

func short(reason Reason, format string, args ...any) *shortfall {
	return &shortfall{reason, fmt.Sprintf(format, args...)}
}

// Plan finds the schedule for a request, or says why there is none and what would make it possible. Free and spare capacity is
// used as it is listed; what costs others something (Preempt, Provision, Degrade) only as far as without it there is no plan,
// or none within Policy.Within, in the order of the list.
func Plan(r Request) (Schedule, *Refusal) {
	r = r.withDefaults()
	if err := r.validate(); err != nil {
		return Schedule{}, &Refusal{Strategy: r.Policy.Strategy, Reason: Invalid, Message: err.Error()}
	}
	s, why := r.plan()
	if why != nil {
		return Schedule{}, r.refuse(why)
	}
	return s, nil
}

// plan is Plan without remedies.
func (r *Request) plan() (Schedule, *shortfall) {
	var p pool
	for _, s := range r.Sources {
		if s.Kind == Free || s.Kind == Spare {
			p.add(s)
		}
	}
	s, why := r.with(&p)
	for _, next := range r.Sources {
		if why == nil || !why.capacity() {
			break
		}
		if next.Kind != Free && next.Kind != Spare {
			p.add(next)
			s, why = r.with(&p)
		}
	}
	return s, why
}

// with plans with what is in the pool.
func (r *Request) with(p *pool) (Schedule, *shortfall) {
	var s Schedule
	var why *shortfall
	switch r.Policy.Strategy {
	case Rolling:
		s, why = r.rolling(p)
	case Recreate:
		s, why = r.recreate(p)
	case BlueGreen:
		s, why = r.blueGreen(p)
	case Canary:
		s, why = r.canary(p)
	default:
		why = short(Invalid, "the strategy %q does not exist", r.Policy.Strategy)
	}
	if why == nil && r.Policy.Within > 0 && s.Makespan > r.Policy.Within {
		why = short(TooLong, "it would take %s, longer than the %s allowed", s.Makespan, r.Policy.Within)
	}
	return s, why
}

// surge is the most replicas beyond the service's own.
func (r *Request) surge(p *pool) int {
	if r.Service.Kind != Deployment {
		return 0
	}
	s := min(p.extra, r.Service.Replicas)
	if r.Policy.MaxSurge != nil {
		s = min(s, *r.Policy.MaxSurge)
	}
	return s
}

// keep is how many replicas must serve, given the largest demand within a time.
func (r *Request) keep(p *pool, within time.Duration) int {
	d := r.needed(within)
	if !p.degrade {
		d += r.Policy.Reserve
	}
	return d
}

// unavailable is how many replicas may be missing while as many as keep serve.
func (r *Request) unavailable(p *pool, keep int) int {
	if !p.spare {
		return 0
	}
	u := max(0, r.Service.Replicas-keep)
	if r.Policy.MaxUnavailable != nil {
		u = min(u, *r.Policy.MaxUnavailable)
	}
	if r.Service.Serial {
		u = min(u, 1)
	}
	return u
}

// start is the model of the service at the beginning, with the pool's capacity on its way.
func (r *Request) start(p *pool, startUp, drain time.Duration) *model {
	m := newModel(r.Service, startUp, drain, p.free)
	for _, s := range p.sources {
		if s.extra() && s.Delay > 0 {
			m.arrive(s.Delay, s.Replicas)
		}
	}
	return m
}

// forever stands for the makespan of what never ends: a plan for it must serve all of the forecast.
const forever = 10 * 365 * 24 * time.Hour

// settle finds the largest maxUnavailable that the demand within the resulting makespan allows. A larger one is faster, so less
// of the forecast counts: from the largest down, each candidate is what the one before it allows, until one allows itself. No
// larger one does.
func (r *Request) settle(p *pool, makespan func(unavailable int) time.Duration) int {
	u := r.unavailable(p, 0)
	for {
		next := min(u, r.unavailable(p, r.keep(p, makespan(u))))
		if next == u {
			return u
		}
		u = next
	}
}

// smallest is the smallest number in [low, high] that is as good as high, where larger ones are never worse.
func smallest(low, high int, good func(int) bool) int {
	for low < high {
		middle := low + (high-low)/2
		if good(middle) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return high
}

func (r *Request) rolling(p *pool) (Schedule, *shortfall) {
	s := r.surge(p)
	run := func(s, u int) (*model, time.Duration) {
		m := r.start(p, r.Service.StartUp.P90, r.Service.Drain.P90)
		m.set(s, u, false)
		if s+u == 0 || !m.run() {
			return m, forever
		}
		return m, m.now
	}
	u := r.settle(p, func(u int) time.Duration { _, d := run(s, u); return d })
	_, best := run(s, u)
	if best == forever {
		return Schedule{}, r.noRoom(p, "one at a time")
	}
	if u == 0 {
		if keep := r.keep(p, best); keep > r.Service.Replicas {
			return Schedule{}, r.overload(p, keep)
		}
	}
	as := func(s, u int) bool { _, d := run(s, u); return d <= best }
	// As fast with more that serves is better, then as fast with fewer GPUs.
	u = smallest(0, u, func(u int) bool { return as(s, u) })
	s = smallest(0, s, func(s int) bool { return as(s, u) })
	m, _ := run(s, u)
	typical := r.start(p, r.Service.StartUp.P50, r.Service.Drain.P50)
	typical.set(s, u, false)
	typical.run()
	step := Step{
		Name: "roll", Surge: s, Unavailable: u, New: r.Service.Replicas, Weight: 1, Settles: m.now, Least: m.least(0),
		Return: r.back(p, Step{Surge: s, Unavailable: u, New: r.Service.Replicas}, r.keep(p, m.now)),
	}
	return r.schedule(p, []Step{step}, m, typical.now), nil
}

func (r *Request) recreate(p *pool) (Schedule, *shortfall) {
	run := func(startUp, drain time.Duration) *model {
		m := newModel(r.Service, startUp, drain, 0)
		m.set(0, r.Service.Replicas, false)
		m.run()
		return m
	}
	m, typical := run(r.Service.StartUp.P90, r.Service.Drain.P90), run(r.Service.StartUp.P50, r.Service.Drain.P50)
	if r.Service.Kind == DaemonSet {
		return Schedule{}, short(Unsupported, "a DaemonSet has no strategy Recreate: use Rolling")
	}
	if r.Service.Serial {
		return Schedule{}, short(Unsupported, "a StatefulSet in OrderedReady replaces its pods one at a time: use Rolling")
	}
	if !r.Policy.Downtime {
		return Schedule{}, short(NoConsent, "Recreate leaves no replica serving for %s, and the policy does not consent to downtime", m.empty)
	}
	n := r.Service.Replicas
	step := Step{Name: "recreate", Unavailable: n, New: n, Weight: 1, Settles: m.now, Return: m.empty}
	out := r.schedule(p, []Step{step}, m, typical.now)
	out.Downtime = m.empty
	return out, nil
}

// back is how long going back from a step takes until old replicas alone serve what must be kept.
func (r *Request) back(p *pool, at Step, keep int) time.Duration {
	keep = min(keep, r.Service.Replicas)
	if at.Old >= keep {
		return 0
	}
	m := newModel(r.Service, r.Service.StartUp.P90, r.Service.Drain.P90, max(0, p.extra-max(0, at.Old+at.New-r.Service.Replicas)))
	m.old, m.fresh, m.ready, m.used = at.New, at.Old, at.Old, at.New+at.Old
	// What comes back is called new here. Where the plan has no room to spare, the failing version gives up its own.
	m.trace = nil
	m.count = onlyNew
	m.record()
	m.set(at.Surge, max(at.Unavailable, 1-at.Surge), false)
	m.run()
	for _, s := range m.trace {
		if s.serving >= keep {
			return s.at
		}
	}
	return m.now
}

// schedule sums up what a model went through.
func (r *Request) schedule(p *pool, steps []Step, m *model, typical time.Duration) Schedule {
	g := r.Service.GPUs
	out := Schedule{
		Strategy: r.Policy.Strategy, Kind: r.Service.Kind, Replicas: r.Service.Replicas,
		Needed: r.needed(m.now), Reserve: r.Policy.Reserve, Steps: steps,
		Makespan: m.now, Typical: typical, Least: r.low(m), Peak: m.peak * g, Extra: max(0, m.peak-r.Service.Replicas) * g,
		GPUHours: m.excess * float64(g) / 3600,
	}
	if p.degrade {
		out.Reserve = 0
		out.Notes = append(out.Notes, fmt.Sprintf("the reserve of %d is not kept: the update needs it", r.Policy.Reserve))
	}
	if r.Demand.Missing != "" {
		out.Notes = append(out.Notes, "demand is not known ("+r.Demand.Missing+"): every replica counts as needed")
	}
	out.Uses = r.uses(p, steps, max(0, m.peak-r.Service.Replicas))
	return out
}

// uses names where the capacity comes from: extra GPUs in the order of the sources, then the service's own replicas.
func (r *Request) uses(p *pool, steps []Step, extra int) []Use {
	var out []Use
	unavailable := 0
	for _, s := range steps {
		unavailable = max(unavailable, s.Unavailable)
	}
	spare := max(0, r.Service.Replicas-r.needed(0)-r.Policy.Reserve)
	for _, s := range p.sources {
		n := 0
		switch s.Kind {
		case Free, Preempt, Provision:
			n = min(extra, s.Replicas)
			extra -= n
		case Spare:
			n = min(unavailable, spare)
			unavailable -= n
		case Degrade:
			n, unavailable = unavailable, 0
		}
		if n > 0 {
			out = append(out, Use{Source: s, Replicas: n, GPUs: n * r.Service.GPUs})
		}
	}
	return out
}

// low finds the moment at which capacity exceeds demand by least.
func (r *Request) low(m *model) Low {
	var out Low
	for i, s := range m.trace {
		end := m.now
		if i+1 < len(m.trace) {
			end = m.trace[i+1].at
		}
		l := Low{After: s.at, Replicas: s.serving, Capacity: float64(s.serving) * r.Service.Capacity, Demand: r.Demand.Peak(r.Now.Add(s.at), r.Now.Add(end))}
		if r.Demand.Missing != "" {
			l.Demand = float64(r.Service.Replicas) * r.Service.Capacity
		}
		if i == 0 || l.Capacity-l.Demand < out.Capacity-out.Demand {
			out = l
		}
	}
	return out
}
