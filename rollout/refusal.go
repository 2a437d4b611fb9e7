package rollout

import (
	"fmt"
	"strings"
	"time"
)

// Reason is why there is no plan, in one word, as conditions carry it.
type Reason string

// The reasons.
const (
	Invalid     Reason = "Invalid"     // a field makes no sense, or contradicts another
	Unsupported Reason = "Unsupported" // this kind of workload, or a service without router, cannot do it
	NoConsent   Reason = "NoConsent"   // it needs a consent that the policy does not give
	NoCapacity  Reason = "NoCapacity"  // neither surge nor replicas that demand leaves free
	Overloaded  Reason = "Overloaded"  // demand and reserve exceed what serves even before the update
	TooLong     Reason = "TooLong"     // longer than Policy.Within
)

// RemedyKind is what could be done about a refusal.
type RemedyKind string

// The kinds of remedies.
const (
	Wait        RemedyKind = "Wait"        // until demand is lower
	Shrink      RemedyKind = "Shrink"      // demand: then fewer replicas suffice
	RaiseSurge  RemedyKind = "RaiseSurge"  // by more GPUs
	LessReserve RemedyKind = "LessReserve" // run the update on a smaller reserve
	Otherwise   RemedyKind = "Otherwise"   // another strategy
	Consent     RemedyKind = "Consent"     // to downtime
	AllowLonger RemedyKind = "AllowLonger" // makespan
	AllowSpare  RemedyKind = "AllowSpare"  // list the source Spare
)

// Remedy is a change with which a plan exists: each was planned before it was said.
type Remedy struct {
	Kind     RemedyKind    `json:"kind"`
	At       time.Time     `json:"at,omitzero"`        // Wait
	Replicas int           `json:"replicas,omitempty"` // Shrink: what demand may need; LessReserve: the reserve
	GPUs     int           `json:"gpus,omitempty"`     // RaiseSurge
	Strategy Strategy      `json:"strategy,omitempty"` // Otherwise
	Makespan time.Duration `json:"makespan,omitempty"` // of the plan that then exists
	Message  string        `json:"message"`
}

// Refusal says why an update is not started, and what would make it possible.
type Refusal struct {
	Strategy Strategy `json:"strategy"`
	Reason   Reason   `json:"reason"`
	Message  string   `json:"message"`
	Remedies []Remedy `json:"remedies,omitempty"`
}

// String is the refusal in a sentence for events and conditions.
func (f *Refusal) String() string {
	if len(f.Remedies) == 0 {
		return f.Message
	}
	ways := make([]string, 0, len(f.Remedies))
	for _, m := range f.Remedies {
		ways = append(ways, m.Message)
	}
	return f.Message + "; possible: " + strings.Join(ways, ", or ")
}

// capacity says whether more of it would help.
func (w *shortfall) capacity() bool {
	return w.reason == NoCapacity || w.reason == Overloaded || w.reason == TooLong
}

func (r *Request) noRoom(p *pool, what string) *shortfall {
	keep := r.keep(p, 0)
	return short(NoCapacity, "there is no room to update %s: demand needs %d of %d replicas%s, and %d more fit",
		what, r.needed(0), r.Service.Replicas, r.reserveText(p, keep), r.surge(p))
}

func (r *Request) overload(p *pool, keep int) *shortfall {
	return short(Overloaded, "demand within the update needs %d of %d replicas%s: there are none to spare",
		keep-r.kept(p), r.Service.Replicas, r.reserveText(p, keep))
}

func (r *Request) kept(p *pool) int {
	if p.degrade {
		return 0
	}
	return r.Policy.Reserve
}

func (r *Request) reserveText(p *pool, _ int) string {
	if n := r.kept(p); n > 0 {
		return fmt.Sprintf(" and %d in reserve", n)
	}
	return ""
}

// refuse looks for what would make a plan possible.
func (r *Request) refuse(why *shortfall) *Refusal {
	f := &Refusal{Strategy: r.Policy.Strategy, Reason: why.reason, Message: why.message}
	if why.capacity() {
		f.add(r.wait())
		f.add(r.moreGPUs())
		f.add(r.allowSpare())
		f.add(r.lessReserve())
		f.add(r.lessDemand())
	}
	if why.reason == TooLong {
		longer := *r
		longer.Policy.Within = 0
		if s, why := longer.plan(); why == nil {
			f.add(&Remedy{Kind: AllowLonger, Makespan: s.Makespan, Message: fmt.Sprintf("allow %s", s.Makespan)})
		}
	}
	if why.reason != Invalid {
		f.others(r)
	}
	return f
}

