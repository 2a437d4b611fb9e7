package placement

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Snapshot is a cluster at one moment, ready to be asked. It never changes: With makes another that shares all but the nodes
// it touches, so what-ifs cost what they change. Safe for concurrent use. The maps and slices of the Cluster it was made of
// are kept, not copied: leave them as they are.
type Snapshot struct {
	hosts      []*host // by name
	byName     map[string]int32
	dims       map[string]int // resource → its place in a vector
	where      map[Key]int32  // pod → node at the time of base; moved overrides it
	moved      map[Key]int32  // since then; gone where the pod is no more
	namespaces map[string]map[string]string
	nominated  int // pods that are nominated, over all nodes
	dying      int // pods that terminate, over all nodes
	guarded    int // pods with anti-affinity terms, over all nodes
}

const (
	gone    = -1
	nowhere = -2 // on a node that is not there
)

// host is a node with its pods.
type host struct {
	*Node
	// alloc is what pods may have, less what is unfit; unfit is what was left out; used is what the pods request. They are as
	// long as the snapshot's dimensions were when they were made.
	alloc, unfit, used []int64
	pods               []*Pod // bound here, by no order
	nominated          []*Pod
	ports              int // pods with host ports
	guarded            int // pods with anti-affinity terms
}

// NewSnapshot reads a cluster. The error names the node or pod and the field that is wrong. Pods of nodes that are not there
// hold nothing, as in the scheduler's own snapshot.
func NewSnapshot(c Cluster) (*Snapshot, error) {
	s := &Snapshot{
		hosts: make([]*host, len(c.Nodes)), dims: map[string]int{CPU: 0, Pods: 1}, namespaces: c.Namespaces,
		where: make(map[Key]int32, len(c.Pods)),
	}
	hosts := make([]host, len(c.Nodes))
	for i := range c.Nodes {
		hosts[i].Node = &c.Nodes[i]
		if err := s.place(&hosts[i]); err != nil {
			return nil, err
		}
		s.hosts[i] = &hosts[i]
	}
	slices.SortFunc(s.hosts, byName)
	if err := s.index(); err != nil {
		return nil, err
	}
	for i := range c.Pods {
		if err := s.add(&c.Pods[i], nil, s.where); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func byName(a, b *host) int { return cmp.Compare(a.Name, b.Name) }

func (s *Snapshot) index() error {
	s.byName = make(map[string]int32, len(s.hosts))
	for i, h := range s.hosts {
		if _, dup := s.byName[h.Name]; dup {
			return fmt.Errorf("node %s: there are two of that name", h.Name)
		}
		s.byName[h.Name] = int32(i)
	}
	return nil
}

// place computes what a node has to give.
func (s *Snapshot) place(h *host) error {
	if err := h.validate(); err != nil {
		return fmt.Errorf("node %s: %w", h.Name, err)
	}
	for name := range h.Allocatable {
		s.dim(name)
	}
	for name := range h.Unfit {
		s.dim(name)
	}
	n := len(s.dims)
	vectors := make([]int64, 3*n)
	h.alloc, h.unfit, h.used = vectors[:n:n], vectors[n:2*n:2*n], vectors[2*n:]
	for name, units := range h.Allocatable {
		d := s.dims[name]
		h.unfit[d] = min(units, h.Unfit[name])
		h.alloc[d] = units - h.unfit[d]
	}
	return nil
}

func (s *Snapshot) dim(name string) int {
	d, ok := s.dims[name]
	if !ok {
		d = len(s.dims)
		s.dims[name] = d
	}
	return d
}

func at(vector []int64, dim int) int64 {
	if dim < len(vector) {
		return vector[dim]
	}
	return 0
}

// add puts a pod on its node, which own makes changeable (nil: it is), and notes it in where.
func (s *Snapshot) add(p *Pod, own func(int32) *host, where map[Key]int32) error {
	if err := p.validateHeld(); err != nil {
		return fmt.Errorf("pod %s: %w", p.Key(), err)
	}
	if _, dup := s.locate(p.Key()); dup {
		return fmt.Errorf("pod %s: there are two of that name", p.Key())
	}
	i, ok := s.byName[p.Node]
	if !ok {
		where[p.Key()] = nowhere
		return nil
	}
	h := s.hosts[i]
	if own != nil {
		h = own(i)
	}
	where[p.Key()] = i
	s.tally(p, 1)
	if p.Nominated {
		h.nominated = append(h.nominated, p)
		return nil
	}
	h.pods = append(h.pods, p)
	for name, units := range p.Requests {
		d := s.dim(name)
		if d >= len(h.used) {
			h.used = append(h.used, make([]int64, d+1-len(h.used))...)
		}
		h.used[d] = saturated(h.used[d], units)
	}
	h.count(p, 1)
	return nil
}

// saturated adds two numbers ≥ 0.
func saturated(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func (s *Snapshot) tally(p *Pod, by int) {
	if p.Nominated {
		s.nominated += by
	}
	if p.Terminating {
		s.dying += by
	}
	if len(p.AntiAffinity) > 0 {
		s.guarded += by
	}
}

func (h *host) count(p *Pod, by int) {
	if len(p.HostPorts) > 0 {
		h.ports += by
	}
	if len(p.AntiAffinity) > 0 {
		h.guarded += by
	}
}

func (s *Snapshot) locate(k Key) (int32, bool) {
	i, ok := s.moved[k]
	if !ok {
		i, ok = s.where[k]
	}
	return i, ok && i != gone
}

// Delta is a what-if: first nodes and pods go, then others come.
type Delta struct {
	RemoveNodes []string // with their pods
	RemovePods  []Key
	AddNodes    []Node
	AddPods     []Pod
}

// With is the snapshot after a change. It fails on what is not there to be removed, what is there already, and bad input, with
// the field.
func (s *Snapshot) With(d Delta) (*Snapshot, error) {
	t := *s
	t.hosts, t.moved, t.dims = slices.Clone(s.hosts), maps.Clone(s.moved), maps.Clone(s.dims)
	if t.moved == nil {
		t.moved = make(map[Key]int32, len(d.RemovePods)+len(d.AddPods))
	}
	mine := make(map[int32]bool)
	own := func(i int32) *host {
		if !mine[i] {
			mine[i] = true
			h := *t.hosts[i]
			h.used, h.pods, h.nominated = slices.Clone(h.used), slices.Clone(h.pods), slices.Clone(h.nominated)
			t.hosts[i] = &h
		}
		return t.hosts[i]
	}
	for _, k := range d.RemovePods {
		if err := t.remove(k, own); err != nil {
			return nil, err
		}
	}
	if len(d.RemoveNodes)+len(d.AddNodes) > 0 {
		if err := t.renode(d); err != nil {
			return nil, err
		}
		clear(mine)
	}
	for i := range d.AddPods {
		if err := t.add(&d.AddPods[i], own, t.moved); err != nil {
			return nil, err
		}
	}
	if len(t.moved) > len(t.where)/4 {
		t.rebase()
	}
	return &t, nil
}

func (s *Snapshot) remove(k Key, own func(int32) *host) error {
	i, ok := s.locate(k)
	if !ok {
		return fmt.Errorf("cannot remove pod %s: it is not there", k)
	}
	s.moved[k] = gone
	if i < 0 {
		return nil
	}
	h := own(i)
	named := func(p *Pod) bool { return p.Key() == k }
	if j := slices.IndexFunc(h.nominated, named); j >= 0 {
		s.tally(h.nominated[j], -1)
		h.nominated = slices.Delete(h.nominated, j, j+1)
		return nil
	}
	j := slices.IndexFunc(h.pods, named)
	p := h.pods[j]
	h.pods = slices.Delete(h.pods, j, j+1)
	s.tally(p, -1)
	h.count(p, -1)
	for name := range p.Requests {
		d := s.dims[name]
		h.used[d] = 0
		for _, other := range h.pods { // anew: what was saturated cannot be taken back
			h.used[d] = saturated(h.used[d], other.Requests[name])
		}
	}
	return nil
}

// renode removes and adds nodes. Places of nodes change, so all that is known by them is made anew.
func (s *Snapshot) renode(d Delta) error {
	for _, name := range d.RemoveNodes {
		i, ok := s.byName[name]
		if !ok || s.hosts[i] == nil {
			return fmt.Errorf("cannot remove node %s: it is not there", name)
		}
		for _, p := range slices.Concat(s.hosts[i].pods, s.hosts[i].nominated) {
			s.tally(p, -1)
		}
		s.hosts[i] = nil
	}
	s.hosts = slices.DeleteFunc(s.hosts, func(h *host) bool { return h == nil })
	for i := range d.AddNodes {
		h := &host{Node: &d.AddNodes[i]}
		if err := s.place(h); err != nil {
			return err
		}
		s.hosts = append(s.hosts, h)
	}
	slices.SortFunc(s.hosts, byName)
	if err := s.index(); err != nil {
		return err
	}
	s.rebase()
	return nil
}

// rebase writes anew where each pod is.
func (s *Snapshot) rebase() {
	was := *s
	s.where, s.moved = make(map[Key]int32, len(s.where)), map[Key]int32{}
	for k := range was.where { // what is on no node of ours
		if i, ok := was.locate(k); ok && i < 0 {
			s.where[k] = i
		}
	}
	for k := range was.moved {
		if i, ok := was.locate(k); ok && i < 0 {
			s.where[k] = i
		}
	}
	for i, h := range s.hosts {
		for _, p := range h.pods {
			s.where[p.Key()] = int32(i)
		}
		for _, p := range h.nominated {
			s.where[p.Key()] = int32(i)
		}
	}
}
