package accelerator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Sharing is a way to be given a GPU or less; the values are those of the API.
type Sharing string

// The ways.
const (
	Whole       Sharing = "Whole"
	MIG         Sharing = "MIG"
	TimeSlicing Sharing = "TimeSlicing"
)

// Profile is a MIG profile of a model.
type Profile struct {
	Name    string // 2g.35gb
	Compute int    // compute slices, of Model.ComputeSlices
	Memory  int    // memory slices, of Model.MemorySlices
	Starts  []int  // the memory slices at which an instance may begin
	// Most is how many a GPU can hold.
	Most int
	// SMs is the number of multiprocessors.
	SMs int
	// Bytes is the usable memory: the least that a driver was seen to report, and less than the name says (1g.18gb has 16 GiB).
	Bytes int64
	// Estimated says that Bytes is not from a report but from the name and the worst ratio of the other models.
	Estimated bool
}

// Resource is the extended resource of NVIDIA's device plugin with the strategy "mixed".
func (p Profile) Resource() string { return migPrefix + strings.ReplaceAll(p.Name, "+", ".") }

const (
	wholeResource  = "nvidia.com/gpu"
	sharedResource = "nvidia.com/gpu.shared" // with time slicing and renameByDefault
	migPrefix      = "nvidia.com/mig-"
)

// Model is a GPU model.
type Model struct {
	Name  string
	Bytes int64 // of frame buffer, as nvidia-smi says without MIG; 0 if not known
	SMs   int   // 0 if not known
	// ComputeSlices and MemorySlices are what a GPU in MIG mode consists of: 7 and 8, or 4 and 4. 0 where MIG is not supported.
	ComputeSlices, MemorySlices int
	Profiles                    []Profile // by share, then memory
}

// Profile finds a profile by its name.
func (m Model) Profile(name string) (Profile, bool) {
	i := slices.IndexFunc(m.Profiles, func(p Profile) bool { return strings.EqualFold(p.Name, name) })
	if i < 0 {
		return Profile{}, false
	}
	return m.Profiles[i], true
}

// share is how much of a GPU a profile takes: of compute or of memory, whichever is more.
func (m Model) share(p Profile) float64 {
	return max(float64(p.Compute)/float64(m.ComputeSlices), float64(p.Memory)/float64(m.MemorySlices))
}

// Size is what a container can be given.
type Size struct {
	Sharing  Sharing
	Profile  string // of MIG, else ""
	Replicas int    // of time slicing: how many share the GPU, else 0
	Resource string // the extended resource
	Bytes    int64  // usable
	// Share is how much of a GPU it is, SMs what share of the multiprocessors it has.
	Share, SMs float64
	Estimated  bool // Bytes is
}

// String names a size in messages.
func (s Size) String() string {
	switch s.Sharing {
	case MIG:
		return s.Profile
	case TimeSlicing:
		return fmt.Sprintf("1/%d of a GPU", s.Replicas)
	case Whole:
	}
	return "a whole GPU"
}

func (m Model) whole() Size {
	return Size{Sharing: Whole, Resource: wholeResource, Bytes: m.Bytes, Share: 1, SMs: 1}
}

// size is a profile as a size. usable overrides its bytes.
func (m Model) size(p Profile, usable map[string]int64) Size {
	s := Size{
		Sharing: MIG, Profile: p.Name, Resource: p.Resource(), Bytes: p.Bytes, Share: m.share(p), Estimated: p.Estimated,
		SMs: float64(p.Compute) / float64(m.ComputeSlices),
	}
	if p.SMs > 0 && m.SMs > 0 {
		s.SMs = float64(p.SMs) / float64(m.SMs)
	}
	if reported := usable[p.Name]; reported > 0 {
		s.Bytes, s.Estimated = reported, false
	}
	return s
}

// slice is the time slice of a GPU that some containers share. Nothing keeps them apart: it has its part of the memory only as
// long as the others keep to theirs.
func (m Model) slice(replicas int) Size {
	part := 1 / float64(replicas)
	return Size{
		Sharing: TimeSlicing, Replicas: replicas, Resource: sharedResource, Bytes: m.Bytes / int64(replicas), Share: part, SMs: part,
	}
}

// Sizes are the sizes of a model in the ways allowed, cheapest first. Profiles with media engines (+me) are left out: at most one
// fits on a GPU, and nothing measured says that a workload decodes. usable is the memory of profiles as a node's driver reports it;
// replicas are the numbers of time slices that GPUs are set up for.
func (m Model) Sizes(allowed []Sharing, usable map[string]int64, replicas []int) []Size {
	var sizes []Size
	if slices.Contains(allowed, Whole) {
		sizes = append(sizes, m.whole())
	}
	if slices.Contains(allowed, MIG) {
		for _, p := range m.Profiles {
			if !strings.Contains(p.Name, "+") {
				sizes = append(sizes, m.size(p, usable))
			}
		}
	}
	if slices.Contains(allowed, TimeSlicing) && m.Bytes > 0 {
		for _, n := range replicas {
			if n > 1 {
				sizes = append(sizes, m.slice(n))
			}
		}
	}
	slices.SortStableFunc(sizes, func(a, b Size) int {
		return cmp.Or(cmp.Compare(a.Share, b.Share), cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Bytes, a.Bytes))
	})
	return sizes
}

// rank prefers, at the same share, what is kept apart, and a whole GPU to the profile of all its slices: that has less memory.
func rank(s Size) int {
	switch s.Sharing {
	case Whole:
		return 0
	case MIG:
		return 1
	case TimeSlicing:
	}
	return 2
}

// parse finds the size that an extended resource or a device class of NVIDIA's DRA driver stands for.
func (m Model) parse(resource string, usable map[string]int64, replicas []int) (Size, bool) {
	name, isMIG := strings.CutPrefix(resource, migPrefix)
	switch {
	case isMIG:
		if m.MemorySlices == 0 {
			return Size{}, false
		}
		p, ok := m.Profile(strings.Replace(name, "gb.me", "gb+me", 1))
		if !ok {
			return Size{}, false
		}
		return m.size(p, usable), true
	case resource == sharedResource && len(replicas) > 0:
		return m.slice(slices.Max(replicas)), true
	case resource == wholeResource || resource == wholeClass:
		return m.whole(), true
	}
	return Size{}, false
}
