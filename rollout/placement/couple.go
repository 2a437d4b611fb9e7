package placement

import "slices"

// coupling is what makes the answer for one node depend on the pods of others: topology spread and pod affinity. It is kept
// up to date as pods of the shape are placed.
type coupling struct {
	spread []spreading
	// needs are the keys of the affinity terms; a node passes where each of its domains has a match.
	needs      []*domains
	needMatch  [][]int64 // by term and domain: pods that match all terms
	matched    int       // domains with a match, over all terms
	selfNeeded bool      // the shape matches all of its own terms
	// avoid are the domains that hold a pod which own anti-affinity terms exclude; guard those with a pod that excludes the shape.
	avoid, guard []blocking
}

// domains are the values of a topology key: by node the number of its value, -1 where the node has no such label.
type domains struct {
	key string
	of  []int32
	n   int
}

type spreading struct {
	*Spread
	*domains
	self  bool // the shape is one of those that are spread
	grows bool // and counts once it is there
	// count is of pods by domain, real is whether the domain counts at all.
	count  []int64
	real   []bool
	reals  int32
	least  int64 // over real domains
	leasts int   // real domains with the least
}

// blocking is a topology key with the domains that are closed.
type blocking struct {
	*domains
	closed []bool
	self   bool // a pod of the shape closes its domain
}

func newCoupling(s *Snapshot, shape *Shape) *coupling {
	c := &coupling{}
	keys := map[string]*domains{}
	key := func(name string) *domains {
		if keys[name] == nil {
			keys[name] = s.domains(name)
		}
		return keys[name]
	}
	c.addSpread(s, shape, key)
	c.addAffinity(s, shape, key)
	for i := range shape.AntiAffinity {
		t := &shape.AntiAffinity[i]
		b := c.avoiding(key(t.TopologyKey))
		b.self = b.self || (s.about(t, shape) || s.guards(t, shape)) && t.Selector.matches(shape.Labels)
		s.eachPod(func(at int, p *Pod) {
			if d := b.of[at]; d >= 0 && s.about(t, &p.Shape) && t.Selector.matches(p.Labels) {
				b.closed[d] = true
			}
		})
	}
	if s.guarded > 0 {
		c.addGuards(s, shape, key)
	}
	return c
}

func (s *Snapshot) domains(key string) *domains {
	d := &domains{key: key, of: make([]int32, len(s.hosts))}
	values := make(map[string]int32)
	for i, h := range s.hosts {
		value, ok := h.Labels[key]
		if !ok {
			d.of[i] = -1
			continue
		}
		n, known := values[value]
		if !known {
			n = int32(len(values))
			values[value] = n
		}
		d.of[i] = n
	}
	d.n = len(values)
	return d
}

func (s *Snapshot) eachPod(visit func(int, *Pod)) {
	for i, h := range s.hosts {
		for _, p := range h.pods {
			visit(i, p)
		}
	}
}

// about reports whether a term of the new pod is about pods like q.
func (s *Snapshot) about(t *Term, q *Shape) bool {
	labels, exists := s.namespaces[q.Namespace]
	return t.about(q.Namespace, labels, exists)
}

// guards reports whether a term of a pod that is there is about the new one.
func (s *Snapshot) guards(t *Term, shape *Shape) bool {
	return t.about(shape.Namespace, s.namespaces[shape.Namespace], true)
}

func (c *coupling) addSpread(s *Snapshot, shape *Shape, key func(string) *domains) {
	for i := range shape.Spread {
		sp := &shape.Spread[i]
		c.spread = append(c.spread, spreading{Spread: sp, domains: key(sp.TopologyKey), self: sp.Selector.matches(shape.Labels)})
	}
	for i := range c.spread {
		sp := &c.spread[i]
		sp.grows = sp.self && !sp.Selector.empty() // countPodsMatchSelector counts nothing for a selector of everything
		sp.count, sp.real = make([]int64, sp.n), make([]bool, sp.n)
		for j, h := range s.hosts {
			if !c.countsFor(sp, shape, h, j) {
				continue
			}
			d := sp.of[j]
			sp.real[d] = true
			if sp.Selector.empty() {
				continue
			}
			for _, p := range h.pods {
				if !p.Terminating && p.Namespace == shape.Namespace && sp.Selector.matches(p.Labels) {
					sp.count[d]++
				}
			}
		}
		for d := range sp.real {
			if sp.real[d] {
				sp.reals++
			}
		}
		sp.refresh()
	}
}

// countsFor reports whether a node's pods count for a constraint: it has the labels of all constraints, and passes the node
// inclusion policies of this one.
func (c *coupling) countsFor(sp *spreading, shape *Shape, h *host, at int) bool {
	for i := range c.spread {
		if c.spread[i].of[at] < 0 {
			return false
		}
	}
	if !sp.IgnoreAffinity && !shape.wants(h.Node) {
		return false
	}
	if sp.HonorTaints {
		if _, tainted := shape.untolerated(h.Node); tainted {
			return false
		}
	}
	return true
}

func (sp *spreading) refresh() {
	sp.leasts = 0
	for d, n := range sp.count {
		switch {
		case !sp.real[d]:
		case sp.leasts == 0 || n < sp.least:
			sp.least, sp.leasts = n, 1
		case n == sp.least:
			sp.leasts++
		}
	}
}

