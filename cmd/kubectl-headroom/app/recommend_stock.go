package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"headroom.dev/headroom/recommender/report"
)

const (
	verticalAPI = "autoscaling.k8s.io/v1"
	// ourRecommender is the name by which a VerticalPodAutoscaler asks for our recommendations.
	ourRecommender = "headroom"
)

type namedRecommender struct {
	Name string `json:"name"`
}

// verticalPodAutoscaler is what is read of one; its module is not linked for these fields.
type verticalPodAutoscaler struct {
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		TargetRef struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Name       string `json:"name"`
		} `json:"targetRef"`
		Recommenders []namedRecommender `json:"recommenders"`
	} `json:"spec"`
	Status struct {
		Recommendation struct {
			Containers []struct {
				Name   string              `json:"containerName"`
				Target corev1.ResourceList `json:"target"`
				Lower  corev1.ResourceList `json:"lowerBound"`
				Upper  corev1.ResourceList `json:"upperBound"`
			} `json:"containerRecommendations"`
		} `json:"recommendation"`
		Conditions []struct {
			Type               string    `json:"type"`
			Status             string    `json:"status"`
			Reason             string    `json:"reason"`
			Message            string    `json:"message"`
			LastTransitionTime time.Time `json:"lastTransitionTime"`
		} `json:"conditions"`
	} `json:"status"`
}

// stockAutoscalers adds the workloads of VerticalPodAutoscalers that name our recommender, where no ResourceRecommendation is
// about the same workload. A cluster without them is none of our business.
func (c *cluster) stockAutoscalers(ctx context.Context, values url.Values, target *workloadName, covered map[string]bool, out *report.Report) (found int, err error) {
	var list struct {
		Items []verticalPodAutoscaler `json:"items"`
	}
	err = c.fetch(ctx, scoped(verticalAPI, c.namespace, "verticalpodautoscalers"), values, &list)
	if _, absent := errors.AsType[*absentError](err); absent {
		return 0, nil
	}
	if apierrors.IsForbidden(err) {
		out.Notes = append(out.Notes, "VerticalPodAutoscalers are left out: "+err.Error())
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for i := range list.Items {
		v := &list.Items[i]
		t := &v.Spec.TargetRef
		if !slices.Contains(v.Spec.Recommenders, namedRecommender{ourRecommender}) || covered[v.Namespace+"/"+t.Kind+"/"+t.Name] {
			continue
		}
		found++
		if !target.is(t.Kind, t.Name) {
			continue
		}
		w := report.Workload{
			Namespace: v.Namespace, APIVersion: t.APIVersion, WorkloadOf: t.Kind, Name: t.Name, Source: "VerticalPodAutoscaler/" + v.Name,
			Reason: "Pending", Message: "headroom-controller has not looked at it yet",
		}
		for _, cond := range v.Status.Conditions {
			if cond.Type == "RecommendationProvided" {
				w.Ready, w.Reason, w.Message = cond.Status == "True", cond.Reason, cond.Message
			}
		}
		if err := c.addStock(ctx, v, &w); err != nil {
			out.Notes = append(out.Notes, fmt.Sprintf("what %s %s/%s requests now is not known: %v", t.Kind, v.Namespace, t.Name, err))
		}
		out.Workloads = append(out.Workloads, w)
	}
	return found, nil
}

// addStock adds the containers of an autoscaler's status, beside what the workload's template says now.
func (c *cluster) addStock(ctx context.Context, v *verticalPodAutoscaler, w *report.Workload) error {
	now, replicas, err := c.template(ctx, v.Namespace, w)
	w.Replicas = replicas
	for i := range v.Status.Recommendation.Containers {
		in := &v.Status.Recommendation.Containers[i]
		one := report.Container{Name: in.Name, Type: report.TypeContainer}
		var present corev1.ResourceRequirements
		if now != nil {
			present, one.Type = requirements(now, in.Name)
		}
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			wanted := quantityOf(in.Target, name)
			if wanted == nil {
				continue
			}
			one.Resources = append(one.Resources, report.Advice{
				Resource: string(name), Request: quantityOf(present.Requests, name), Limit: quantityOf(present.Limits, name), Recommended: wanted,
				Lower: quantityOf(in.Lower, name), Upper: quantityOf(in.Upper, name), Reason: "VerticalPodAutoscaler",
				Message: "as in the status of VerticalPodAutoscaler " + v.Name,
			})
		}
		w.Containers = append(w.Containers, one)
	}
	return err
}

func requirements(spec *corev1.PodSpec, name string) (corev1.ResourceRequirements, string) {
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if c.Name != name {
			continue
		}
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			return c.Resources, report.TypeSidecar
		}
		return c.Resources, report.TypeInit
	}
	for i := range spec.Containers {
		if spec.Containers[i].Name == name {
			return spec.Containers[i].Resources, report.TypeContainer
		}
	}
	return corev1.ResourceRequirements{}, report.TypeContainer
}

// template reads the pod template and the number of replicas of a workload of the usual kinds.
func (c *cluster) template(ctx context.Context, namespace string, w *report.Workload) (*corev1.PodSpec, *int32, error) {
	version, err := schema.ParseGroupVersion(w.APIVersion)
	if err != nil {
		return nil, nil, err
	}
	mapper, err := c.mapper()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot learn which kinds there are: %w", err)
	}
	mapping, err := mapper.RESTMapping(version.WithKind(w.WorkloadOf).GroupKind(), version.Version)
	if err != nil {
		return nil, nil, err
	}
	prefix := "/apis/" + w.APIVersion
	if version.Group == "" {
		prefix = "/api/" + w.APIVersion
	}
	type template struct {
		Spec *corev1.PodSpec `json:"spec"`
	}
	var found struct {
		Spec struct {
			Replicas    *int32   `json:"replicas"`
			Template    template `json:"template"`
			JobTemplate struct {
				Spec struct {
					Template template `json:"template"`
				} `json:"spec"`
			} `json:"jobTemplate"`
		} `json:"spec"`
		Status struct {
			Scheduled *int32 `json:"currentNumberScheduled"`
		} `json:"status"`
	}
	if err := c.fetch(ctx, prefix+"/namespaces/"+namespace+"/"+mapping.Resource.Resource+"/"+w.Name, nil, &found); err != nil {
		return nil, nil, err
	}
	if found.Spec.Replicas == nil {
		found.Spec.Replicas = found.Status.Scheduled
	}
	if spec := found.Spec.JobTemplate.Spec.Template.Spec; spec != nil {
		return spec, found.Spec.Replicas, nil
	}
	return found.Spec.Template.Spec, found.Spec.Replicas, nil
}
