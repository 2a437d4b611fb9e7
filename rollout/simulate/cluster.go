package simulate

import (
	"sort"
	"time"
)

// Cluster is nodes with whole GPUs that workloads share.
type Cluster struct {
	nodes  []int // GPUs of each
	taken  []int // by others
	worlds []*World
	now    int
}

// NewCluster is one with so many GPUs on each node.
func NewCluster(nodes ...int) *Cluster {
	return &Cluster{nodes: append([]int(nil), nodes...), taken: make([]int, len(nodes))}
}

// epoch is the moment of second 0: an arbitrary Monday.
func epoch() time.Time { return time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC) }

// Now is the virtual time.
func (c *Cluster) Now() time.Time { return epoch().Add(time.Duration(c.now) * time.Second) }

// Tick lets a second pass.
func (c *Cluster) Tick() {
	c.now++
	for _, w := range c.worlds {
		w.kubelet()
	}
	c.schedule()
	for _, w := range c.worlds {
		w.control()
	}
	c.schedule()
}

// free is how many GPUs of a node nobody uses.
func (c *Cluster) free(node int) int {
	n := c.nodes[node] - c.taken[node]
	for _, w := range c.worlds {
		for _, p := range w.pods {
			if p.node == node {
				n -= w.GPUs
			}
		}
	}
	return n
}

// waiting is a pod that no node has taken yet.
type waiting struct {
	*pod

	gpus int
}

// schedule binds pods that wait, the oldest first, to the fullest node that takes them.
func (c *Cluster) schedule() {
	var queue []waiting
	for _, w := range c.worlds {
		for _, p := range w.pods {
			if p.node < 0 && p.deleted < 0 {
				queue = append(queue, waiting{p, w.GPUs})
			}
		}
	}
	if len(queue) == 0 {
		return
	}
	sort.SliceStable(queue, func(i, j int) bool { return queue[i].created < queue[j].created })
	free := make([]int, len(c.nodes))
	for i := range free {
		free[i] = c.free(i)
	}
	for _, p := range queue {
		if node := p.place(free, p.gpus); node >= 0 {
			p.node, p.bound = node, c.now
			free[node] -= p.gpus
		}
	}
}

// place is the fullest node that takes a pod, -1 where none does. A DaemonSet's pod has one node only.
func (p *pod) place(free []int, gpus int) int {
	best := -1
	for i, f := range free {
		if f >= gpus && (best < 0 || f < free[best]) && (p.home < 0 || p.home == i) {
			best = i
		}
	}
	return best
}

// Lose takes GPUs of a node away; pods that no longer fit are gone at once. Negative gives them back.
func (c *Cluster) Lose(node, gpus int) {
	c.nodes[node] = max(0, c.nodes[node]-gpus)
	over := max(0, -c.free(node))
	for _, w := range c.worlds {
		kept := w.pods[:0]
		for _, p := range w.pods {
			if p.node == node && over > 0 {
				over -= w.GPUs
				continue
			}
			kept = append(kept, p)
		}
		w.pods = kept
	}
}

// Take lets others hold GPUs of a node, up to what is free; negative gives them back.
func (c *Cluster) Take(node, gpus int) {
	c.taken[node] = max(0, c.taken[node]+min(gpus, max(0, c.free(node))))
}
