package discovery

import (
	"context"
	"sync"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic/dynamicinformer"
)

// installedInterval is how often is asked which kinds of monitors are installed: one small request, and it need not be
// allowed to read CustomResourceDefinitions.
const (
	installedInterval = 30 * time.Second
	installedRetry    = 2 * time.Second // while there is no answer
)

// monitorWatch watches one kind of monitors while it is installed.
type monitorWatch struct {
	kind, resource string
	w              *Watcher
	// compile makes a monitor of an object, and returns its spec, by which is seen whether it changed.
	compile func(obj map[string]any) (compiled *monitor, spec any, err error)

	mu    sync.Mutex
	watch *watch // nil while the kind is not installed
	stop  func() // ends watch and waits for its end

	specs map[monitorID]any // under w.mu: as compiled
}

func podMonitors(w *Watcher) *monitorWatch {
	return &monitorWatch{
		kind: monitoringv1.PodMonitorsKind, resource: monitoringv1.PodMonitorName, w: w, specs: map[monitorID]any{},
		compile: func(obj map[string]any) (*monitor, any, error) {
			var m monitoringv1.PodMonitor
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj, &m); err != nil {
				return nil, nil, err
			}
			return compilePodMonitor(&m), m.Spec, nil
		},
	}
}

func serviceMonitors(w *Watcher) *monitorWatch {
	return &monitorWatch{
		kind: monitoringv1.ServiceMonitorsKind, resource: monitoringv1.ServiceMonitorName, w: w, specs: map[monitorID]any{},
		compile: func(obj map[string]any) (*monitor, any, error) {
			var m monitoringv1.ServiceMonitor
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj, &m); err != nil {
				return nil, nil, err
			}
			return compileServiceMonitor(&m), m.Spec, nil
		},
	}
}

// keepMonitors watches the kinds that are installed, also those that come later.
func (w *Watcher) keepMonitors(ctx context.Context) {
	defer func() {
		for _, m := range w.monitors {
			m.end()
		}
	}()
	for {
		next := installedInterval
		installed, err := w.installed(ctx)
		if err == nil {
			for _, m := range w.monitors {
				m.keep(ctx, installed[m.resource])
			}
			w.asked.Store(true)
		} else {
			w.opts.Logger.Debug("cannot ask for monitors", "err", err) // what is watched goes on
			next = installedRetry
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// installed returns the resources of the operator's group.
func (w *Watcher) installed(ctx context.Context) (map[string]bool, error) {
	list, err := w.opts.Client.Discovery().ServerResourcesForGroupVersionWithContext(ctx, monitoringv1.SchemeGroupVersion.String())
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for i := range list.APIResources {
		found[list.APIResources[i].Name] = true
	}
	return found, nil
}

// monitorsSettled says whether all monitors are listed that can be.
func (w *Watcher) monitorsSettled() bool {
	for _, m := range w.monitors {
		if watch := m.current(); watch != nil && !watch.settled() {
			return false
		}
	}
	return w.asked.Load()
}

func (m *monitorWatch) current() *watch {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.watch
}

// trouble says why monitors of the kind are not known, "" where they are or there can be none.
func (m *monitorWatch) trouble() string {
	if watch := m.current(); watch != nil {
		return watch.trouble()
	}
	return ""
}

// keep begins or ends watching.
func (m *monitorWatch) keep(ctx context.Context, installed bool) {
	switch watching := m.current() != nil; {
	case installed && !watching:
		if err := m.begin(ctx); err != nil {
			m.w.opts.Logger.Warn("cannot watch", "what", m.resource, "err", err)
		}
	case !installed && watching:
		m.end()
		m.w.mu.Lock()
		defer m.w.mu.Unlock()
		for id := range m.specs {
			m.remove(id.namespace, id.name)
		}
	}
}

func (m *monitorWatch) begin(ctx context.Context) error {
	resource := monitoringv1.SchemeGroupVersion.WithResource(m.resource)
	informer := dynamicinformer.NewFilteredDynamicInformer(m.w.opts.Dynamic, resource, metav1.NamespaceAll, 0, nil, nil).Informer()
	watch, err := newWatch(m.resource, informer, m.w.opts.Logger, &m.w.mu, handler{set: m.set, remove: m.remove})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		informer.RunWithContext(ctx)
	}()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watch = watch
	m.stop = func() {
		cancel()
		<-done
	}
	return nil
}

func (m *monitorWatch) end() {
	m.mu.Lock()
	stop := m.stop
	m.watch, m.stop = nil, nil
	m.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// set takes a monitor; the operator writes their status often, which changes nothing.
func (m *monitorWatch) set(obj any) {
	o, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return
	}
	id := monitorID{kind: m.kind, namespace: o.GetNamespace(), name: o.GetName()}
	compiled, spec, err := m.compile(o.Object)
	if err != nil {
		// A monitor of another version than ours must not hide the others, and what it was is not what it is.
		m.w.opts.Logger.Warn("cannot read a monitor", "monitor", id.String(), "err", err)
		m.remove(id.namespace, id.name)
		return
	}
	if before, ok := m.specs[id]; ok && apiequality.Semantic.DeepEqual(before, spec) {
		return
	}
	m.specs[id] = spec
	m.w.cluster.setMonitor(id, compiled)
	m.w.askCredentials()
}

func (m *monitorWatch) remove(namespace, name string) {
	id := monitorID{kind: m.kind, namespace: namespace, name: name}
	delete(m.specs, id)
	m.w.cluster.setMonitor(id, nil)
}
