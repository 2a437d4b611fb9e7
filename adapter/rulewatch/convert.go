package rulewatch

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/api/v1alpha1"
)

// ErrNamespacesUnknown is why a rule with a namespaceSelector cannot be converted before namespaces are listed.
var ErrNamespacesUnknown = errors.New("spec.namespaceSelector: the namespaces are not known yet")

// Rule returns the rule that a MetricRule defines. namespaces has the labels of every namespace, by name; nil says that they
// are not known yet, which matters to rules with a namespaceSelector alone. What the spec leaves open stays open.
//
// The error begins with the field's path. The rule that comes with it serves nothing: it holds the place of what the user
// means, so that a built-in rule of the same name stays replaced, and the metric discoverable.
func Rule(r *v1alpha1.MetricRule, namespaces map[string]labels.Set) (rules.Rule, error) {
	out := placeholder(r.Name)
	out.Metric = r.Spec.Metric
	target, err := target(&r.Spec)
	if err != nil {
		return out, err
	}
	out.Target, out.Expr, out.Unit, out.Source = target, r.Spec.Expr, r.Spec.Unit, rules.Source(r.Spec.Source)
	out.IncludeLoading = r.Spec.IncludeLoading
	if r.Spec.MaxAge != nil {
		out.MaxAge = r.Spec.MaxAge.Duration
	}
	if f := r.Spec.Fallback; f != nil {
		out.Fallback = &rules.Fallback{After: f.After.Duration}
		if f.Value != nil {
			out.Fallback.Value = new(f.Value.AsApproximateFloat64())
		}
		if f.HoldFor != nil {
			out.Fallback.HoldFor = f.HoldFor.Duration
		}
	}
	if r.Spec.NamespaceSelector == nil {
		out.Namespaces = nil
		return out, nil
	}
	out.Namespaces, err = selected(r.Spec.NamespaceSelector, namespaces)
	return out, err
}

// placeholder is a user's rule that serves nothing.
func placeholder(name string) rules.Rule {
	return rules.Rule{Name: name, Origin: rules.UserDefined, Namespaces: []string{}}
}

func target(spec *v1alpha1.MetricRuleSpec) (rules.Target, error) {
	switch o, e := spec.Object, spec.External; {
	case o != nil && e != nil:
		return rules.Target{}, errors.New("spec: object and external are both set")
	case o != nil && o.Resource == "":
		return rules.Target{}, errors.New("spec.object.resource: must not be empty") // it would mean an external metric
	case o != nil:
		return rules.Target{
			Resource: o.Resource, NameLabel: o.NameLabel, NamespaceLabel: o.NamespaceLabel, RootScoped: o.RootScoped, External: o.AlsoExternal,
		}, nil
	case e != nil:
		return rules.Target{Resource: metric.External, NamespaceLabel: e.NamespaceLabel, Labels: e.Labels}, nil
	}
	return rules.Target{}, errors.New("spec: neither object nor external is set")
}

// selected returns the names of the namespaces that the selector matches, sorted; never nil, which would mean all.
func selected(selector *metav1.LabelSelector, namespaces map[string]labels.Set) ([]string, error) {
	names := []string{}
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return names, fmt.Errorf("spec.namespaceSelector: %w", err)
	}
	if namespaces == nil {
		return names, ErrNamespacesUnknown
	}
	for _, name := range slices.Sorted(maps.Keys(namespaces)) {
		if s.Matches(namespaces[name]) {
			names = append(names, name)
		}
	}
	return names, nil
}

// parse reads a MetricRule from what the API server sent.
func parse(obj any) object {
	u := obj.(*unstructured.Unstructured)
	o := object{name: u.GetName(), uid: u.GetUID(), generation: u.GetGeneration(), resourceVersion: u.GetResourceVersion()}
	rule := &v1alpha1.MetricRule{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, rule); err != nil {
		o.err = fmt.Errorf("cannot read the rule: %w", err)
		return o
	}
	rule.ManagedFields, rule.Annotations = nil, nil
	o.rule = rule
	return o
}
