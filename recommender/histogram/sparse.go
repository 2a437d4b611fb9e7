package histogram

import (
	"iter"
	"math/bits"
	"slices"
)

// rank returns how many buckets below one are stored: where its weight is, or would be.
func (h *Histogram) rank(bucket int) int {
	word := bucket >> 6
	n := 0
	if word < len(h.set) {
		n = bits.OnesCount64(h.set[word] & (1<<(bucket&63) - 1))
	}
	for _, w := range h.set[:word] {
		n += bits.OnesCount64(w)
	}
	return n
}

// slot returns where a bucket's weight is, and whether it is stored.
func (h *Histogram) slot(bucket int) (i int, stored bool) {
	return h.rank(bucket), h.set[bucket>>6]>>(bucket&63)&1 != 0
}

// bucket is the inverse of rank: it returns the bucket whose weight is the i-th.
func (h *Histogram) bucket(i int) int {
	for k, word := range h.set {
		n := bits.OnesCount64(word)
		if i >= n {
			i -= n
			continue
		}
		for ; i > 0; i-- {
			word &= word - 1
		}
		return k<<6 + bits.TrailingZeros64(word)
	}
	return h.shape.buckets - 1
}

// within returns the weights from the first to the last filled bucket; none if there are no such.
func (h *Histogram) within() []float64 {
	if h.first > h.last {
		return nil
	}
	return h.weights[h.rank(int(h.first)):h.rank(int(h.last)+1)]
}

// add adds to a bucket and returns its weight.
func (h *Histogram) add(bucket int, weight float64) float64 {
	i, stored := h.slot(bucket)
	if stored {
		h.weights[i] += weight
		return h.weights[i]
	}
	if weight == 0 {
		return 0
	}
	if n := len(h.weights); n == cap(h.weights) {
		grown := make([]float64, n+1, capacity(n+1))
		copy(grown, h.weights[:i])
		copy(grown[i+1:], h.weights[i:])
		h.weights = grown
	} else {
		h.weights = h.weights[:n+1]
		copy(h.weights[i+1:], h.weights[i:n])
	}
	h.weights[i] = weight
	h.set[bucket>>6] |= 1 << (bucket & 63)
	return weight
}

// capacity is that of n weights: the next size in which Go hands out memory, so that there is nothing to lose. append would
// double it, and there are at most 192 weights to move.
func capacity(n int) int {
	step := 2
	switch {
	case n > 96:
		step = 16
	case n > 64:
		step = 8
	case n > 32:
		step = 4
	}
	return (n + step - 1) / step * step
}

// addAll adds the weights between another's first and last bucket.
func (h *Histogram) addAll(o *Histogram) {
	from := o.within()
	if len(from) == 0 {
		return
	}
	adding, count, fresh := o.set, 0, uint64(0)
	for k := range adding {
		adding[k] &= span(k, int(o.first), int(o.last))
		fresh |= adding[k] &^ h.set[k]
		count += bits.OnesCount64(adding[k] | h.set[k])
	}
	switch {
	case len(h.weights) == 0:
		h.weights = append(make([]float64, 0, capacity(count)), from...)
		h.set = adding
	case fresh == 0 && h.rank(int(o.last)+1)-h.rank(int(o.first)) == len(from): // the same buckets
		to := h.weights[h.rank(int(o.first)):]
		for i, w := range from {
			to[i] += w
		}
	case fresh == 0:
		h.addStored(adding, from)
	default:
		h.addFresh(adding, from, count)
	}
}

// addStored adds to buckets that are all stored.
func (h *Histogram) addStored(adding [maxBuckets / 64]uint64, from []float64) {
	base, j := 0, 0
	for k, word := range adding {
		stored := h.set[k]
		for ; word != 0; word &= word - 1 {
			h.weights[base+bits.OnesCount64(stored&(word&-word-1))] += from[j]
			j++
		}
		base += bits.OnesCount64(stored)
	}
}

// addFresh adds to buckets of which some are not stored; there will be count.
func (h *Histogram) addFresh(adding [maxBuckets / 64]uint64, from []float64, count int) {
	merged := make([]float64, count, capacity(count))
	i, j, n := 0, 0, 0
	for k, stored := range h.set {
		for word := stored | adding[k]; word != 0; word &= word - 1 {
			low := word & -word
			if stored&low != 0 {
				merged[n] = h.weights[i]
				i++
			}
			if adding[k]&low != 0 {
				merged[n] += from[j]
				j++
			}
			n++
		}
		h.set[k] |= adding[k]
	}
	h.weights = merged
}

// drop forgets a bucket.
func (h *Histogram) drop(bucket, i int) {
	h.weights = slices.Delete(h.weights, i, i+1)
	h.set[bucket>>6] &^= 1 << (bucket & 63)
}

// compact forgets all buckets without weight.
func (h *Histogram) compact() {
	kept := h.weights[:0]
	i := 0
	for b := range each(h.set) {
		if w := h.weights[i]; w != 0 {
			kept = append(kept, w)
		} else {
			h.set[b>>6] &^= 1 << (b & 63)
		}
		i++
	}
	h.weights = kept
}

// tighten moves first and last inwards to buckets that are filled, after weights have become less.
func (h *Histogram) tighten() {
	epsilon := h.shape.options.Epsilon
	if h.Weight(int(h.first)) < epsilon {
		h.first = h.filled(h.first, uint8(h.shape.buckets-1), true)
	}
	if h.Weight(int(h.last)) < epsilon {
		h.last = h.filled(0, h.last, false)
	}
}

// filled returns the lowest filled bucket between two, or the highest; the other end if there is none.
func (h *Histogram) filled(from, to uint8, lowest bool) uint8 {
	found, i := from, 0
	if lowest {
		found = to
	}
	for b := range each(h.set) {
		w := h.weights[i]
		i++
		if b < int(from) || b > int(to) || w < h.shape.options.Epsilon {
			continue
		}
		found = uint8(b)
		if lowest {
			break
		}
	}
	return found
}

// each yields the buckets of a set, ascending.
func each(set [maxBuckets / 64]uint64) iter.Seq[int] {
	return func(yield func(int) bool) {
		for k, word := range set {
			for ; word != 0; word &= word - 1 {
				if !yield(k<<6 + bits.TrailingZeros64(word)) {
					return
				}
			}
		}
	}
}

// span is the k-th word of the set of the buckets between two.
func span(k, first, last int) uint64 {
	low, high := max(first-k<<6, 0), min(last-k<<6, 63)
	if low > high {
		return 0
	}
	return ^uint64(0) >> (63 - high + low) << low
}
