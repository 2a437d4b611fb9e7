package kube

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
)

// conditions are a VerticalPodAutoscaler's, in a type of its own: set as the stock recommender sets them.
type conditions struct {
	list       []vpav1.VerticalPodAutoscalerCondition
	now        time.Time
	generation int64
}

func (c *conditions) on(t vpav1.VerticalPodAutoscalerConditionType, reason, message string) {
	c.set(t, corev1.ConditionTrue, reason, message)
}

func (c *conditions) off(t vpav1.VerticalPodAutoscalerConditionType, reason, message string) {
	c.set(t, corev1.ConditionFalse, reason, message)
}

func (c *conditions) set(t vpav1.VerticalPodAutoscalerConditionType, s corev1.ConditionStatus, reason, message string) {
	next := vpav1.VerticalPodAutoscalerCondition{
		Type: t, Status: s, LastTransitionTime: timeOf(c.now), Reason: reason, Message: message, ObservedGeneration: c.generation,
	}
	i := slices.IndexFunc(c.list, func(x vpav1.VerticalPodAutoscalerCondition) bool { return x.Type == t })
	if i < 0 {
		c.list = append(slices.Clone(c.list), next)
		return
	}
	if c.list[i].Status == s {
		next.LastTransitionTime = c.list[i].LastTransitionTime
	}
	c.list = slices.Clone(c.list)
	c.list[i] = next
}

func (c *conditions) remove(types ...vpav1.VerticalPodAutoscalerConditionType) {
	c.list = slices.DeleteFunc(slices.Clone(c.list), func(x vpav1.VerticalPodAutoscalerCondition) bool { return slices.Contains(types, x.Type) })
}

// sorted returns the conditions in the order that the stock recommender writes.
func (c *conditions) sorted() []vpav1.VerticalPodAutoscalerCondition {
	slices.SortFunc(c.list, func(a, b vpav1.VerticalPodAutoscalerCondition) int { return cmp.Compare(a.Type, b.Type) })
	return c.list
}
