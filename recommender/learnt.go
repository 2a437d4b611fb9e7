package recommender

import "math"

// learnt is what follows from the hours. Levels are floats on the grid, 0 where there is none.
type learnt struct {
	issued       float32 // the request recommended
	lower, upper float32 // of the need
	margin       float32 // part of issued
	reason       Reason
	rule         rule // in use
	fitted       bool // rule is set

	strain float32 // ln of the risk aimed at over the risk asked for
	tail   float32 // share of needs aimed at outside the interval
	over   running // of issued requests, share of time above
	held   running // of intervals, share that held the need

	age   int32  // hours since issued changed
	due   int32  // number of the hour at whose end all rules are tried again
	trial window // the interval being judged
	oom   int32  // number of the hour of the last kill
	hours int32  // known ones among those that count
}

// window is an interval while the hours that it is about pass.
type window struct {
	lower, upper, need float32
	left               int32
}

// running is a mean over about the last week.
type running struct{ mean, n float32 }

func (r *running) add(v float64) {
	r.n = min(r.n+1, week)
	r.mean += (float32(v) - r.mean) / r.n
}

func (r running) value() float64 {
	if r.n == 0 {
		return unknown()
	}
	return float64(r.mean)
}

func (l *learnt) reset(p Policy) { *l = learnt{tail: float32(1 - p.Confidence)} }

// The feedback's steps per hour. An hour wholly above the request at a risk of 2 % takes the risk aimed at down by e¹, as much as
// 50 quiet hours raise it: in the long run the share of time above is the risk whatever demand does (adaptive conformal inference,
// Gibbs and Candès 2021, on a logarithmic scale).
const (
	strainStep, strainLow, strainHigh = 0.01, -2, 0.5
	tailStep, tailLow                 = 0.02, 0.002
)

// closed takes the hour that has ended: what was recommended for it is judged, and the next hour's recommendation is made.
func (u *Usage) closed(h hour) {
	l := &u.learnt
	if h.known() {
		u.judge(h)
		l.hours++
	}
	l.age++
	u.time.push(h, isMemory(u.resource), u.policy.Risk)
	if u.pending != 0 {
		u.contradiction()
	}
	if !h.known() || int(l.hours) < minHours {
		return
	}
	if isMemory(u.resource) {
		u.fitPeaks()
	} else {
		u.fitShare()
	}
	if l.trial.left == 0 && l.upper > 0 {
		l.trial = window{lower: l.lower, upper: l.upper, left: int32(u.policy.hold())}
	}
}

// unbearable is the share of an hour above the request after which it may change before its time.
const unbearable = 0.25

// judge says how the recommendation fared in an hour.
func (u *Usage) judge(h hour) {
	l := &u.learnt
	memory := isMemory(u.resource)
	s := h.shape(memory)
	need := u.need(&s)
	if l.issued > 0 {
		over := s.over(float64(l.issued))
		l.over.add(over)
		if over > unbearable {
			l.age = math.MaxInt16 // no need to hold it any longer
		}
		if !memory {
			l.strain += strainStep * float32(1-over/u.policy.Risk)
			l.strain = max(strainLow, min(l.strain, strainHigh))
		}
	}
	if w := &l.trial; w.left > 0 {
		w.need = max(w.need, float32(need))
		if w.left--; w.left == 0 {
			held := 0.0
			if w.need >= w.lower && w.need <= w.upper {
				held = 1
			}
			l.held.add(held)
			l.tail += tailStep * float32(math.Sqrt(float64(u.policy.hold()))*(held-u.policy.Confidence))
			l.tail = max(tailLow, min(l.tail, 2*float32(1-u.policy.Confidence)))
			*w = window{}
		}
	}
}

// need is the smallest level that would have kept the risk in an hour.
func (u *Usage) need(s *shape) float64 {
	if isMemory(u.resource) {
		return s[len(s)-1]
	}
	return s.quantile(u.policy.Risk)
}

