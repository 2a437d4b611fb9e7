package app

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	promlabels "github.com/prometheus/prometheus/model/labels"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"headroom.dev/headroom/adapter/discovery"
	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/scrape"
	"headroom.dev/headroom/adapter/store"
)

// targets turns the pod informer's events into scrape targets.
type targets struct {
	manager *scrape.Manager
	trusted map[string]bool // namespaces
	logger  *slog.Logger
}

var _ cache.ResourceEventHandler = (*targets)(nil)

// OnAdd implements cache.ResourceEventHandler.
func (t *targets) OnAdd(obj any, _ bool) {
	if pod, ok := obj.(*corev1.Pod); ok {
		t.apply(nil, pod)
	}
}

// OnUpdate implements cache.ResourceEventHandler.
func (t *targets) OnUpdate(before, obj any) {
	old, _ := before.(*corev1.Pod)
	if pod, ok := obj.(*corev1.Pod); ok {
		t.apply(old, pod)
	}
}

// OnDelete implements cache.ResourceEventHandler.
func (t *targets) OnDelete(obj any) {
	if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
		t.manager.Remove(key)
	}
}

// apply scrapes the pod or ceases to. A mistake in an annotation is logged once per mistake, not per event.
func (t *targets) apply(old, pod *corev1.Pod) {
	id := pod.Namespace + "/" + pod.Name
	e, err := discovery.FromPod(pod)
	if err == nil {
		t.manager.Add(target(id, e, t.trusted[pod.Namespace]))
		return
	}
	t.manager.Remove(id)
	mistake, ok := errors.AsType[*discovery.AnnotationError](err)
	if !ok {
		return
	}
	if old != nil {
		if _, before := discovery.FromPod(old); before != nil && before.Error() == mistake.Error() {
			return
		}
	}
	t.logger.Warn("a pod is not scraped", "pod", id, "err", mistake)
}

func target(id string, e discovery.Endpoint, trusted bool) scrape.Target {
	return scrape.Target{
		ID: id, Incarnation: e.UID, URL: e.URL,
		Pod:         podObject(e.Namespace, e.Name),
		Labels:      promlabels.FromStrings("namespace", e.Namespace, "node", e.Node, "pod", e.Name),
		HonorLabels: trusted,
	}
}

func podObject(namespace, name string) metric.Object {
	return metric.Object{Resource: "pods", Namespace: namespace, Name: name}
}

// sink makes the store a scrape.Sink.
type sink struct{ *store.Store }

// Append implements scrape.Sink.
func (s sink) Append(id string, at time.Time, samples []scrape.Sample) error {
	converted := make([]store.Sample, len(samples))
	for i, sample := range samples {
		converted[i] = store.Sample(sample)
	}
	switch r := s.Store.Append(id, at, converted); {
	case r.Late:
		return errors.New("the scrape was refused: it is not later than the one before")
	case r.OverLimit > 0:
		return fmt.Errorf("the store has no room for %d of %d samples (--max-series)", r.OverLimit, len(samples))
	}
	return nil
}
