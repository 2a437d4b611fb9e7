package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// oracle is the scheduler's rules written down as they are documented, over the whole cluster for every question.
type oracle struct {
	c     Cluster
	shape Shape
}

// with is all pods when the n-th node has got counts[n] new ones.
func (o *oracle) with(counts []int) []Pod {
	pods := slices.Clone(o.c.Pods)
	for n, count := range counts {
		for i := range count {
			pods = append(pods, Pod{Name: fmt.Sprint("new", n, "-", i), Shape: o.shape, Node: o.c.Nodes[n].Name})
		}
	}
	return pods
}

func (o *oracle) node(name string) *Node {
	for i := range o.c.Nodes {
		if o.c.Nodes[i].Name == name {
			return &o.c.Nodes[i]
		}
	}
	return nil
}

// fits reports whether one more pod may go to a node.
func (o *oracle) fits(n *Node, pods []Pod) bool {
	if n.Unschedulable && !o.shape.tolerates(Taint{Key: "node.kubernetes.io/unschedulable", Effect: "NoSchedule"}) {
		return false
	}
	if _, tainted := o.shape.untolerated(n); tainted || !o.shape.wants(n) {
		return false
	}
	left := map[string]int64{}
	for name, units := range n.Allocatable {
		left[name] = max(0, units-n.Unfit[name])
	}
	for _, p := range pods {
		if p.Node != n.Name {
			continue
		}
		left[Pods]--
		for name, units := range p.Requests {
			left[name] -= units
		}
		for _, a := range p.HostPorts {
			if slices.ContainsFunc(o.shape.HostPorts, a.conflicts) {
				return false
			}
		}
	}
	if left[Pods] < 1 {
		return false
	}
	for name, units := range o.shape.Requests {
		if units > 0 && left[name] < units {
			return false
		}
	}
	return o.spread(n, pods) && o.affinity(n, pods)
}

func (o *oracle) spread(n *Node, pods []Pod) bool {
	for i := range o.shape.Spread {
		sp := &o.shape.Spread[i]
		here, labelled := n.Labels[sp.TopologyKey]
		if !labelled {
			return false
		}
		counts := map[string]int{}
		for j := range o.c.Nodes {
			m := &o.c.Nodes[j]
			eligible := sp.IgnoreAffinity || o.shape.wants(m)
			for k := range o.shape.Spread {
				_, ok := m.Labels[o.shape.Spread[k].TopologyKey]
				eligible = eligible && ok
			}
			if _, tainted := o.shape.untolerated(m); tainted && sp.HonorTaints {
				eligible = false
			}
			if eligible {
				counts[m.Labels[sp.TopologyKey]] += o.selected(sp, m, pods)
			}
		}
		least := int(^uint(0) >> 1)
		for _, count := range counts {
			least = min(least, count)
		}
		if len(counts) < int(max(sp.MinDomains, 1)) {
			least = 0
		}
		skew := counts[here] - least
		if sp.Selector.matches(o.shape.Labels) {
			skew++
		}
		if skew > int(sp.MaxSkew) {
			return false
		}
	}
	return true
}

func (o *oracle) selected(sp *Spread, m *Node, pods []Pod) int {
	count := 0
	for _, p := range pods {
		if p.Node == m.Name && !p.Terminating && p.Namespace == o.shape.Namespace && sp.Selector.matches(p.Labels) && !sp.Selector.empty() {
			count++
		}
	}
	return count
}

