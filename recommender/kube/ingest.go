package kube

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
)

// instanceType is the label that says a node's class.
const instanceType = "node.kubernetes.io/instance-type"

// future is how far ahead of the clock a sample may be: as far as the core allows.
const future = 10 * time.Minute

// take gives samples to the usages of their workloads.
func (c *Controller) take(namespace string, samples []recommender.Sample, now time.Time) {
	sp := c.spaces[namespace]
	if sp == nil {
		return // nobody asks about it
	}
	taken, refused := map[recommender.Resource]int{}, map[string]int{}
	for i := range samples {
		s := &samples[i]
		reason := "pod"
		if p := sp.pods[s.Container.Pod]; p != nil && s.Container.Namespace == namespace {
			reason = p.take(s, now)
		}
		switch reason {
		case "":
			taken[s.Resource]++
		case again:
		default:
			refused[reason]++
		}
	}
	for resource, n := range taken {
		c.metrics.samples.WithLabelValues(string(resource)).Add(float64(n))
	}
	for reason, n := range refused {
		c.metrics.refused.WithLabelValues(reason).Add(float64(n))
	}
}

// again is that a sample has been taken before: servers answer with their newest, however old it is.
const again = "again"

// take gives a sample to the usage of its container. It returns why not, "" if it was taken.
func (p *pod) take(s *recommender.Sample, now time.Time) string {
	place := placeOf(s.Resource)
	co := p.find(s.Container.Container)
	if s.Container.Container == "" {
		co = p.engine()
	}
	switch {
	case place < 0:
		return "resource"
	case co == nil:
		return "container"
	case co.last[place] == s.At.UnixNano():
		return again
	}
	co.last[place] = s.At.UnixNano()
	o := observation{
		key: recommender.Key{Container: co.name, Class: p.class, Resource: s.Resource}, at: s.At, value: s.Value, certainty: s.Certainty,
	}
	if p.startup(co.kind, s.At) && (s.Resource == recommender.CPU || s.Resource == recommender.Memory) {
		o.what = ofStartup
	}
	w := p.workload
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tell(o, now) {
		if co.kind == v1alpha1.TypeContainer {
			w.stock.add(s, p.uid)
		}
		return ""
	}
	switch {
	case math.IsNaN(s.Value) || math.IsInf(s.Value, 0):
		return "nan"
	case s.Value < 0:
		return "negative"
	case s.At.After(now.Add(future)):
		return "future"
	}
	return "old"
}

// follow notes what has changed in a pod: its state, its version, its kills.
func (c *Controller) follow(ctx context.Context, p *pod, o *corev1.Pod, now time.Time) {
	if p.version == o.ResourceVersion && p.version != "" {
		return
	}
	first := p.version == ""
	p.follow(o)
	n := c.node(ctx, o.Spec.NodeName)
	w := p.workload
	if w.id.perNode() {
		p.class = n.class
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saw(p.class, n.gpu)
	if first {
		w.arrived(o, now)
	}
	w.describe(o)
	for _, k := range kills(o) {
		co := p.find(k.container)
		if co == nil || k.limit <= 0 || k.at.Unix() <= co.oom {
			continue
		}
		co.oom = k.at.Unix()
		if k.at.After(w.keep.since) { // else the checkpoint has it
			key := recommender.Key{Container: k.container, Class: p.class, Resource: recommender.Memory}
			w.tell(observation{what: ofKill, key: key, at: k.at, value: k.limit}, now)
			if co.kind == v1alpha1.TypeContainer {
				w.stock.kill(o, k)
			}
		}
	}
}

// saw notes the GPUs of a pod's node.
func (w *workload) saw(class string, d device) {
	if d.model == "" || w.nodes[class] == d {
		return
	}
	if w.nodes == nil {
		w.nodes = map[string]device{}
	}
	w.nodes[class] = d
}

// arrived looks at the version of a pod that was not there before. Of two versions side by side the one whose newest pod is younger
// is the new one.
func (w *workload) arrived(o *corev1.Pod, now time.Time) {
	if o.CreationTimestamp.Time.Before(w.model) {
		return
	}
	v := versionOf(o)
	if w.versioned && v != w.version {
		w.tell(observation{what: ofVersion, at: o.CreationTimestamp.Time}, now)
	}
	w.version, w.versioned = v, true
}

// node is what is read of one.
type node struct {
	name  string
	class string // of DaemonSets
	gpu   device
}

// node returns what is known of a node; nothing if its name is empty or it is not there.
func (c *Controller) node(ctx context.Context, name string) node {
	if name == "" {
		return node{}
	}
	found := &metav1.PartialObjectMetadata{}
	found.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	if err := c.opts.Client.Get(ctx, client.ObjectKey{Name: name}, found); err != nil {
		c.opts.Log.Debug("a node is not known", "node", name, "err", err)
		return node{name: name}
	}
	n := node{name: name, class: found.Labels[instanceType], gpu: device{model: found.Labels[gpuProduct]}}
	// With the strategy "single" the labels are about instances, not about GPUs.
	if mib, err := strconv.ParseInt(found.Labels[gpuMemory], 10, 64); err == nil && mib > 0 && !strings.Contains(n.gpu.model, "-MIG-") {
		n.gpu.memory = mib << 20
	}
	return n
}
