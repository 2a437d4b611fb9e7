package traffic

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout/route"
)

// endpoints counts ready endpoints by version. An endpoint whose pod is not known, or has no hash, counts under "".
type endpoints map[string]int

func (e endpoints) total() int {
	n := 0
	for _, ready := range e {
		n += ready
	}
	return n
}

// others returns how many endpoints are of no version of a split.
func (e endpoints) others(s route.Split) int {
	n := e.total() - e[s.Stable]
	if s.Canary != "" {
		n -= e[s.Canary]
	}
	return n
}

func (e endpoints) String() string {
	var parts []string
	for _, hash := range slices.Sorted(maps.Keys(e)) {
		name := hash
		if name == "" {
			name = "no known version"
		}
		parts = append(parts, fmt.Sprintf("%d of %s", e[hash], name))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// receiving returns which pods really get a Service's requests, from its EndpointSlices. Dual-stack Services name each pod
// in two slices; it counts once.
func (t Target) receiving(ctx context.Context, service string) (endpoints, error) {
	var list discoveryv1.EndpointSliceList
	err := t.Client.List(ctx, &list, client.InNamespace(t.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service})
	if err != nil {
		return nil, fmt.Errorf("cannot read the EndpointSlices of Service %s/%s: %w", t.Namespace, service, err)
	}
	ready := map[string]bool{} // names of pods; addresses where there is no pod
	for i := range list.Items {
		for _, e := range list.Items[i].Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
				ready[e.TargetRef.Name] = true
			} else {
				ready["/"+strings.Join(e.Addresses, ",")] = false
			}
		}
	}
	out := endpoints{}
	if len(ready) == 0 {
		return out, nil
	}
	var pods corev1.PodList
	if err := t.Client.List(ctx, &pods, client.InNamespace(t.Namespace), client.HasLabels{HashLabel}); err != nil {
		return nil, fmt.Errorf("cannot list the pods of %s: %w", t.Namespace, err)
	}
	hashes := map[string]string{}
	for i := range pods.Items {
		hashes[pods.Items[i].Name] = pods.Items[i].Labels[HashLabel]
	}
	for name := range ready {
		out[hashes[name]]++
	}
	return out, nil
}

// available counts the ready pods of a selector by version, whether or not a Service sends them requests now.
func (t Target) available(ctx context.Context, selector map[string]string) (endpoints, error) {
	var pods corev1.PodList
	if err := t.Client.List(ctx, &pods, client.InNamespace(t.Namespace), client.MatchingLabels(selector)); err != nil {
		return nil, fmt.Errorf("cannot list the pods of %s: %w", t.Namespace, err)
	}
	out := endpoints{}
	for i := range pods.Items {
		if pod := &pods.Items[i]; pod.DeletionTimestamp == nil && isReady(pod) {
			out[pod.Labels[HashLabel]]++
		}
	}
	return out, nil
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// selectorAt reads a selector of labels.
func selectorAt(u *unstructured.Unstructured, path []string) (map[string]string, error) {
	selector, found, err := unstructured.NestedStringMap(u.Object, path...)
	if err != nil {
		return nil, fmt.Errorf("%w %s of %s: %w", route.ErrInvalid, strings.Join(path, "."), describe(u), err)
	}
	if !found || len(selector) == 0 {
		return nil, fmt.Errorf("%w %s of %s: it selects no pods", route.ErrInvalid, strings.Join(path, "."), describe(u))
	}
	return selector, nil
}
