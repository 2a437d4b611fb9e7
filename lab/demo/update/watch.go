package update

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"headroom.dev/headroom/lab/network"
)

// Count is how the service stands at a moment.
type Count struct {
	Ready   map[string]int `json:"ready"`   // pods that serve, by version
	Pods    map[string]int `json:"pods"`    // that exist, by version, those that end included
	Serving int            `json:"serving"` // Ready pods that the Service selects
	Loading int            `json:"loading"` // on a node and not Ready
	Pending int            `json:"pending"` // without a node
	Leaving int            `json:"leaving"` // being deleted
	GPUs    int            `json:"gpus"`    // held: by pods on a node, those that end included
}

// Sample is a count from a moment on.
type Sample struct {
	At time.Time `json:"at"`
	Count
}

// address is who had one from a moment on.
type address struct {
	from    time.Time
	version string
}

// watcher counts the service's pods at each event of the watch.
type watcher struct {
	mu        sync.Mutex
	pods      map[types.UID]*corev1.Pod
	service   *corev1.Service
	samples   []Sample
	addresses map[string][]address
	changed   chan struct{} // closed at the next change
}

func watch(ctx context.Context, client kubernetes.Interface) (*watcher, error) {
	w := &watcher{pods: map[types.UID]*corev1.Pod{}, addresses: map[string][]address{}, changed: make(chan struct{})}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(Namespace))
	pods, services := factory.Core().V1().Pods().Informer(), factory.Core().V1().Services().Informer()
	for _, informer := range []cache.SharedIndexInformer{pods, services} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(o any) { w.see(o, false) }, UpdateFunc: func(_, o any) { w.see(o, false) }, DeleteFunc: func(o any) { w.see(o, true) },
		}); err != nil {
			return nil, fmt.Errorf("cannot watch namespace %s: %w", Namespace, err)
		}
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), pods.HasSynced, services.HasSynced) {
		return nil, fmt.Errorf("cannot watch namespace %s: %w", Namespace, ctx.Err())
	}
	return w, nil
}

func (w *watcher) see(object any, gone bool) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	switch o := object.(type) {
	case *corev1.Service:
		w.service = o
		if gone {
			w.service = nil
		}
	case *corev1.Pod:
		w.pods[o.UID] = o
		if gone {
			delete(w.pods, o.UID)
		}
		w.address(o, now)
	}
	w.samples = append(w.samples, Sample{At: now, Count: w.count()})
	close(w.changed)
	w.changed = make(chan struct{})
}

// address notes whose an address is, which is used again when its pod is gone.
func (w *watcher) address(pod *corev1.Pod, now time.Time) {
	if pod.Status.PodIP == "" {
		return
	}
	target := net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(port))
	had, version := w.addresses[target], pod.Labels[versionLabel]
	if len(had) == 0 || had[len(had)-1].version != version {
		w.addresses[target] = append(had, address{now, version})
	}
}

// version is which one had an address at a moment; "" where none had.
func (w *watcher) version(target string, at time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	had := w.addresses[target]
	for _, a := range slices.Backward(had) {
		if !a.from.After(at) {
			return a.version
		}
	}
	return ""
}

func (w *watcher) count() Count {
	c := Count{Ready: map[string]int{}, Pods: map[string]int{}}
	for _, pod := range w.pods {
		c.Pods[pod.Labels[versionLabel]]++
		if pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			c.GPUs++
		}
		switch {
		case pod.DeletionTimestamp != nil:
			c.Leaving++
		case network.Ready(pod):
			c.Ready[pod.Labels[versionLabel]]++
			if w.service != nil && labels.SelectorFromSet(w.service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				c.Serving++
			}
		case pod.Spec.NodeName == "":
			c.Pending++
		default:
			c.Loading++
		}
	}
	return c
}

// now is the present count, and a channel that is closed when it changes.
func (w *watcher) now() (Count, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count(), w.changed
}

// between is what was counted from a moment to another; the first sample is what stood at the first moment.
func (w *watcher) between(from, to time.Time) []Sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	first, found := slices.BinarySearchFunc(w.samples, from, func(s Sample, t time.Time) int { return s.At.Compare(t) })
	if !found {
		first = max(0, first-1)
	}
	last, _ := slices.BinarySearchFunc(w.samples, to, func(s Sample, t time.Time) int { return cmp.Or(s.At.Compare(t), -1) })
	out := slices.Clone(w.samples[first:max(first, last)])
	if len(out) > 0 && out[0].At.Before(from) {
		out[0].At = from
	}
	return out
}
