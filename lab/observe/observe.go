// Package observe watches one service's control loop from outside, as a person with kubectl would: what the
// custom-metrics API answers, what the HPA wants, which pods are Ready. It keeps the history with the time at which each
// thing could be seen, from which reaction times are computed.
package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"

	"headroom.dev/headroom/lab/network"
)

// pollEvery is how often each metric is asked for: a tenth of the scrape interval, so that what is measured is the
// adapter's delay and not ours.
const pollEvery = 100 * time.Millisecond

// Options say what to watch.
type Options struct {
	Config    *rest.Config
	Client    kubernetes.Interface
	Namespace string
	HPA       string
	Selector  map[string]string // of the pods
	Metrics   []string          // pods metrics to ask for
	Log       *slog.Logger
}

// Pods are counts of the service's pods that are not being deleted.
type Pods struct{ Ready, Loading int }

// Watcher keeps the history.
type Watcher struct {
	options Options
	http    *http.Client
	pods    cache.SharedIndexInformer

	mu      sync.Mutex
	history History
	ready   map[string]bool // pods that have been Ready
}

// Watch starts watching and returns when the first state is known. It goes on until ctx ends.
func Watch(ctx context.Context, o Options) (*Watcher, error) {
	client, err := rest.HTTPClientFor(o.Config)
	if err != nil {
		return nil, fmt.Errorf("cannot watch %s: %w", o.HPA, err)
	}
	w := &Watcher{options: o, http: client, ready: map[string]bool{}}
	factory := informers.NewSharedInformerFactoryWithOptions(o.Client, 0, informers.WithNamespace(o.Namespace))
	w.pods = factory.Core().V1().Pods().Informer()
	handlers := []struct {
		informer cache.SharedIndexInformer
		see      func(any)
	}{
		{w.pods, w.seePod},
		{factory.Autoscaling().V2().HorizontalPodAutoscalers().Informer(), w.seeHPA},
		{factory.Core().V1().Events().Informer(), w.seeEvent},
	}
	for _, h := range handlers {
		_, err := h.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: h.see, UpdateFunc: func(_, now any) { h.see(now) }})
		if err != nil {
			return nil, fmt.Errorf("cannot watch %s: %w", o.HPA, err)
		}
	}
	factory.Start(ctx.Done())
	for _, h := range handlers {
		if !cache.WaitForCacheSync(ctx.Done(), h.informer.HasSynced) {
			return nil, fmt.Errorf("cannot watch %s: %w", o.HPA, ctx.Err())
		}
	}
	for _, metric := range o.Metrics {
		go w.poll(ctx, metric)
	}
	return w, nil
}

// History returns a copy of everything seen so far.
func (w *Watcher) History() History {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.history.clone()
}

// Pods counts the service's pods now.
func (w *Watcher) Pods() Pods {
	var p Pods
	for _, item := range w.pods.GetStore().List() {
		pod := item.(*corev1.Pod)
		switch {
		case !w.selects(pod) || pod.DeletionTimestamp != nil:
		case network.Ready(pod):
			p.Ready++
		default:
			p.Loading++
		}
	}
	return p
}

func (w *Watcher) selects(pod *corev1.Pod) bool {
	return labels.SelectorFromSet(w.options.Selector).Matches(labels.Set(pod.Labels))
}

func (w *Watcher) seePod(item any) {
	pod := item.(*corev1.Pod)
	if !w.selects(pod) || !network.Ready(pod) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ready[pod.Name] {
		w.ready[pod.Name] = true
		w.history.Ready = append(w.history.Ready, PodReady{Time: time.Now(), Pod: pod.Name})
	}
}

func (w *Watcher) seeHPA(item any) {
	hpa := item.(*autoscalingv2.HorizontalPodAutoscaler)
	if hpa.Name != w.options.HPA {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	known := w.history.Scales
	if len(known) == 0 || known[len(known)-1].Wanted != hpa.Status.DesiredReplicas {
		w.history.Scales = append(w.history.Scales, Scale{Time: time.Now(), Wanted: hpa.Status.DesiredReplicas})
	}
}

func (w *Watcher) seeEvent(item any) {
	event := item.(*corev1.Event)
	if event.InvolvedObject.Name != w.options.HPA || event.InvolvedObject.Kind != "HorizontalPodAutoscaler" || event.Reason != "SuccessfulRescale" {
		return
	}
	rescale, err := parseRescale(time.Now(), event.Message)
	if err != nil {
		w.options.Log.Warn("an HPA event is left out", "err", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.Rescales = append(w.history.Rescales, rescale)
}

func (w *Watcher) poll(ctx context.Context, metric string) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		reading := w.ask(ctx, metric)
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		w.history.Readings = append(w.history.Readings, reading)
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask makes the very request of the HPA controller: all pods of the selector, v1beta2, through the API server.
func (w *Watcher) ask(ctx context.Context, metric string) Reading {
	fail := func(reason string) Reading { return Reading{Time: time.Now(), Metric: metric, Missing: reason} }
	address := fmt.Sprintf("%s/apis/custom.metrics.k8s.io/v1beta2/namespaces/%s/pods/*/%s?labelSelector=%s",
		w.options.Config.Host, w.options.Namespace, metric, url.QueryEscape(labels.SelectorFromSet(w.options.Selector).String()))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fail(err.Error())
	}
	request.Header.Set("Accept", "application/json")
	response, err := w.http.Do(request)
	if err != nil {
		return fail(err.Error())
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fail(err.Error())
	}
	if response.StatusCode != http.StatusOK {
		var status metav1.Status
		if json.Unmarshal(body, &status) == nil && status.Message != "" {
			return fail(status.Message)
		}
		return fail(response.Status)
	}
	var list v1beta2.MetricValueList
	if err := json.Unmarshal(body, &list); err != nil {
		return fail(err.Error())
	}
	return read(time.Now(), metric, list)
}

func read(now time.Time, metric string, list v1beta2.MetricValueList) Reading {
	if len(list.Items) == 0 {
		return Reading{Time: now, Metric: metric, Missing: "an empty list"}
	}
	r := Reading{Time: now, Metric: metric, Pods: len(list.Items)}
	for _, item := range list.Items {
		r.Mean += item.Value.AsApproximateFloat64() / float64(len(list.Items))
		r.Age = max(r.Age, now.Sub(item.Timestamp.Time))
	}
	return r
}