// allows reports whether one more pod in a domain keeps the skew.
func (sp *spreading) allows(d int32) bool {
	least := sp.least
	if sp.reals < max(sp.MinDomains, 1) {
		least = 0
	}
	more := int64(0)
	if sp.self {
		more = 1
	}
	return sp.count[d]+more-least <= int64(sp.MaxSkew)
}

func (c *coupling) addAffinity(s *Snapshot, shape *Shape, key func(string) *domains) {
	if len(shape.Affinity) == 0 {
		return
	}
	all := func(q *Shape) bool {
		return !slices.ContainsFunc(shape.Affinity, func(t Term) bool { return !s.about(&t, q) || !t.Selector.matches(q.Labels) })
	}
	c.selfNeeded = all(shape)
	for i := range shape.Affinity {
		d := key(shape.Affinity[i].TopologyKey)
		c.needs = append(c.needs, d)
		c.needMatch = append(c.needMatch, make([]int64, d.n))
	}
	for i, h := range s.hosts {
		for _, p := range h.pods {
			if all(&p.Shape) {
				c.match(i)
			}
		}
	}
}

// match notes a pod on a node that meets all affinity terms.
func (c *coupling) match(at int) {
	for i, d := range c.needs {
		// Terms with one key share their counts in the scheduler; each is more than 0 exactly when the others are.
		if v := d.of[at]; v >= 0 {
			if c.needMatch[i][v] == 0 {
				c.matched++
			}
			c.needMatch[i][v]++
		}
	}
}

// starting reports whether the next pod may go where no match is, because there is none anywhere and it matches itself.
func (c *coupling) starting() bool { return len(c.needs) > 0 && c.matched == 0 && c.selfNeeded }

func (c *coupling) avoiding(d *domains) *blocking {
	for i := range c.avoid {
		if c.avoid[i].domains == d {
			return &c.avoid[i]
		}
	}
	c.avoid = append(c.avoid, blocking{domains: d, closed: make([]bool, d.n)})
	return &c.avoid[len(c.avoid)-1]
}

// addGuards closes what pods that are there keep for themselves: their anti-affinity against the shape.
func (c *coupling) addGuards(s *Snapshot, shape *Shape, key func(string) *domains) {
	at := map[*domains]int{}
	s.eachPod(func(node int, p *Pod) {
		for i := range p.AntiAffinity {
			t := &p.AntiAffinity[i]
			if !t.Selector.matches(shape.Labels) || !s.guards(t, shape) {
				continue
			}
			d := key(t.TopologyKey)
			j, ok := at[d]
			if !ok {
				j = len(c.guard)
				at[d] = j
				c.guard = append(c.guard, blocking{domains: d, closed: make([]bool, d.n)})
			}
			if v := d.of[node]; v >= 0 {
				c.guard[j].closed[v] = true
			}
		}
	})
}

func (b *blocking) blocks(at int) bool { return b.of[at] >= 0 && b.closed[b.of[at]] }

// check reports whether a pod can go to a node now, and why not: PodTopologySpread, then InterPodAffinity.
func (c *coupling) check(at int) (why, bool) {
	for i := range c.spread {
		sp := &c.spread[i]
		d := sp.of[at]
		if d < 0 {
			return why{text: NoSpreadLabel, detail: sp.TopologyKey}, false
		}
		if !sp.allows(d) {
			return why{text: Skewed, detail: sp.TopologyKey}, false
		}
	}
	if !c.near(at) {
		return why{text: NoAffinity}, false
	}
	for i := range c.avoid {
		if c.avoid[i].blocks(at) {
			return why{text: OwnAntiAffinity, detail: c.avoid[i].key}, false
		}
	}
	for i := range c.guard {
		if c.guard[i].blocks(at) {
			return why{text: TheirAntiAffinity, detail: c.guard[i].key}, false
		}
	}
	return why{}, true
}

// near reports whether affinity holds: satisfied in all domains of the node, or to be begun there.
func (c *coupling) near(at int) bool {
	missing := false
	for i, d := range c.needs {
		v := d.of[at]
		if v < 0 {
			return false
		}
		missing = missing || c.needMatch[i][v] == 0
	}
	return !missing || c.starting()
}

// put places n pods of the shape on a node.
func (c *coupling) put(at int, n int64) {
	for i := range c.spread {
		sp := &c.spread[i]
		if d := sp.of[at]; sp.grows && d >= 0 && sp.real[d] {
			was := sp.count[d]
			sp.count[d] += n
			if was == sp.least {
				if sp.leasts--; sp.leasts == 0 {
					sp.refresh()
				}
			}
		}
	}
	if c.selfNeeded {
		c.match(at)
	}
	for i := range c.avoid {
		if b := &c.avoid[i]; b.self && b.of[at] >= 0 {
			b.closed[b.of[at]] = true
		}
	}
}

// clone copies what put changes.
func (c *coupling) clone() *coupling {
	d := *c
	d.spread, d.avoid, d.needMatch = slices.Clone(c.spread), slices.Clone(c.avoid), slices.Clone(c.needMatch)
	for i := range d.spread {
		d.spread[i].count = slices.Clone(d.spread[i].count)
	}
	for i := range d.avoid {
		d.avoid[i].closed = slices.Clone(d.avoid[i].closed)
	}
	for i := range d.needMatch {
		d.needMatch[i] = slices.Clone(d.needMatch[i])
	}
	return &d
}
