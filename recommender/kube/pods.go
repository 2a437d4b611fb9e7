package kube

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
)

// The labels by which controllers tell the versions of their pods apart.
const (
	templateHash = "pod-template-hash"        // Deployments
	revisionHash = "controller-revision-hash" // StatefulSets and DaemonSets
)

// resources are those whose samples are taken; the place of one is that of its last sample in a container.
const resources = 8

func placeOf(r recommender.Resource) int {
	switch r {
	case recommender.CPU:
		return 0
	case recommender.Memory:
		return 1
	case recommender.GPUMemory:
		return 2
	case recommender.GPUCompute:
		return 3
	case recommender.GPUTensor:
		return 4
	case recommender.KVCache:
		return 5
	case recommender.Queue:
		return 6
	case recommender.Preemptions:
		return 7
	}
	return -1
}

// pod is what is kept of a pod between passes.
type pod struct {
	version  string // of the object
	uid      types.UID
	seen     uint64 // the pass that last saw it
	workload *workload
	class    string
	created  int64     // seconds since 1970
	starting bool      // not Ready, and not since its containers began to run
	started  time.Time // when the last of its containers began its present run; zero while one does not run
	ready    time.Time // since when it is Ready; zero if it is not
	ended    bool

	containers []container
}

// container is what is kept of a container between passes.
type container struct {
	name string
	kind v1alpha1.ContainerType
	gpu  bool             // it has one, or a part of one
	oom  int64            // when the last kill that was counted happened, in seconds since 1970
	last [resources]int64 // when the newest sample was taken, in nanoseconds since 1970
}

func (p *pod) find(name string) *container {
	for i := range p.containers {
		if p.containers[i].name == name {
			return &p.containers[i]
		}
	}
	return nil
}

// follow makes p what the object says.
func (p *pod) follow(o *corev1.Pod) {
	p.version, p.uid, p.created = o.ResourceVersion, o.UID, o.CreationTimestamp.Unix()
	p.ended = o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed
	if len(p.containers) == 0 {
		p.containers = make([]container, 0, len(o.Spec.Containers)+len(o.Spec.InitContainers))
		each(o, func(c *corev1.Container, kind v1alpha1.ContainerType) {
			p.containers = append(p.containers, container{name: c.Name, kind: kind, gpu: hasGPU(c.Resources)})
		})
	}
	p.started = started(o)
	ready, since := readiness(o)
	p.ready = time.Time{}
	if ready {
		p.ready, p.starting = since, false
		return
	}
	// A pod that is Ready no more, and whose containers have not begun anew since, is in trouble: what it uses then counts.
	p.starting = p.started.IsZero() || !since.After(p.started)
}

// hasGPU says whether a container has a GPU, a part of one, or something of a claim.
func hasGPU(r corev1.ResourceRequirements) bool {
	for name := range r.Limits {
		if strings.HasPrefix(string(name), gpuPrefix) {
			return true
		}
	}
	return len(r.Claims) > 0
}

// gpuPrefix is that of the extended resources of NVIDIA's device plugin.
const gpuPrefix = "nvidia.com/"

// engine is the container of an inference engine, whose figures do not tell it; nil if that is not clear.
func (p *pod) engine() *container {
	i := engineAmong(len(p.containers), func(i int) (v1alpha1.ContainerType, bool) { return p.containers[i].kind, p.containers[i].gpu })
	if i < 0 {
		return nil
	}
	return &p.containers[i]
}

// engineAmong is which of n containers has the inference engine of a pod: the one that has GPUs, else the only one; -1 if that is not
// clear.
func engineAmong(n int, of func(i int) (kind v1alpha1.ContainerType, gpu bool)) int {
	found, several := -1, false
	for i := range n {
		switch kind, gpu := of(i); {
		case gpu:
			return i
		case kind == v1alpha1.TypeContainer:
			found, several = i, found >= 0
		}
	}
	if several {
		return -1
	}
	return found
}

// readiness says whether a pod is Ready, and since when it is or is not.
func readiness(o *corev1.Pod) (ready bool, since time.Time) {
	for i := range o.Status.Conditions {
		if c := &o.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue, c.LastTransitionTime.Time
		}
	}
	return false, since
}

