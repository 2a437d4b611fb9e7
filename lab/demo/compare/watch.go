package compare

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab/network"
	"headroom.dev/headroom/scaler"
)

// pollPolicy is how often the ScalePolicy is read. Its status is written at changes, so more often would show nothing more.
const pollPolicy = time.Second

// watcher keeps what the API server shows of both services.
type watcher struct {
	mu      sync.Mutex
	ledgers map[Side]*ledger
	wanted  map[Side]int32
	changes []change
	policy  policyState
}

// change is one change of a Deployment's spec.replicas.
type change struct {
	when     time.Time
	side     Side
	from, to int32
}

// policyState is what the ScalePolicy last said of itself.
type policyState struct {
	known    bool
	ready    bool
	message  string // of the condition Ready, or why there is none
	limit    string
	desired  int32
	reactive int32 // what present demand alone would have asked for
	skilful  int   // horizons at which something better than last value is in use
}

// lastValue is the method that every forecast is measured by.
const lastValue = "last value"

// ahead says that what bound the decision was something learnt of the future: a forecast, or rises seen before. Replicas that are
// only kept for a while are no sign of it.
func (p policyState) ahead() bool {
	return p.limit == scaler.LimitForecast.String() || p.limit == scaler.LimitMargin.String()
}

// watch follows both services until ctx ends; it returns when the first state is known.
func watch(ctx context.Context, client kubernetes.Interface, config *rest.Config, log *slog.Logger) (*watcher, error) {
	w := &watcher{ledgers: map[Side]*ledger{}, wanted: map[Side]int32{}}
	for _, s := range sides() {
		w.ledgers[s] = newLedger()
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	pods, deployments := factory.Core().V1().Pods().Informer(), factory.Apps().V1().Deployments().Informer()
	_, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: w.seePod, UpdateFunc: func(_, now any) { w.seePod(now) }, DeleteFunc: w.losePod,
	})
	if err == nil {
		_, err = deployments.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: w.seeTarget, UpdateFunc: func(_, now any) { w.seeTarget(now) }})
	}
	if err != nil {
		return nil, fmt.Errorf("cannot watch %s: %w", namespace, err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), pods.HasSynced, deployments.HasSynced) {
		return nil, fmt.Errorf("cannot watch %s: %w", namespace, ctx.Err())
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot watch the ScalePolicy %s: %w", Policy.name(), err)
	}
	go w.followPolicy(ctx, objects, log)
	return w, nil
}

func sideOf(labels map[string]string) (Side, bool) {
	for _, s := range sides() {
		if labels["app"] == s.name() {
			return s, true
		}
	}
	return 0, false
}

func (w *watcher) seePod(item any) {
	pod, ok := item.(*corev1.Pod)
	if !ok {
		return
	}
	side, ok := sideOf(pod.Labels)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ledgers[side].see(time.Now(), seen{pod: pod.Name, ready: network.Ready(pod), deleting: pod.DeletionTimestamp != nil})
}

func (w *watcher) losePod(item any) {
	if tombstone, ok := item.(cache.DeletedFinalStateUnknown); ok {
		item = tombstone.Obj
	}
	pod, ok := item.(*corev1.Pod)
	if !ok {
		return
	}
	side, ok := sideOf(pod.Labels)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ledgers[side].gone(time.Now(), pod.Name)
}

func (w *watcher) seeTarget(item any) {
	d, ok := item.(*appsv1.Deployment)
	if !ok || d.Spec.Replicas == nil {
		return
	}
	for _, side := range sides() {
		if d.Name != side.name() {
			continue
		}
		w.mu.Lock()
		if before, known := w.wanted[side]; known && before != *d.Spec.Replicas {
			w.changes = append(w.changes, change{when: time.Now(), side: side, from: before, to: *d.Spec.Replicas})
		}
		w.wanted[side] = *d.Spec.Replicas
		w.mu.Unlock()
	}
}

func (w *watcher) followPolicy(ctx context.Context, objects dynamic.Interface, log *slog.Logger) {
	policies := objects.Resource(v1alpha1.GroupVersion().WithResource("scalepolicies")).Namespace(namespace)
	tick := time.NewTicker(pollPolicy)
	defer tick.Stop()
	for {
		object, err := policies.Get(ctx, Policy.name(), metav1.GetOptions{})
		if ctx.Err() != nil {
			return
		}
		state := policyState{message: fmt.Sprintf("cannot read it: %v", err)}
		if err == nil {
			if state, err = readPolicy(object); err != nil {
				log.Warn("the ScalePolicy cannot be read", "err", err)
			}
		}
		w.mu.Lock()
		w.policy = state
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readPolicy reads what a ScalePolicy says of itself.
func readPolicy(object *unstructured.Unstructured) (policyState, error) {
	var p v1alpha1.ScalePolicy
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &p); err != nil {
		return policyState{message: err.Error()}, fmt.Errorf("cannot read the ScalePolicy %s: %w", object.GetName(), err)
	}
	state := policyState{known: true, limit: p.Status.Limit, message: "it says nothing of itself: no controller has seen it"}
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		state.ready, state.message = c.Status == metav1.ConditionTrue, c.Message
	}
	if d, r := p.Status.DesiredReplicas, p.Status.ReactiveReplicas; d != nil && r != nil {
		state.desired, state.reactive = *d, *r
	}
	for _, f := range p.Status.Forecasts {
		if f.InUse && f.Method != lastValue {
			state.skilful++
		}
	}
	return state, nil
}

// state is everything known at one moment.
type state struct {
	counts  map[Side]counts
	wanted  map[Side]int32
	changes []change
	policy  policyState
}

func (w *watcher) state() state {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := state{counts: map[Side]counts{}, wanted: map[Side]int32{}, changes: append([]change(nil), w.changes...), policy: w.policy}
	for _, side := range sides() {
		s.counts[side], s.wanted[side] = w.ledgers[side].now(), w.wanted[side]
	}
	return s
}

// books returns copies of the ledgers, which nothing changes any more.
func (w *watcher) books() map[Side]*ledger {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[Side]*ledger{}
	for side, l := range w.ledgers {
		out[side] = l.clone()
	}
	return out
}
