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
)

// past is what rules are tried on: the kept hours as arrays in the order of time, the last entry being the hour to come.
type past struct {
	needs  [2*week + 1]uint8 // levels that keep the risk; 0 where nothing is known
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
func (t *timeline) cut(p *past, from int, memory bool, risk float64) {
	start := t.next - week
	p.from = max(0, from-start, t.first-start)
	for i := range week {
		h := t.at(start + i)
		p.needs[i], p.needs[week+i] = 0, 0
		if p.known[i] = h.known(); p.known[i] {
			p.shapes[i] = h.shape(memory)
			p.needs[week+i] = uint8(p.shapes[i].quantile(risk) + 0.5)
		}
		// What is older has its place a week later in the ring.
		if n := start + i; n-week >= from && n >= 0 && t.older != nil {
			p.needs[i] = t.older[n%lifetime]
		}
	}
	p.needs[2*week] = 0
}

// try fits a rule: its path through the past, changed only when it must be, and the smallest margin at which the share of time
// above it stays within risk. ok is false where it has too little to go by.
func (p *past) try(r rule, risk, tail float64, hold int, c *counts) (fit, bool) {
	c.reset()
	current, since, changes, known := 0, hold, 0, 0
	for k := p.from; k <= week; k++ {
		level, ok := 0, false
		if k >= 3 || r == steady {
			level, ok = r.says(&p.needs, week+k)
		}
		since++
		if ok && (current == 0 || since >= hold && beyond(level-current)) {
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
			c.add(&p.shapes[k], current, int(p.needs[week+k]))
		}
	}
	if known < minFit || current == 0 {
		return fit{}, false
	}
	n := float64(known)
	margin := c.margin(risk * n)
	f := fit{rule: r, margin: margin, level: float64(current) + margin}
	f.slack = 1 - c.use()/n*math.Exp(-margin*levelWidth) + perChange*float64(changes)/n
	f.lower = float64(current) + c.need(tail, n)
	f.upper = float64(current) + c.need(1-tail, n)
	return f, true
}

// beyond reports whether a change of some levels is more than sticky.
func beyond(levels int) bool { return levels > 1 || levels < -1 }

// counts are distributions of what hours had and needed, in levels relative to what a rule said, from -span to span.
type counts struct {
	density [2*span + 2]float64 // of samples: differences of the density
	needs   [2*span + 1]uint16  // of the hours' needs
	medians [2*span + 1]uint16
}

const span = topLevel

func (c *counts) reset() { *c = counts{} }

// add counts an hour, of what a rule said and of what was needed.
func (c *counts) add(s *shape, said, need int) {
	o := overs()
	for i := 1; i < len(s); i++ {
		c.spread(int(s[i-1])-said, int(math.Ceil(s[i]))-said, o[i-1]-o[i])
	}
	c.spread(int(s[0]-s.tail())-said, int(s[0])-said, below)
	c.needs[clampTo(need-said)+span]++
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
func (c *counts) need(share, n float64) float64 {
	seen := 0.0
	for i, m := range c.needs {
		if seen += float64(m); m > 0 && seen >= share*n {
			return float64(i - span)
		}
	}
	return span
}