// contradiction drops the hours before a new version once most of the first three after it need more or less than any hour of the
// day before it did, by a tenth.
func (u *Usage) contradiction() {
	begin := int(u.pending)
	if u.time.next-begin < minHours {
		return
	}
	low, high, before := u.needed(begin-day, begin)
	_, _, after := u.needed(begin, u.time.next)
	if after < minHours && u.time.next-begin < day {
		return
	}
	other := 0
	for n := begin; n < u.time.next; n++ {
		if need, ok := u.needOf(n); ok && (need > high+2 || need < low-2) {
			other++
		}
	}
	if before > 0 && 2*other > after {
		u.version = int32(begin)
		l := &u.learnt
		l.hours = int32(after)
		l.fitted, l.due, l.issued, l.strain = false, 0, 0, 0
	}
	u.pending = 0
}

// needOf is what an hour needed.
func (u *Usage) needOf(number int) (float64, bool) {
	h := u.time.at(number)
	if !h.known() {
		return 0, false
	}
	s := h.shape(isMemory(u.resource))
	return u.need(&s), true
}

// needed is the least and the most that the hours of a range needed, and how many of them are known.
func (u *Usage) needed(from, to int) (low, high float64, known int) {
	low = topLevel
	for n := from; n < to; n++ {
		if need, ok := u.needOf(n); ok {
			low, high = min(low, need), max(high, need)
			known++
		}
	}
	return low, high, known
}

// fitShare is about resources of which too little is slow: the share of time above the request is what counts.
func (u *Usage) fitShare() {
	l := &u.learnt
	var p past
	u.time.cut(&p, int(u.version), false, u.policy.Risk, u.policy.hold())
	risk := u.policy.Risk * math.Exp(float64(l.strain))
	best, ok := u.best(&p, risk)
	if !ok {
		u.fitEarly(&p)
		return
	}
	l.rule, l.fitted, l.reason = best.rule, true, best.rule.reason()
	l.margin = float32(best.margin)
	l.lower, l.upper = float32(min(best.lower, best.level)), float32(max(best.upper, best.lower))
	l.issue(best.level, u.policy.hold())
}

// best fits the rule in use, and when that is due all others.
func (u *Usage) best(p *past, risk float64) (fit, bool) {
	l := &u.learnt
	var c counts
	tail, hold := float64(l.tail)/2, u.policy.hold()
	var best fit
	ok := false
	if l.fitted {
		best, ok = p.try(l.rule, risk, tail, hold, &c)
	}
	if ok && u.time.next < int(l.due) {
		return best, true
	}
	l.due = int32(u.time.next + refit)
	was, slack := l.rule, best.slack
	for r := range rule(numberOfRules) {
		if ok && r == was {
			continue
		}
		if f, can := p.try(r, risk, tail, hold, &c); can && (!ok || f.slack < best.slack && f.slack < slack-better) {
			if !ok {
				slack = f.slack + better // whichever is the least of all
			}
			best, ok = f, true
		}
	}
	return best, ok
}

// fitEarly is what to request before any rule could be tried: 15 % more than the most, as the VPA's margin.
func (u *Usage) fitEarly(p *past) {
	l := &u.learnt
	top, low := 0.0, topLevel*1.0
	for k := p.from; k < week; k++ {
		if p.known[k] {
			need := float64(p.needs[week+k])
			top, low = max(top, need), min(low, need)
		}
	}
	l.reason, l.fitted = ReasonRecent, false
	l.margin = float32(math.Log(1.15) / levelWidth)
	l.lower, l.upper = float32(low), float32(top)+2*l.margin
	l.issue(top+float64(l.margin), 1)
}

// issue changes the recommendation if it is another one, and the last has held for as long as it was to: what would be a change of
// less than sticky is none downwards, and upwards it is made as large as that, since those who apply recommendations ignore small
// changes, too.
func (l *learnt) issue(level float64, hold int) {
	if l.issued > 0 && int(l.age) < hold {
		return
	}
	level = max(1, min(level, topLevel))
	step := math.Log(1+sticky) / levelWidth
	old := float64(l.issued)
	switch {
	case l.issued == 0 || level < old-step*1.1 || level > old+step:
		l.issued, l.age = float32(level), 0
	case level > old+slip:
		l.issued, l.age = float32(min(old+step+0.01, topLevel)), 0
	}
}

// slip is by how many levels a recommendation may be too low without being changed: 2 %.
const slip = 0.35
