package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// mostPerNode bounds what one node is said to hold, so that sums cannot overflow: a kubelet runs a few hundred pods.
const mostPerNode = 1 << 20

// Answer is how many more pods of a shape fit.
type Answer struct {
	// Known is false where something bears on the answer that is not modelled: then NotModelled says what, and there is no
	// number and no placement.
	Known       bool
	NotModelled []string

	// Count is how many fit whichever nodes the scheduler prefers: no order in which it takes nodes ends with fewer. With a
	// limit, no more than that is looked for.
	Count int
	// Most is how many Placements hold. It is more than Count where it depends on the scheduler's choice: a shape with affinity
	// to itself follows its first pod, into a zone that may be small.
	Most int
	// AtLeast: Count was not followed to the end because too many orders are possible; more may be sure.
	AtLeast bool
	// Placements hold Most pods: taken in this order, each passes the scheduler's filters after those before it.
	Placements []Placement

	Nodes int // in the cluster
	// Reasons are why nothing more fits after Placements; none where the limit ended the search.
	Reasons []Reason

	// Terminating are pods that are told to end and hold room until they are gone, on nodes that would take more without them;
	// AfterTerminating is Count once all pods that terminate are gone: less where they were what affinity follows, or spread
	// was kept by.
	Terminating      []Occupant
	AfterTerminating int
}

// Placement is pods of the shape on a node.
type Placement struct {
	Node string
	Pods int
}

// Occupant is a pod on its node.
type Occupant struct {
	Key

	Node string
}

// Fit says how many more pods of the shape fit, up to a limit (0 for none). It fails on a shape that is wrong, with the field.
func (s *Snapshot) Fit(shape Shape, limit int) (Answer, error) {
	if limit < 0 {
		return Answer{}, fmt.Errorf("limit: %d is negative", limit)
	}
	if err := shape.validate(); err != nil {
		return Answer{}, fmt.Errorf("shape: %w", err)
	}
	if not := s.notModelled(&shape); len(not) > 0 {
		return Answer{NotModelled: not, Nodes: len(s.hosts)}, nil
	}
	p := newProblem(s, &shape)
	a := p.answer(int64(limit))
	if s.dying == 0 {
		a.AfterTerminating = a.Count
		return a, nil
	}
	return a, p.afterTerminating(&a, int64(limit))
}

// unlimited is more than any cluster holds.
const unlimited = int64(1) << 50

func (p *problem) answer(limit int64) Answer {
	if limit == 0 {
		limit = unlimited
	}
	best := trial{got: make([]int64, len(p.s.hosts)), c: p.coupled}
	least, exact := int64(0), true
	budget := visits
	for i, nodes := range p.starts() {
		t := p.try(nodes, limit)
		sure, e := t.sure(limit, &budget)
		if i == 0 || sure < least {
			least = sure
		}
		exact = exact && e
		if i == 0 || t.total > best.total {
			best = t
		}
	}
	a := Answer{Known: true, Count: int(least), Most: int(best.total), AtLeast: !exact, Nodes: len(p.s.hosts)}
	for _, at := range best.order {
		name := p.s.hosts[at.node].Name
		if n := len(a.Placements); n > 0 && a.Placements[n-1].Node == name {
			a.Placements[n-1].Pods += int(at.pods)
			continue
		}
		a.Placements = append(a.Placements, Placement{Node: name, Pods: int(at.pods)})
	}
	if best.total < limit {
		a.Reasons = p.reasons(best.got, best.c)
	}
	return a
}

// candidates are the nodes that may take a pod at some time, be it after others were placed: what placing more can never heal
// is left out.
func (p *problem) candidates() []int32 {
	var out []int32
	for i, room := range p.capped {
		if room > 0 && !p.coupled.never(i) {
			out = append(out, int32(i))
		}
	}
	return out
}

// never reports whether no pod of the shape will make the node pass.
func (c *coupling) never(at int) bool {
	for i := range c.spread {
		sp := &c.spread[i]
		if d := sp.of[at]; d < 0 || !sp.grows && !sp.allows(d) {
			return true
		}
	}
	blocks := func(b blocking) bool { return b.blocks(at) }
	return !c.near(at) || slices.ContainsFunc(c.avoid, blocks) || slices.ContainsFunc(c.guard, blocks)
}

