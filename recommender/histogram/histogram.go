// Package histogram is the VerticalPodAutoscaler's decaying histogram with exponential buckets, bit for bit: every weight, total,
// percentile and checkpoint is the float64 or integer that k8s.io/autoscaler/vertical-pod-autoscaler v1.8.1 computes
// (pkg/recommender/util: histogram.go, decaying_histogram.go, histogram_options.go). `make test-vpa-exact` holds it to that.
//
// It differs in cost. Only buckets that hold something are stored, 8 bytes each beside 80 for the histogram, where the library
// stores all 176; a value's bucket and a bucket's edge come from tables instead of logarithms and powers.
//
// It differs in what it takes. A value, weight or time that makes no sense is refused with false where the library panics or
// stores it: negative, not a number, infinite, before 1970 or after 2250. A checkpoint is loaded whole or not at all.
//
// A Histogram reads no clock and is not safe for concurrent use; the zero value is not usable.
package histogram

import (
	"errors"
	"math"
	"time"
)

// ErrShape is returned by Merge for histograms of different buckets or half-lives.
var ErrShape = errors.New("the histograms differ in buckets or half-life")

// unset is the reference time of a histogram that has none: the library's is year 1, too far back for nanoseconds.
const unset = math.MinInt64

// lastTime is 2250-01-01, in Unix nanoseconds: rounded to any half-life it still fits.
const lastTime = 8835955200 * int64(time.Second)

// Histogram is a distribution in which a sample's weight halves with every half-life.
type Histogram struct {
	shape *Shape
	total float64
	// reference is when a weight's factor is 1, in Unix nanoseconds.
	reference int64
	set       [maxBuckets / 64]uint64
	weights   []float64 // of the buckets in set, ascending
	// first and last are the outermost buckets of at least epsilon. What lies beyond them is less, does not count to percentiles,
	// is not scaled, and yet is kept: more weight can come to it. While there is no such bucket, first is the shape's last and
	// last is 0.
	first, last uint8
}

// New makes an empty histogram.
func New(s *Shape) Histogram {
	return Histogram{shape: s, reference: unset, first: uint8(s.buckets - 1)}
}

// Shape returns the histogram's shape.
func (h *Histogram) Shape() *Shape { return h.shape }

// Add adds a sample of a weight at a time, in Unix nanoseconds, and says whether it did.
func (h *Histogram) Add(value, weight float64, at int64) bool {
	if !sensible(value, weight, at) {
		return false
	}
	b := h.shape.Find(value)
	w := weight * h.decay(at)
	sum := h.add(b, w)
	h.total += w
	if sum >= h.shape.options.Epsilon {
		h.first = min(h.first, uint8(b))
		h.last = max(h.last, uint8(b))
	}
	return true
}

// Subtract takes a sample of a weight away again, and says whether it did. What is left is never negative. The time is in Unix
// nanoseconds.
func (h *Histogram) Subtract(value, weight float64, at int64) bool {
	if !sensible(value, weight, at) {
		return false
	}
	b := h.shape.Find(value)
	w := weight * h.decay(at)
	epsilon := h.shape.options.Epsilon
	h.total = subtract(h.total, w, epsilon)
	if i, ok := h.slot(b); ok {
		h.weights[i] = subtract(h.weights[i], w, epsilon)
		if h.weights[i] == 0 {
			h.drop(b, i)
		}
	}
	h.tighten()
	return true
}

func subtract(value, sub, epsilon float64) float64 {
	if value -= sub; value < epsilon {
		return 0
	}
	return value
}

func sensible(value, weight float64, at int64) bool {
	return value >= 0 && value <= math.MaxFloat64 && weight >= 0 && weight <= math.MaxFloat64 && at >= 0 && at < lastTime
}

// decay returns the factor of a time, after moving the reference time if that is too far back.
func (h *Histogram) decay(at int64) float64 {
	if h.reference == unset || at-h.reference > int64(h.shape.options.HalfLife)*maxDecayExponent {
		h.shift(at)
	}
	return h.shape.factor(at, h.reference)
}

