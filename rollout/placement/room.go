package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// Room is which pods would have to go for more to fit.
type Room struct {
	// Known and NotModelled are as in Answer.
	Known       bool
	NotModelled []string

	Asked int
	// Count is how many fit once the victims are gone, Asked at most: sure, as in Answer.
	Count int
	// Now is how many fit as it is.
	Now int
	// Victims are by node and name. None can be spared: without the end of any one of them fewer fit.
	Victims []Victim
	// Placements are where the pods fit once the victims are gone.
	Placements []Placement
	// Reasons are why no more than Count fit, with every victim that was found gone.
	Reasons []Reason
}

// Victim is a pod that would have to go.
type Victim struct {
	Occupant

	Priority int32
}

const (
	// Sets of up to three victims are all tried: beyond that, the scheduler's way of sparing as many as possible serves.
	victimsTried = 3
	// misses is how many nodes are tried in vain, because topology spread or affinity refuses what room was made for.
	misses = 64
)

func compareOccupants(a, b Occupant) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// MakeRoom says which pods would have to go for k pods of the shape to fit: of those that may chooses, and only such as have a
// lower priority than the shape and do not terminate already. Node by node, the fewest for one more pod are taken, then those
// of the lowest priority; what turns out not to be needed in the end is spared. That keeps the number per node at the least
// and the total low, not provably at its least; disruption budgets are for may to know. A pod on another node that spread or
// anti-affinity is about is no candidate: the scheduler's preemption looks at one node at a time, and so does this.
func (s *Snapshot) MakeRoom(shape Shape, k int, may func(*Pod) bool) (Room, error) {
	if k < 1 {
		return Room{}, fmt.Errorf("k: %d is less than 1", k)
	}
	a, err := s.Fit(shape, k)
	if err != nil {
		return Room{}, err
	}
	r := Room{Known: a.Known, NotModelled: a.NotModelled, Asked: k, Count: a.Count, Now: a.Count, Placements: a.Placements, Reasons: a.Reasons}
	if !a.Known || a.Count >= k {
		return r, nil
	}
	m := maker{s: s, shape: &shape, k: int64(k), may: func(p *Pod) bool { return p.Priority < shape.Priority && !p.Terminating && may(p) }}
	if err := m.make(&a); err != nil {
		return Room{}, err
	}
	r.Count, r.Placements, r.Reasons, r.Victims = a.Count, a.Placements, a.Reasons, m.victims
	slices.SortFunc(r.Victims, func(a, b Victim) int { return compareOccupants(a.Occupant, b.Occupant) })
	return r, nil
}

type maker struct {
	s       *Snapshot // as it is
	shape   *Shape
	k       int64
	may     func(*Pod) bool
	victims []Victim
	coupled bool // nodes are taken to depend on each other, for tests
}

// without is the answer when some are gone.
func (m *maker) without(victims []Victim) (Answer, *problem, error) {
	d := Delta{RemovePods: make([]Key, len(victims))}
	for i, v := range victims {
		d.RemovePods[i] = v.Key
	}
	t, err := m.s.With(d)
	if err != nil {
		return Answer{}, nil, fmt.Errorf("cannot leave out victims: %w", err)
	}
	p := newProblem(t, m.shape)
	return p.answer(m.k), p, nil
}

// choice is victims on one node, and how many more pods it then holds.
type choice struct {
	node    int
	victims []*Pod
	gain    int64
}

// make finds the victims, and the answer without them.
func (m *maker) make(a *Answer) error {
	p := newProblem(m.s, m.shape)
	if !p.independent() || m.coupled {
		if err := m.run(a); err != nil {
			return err
		}
		return m.spare(a)
	}
	m.local(p)
	var err error
	*a, _, err = m.without(m.victims)
	return err
}

// run adds victims until enough pods fit.
func (m *maker) run(a *Answer) error {
	refused := map[int]bool{}
	_, p, err := m.without(nil)
	if err != nil {
		return err
	}
	for int64(a.Count) < m.k && len(refused) < misses {
		best, ok := m.choose(p, m.k-int64(a.Count), refused)
		if !ok {
			return nil
		}
		more := slices.Clone(m.victims)
		for _, v := range best.victims {
			more = append(more, Victim{Occupant: Occupant{Key: v.Key(), Node: p.s.hosts[best.node].Name}, Priority: v.Priority})
		}
		b, q, err := m.without(more)
		if err != nil {
			return err
		}
		if b.Count <= a.Count {
			refused[best.node] = true
			continue
		}
		*a, p, m.victims = b, q, more
	}
	return nil
}

// choose finds the node that gives room for one more pod with the fewest victims; among those the most pods, then the victims
// of the lowest priority, then the first by name.
func (m *maker) choose(p *problem, want int64, refused map[int]bool) (choice, bool) {
	preemptible := make([][]*Pod, len(p.s.hosts))
	for i := range p.s.hosts {
		if !refused[i] {
			preemptible[i] = m.preemptible(p, i)
		}
	}
	for size := 1; size <= victimsTried; size++ {
		if best, ok := bestOf(p, preemptible, want, size); ok {
			return best, true
		}
	}
	var best choice
	for i, all := range preemptible {
		if len(all) <= victimsTried {
			continue
		}
		if c := p.reprieve(i, all, want); best.victims == nil || c.before(best) {
			best = c
		}
	}
	return best, best.victims != nil
}

