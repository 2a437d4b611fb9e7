package kpa

import (
	"math"
	"time"
)

// window adds up values by the second over the last seconds. It is aggregation.TimedFloat64Buckets of knative.dev/serving
// with buckets of 1 s, and where decay is set WeightedFloat64Buckets. The order of additions and subtractions is theirs:
// sums of floats that are kept up to date drift, and the drift is part of what is decided on.
type window struct {
	buckets []float64 // one a second; a ring
	newest  int       // the bucket of last

	// first and last are seconds since 1970: the first write since the window was last empty, and the newest write.
	first, last int64
	written     bool // there was a write at all

	total float64 // of all buckets
	decay float64 // how much of the weight the newest second has; 0 for the plain mean
}

func newWindow(length time.Duration, aggregation Aggregation) window {
	w := window{buckets: make([]float64, length/time.Second)}
	if aggregation == WeightedExponential {
		// So much that the window's seconds together weigh 0.9999, and at least 0.2.
		const precision, least = 0.9999, 0.2
		w.decay = math.Max(1-math.Pow(1-precision, 1/float64(len(w.buckets))), least)
	}
	return w
}

// at returns the bucket that lies so many seconds before the newest.
func (w *window) at(back int) int {
	if i := w.newest - back; i >= 0 {
		return i
	}
	return w.newest - back + len(w.buckets)
}

// record adds a value at a second. Seconds left out since the last write count as 0; what is a window late is dropped.
func (w *window) record(second int64, value float64) {
	length := int64(len(w.buckets))
	back := 0
	switch ahead := second - w.last; {
	case !w.written || ahead >= length:
		clear(w.buckets)
		w.total, w.newest = 0, 0
		w.first, w.last, w.written = second, second, true
	case ahead > 0:
		for range ahead {
			w.newest++
			if w.newest == len(w.buckets) {
				w.newest = 0
			}
			w.total -= w.buckets[w.newest]
			w.buckets[w.newest] = 0
		}
		w.last = second
	case ahead <= -length:
		return
	default:
		w.first = min(w.first, second)
		back = int(-ahead)
	}
	w.buckets[w.at(back)] += value
	w.total += value
}

// empty reports whether nothing was written for longer than the window.
func (w *window) empty(second int64) bool {
	return !w.written || second-w.last > int64(len(w.buckets))
}

// average is over the seconds from the first write to the last, as far as they lie within the window; 0 if it is empty.
func (w *window) average(second int64) float64 {
	if w.decay > 0 {
		return w.weighted(second)
	}
	if !w.written {
		return 0
	}
	silent := second - w.last
	if silent >= int64(len(w.buckets)) {
		return 0
	}
	total, count := w.total, len(w.buckets)
	if silent > 0 {
		count -= int(silent)
		i := w.newest
		for range silent { // the oldest ones, which have left the window
			i++
			if i == len(w.buckets) {
				i = 0
			}
			total -= w.buckets[i]
		}
	}
	const digits = 1e6
	mean := total / math.Min(float64(w.last-w.first)+1, float64(count))
	return math.Round(mean*digits) / digits
}

func (w *window) weighted(second int64) float64 {
	if w.empty(second) {
		return 0
	}
	weight, count := w.decay, len(w.buckets)
	if silent := second - w.last; silent > 0 {
		weight *= math.Pow(1-w.decay, float64(silent))
		count -= int(silent)
	}
	sum, rest := 0., 1-w.decay
	i := w.newest
	for range count {
		sum += float64(w.buckets[i] * weight) // the conversion forbids a fused multiply-add
		weight *= rest
		i--
		if i < 0 {
			i = len(w.buckets) - 1
		}
	}
	return sum
}
