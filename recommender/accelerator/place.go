package accelerator

import (
	"fmt"
	"slices"
	"strings"
)

// GPU is a GPU of a node.
type GPU struct {
	Name  string // in messages: its index, or UUID
	Model string
	// MIG says that it is in MIG mode; Instances are those there are.
	MIG       bool
	Instances []Instance
	// Busy says that something else uses the GPU as a whole; Replicas is how many time slices it is set up for, BusyReplicas how many of
	// them are taken.
	Busy                   bool
	Replicas, BusyReplicas int
}

// Node is a node with GPUs.
type Node struct {
	Name string
	GPUs []GPU
}

// Demand is what a workload is to be given.
type Demand struct {
	Workload string
	Size     Size
	Model    string // the GPU model that Size is of
	Count    int    // replicas × devices of each
	// PerNode is how many of them must be on one node together: the devices of one pod. 1 if 0.
	PerNode int
}

// Assignment is what a GPU gives to a workload.
type Assignment struct {
	Node, GPU, Workload string
	Size                Size
	Count               int
	// Repartition says that the GPU's MIG layout must change for it, or MIG be turned on or off.
	Repartition bool
}

// Plan is where demands go.
type Plan struct {
	// OK says that all fit. If not, Proven says that no placement exists; otherwise the search was given up.
	OK, Proven  bool
	Assignments []Assignment
	// Why says where, or why not, in a sentence.
	Why string
}

// mostWork bounds a search: steps times GPUs. It is about two seconds.
const mostWork = 2_000_000

// Place finds room for all demands together: first in what is idle as the nodes are, then by changing the layout of what is idle.
// The search is exact, unless it takes too long.
func Place(nodes []Node, demands []Demand) Plan {
	if len(nodes) == 0 {
		return Plan{Why: "the nodes' GPUs are not known"}
	}
	boards := survey(nodes)
	if why := shortage(boards, demands); why != "" {
		return Plan{Proven: true, Why: why}
	}
	if len(demands) == 1 && demands[0].PerNode <= 1 {
		return spread(boards, demands[0])
	}
	for _, change := range []bool{false, true} {
		s := search{boards: boards, items: flatten(demands), change: change, steps: max(1000, mostWork/len(boards)), seen: map[string]bool{}}
		if s.run(0) {
			plan := Plan{OK: true, Proven: true, Assignments: s.assignments()}
			plan.Why = describe(plan.Assignments)
			return plan
		}
		if change {
			return Plan{Proven: s.steps > 0, Why: clash(demands, s.steps > 0)}
		}
	}
	return Plan{}
}

// spread places devices of one size, which do not get in each other's way except on the same GPU: there is room (shortage has looked), and
// no search is needed. What fits without a change comes first.
func spread(boards []*slot, d Demand) Plan {
	var as []Assignment
	give := func(s *slot, count int, repartition bool) {
		if count > 0 {
			as = append(as, Assignment{Node: s.node, GPU: s.gpu.Name, Workload: d.Workload, Size: d.Size, Count: count, Repartition: repartition})
		}
	}
	left, total := d.Count, 0
	given := make([]int, len(boards))
	for i, s := range boards {
		if s.same(d) {
			given[i] = s.ready(d)
			total += given[i]
		}
	}
	for i, s := range boards {
		if total < d.Count && s.same(d) {
			if room := s.room(d); room > given[i] {
				count := min(left, room)
				give(s, count, count > given[i])
				left -= count
				total += room - given[i] // the idle instances of this GPU are counted in room
				continue
			}
		}
		count := min(left, given[i])
		give(s, count, false)
		left -= count
	}
	return Plan{OK: true, Proven: true, Assignments: as, Why: describe(as)}
}

// survey makes boards of the nodes' GPUs.
func survey(nodes []Node) []*slot {
	var slots []*slot
	models := map[string]Model{}
	for _, node := range nodes {
		for _, gpu := range node.GPUs {
			model, seen := models[gpu.Model]
			if !seen {
				model, _ = Find(gpu.Model)
				models[gpu.Model] = model
			}
			s := &slot{node: node.Name, gpu: gpu, model: model, replicas: gpu.BusyReplicas, whole: gpu.Busy}
			s.board.model = &s.model
			for _, instance := range gpu.Instances {
				i := model.index(instance.Profile)
				var ok bool
				if i >= 0 && instance.Busy {
					s.board, ok = s.board.add(i, instance.Start)
				}
				if instance.Busy && !ok {
					s.broken = true // a layout that the table does not know: what else fits is unknown
				}
			}
			slots = append(slots, s)
		}
	}
	return slots
}

