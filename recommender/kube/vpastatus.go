package kube

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
)

// recommendedContainer adds methods to the VPA's type.
type recommendedContainer vpav1.RecommendedContainerResources

// put writes an estimate of a resource, within the policy's bounds.
func (out *recommendedContainer) put(name corev1.ResourceName, e estimated, p *vpav1.ContainerResourcePolicy) {
	set := func(list *corev1.ResourceList, q resource.Quantity) {
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = q
	}
	set(&out.UncappedTarget, *e.target)
	set(&out.Target, capped(*e.target, name, p))
	set(&out.LowerBound, capped(*e.lower, name, p))
	set(&out.UpperBound, capped(*e.upper, name, p))
}

// capped is an amount within a policy's bounds, of which the upper wins.
func capped(q resource.Quantity, name corev1.ResourceName, p *vpav1.ContainerResourcePolicy) resource.Quantity {
	if least, ok := p.MinAllowed[name]; ok && !least.IsZero() && q.Cmp(least) < 0 {
		q = least
	}
	if m, ok := p.MaxAllowed[name]; ok && !m.IsZero() && q.Cmp(m) > 0 {
		q = m
	}
	return q
}

// keep leaves what a former process recommended, until there is something better: to take it back would make pods that start now
// start with what their template says.
func (out *recommendedContainer) keep(before *vpav1.RecommendedPodResources, name corev1.ResourceName) {
	if before == nil {
		return
	}
	for i := range before.ContainerRecommendations {
		b := &before.ContainerRecommendations[i]
		if b.ContainerName != out.ContainerName {
			continue
		}
		for _, pair := range []struct{ from, to *corev1.ResourceList }{
			{&b.Target, &out.Target}, {&b.LowerBound, &out.LowerBound}, {&b.UpperBound, &out.UpperBound}, {&b.UncappedTarget, &out.UncappedTarget},
		} {
			q, ok := (*pair.from)[name]
			if !ok {
				continue
			}
			if *pair.to == nil {
				*pair.to = corev1.ResourceList{}
			}
			(*pair.to)[name] = q
		}
	}
}

// vpaChanged says whether something is different that a reader, or the updater, should see at once.
func vpaChanged(before, after *vpav1.VerticalPodAutoscalerStatus) bool {
	index := func(s *vpav1.VerticalPodAutoscalerStatus) map[string]resource.Quantity {
		out := map[string]resource.Quantity{}
		if s.Recommendation == nil {
			return out
		}
		for i := range s.Recommendation.ContainerRecommendations {
			r := &s.Recommendation.ContainerRecommendations[i]
			for name, q := range r.Target {
				out[r.ContainerName+"/"+string(name)] = q
			}
		}
		return out
	}
	was, is := index(before), index(after)
	if len(was) != len(is) {
		return true
	}
	for key, q := range is {
		old, ok := was[key]
		if !ok || moved(&old, &q) {
			return true
		}
	}
	strip := func(list []vpav1.VerticalPodAutoscalerCondition) []vpav1.VerticalPodAutoscalerCondition {
		out := slices.Clone(list)
		for i := range out {
			out[i].Message, out[i].ObservedGeneration = "", 0
		}
		return out
	}
	return !equality.Semantic.DeepEqual(strip(before.Conditions), strip(after.Conditions)) ||
		!equality.Semantic.DeepEqual(before.ObservedGeneration, after.ObservedGeneration)
}
