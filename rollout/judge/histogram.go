package judge

import (
	"math"
	"sort"
)

// histogram is the tail of a distribution: shares of requests above its bounds.
type histogram struct {
	bounds []float64
	above  []float64 // shares, not ascending
}

// newHistogram takes counts at or below each bound, and at last of all requests; false where there are none.
func newHistogram(bounds, counts []float64) (histogram, bool) {
	if len(bounds) < 2 || len(counts) != len(bounds)+1 || counts[len(bounds)] <= 0 {
		return histogram{}, false
	}
	h, all := histogram{bounds: bounds, above: make([]float64, len(bounds))}, counts[len(bounds)]
	for i := range bounds {
		h.above[i] = 1 - counts[i]/all
	}
	return h, true
}

// nearest returns the bound whose share above is nearest to the wanted one, by ratio; −1 where no bound splits the requests.
func (h histogram) nearest(share float64) int {
	best, distance := -1, math.Inf(1)
	for i, s := range h.above {
		if s <= 0 || s >= 1 {
			continue
		}
		if d := math.Abs(math.Log(s / share)); d < distance {
			best, distance = i, d
		}
	}
	return best
}

// shareAbove is the share above x; between bounds the tail is straight in logarithms, below the first one as between the first two.
// Beyond the last bound nothing is known: its own share.
func (h histogram) shareAbove(x float64) float64 {
	i := sort.SearchFloat64s(h.bounds, x)
	if i >= len(h.bounds) {
		return h.above[len(h.bounds)-1]
	}
	if h.bounds[i] == x {
		return h.above[i]
	}
	i = max(i, 1)
	return min(1, h.above[i]*math.Pow(h.bounds[i]/x, h.slope(i)))
}

// slope of the tail between the bounds i−1 and i, as a power; 0 where it is flat.
func (h histogram) slope(i int) float64 {
	high := h.above[i-1]
	low := max(h.above[i], high*1e-3) // an empty tail has no logarithm; three decades over one bucket are as good as a wall
	if high <= 0 || low >= high {
		return 0
	}
	return math.Log(high/low) / math.Log(h.bounds[i]/h.bounds[i-1])
}

// valueAt is the value above which the share lies: the quantile 1−share. Within the first and the last bound, except
// that it is extended below the first as between the first two.
func (h histogram) valueAt(share float64) float64 {
	i := sort.Search(len(h.above), func(i int) bool { return h.above[i] <= share })
	if i == len(h.above) {
		return h.bounds[i-1]
	}
	if h.above[i] == share {
		return h.bounds[i]
	}
	if i == 0 {
		slope := h.slope(1)
		if slope == 0 || h.above[0] <= 0 {
			return h.bounds[0]
		}
		return h.bounds[0] * math.Pow(min(1, share)/h.above[0], -1/slope)
	}
	return min(h.bounds[i], h.bounds[i-1]*math.Pow(share/h.above[i-1], -1/h.slope(i)))
}

// quantileRatio is how many times as large the value at bound i's share must be for the rate above the bound to be ratio times as large.
func (h histogram) quantileRatio(i int, ratio float64) float64 {
	if ratio <= 0 {
		return 0
	}
	if math.IsInf(ratio, 1) {
		return ratio
	}
	return h.bounds[i] / h.valueAt(min(1, ratio*h.above[i]))
}
