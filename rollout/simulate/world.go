// Package simulate runs rollouts in virtual time: a Deployment controller that rolls, holds and scales as Kubernetes 1.37's does
// (in proportion while paused, by minReadySeconds, surge blind to pods that end), ReplicaSets, a scheduler with whole GPUs on
// nodes, pods that load, fail and drain, and a router. It exists to drive rollout.Next through faults faster than a cluster
// could, and checks what it must never do. A second is a tick; chance comes from a seed.
//
// StatefulSets and DaemonSets are there as well, and several workloads on one cluster that share a budget of GPUs (Fleet).
//
// What it does not model: a DaemonSet's maxSurge, volumes, disruption budgets, watch caches that lag behind writes, and more than
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
	ordinal  int // of a StatefulSet
	home     int // the node of a DaemonSet's; -1: any
	node     int // -1: none
	created  int
	bound    int
	ready    int // since when, -1: not
	deleted  int // -1: not
}

// World is one workload of a cluster.
type World struct {
	Kind     rollout.Kind
	Serial   bool // a StatefulSet's podManagementPolicy is OrderedReady
	Fields   rollout.Fields
	Template string
	Replicas int
	GPUs     int // of a pod
	Drain    int // seconds

	Behavior map[string]Behavior
	Default  Behavior

	// Weight is the router's share for the new version, Match what goes to it besides, Stable what routers and records have as stable.
	Weight  float64
	Match   string
	Stable  string
	Deleted bool
	Writers map[string]string
	// Asleep is until when the Deployment controller does nothing.
	Asleep int

	cluster    *Cluster
	pods       []*pod
	sets       []*replicaSet
	current    string // of a StatefulSet: status.currentRevision
	generation int
	observed   int
}

// Setup is what a workload is when its world begins.
type Setup struct {
	Kind     rollout.Kind // default Deployment; a DaemonSet has a replica per node
	Serial   bool
	Replicas int
	GPUs     int // of a pod
	Drain    int // seconds
	MinReady int // the user's minReadySeconds
	Default  Behavior
}

// New is a Deployment whose replicas are Ready, alone on nodes with so many GPUs each.
func New(replicas, gpus, drain int, def Behavior, nodes []int) *World {
	return NewCluster(nodes...).Add(Setup{Replicas: replicas, GPUs: gpus, Drain: drain, Default: def})
}

// Add is a workload on the cluster, whose replicas have been Ready for long.
func (c *Cluster) Add(s Setup) *World {
	w := &World{
		Kind: s.Kind, Serial: s.Serial, Template: "v1", current: "v1", Replicas: s.Replicas, GPUs: s.GPUs, Drain: s.Drain, Default: s.Default,
		Behavior: map[string]Behavior{}, Writers: map[string]string{}, cluster: c,
		Fields: rollout.Fields{MinReadySeconds: s.MinReady, ProgressDeadline: 600, Surge: "25%", Unavailable: "25%"},
	}
	c.worlds = append(c.worlds, w)
	switch s.Kind {
	case rollout.StatefulSet, rollout.DaemonSet:
		w.Fields.ProgressDeadline, w.Fields.Surge, w.Fields.Unavailable = 0, "", "1"
		if s.Kind == rollout.DaemonSet {
			w.Replicas = len(c.nodes)
		}
		for i := range w.Replicas {
			p := w.add("v1")
			if p.ordinal = i; s.Kind == rollout.DaemonSet {
				p.home = i
			}
		}
	default:
		w.Kind = rollout.Deployment
		w.scaleTo(w.create(), w.Replicas, true)
		w.replicaSets()
	}
	c.schedule()
	for _, p := range w.pods {
		if p.node >= 0 {
			p.ready = c.now - s.Default.Load - s.MinReady - 2
		}
	}
	w.replicaSets()
	return w
}

// Cluster is where it runs.
func (w *World) Cluster() *Cluster { return w.cluster }

// Now is the virtual time.
func (w *World) Now() time.Time { return w.cluster.Now() }

// Tick lets a second pass, on all of the cluster.
func (w *World) Tick() { w.cluster.Tick() }

// Lose takes GPUs of a node away; pods that no longer fit are gone at once. Negative gives them back.
func (w *World) Lose(node, gpus int) { w.cluster.Lose(node, gpus) }

// Take lets others hold GPUs of a node, up to what is free; negative gives them back.
func (w *World) Take(node, gpus int) { w.cluster.Take(node, gpus) }

// control lets the controllers of its kind act.
func (w *World) control() {
	w.replicaSets()
	if w.Deleted {
		for _, p := range w.pods {
			w.remove(p)
		}
	}
	if w.Deleted || w.cluster.now < w.Asleep {
		return
	}
	switch w.Kind {
	case rollout.StatefulSet:
		w.syncStateful()
	case rollout.DaemonSet:
		w.syncDaemon()
	case rollout.Deployment:
		w.syncDeployment()
		w.replicaSets()
	}
}

