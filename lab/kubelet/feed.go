package kubelet

import (
	"context"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/gpu/nvmltest"
	"headroom.dev/headroom/lab/inference"
)

// DriverVersion is what the fake NVML library reports on every node.
const DriverVersion = "580.95.05"

const (
	feedEvery    = 250 * time.Millisecond
	feedWindow   = 4   // intervals over which utilisation is taken: 1 s, the longest that NVML documents
	reservedPart = 128 // 1/128 of a device's memory is the driver's
)

// gauge is a server's recent use of its GPUs.
type gauge struct {
	server  *inference.Server
	samples []busyAt // oldest first, at most feedWindow+1
}

type busyAt struct {
	at   time.Time
	busy time.Duration
}

// read samples the server and returns the share of the window that it was busy, 0 to 1, and the GPU memory it holds now.
// Another server than last time begins a new window.
func (g *gauge) read(server *inference.Server, now time.Time) (busy float64, memory int64) {
	if g.server != server {
		*g = gauge{server: server}
	}
	use := server.Usage()
	g.samples = append(g.samples, busyAt{now, use.Busy})
	g.samples = g.samples[max(0, len(g.samples)-feedWindow-1):]
	return share(g.samples), use.GPUMemoryBytes
}

func share(samples []busyAt) float64 {
	first, last := samples[0], samples[len(samples)-1]
	if !last.at.After(first.at) {
		return 0
	}
	return min(1, max(0, float64(last.busy-first.busy)/float64(last.at.Sub(first.at))))
}

// feed keeps the nodes' machine files: a device is as busy as the server of the simulated pod that owns it, and idle when
// any other pod or none does.
func (k *Kubelet) feed(ctx context.Context) error {
	gauges := map[types.UID]*gauge{}
	written := map[string][]nvmltest.Device{}
	ticker := time.NewTicker(feedEvery)
	defer ticker.Stop()
	for {
		seen := map[types.UID]bool{}
		for name, n := range k.nodes {
			found := k.devicesOf(n, gauges, seen)
			if old, ok := written[name]; ok && slices.Equal(old, found) {
				continue
			}
			machine := nvmltest.Machine{Driver: DriverVersion, Devices: found}
			if err := machine.WriteFile(n.machine); err != nil {
				return err
			}
			written[name] = found
		}
		for pod := range gauges {
			if !seen[pod] {
				delete(gauges, pod)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// devicesOf returns a node's devices as they are now. A model on several devices is spread evenly over their memory.
func (k *Kubelet) devicesOf(n *node, gauges map[types.UID]*gauge, seen map[types.UID]bool) []nvmltest.Device {
	owners := n.devices.Owners()
	owned := map[types.UID]int64{}
	for _, pod := range owners {
		owned[pod]++
	}
	type use struct {
		busy   float64
		memory int64
	}
	uses := map[types.UID]use{}
	for pod := range owned {
		w := k.worker(pod)
		if w == nil {
			continue
		}
		server := w.server.Load()
		if server == nil {
			continue
		}
		if gauges[pod] == nil {
			gauges[pod] = &gauge{}
		}
		seen[pod] = true
		busy, memory := gauges[pod].read(server, time.Now())
		uses[pod] = use{busy, memory / owned[pod]}
	}
	out := make([]nvmltest.Device, 0, len(n.GPUs))
	for _, g := range n.GPUs {
		u := uses[owners[g.UUID]]
		out = append(out, nvmltest.Device{
			UUID: g.UUID, Name: g.Model, MemoryTotalBytes: g.MemoryBytes,
			MemoryUsedBytes:    min(uint64(max(0, u.memory)), g.MemoryBytes-g.MemoryBytes/reservedPart),
			UtilizationPercent: uint(math.Round(100 * u.busy)),
		})
	}
	return out
}
