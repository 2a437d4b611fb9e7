package placement

import (
	"errors"
	"fmt"
	"strconv"
)

func (r Resources) validate(field string) error {
	for name, units := range r {
		if name == "" {
			return fmt.Errorf("%s: a resource without a name", field)
		}
		if units < 0 {
			return fmt.Errorf("%s.%s: %d is negative", field, name, units)
		}
	}
	return nil
}

func (n *Node) validate() error {
	if n.Name == "" {
		return errors.New("a node without a name")
	}
	if err := n.Allocatable.validate("allocatable"); err != nil {
		return err
	}
	for i, t := range n.Taints {
		if t.Key == "" {
			return fmt.Errorf("taints[%d].key: empty", i)
		}
		if t.Effect != "NoSchedule" && t.Effect != "NoExecute" && t.Effect != "PreferNoSchedule" {
			return fmt.Errorf("taints[%d].effect: unknown effect %q", i, t.Effect)
		}
	}
	return n.Unfit.validate("unfit")
}

// validateHeld checks what of a shape bears on other pods.
func (s *Shape) validateHeld() error {
	if err := s.Requests.validate("requests"); err != nil {
		return err
	}
	for i, p := range s.HostPorts {
		if p.Port < 1 || p.Port > 65535 {
			return fmt.Errorf("hostPorts[%d].port: %d is no port", i, p.Port)
		}
	}
	for i := range s.AntiAffinity {
		if err := s.AntiAffinity[i].validate(); err != nil {
			return fmt.Errorf("antiAffinity[%d].%w", i, err)
		}
	}
	return nil
}

func (s *Shape) validate() error {
	if err := s.validateHeld(); err != nil {
		return err
	}
	if s.NodeAffinity != nil {
		for i := range s.NodeAffinity.Terms {
			if err := s.NodeAffinity.Terms[i].validate(); err != nil {
				return fmt.Errorf("nodeAffinity.terms[%d].%w", i, err)
			}
		}
	}
	for i, t := range s.Tolerations {
		switch t.Operator {
		case "", "Equal", "Exists", "Lt", "Gt":
		default:
			return fmt.Errorf("tolerations[%d].operator: unknown operator %q", i, t.Operator)
		}
	}
	for i := range s.Spread {
		if err := s.Spread[i].validate(); err != nil {
			return fmt.Errorf("spread[%d].%w", i, err)
		}
	}
	for i := range s.Affinity {
		if err := s.Affinity[i].validate(); err != nil {
			return fmt.Errorf("affinity[%d].%w", i, err)
		}
	}
	return nil
}

func (t *NodeTerm) validate() error {
	for i := range t.Labels {
		if err := t.Labels[i].validate(true); err != nil {
			return fmt.Errorf("labels[%d].%w", i, err)
		}
	}
	for i := range t.Name {
		if op := t.Name[i].Operator; op != In && op != NotIn {
			return fmt.Errorf("name[%d].operator: unknown operator %q", i, op)
		}
		if n := len(t.Name[i].Values); n != 1 {
			return fmt.Errorf("name[%d].values: %d values, there must be one", i, n)
		}
	}
	return nil
}

func (s *Spread) validate() error {
	switch {
	case s.TopologyKey == "":
		return errors.New("topologyKey: empty")
	case s.MaxSkew < 1:
		return fmt.Errorf("maxSkew: %d is less than 1", s.MaxSkew)
	case s.MinDomains < 0:
		return fmt.Errorf("minDomains: %d is negative", s.MinDomains)
	}
	return s.Selector.validate("selector")
}

func (t *Term) validate() error {
	if t.TopologyKey == "" {
		return errors.New("topologyKey: empty")
	}
	if err := t.Selector.validate("selector"); err != nil {
		return err
	}
	return t.NamespaceSelector.validate("namespaceSelector")
}

func (s *Selector) validate(field string) error {
	for i := range s.Require {
		if err := s.Require[i].validate(false); err != nil {
			return fmt.Errorf("%s[%d].%w", field, i, err)
		}
	}
	return nil
}

func (r *Requirement) validate(compares bool) error {
	if r.Key == "" {
		return errors.New("key: empty")
	}
	switch {
	case r.Operator == In || r.Operator == NotIn:
		if len(r.Values) == 0 {
			return fmt.Errorf("values: none for %s", r.Operator)
		}
	case r.Operator == Exists || r.Operator == DoesNotExist:
		if len(r.Values) > 0 {
			return fmt.Errorf("values: some for %s", r.Operator)
		}
	case compares && (r.Operator == Gt || r.Operator == Lt):
		if len(r.Values) != 1 {
			return fmt.Errorf("values: %d for %s, there must be one", len(r.Values), r.Operator)
		}
		if _, err := strconv.ParseInt(r.Values[0], 10, 64); err != nil {
			return fmt.Errorf("values[0]: %q is no whole number", r.Values[0])
		}
	default:
		return fmt.Errorf("operator: unknown operator %q", r.Operator)
	}
	return nil
}
