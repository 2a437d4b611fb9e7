package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/bench/rollout/fleet"
)

// objectCache answers as a manager's cache does with UnsafeDisableDeepCopy: each object is copied into the list by value.
type objectCache struct {
	client.Client // nil: nothing but lists is asked for

	fleet *fleet.Fleet
}

// List implements client.Reader for what a search for capacity reads.
func (c *objectCache) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	switch l := list.(type) {
	case *corev1.NodeList:
		l.Items = values(c.fleet.Nodes)
	case *corev1.PodList:
		l.Items = values(c.fleet.Pods)
	case *corev1.NamespaceList:
		l.Items = values(c.fleet.Namespaces)
	case *schedulingv1.PriorityClassList:
		l.Items = []schedulingv1.PriorityClass{{ObjectMeta: metav1.ObjectMeta{Name: "serving"}, Value: 1, GlobalDefault: true}}
	default:
		return fmt.Errorf("a list of %T was not expected", list)
	}
	return nil
}

func values[T any](pointers []*T) []T {
	out := make([]T, len(pointers))
	for i, p := range pointers {
		out[i] = *p
	}
	return out
}
