package placement

import "slices"

// demand is what one pod of the shape asks of one resource.
type demand struct {
	name  string
	dim   int // -1 where no node and no pod knows the resource
	units int64
}

// problem is a shape against a snapshot.
type problem struct {
	s       *Snapshot
	shape   *Shape
	demands []demand // of what is more than 0, by name
	ported  bool
	capped  []int64 // by node: how many it has room for, were there nothing but its own limits; 0 where it is refused
	coupled *coupling
}

func newProblem(s *Snapshot, shape *Shape) *problem {
	p := &problem{s: s, shape: shape, ported: len(shape.HostPorts) > 0, capped: make([]int64, len(s.hosts))}
	for name, units := range shape.Requests {
		if units == 0 || name == Pods {
			continue
		}
		d, ok := s.dims[name]
		if !ok {
			d = -1
		}
		p.demands = append(p.demands, demand{name, d, units})
	}
	slices.SortFunc(p.demands, func(a, b demand) int { return order(a.name, b.name) })
	for i, h := range s.hosts {
		if _, refused := p.refusal(h); !refused {
			p.capped[i] = p.room(h)
		}
	}
	p.coupled = newCoupling(s, shape)
	return p
}

// order has the resources that every node has before the others, as the scheduler names them: cpu, memory, ephemeral-storage.
func order(a, b string) int {
	rank := func(name string) int {
		if i := slices.Index([]string{CPU, "memory", "ephemeral-storage"}, name); i >= 0 {
			return i
		}
		return 3
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	if a < b {
		return -1
	}
	return 1
}

// refusal reports whether the node is no place for the shape whatever room it has, and why, by the order of the scheduler's
// plugins.
func (p *problem) refusal(h *host) (why, bool) {
	if p.shape.unnamed(h.Node) {
		return why{text: NoNodeAffinity}, true
	}
	if h.Unschedulable && !p.shape.tolerates(Taint{Key: "node.kubernetes.io/unschedulable", Effect: "NoSchedule"}) {
		return why{text: Unschedulable}, true
	}
	if taint, ok := p.shape.untolerated(h.Node); ok {
		return why{text: Untolerated, detail: taint.String()}, true
	}
	if !p.shape.wants(h.Node) {
		return why{text: NoNodeAffinity}, true
	}
	if p.ported && p.portTaken(h) {
		return why{text: NoPorts}, true
	}
	return why{}, false
}

// undeclared is the last of the scheduler's plugins, after the coupled ones.
func (p *problem) undeclared(h *host) bool {
	for _, f := range p.shape.Features {
		if !slices.Contains(h.Features, f) {
			return true
		}
	}
	return false
}

// rivals are the pods nominated for the node that go before the shape.
func (p *problem) rivals(h *host) []*Pod {
	if len(h.nominated) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(h.nominated), func(q *Pod) bool { return q.Priority < p.shape.Priority })
}

func (p *problem) portTaken(h *host) bool {
	takes := func(q *Pod) bool {
		return slices.ContainsFunc(q.HostPorts, func(theirs HostPort) bool {
			return slices.ContainsFunc(p.shape.HostPorts, theirs.conflicts)
		})
	}
	return h.ports > 0 && slices.ContainsFunc(h.pods, takes) || slices.ContainsFunc(p.rivals(h), takes)
}

// free is what is left of a resource, less than 0 where more is requested than there is.
func (p *problem) free(h *host, d demand) int64 {
	if d.dim < 0 {
		return 0
	}
	left := at(h.alloc, d.dim) - at(h.used, d.dim)
	for _, q := range p.rivals(h) {
		left -= min(q.Requests[d.name], max(left, 0)+1) // below 0 is enough, and cannot overflow
	}
	return left
}

func (p *problem) podsFree(h *host) int64 {
	return h.alloc[1] - int64(len(h.pods)) - int64(len(p.rivals(h)))
}

// room is how many more pods the node's resources and ports hold: the numbers of NodeResourcesFit.
func (p *problem) room(h *host) int64 {
	if p.undeclared(h) {
		return 0
	}
	n := min(p.podsFree(h), mostPerNode)
	for _, d := range p.demands {
		if n <= 0 {
			return 0
		}
		n = min(n, max(p.free(h, d), 0)/d.units)
	}
	if p.ported {
		n = min(n, 1)
	}
	return max(n, 0)
}

// lacking is what a node that already got some has too little of for one more.
func (p *problem) lacking(h *host, got int64) []why {
	if p.ported && got > 0 {
		return []why{{text: NoPorts}}
	}
	var out []why
	if p.podsFree(h)-got < 1 {
		out = append(out, why{text: TooManyPods})
	}
	for _, d := range p.demands {
		left := p.free(h, d) - got*d.units
		if left >= d.units {
			continue
		}
		w := why{text: Insufficient(d.name)}
		if d.dim >= 0 && at(h.unfit, d.dim) > 0 {
			w.detail = "unfit units left out"
		}
		out = append(out, w)
	}
	return out
}

// Unrequested is how much of a resource nobody requests, over the nodes that the shape's own filters admit whatever room they
// have: what is unfit is left out, and so is what pods are nominated for that go before the shape. Topology spread, affinity and
// what is not modelled are not asked: it is a sum to share, not a promise that pods fit.
func (s *Snapshot) Unrequested(shape Shape, resource string) int64 {
	p := problem{s: s, shape: &shape, ported: len(shape.HostPorts) > 0}
	d := demand{name: resource, dim: -1}
	if dim, ok := s.dims[resource]; ok {
		d.dim = dim
	}
	var sum int64
	for _, h := range s.hosts {
		if p.reachable(h) {
			sum = saturated(sum, max(p.free(h, d), 0))
		}
	}
	return sum
}
