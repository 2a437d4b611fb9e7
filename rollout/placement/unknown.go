package placement

import (
	"fmt"
	"slices"
)

// notModelled is what bears on the answer for a shape and cannot be told from here.
func (s *Snapshot) notModelled(shape *Shape) []string {
	not := slices.Clone(shape.NotModelled)
	for i, t := range shape.Tolerations {
		if t.Operator == "Lt" || t.Operator == "Gt" {
			not = append(not, fmt.Sprintf("tolerations[%d].operator: %s depends on the scheduler's feature gate TaintTolerationComparisonOperators", i, t.Operator))
		}
	}
	if s.namespaces == nil {
		not = append(not, s.asksNamespaces(shape)...)
	}
	if s.nominated > 0 {
		not = append(not, s.nominees(shape)...)
	}
	return not
}

func (s *Snapshot) asksNamespaces(shape *Shape) []string {
	for _, terms := range [][]Term{shape.Affinity, shape.AntiAffinity} {
		if slices.ContainsFunc(terms, func(t Term) bool { return t.asksNamespaces() }) {
			return []string{"a namespaceSelector of the pod's affinity, while the namespaces are not known"}
		}
	}
	if s.guarded == 0 {
		return nil
	}
	var not []string
	s.eachPod(func(_ int, p *Pod) {
		if len(not) == 0 && slices.ContainsFunc(p.AntiAffinity, func(t Term) bool { return t.asksNamespaces() && t.Selector.matches(shape.Labels) }) {
			not = append(not, fmt.Sprintf("a namespaceSelector of the anti-affinity of pod %s, while the namespaces are not known", p.Key()))
		}
	})
	return not
}

// nominees are pods for which preemption makes room and that bear on the shape by more than what they request. The scheduler
// then wants a node to pass with them and without, each node with its own alone: no one state of the cluster.
func (s *Snapshot) nominees(shape *Shape) []string {
	var not []string
	for _, h := range s.hosts {
		for _, p := range h.nominated {
			if p.Priority >= shape.Priority && s.coupled(shape, p) {
				not = append(not, fmt.Sprintf("pod %s, nominated for node %s, is one that topology spread or pod affinity is about", p.Key(), h.Name))
			}
		}
	}
	return not
}

// coupled reports whether a pod that is there would bear on where the shape may go, its requests and ports aside.
func (s *Snapshot) coupled(shape *Shape, p *Pod) bool {
	return p.Namespace == shape.Namespace && slices.ContainsFunc(shape.Spread, func(sp Spread) bool { return sp.Selector.matches(p.Labels) }) ||
		slices.ContainsFunc(p.AntiAffinity, func(t Term) bool { return t.Selector.matches(shape.Labels) && s.guards(&t, shape) }) ||
		slices.ContainsFunc(slices.Concat(shape.Affinity, shape.AntiAffinity), func(t Term) bool {
			return t.Selector.matches(p.Labels) && s.about(&t, &p.Shape)
		})
}

// afterTerminating fills in what changes once the pods that terminate are gone.
func (p *problem) afterTerminating(a *Answer, limit int64) error {
	var delta Delta
	p.s.eachPod(func(_ int, q *Pod) {
		if q.Terminating {
			delta.RemovePods = append(delta.RemovePods, q.Key())
		}
	})
	later, err := p.s.With(delta)
	if err != nil {
		return fmt.Errorf("cannot leave out the pods that terminate: %w", err)
	}
	q := newProblem(later, p.shape)
	a.AfterTerminating = q.answer(limit).Count
	for i, h := range p.s.hosts { // the nodes are the same, in the same places
		if q.capped[i] <= p.capped[i] {
			continue
		}
		for _, ends := range h.pods {
			if ends.Terminating {
				a.Terminating = append(a.Terminating, Occupant{Key: ends.Key(), Node: h.Name})
			}
		}
	}
	slices.SortFunc(a.Terminating, compareOccupants)
	return nil
}
