package capacity

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelpers "k8s.io/component-helpers/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout/placement"
	"headroom.dev/headroom/rollout/placement/kube"
)

// view is the cluster at one moment. What comes from the cache is shared with it: nothing here is written to.
type view struct {
	snapshot *placement.Snapshot
	nodes    int
	held     []*corev1.Pod // that hold something
	waiting  []waiting
}

// waiting is a pod that has no node yet, and may get one any time.
type waiting struct {
	pod      *corev1.Pod
	priority int32
	requests placement.Resources
}

// reading is a pod as it was read at a resource version.
type reading struct {
	version string
	pod     placement.Pod
	holds   bool
	seen    uint64 // in which look
}

// read makes a view of the cluster, in one pass over the pods. Pods that have not changed since the last look are not read again:
// that is most of a look's time otherwise.
func (c *Client) read(ctx context.Context) (*view, error) {
	var nodes corev1.NodeList
	if err := c.Client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list nodes: %w", err)
	}
	var list corev1.PodList
	if err := c.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list pods: %w", err)
	}
	var namespaces corev1.NamespaceList
	if err := c.Client.List(ctx, &namespaces, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list namespaces: %w", err)
	}
	cluster := placement.Cluster{Namespaces: make(map[string]map[string]string, len(namespaces.Items)), Nodes: make([]placement.Node, len(nodes.Items))}
	for i := range namespaces.Items {
		cluster.Namespaces[namespaces.Items[i].Name] = namespaces.Items[i].Labels
	}
	unfit, err := c.unfit(ctx)
	if err != nil {
		return nil, err
	}
	for i := range nodes.Items {
		cluster.Nodes[i] = kube.Node(&nodes.Items[i])
		cluster.Nodes[i].Unfit = unfit[nodes.Items[i].Name]
	}
	v := &view{nodes: len(nodes.Items), held: make([]*corev1.Pod, 0, len(list.Items))}
	if cluster.Pods, err = c.readPods(v, list.Items); err != nil {
		return nil, err
	}
	if v.snapshot, err = placement.NewSnapshot(cluster); err != nil {
		return nil, fmt.Errorf("cannot tell what fits: %w", err)
	}
	return v, nil
}

func (c *Client) unfit(ctx context.Context) (map[string]map[string]int64, error) {
	if c.Unfit == nil {
		return nil, nil //nolint:nilnil // nobody says
	}
	unfit, err := c.Unfit(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot tell which devices are unfit: %w", err)
	}
	return unfit, nil
}

func (c *Client) readPods(v *view, list []corev1.Pod) ([]placement.Pod, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = make(map[types.UID]*reading, len(list))
	}
	c.looks++
	out := make([]placement.Pod, 0, len(list))
	for i := range list {
		p := &list[i]
		r, ok := c.known[p.UID]
		if !ok || r.version != p.ResourceVersion {
			pod, holds, err := kube.Pod(p)
			if err != nil {
				return nil, fmt.Errorf("cannot tell what fits: %w", err)
			}
			r = &reading{version: p.ResourceVersion, pod: pod, holds: holds}
			c.known[p.UID] = r
		}
		r.seen = c.looks
		switch {
		case r.holds:
			out = append(out, r.pod)
			v.held = append(v.held, p)
		case waits(p):
			v.waiting = append(v.waiting, waiting{p, priorityIn(p), requestsOf(p)})
		}
	}
	if len(c.known) > len(list) {
		maps.DeleteFunc(c.known, func(_ types.UID, r *reading) bool { return r.seen != c.looks })
	}
	return out, nil
}

// waits reports whether a pod that holds nothing may get a node.
func waits(p *corev1.Pod) bool {
	return p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed && p.DeletionTimestamp == nil && len(p.Spec.SchedulingGates) == 0
}

func priorityIn(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

func requestsOf(p *corev1.Pod) placement.Resources {
	out := placement.Resources{}
	for name, q := range resourcehelpers.PodRequests(p, resourcehelpers.PodResourcesOptions{}) {
		out[string(name)] = q.Value()
	}
	return out
}

// shapeOf is the shape of the new version's pods, but for their priority.
func shapeOf(n Need) (placement.Shape, error) {
	t := *n.Template
	t.Labels = labelsOf(n)
	s, err := kube.Shape(n.Namespace, &t, nil)
	if err != nil {
		return s, fmt.Errorf("spec.template: %w", err)
	}
	return s, nil
}

func labelsOf(n Need) map[string]string {
	out := make(map[string]string, len(n.Template.Labels)+len(n.Labels))
	maps.Copy(out, n.Template.Labels)
	maps.Copy(out, n.Labels)
	return out
}

// deviceOf names the device that a pod asks for: a GPU before anything else, then what it asks most of.
func deviceOf(requests placement.Resources) string {
	best := ""
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		if requests[name] == 0 || !extended(name) {
			continue
		}
		switch {
		case best == "", gpu(name) && !gpu(best), gpu(name) == gpu(best) && requests[name] > requests[best]:
			best = name
		}
	}
	return best
}

// GPUs are those that one pod of a template asks for, of the resource that Look would count. Nil, and what cannot be read, has none.
func GPUs(t *corev1.PodTemplateSpec) int {
	if t == nil {
		return 0
	}
	shape, err := shapeOf(Need{Template: t})
	if err != nil {
		return 0
	}
	return int(shape.Requests[deviceOf(shape.Requests)])
}

// extended reports whether a resource is one that device plugins and administrators bring.
func extended(name string) bool {
	domain, _, found := strings.Cut(name, "/")
	return found && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") && !strings.HasPrefix(name, corev1.ResourceHugePagesPrefix)
}

func gpu(name string) bool {
	return strings.HasPrefix(name, "nvidia.com/") || strings.HasPrefix(name, "amd.com/") || strings.HasPrefix(name, "gpu.intel.com/") ||
		strings.HasSuffix(name, "/gpu")
}

// owns reports whether a pod is the service's own, of whatever version: by its owner, or because it bears all labels of the template.
func (l *look) owns(p *corev1.Pod) bool {
	if p.Namespace != l.need.Namespace {
		return false
	}
	target := l.spec.TargetRef
	if o := metav1.GetControllerOfNoCopy(p); o != nil {
		if o.Kind == target.Kind && o.Name == target.Name {
			return true
		}
		// A Deployment names its ReplicaSets so.
		if o.Kind == "ReplicaSet" && target.Kind == "Deployment" && o.Name == target.Name+"-"+p.Labels[hashLabel] {
			return true
		}
	}
	if len(l.need.Template.Labels) == 0 {
		return false
	}
	for key, value := range l.need.Template.Labels {
		if got, ok := p.Labels[key]; key != hashLabel && (!ok || got != value) {
			return false
		}
	}
	return true
}

const hashLabel = "pod-template-hash"

// graceOf is how long a pod may take to end.
func graceOf(p *corev1.Pod) time.Duration {
	if p.Spec.TerminationGracePeriodSeconds == nil {
		return corev1.DefaultTerminationGracePeriodSeconds * time.Second
	}
	return time.Duration(*p.Spec.TerminationGracePeriodSeconds) * time.Second
}