// started is when the last of the pod's containers began its present run; zero while one does not run.
func started(o *corev1.Pod) time.Time {
	var last time.Time
	for i := range o.Status.ContainerStatuses {
		running := o.Status.ContainerStatuses[i].State.Running
		if running == nil {
			return time.Time{}
		}
		if running.StartedAt.After(last) {
			last = running.StartedAt.Time
		}
	}
	return last
}

// startup says whether a sample was taken before the pod served: it counts to the start alone.
func (p *pod) startup(kind v1alpha1.ContainerType, at time.Time) bool {
	if kind == v1alpha1.TypeInit || p.ended {
		return false // its run is all that there is
	}
	if !p.ready.IsZero() {
		return at.Before(p.ready) && !at.Before(p.started)
	}
	return p.starting
}

// each visits a pod's containers of all types, in the order of the spec.
func each(o *corev1.Pod, visit func(c *corev1.Container, kind v1alpha1.ContainerType)) {
	for i := range o.Spec.InitContainers {
		c := &o.Spec.InitContainers[i]
		kind := v1alpha1.TypeInit
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			kind = v1alpha1.TypeSidecar
		}
		visit(c, kind)
	}
	for i := range o.Spec.Containers {
		visit(&o.Spec.Containers[i], v1alpha1.TypeContainer)
	}
}

// versionOf tells versions of a workload's pods apart.
func versionOf(o *corev1.Pod) string {
	if v := o.Labels[templateHash]; v != "" {
		return v
	}
	if v := o.Labels[revisionHash]; v != "" {
		return v
	}
	var images []string
	each(o, func(c *corev1.Container, _ v1alpha1.ContainerType) { images = append(images, c.Image) })
	return strings.Join(images, " ")
}

// kill is one for want of memory.
type kill struct {
	container string
	at        time.Time
	limit     float64 // bytes: the limit, else the request, or what was used; 0 where none is known
	evicted   bool    // by the kubelet, not killed by the kernel
}

// kills are the kills that a pod's status tells of, oldest first.
func kills(o *corev1.Pod) []kill {
	var list []kill
	for _, statuses := range [][]corev1.ContainerStatus{o.Status.InitContainerStatuses, o.Status.ContainerStatuses} {
		for i := range statuses {
			for _, state := range []corev1.ContainerState{statuses[i].LastTerminationState, statuses[i].State} {
				if t := state.Terminated; t != nil && t.Reason == "OOMKilled" && !t.FinishedAt.IsZero() {
					list = append(list, kill{statuses[i].Name, t.FinishedAt.Time, memoryBound(o, statuses[i].Name), false})
				}
			}
		}
	}
	list = append(list, evictions(o)...)
	slices.SortStableFunc(list, func(a, b kill) int { return cmp.Compare(a.at.Unix(), b.at.Unix()) })
	return list
}

func memoryBound(o *corev1.Pod, name string) (bound float64) {
	each(o, func(c *corev1.Container, _ v1alpha1.ContainerType) {
		if c.Name != name {
			return
		}
		q, ok := c.Resources.Limits[corev1.ResourceMemory]
		if !ok {
			q = c.Resources.Requests[corev1.ResourceMemory]
		}
		bound = q.AsApproximateFloat64()
	})
	return bound
}

// evicted is how the kubelet words the use of a container in the message of an eviction:
// "The node was low on resource: memory. … Container web was using 300Mi, request is 100Mi, has larger consumption of memory."
const evicted = `Container (\S+) was using ([0-9.]+[A-Za-z]*), request is ([0-9.]+[A-Za-z]*)`

// evictions are the containers that used more than they had requested when the kubelet evicted the pod for want of memory.
func evictions(o *corev1.Pod) []kill {
	if o.Status.Reason != "Evicted" || !strings.Contains(o.Status.Message, "low on resource: memory") {
		return nil
	}
	at := o.CreationTimestamp.Time
	for i := range o.Status.Conditions {
		if c := &o.Status.Conditions[i]; c.Type == corev1.DisruptionTarget {
			at = c.LastTransitionTime.Time
		}
	}
	var list []kill
	for _, m := range regexp.MustCompile(evicted).FindAllStringSubmatch(o.Status.Message, -1) {
		used, err := resource.ParseQuantity(m[2])
		requested, err2 := resource.ParseQuantity(m[3])
		if err == nil && err2 == nil && used.Cmp(requested) > 0 {
			list = append(list, kill{m[1], at, used.AsApproximateFloat64(), true})
		}
	}
	return list
}
