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
	masses [week]mass
	known  [week]bool
	from   int // first index in masses that counts
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
			s := h.shape(memory)
			p.masses[i] = s.mass()
			p.needs[week+i] = uint8(s.quantile(risk) + 0.5)
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
	way := path{hold: hold, since: hold}
	for k := p.from; k < week; k++ {
		level, ok := p.says(r, k, hold)
		if way.step(level, ok); way.level == 0 || !p.known[k] {
			continue
		}
		way.known++
		need := 0
		switch {
		case hold == 1:
			need = int(p.needs[week+k])
		case ok && k+hold <= week: // relative to what is said now, not to what still holds
			need = max(1, int(p.needs[week+k])-level+way.level)
		}
		c.add(&p.masses[k], way.level, need)
	}
	changes := way.changes
	level, ok := p.says(r, week, hold)
	if !ok || way.known < minFit {
		return fit{}, false
	}
	if hold > 1 { // whether it is time for a change is learnt's to say
		way.level = level
	}
	way.step(level, ok)
	n, said := float64(way.known), float64(way.level)
	margin := c.margin(risk * n)
	f := fit{rule: r, margin: margin, level: said + margin}
	f.slack = 1 - c.use()/n*math.Exp(-margin*levelWidth) + perChange*float64(changes)/n
	// Windows that overlap are not many: the fewer there are side by side, the less do their extremes say.
	pad := padding / (1 + c.needed/float64(hold))
	f.lower, f.upper = said+c.need(tail)-pad, said+c.need(1-tail)+pad
	return f, true
}

// says is a rule for hour k. Rules look back two weeks at most, and with a long hold less is kept than they would need.
func (p *past) says(r rule, k, hold int) (int, bool) {
	if k < 1 || week+k < 2*hold+day+3 {
		return 0, false
	}
	level, ok := r.says(&p.needs, week+k, hold)
	return max(1, min(level, topLevel)), ok
}

// path is what would have been requested, less the margin.
type path struct {
	hold, since    int
	level          int // 0 at first
	changes, known int
}

// step goes on by an hour of which a rule says something, or does not.
func (p *path) step(level int, ok bool) {
	p.since++
	switch {
	case !ok:
	case p.level == 0:
		p.level, p.since = level, 0
	case p.since >= p.hold && beyond(level-p.level):
		p.level, p.since = level, 0
		p.changes++
	}
}

// beyond reports whether a change of some levels is more than sticky.
func beyond(levels int) bool { return levels > 1 || levels < -1 }

// mass is an hour's distribution as pieces of even density between levels from 0 on.
type mass struct {
	from, to [4]int16
	density  [4]float64
}

func (s *shape) mass() mass {
	var m mass
	o := overs()
	low, share := max(0, s[0]-s.tail()), below
	for i, level := range s {
		high := math.Ceil(level)
		m.from[i], m.to[i] = int16(low), int16(high)
		if m.from[i] >= m.to[i] {
			m.from[i] = m.to[i] - 1
		}
		m.density[i] = share / float64(m.to[i]-m.from[i])
		low, share = level, o[i]-o[min(i+1, len(o)-1)]
	}
	return m
}

// counts are distributions of what hours had and needed, in levels relative to what a rule said, from -span to span.
type counts struct {
	density   [2*span + 2]float64 // of samples: differences of the density
	needs     [2*span + 1]uint16  // of the hours' needs
	medians   [2*span + 1]uint16
	needed    float64 // how many needs
	low, high int     // indices that are in use
}

const span = topLevel

func (c *counts) reset() {
	*c = counts{low: 2 * span, high: 0}
}

// add counts an hour, of what a rule said (a level) and of what was needed from then on, 0 if that is not to be counted.
func (c *counts) add(m *mass, said, need int) {
	shift := span - said
	for i, d := range m.density {
		c.density[int(m.from[i])+shift] += d
		c.density[int(m.to[i])+shift] -= d
	}
	c.medians[int(m.to[0])+shift]++
	c.low, c.high = min(c.low, int(m.from[0])+shift), max(c.high, int(m.to[3])+shift)
	if need > 0 {
		c.count(need - said)
	}
}

// count counts a need.
func (c *counts) count(need int) {
	i := max(0, min(need+span, 2*span))
	c.needs[i]++
	c.needed++
	c.low, c.high = min(c.low, i), max(c.high, i)
}

// margin is the smallest level above which lies no more than a number of hours' worth of samples.
func (c *counts) margin(allowed float64) float64 {
	above, density := 0.0, 0.0
	for i := c.high; i >= c.low; i-- {
		// density is that of the interval that begins at i
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
	for i := c.high; i >= c.low; i-- {
		sum = sum*step + float64(c.medians[i])
	}
	return sum * math.Exp(float64(c.low-span)*levelWidth)
}

// need is the level that a share of the needs did not exceed.
func (c *counts) need(share float64) float64 {
	seen := 0.0
	for i := c.low; i <= c.high; i++ {
		if seen += float64(c.needs[i]); c.needs[i] > 0 && seen >= share*c.needed {
			return float64(i - span)
		}
	}
	return span
}
