package kube

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// The checkpoint's form: gzip of
//
//	magic    8 bytes  "HRHIST\x00\x01", the last one its version
//	step     8 bytes  int64, nanoseconds
//	start    8 bytes  int64, nanoseconds since 1970
//	count    4 bytes  uint32
//	values   4 bytes each, float32; NaN where demand was not known
//
// all little endian. 28 d at 1 min are 158 KiB before gzip and, with noise in every bit, hardly less after it: far from the
// 1 MiB that an object may have.
const (
	magic        = "HRHIST\x00\x01"
	headerLength = len(magic) + 8 + 8 + 4
	maxRaw       = headerLength + 4*maxSteps
)

func (h *history) encode() ([]byte, error) {
	raw := make([]byte, 0, headerLength+4*len(h.values))
	raw = append(raw, magic...)
	raw = binary.LittleEndian.AppendUint64(raw, uint64(h.step))
	raw = binary.LittleEndian.AppendUint64(raw, uint64(h.start.UnixNano()))
	raw = binary.LittleEndian.AppendUint32(raw, uint32(len(h.values)))
	for _, v := range h.values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		return nil, fmt.Errorf("cannot compress the history: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("cannot compress the history: %w", err)
	}
	return b.Bytes(), nil
}

// decodeHistory reads what encode wrote. The bytes may be anybody's: more than a history can hold is an error, too.
func decodeHistory(b []byte) (*history, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("cannot read the history: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(r, int64(maxRaw)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the history: %w", err)
	case len(raw) > maxRaw:
		return nil, fmt.Errorf("cannot read the history: it is longer than %d bytes", maxRaw)
	case len(raw) < headerLength || string(raw[:len(magic)-1]) != magic[:len(magic)-1]:
		return nil, errors.New("cannot read the history: it is none")
	case raw[len(magic)-1] != magic[len(magic)-1]:
		return nil, fmt.Errorf("cannot read the history: its version is %d, not %d", raw[len(magic)-1], magic[len(magic)-1])
	}
	fields := raw[len(magic):]
	h := newHistory(time.Duration(binary.LittleEndian.Uint64(fields)))
	h.start = time.Unix(0, int64(binary.LittleEndian.Uint64(fields[8:]))).UTC()
	count := int(binary.LittleEndian.Uint32(fields[16:]))
	values := fields[20:]
	switch {
	case len(values) != 4*count:
		return nil, fmt.Errorf("cannot read the history: it has %d bytes for %d values", len(values), count)
	case h.step < time.Second || h.step > time.Hour:
		return nil, fmt.Errorf("cannot read the history: its step is %s", h.step)
	case !h.start.Equal(h.start.Truncate(h.step)):
		return nil, fmt.Errorf("cannot read the history: it starts at %s, which is no multiple of %s", h.start, h.step)
	case h.start.Before(time.Unix(0, 0)):
		return nil, fmt.Errorf("cannot read the history: it starts at %s", h.start)
	}
	h.values = make([]float32, count)
	for i := range h.values {
		v := math.Float32frombits(binary.LittleEndian.Uint32(values[4*i:]))
		if math.IsInf(float64(v), 0) || v < 0 {
			return nil, fmt.Errorf("cannot read the history: value %d is %v", i, v)
		}
		h.values[i] = v
	}
	return h, nil
}