// slot is a GPU during a search.
type slot struct {
	node  string
	gpu   GPU
	model Model
	board
	whole    bool // taken as a whole
	replicas int  // time slices taken
	broken   bool
	taken    []int // indices of idle instances taken as they are
}

// free reports whether nothing is on the GPU.
func (s *slot) free() bool {
	return !s.whole && s.memory == 0 && s.replicas == 0 && len(s.taken) == 0 && !s.broken
}

// same reports whether the models of a demand and of the GPU are the same for the purpose: a size of one is one of the other.
func (s *slot) same(d Demand) bool {
	if d.Model == "" || d.Model == s.gpu.Model {
		return true
	}
	m, ok := Find(d.Model)
	return ok && m.Bytes == s.model.Bytes && m.SMs == s.model.SMs && len(m.Profiles) == len(s.model.Profiles) &&
		(len(m.Profiles) == 0 || m.Profiles[0].Name == s.model.Profiles[0].Name)
}

// describe says in a sentence where the workloads go.
func describe(assignments []Assignment) string {
	var parts []string
	byNode := map[string]int{}
	var names, changes []string
	for _, a := range assignments {
		if byNode[a.Node] == 0 {
			names = append(names, a.Node)
		}
		byNode[a.Node] += a.Count
		if change := a.Node + " GPU " + a.GPU; a.Repartition && !slices.Contains(changes, change) {
			changes = append(changes, change)
		}
	}
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%d on %s", byNode[name], name))
	}
	text := "fits: " + strings.Join(limited(parts), ", ")
	if len(changes) > 0 {
		return text + ", after changing the MIG layout of " + strings.Join(limited(changes), ", ")
	}
	return text + ", as the nodes are"
}

// limited names six and counts the rest.
func limited(parts []string) []string {
	if len(parts) <= 6 {
		return parts
	}
	return append(slices.Clone(parts[:6]), fmt.Sprintf("%d more", len(parts)-6))
}

// shortage says why a demand does not fit even alone, "" if each might.
func shortage(slots []*slot, demands []Demand) string {
	for _, d := range demands {
		matching, room := 0, 0
		for _, s := range slots {
			if s.same(d) {
				matching++
				room += s.room(d)
			}
		}
		switch {
		case matching == 0:
			return "does not fit: no node has a GPU of the model " + d.Model
		case room < d.Count:
			return fmt.Sprintf("does not fit: %s needs %d × %s, and next to what is in use the nodes have room for %d (GPUs of the model: %d)", d.Workload, d.Count, d.Size, room, matching)
		}
	}
	return ""
}

// clash says why demands that would fit one by one do not.
func clash(demands []Demand, proven bool) string {
	if !proven {
		return "no placement was found, and the search was given up before it was complete"
	}
	if len(demands) > 1 {
		return "does not fit: each of the workloads would, but not all together"
	}
	return fmt.Sprintf("does not fit: no node has the %d devices of a pod together", max(1, demands[0].PerNode))
}

// ready is how many of a demand's devices a GPU can give as it is.
func (s *slot) ready(d Demand) int {
	n := 0
	for at := *s; ; n++ {
		moves := at.moves(d.Size, false)
		if len(moves) == 0 {
			return n
		}
		moves[0].apply(&at)
	}
}

// room is how many of a demand's devices a GPU can hold alone, if its layout may change.
func (s *slot) room(d Demand) int {
	switch d.Size.Sharing {
	case MIG:
		if s.whole || s.replicas > 0 || s.broken || !s.gpu.MIG && s.gpu.Replicas > 1 {
			return 0
		}
		return Room(s.model, s.gpu.Instances, d.Size.Profile)
	case TimeSlicing:
		if s.whole || s.gpu.MIG || s.gpu.Replicas != d.Size.Replicas {
			return 0
		}
		return s.gpu.Replicas - s.replicas
	case Whole:
	}
	if s.free() && s.gpu.Replicas <= 1 {
		return 1
	}
	return 0
}
