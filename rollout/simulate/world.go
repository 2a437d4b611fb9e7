// Package simulate runs rollouts in virtual time: a Deployment controller that rolls, holds and scales as Kubernetes 1.37's does
// (in proportion while paused, by minReadySeconds, surge blind to pods that end), ReplicaSets, a scheduler with whole GPUs on
// nodes, pods that load, fail and drain, and a router. It exists to drive rollout.Next through faults faster than a cluster
// could, and checks what it must never do. A second is a tick; chance comes from a seed.
//
// What it does not model: DaemonSets and StatefulSets, disruption budgets, watch caches that lag behind writes, and more than
// one container per pod.
package simulate

import (
	"maps"
	"sort"
	"time"

	"headroom.dev/headroom/rollout"
)

// Behavior is how the pods of a version behave.
type Behavior struct {
	Load       int // seconds from a GPU to Ready
	Crash      bool
	NeverReady bool
}

// pod is one of the Deployment's, or somebody else's that holds GPUs.
type pod struct {
	template string
	node     int // -1: none
	created  int
	bound    int
	ready    int // since when, -1: not
	deleted  int // -1: not
}

// World is a cluster with one Deployment.
type World struct {
	Fields   rollout.Fields
	Template string
	Replicas int
	GPUs     int // of a pod
	Drain    int // seconds

	Behavior map[string]Behavior
	Default  Behavior

	// Weight is the router's share for the new version, Stable what routers and records have as stable.
	Weight  float64
	Stable  string
	Deleted bool
	Writers map[string]string
	// Asleep is until when the Deployment controller does nothing.
	Asleep int

	nodes      []int // GPUs of each
	taken      []int // by others
	pods       []*pod
	sets       []*replicaSet
	now        int
	generation int
	observed   int
}

// New is a world in which the Deployment's replicas are Ready, on nodes with so many GPUs each.
func New(replicas, gpus, drain int, def Behavior, nodes []int) *World {
	w := &World{
		Fields:   rollout.Fields{ProgressDeadline: 600, Surge: "25%", Unavailable: "25%"},
		Template: "v1", Replicas: replicas, GPUs: gpus, Drain: drain, Default: def, Behavior: map[string]Behavior{}, Writers: map[string]string{},
		nodes: append([]int(nil), nodes...), taken: make([]int, len(nodes)),
	}
	r := w.create()
	w.scaleTo(r, replicas, true)
	w.replicaSets()
	w.schedule()
	for _, p := range w.pods {
		if p.node >= 0 {
			p.ready = -def.Load
		}
	}
	w.replicaSets()
	return w
}

// epoch is the moment of second 0: an arbitrary Monday.
func epoch() time.Time { return time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC) }

// Now is the virtual time.
func (w *World) Now() time.Time { return epoch().Add(time.Duration(w.now) * time.Second) }

// Tick lets a second pass.
func (w *World) Tick() {
	w.now++
	w.kubelet()
	w.schedule()
	w.replicaSets()
	if !w.Deleted && w.now >= w.Asleep {
		w.syncDeployment()
		w.replicaSets()
	}
	w.schedule()
}

// kubelet makes pods Ready, and lets deleted ones leave.
func (w *World) kubelet() {
	kept := w.pods[:0]
	for _, p := range w.pods {
		if p.deleted >= 0 && (p.node < 0 || w.now >= p.deleted+w.Drain) {
			continue
		}
		b := w.behavior(p.template)
		if p.deleted < 0 && p.node >= 0 && p.ready < 0 && !b.Crash && !b.NeverReady && w.now >= p.bound+b.Load {
			p.ready = w.now
		}
		kept = append(kept, p)
	}
	w.pods = kept
}

func (w *World) behavior(template string) Behavior {
	if b, ok := w.Behavior[template]; ok {
		return b
	}
	return w.Default
}

// free is how many GPUs of a node nobody uses.
func (w *World) free(node int) int {
	n := w.nodes[node] - w.taken[node]
	for _, p := range w.pods {
		if p.node == node {
			n -= w.GPUs
		}
	}
	return n
}

