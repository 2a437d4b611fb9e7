package accelerator

import (
	"math"
	"slices"

	"headroom.dev/headroom/recommender"
)

// busy is what suffices for nine tenths of the time even in the busiest hours: the P90 that 98 of 100 hours keep. Peaks of seconds are
// left out: compute that is missing for a moment delays, where memory that is missing kills. NaN if nothing is known.
func (h History) busy() float64 {
	var values []float64
	for _, hour := range h.known() {
		if !math.IsNaN(hour.P90) {
			values = append(values, hour.P90)
		}
	}
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	return values[int(math.Ceil(0.98*float64(len(values))))-1]
}

// computeShare is the share of a whole GPU's SMs that a workload needs, NaN if it is not known. SM activity bounds it from above: a
// kernel that spreads over all SMs keeps them active however little each has to do. Tensor cores bound it from below: work that
// kept them busy for half of the time on a whole GPU needs half of them. The larger of both is taken, since what runs on fewer
// SMs takes longer, and latency is what an inference service is paid for.
func computeShare(sm, tensor History) float64 {
	if len(sm.known()) < minHours {
		return math.NaN()
	}
	share := sm.busy()
	if t := tensor.busy(); t > share {
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
