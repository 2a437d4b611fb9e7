package recommender

import (
	"iter"
	"math"
	"slices"
	"time"
)

// Usage is what is known of one container and one resource: a week of hours, and what was learnt from them. It takes some 1.2 KB.
type Usage struct {
	resource Resource
	policy   Policy

	time    timeline
	open    openHour
	learnt  learnt
	startup [2]startup // of this week and the one before

	since   int64  // when the first sample was taken, seconds since 1970; 0 before it
	until   int64  // and the newest
	samples uint64 // how many
	sure    float32
	version int32 // number of the hour in which the version began that the hours count from; 0 for all
	pending int32 // number of the hour in which a version began that may not be like the one before; 0 for none
}

// startup is the most that was used while starting, in a week.
type startup struct {
	week int32 // number, since 1970
	max  uint16
}

// NewUsage makes an empty Usage.
func NewUsage(r Resource, p Policy) *Usage {
	u := &Usage{resource: r, policy: p}
	u.learnt.reset(p)
	return u
}

// Resource returns what the usage is of.
func (u *Usage) Resource() Resource { return u.resource }

// SetPolicy changes the policy. If what it says of risk has changed, what was learnt is learnt anew from the hours kept. The
// step cannot be changed.
func (u *Usage) SetPolicy(p Policy) {
	old := u.policy
	p.Step = old.Step
	u.policy = p
	if old.Risk == p.Risk && old.Hold == p.Hold && old.Confidence == p.Confidence {
		return
	}
	u.learnAnew()
}

// learnAnew goes through the kept hours as if they came now.
func (u *Usage) learnAnew() {
	kept := u.time
	u.time = timeline{next: kept.first, first: kept.first}
	u.learnt.reset(u.policy)
	for n := kept.first; n < kept.next; n++ {
		if kept.older != nil { // closing an hour puts what it replaces there
			older := *kept.older
			u.time.older = &older
		}
		u.closed(kept.at(n))
	}
	u.time.older = kept.older
}

// future is how far ahead of the caller's clock a sample may be.
const future = 10 * time.Minute

// Add takes a sample, of any replica, in the resource's unit. It is refused, and false returned, if it is not a number, negative,
// infinite, more than ten minutes after now, or of an hour before the newest sample's.
func (u *Usage) Add(at time.Time, value, certainty float64, now time.Time) bool {
	if !(value >= 0) || math.IsInf(value, 1) || at.After(now.Add(future)) || at.Unix() <= 0 {
		return false
	}
	number := u.hourOf(at)
	switch {
	case u.samples == 0:
		u.time.next, u.time.first = number, number
		u.since = at.Unix()
	case number < u.time.next:
		return false
	}
	u.closeUntil(number)
	if !(certainty >= 0 && certainty <= 1) {
		certainty = 0
	}
	u.open.add(value/unitOf(u.resource), certainty)
	u.until = max(u.until, at.Unix())
	// A mean over the last thousand: evidence that has become better counts soon.
	u.samples++
	u.sure += (float32(certainty) - u.sure) / float32(min(u.samples, 1000))
	return true
}

func (u *Usage) hourOf(at time.Time) int { return int(at.UnixNano() / int64(u.policy.step())) }

func (u *Usage) startOf(number int) time.Time {
	return time.Unix(0, int64(number)*int64(u.policy.step())).UTC()
}

// closeUntil closes the hours before one. After a gap longer than a lifetime nothing is left to go by.
func (u *Usage) closeUntil(number int) {
	if number <= u.time.next {
		return
	}
	u.closed(u.open.close(isMemory(u.resource)))
	if number-u.time.next > lifetime {
		u.time = timeline{next: number, first: number}
		u.learnt.reset(u.policy)
	}
	for u.time.next < number {
		u.closed(hour{})
	}
}

// AddStartup takes a sample of a replica that is not ready yet: it counts to Startup alone.
func (u *Usage) AddStartup(at time.Time, value float64) bool {
	if !(value >= 0) || math.IsInf(value, 1) || at.Unix() <= 0 {
		return false
	}
	number := int32(u.hourOf(at) / week)
	s := &u.startup
	switch {
	case number > s[0].week:
		s[0], s[1] = startup{week: number}, s[0]
	case number < s[0].week:
		return false
	}
	s[0].max = max(s[0].max, markOf(value/unitOf(u.resource)))
	return true
}

