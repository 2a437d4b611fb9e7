package histogram

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
)

// ErrCorrupt is what is wrong with a checkpoint that cannot be loaded.
var ErrCorrupt = errors.New("corrupt histogram checkpoint")

// checkpointWeight is the weight of the fullest bucket of a checkpoint.
const checkpointWeight = 10000

// maxTotal bounds the weights of a checkpoint: 2^100 times a trillion samples. What is above would overflow sooner or later.
const maxTotal = 0x1p140

// Checkpoint is a histogram in the VPA's checkpoint format v3: each bucket's weight is relative to the fullest, which has 10000,
// and rounded half up; buckets that round to 0 are left out. Its JSON is that of the VPA's HistogramCheckpoint.
type Checkpoint struct {
	Reference time.Time // zero for none
	Weights   []Weight  // ascending by bucket
	Total     float64   // sum of all weights, which those of Weights are shares of
}

// Weight is that of a bucket.
type Weight struct {
	Bucket int32
	Weight uint32
}

// Checkpoint returns the histogram's checkpoint.
func (h *Histogram) Checkpoint() Checkpoint {
	c := Checkpoint{Reference: h.Reference(), Total: h.total}
	weights, fullest := h.within(), 0.0
	for _, w := range weights {
		fullest = max(fullest, w)
	}
	if len(weights) == 0 || fullest == 0 {
		return c
	}
	ratio := checkpointWeight / fullest
	c.Weights = make([]Weight, 0, len(weights))
	i := 0
	for k := range h.set {
		for b := range each([len(h.set)]uint64{h.set[k] & span(k, int(h.first), int(h.last))}) {
			if w := uint32(round(weights[i] * ratio)); w > 0 {
				c.Weights = append(c.Weights, Weight{Bucket: int32(k<<6 + b), Weight: w})
			}
			i++
		}
	}
	return c
}

// Load makes a histogram of a checkpoint. The error wraps ErrCorrupt.
func Load(s *Shape, c Checkpoint) (Histogram, error) {
	h := New(s)
	if !c.Reference.IsZero() {
		if second := c.Reference.Unix(); second < 0 || second >= lastTime/int64(time.Second) {
			return New(s), fmt.Errorf("%w: a reference timestamp of %v", ErrCorrupt, c.Reference)
		}
		h.reference = c.Reference.UnixNano()
	}
	if !(c.Total >= 0 && c.Total <= maxTotal) {
		return New(s), fmt.Errorf("%w: a total weight of %v", ErrCorrupt, c.Total)
	}
	sum, before := int64(0), int32(-1)
	for _, w := range c.Weights {
		if w.Bucket <= before || int(w.Bucket) >= s.buckets {
			return New(s), fmt.Errorf("%w: bucket %d after %d, of %d", ErrCorrupt, w.Bucket, before, s.buckets)
		}
		before = w.Bucket
		sum += int64(w.Weight)
	}
	if sum == 0 { // without weights the total says nothing
		return h, nil
	}
	ratio := c.Total / float64(sum)
	h.weights = make([]float64, 0, capacity(len(c.Weights)))
	for _, w := range c.Weights {
		if v := float64(w.Weight) * ratio; v > 0 {
			h.weights = append(h.weights, v)
			h.set[w.Bucket>>6] |= 1 << (w.Bucket & 63)
		}
	}
	h.total = c.Total
	h.first, h.last = uint8(min(c.Weights[0].Bucket, int32(s.buckets-1))), uint8(max(before, 0))
	h.tighten()
	return h, nil
}

// AppendJSON appends the checkpoint's JSON: {"referenceTimestamp":…,"bucketWeights":{"19":2500,…},"totalWeight":…}. Times are to
// the second, as Kubernetes writes them.
func (c *Checkpoint) AppendJSON(b []byte) []byte {
	b = append(b, `{"referenceTimestamp":`...)
	b = AppendTime(b, c.Reference)
	if len(c.Weights) > 0 {
		sep := byte('{')
		b = append(b, `,"bucketWeights":`...)
		for _, w := range c.Weights {
			b = append(b, sep, '"')
			b = strconv.AppendInt(b, int64(w.Bucket), 10)
			b = append(b, '"', ':')
			b = strconv.AppendUint(b, uint64(w.Weight), 10)
			sep = ','
		}
		b = append(b, '}')
	}
	if c.Total != 0 {
		b = append(b, `,"totalWeight":`...)
		b = strconv.AppendFloat(b, c.Total, 'g', -1, 64)
	}
	return append(b, '}')
}

// AppendTime appends a time's JSON as Kubernetes writes it: UTC to the second, null for the zero time.
func AppendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, time.RFC3339)
	return append(b, '"')
}

// MarshalJSON is AppendJSON.
func (c Checkpoint) MarshalJSON() ([]byte, error) {
	if math.IsNaN(c.Total) || math.IsInf(c.Total, 0) {
		return nil, fmt.Errorf("cannot write a histogram checkpoint with a total weight of %v", c.Total)
	}
	return c.AppendJSON(nil), nil
}

// UnmarshalJSON reads what AppendJSON or the VPA wrote. On an error, which wraps ErrCorrupt, c is unchanged.
func (c *Checkpoint) UnmarshalJSON(b []byte) error {
	var wire struct {
		Reference time.Time        `json:"referenceTimestamp"`
		Weights   map[int32]uint32 `json:"bucketWeights"`
		Total     float64          `json:"totalWeight"`
	}
	if err := json.Unmarshal(b, &wire); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	read := Checkpoint{Reference: wire.Reference, Total: wire.Total}
	for _, bucket := range slices.Sorted(maps.Keys(wire.Weights)) {
		read.Weights = append(read.Weights, Weight{bucket, wire.Weights[bucket]})
	}
	*c = read
	return nil
}
