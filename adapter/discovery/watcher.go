package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"headroom.dev/headroom/adapter/metric"
)

const (
	// settleInterval is how often the beginning looks whether everything is listed.
	settleInterval = 20 * time.Millisecond
	// monitorPatience is how long the first targets wait for monitors once pods and Services are here.
	monitorPatience = 10 * time.Second
	// sayAgain is when a watch's trouble that goes on is logged once more.
	sayAgain = 10 * time.Minute
)

// Options of a Watcher.
type Options struct {
	Client  kubernetes.Interface
	Dynamic dynamic.Interface // reads monitors; nil for annotations alone
	Sink    Sink
	// Trusted are the namespaces that may speak about others: as the package comment says.
	Trusted []string
	// PodIndexers are indexes that readers of PodIndexer need besides the one by namespace.
	PodIndexers cache.Indexers
	Logger      *slog.Logger
}

// Watcher turns what the API server says into targets, at once, and is a metric.Directory. Its methods are safe for
// concurrent use. Kinds that are not installed or may not be read cost their targets, with a word in Why and in the log,
// and nothing else; only without pods it is never synced.
type Watcher struct {
	opts     Options
	pods     *watch
	services *watch
	monitors [2]*monitorWatch
	asked    atomic.Bool   // whether it is known which kinds of monitors are installed
	read     chan struct{} // asks for credentials that have not been read
	synced   atomic.Bool

	mu      sync.Mutex // makes changes of the cluster one by one
	cluster *cluster
}

var _ metric.Directory = (*Watcher)(nil)

// NewWatcher returns a Watcher that knows nothing until it runs.
func NewWatcher(opts Options) (*Watcher, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{opts: opts, read: make(chan struct{}, 1), cluster: newCluster(opts.Trusted, opts.Sink, opts.Logger)}
	byNamespace := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
	podIndexers := maps.Clone(byNamespace)
	maps.Copy(podIndexers, opts.PodIndexers)
	var err error
	w.pods, err = newWatch("pods", coreinformers.NewPodInformer(opts.Client, "", 0, podIndexers), opts.Logger, &w.mu, handler{
		set: func(obj any) {
			if pod, ok := obj.(*corev1.Pod); ok {
				w.cluster.setPod(pod)
			}
		},
		remove: w.cluster.deletePod,
	})
	if err != nil {
		return nil, err
	}
	w.services, err = newWatch("services", coreinformers.NewServiceInformer(opts.Client, "", 0, byNamespace), opts.Logger, &w.mu, handler{
		set: func(obj any) {
			if s, ok := obj.(*corev1.Service); ok {
				w.cluster.setService(s)
			}
		},
		remove: w.cluster.deleteService,
	})
	if err != nil {
		return nil, err
	}
	w.monitors = [2]*monitorWatch{podMonitors(w), serviceMonitors(w)}
	w.asked.Store(opts.Dynamic == nil)
	return w, nil
}

// Run watches until the context ends, and ends all that it began. The targets stay in the Sink.
func (w *Watcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { w.pods.informer.RunWithContext(ctx) })
	wg.Go(func() { w.services.informer.RunWithContext(ctx) })
	if w.opts.Dynamic != nil {
		wg.Go(func() { w.keepMonitors(ctx) })
		wg.Go(func() { w.keepCredentials(ctx) })
	}
	w.begin(ctx)
	wg.Wait()
}

// begin computes the first targets when all that they depend on is here, so that none is added to be changed at once.
func (w *Watcher) begin(ctx context.Context) {
	until := func(ctx context.Context, done func() bool) error {
		return wait.PollUntilContextCancel(ctx, settleInterval, true, func(context.Context) (bool, error) { return done(), nil })
	}
	if until(ctx, func() bool { return w.pods.synced() && w.services.settled() }) != nil {
		return
	}
	patience, cancel := context.WithTimeout(ctx, monitorPatience)
	defer cancel()
	if until(patience, w.monitorsSettled) != nil && ctx.Err() == nil {
		w.opts.Logger.Warn("monitors are not listed yet; pods with annotations are scraped meanwhile")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() == nil {
		w.cluster.start()
		w.synced.Store(true)
	}
}

// HasSynced says whether the targets of all pods that were there at the beginning have been added.
func (w *Watcher) HasSynced() bool { return w.synced.Load() }

// Pods returns the pods as Trim leaves them.
func (w *Watcher) Pods() corelisters.PodLister {
	return corelisters.NewPodLister(w.pods.informer.GetIndexer())
}

// PodIndexer returns the same pods, with Options.PodIndexers.
func (w *Watcher) PodIndexer() cache.Indexer { return w.pods.informer.GetIndexer() }

// Pod implements metric.Directory.
func (w *Watcher) Pod(namespace, name string) (metric.Pod, bool) {
	v, ok := w.cluster.look(namespace, name)
	return v.Pod, ok
}

// Version implements metric.Directory.
func (w *Watcher) Version() uint64 { return w.cluster.version.Load() }

// Why says why the pod is not scraped, "" where it is.
func (w *Watcher) Why(pod metric.Object) string {
	v, ok := w.cluster.look(pod.Namespace, pod.Name)
	switch {
	case !ok:
		return "the pod is not known"
	case v.why == "":
		return ""
	}
	texts := []string{"not scraped: " + v.why}
	for _, m := range w.monitors {
		if trouble := m.trouble(); trouble != "" {
			texts = append(texts, trouble)
		}
	}
	return strings.Join(texts, "; ")
}

// handler is what becomes of objects.
type handler struct {
	set    func(obj any)
	remove func(namespace, name string)
}

// watch is an informer with its troubles.
type watch struct {
	what     string
	informer cache.SharedIndexInformer
	synced   cache.InformerSynced // all of the first list has been handled
	logger   *slog.Logger

	mu     sync.Mutex
	failed string // the last trouble, "" if there was none
	said   time.Time
}

func newWatch(what string, informer cache.SharedIndexInformer, logger *slog.Logger, mu *sync.Mutex, h handler) (*watch, error) {
	w := &watch{what: what, informer: informer, logger: logger}
	set := func(obj any) {
		mu.Lock()
		defer mu.Unlock()
		h.set(obj)
	}
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(obj any) {
			if key, err := cache.DeletionHandlingObjectToName(obj); err == nil {
				mu.Lock()
				defer mu.Unlock()
				h.remove(key.Namespace, key.Name)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot watch %s: %w", what, err)
	}
	w.synced = registration.HasSynced
	if err := errors.Join(informer.SetTransform(Trim), informer.SetWatchErrorHandlerWithContext(w.fail)); err != nil {
		return nil, fmt.Errorf("cannot watch %s: %w", what, err)
	}
	return w, nil
}

// settled says whether the first list is here, or will not be.
func (w *watch) settled() bool { return w.synced() || w.trouble() != "" }

// trouble says why there is no list, "" where there is one or nothing is known yet.
func (w *watch) trouble() string {
	if w.synced() {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// fail notes why a list or watch ended. The informer tries again by itself, and again, and again.
func (w *watch) fail(_ context.Context, _ *cache.Reflector, err error) {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return // how watches end
	}
	text := fmt.Sprintf("cannot watch %s: %s", w.what, err)
	if apierrors.IsForbidden(err) {
		text = fmt.Sprintf("cannot watch %s: forbidden", w.what)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); text != w.failed || now.Sub(w.said) > sayAgain {
		w.said = now
		w.logger.Warn("cannot watch", "what", w.what, "err", err)
	}
	w.failed = text
}