func (o *oracle) affinity(n *Node, pods []Pod) bool {
	same := func(p *Pod, key string) bool {
		m := o.node(p.Node)
		if m == nil {
			return false
		}
		a, ok := n.Labels[key]
		b, there := m.Labels[key]
		return ok && there && a == b
	}
	meets := func(t *Term, q *Shape) bool {
		return slices.Contains(t.Namespaces, q.Namespace) && t.Selector.matches(q.Labels)
	}
	meetsAll := func(q *Shape) bool {
		return !slices.ContainsFunc(o.shape.Affinity, func(t Term) bool { return !meets(&t, q) })
	}
	near, anywhere := true, false
	for i := range o.shape.Affinity {
		key := o.shape.Affinity[i].TopologyKey
		if _, ok := n.Labels[key]; !ok {
			return false
		}
		found := false
		for j := range pods {
			if m := o.node(pods[j].Node); m != nil && meetsAll(&pods[j].Shape) {
				found = found || same(&pods[j], key)
				_, labelled := m.Labels[key]
				anywhere = anywhere || labelled
			}
		}
		near = near && found
	}
	if !near && (anywhere || !meetsAll(&o.shape)) {
		return false
	}
	for i := range pods {
		for _, t := range o.shape.AntiAffinity {
			if meets(&t, &pods[i].Shape) && same(&pods[i], t.TopologyKey) {
				return false
			}
		}
		for _, t := range pods[i].AntiAffinity {
			if meets(&t, &o.shape) && same(&pods[i], t.TopologyKey) {
				return false
			}
		}
	}
	return true
}

// ends goes through all orders of placing, and returns the fewest and the most pods that one ends with.
func (o *oracle) ends() (fewest, most int) {
	fewest = 1 << 30
	seen := map[string]bool{}
	var visit func(counts []int, total int)
	visit = func(counts []int, total int) {
		if name := fmt.Sprint(counts); seen[name] {
			return
		} else {
			seen[name] = true
		}
		pods, stuck := o.with(counts), true
		for n := range o.c.Nodes {
			if o.fits(&o.c.Nodes[n], pods) {
				stuck = false
				next := slices.Clone(counts)
				next[n]++
				visit(next, total+1)
			}
		}
		if stuck {
			fewest, most = min(fewest, total), max(most, total)
		}
	}
	visit(make([]int, len(o.c.Nodes)), 0)
	return fewest, most
}

// draw makes a small cluster and a shape: few nodes, little room, much coupling.
func draw(r *rand.Rand) (Cluster, Shape) {
	chance := func(p float64) bool { return r.Float64() < p }
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	var c Cluster
	for i := range 1 + r.IntN(5) {
		n := Node{Name: fmt.Sprint("n", i), Labels: map[string]string{}, Allocatable: Resources{CPU: 8000, "gpu": int64(r.IntN(4)), Pods: int64(1 + r.IntN(5))}}
		if chance(0.95) {
			n.Labels["zone"] = pick("a", "b")
		}
		if chance(0.95) {
			n.Labels["rack"] = pick("1", "2", "3")
		}
		if chance(0.95) {
			n.Labels["host"] = n.Name
		}
		if chance(0.1) {
			n.Unfit = Resources{"gpu": 1}
		}
		if chance(0.1) {
			n.Taints = []Taint{{Key: "t", Effect: "NoSchedule"}}
		}
		c.Nodes = append(c.Nodes, n)
	}
	selector := func() Selector {
		switch r.IntN(10) {
		case 0:
			return Selector{}
		case 1:
			return Selector{Nothing: true}
		case 2:
			return app("b")
		}
		return app("a")
	}
	key := func() string { return pick("zone", "zone", "rack", "host", "host") }
	terms := func(p float64) (out []Term) {
		for chance(p) && len(out) < 2 {
			out = append(out, Term{TopologyKey: key(), Selector: selector(), Namespaces: []string{"x"}, NamespaceSelector: Selector{Nothing: true}})
		}
		return out
	}
	for i := range r.IntN(5) {
		c.Pods = append(c.Pods, Pod{
			Name: fmt.Sprint("p", i), Node: fmt.Sprint("n", r.IntN(len(c.Nodes)+1)), Terminating: chance(0.2),
			Shape: Shape{Namespace: pick("x", "x", "y"), Labels: map[string]string{"app": pick("a", "b")}, Requests: Resources{"gpu": int64(r.IntN(2))}, AntiAffinity: terms(0.1)},
		})
	}
	s := Shape{Namespace: "x", Labels: map[string]string{"app": "a"}, Requests: Resources{"gpu": 1}, Priority: 5}
	for chance(0.5) && len(s.Spread) < 3 {
		s.Spread = append(s.Spread, Spread{TopologyKey: key(), MaxSkew: int32(1 + r.IntN(2)), MinDomains: int32(r.IntN(3)), Selector: selector(), HonorTaints: chance(0.5), IgnoreAffinity: chance(0.3)})
	}
	s.AntiAffinity = terms(0.3)
	s.Affinity = terms(0.3)
	if chance(0.1) {
		s.HostPorts = []HostPort{{Port: 80}}
	}
	return c, s
}

