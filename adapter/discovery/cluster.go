package discovery

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"headroom.dev/headroom/adapter/metric"
)

// deploymentHash is the label by which a Deployment's ReplicaSets, and their pods, bear the last part of their name.
const deploymentHash = "pod-template-hash"

// cluster is what is known of the cluster, and the targets that follow from it. A change costs work for the pods that it
// can concern: a pod's for itself, a Service's for the pods of its namespace that it selects, a monitor's likewise.
//
// One goroutine at a time changes it; mu is for those who read views meanwhile.
type cluster struct {
	trusted   map[string]bool
	annotated *Settings
	sink      Sink
	logger    *slog.Logger
	logged    map[string]bool

	started  bool // whether targets are computed yet
	objects  map[objectID]content
	monitors map[monitorID]*monitor
	anywhere []*monitor // that select in every namespace, in order

	mu         sync.RWMutex
	namespaces map[string]*namespace
	version    atomic.Uint64
}

type namespace struct {
	pods     map[string]*podState
	services []*service // by name
	monitors []*monitor // that select in this namespace by its name, in order
}

type podState struct {
	pod     *corev1.Pod
	targets []Target
	view    view
}

// view is what others may ask about a pod.
type view struct {
	metric.Pod
	why string // there is no target, "" where there is one
}

func newCluster(trusted []string, sink Sink, logger *slog.Logger) *cluster {
	c := &cluster{
		trusted: map[string]bool{}, annotated: annotated(), sink: sink, logger: logger, logged: map[string]bool{},
		objects: map[objectID]content{}, monitors: map[monitorID]*monitor{}, namespaces: map[string]*namespace{},
	}
	for _, n := range trusted {
		c.trusted[n] = true
	}
	return c
}

// start computes all targets; until then changes are only noted.
func (c *cluster) start() {
	c.started = true
	for _, ns := range c.namespaces {
		for _, p := range ns.pods {
			c.update(ns, p)
		}
	}
}

func (c *cluster) namespace(name string) *namespace {
	ns := c.namespaces[name]
	if ns == nil {
		ns = &namespace{pods: map[string]*podState{}}
		for _, monitor := range c.monitors {
			if !monitor.any && monitor.inNamespace(name) {
				ns.monitors = insert(ns.monitors, monitor)
			}
		}
		c.mu.Lock()
		c.namespaces[name] = ns
		c.mu.Unlock()
	}
	return ns
}

// tidy forgets a namespace in which nothing is left.
func (c *cluster) tidy(name string) {
	if ns := c.namespaces[name]; ns != nil && len(ns.pods) == 0 && len(ns.services) == 0 {
		c.mu.Lock()
		delete(c.namespaces, name)
		c.mu.Unlock()
	}
}

func (c *cluster) setPod(pod *corev1.Pod) {
	ns := c.namespace(pod.Namespace)
	p := ns.pods[pod.Name]
	if p == nil {
		p = &podState{}
		c.mu.Lock()
		ns.pods[pod.Name] = p
		c.mu.Unlock()
		c.version.Add(1)
	}
	p.pod = pod
	c.update(ns, p)
}

func (c *cluster) deletePod(namespace, name string) {
	ns := c.namespaces[namespace]
	if ns == nil || ns.pods[name] == nil {
		return
	}
	p := ns.pods[name]
	c.mu.Lock()
	delete(ns.pods, name)
	c.mu.Unlock()
	c.version.Add(1)
	for i := range p.targets {
		c.sink.Remove(p.targets[i].ID)
	}
	c.tidy(namespace)
}

func (c *cluster) setService(s *corev1.Service) {
	ns := c.namespace(s.Namespace)
	next := newService(s)
	at, found := ns.service(s.Name)
	before := labels.Nothing()
	if found {
		before = ns.services[at].selector
		ns.services[at] = next
	} else {
		ns.services = slices.Insert(ns.services, at, next)
	}
	c.updateSelected(ns, before, next.selector)
}

func (c *cluster) deleteService(namespace, name string) {
	ns := c.namespaces[namespace]
	if ns == nil {
		return
	}
	at, found := ns.service(name)
	if !found {
		return
	}
	before := ns.services[at].selector
	ns.services = slices.Delete(ns.services, at, at+1)
	c.updateSelected(ns, before)
	c.tidy(namespace)
}

func (ns *namespace) service(name string) (at int, found bool) {
	return slices.BinarySearchFunc(ns.services, name, func(s *service, name string) int { return strings.Compare(s.Name, name) })
}

// setMonitor takes a monitor, or removes it where there is none any more.
func (c *cluster) setMonitor(id monitorID, next *monitor) {
	before := c.monitors[id]
	if before == nil && next == nil {
		return
	}
	same := func(o *monitor) bool { return o == before }
	c.anywhere = slices.DeleteFunc(c.anywhere, same)
	for _, ns := range c.namespaces {
		ns.monitors = slices.DeleteFunc(ns.monitors, same)
	}
	delete(c.monitors, id)
	if next != nil {
		next.resolve(c.objects)
		c.monitors[id] = next
		c.logMistakes(next)
		if next.any {
			c.anywhere = insert(c.anywhere, next)
		} else {
			for _, name := range next.namespaces {
				if ns := c.namespaces[name]; ns != nil {
					ns.monitors = insert(ns.monitors, next)
				}
			}
		}
	}
	c.forget()
	c.updateMonitored(before, next)
}

func insert(list []*monitor, m *monitor) []*monitor {
	at, found := slices.BinarySearchFunc(list, m, func(a, b *monitor) int { return a.compare(b.monitorID) })
	if found {
		return list // named twice
	}
	return slices.Insert(list, at, m)
}