// starts are the sets of nodes from which the search begins. There is one, of all candidates, unless the shape has affinity to
// itself and no pod to follow: then the first pod decides for all, and each set is one choice it has.
func (p *problem) starts() [][]int32 {
	all := p.candidates()
	if !p.coupled.starting() {
		return [][]int32{all}
	}
	place := map[string]int{}
	var sets [][]int32
	var open []bool
	for _, at := range all {
		var tuple []byte
		for _, d := range p.coupled.needs {
			v := d.of[at]
			tuple = append(tuple, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
		}
		j, ok := place[string(tuple)]
		if !ok {
			j = len(sets)
			place[string(tuple)] = j
			sets, open = append(sets, nil), append(open, false)
		}
		sets[j] = append(sets[j], at)
		_, passes := p.coupled.check(int(at))
		open[j] = open[j] || passes
	}
	// Where no pod can be the first, nobody will follow.
	var out [][]int32
	for j, set := range sets {
		if open[j] {
			out = append(out, set)
		}
	}
	return out
}

// class is nodes that are alike to coupling: placing on one or another leaves the same.
type class struct {
	nodes []int32
	room  int64
	load  int64
	rank  int // within its domain of the coarsest spread
	next  int // the first of nodes that has room left
	kind  int // classes of a kind are interchangeable
}

// trial is one way of placing.
type trial struct {
	p       *problem
	classes []class
	base    *coupling // before anything was placed
	c       *coupling // after all was
	got     []int64   // by node
	order   []step
	total   int64
}

type step struct {
	node int32
	pods int64
}

// try places on the nodes until the limit, or nothing more fits.
func (p *problem) try(nodes []int32, limit int64) trial {
	t := trial{p: p, base: p.coupled, c: p.coupled.clone(), got: make([]int64, len(p.s.hosts))}
	t.classes = t.classify(nodes)
	if !t.c.grows() {
		for _, at := range nodes { // nothing placed changes what passes
			if t.total == limit {
				break
			}
			if _, passes := t.c.check(int(at)); passes {
				t.put(at, min(p.capped[at], limit-t.total))
			}
		}
		return t
	}
	t.inTurns(limit)
	return t
}

// inTurns gives one pod to each class in each round, those with the least in their domains first, until nobody takes one.
func (t *trial) inTurns(limit int64) {
	turn := make([]*class, len(t.classes))
	for i := range turn {
		turn[i] = &t.classes[i]
	}
	left := slices.Clone(t.p.capped)
	for placed := true; placed && t.total < limit; {
		placed = false
		for _, k := range turn {
			k.load = t.c.load(int(k.nodes[0]))
		}
		slices.SortStableFunc(turn, func(a, b *class) int { return cmp.Or(cmp.Compare(a.load, b.load), cmp.Compare(a.rank, b.rank)) })
		for _, k := range turn {
			if k.next == len(k.nodes) || t.total == limit {
				continue
			}
			if _, passes := t.c.check(int(k.nodes[0])); !passes {
				continue
			}
			at := k.nodes[k.next]
			t.put(at, 1)
			placed = true
			if left[at]--; left[at] == 0 {
				k.next++
			}
		}
		turn = slices.DeleteFunc(turn, func(k *class) bool { return k.next == len(k.nodes) })
	}
}

func (t *trial) put(at int32, n int64) {
	t.c.put(int(at), n)
	t.got[at] += n
	t.total += n
	t.order = append(t.order, step{at, n})
}

// grows reports whether a pod of the shape changes where the next may go.
func (c *coupling) grows() bool {
	return slices.ContainsFunc(c.spread, func(s spreading) bool { return s.grows }) ||
		slices.ContainsFunc(c.avoid, func(b blocking) bool { return b.self })
}

// load is the pods in the node's domains that spread counts: a node with less comes first.
func (c *coupling) load(at int) int64 {
	var sum int64
	for i := range c.spread {
		if sp := &c.spread[i]; sp.grows {
			sum += sp.count[sp.of[at]]
		}
	}
	return sum
}