// TestOracle holds Count to the worst of all orders, and Most to what the orders allow.
func TestOracle(t *testing.T) {
	first := rand.Uint64() >> 16
	t.Logf("seeds from %d", first)
	matters, best, open := 0, 0, 0
	const clusters = 3000
	for seed := first; seed < first+clusters; seed++ {
		c, shape := draw(rand.New(rand.NewPCG(seed, 0)))
		fewest, most := (&oracle{c, shape}).ends()
		s, err := NewSnapshot(c)
		require.NoError(t, err)
		a, err := s.Fit(shape, 0)
		require.NoError(t, err)
		require.True(t, a.Known)
		require.LessOrEqual(t, a.Count, fewest, "seed %d: %+v", seed, a)
		require.LessOrEqual(t, a.Most, most, "seed %d: %+v", seed, a)
		require.GreaterOrEqual(t, a.Most, fewest, "seed %d: %+v", seed, a)
		if !a.AtLeast {
			require.Equal(t, fewest, a.Count, "seed %d: %+v", seed, a)
		} else {
			open++
		}
		if fewest != most {
			matters++
			if a.Most == most {
				best++
			}
		}
		limited, err := s.Fit(shape, 2)
		require.NoError(t, err)
		require.Equal(t, min(2, a.Count), limited.Count, "seed %d", seed)
	}
	t.Logf("%d clusters; the order matters in %d, of which Most is the most there can be in %d; %d not searched to the end", clusters, matters, best, open)
}

// TestTwoSpreads is the oracle where two spread constraints count the shape, the case that orderFree has the longest word for:
// worlds of their own, since few of the others come to it.
func TestTwoSpreads(t *testing.T) {
	first := rand.Uint64() >> 16
	t.Logf("seeds from %d", first)
	matters, free := 0, 0
	const clusters = 3000
	for seed := first; seed < first+clusters; seed++ {
		r := rand.New(rand.NewPCG(seed, 0))
		var c Cluster
		for i := range 3 + r.IntN(3) {
			labels := map[string]string{"zone": string('a' + rune(r.IntN(2))), "rack": string('1' + rune(r.IntN(3))), "host": fmt.Sprint("n", i)}
			c.Nodes = append(c.Nodes, Node{Name: fmt.Sprint("n", i), Labels: labels, Allocatable: Resources{"gpu": int64(r.IntN(4)), Pods: 20}})
		}
		for i := range r.IntN(5) {
			c.Pods = append(c.Pods, Pod{Name: fmt.Sprint("p", i), Node: fmt.Sprint("n", r.IntN(len(c.Nodes))), Shape: Shape{Namespace: "x", Labels: map[string]string{"app": "a"}}})
		}
		spread := func(keys ...string) Spread {
			return Spread{TopologyKey: keys[r.IntN(len(keys))], MaxSkew: int32(1 + r.IntN(2)), MinDomains: int32(r.IntN(4)), Selector: app("a")}
		}
		s := Shape{Namespace: "x", Labels: map[string]string{"app": "a"}, Requests: Resources{"gpu": 1}, Spread: []Spread{spread("zone", "rack"), spread("host", "host", "rack")}}
		fewest, most := (&oracle{c, s}).ends()
		a := fit(t, c, s)
		require.False(t, a.AtLeast, "seed %d", seed)
		require.Equal(t, fewest, a.Count, "seed %d: %+v", seed, a)
		require.LessOrEqual(t, a.Most, most, "seed %d: %+v", seed, a)
		if fewest != most {
			matters++
		}
		snapshot, err := NewSnapshot(c)
		require.NoError(t, err)
		p := newProblem(snapshot, &s)
		if trial := p.try(p.candidates(), unlimited); trial.total > 0 && trial.orderFree() {
			free++
			require.Equal(t, fewest, most, "seed %d", seed)
		}
	}
	t.Logf("%d clusters; the order matters in %d, orderFree says that it does not in %d", clusters, matters, free)
	require.Positive(t, matters)
	require.Positive(t, free)
}