// references returns what monitors refer to.
func (c *cluster) references() map[objectID]bool {
	out := map[objectID]bool{}
	for _, monitor := range c.monitors {
		for _, e := range monitor.endpoints {
			for _, r := range e.credentials {
				out[r.object] = true
			}
		}
	}
	return out
}

// forget drops the content of what no monitor refers to any more.
func (c *cluster) forget() {
	if len(c.objects) > 0 {
		wanted := c.references()
		maps.DeleteFunc(c.objects, func(id objectID, _ content) bool { return !wanted[id] })
	}
}

// setObject takes what a Secret or ConfigMap says now.
func (c *cluster) setObject(id objectID, next content) {
	if old, ok := c.objects[id]; ok && maps.Equal(old.data, next.data) && text(old.err) == text(next.err) {
		return
	}
	c.objects[id] = next
	for _, monitor := range c.monitors {
		if monitor.refersTo(id) {
			monitor.resolve(c.objects)
			c.logMistakes(monitor)
			c.updateMonitored(monitor)
		}
	}
}

func (m *monitor) refersTo(id objectID) bool {
	return slices.ContainsFunc(m.endpoints, func(e *endpoint) bool {
		return slices.ContainsFunc(e.credentials, func(r reference) bool { return r.object == id })
	})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// updateSelected updates the pods of a namespace that any of the selectors selects.
func (c *cluster) updateSelected(ns *namespace, selectors ...labels.Selector) {
	if !c.started {
		return
	}
	for _, p := range ns.pods {
		if slices.ContainsFunc(selectors, func(s labels.Selector) bool { return s.Matches(labels.Set(p.pod.Labels)) }) {
			c.update(ns, p)
		}
	}
}

// updateMonitored updates the pods that any of the monitors selects; some of them may be nil.
func (c *cluster) updateMonitored(monitors ...*monitor) {
	if !c.started {
		return
	}
	for name, ns := range c.namespaces {
		var selectors []labels.Selector
		for _, monitor := range monitors {
			if monitor == nil || !monitor.inNamespace(name) {
				continue
			}
			if monitor.kind == monitoringv1.PodMonitorsKind {
				selectors = append(selectors, monitor.selector)
				continue
			}
			for _, s := range ns.services {
				if monitor.selector.Matches(labels.Set(s.Labels)) {
					selectors = append(selectors, s.selector)
				}
			}
		}
		if len(selectors) > 0 {
			c.updateSelected(ns, selectors...)
		}
	}
}

// update computes what follows for one pod, and tells those whom it concerns.
func (c *cluster) update(ns *namespace, p *podState) {
	if !c.started {
		return
	}
	around := surroundings{trusted: c.trusted, annotated: c.annotated, monitors: c.anywhere}
	if len(ns.monitors) > 0 {
		around.monitors = slices.Concat(c.anywhere, ns.monitors)
		slices.SortFunc(around.monitors, func(a, b *monitor) int { return a.compare(b.monitorID) })
	}
	next := view{Pod: metric.Pod{
		Node: p.pod.Spec.NodeName, Deployment: deployment(p.pod), Loading: Loading(p.pod), Over: over(p.pod),
	}}
	for _, s := range ns.services {
		if s.selector.Matches(labels.Set(p.pod.Labels)) {
			around.services = append(around.services, s)
			next.Services = append(next.Services, s.Name)
		}
	}
	targets, reasons := around.targets(p.pod)
	if len(targets) == 0 {
		next.why = because(reasons)
	}
	c.logAnnotation(p.pod, reasons)
	c.publish(p, next)
	c.emit(p.targets, targets)
	p.targets = targets
}

// publish shows readers the view.
func (c *cluster) publish(p *podState, next view) {
	before := p.view
	same := before.Node == next.Node && before.Deployment == next.Deployment && before.Loading == next.Loading &&
		before.Over == next.Over && slices.Equal(before.Services, next.Services)
	if same && before.why == next.why {
		return
	}
	c.mu.Lock()
	p.view = next
	c.mu.Unlock()
	if !same {
		c.version.Add(1)
	}
}

// emit tells the sink what changed; both lists are short.
func (c *cluster) emit(before, after []Target) {
	for i := range before {
		if !slices.ContainsFunc(after, func(t Target) bool { return t.ID == before[i].ID }) {
			c.sink.Remove(before[i].ID)
		}
	}
	for i := range after {
		if !slices.ContainsFunc(before, after[i].Equal) {
			c.sink.Add(after[i])
		}
	}
}

// deployment returns the Deployment that owns the pod. Its ReplicaSet's name is the Deployment's and the hash that the pod
// bears as a label, so no ReplicaSet need be read.
func deployment(pod *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(pod)
	hash := pod.Labels[deploymentHash]
	if owner == nil || owner.Kind != "ReplicaSet" || !strings.HasPrefix(owner.APIVersion, "apps/") || hash == "" {
		return ""
	}
	name, ok := strings.CutSuffix(owner.Name, "-"+hash)
	if !ok {
		return ""
	}
	return name
}

func over(pod *corev1.Pod) string {
	switch {
	case pod.DeletionTimestamp != nil:
		return ErrTerminating.Error()
	case ended(pod):
		return ErrEnded.Error()
	}
	return ""
}

// look returns the view of a pod.
func (c *cluster) look(namespace, name string) (view, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ns := c.namespaces[namespace]
	if ns == nil || ns.pods[name] == nil {
		return view{}, false
	}
	return ns.pods[name].view, true
}
