package accelerator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// item is one device, or the devices of a pod that must be on one node.
type item struct {
	demand Demand
	first  bool // of its pod's devices, which must be on one node
}

// search tries places for one item after the other. Places in GPUs that are in the same state are the same, and states from which an
// item's rest was found not to fit are not tried again.
type search struct {
	boards []*slot
	items  []item
	change bool // layouts may change
	steps  int
	seen   map[string]bool
	// chosen is where each item went.
	chosen []choice
}

type choice struct {
	slot        *slot
	repartition bool
}

// flatten makes items of demands, the largest sizes first: they have the fewest places.
func flatten(demands []Demand) []item {
	sorted := slices.Clone(demands)
	slices.SortStableFunc(sorted, func(a, b Demand) int {
		return cmp.Or(cmp.Compare(b.Size.Share, a.Size.Share), cmp.Compare(b.PerNode, a.PerNode))
	})
	var items []item
	for _, d := range sorted {
		for i := range d.Count {
			items = append(items, item{demand: d, first: i%max(1, d.PerNode) == 0})
		}
	}
	return items
}

// run places the items from index on.
func (s *search) run(index int) bool {
	if index == len(s.items) {
		return true
	}
	if s.steps--; s.steps <= 0 {
		return false
	}
	it := s.items[index]
	node := ""
	if !it.first {
		node = s.chosen[index-1].slot.node
	}
	state := s.state(index, node)
	if s.seen[state] {
		return false
	}
	tried := map[string]bool{}
	for _, slot := range s.boards {
		if node != "" && slot.node != node || !slot.same(it.demand) {
			continue
		}
		key := slot.state() + "|" + s.alone(slot, it)
		if tried[key] {
			continue
		}
		tried[key] = true
		for _, m := range slot.moves(it.demand.Size, s.change) {
			undo := *slot
			undo.taken = slices.Clone(slot.taken)
			m.apply(slot)
			s.chosen = append(s.chosen, choice{slot, m.repartition})
			if s.run(index + 1) {
				return true
			}
			s.chosen = s.chosen[:index]
			*slot = undo
		}
	}
	s.seen[state] = true
	return false
}

// alone tells GPUs of different nodes apart where the devices of a pod must be on one node.
func (s *search) alone(slot *slot, it item) string {
	if it.demand.PerNode > 1 {
		return slot.node
	}
	return ""
}

// state of all GPUs, without their names, for what remains from an item on.
func (s *search) state(index int, node string) string {
	grouped := slices.ContainsFunc(s.items[index:], func(it item) bool { return it.demand.PerNode > 1 })
	states := make([]string, 0, len(s.boards))
	for _, slot := range s.boards {
		text := slot.state()
		if grouped {
			text += "@" + slot.node
		}
		states = append(states, text)
	}
	slices.Sort(states)
	return fmt.Sprintf("%d %s %s", index, node, strings.Join(states, ";"))
}

func (s *slot) state() string {
	var idle []Instance
	for i, instance := range s.gpu.Instances {
		if !instance.Busy && !slices.Contains(s.taken, i) {
			idle = append(idle, instance)
		}
	}
	return fmt.Sprint(s.gpu.Model, s.memory, s.compute, s.media, s.counts, s.whole, s.broken, s.replicas, s.gpu.Replicas, s.gpu.MIG, idle)
}

// move is a way to give a size on a GPU.
type move struct {
	apply       func(*slot)
	repartition bool
}

// moves are the ways: those that change nothing come first.
func (s *slot) moves(size Size, change bool) []move {
	switch size.Sharing {
	case MIG:
		return s.instances(size.Profile, change)
	case TimeSlicing:
		if s.whole || s.gpu.MIG || s.gpu.Replicas != size.Replicas || s.replicas >= s.gpu.Replicas {
			return nil
		}
		return []move{{apply: func(s *slot) { s.replicas++ }}}
	case Whole:
	}
	if !s.free() || s.gpu.Replicas > 1 || s.gpu.MIG && !change {
		return nil
	}
	return []move{{apply: func(s *slot) { s.whole = true }, repartition: s.gpu.MIG}}
}

func (s *slot) instances(profile string, change bool) []move {
	index := s.model.index(profile)
	locked := !s.gpu.MIG && (!change || s.gpu.Replicas > 1)
	if index < 0 || s.whole || s.replicas > 0 || s.broken || locked {
		return nil
	}
	moves := s.takeover(index)
	if !change {
		return moves
	}
	p := s.model.Profiles[index]
	for _, start := range p.Starts {
		after, ok := s.add(index, start)
		if !ok || idleAt(p, s.gpu.Instances, start) {
			continue
		}
		moves = append(moves, move{apply: func(s *slot) { s.board = after }, repartition: true})
	}
	return moves
}

// takeover are the ways to use an idle instance of a profile.
func (s *slot) takeover(index int) []move {
	var moves []move
	for i, instance := range s.gpu.Instances {
		if instance.Busy || slices.Contains(s.taken, i) || !strings.EqualFold(instance.Profile, s.model.Profiles[index].Name) {
			continue
		}
		if after, ok := s.add(index, instance.Start); ok {
			moves = append(moves, move{apply: func(s *slot) { s.board, s.taken = after, append(s.taken, i) }})
		}
	}
	return moves
}

// assignments sums the choices up by GPU and workload.
func (s *search) assignments() []Assignment {
	var all []Assignment
	for i, c := range s.chosen {
		d := s.items[i].demand
		at := slices.IndexFunc(all, func(a Assignment) bool {
			return a.Node == c.slot.node && a.GPU == c.slot.gpu.Name && a.Workload == d.Workload && a.Size.Resource == d.Size.Resource
		})
		if at < 0 {
			all = append(all, Assignment{Node: c.slot.node, GPU: c.slot.gpu.Name, Workload: d.Workload, Size: d.Size})
			at = len(all) - 1
		}
		all[at].Count++
		all[at].Repartition = all[at].Repartition || c.repartition
	}
	return all
}