// startupPeak is the most of this week and the one before; NaN without one.
func (u *Usage) startupPeak(now time.Time) float64 {
	number := int32(u.hourOf(now) / week)
	var m uint16
	for _, s := range u.startup {
		if s.max != 0 && number-s.week <= 1 {
			m = max(m, s.max)
		}
	}
	if m == 0 {
		return unknown()
	}
	return markValue(m) * unitOf(u.resource)
}

// What a container killed for want of memory is taken to have wanted, as the VPA does (--oom-bump-up-ratio, --oom-min-bump-up-bytes).
const (
	oomRatio = 1.2
	oomBytes = 100 << 20
)

// AddOOM takes a kill for want of memory at a limit in bytes (what the container had used, where it had no limit). It is a peak
// of 1.2 times that, and at least 100 MiB more.
func (u *Usage) AddOOM(at time.Time, limit float64, now time.Time) bool {
	wanted := max(limit*oomRatio, limit+oomBytes)
	if !u.Add(at, wanted, 1, now) {
		return false
	}
	u.learnt.oom = int32(u.time.next)
	return true
}

// NewVersion says that a new version of the workload runs from now on. The hours before count on until those of the new version
// contradict them.
func (u *Usage) NewVersion(at time.Time) {
	if u.samples == 0 || at.Unix() > u.until+int64(lifetime*u.policy.step()/time.Second) {
		return // nothing is known, or too long ago to count
	}
	u.Tick(at)
	u.pending = int32(u.time.next)
}

// Hours yields what is kept, oldest first: a week of closed hours, unknown ones among them with no samples.
func (u *Usage) Hours() iter.Seq[Hour] {
	unit := unitOf(u.resource)
	return func(yield func(Hour) bool) {
		for n := u.time.first; n < u.time.next; n++ {
			h := u.time.at(n)
			out := Hour{Start: u.startOf(n), P50: unknown(), P90: unknown(), P98: unknown(), Max: unknown()}
			if h.known() {
				out.Known = true
				s := h.shape(isMemory(u.resource))
				out.P50, out.P90, out.P98, out.Max = levelValue(s[0])*unit, levelValue(s[1])*unit, levelValue(s[2])*unit, levelValue(s[3])*unit
			}
			if !yield(out) {
				return
			}
		}
	}
}

// Replay says what the kept hours since a time would have been like at a request, in the resource's unit.
func (u *Usage) Replay(request float64, since time.Time) Replay {
	r := Replay{}
	size := request / unitOf(u.resource)
	level := levelAt(size)
	var over, excess, use float64
	for n := max(u.time.first, u.hourOf(since)); n < u.time.next; n++ {
		h := u.time.at(n)
		if !h.known() {
			continue
		}
		if r.Hours == 0 {
			r.Since = u.startOf(n)
		}
		r.Hours++
		s := h.shape(isMemory(u.resource))
		over += s.over(level)
		e, all := s.excess(size)
		excess, use = excess+e, use+all
		if s[3] > level+markWidth/levelWidth {
			r.Kills++
		}
	}
	if r.Hours > 0 {
		r.Over = over / float64(r.Hours)
	}
	if use > 0 {
		r.Excess = excess / use
	}
	return r
}

// excess is how much of an hour's use lies above a value, and all of its use: means over the hour, samples being spread evenly
// between the quantiles.
func (s *shape) excess(value float64) (above, all float64) {
	o := overs()
	low, share := levelValue(max(1, s[0]-s.tail())), below
	for i, level := range s {
		high := levelValue(level)
		all += share * (low + high) / 2
		switch {
		case value <= low:
			above += share * ((low+high)/2 - value)
		case value < high:
			above += share * (high - value) * (high - value) / (2 * (high - low))
		}
		low, share = high, o[i]-o[min(i+1, len(o)-1)]
	}
	return above, all
}

// Tick says what time it is, so that an hour ends although no sample of the next has come.
func (u *Usage) Tick(now time.Time) {
	if u.samples > 0 {
		u.closeUntil(u.hourOf(now))
	}
}

// clone is a copy that shares nothing.
func (u *Usage) clone() *Usage {
	c := *u
	c.open.counts = slices.Clone(u.open.counts)
	if u.time.older != nil {
		older := *u.time.older
		c.time.older = &older
	}
	return &c
}
