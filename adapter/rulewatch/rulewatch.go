// Package rulewatch watches MetricRules, hands the adapter the rules that they define, and writes back how these fare.
//
// Guarantees: a change reaches Options.Changed within 100 ms of its watch event, and nothing else does. A MetricRule that
// cannot be converted, or not even decoded, costs only itself and says so in its status. Without the API server the last
// known rules stay. Without the CustomResourceDefinition there are no user rules, and its appearance is noticed within
// about a second. One replica, by a Lease, writes statuses, each when something of note changes and else every 30 s; no
// failure there touches rules.
//
// Namespaces are watched from the moment that a rule has a namespaceSelector.
package rulewatch

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/api/v1alpha1"
)

// gather is how long after a change the next ones may join it.
const gather = 50 * time.Millisecond

// Options say what a Watcher works with. All are required.
type Options struct {
	// Dynamic reads MetricRules as plain maps: a typed list fails as a whole when one object does not decode.
	Dynamic dynamic.Interface
	Client  kubernetes.Interface // namespaces, and the Lease
	// Changed gets the rules that MetricRules define, by name, one for each; see Rule for those that cannot be converted. It is
	// called first when it is known which there are, and then whenever that changes; by one goroutine at a time, which it may
	// keep for as long as compiling takes.
	Changed func([]rules.Rule)
	Logger  *slog.Logger
}

// Watcher knows the MetricRules. Its methods are safe for concurrent use.
type Watcher struct {
	o          Options
	rules      *mirror[object]
	namespaces *mirror[labels.Set]
	dirty      chan struct{} // of one: something changed since the last look
	selecting  chan struct{} // closed when namespaces are needed

	mu     sync.Mutex
	judged map[string]judgement // by name, as of the last look
}

// object is a MetricRule as last seen.
type object struct {
	name            string
	uid             types.UID
	generation      int64
	resourceVersion string
	rule            *v1alpha1.MetricRule
	err             error // why it cannot be decoded; then there is no rule
}

// judgement is what became of a MetricRule.
type judgement struct {
	object object
	rule   rules.Rule
	err    error // why it serves nothing
}

// New returns a Watcher; Run makes it work.
func New(o Options) *Watcher {
	w := &Watcher{o: o, dirty: make(chan struct{}, 1), selecting: make(chan struct{})}
	changed := func() {
		select {
		case w.dirty <- struct{}{}:
		default: // the next look sees this change, too
		}
	}
	w.rules = &mirror[object]{
		parse:   parse,
		same:    func(a, b object) bool { return a.uid == b.uid && a.generation == b.generation },
		changed: changed,
	}
	w.namespaces = &mirror[labels.Set]{
		parse:   func(obj any) labels.Set { return obj.(*corev1.Namespace).Labels },
		same:    maps.Equal[labels.Set, labels.Set],
		changed: changed,
	}
	return w
}

// Run watches until the context ends.
func (w *Watcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		w.rules.follow(ctx, "MetricRules", w.listRules(), &unstructured.Unstructured{}, w.o.Logger)
	})
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-w.selecting:
			w.namespaces.follow(ctx, "Namespaces", w.listNamespaces(), &corev1.Namespace{}, w.o.Logger)
		}
	})
	var last []rules.Rule
	for first := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-w.dirty:
		}
		pause(ctx, gather)
		select {
		case <-w.dirty: // it came while we paused: this look sees it
		default:
		}
		list, known := w.look()
		if known && (first || !reflect.DeepEqual(last, list)) && ctx.Err() == nil {
			w.o.Changed(slices.Clone(list))
			last, first = list, false
		}
	}
}

// look judges every MetricRule and returns their rules by name.
func (w *Watcher) look() (list []rules.Rule, known bool) {
	objects, known := w.rules.all()
	if !known {
		return nil, false
	}
	namespaces, namespacesKnown := w.namespaces.all()
	if !namespacesKnown {
		namespaces = nil
	}
	judged := make(map[string]judgement, len(objects))
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		j := judgement{object: objects[name], rule: placeholder(name), err: objects[name].err}
		if j.err == nil {
			if j.object.rule.Spec.NamespaceSelector != nil {
				w.needNamespaces()
			}
			j.rule, j.err = Rule(j.object.rule, namespaces)
		}
		list = append(list, j.rule)
		judged[name] = j
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judged = judged
	return list, true
}

// needNamespaces starts the watch of namespaces; only look calls it.
func (w *Watcher) needNamespaces() {
	select {
	case <-w.selecting:
	default:
		close(w.selecting)
	}
}

func (w *Watcher) listRules() cache.ListerWatcher {
	client := w.o.Dynamic.Resource(v1alpha1.GroupVersion().WithResource(v1alpha1.ResourceMetricRules))
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return client.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, o)
		},
	}, w.o.Dynamic)
}

func (w *Watcher) listNamespaces() cache.ListerWatcher {
	client := w.o.Client.CoreV1().Namespaces()
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return client.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, o)
		},
	}, w.o.Client)
}
