package kube

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/scale"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler/policy"
)

// Target is what a policy scales, as its scale subresource has it.
type Target struct {
	Resource schema.GroupResource
	Kind     string
	Name     string
	Replicas int32 // that its spec asks for
	Selector labels.Selector
}

// deployment says whether the target is a Deployment, whose metrics the adapter has as a whole.
func (t *Target) deployment() bool {
	return t.Resource == schema.GroupResource{Group: "apps", Resource: "deployments"}
}

// Scales finds targets. It is safe for concurrent use.
type Scales struct {
	mapper meta.RESTMapper
	scales scale.ScalesGetter
}

// NewScales makes Scales. The mapper must learn of resources that are registered later.
func NewScales(config *rest.Config, mapper meta.RESTMapper) (*Scales, error) {
	finder, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for discovery: %w", err)
	}
	plain := rest.CopyConfig(config)
	plain.AcceptContentTypes, plain.ContentType = "", "" // custom resources have no protobuf
	getter, err := scale.NewForConfig(plain, mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(finder))
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for scale subresources: %w", err)
	}
	return &Scales{mapper: mapper, scales: getter}, nil
}

// Target looks the reference up. Errors are policy.Errors where the reference is to blame.
func (s *Scales) Target(ctx context.Context, namespace string, ref v1alpha1.TargetReference) (Target, error) {
	t := Target{Kind: ref.Kind, Name: ref.Name}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return t, policy.Invalid("spec.targetRef.apiVersion", "%w", err)
	}
	mapping, err := s.mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: ref.Kind}, gv.Version)
	if meta.IsNoMatchError(err) {
		return t, &policy.Error{Reason: v1alpha1.ReasonTargetNotFound, Field: "spec.targetRef.kind", Err: fmt.Errorf("the cluster has no %s in %s", ref.Kind, ref.APIVersion)}
	}
	if err != nil {
		return t, fmt.Errorf("cannot find the resource of %s %s: %w", ref.APIVersion, ref.Kind, err)
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return t, policy.Invalid("spec.targetRef.kind", "%s is in no namespace", ref.Kind)
	}
	t.Resource = mapping.Resource.GroupResource()
	found, err := s.scales.Scales(namespace).Get(ctx, t.Resource, ref.Name, metav1.GetOptions{})
	switch {
	case err != nil && unscalable(err):
		return t, policy.Invalid("spec.targetRef.kind", "%s has no scale subresource", ref.Kind)
	case apierrors.IsNotFound(err):
		return t, &policy.Error{Reason: v1alpha1.ReasonTargetNotFound, Field: "spec.targetRef.name", Err: fmt.Errorf("there is no %s %q in namespace %s", ref.Kind, ref.Name, namespace)}
	case err != nil:
		return t, fmt.Errorf("cannot read the scale of %s %q: %w", ref.Kind, ref.Name, err)
	}
	return t.with(found.Spec.Replicas, found.Status.Selector)
}

// unscalable tells the 404 for a path that is not served from that for an object that is not there. Neither the API server
// nor package scale has an error of its own for it.
func unscalable(err error) bool {
	text := err.Error()
	return apierrors.IsNotFound(err) && strings.HasPrefix(text, "the server could not find the requested resource") ||
		strings.Contains(text, "could not find scale subresource")
}

// with completes a target. Without a selector, or with one that means every pod, nobody knows which pods are the target's.
func (t Target) with(replicas int32, selector string) (Target, error) {
	t.Replicas = replicas
	var err error
	if t.Selector, err = labels.Parse(selector); err != nil {
		return t, &policy.Error{Reason: v1alpha1.ReasonNoSelector, Field: "spec.targetRef", Err: fmt.Errorf("the selector of the target's scale cannot be read: %w", err)}
	}
	if t.Selector.Empty() {
		return t, &policy.Error{Reason: v1alpha1.ReasonNoSelector, Field: "spec.targetRef", Err: fmt.Errorf("the scale of %s %q has no selector of its pods", t.Kind, t.Name)}
	}
	return t, nil
}