func (f *Refusal) add(m *Remedy) {
	if m != nil {
		f.Remedies = append(f.Remedies, *m)
	}
}

// mostPoints bounds how far into the forecast a better moment is looked for: two days of hours.
const mostPoints = 48

func (r *Request) wait() *Remedy {
	looked := 0
	for _, p := range r.Demand.Points {
		if !p.At.After(r.Now) {
			continue
		}
		if looked++; looked > mostPoints {
			break
		}
		later := *r
		later.Now = p.At
		if s, why := later.plan(); why == nil {
			return &Remedy{Kind: Wait, At: p.At, Makespan: s.Makespan, Message: fmt.Sprintf("wait until %s, when demand is %.4g", p.At.Format("2006-01-02 15:04"), p.Value)}
		}
	}
	return nil
}

func (r *Request) moreGPUs() *Remedy {
	if r.Service.Kind != Deployment {
		return nil
	}
	with := func(k int) (Schedule, bool) {
		more := *r
		more.Sources = append([]Source{{Kind: Free, Name: "more", Replicas: k}}, r.Sources...)
		s, why := more.plan()
		return s, why == nil
	}
	k := smallest(1, r.Service.Replicas, func(k int) bool { _, ok := with(k); return ok })
	s, ok := with(k)
	if !ok {
		return nil
	}
	g := k * r.Service.GPUs
	return &Remedy{Kind: RaiseSurge, GPUs: g, Makespan: s.Makespan, Message: "raise surge by " + plural(g, "GPU")}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (r *Request) allowSpare() *Remedy {
	for _, s := range r.Sources {
		if s.Kind == Spare || s.Kind == Degrade {
			return nil
		}
	}
	more := *r
	more.Sources = append(append([]Source{}, r.Sources...), Source{Kind: Spare})
	s, why := more.plan()
	if why != nil {
		return nil
	}
	return &Remedy{Kind: AllowSpare, Makespan: s.Makespan, Message: "let replicas that demand does not need be unavailable"}
}

func (r *Request) lessReserve() *Remedy {
	for n := r.Policy.Reserve - 1; n >= 0; n-- {
		less := *r
		less.Policy.Reserve = n
		if s, why := less.plan(); why == nil {
			return &Remedy{Kind: LessReserve, Replicas: n, Makespan: s.Makespan, Message: fmt.Sprintf("keep a reserve of %d instead of %d", n, r.Policy.Reserve)}
		}
	}
	return nil
}

func (r *Request) lessDemand() *Remedy {
	now := r.needed(0)
	with := func(cut int) (Schedule, bool) {
		less := *r
		less.Demand = Constant(float64(now-cut) * r.Service.Capacity)
		s, why := less.plan()
		return s, why == nil
	}
	if now < 1 {
		return nil
	}
	cut := smallest(1, now, func(c int) bool { _, ok := with(c); return ok })
	s, ok := with(cut)
	if !ok {
		return nil
	}
	d := now - cut
	return &Remedy{Kind: Shrink, Replicas: d, Makespan: s.Makespan, Message: fmt.Sprintf("shrink demand to what %s (%.4g)", serve(d), float64(d)*r.Service.Capacity)}
}

func serve(n int) string {
	if n == 1 {
		return "1 replica serves"
	}
	return fmt.Sprintf("%d replicas serve", n)
}

// others adds the strategies that could be had instead.
func (f *Refusal) others(r *Request) {
	for _, s := range []Strategy{Rolling, Canary, BlueGreen} {
		if s == r.Policy.Strategy {
			continue
		}
		other := *r
		other.Policy.Strategy = s
		if out, why := other.plan(); why == nil {
			f.add(&Remedy{Kind: Otherwise, Strategy: s, Makespan: out.Makespan, Message: fmt.Sprintf("%s instead, in %s", s, out.Makespan)})
		}
	}
	if r.Policy.Downtime && r.Policy.Strategy == Recreate {
		return
	}
	other := *r
	other.Policy.Strategy, other.Policy.Downtime, other.Policy.Within = Recreate, true, 0
	if out, why := other.plan(); why == nil {
		f.add(&Remedy{Kind: Consent, Strategy: Recreate, Makespan: out.Makespan, Message: fmt.Sprintf("consent to Recreate, %s without service", out.Downtime)})
	}
}
