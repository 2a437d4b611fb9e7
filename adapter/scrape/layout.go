package scrape

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// maxSegments bounds a layout to 256 KiB; the answers of inference servers have 300 to 3,000 samples.
const maxSegments = 16 << 10

// segment is what stands between two numbers: the line break after the first, comments, and the second's series with
// the blanks behind.
type segment struct {
	hash   uint64
	size   uint32
	wanted bool // the number behind is a wanted sample's
}

// layout is an answer without its numbers, as Prometheus' parser understood it.
//
// Another answer that has the same segments around numbers means the same series to that parser, for it is a lexer with
// one byte of look-ahead under a deterministic parser, both without a way back: up to the first number both see the same
// bytes and end in the same state, in which, after a blank, a run of other bytes than blanks and line breaks is a value;
// the values differ and the state behind them does not, and so on. Two segments of one size and hash are the same but
// for odds of 2⁻⁶⁴, which a target cannot better without the seed. FuzzLayout holds all this to the parser.
//
// Hashes instead of the bytes: 16 bytes a sample, 5 KB for vLLM's 300, where the text would be 50 KB; and hashing
// (23 GB/s) reads but one of the two texts that a comparison would.
type layout struct {
	contentType string
	version     uint64    // of the Sink's wants
	segments    []segment // one for each number, and the rest of the answer; none if the layout is of no use
	refs        []uint64  // the Sink's, of the wanted series
}

// match appends the wanted values of the answer; ok is false if it is not of this layout.
func (l *layout) match(seed maphash.Seed, body []byte, values []float64) (_ []float64, ok bool) {
	last := len(l.segments) - 1
	at := 0
	for i := range l.segments {
		s := &l.segments[i]
		end := at + int(s.size)
		if end > len(body) || maphash.Bytes(seed, body[at:end]) != s.hash {
			return values, false
		}
		if i == last {
			return values, end == len(body)
		}
		v, size, ok := number(body[end:])
		if !ok {
			return values, false
		}
		if s.wanted {
			values = append(values, v)
		}
		at = end + size
	}
	return values, false
}

// tracer writes down the layout of an answer while the parser walks it.
type tracer struct {
	seed     maphash.Seed
	segments []segment
	at       int  // behind the last number
	unfit    bool // the answer has what number cannot read: its layout is of no use
}

// sample notes the sample whose series ends at offset end of the body.
func (t *tracer) sample(body []byte, end int, wanted bool) {
	if t.unfit {
		return
	}
	blank := end
	for blank < len(body) && (body[blank] == ' ' || body[blank] == '\t') {
		blank++
	}
	_, size, ok := number(body[blank:])
	// Without a blank, as in "up-1", the number's first byte decides where the series ends.
	if !ok || blank == end || len(t.segments) == maxSegments {
		t.unfit = true
		return
	}
	t.add(body[t.at:blank], wanted)
	t.at = blank + size
}

func (t *tracer) add(text []byte, wanted bool) {
	t.segments = append(t.segments, segment{maphash.Bytes(t.seed, text), uint32(len(text)), wanted})
}

// finish returns the segments in memory of their own, nil if they are of no use.
func (t *tracer) finish(body []byte) []segment {
	if t.unfit {
		return nil
	}
	t.add(body[t.at:], false)
	return slices.Clone(t.segments)
}

func (t *tracer) reset(seed maphash.Seed) {
	*t = tracer{seed: seed, segments: t.segments[:0]}
}

// offset returns where the part, a slice of body, begins. Slices of one array end at the same place, so capacities tell.
func offset(body, part []byte) int {
	return min(max(cap(body)-cap(part), 0), len(body))
}

// lineAfter returns the number of the first line that is not empty after the one in which part begins; part is a slice of
// body or nil.
func lineAfter(body, part []byte) int {
	at := 0
	if part != nil && cap(part) <= cap(body) {
		at = offset(body, part)
		if end := bytes.IndexByte(body[at:], '\n'); end >= 0 {
			at += end + 1
		}
	}
	for at < len(body) && body[at] == '\n' {
		at++
	}
	return 1 + bytes.Count(body[:at], []byte{'\n'})
}