// schedule binds pods that wait, the oldest first, to the fullest node that takes them.
func (w *World) schedule() {
	free := make([]int, len(w.nodes))
	waiting := false
	for _, p := range w.pods {
		waiting = waiting || p.node < 0 && p.deleted < 0
	}
	if !waiting {
		return
	}
	for i := range free {
		free[i] = w.free(i)
	}
	for _, p := range w.pods {
		if p.node >= 0 || p.deleted >= 0 {
			continue
		}
		best := -1
		for i, f := range free {
			if f >= w.GPUs && (best < 0 || f < free[best]) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		p.node, p.bound = best, w.now
		free[best] -= w.GPUs
	}
}

// Placeable is how many more pods of the Deployment fit now.
func (w *World) Placeable() int {
	n := 0
	for i := range w.nodes {
		n += max(0, w.free(i)) / w.GPUs
	}
	return n
}

// replicaSets creates and deletes pods, those first that serve least, and counts available ones.
func (w *World) replicaSets() {
	for _, r := range w.sets {
		var own []*pod
		for _, p := range w.pods {
			if p.template == r.template && p.deleted < 0 {
				own = append(own, p)
			}
		}
		want := r.spec
		if w.Deleted {
			want = 0
		}
		for range want - len(own) {
			p := &pod{template: r.template, node: -1, created: w.now, ready: -1, deleted: -1}
			w.pods, own = append(w.pods, p), append(own, p)
		}
		if len(own) > want {
			sort.SliceStable(own, func(i, j int) bool { return own[i].before(own[j]) })
			for _, p := range own[:len(own)-want] {
				p.deleted, p.ready = w.now, -1
			}
			own = own[len(own)-want:]
		}
		r.available = 0
		for _, p := range own {
			if p.serves() && (r.minReady == 0 || w.now-p.ready >= r.minReady) {
				r.available++
			}
		}
	}
}

func (p *pod) serves() bool { return p.deleted < 0 && p.node >= 0 && p.ready != -1 }

// before says which of two pods a ReplicaSet gives up first.
func (p *pod) before(q *pod) bool {
	switch {
	case (p.node < 0) != (q.node < 0):
		return p.node < 0
	case p.serves() != q.serves():
		return !p.serves()
	default:
		return p.created > q.created
	}
}

// Ready counts the Ready pods of a version; "" for all.
func (w *World) Ready(template string) int {
	n := 0
	for _, p := range w.pods {
		if p.serves() && (template == "" || p.template == template) {
			n++
		}
	}
	return n
}

// Used is how many replicas' worth of GPUs the Deployment's pods hold, those that end included.
func (w *World) Used() int {
	n := 0
	for _, p := range w.pods {
		if p.node >= 0 {
			n++
		}
	}
	return n
}

// Spec is what a version's ReplicaSet asks for.
func (w *World) Spec(template string) int {
	if r := w.find(template); r != nil {
		return r.spec
	}
	return 0
}

// Scale writes spec.replicas, as an HPA does.
func (w *World) Scale(n int) {
	if n != w.Replicas {
		w.Replicas = n
		w.generation++
	}
}

// Write changes the Deployment as somebody else.
func (w *World) Write(writer string, f rollout.Fields, template string) {
	names := []string{"paused", "minReadySeconds", "progressDeadlineSeconds", "maxSurge", "maxUnavailable", "template"}
	for _, n := range names {
		w.Writers[n] = writer
	}
	w.patch(f, template)
}

func (w *World) patch(f rollout.Fields, template string) {
	if template == "" {
		template = w.Template
	}
	if w.Fields != f || w.Template != template {
		w.Fields, w.Template = f, template
		w.generation++
	}
}

// Apply carries out an action of Next.
func (w *World) Apply(a rollout.Action) {
	switch a := a.(type) {
	case rollout.Patch:
		if !w.Deleted {
			w.patch(a.Fields, a.Template)
			clear(w.Writers)
		}
	case rollout.SetWeight:
		w.Weight = a.Weight
	case rollout.Finish:
		w.Stable, w.Weight = a.Stable, 0
	case rollout.Clean:
		w.Stable, w.Weight = "", 0
	}
}

// Lose takes GPUs of a node away; pods that no longer fit are gone at once. Negative gives them back.
func (w *World) Lose(node, gpus int) {
	w.nodes[node] = max(0, w.nodes[node]-gpus)
	kept := w.pods[:0]
	over := max(0, -w.free(node))
	for _, p := range w.pods {
		if p.node == node && over > 0 {
			over -= w.GPUs
			continue
		}
		kept = append(kept, p)
	}
	w.pods = kept
}

// Take lets others hold GPUs of a node, up to what is free; negative gives them back.
func (w *World) Take(node, gpus int) {
	w.taken[node] = max(0, w.taken[node]+min(gpus, max(0, w.free(node))))
}

// Observe is what a controller sees.
func (w *World) Observe(router bool) rollout.Observation {
	o := rollout.Observation{Versions: map[string]rollout.Version{}, Stable: w.Stable}
	if router {
		weight := w.Weight
		o.Weight = &weight
	}
	if w.Deleted {
		return o
	}
	writers := map[string]string{}
	maps.Copy(writers, w.Writers)
	o.Workload = &rollout.Workload{UID: "uid", Replicas: w.Replicas, Template: w.Template, Fields: w.Fields, Synced: w.observed == w.generation, Writers: writers}
	for _, r := range w.sets {
		o.Versions[r.template] = w.version(r)
	}
	return o
}

func (w *World) version(r *replicaSet) rollout.Version {
	v := rollout.Version{Replicas: r.spec}
	seconds := func(since int) time.Duration { return time.Duration(w.now-since) * time.Second }
	for _, p := range w.pods {
		if p.template != r.template || p.deleted >= 0 {
			continue
		}
		switch {
		case p.node < 0:
			v.NoGPU++
			v.NoGPUFor = max(v.NoGPUFor, seconds(p.created))
		case p.serves():
			v.Ready++
		case w.behavior(p.template).Crash:
			v.Broken++
			v.BrokenFor = max(v.BrokenFor, seconds(p.bound))
		default:
			v.Loading++
			v.LoadingFor = max(v.LoadingFor, seconds(p.bound))
		}
	}
	return v
}
