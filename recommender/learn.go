package recommender

import "math"

const (
	// sticky: a change of at most 10 % is none. Restarting or resizing for less costs more than it saves.
	sticky = 0.10
	// minHours is how many hours there must be before anything is said, minFit how many a rule must have been tried in.
	minHours = 3
	minFit   = 12
	// better is by how much of the request in slack another rule must be better to be taken: less is chance.
	better = 0.01
	// perChange is the slack that a change is worth.
	perChange = 0.05
	// refit is every how many hours all rules are tried; in between only the one in use.
	refit = 3
	// padding, in levels, widens intervals that one window alone speaks for to three quarters more or less.
	padding = 20
)

// past is what rules are tried on: the kept hours as arrays in the order of time, the last entry being the hour to come.
type past struct {
	needs  [2*week + 1]uint8 // levels that keep the risk, for as long as a recommendation holds; 0 where nothing is known
	shapes [week]shape
	known  [week]bool
	from   int // first index in shapes that counts
}

// fit is a rule tried on the past.
type fit struct {
	rule   rule
	level  float64 // what to request in the hour to come
	margin float64 // part of level
	slack  float64 // mean over the past, with perChange
	lower  float64 // the interval of the need in the hour to come
	upper  float64
}

// cut is the past as it stands at the end of the newest hour, without what was before an hour.
func (t *timeline) cut(p *past, from int, memory bool, risk float64, hold int) {
	start := t.next - week
	p.from = max(0, from-start, t.first-start)
	place := ((start % lifetime) + lifetime) % lifetime
	for i := range week {
		h := hour{}
		if start+i >= t.first {
			h = t.hours[place]
		}
		p.needs[i], p.needs[week+i] = 0, 0
		if p.known[i] = h.known(); p.known[i] {
			p.shapes[i] = h.shape(memory)
			p.needs[week+i] = uint8(p.shapes[i].quantile(risk) + 0.5)
		}
		// What is older has its place a week later in the ring.
		if n := start + i; t.older != nil && n-week >= from && n >= 0 {
			p.needs[i] = t.older[place]
		}
		if place++; place == lifetime {
			place = 0
		}
	}
	p.needs[2*week] = 0
	if hold == 1 {
		return
	}
	var needs [2*week + 1]float64
	for i, n := range p.needs {
		needs[i] = float64(n)
	}
	for i, n := range reversedMaxima(needs[:], hold) {
		p.needs[i] = uint8(n)
	}
}

// try fits a rule: its path through the past, changed only when it must be, and the smallest margin at which the share of time
// above it stays within risk. ok is false where it has too little to go by.
func (p *past) try(r rule, risk, tail float64, hold int, c *counts) (fit, bool) {
	c.reset()
	current, since, changes, known := 0, hold, 0, 0
	for k := p.from; k <= week; k++ {
		// Rules look back two weeks at most, and with a long hold less is kept than they would need.
		level, ok := 0, false
		if k >= 1 && week+k >= 2*hold+day+3 {
			level, ok = r.says(&p.needs, week+k, hold)
		}
		since++
		if ok && (current == 0 || k == week && hold > 1 || since >= hold && beyond(level-current)) {
			if current != 0 && k < week {
				changes++
			}
			current, since = level, 0
		}
		if current == 0 || k == week {
			if k == week && !ok {
				return fit{}, false
			}
			continue
		}
		if p.known[k] {
			known++
			need := 0
			switch {
			case hold == 1:
				need = int(p.needs[week+k])
			case ok && k+hold <= week: // relative to what is said now, not to what still holds
				need = max(1, int(p.needs[week+k])-level+current)
			}
			c.add(&p.shapes[k], current, need)
		}
	}
	if known < minFit || current == 0 {
		return fit{}, false
	}
	n := float64(known)
	margin := c.margin(risk * n)
	f := fit{rule: r, margin: margin, level: float64(current) + margin}
	f.slack = 1 - c.use()/n*math.Exp(-margin*levelWidth) + perChange*float64(changes)/n
	// Windows that overlap are not many: the fewer there are side by side, the less do their extremes say.
	pad := padding / (1 + c.needed/float64(hold))
	f.lower, f.upper = float64(current)+c.need(tail)-pad, float64(current)+c.need(1-tail)+pad
	return f, true
}

// beyond reports whether a change of some levels is more than sticky.
func beyond(levels int) bool { return levels > 1 || levels < -1 }

// counts are distributions of what hours had and needed, in levels relative to what a rule said, from -span to span.
type counts struct {
	density [2*span + 2]float64 // of samples: differences of the density
	needs   [2*span + 1]uint16  // of the hours' needs
	needed  float64             // how many
	medians [2*span + 1]uint16
}

const span = topLevel

func (c *counts) reset() { *c = counts{} }

// add counts an hour, of what a rule said and of what was needed from then on, 0 if that is not to be counted.
func (c *counts) add(s *shape, said, need int) {
	o := overs()
	for i := 1; i < len(s); i++ {
		c.spread(int(s[i-1])-said, int(math.Ceil(s[i]))-said, o[i-1]-o[i])
	}
	c.spread(int(s[0]-s.tail())-said, int(s[0])-said, below)
	if need > 0 {
		c.needs[clampTo(need-said)+span]++
		c.needed++
	}
	c.medians[clampTo(int(s[0])-said)+span]++
}

// spread adds a share of samples that lies evenly between two levels.
func (c *counts) spread(low, high int, share float64) {
	low, high = clampTo(low), clampTo(high)
	if low >= high {
		low = high - 1
	}
	low = max(low, -span)
	d := share / float64(high-low)
	c.density[low+span] += d
	c.density[high+span] -= d
}

func clampTo(level int) int { return max(-span, min(level, span)) }

// margin is the smallest level above which lies no more than a number of hours' worth of samples.
func (c *counts) margin(allowed float64) float64 {
	total := 0.0 // of the density of the interval that begins at i
	for i := range c.density {
		total += c.density[i]
	}
	above := 0.0
	density := total
	for i := len(c.density) - 1; i >= 0; i-- {
		// density holds on [i, i+1)
		if density > 0 && above+density > allowed {
			return float64(i-span) + 1 - (allowed-above)/density
		}
		above += density
		density -= c.density[i]
	}
	return -span
}

// use is the sum of the hours' medians over what the rule said.
func (c *counts) use() float64 {
	step := math.Exp(levelWidth)
	sum := 0.0
	for i := len(c.medians) - 1; i >= 0; i-- {
		sum = sum*step + float64(c.medians[i])
	}
	return sum * math.Exp(-span*levelWidth)
}

// need is the level that a share of the hours needed no more than.
func (c *counts) need(share float64) float64 {
	seen := 0.0
	for i, m := range c.needs {
		if seen += float64(m); m > 0 && seen >= share*c.needed {
			return float64(i - span)
		}
	}
	return span
}
