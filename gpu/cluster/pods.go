package cluster

import (
	"slices"
	"strings"
	"sync"

	"headroom.dev/headroom/gpu"
)

// podIndex finds the owner of a container.
type podIndex struct {
	mu    sync.RWMutex
	byUID map[string]*podEntry
	// static has static pods by the hash of their manifest, which their cgroups bear instead of the UID. Anybody may write
	// the annotations that say so: a hash that two pods claim finds none of them, and a UID comes before a hash.
	static map[string][]*podEntry
}

// podEntry is what is kept of a pod.
type podEntry struct {
	owner      gpu.Owner // Container is the name of the only container, empty where there are several
	containers []containerEntry
	hashes     []string // of a static pod, distinct
}

type containerEntry struct {
	id, name string
}

func newPodIndex() *podIndex {
	return &podIndex{byUID: map[string]*podEntry{}, static: map[string][]*podEntry{}}
}

// find returns the owner; see Node.Container.
func (x *podIndex) find(uid, containerID string) (gpu.Owner, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	e := x.byUID[uid]
	if e == nil {
		claims := x.static[uid]
		if len(claims) != 1 {
			return gpu.Owner{}, false
		}
		e = claims[0]
	}
	if containerID == "" {
		return e.owner, true
	}
	for i := range e.containers {
		if c := &e.containers[i]; c.id == containerID {
			return gpu.Owner{Namespace: e.owner.Namespace, Pod: e.owner.Pod, Container: c.name}, true
		}
	}
	if e.owner.Container == "" {
		return gpu.Owner{}, false
	}
	return e.owner, true
}

func (x *podIndex) put(obj any) {
	p := obj.(*pod)
	e := entryOf(p)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop(p.Metadata.UID)
	x.add(p.Metadata.UID, e)
}

func (x *podIndex) remove(obj any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop(obj.(*pod).Metadata.UID)
}

func (x *podIndex) replace(objects []any) {
	next := newPodIndex()
	for _, obj := range objects {
		p := obj.(*pod)
		next.add(p.Metadata.UID, entryOf(p))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.byUID, x.static = next.byUID, next.static
}

func (x *podIndex) add(uid string, e *podEntry) {
	x.byUID[uid] = e
	for _, hash := range e.hashes {
		x.static[hash] = append(x.static[hash], e)
	}
}

func (x *podIndex) drop(uid string) {
	e := x.byUID[uid]
	if e == nil {
		return
	}
	delete(x.byUID, uid)
	for _, hash := range e.hashes {
		rest := slices.DeleteFunc(x.static[hash], func(other *podEntry) bool { return other == e })
		if len(rest) == 0 {
			delete(x.static, hash)
		} else {
			x.static[hash] = rest
		}
	}
}

func entryOf(p *pod) *podEntry {
	e := &podEntry{owner: gpu.Owner{Namespace: p.Metadata.Namespace, Pod: p.Metadata.Name, Container: only(p)}}
	for _, statuses := range [][]containerStatus{p.Status.Containers, p.Status.InitContainers, p.Status.EphemeralContainers} {
		for i := range statuses {
			if _, id, ok := strings.Cut(statuses[i].ContainerID, "://"); ok && id != "" {
				e.containers = append(e.containers, containerEntry{id: id, name: statuses[i].Name})
			}
		}
	}
	if mirror := p.Metadata.Annotations.ConfigMirror; mirror != "" {
		e.hashes = append(e.hashes, mirror)
		if hash := p.Metadata.Annotations.ConfigHash; hash != "" && hash != mirror {
			e.hashes = append(e.hashes, hash)
		}
	}
	return e
}

// only returns the name of the pod's only container, "" where it has several. An init container that has done its work
// and an ephemeral one that has ended run no more.
func only(p *pod) string {
	name, n := "", 0
	count := func(c *container) { name, n = c.Name, n+1 }
	for i := range p.Spec.Containers {
		count(&p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if code, ended := exit(p.Status.InitContainers, c.Name); c.RestartPolicy == "Always" || !ended || code != 0 {
			count(c)
		}
	}
	for i := range p.Spec.EphemeralContainers {
		c := &p.Spec.EphemeralContainers[i]
		if _, ended := exit(p.Status.EphemeralContainers, c.Name); !ended {
			count(c)
		}
	}
	if n != 1 {
		return ""
	}
	return name
}

// exit returns the exit code of a container that has ended.
func exit(statuses []containerStatus, name string) (code int, ended bool) {
	for i := range statuses {
		if s := &statuses[i]; s.Name == name && s.State.Terminated != nil {
			return s.State.Terminated.ExitCode, true
		}
	}
	return 0, false
}
