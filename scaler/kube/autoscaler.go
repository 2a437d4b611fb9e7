package kube

import (
	"fmt"
	"strconv"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler/policy"
)

// policyLabel is the label of the external metric that names the policy.
const policyLabel = "scalepolicy"

// autoscalerSpec is that of the HPA which carries a policy out: the sum of an external metric with the target 1 is the number
// of replicas, ⌈sum/1⌉, and nothing slows it or leaves small changes out. Its own limits stay as a second lock: the policy's, the
// lower one raised to what an update of the target needs for now.
func autoscalerSpec(p *v1alpha1.ScalePolicy, floor int32) autoscalingv2.HorizontalPodAutoscalerSpec {
	// A policy of as many pods as there can ever be, in each direction, is no limit.
	rules := func() *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: new(int32(0)), SelectPolicy: new(autoscalingv2.MaxChangePolicySelect),
			Policies:  []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: p.Spec.MaxReplicas, PeriodSeconds: 15}},
			Tolerance: resource.NewQuantity(0, resource.DecimalSI),
		}
	}
	least := int32(1)
	if p.Spec.MinReplicas != nil {
		least = *p.Spec.MinReplicas
	}
	least = max(least, min(floor, p.Spec.MaxReplicas))
	return autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{
			APIVersion: p.Spec.TargetRef.APIVersion, Kind: p.Spec.TargetRef.Kind, Name: p.Spec.TargetRef.Name,
		},
		MinReplicas: &least, MaxReplicas: p.Spec.MaxReplicas,
		Metrics: []autoscalingv2.MetricSpec{{
			Type: autoscalingv2.ExternalMetricSourceType,
			External: &autoscalingv2.ExternalMetricSource{
				Metric: autoscalingv2.MetricIdentifier{
					Name: v1alpha1.MetricDesiredReplicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{policyLabel: p.Name}},
				},
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewQuantity(1, resource.DecimalSI)},
			},
		}},
		Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(), ScaleDown: rules()},
	}
}

// floorOf returns the replicas that an update of an HPA's target needs for now, 0 where none does. What is no number is none.
func floorOf(h *autoscalingv2.HorizontalPodAutoscaler) int32 {
	if h == nil {
		return 0
	}
	n, err := strconv.ParseInt(h.Annotations[v1alpha1.AnnotationRolloutFloor], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

// follows says whether an HPA is as it should be. An API server without HPAConfigurableTolerance (before 1.35, unless the
// gate is open) drops the tolerances; that it did so once says that writing them again is of no use.
func follows(have, want *autoscalingv2.HorizontalPodAutoscalerSpec, dropped bool) bool {
	if !dropped {
		return equality.Semantic.DeepEqual(have, want)
	}
	without := want.DeepCopy()
	without.Behavior.ScaleUp.Tolerance, without.Behavior.ScaleDown.Tolerance = nil, nil
	return equality.Semantic.DeepEqual(have, without)
}

// droppedTolerance says whether an HPA that was just written came back without its tolerances.
func droppedTolerance(have *autoscalingv2.HorizontalPodAutoscalerSpec) bool {
	return have.Behavior == nil || have.Behavior.ScaleUp == nil || have.Behavior.ScaleUp.Tolerance == nil
}

// claim is what a policy has to do with the HPAs of its namespace.
type claim struct {
	name  string                                 // of its HPA
	mine  *autoscalingv2.HorizontalPodAutoscaler // nil where it has none yet
	adopt *autoscalingv2.HorizontalPodAutoscaler // to be taken over
}

// claimOf finds the policy's own HPA, or the one to adopt. The error is a policy.Error: another HPA scales the target, or has the
// name.
func claimOf(p *v1alpha1.ScalePolicy, hpas []autoscalingv2.HorizontalPodAutoscaler) (claim, error) {
	c := claim{name: p.Spec.Autoscaler.Name}
	if c.name == "" {
		c.name = p.Name
	}
	var others []*autoscalingv2.HorizontalPodAutoscaler
	for i := range hpas {
		h := &hpas[i]
		switch {
		case h.DeletionTimestamp != nil:
		case metav1.IsControlledBy(h, p):
			if c.mine == nil || h.Name == c.name {
				c.mine = h
			}
		case h.Name == c.name || sameTarget(h.Spec.ScaleTargetRef, p.Spec.TargetRef):
			others = append(others, h)
		}
	}
	if len(others) == 0 {
		return c, nil
	}
	conflict := func(format string, args ...any) error {
		return &policy.Error{Reason: v1alpha1.ReasonAutoscalerConflict, Field: "spec.autoscaler", Err: fmt.Errorf(format, args...)}
	}
	first := others[0]
	switch owner := metav1.GetControllerOf(first); {
	case c.mine != nil || len(others) > 1:
		return c, conflict("HorizontalPodAutoscaler %s scales %s, too", names(others), p.Spec.TargetRef.Name)
	case owner != nil:
		return c, conflict("HorizontalPodAutoscaler %q belongs to %s %q: it cannot be taken over", first.Name, owner.Kind, owner.Name)
	case !sameTarget(first.Spec.ScaleTargetRef, p.Spec.TargetRef):
		return c, conflict("HorizontalPodAutoscaler %q scales %s %q: set another name", first.Name, first.Spec.ScaleTargetRef.Kind, first.Spec.ScaleTargetRef.Name)
	case !p.Spec.Autoscaler.Adopt:
		return c, conflict("HorizontalPodAutoscaler %q scales %s already: delete it, or set adopt to take it over", first.Name, p.Spec.TargetRef.Name)
	}
	c.adopt = first
	return c, nil
}

func names(hpas []*autoscalingv2.HorizontalPodAutoscaler) string {
	var list []string
	for _, h := range hpas {
		list = append(list, fmt.Sprintf("%q", h.Name))
	}
	return strings.Join(list, ", ")
}

// sameTarget compares two references as the HPA resolves them: versions of one group are the same object.
func sameTarget(ref autoscalingv2.CrossVersionObjectReference, target v1alpha1.TargetReference) bool {
	return ref.Kind == target.Kind && ref.Name == target.Name && groupOf(ref.APIVersion) == groupOf(target.APIVersion)
}

func groupOf(apiVersion string) string {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return apiVersion
	}
	return gv.Group
}

// rival returns the policy in mode Act that scales the same target and comes before this one: the older, or of two of one age
// the first by name. Policies in mode Observe contradict nobody.
func rival(p *v1alpha1.ScalePolicy, all []v1alpha1.ScalePolicy) *v1alpha1.ScalePolicy {
	if p.Spec.Mode != v1alpha1.ModeAct {
		return nil
	}
	ref := autoscalingv2.CrossVersionObjectReference{APIVersion: p.Spec.TargetRef.APIVersion, Kind: p.Spec.TargetRef.Kind, Name: p.Spec.TargetRef.Name}
	for i := range all {
		o := &all[i]
		if o.UID == p.UID || o.Namespace != p.Namespace || o.Spec.Mode != v1alpha1.ModeAct || o.DeletionTimestamp != nil ||
			!sameTarget(ref, o.Spec.TargetRef) {
			continue
		}
		if o.CreationTimestamp.Before(&p.CreationTimestamp) || o.CreationTimestamp.Equal(&p.CreationTimestamp) && o.Name < p.Name {
			return o
		}
	}
	return nil
}
