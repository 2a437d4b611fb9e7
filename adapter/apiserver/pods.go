package apiserver

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/tools/cache"
)

// labelIndex has the pods of each namespace by each of their labels.
const labelIndex = "headroom.dev/label"

// PodIndexers returns what the pod informer must index for a Provider, besides namespaces. An HPA's request then costs as
// many pods as it means and not as many as its namespace has.
func PodIndexers() cache.Indexers {
	return cache.Indexers{labelIndex: func(obj any) ([]string, error) {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return nil, fmt.Errorf("%T is no pod", obj)
		}
		keys := make([]string, 0, len(pod.Labels))
		for name, value := range pod.Labels {
			keys = append(keys, labelKey(pod.Namespace, name, value))
		}
		return keys, nil
	}}
}

// labelKey is unambiguous: neither namespaces nor the names of labels contain "=".
func labelKey(namespace, name, value string) string { return namespace + "=" + name + "=" + value }

// getPod returns nil where there is no such pod.
func (p *Provider) getPod(namespace, name string) (*corev1.Pod, error) {
	obj, ok, err := p.opts.Pods.GetByKey(namespace + "/" + name)
	if err != nil || !ok {
		return nil, err
	}
	return obj.(*corev1.Pod), nil
}

// selectPods returns the pods that the selector means, by name.
func (p *Provider) selectPods(namespace string, selector labels.Selector, now time.Time) ([]*corev1.Pod, error) {
	requirements, selectable := selector.Requirements()
	if !selectable {
		return nil, nil
	}
	var keys []string // of the labels that the pods must have
	for _, r := range requirements {
		if values := r.ValuesUnsorted(); len(values) == 1 && equality(r.Operator()) {
			keys = append(keys, labelKey(namespace, r.Key(), values[0]))
		}
	}
	index, key := cache.NamespaceIndex, namespace
	if len(keys) > 0 {
		index, key = labelIndex, p.rarities.of(keys, p.opts.Pods, now)
	}
	objs, err := p.opts.Pods.ByIndex(index, key)
	if err != nil {
		return nil, fmt.Errorf("cannot select pods: %w", err)
	}
	list := make([]*corev1.Pod, 0, len(objs))
	for _, obj := range objs {
		if pod := obj.(*corev1.Pod); selector.Matches(labels.Set(pod.Labels)) {
			list = append(list, pod)
		}
	}
	slices.SortFunc(list, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// rarities remembers which of several labels the fewest pods have: of "component=server,instance=chat" it is hardly the
// first. Counting pods costs as much as looking at them all, so what was found once is taken for true for a while; where
// that is wrong, a selection takes longer.
type rarities struct {
	mu    sync.Mutex
	found map[string]rarity // by all the labels
}

type rarity struct {
	key   string
	until time.Time
}

const (
	rarityTime = time.Minute
	mostRarity = 4096 // selectors that are remembered; those of all HPAs are hundreds
)

func (r *rarities) of(keys []string, pods cache.Indexer, now time.Time) string {
	if len(keys) == 1 {
		return keys[0]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	all := strings.Join(keys, ",")
	if known, ok := r.found[all]; ok && now.Before(known.until) {
		return known.key
	}
	if r.found == nil || len(r.found) >= mostRarity {
		r.found = map[string]rarity{}
	}
	best, fewest := keys[0], math.MaxInt
	for _, key := range keys {
		if list, err := pods.IndexKeys(labelIndex, key); err == nil && len(list) < fewest {
			best, fewest = key, len(list)
		}
	}
	r.found[all] = rarity{key: best, until: now.Add(rarityTime)}
	return best
}

func equality(op selection.Operator) bool {
	return op == selection.Equals || op == selection.DoubleEquals || op == selection.In
}

// over says why a pod that is still listed takes no part any more, or "".
func over(pod *corev1.Pod) string {
	switch {
	case pod.DeletionTimestamp != nil:
		return "the pod is terminating"
	case pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed:
		return "the pod has ended"
	}
	return ""
}
