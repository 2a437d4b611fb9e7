package kube

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/recommender/accelerator"
)

// The labels of NVIDIA's feature discovery that say what GPUs a node has.
const (
	gpuProduct  = "nvidia.com/gpu.product"
	gpuCount    = "nvidia.com/gpu.count"
	gpuMemory   = "nvidia.com/gpu.memory" // MiB
	gpuReplicas = "nvidia.com/gpu.replicas"
)

// gpuNode is a node with GPUs, and who has them.
type gpuNode struct {
	name     string
	model    string
	count    int
	replicas int
	taken    []taken
}

// taken is what a pod requests of a node's GPUs.
type taken struct {
	by      workloadID // empty for pods of no workload that is asked about
	request accelerator.Request
}

// listRoom notes which nodes have GPUs, and what of them pods request.
func (c *Controller) listRoom(ctx context.Context) error {
	var nodes metav1.PartialObjectMetadataList
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	if err := c.opts.Client.List(ctx, &nodes, client.HasLabels{gpuProduct}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list nodes: %w", err)
	}
	room := map[string]*gpuNode{}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		count, err := strconv.Atoi(n.Labels[gpuCount])
		if err != nil || count <= 0 {
			continue
		}
		replicas, _ := strconv.Atoi(n.Labels[gpuReplicas]) // 0 where the GPUs are not shared
		room[n.Name] = &gpuNode{name: n.Name, model: n.Labels[gpuProduct], count: count, replicas: replicas}
	}
	if len(room) > 0 {
		var pods corev1.PodList
		if err := c.opts.Client.List(ctx, &pods, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("cannot list pods: %w", err)
		}
		for i := range pods.Items {
			c.takes(room, &pods.Items[i])
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gpus = room
	return nil
}

func (c *Controller) takes(room map[string]*gpuNode, o *corev1.Pod) {
	n := room[o.Spec.NodeName]
	if n == nil || o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed {
		return
	}
	var id workloadID
	if ref := controllerOf(o); ref != nil && c.owners.known[ref.UID] != nil {
		id = c.owners.known[ref.UID].top.id
	}
	for i := range o.Spec.Containers {
		if r := gpuRequest(o.Spec.Containers[i].Resources); r.Resource != "" {
			n.taken = append(n.taken, taken{id, r})
		}
	}
}

// room is what the nodes have for a workload: all GPUs, less what others request. Which GPU of a node a pod has, the API does not
// say; whole ones are taken to be the first.
func (c *Controller) room(id workloadID) []accelerator.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	var nodes []accelerator.Node
	for _, n := range c.gpus {
		nodes = append(nodes, n.without(id))
	}
	return nodes
}

func (n *gpuNode) without(id workloadID) accelerator.Node {
	out := accelerator.Node{Name: n.name, GPUs: make([]accelerator.GPU, n.count)}
	for i := range out.GPUs {
		out.GPUs[i] = accelerator.GPU{Name: strconv.Itoa(i), Model: n.model}
		if n.replicas > 1 {
			out.GPUs[i].Replicas = n.replicas
		}
	}
	m, _ := accelerator.Find(n.model)
	profiles := make([][]string, n.count)
	next := 0 // of the GPUs that nobody has a part of
	for _, t := range n.taken {
		if t.by == id && id.Name != "" {
			continue
		}
		profile, isMIG := strings.CutPrefix(t.request.Resource, gpuPrefix+"mig-")
		for range t.request.Count {
			switch {
			case isMIG:
				placeInstance(m, out.GPUs, profiles, strings.Replace(profile, "gb.me", "gb+me", 1))
			case n.replicas > 1:
				if g := freest(out.GPUs); g != nil {
					g.BusyReplicas++
				}
			case next < len(out.GPUs):
				out.GPUs[next].Busy = true
				next++
			}
		}
	}
	return out
}

// placeInstance puts an instance that somebody has on the last GPU that has room for it.
func placeInstance(m accelerator.Model, gpus []accelerator.GPU, profiles [][]string, profile string) {
	for i := len(gpus) - 1; i >= 0; i-- {
		if gpus[i].Busy {
			continue
		}
		if placed, ok := accelerator.Pack(m, nil, append(profiles[i], profile)); ok {
			profiles[i] = append(profiles[i], profile)
			for k := range placed {
				placed[k].Busy = true
			}
			gpus[i].MIG, gpus[i].Instances = true, placed
			return
		}
	}
}

func freest(gpus []accelerator.GPU) *accelerator.GPU {
	var best *accelerator.GPU
	for i := range gpus {
		if g := &gpus[i]; g.BusyReplicas < g.Replicas && (best == nil || g.BusyReplicas < best.BusyReplicas) {
			best = g
		}
	}
	return best
}
