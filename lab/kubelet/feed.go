package kubelet

import (
	"context"
	"math"
	"reflect"
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

// ringSpan is how far back a driver's ring of samples goes.
const ringSpan = 10 * time.Second

// gauge is a server's recent use of its GPUs.
type gauge struct {
	server  *inference.Server
	samples []busyAt              // oldest first, at most feedWindow+1
	ring    []nvmltest.RingSample // of the last ringSpan, oldest first; empty if all of it was idle
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
	g.sample(now)
	return share(g.samples), use.GPUMemoryBytes
}

// sample adds what was done since the last interval to the ring, as a driver does while kernels run.
func (g *gauge) sample(now time.Time) {
	percent := percentOf(share(g.samples[max(0, len(g.samples)-2):]))
	g.ring = append(g.ring, nvmltest.RingSample{Stamp: uint64(now.UnixMicro()), Percent: percent})
	g.ring = g.ring[max(0, len(g.ring)-int(ringSpan/feedEvery)):]
	if !slices.ContainsFunc(g.ring, func(s nvmltest.RingSample) bool { return s.Percent > 0 }) {
		g.ring = g.ring[:0]
	}
}

func percentOf(busy float64) uint { return uint(math.Round(100 * busy)) }

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
			if old, ok := written[name]; ok && reflect.DeepEqual(old, found) {
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
		ring   []nvmltest.RingSample
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
		uses[pod] = use{busy, memory / owned[pod], slices.Clone(gauges[pod].ring)}
	}
	out := make([]nvmltest.Device, 0, len(n.GPUs))
	for _, g := range n.GPUs {
		u := uses[owners[g.UUID]]
		d := nvmltest.Device{
			UUID: g.UUID, Name: g.Model, MemoryTotalBytes: g.MemoryBytes,
			MemoryUsedBytes:    min(uint64(max(0, u.memory)), g.MemoryBytes-g.MemoryBytes/reservedPart),
			UtilizationPercent: percentOf(u.busy), Ring: u.ring,
		}
		condition(&d, u.busy)
		out = append(out, d)
	}
	return out
}

// condition gives a device what goes with being busy: the power, temperature and counters of an H100 that decodes (half of the
// memory's bandwidth, a quarter of the tensor cores), for want of better in proportion.
func condition(d *nvmltest.Device, busy float64) {
	d.PowerMilliwatts, d.PowerLimitMilliwatts = uint(math.Round(70_000+busy*480_000)), 700_000
	d.TemperatureCelsius, d.SMClockMHz, d.MemoryClockMHz = uint(math.Round(32+busy*35)), 1980, 2619
	for _, c := range []struct {
		id   uint32 // NVML_GPM_METRIC_…
		busy float64
	}{{1, 1}, {2, 0.6}, {3, 0.2}, {5, 0.25}, {10, 0.5}, {174, 0}} {
		d.GPM = append(d.GPM, nvmltest.GPMMetric{ID: c.id, Value: math.Round(100 * busy * c.busy)})
	}
	for _, id := range []uint32{142, 143, 144, 145, 230} { // no rows remapped, no recovery action
		d.Fields = append(d.Fields, nvmltest.Field{ID: id})
	}
}
