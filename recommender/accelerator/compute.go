package accelerator

import (
	"cmp"
	"math"
	"slices"

	"headroom.dev/headroom/recommender"
)

// p98 is the 98th percentile of all samples: in 98 % of the time that much suffices. It is taken from what is known of each hour: half of an hour's samples count as its P50, the next 40 % as its P90, 8 % as
// P98, 2 % as Max. All are upper bounds, and so is this. NaN if nothing is known.
func (h History) p98() float64 {
	type part struct{ value, weight float64 }
	var parts []part
	total := 0.0
	for _, hour := range h.known() {
		for _, p := range []part{{hour.P50, 0.5}, {hour.P90, 0.4}, {hour.P98, 0.08}, {hour.Max, 0.02}} {
			if math.IsNaN(p.value) {
				continue
			}
			p.weight *= float64(hour.Samples)
			total += p.weight
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.value, b.value) })
	sum := 0.0
	for _, p := range parts {
		if sum += p.weight; sum >= 0.98*total*(1-1e-12) {
			return p.value
		}
	}
	return math.NaN()
}

// computeShare is the share of a whole GPU's SMs that a workload needs, NaN if it is not known. SM activity bounds it from above: a
// kernel that spreads over all SMs keeps them active however little each has to do. Tensor cores bound it from below: work that
// kept them busy for half of the time on a whole GPU needs half of them. The larger of both is taken, since what runs on fewer
// SMs takes longer, and latency is what an inference service is paid for.
func computeShare(sm, tensor History) float64 {
	if len(sm.known()) < minHours {
		return math.NaN()
	}
	share := sm.p98()
	if t := tensor.p98(); t > share {
		share = t
	}
	return min(share, 1)
}

// preallocated reports whether use of a GPU's memory looks like a configuration: the same all the time, and most of the device.
func preallocated(hours []recommender.Hour, device int64) bool {
	if device <= 0 || len(hours) == 0 {
		return false
	}
	least, most := math.Inf(1), 0.0
	for _, hour := range hours {
		if math.IsNaN(hour.P50) {
			return false
		}
		least, most = min(least, hour.P50), max(most, hour.Max)
	}
	return most >= 0.75*float64(device) && least >= 0.98*most
}
