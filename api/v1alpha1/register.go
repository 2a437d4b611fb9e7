// Package v1alpha1 holds headroom.dev/v1alpha1, the custom resources with which users tell Headroom what to do.
//
// The types are the source of the CustomResourceDefinitions in manifests/crds and of the deep copies here: change them, then
// run `make generate`. What the API server can refuse at once it refuses, by schema and CEL; what only the adapter can judge
// stands in a resource's status.
//
// +kubebuilder:object:generate=true
// +groupName=headroom.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group, Version and the kinds with their plural resources, as they stand in API paths.
const (
	Group               = "headroom.dev"
	Version             = "v1alpha1"
	KindMetricRule      = "MetricRule"
	ResourceMetricRules = "metricrules"

	KindScalePolicy       = "ScalePolicy"
	ResourceScalePolicies = "scalepolicies"

	KindResourceRecommendation      = "ResourceRecommendation"
	ResourceResourceRecommendations = "resourcerecommendations"

	KindRolloutPolicy       = "RolloutPolicy"
	ResourceRolloutPolicies = "rolloutpolicies"
)

// GroupVersion returns headroom.dev/v1alpha1.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: Group, Version: Version}
}

// AddToScheme makes a scheme know the types of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &MetricRule{}, &MetricRuleList{}, &ScalePolicy{}, &ScalePolicyList{},
		&ResourceRecommendation{}, &ResourceRecommendationList{}, &RolloutPolicy{}, &RolloutPolicyList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