// preemptible are the pods of a node that may go, those of the lowest priority first; none where the end of all would not do.
func (m *maker) preemptible(p *problem, at int) []*Pod {
	h := p.s.hosts[at]
	if !p.reachable(h) {
		return nil
	}
	var all []*Pod
	for _, q := range h.pods {
		if m.may(q) {
			all = append(all, q)
		}
	}
	if len(all) == 0 || p.gain(at, all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b *Pod) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// bestOf tries all sets of a size on all nodes.
func bestOf(p *problem, preemptible [][]*Pod, want int64, size int) (choice, bool) {
	var best choice
	for i, all := range preemptible {
		if len(all) < size || p.fewest(p.s.hosts[i], p.capped[i], all) > size {
			continue
		}
		if c, ok := bestAt(p, i, all, want, size); ok && (best.victims == nil || c.before(best)) {
			best = c
		}
	}
	return best, best.victims != nil
}

// bestAt tries all sets of a size on one node.
func bestAt(p *problem, at int, all []*Pod, want int64, size int) (choice, bool) {
	var best choice
	subsets(all, size, func(set []*Pod) {
		c := choice{node: at, victims: set, gain: min(want, p.gain(at, set))}
		if c.gain > 0 && (best.victims == nil || c.before(best)) {
			c.victims = slices.Clone(set)
			best = c
		}
	})
	return best, best.victims != nil
}

// subsets visits every set of a size, in order.
func subsets(all []*Pod, size int, visit func([]*Pod)) {
	set := make([]*Pod, 0, size)
	var grow func(from int)
	grow = func(from int) {
		if len(set) == size {
			visit(set)
			return
		}
		for i := from; i < len(all); i++ {
			set = append(set, all[i])
			grow(i + 1)
			set = set[:len(set)-1]
		}
	}
	grow(0)
}

func (c choice) before(d choice) bool {
	highest := func(c choice) int32 { return c.victims[len(c.victims)-1].Priority } // they are sorted
	return cmp.Or(cmp.Compare(len(c.victims), len(d.victims)), cmp.Compare(d.gain, c.gain), cmp.Compare(highest(c), highest(d)), cmp.Compare(c.node, d.node)) < 0
}

// reachable reports whether pods that go could make the node a place.
func (p *problem) reachable(h *host) bool {
	if p.undeclared(h) {
		return false
	}
	w, refused := p.refusal(h)
	return !refused || w.text == NoPorts
}

// gain is how many more pods a reachable node holds without some of its own.
func (p *problem) gain(node int, without []*Pod) int64 {
	if h := p.s.hosts[node]; !p.ported && len(h.nominated) == 0 { // the same as below, without a copy of the node
		n := min(p.podsFree(h)+int64(len(without)), mostPerNode)
		for _, d := range p.demands {
			left := p.free(h, d)
			for _, q := range without {
				left += q.Requests[d.name]
			}
			n = min(n, max(left, 0)/d.units)
		}
		return max(n, 0) - p.capped[node]
	}
	less := p.withoutPods(node, without)
	if _, refused := p.refusal(less); refused {
		return 0
	}
	return p.room(less) - p.capped[node]
}

// withoutPods is a node without some of its pods.
func (p *problem) withoutPods(at int, without []*Pod) *host {
	h := p.s.hosts[at]
	less := *h
	less.used = slices.Clone(h.used)
	less.pods = slices.DeleteFunc(slices.Clone(h.pods), func(q *Pod) bool { return slices.Contains(without, q) })
	for _, q := range without {
		less.count(q, -1)
		for name, units := range q.Requests {
			less.used[p.s.dims[name]] -= units
		}
	}
	return &less
}

// reprieve begins with all that may go and spares one after the other, those of the highest priority first, as long as one
// more pod fits: the scheduler's way.
func (p *problem) reprieve(at int, all []*Pod, want int64) choice {
	victims := all
	for i := range slices.Backward(all) { // those before i are still all there
		if fewer := slices.Delete(slices.Clone(victims), i, i+1); p.gain(at, fewer) > 0 {
			victims = fewer
		}
	}
	return choice{node: at, victims: victims, gain: min(want, p.gain(at, victims))}
}

// spare lets go of victims that turned out not to be needed, those of the highest priority first.
func (m *maker) spare(a *Answer) error {
	slices.SortStableFunc(m.victims, func(x, y Victim) int { return cmp.Compare(y.Priority, x.Priority) })
	for i := 0; i < len(m.victims); {
		fewer := slices.Delete(slices.Clone(m.victims), i, i+1)
		b, _, err := m.without(fewer)
		if err != nil {
			return err
		}
		if b.Count < a.Count {
			i++
			continue
		}
		*a, m.victims = b, fewer
	}
	return nil
}