// shift moves the reference time to the multiple of the half-life (since year 1) that is nearest to a time.
func (h *Histogram) shift(to int64) {
	to = time.Unix(0, to).Round(h.shape.options.HalfLife).UnixNano()
	past := int64(math.MinInt64) // what time.Time.Sub makes of more than 292 years
	if h.reference != unset {
		past = h.reference - to
	}
	exponent := round(float64(past) / float64(h.shape.options.HalfLife))
	h.scale(math.Ldexp(1, exponent))
	h.reference = to
}

func (h *Histogram) scale(factor float64) {
	zero, weights := false, h.within()
	for i, w := range weights {
		weights[i] = w * factor
		zero = zero || weights[i] == 0
	}
	h.total *= factor
	if zero {
		h.compact()
	}
	h.tighten()
}

// Merge adds all of another histogram, and aligns the older reference time with the later, be it the other's: percentiles do not
// change by that. The error is ErrShape, and nothing has changed then.
func (h *Histogram) Merge(o *Histogram) error {
	if h.shape != o.shape && h.shape.options != o.shape.options {
		return ErrShape
	}
	switch {
	case h.reference < o.reference: // unset is the least
		h.shift(o.reference)
	case o.reference < h.reference:
		o.shift(h.reference)
	}
	h.addAll(o)
	h.total += o.total
	h.first = min(h.first, o.first)
	h.last = max(h.last, o.last)
	return nil
}

// Empty says whether no bucket is filled.
func (h *Histogram) Empty() bool { return h.Weight(int(h.first)) < h.shape.options.Epsilon }

// Total returns the sum of all weights, relative to Reference.
func (h *Histogram) Total() float64 { return h.total }

// Weight returns a bucket's weight, relative to Reference.
func (h *Histogram) Weight(bucket int) float64 {
	if bucket < 0 || bucket >= h.shape.buckets {
		return 0
	}
	if i, ok := h.slot(bucket); ok {
		return h.weights[i]
	}
	return 0
}

// Span returns the outermost filled buckets; first is above last while there is none.
func (h *Histogram) Span() (first, last int) { return int(h.first), int(h.last) }

// Reference returns the time at which a sample's weight is its own; the zero time before the first sample.
func (h *Histogram) Reference() time.Time {
	if h.reference == unset {
		return time.Time{}
	}
	return time.Unix(0, h.reference).UTC()
}

// Percentile returns the upper edge of the bucket in which the share p (0 to 1) of the weights is reached, of the last bucket its
// lower edge, and 0 while the histogram is empty.
func (h *Histogram) Percentile(p float64) float64 {
	in, out := [1]float64{p}, [1]float64{}
	h.Percentiles(in[:], out[:])
	return out[0]
}

// Percentiles is Percentile for several shares at the cost of one. out must not be shorter than p.
func (h *Histogram) Percentiles(p, out []float64) {
	clear(out[:len(p)])
	if h.Empty() {
		return
	}
	weights := h.within()
	least := math.Inf(1)
	for i, share := range p {
		out[i] = -1
		least = min(least, share*h.total)
	}
	sum, base := 0.0, h.rank(int(h.first))
	for i, w := range weights[:max(len(weights)-1, 0)] {
		if sum += w; sum < least {
			continue
		}
		least = math.Inf(1)
		for k, share := range p {
			switch {
			case out[k] >= 0:
			case sum >= share*h.total:
				out[k] = h.upper(h.bucket(base + i))
			default:
				least = min(least, share*h.total)
			}
		}
	}
	for k := range p {
		if out[k] < 0 {
			out[k] = h.upper(int(h.last))
		}
	}
}

func (h *Histogram) upper(bucket int) float64 {
	return h.shape.starts[min(bucket+1, h.shape.buckets-1)]
}

func round(x float64) int { return int(math.Floor(x + 0.5)) }
