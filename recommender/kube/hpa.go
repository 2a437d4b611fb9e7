package kube

import (
	"fmt"
	"math"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"headroom.dev/headroom/api/v1alpha1"
)

// hpaOf returns the HPA of a workload, nil if it has none.
func (c *Controller) hpaOf(id workloadID) *autoscalingv2.HorizontalPodAutoscaler {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hpas[id]
}

// relative is a target of an HPA that is a share of what is requested: it moves the replicas when requests change.
type relative struct {
	resource  corev1.ResourceName
	container string // empty for all containers of a pod together
	target    int32
}

// relatives are such targets of an HPA. Absolute ones and those of other metrics do not depend on requests.
func relatives(h *autoscalingv2.HorizontalPodAutoscaler) []relative {
	if h == nil {
		return nil
	}
	var list []relative
	for i := range h.Spec.Metrics {
		m := &h.Spec.Metrics[i]
		switch {
		case m.Resource != nil && m.Resource.Target.AverageUtilization != nil:
			list = append(list, relative{resource: m.Resource.Name, target: *m.Resource.Target.AverageUtilization})
		case m.ContainerResource != nil && m.ContainerResource.Target.AverageUtilization != nil:
			list = append(list, relative{m.ContainerResource.Name, m.ContainerResource.Container, *m.ContainerResource.Target.AverageUtilization})
		}
	}
	return list
}

// about says whether a target depends on the request of a container.
func (r relative) about(container string, name corev1.ResourceName) bool {
	return r.resource == name && (r.container == "" || r.container == container)
}

// autoscaler says what an HPA's targets must be for the recommended requests: with the target in the inverse ratio of the requests,
// the same use asks for the same number of replicas. It is nil where no target depends on what is recommended.
func autoscaler(h *autoscalingv2.HorizontalPodAutoscaler, templates []template, advice []v1alpha1.ContainerRecommendation) *v1alpha1.AutoscalerRecommendation {
	var metrics []v1alpha1.AutoscalerMetric
	var notes []string
	for _, r := range relatives(h) {
		now, then, limit, some := sums(r, templates, advice)
		if !some {
			continue
		}
		if now == 0 || then == 0 {
			notes = append(notes, fmt.Sprintf("%s has a target, but not all containers request it: the HPA cannot work", r.resource))
			continue
		}
		exact := float64(r.target) * now / then
		target := int32(min(max(math.Round(exact), 1), math.MaxInt32))
		notes = append(notes, about(r, target, limit/then, math.Abs(exact-float64(target)) > 0.05*exact))
		if reach := limit / then * 100; limit > 0 && float64(target) > reach {
			target = int32(max(math.Floor(reach), 1))
		}
		metrics = append(metrics, v1alpha1.AutoscalerMetric{Resource: r.resource, Container: r.container, Now: r.target, Recommended: target})
	}
	if len(metrics) == 0 && len(notes) == 0 {
		return nil
	}
	if metrics == nil {
		metrics = []v1alpha1.AutoscalerMetric{} // the field is required
	}
	return &v1alpha1.AutoscalerRecommendation{Name: h.Name, Metrics: metrics, Message: strings.Join(notes, "; ")}
}

// about says what a reader should know of a new target; reach is the limit as a share of the request, 0 without a limit.
func about(r relative, target int32, reach float64, rounded bool) string {
	text := fmt.Sprintf("change the target of %s from %d%% to %d%% together with the requests, to keep the number of replicas", r.resource, r.target, target)
	switch {
	case reach > 0 && float64(target) > reach*100:
		return fmt.Sprintf("the target of %s that keeps the number of replicas, %d%%, is more than containers can use at their limit, %.0f%%: with that the HPA would run more replicas, so recommend a larger request or limit",
			r.resource, target, math.Floor(reach*100))
	case target > 100:
		text += "; above 100% the replicas live on what they do not request, which a full node does not give"
	case rounded:
		text += "; a whole percent is too coarse to keep it exactly"
	}
	return text
}

// sums are what a target is a share of: requests now and then, and the limit of then, which is 0 if a container has none. A request
// that is missing makes a sum 0, as it makes the HPA fail.
func sums(r relative, templates []template, advice []v1alpha1.ContainerRecommendation) (now, then, limit float64, some bool) {
	unlimited := false
	for i := range templates {
		t := &templates[i]
		if t.kind == v1alpha1.TypeInit || !r.about(t.name, r.resource) {
			continue
		}
		request := t.resources.Requests[r.resource]
		should, ok := recommended(advice, t.name, r.resource)
		some = some || ok
		if !ok {
			should = request
		}
		if request.IsZero() || should.IsZero() {
			return 0, 0, 0, some
		}
		now += request.AsApproximateFloat64()
		then += should.AsApproximateFloat64()
		if l := limitThen(advice, t, r.resource); l == nil || l.IsZero() {
			unlimited = true
		} else {
			limit += l.AsApproximateFloat64()
		}
	}
	if unlimited {
		limit = 0
	}
	return now, then, limit, some
}

// limitThen is a container's limit once what is recommended has been done.
func limitThen(advice []v1alpha1.ContainerRecommendation, t *template, name corev1.ResourceName) *resource.Quantity {
	for i := range advice {
		if advice[i].Name != t.name {
			continue
		}
		for _, a := range advice[i].Resources {
			if a.Resource == name && a.RecommendedLimit != nil {
				return a.RecommendedLimit
			}
		}
	}
	return find(t.resources.Limits, name)
}
