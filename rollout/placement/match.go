package placement

import (
	"slices"
	"strconv"
)

// matches is labels.Requirement.Matches.
func (r *Requirement) matches(labels map[string]string) bool {
	value, ok := labels[r.Key]
	switch r.Operator {
	case In:
		return ok && slices.Contains(r.Values, value)
	case NotIn:
		return !ok || !slices.Contains(r.Values, value)
	case Exists:
		return ok
	case DoesNotExist:
		return !ok
	case Gt, Lt:
		if !ok {
			return false
		}
		have, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return false // as the scheduler: a label that is no number is neither more nor less
		}
		limit, err := strconv.ParseInt(r.Values[0], 10, 64)
		return err == nil && (r.Operator == Gt && have > limit || r.Operator == Lt && have < limit)
	}
	return false
}

func (s *Selector) matches(labels map[string]string) bool {
	if s.Nothing {
		return false
	}
	for i := range s.Require {
		if !s.Require[i].matches(labels) {
			return false
		}
	}
	return true
}

// empty is labels.Selector.Empty: it selects everything.
func (s *Selector) empty() bool { return !s.Nothing && len(s.Require) == 0 }

func (t *NodeTerm) matches(n *Node) bool {
	if len(t.Labels) == 0 && len(t.Name) == 0 {
		return false
	}
	for i := range t.Labels {
		if !t.Labels[i].matches(n.Labels) {
			return false
		}
	}
	for i := range t.Name {
		if (t.Name[i].Operator == In) != (t.Name[i].Values[0] == n.Name) {
			return false
		}
	}
	return true
}

// wants reports whether the shape's node selector and affinity accept the node: RequiredNodeAffinity.Match.
func (s *Shape) wants(n *Node) bool {
	for key, value := range s.NodeSelector {
		if have, ok := n.Labels[key]; !ok || have != value {
			return false
		}
	}
	if s.NodeAffinity == nil {
		return true
	}
	for i := range s.NodeAffinity.Terms {
		if s.NodeAffinity.Terms[i].matches(n) {
			return true
		}
	}
	return false
}

// unnamed reports whether every term of the node affinity is about nodes by name, and none about this one: the scheduler's
// NodeAffinity leaves such nodes out (PreFilter) before any plugin looks at them.
func (s *Shape) unnamed(n *Node) bool {
	if s.NodeAffinity == nil {
		return false
	}
	for i := range s.NodeAffinity.Terms {
		other := slices.ContainsFunc(s.NodeAffinity.Terms[i].Name, func(r Requirement) bool { return r.Operator == In && r.Values[0] != n.Name })
		if !other {
			return false
		}
	}
	return len(s.NodeAffinity.Terms) > 0
}

// tolerates is Toleration.ToleratesTaint.
func (s *Shape) tolerates(taint Taint) bool {
	for i := range s.Tolerations {
		t := &s.Tolerations[i]
		switch {
		case t.Effect != "" && t.Effect != taint.Effect, t.Key != "" && t.Key != taint.Key:
		case t.Operator == "Exists", (t.Operator == "Equal" || t.Operator == "") && t.Value == taint.Value:
			return true
		}
	}
	return false
}

// untolerated is the first taint that keeps the shape off the node.
func (s *Shape) untolerated(n *Node) (Taint, bool) {
	for _, t := range n.Taints {
		if (t.Effect == "NoSchedule" || t.Effect == "NoExecute") && !s.tolerates(t) {
			return t, true
		}
	}
	return Taint{}, false
}

// conflicts is HostPortInfo.CheckConflict for one port.
func (p HostPort) conflicts(other HostPort) bool {
	const all = "0.0.0.0"
	ip, otherIP := orElse(p.IP, all), orElse(other.IP, all)
	return p.Port == other.Port && orElse(p.Protocol, "TCP") == orElse(other.Protocol, "TCP") &&
		(ip == otherIP || ip == all || otherIP == all)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// about reports whether the term is about pods of a namespace. There are two ways: a new pod's term is about the namespaces
// that exist and are selected; a term of a pod that is there is held against the labels of the new one's namespace, none
// where it does not exist.
func (t *Term) about(namespace string, labels map[string]string, exists bool) bool {
	return slices.Contains(t.Namespaces, namespace) ||
		t.NamespaceSelector.empty() || exists && t.NamespaceSelector.matches(labels)
}

// asksNamespaces reports whether the term depends on the labels of namespaces.
func (t *Term) asksNamespaces() bool {
	return !t.NamespaceSelector.Nothing && !t.NamespaceSelector.empty()
}
