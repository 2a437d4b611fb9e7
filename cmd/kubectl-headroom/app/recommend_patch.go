package app

import (
	"context"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/recommender/report"
)

// writePatches writes a document for each workload with a recommendation, and one for each HPA that must change along. kubectl
// patch --patch-file takes one that stands alone; kustomize takes all of them.
func (c *cluster) writePatches(ctx context.Context, w io.Writer, r *report.Report) error {
	var b strings.Builder
	for i := range r.Workloads {
		one := &r.Workloads[i]
		patch, ok := one.Patch(report.Order{})
		if !ok {
			continue
		}
		if spec, _, err := c.template(ctx, one.Namespace, one); err == nil && spec != nil {
			patch, _ = one.Patch(orderOf(spec))
		} else if patch.Object != nil {
			// Without the template the order of the containers that have no recommendation is not known.
			patch.Comments = append(patch.Comments, "The workload could not be read: if it has other init containers, see that they keep their order.")
		}
		if err := document(&b, patch.Comments, patch.Object); err != nil {
			return err
		}
		if one.Autoscaler == nil {
			continue
		}
		comments := []string{fmt.Sprintf("HorizontalPodAutoscaler %s/%s, along with %s %s: %s", one.Namespace, one.Autoscaler.Name, one.WorkloadOf, one.Name, one.Autoscaler.Message)}
		object, err := c.autoscalerPatch(ctx, one)
		if err != nil {
			// The workload's patch without this one would change the number of replicas: it is said in the place where it is missed.
			comments = append(comments, "Its patch is missing: "+err.Error())
			for _, m := range one.Autoscaler.Metrics {
				comments = append(comments, fmt.Sprintf("The averageUtilization of %s must go from %d to %d.", m.Resource, m.Now, m.Recommended))
			}
		}
		if err := document(&b, comments, object); err != nil {
			return err
		}
	}
	if b.Len() == 0 && len(r.Workloads) > 0 {
		b.WriteString("# Nothing is recommended yet: kubectl headroom recommend says when it will be.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func orderOf(spec *corev1.PodSpec) report.Order {
	var order report.Order
	for i := range spec.Containers {
		order.Containers = append(order.Containers, spec.Containers[i].Name)
	}
	for i := range spec.InitContainers {
		order.InitContainers = append(order.InitContainers, spec.InitContainers[i].Name)
	}
	return order
}

// document appends a YAML document. One of comments alone follows the one before, because a document of nothing is no patch.
func document(b *strings.Builder, comments []string, object map[string]any) error {
	if object != nil && b.Len() > 0 {
		b.WriteString("---\n")
	}
	for _, comment := range comments {
		for line := range strings.SplitSeq(comment, "\n") {
			b.WriteString("# " + line + "\n")
		}
	}
	if object == nil {
		return nil
	}
	text, err := yaml.Marshal(object)
	if err != nil {
		return fmt.Errorf("cannot write the patch: %w", err)
	}
	b.Write(text)
	return nil
}

// autoscalerPatch changes the targets in the HPA's own list of metrics: a patch replaces it as a whole.
func (c *cluster) autoscalerPatch(ctx context.Context, w *report.Workload) (map[string]any, error) {
	var hpa struct {
		Spec struct {
			Metrics []map[string]any `json:"metrics"`
		} `json:"spec"`
	}
	if err := c.fetch(ctx, scoped("autoscaling/v2", w.Namespace, "horizontalpodautoscalers", w.Autoscaler.Name), nil, &hpa); err != nil {
		return nil, err
	}
	for _, m := range w.Autoscaler.Metrics {
		if !retarget(hpa.Spec.Metrics, m) {
			return nil, fmt.Errorf("the HorizontalPodAutoscaler has no metric of %s with an averageUtilization of %d any more", m.Resource, m.Now)
		}
	}
	return map[string]any{
		"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
		"metadata": map[string]any{"name": w.Autoscaler.Name, "namespace": w.Namespace},
		"spec":     map[string]any{"metrics": hpa.Spec.Metrics},
	}, nil
}

func retarget(metrics []map[string]any, m report.AutoscalerMetric) bool {
	field := "resource"
	if m.Container != "" {
		field = "containerResource"
	}
	for _, metric := range metrics {
		source, _ := metric[field].(map[string]any)
		target, _ := source["target"].(map[string]any)
		if source["name"] != m.Resource || m.Container != "" && source["container"] != m.Container || target["averageUtilization"] != float64(m.Now) {
			continue
		}
		target["averageUtilization"] = m.Recommended
		return true
	}
	return false
}
