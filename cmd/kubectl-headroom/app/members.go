package app

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"headroom.dev/headroom/cmd/kubectl-headroom/explain"
)

// behind returns which raw series stand behind the objects of a report: those of their pods, or that bear their name.
func (c *cluster) behind(ctx context.Context, report *explain.Values, namespace string) (func(map[string]string) bool, error) {
	wanted := map[string]bool{}
	for i := range report.Objects {
		wanted[report.Objects[i].Name] = true
	}
	label := ""
	switch report.Resource {
	case pods:
		label = "pod"
	case nodes:
		label = "node"
	case namespaces:
		label = "namespace"
	case "services", "deployments.apps":
		var err error
		if wanted, err = c.podsOf(ctx, report.Resource, namespace, wanted); err != nil {
			return nil, err
		}
		label = "pod"
	default: // what names such an object is the rule's own affair
		return func(map[string]string) bool { return true }, nil
	}
	return func(series map[string]string) bool { return wanted[series[label]] }, nil
}

// podsOf returns the names of the pods that Services or Deployments select.
func (c *cluster) podsOf(ctx context.Context, resource, namespace string, wanted map[string]bool) (map[string]bool, error) {
	var selectors []labels.Selector
	if resource == "services" {
		list, err := c.kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			if s := &list.Items[i]; wanted[s.Name] && len(s.Spec.Selector) > 0 {
				selectors = append(selectors, labels.SelectorFromSet(s.Spec.Selector))
			}
		}
	} else {
		list, err := c.kube.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			if d := &list.Items[i]; wanted[d.Name] {
				s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
				if err != nil {
					return nil, err
				}
				selectors = append(selectors, s)
			}
		}
	}
	all, err := c.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	members := map[string]bool{}
	for i := range all.Items {
		if selected(&all.Items[i], selectors) {
			members[all.Items[i].Name] = true
		}
	}
	return members, nil
}

func selected(pod *corev1.Pod, selectors []labels.Selector) bool {
	for _, s := range selectors {
		if s.Matches(labels.Set(pod.Labels)) {
			return true
		}
	}
	return false
}