// add makes a pod.
func (w *World) add(template string) *pod {
	p := &pod{template: template, home: -1, node: -1, created: w.cluster.now, ready: -1, deleted: -1}
	w.pods = append(w.pods, p)
	return p
}

// remove deletes a pod, which then drains.
func (w *World) remove(p *pod) {
	if p.deleted < 0 {
		p.deleted, p.ready = w.cluster.now, -1
	}
}

// kubelet makes pods Ready, and lets deleted ones leave.
func (w *World) kubelet() {
	kept := w.pods[:0]
	for _, p := range w.pods {
		if p.deleted >= 0 && (p.node < 0 || w.cluster.now >= p.deleted+w.Drain) {
			continue
		}
		b := w.behavior(p.template)
		if p.deleted < 0 && p.node >= 0 && p.ready == -1 && !b.Crash && !b.NeverReady && w.cluster.now >= p.bound+b.Load {
			p.ready = w.cluster.now
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

// Placeable is how many more pods of the Deployment fit now.
func (w *World) Placeable() int {
	n := 0
	for i := range w.cluster.nodes {
		n += max(0, w.cluster.free(i)) / w.GPUs
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
			own = append(own, w.add(r.template))
		}
		if len(own) > want {
			sort.SliceStable(own, func(i, j int) bool { return own[i].before(own[j]) })
			for _, p := range own[:len(own)-want] {
				w.remove(p)
			}
			own = own[len(own)-want:]
		}
		r.available = 0
		for _, p := range own {
			if p.serves() && (r.minReady == 0 || w.cluster.now-p.ready >= r.minReady) {
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

// Held is how many replicas' worth of GPUs pods hold that are not ending.
func (w *World) Held() int {
	n := 0
	for _, p := range w.pods {
		if p.node >= 0 && p.deleted < 0 {
			n++
		}
	}
	return n
}

// Spec is what a version's ReplicaSet asks for.
func (w *World) Spec(template string) int {
	if w.Kind != rollout.Deployment {
		return w.version(template).Replicas
	}
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
		w.Weight, w.Match = a.Weight, a.Match
	case rollout.Finish:
		w.Stable, w.Weight, w.Match = a.Stable, 0, ""
	case rollout.Yield:
		w.yield(a.Template)
	case rollout.Clean:
		w.Stable, w.Weight, w.Match = "", 0, ""
	}
}

// yield deletes the Ready pod of the highest ordinal of a template.
func (w *World) yield(template string) {
	var last *pod
	for _, p := range w.pods {
		if p.template == template && p.serves() && (last == nil || p.ordinal > last.ordinal) {
			last = p
		}
	}
	if last != nil {
		w.remove(last)
	}
}

// Unblock deletes the pods that a StatefulSet in OrderedReady would wait for for ever before it replaces them: those from the
// partition on that are of another template and not Ready. The callers of Next do so while it moves or goes back.
func (w *World) Unblock() {
	if w.Kind != rollout.StatefulSet || !w.Serial || w.Fields.OnDelete || w.observed != w.generation {
		return
	}
	for _, p := range w.pods {
		if p.template != w.Template && p.ordinal >= w.Fields.Partition && p.ordinal < w.Replicas && !p.serves() {
			w.remove(p)
		}
	}
}

// Observe is what a controller sees.
func (w *World) Observe(router bool) rollout.Observation {
	o := rollout.Observation{Versions: map[string]rollout.Version{}, Stable: w.Stable}
	if router {
		weight := w.Weight
		o.Weight, o.Match = &weight, w.Match
	}
	if w.Deleted {
		return o
	}
	writers := map[string]string{}
	maps.Copy(writers, w.Writers)
	o.Workload = &rollout.Workload{UID: "uid", Replicas: w.Replicas, Template: w.Template, Fields: w.Fields, Synced: w.observed == w.generation, Writers: writers}
	for _, r := range w.sets {
		v := w.version(r.template)
		v.Replicas = r.spec
		o.Versions[r.template] = v
	}
	for _, p := range w.pods {
		if _, ok := o.Versions[p.template]; !ok && p.deleted < 0 {
			o.Versions[p.template] = w.version(p.template)
		}
	}
	return o
}

// version counts the pods of a template that are not being deleted.
func (w *World) version(template string) rollout.Version {
	var v rollout.Version
	seconds := func(since int) time.Duration { return time.Duration(w.cluster.now-since) * time.Second }
	for _, p := range w.pods {
		if p.template != template || p.deleted >= 0 {
			continue
		}
		v.Replicas++
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
