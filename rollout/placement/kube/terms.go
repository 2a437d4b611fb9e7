package kube

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/rollout/placement"
)

func nodeAffinity(a *corev1.Affinity) (*placement.NodeAffinity, error) {
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil, nil //nolint:nilnil // none is what there is
	}
	out := &placement.NodeAffinity{}
	for i := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		t := &a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[i]
		term := placement.NodeTerm{Labels: requirements(t.MatchExpressions), Name: requirements(t.MatchFields)}
		for j := range t.MatchFields {
			if key := t.MatchFields[j].Key; key != metav1.ObjectNameField {
				return nil, fmt.Errorf("nodeAffinity: nodeSelectorTerms[%d].matchFields[%d].key: unknown field %q", i, j, key)
			}
		}
		out.Terms = append(out.Terms, term)
	}
	return out, nil
}

func requirements(in []corev1.NodeSelectorRequirement) []placement.Requirement {
	var out []placement.Requirement
	for i := range in {
		out = append(out, placement.Requirement{Key: in[i].Key, Operator: placement.Operator(in[i].Operator), Values: in[i].Values})
	}
	return out
}

// selector reads a label selector, and adds what labels of the pod the selected ones must (or must not) share: the API server
// writes that into the selectors of pods, not of templates. A selector that is absent selects nothing, with or without those.
func selector(s *metav1.LabelSelector, labels map[string]string, match, mismatch []string) placement.Selector {
	if s == nil {
		return placement.Selector{Nothing: true}
	}
	var out placement.Selector
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		out.Require = append(out.Require, placement.Requirement{Key: key, Operator: placement.In, Values: []string{s.MatchLabels[key]}})
	}
	for i := range s.MatchExpressions {
		e := &s.MatchExpressions[i]
		out.Require = append(out.Require, placement.Requirement{Key: e.Key, Operator: placement.Operator(e.Operator), Values: e.Values})
	}
	share := func(keys []string, op placement.Operator) {
		for _, key := range keys {
			if value, ok := labels[key]; ok {
				out.Require = append(out.Require, placement.Requirement{Key: key, Operator: op, Values: []string{value}})
			}
		}
	}
	share(match, placement.In)
	share(mismatch, placement.NotIn)
	return out
}

func antiAffinity(namespace string, labels map[string]string, spec *corev1.PodSpec) ([]placement.Term, error) {
	if spec.Affinity == nil || spec.Affinity.PodAntiAffinity == nil {
		return nil, nil
	}
	return terms("podAntiAffinity", namespace, labels, spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
}

func terms(field, namespace string, labels map[string]string, in []corev1.PodAffinityTerm) ([]placement.Term, error) {
	var out []placement.Term
	for i := range in {
		t := &in[i]
		if t.TopologyKey == "" {
			return nil, fmt.Errorf("%s[%d].topologyKey: empty", field, i)
		}
		term := placement.Term{
			TopologyKey: t.TopologyKey, Selector: selector(t.LabelSelector, labels, t.MatchLabelKeys, t.MismatchLabelKeys),
			Namespaces: t.Namespaces, NamespaceSelector: selector(t.NamespaceSelector, nil, nil, nil),
		}
		if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
			term.Namespaces = []string{namespace}
		}
		out = append(out, term)
	}
	return out, nil
}

// spread reads the constraints that refuse nodes: those that say ScheduleAnyway only prefer.
func spread(in []corev1.TopologySpreadConstraint, labels map[string]string) ([]placement.Spread, error) {
	var out []placement.Spread
	for i := range in {
		c := &in[i]
		switch c.WhenUnsatisfiable {
		case corev1.ScheduleAnyway:
			continue
		case corev1.DoNotSchedule:
		default:
			return nil, fmt.Errorf("topologySpreadConstraints[%d].whenUnsatisfiable: unknown %q", i, c.WhenUnsatisfiable)
		}
		sp := placement.Spread{
			TopologyKey: c.TopologyKey, MaxSkew: c.MaxSkew, Selector: selector(c.LabelSelector, labels, c.MatchLabelKeys, nil),
			IgnoreAffinity: c.NodeAffinityPolicy != nil && *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore,
			HonorTaints:    c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor,
		}
		if c.MinDomains != nil {
			sp.MinDomains = *c.MinDomains
		}
		out = append(out, sp)
	}
	return out, nil
}
