package accelerator

import (
	"slices"
	"strings"
)

// Instance is a MIG instance on a GPU.
type Instance struct {
	Profile string
	Start   int  // memory slice, as nvidia-smi mig -lgi says (in quarters on GPUs of four slices)
	Busy    bool // used by something else than the workloads to be placed
}

// board is a GPU that is being packed: which memory slices are taken, and how many compute slices.
type board struct {
	model   *Model
	memory  uint16
	compute int
	media   bool // the one instance with media engines is there
	// counts is how many instances there are of each of the model's profiles, which Profile.Most bounds.
	counts [8]uint8
}

// add places a profile at a start, if it is free.
func (b board) add(index, start int) (board, bool) {
	p := b.model.Profiles[index]
	mask := uint16(1<<p.Memory-1) << start
	media := strings.Contains(p.Name, "+me")
	if b.memory&mask != 0 || b.compute+p.Compute > b.model.ComputeSlices || media && b.media || int(b.counts[index]) >= p.Most {
		return b, false
	}
	b.memory |= mask
	b.compute += p.Compute
	b.media = b.media || media
	b.counts[index]++
	return b, true
}

// Pack places profiles on one GPU next to the instances that are busy; idle ones may be taken over or make way. It finds a way if
// there is one: a GPU has few legal placements. ok is false if there is none, or if a name is unknown to the model.
func Pack(m Model, existing []Instance, profiles []string) (placed []Instance, ok bool) {
	b := board{model: &m}
	for _, instance := range existing {
		if !instance.Busy {
			continue
		}
		i := m.index(instance.Profile)
		if i < 0 {
			return nil, false
		}
		if b, ok = b.add(i, instance.Start); !ok {
			return nil, false
		}
	}
	want := make([]int, 0, len(profiles))
	for _, name := range profiles {
		i := m.index(name)
		if i < 0 {
			return nil, false
		}
		want = append(want, i)
	}
	// The largest first: they have the fewest places.
	slices.SortFunc(want, func(x, y int) int {
		if d := m.Profiles[y].Memory - m.Profiles[x].Memory; d != 0 {
			return d
		}
		return x - y
	})
	placed, ok = pack(b, want, existing, 0)
	return placed, ok
}

// pack tries every place for the first of want and what remains for the others. Of equal profiles the later one takes the higher
// place: from says where the search for the first one begins.
func pack(b board, want []int, existing []Instance, from int) ([]Instance, bool) {
	if len(want) == 0 {
		return nil, true
	}
	p := b.model.Profiles[want[0]]
	for _, start := range idleFirst(p, existing) {
		if start < from {
			continue
		}
		after, ok := b.add(want[0], start)
		if !ok {
			continue
		}
		next := 0
		if len(want) > 1 && want[1] == want[0] && !anyIdle(p, existing) {
			next = start + 1
		}
		if rest, ok := pack(after, want[1:], existing, next); ok {
			return append([]Instance{{Profile: p.Name, Start: start}}, rest...), true
		}
	}
	return nil, false
}

// idleFirst are the places of a profile, those first where an idle instance of it stands.
func idleFirst(p Profile, existing []Instance) []int {
	starts := slices.Clone(p.Starts)
	slices.SortStableFunc(starts, func(a, b int) int {
		return order(idleAt(p, existing, a)) - order(idleAt(p, existing, b))
	})
	return starts
}

func idleAt(p Profile, existing []Instance, start int) bool {
	return slices.ContainsFunc(existing, func(e Instance) bool { return !e.Busy && e.Profile == p.Name && e.Start == start })
}

func anyIdle(p Profile, existing []Instance) bool {
	return slices.ContainsFunc(existing, func(e Instance) bool { return !e.Busy && e.Profile == p.Name })
}

func order(first bool) int {
	if first {
		return 0
	}
	return 1
}

func (m Model) index(profile string) int {
	return slices.IndexFunc(m.Profiles, func(p Profile) bool { return strings.EqualFold(p.Name, profile) })
}

// Room is how many instances of a profile a GPU can hold next to those that are busy.
func Room(m Model, existing []Instance, profile string) int {
	i := m.index(profile)
	if i < 0 {
		return 0
	}
	var want []string
	for len(want) < m.Profiles[i].Most {
		if _, ok := Pack(m, existing, append(want, profile)); !ok {
			break
		}
		want = append(want, profile)
	}
	return len(want)
}
