// Package devices plays the part of the kubelet's device manager and of NVIDIA's device plugin for one node: it gives the
// node's GPUs to the pods that ask for nvidia.com/gpu and tells who has which, in process and over the kubelet's
// pod-resources gRPC API.
//
// It guarantees: a device has at most one owner; a pod gets all that it asks for or nothing yet; the devices of a pod that
// is finished or forgotten are free at once, and no List names it any more.
package devices

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Resource is the extended resource that pods ask GPUs for.
const Resource = "nvidia.com/gpu"

// Manager owns the devices of one node. Its methods may be called from any goroutine.
type Manager struct {
	uuids []string // as the node numbers them

	mu      sync.Mutex
	arrived int // pods ever tracked
	pods    map[types.UID]*entry
	owner   map[string]types.UID // by device
}

type entry struct {
	order      int // of arrival
	namespace  string
	name       string
	containers []container
	granted    chan struct{} // closed when every container has what it asks for
	finished   bool
}

type container struct {
	name  string
	wants int
	has   []string
}

// New returns the manager of a node with those devices, all of them free.
func New(uuids []string) *Manager {
	return &Manager{uuids: slices.Clone(uuids), pods: map[types.UID]*entry{}, owner: map[string]types.UID{}}
}

// Track takes note of a pod on the node, as often as it is seen. A new pod's devices are given to it now, or as soon as
// enough are free; one in a terminal phase is finished.
func (m *Manager) Track(pod *corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.pods[pod.UID]; !known {
		m.arrived++
		e := &entry{order: m.arrived, namespace: pod.Namespace, name: pod.Name, granted: make(chan struct{})}
		for i := range pod.Spec.Containers {
			c := &pod.Spec.Containers[i]
			wants := c.Resources.Limits[Resource]
			e.containers = append(e.containers, container{name: c.Name, wants: int(wants.Value())})
		}
		m.pods[pod.UID] = e
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		m.finish(pod.UID)
	}
	m.grant()
}

// Finish frees the devices of a pod whose containers have ended for good. The pod gets none again.
func (m *Manager) Finish(pod types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finish(pod)
	m.grant()
}

// Forget finishes a pod that no longer exists and drops all memory of it.
func (m *Manager) Forget(pod types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finish(pod)
	delete(m.pods, pod)
	m.grant()
}

// Granted returns a channel that is closed once the pod has all the devices that it asks for. For a pod that is not
// tracked it is nil and blocks for ever.
func (m *Manager) Granted(pod types.UID) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.pods[pod]; e != nil {
		return e.granted
	}
	return nil
}

// Owners returns the pod that has each device; devices without an owner are absent.
func (m *Manager) Owners() map[string]types.UID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.owner)
}

func (m *Manager) finish(pod types.UID) {
	e := m.pods[pod]
	if e == nil {
		return
	}
	e.finished = true
	maps.DeleteFunc(m.owner, func(_ string, owner types.UID) bool { return owner == pod })
}

// grant serves the waiting pods in the order of their arrival. One that asks for more than is free holds nobody up: the
// scheduler has made sure that it fits, so what it waits for is the end of a pod that we still have to hear of.
func (m *Manager) grant() {
	var free []string
	for _, uuid := range m.uuids {
		if _, taken := m.owner[uuid]; !taken {
			free = append(free, uuid)
		}
	}
	for uid, e := range m.byArrival() {
		select {
		case <-e.granted:
			continue
		default:
		}
		wants := 0
		for _, c := range e.containers {
			wants += c.wants
		}
		if e.finished || wants > len(free) {
			continue
		}
		for i := range e.containers {
			c := &e.containers[i]
			c.has, free = free[:c.wants:c.wants], free[c.wants:]
			for _, uuid := range c.has {
				m.owner[uuid] = uid
			}
		}
		close(e.granted)
	}
}

func (m *Manager) byArrival() func(yield func(types.UID, *entry) bool) {
	uids := slices.SortedFunc(maps.Keys(m.pods), func(a, b types.UID) int { return cmp.Compare(m.pods[a].order, m.pods[b].order) })
	return func(yield func(types.UID, *entry) bool) {
		for _, uid := range uids {
			if !yield(uid, m.pods[uid]) {
				return
			}
		}
	}
}
