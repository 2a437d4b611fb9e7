package recommender

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Key is what a workload's usage is kept by.
type Key struct {
	Container string
	Class     string // of nodes, where a DaemonSet's differ; else ""
	Resource  Resource
}

// Checkpoint is all that is known of a workload, for keeping.
type Checkpoint struct {
	At     time.Time
	Usages map[Key]*Usage
}

// The ways in which a checkpoint cannot be read.
var (
	ErrCorrupt = errors.New("the checkpoint is corrupt")
	ErrNewer   = errors.New("the checkpoint is of a newer version")
)

// A checkpoint is the magic, the version of one byte, and
//
//	at       8 bytes  int64, seconds since 1970
//	usages   4 bytes  uint32, then for each, in the order of the keys:
//	  container, class, resource    each 1 byte length and as many bytes
//	  body     4 bytes length and as many bytes: see (*Usage).append
//
// all little endian. A Usage of a week is about 1 KB; flate would take a third off for a hundred times the time.
const (
	checkpointMagic   = "HRUSAGE"
	checkpointVersion = 1
)

// Encode writes a checkpoint. Equal checkpoints are equal bytes. Names of more than 255 bytes are refused.
func (c *Checkpoint) Encode() ([]byte, error) {
	w := &writer{b: make([]byte, 0, 64+1280*len(c.Usages))}
	w.b = append(w.b, checkpointMagic...)
	w.u8(checkpointVersion)
	w.u64(uint64(c.At.Unix()))
	w.u32(uint32(len(c.Usages)))
	keys := slices.SortedFunc(maps.Keys(c.Usages), func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Resource, b.Resource))
	})
	for _, k := range keys {
		for _, s := range []string{k.Container, k.Class, string(k.Resource)} {
			if len(s) > math.MaxUint8 {
				return nil, fmt.Errorf("cannot write the checkpoint: %q is longer than 255 bytes", s)
			}
			w.str(s)
		}
		start := len(w.b)
		w.u32(0)
		c.Usages[k].append(w)
		binary.LittleEndian.PutUint32(w.b[start:], uint32(len(w.b)-start-4))
	}
	return w.b, nil
}

// DecodeCheckpoint reads what Encode wrote. What was learnt under another policy than policy returns is learnt anew from the
// hours. Errors are ErrCorrupt or ErrNewer, with the place: such a checkpoint must not be overwritten.
func DecodeCheckpoint(b []byte, policy func(Key) Policy) (*Checkpoint, error) {
	switch {
	case len(b) <= len(checkpointMagic) || string(b[:len(checkpointMagic)]) != checkpointMagic:
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrCorrupt, checkpointMagic)
	case b[len(checkpointMagic)] > checkpointVersion:
		return nil, fmt.Errorf("%w: %d, this is %d", ErrNewer, b[len(checkpointMagic)], checkpointVersion)
	}
	r := &reader{b: b[len(checkpointMagic)+1:]}
	c := &Checkpoint{At: time.Unix(int64(r.u64()), 0).UTC(), Usages: map[Key]*Usage{}}
	for range r.u32() {
		k := Key{Container: r.str(), Class: r.str(), Resource: Resource(r.str())}
		body := r.take(int(r.u32()))
		if r.err != nil {
			break
		}
		u := NewUsage(k.Resource, policy(k))
		if err := u.read(&reader{b: body}); err != nil {
			return nil, fmt.Errorf("%w: %s of container %q: %w", ErrCorrupt, k.Resource, k.Container, err)
		}
		c.Usages[k] = u
	}
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, r.err)
	}
	return c, nil
}

// append writes the policy that it was learnt under, the counters, the startup peaks, what was learnt, the open hour, the hours.
func (u *Usage) append(w *writer) {
	w.u64(uint64(u.policy.step()))
	w.u64(uint64(u.policy.Hold))
	w.f64(u.policy.Risk)
	w.f64(u.policy.Confidence)
	w.u64(uint64(u.since))
	w.u64(uint64(u.until))
	w.u64(u.samples)
	w.f32(u.sure)
	w.u32(uint32(u.version))
	w.u32(uint32(u.pending))
	for _, s := range u.startup {
		w.u32(uint32(s.week))
		w.u16(s.max)
	}
	u.learnt.append(w)
	w.u8(u.open.low)
	w.u16(u.open.max)
	w.u32(u.open.n)
	w.u16(uint16(len(u.open.counts)))
	for _, c := range u.open.counts {
		w.u16(c)
	}
	w.u64(uint64(u.time.next))
	w.u16(uint16(u.time.next - u.time.first))
	for n := u.time.first; n < u.time.next; n++ {
		h := u.time.at(n)
		w.u8(h.p50)
		w.u8(h.p90)
		w.u16(h.top)
	}
	if u.time.older != nil {
		w.b = append(w.b, u.time.older[:]...)
	}
}

func (l *learnt) append(w *writer) {
	for _, f := range l.floats() {
		w.f32(*f)
	}
	w.u8(uint8(l.rule))
	w.u8(l.flags())
	w.str(string(l.reason))
	for _, n := range []int32{l.due, l.oom, l.hours, l.trial.left, l.age} {
		w.u32(uint32(n))
	}
}

// floats are the fields of that type, in the order in which they are kept.
func (l *learnt) floats() []*float32 {
	return []*float32{
		&l.issued, &l.lower, &l.upper, &l.margin, &l.strain, &l.tail, &l.over.mean, &l.over.n, &l.held.mean, &l.held.n,
		&l.trial.lower, &l.trial.upper, &l.trial.need,
	}
}

func (l *learnt) flags() uint8 {
	if l.fitted {
		return 1
	}
	return 0
}

// read is append's reverse. It does not trust the bytes.
func (u *Usage) read(r *reader) error {
	old := Policy{Step: time.Duration(r.u64()), Hold: time.Duration(r.u64()), Risk: r.f64(), Confidence: r.f64()}
	u.since, u.until, u.samples, u.sure = int64(r.u64()), int64(r.u64()), r.u64(), r.f32()
	u.version, u.pending = int32(r.u32()), int32(r.u32())
	for i := range u.startup {
		u.startup[i] = startup{week: int32(r.u32()), max: r.u16()}
	}
	u.learnt.read(r)
	u.open = openHour{low: r.u8(), max: r.u16(), n: r.u32()}
	u.open.counts = make([]uint16, min(r.u16(), topLevel))
	for i := range u.open.counts {
		u.open.counts[i] = r.u16()
	}
	u.time.next = int(r.u64())
	kept := int(r.u16())
	if r.err == nil {
		if err := u.valid(old, kept); err != nil {
			return err
		}
	}
	u.time.first = u.time.next - kept
	for n := u.time.first; n < u.time.next && r.err == nil; n++ {
		u.time.hours[n%lifetime] = hour{p50: r.u8(), p90: r.u8(), top: r.u16()}
	}
	if b := r.take(min(len(r.b), lifetime)); len(b) == lifetime {
		older := [lifetime]uint8(b)
		u.time.older = &older
	} else if len(b) > 0 {
		return errShort
	}
	switch {
	case r.err != nil:
		return r.err
	case len(r.b) > 0:
		return fmt.Errorf("%d bytes too many", len(r.b))
	}
	asked := u.policy
	u.policy.Step, u.policy.Hold, u.policy.Risk, u.policy.Confidence = old.Step, old.Hold, old.Risk, old.Confidence
	u.SetPolicy(asked)
	return nil
}

func (l *learnt) read(r *reader) {
	for _, f := range l.floats() {
		*f = r.f32()
	}
	l.rule, l.fitted, l.reason = rule(r.u8()), r.u8() != 0, Reason(r.str())
	l.due, l.oom, l.hours, l.trial.left, l.age = int32(r.u32()), int32(r.u32()), int32(r.u32()), int32(r.u32()), int32(r.u32())
}

// valid reports what could not be worked with.
func (u *Usage) valid(old Policy, kept int) error {
	switch {
	case old.Step < time.Second || old.Step > 24*time.Hour || old.Hold < 0:
		return fmt.Errorf("its step is %s, its hold %s", old.Step, old.Hold)
	case !between0and1(old.Risk) || !between0and1(old.Confidence):
		return fmt.Errorf("its risk is %v, its confidence %v", old.Risk, old.Confidence)
	case kept > lifetime || u.time.next < kept || u.time.next > math.MaxInt32:
		return fmt.Errorf("it has %d hours that end with number %d", kept, u.time.next)
	case min(u.version, u.pending) < 0 || int(max(u.version, u.pending)) > u.time.next:
		return fmt.Errorf("its versions began in hours %d and %d of %d", u.version, u.pending, u.time.next)
	case !(u.sure >= 0 && u.sure <= 1):
		return fmt.Errorf("its certainty is %v", u.sure)
	}
	if err := u.open.valid(); err != nil {
		return err
	}
	return u.learnt.valid()
}

func between0and1(v float64) bool { return v > 0 && v < 1 }

func (o *openHour) valid() error {
	switch {
	case (o.n > 0) != slices.ContainsFunc(o.counts, func(c uint16) bool { return c > 0 }):
		return fmt.Errorf("its open hour has %d samples and not as many counts", o.n)
	case len(o.counts) > 0 && (o.low == 0 || int(o.low)+len(o.counts) > topLevel+1):
		return fmt.Errorf("its open hour has %d levels from %d", len(o.counts), o.low)
	}
	return nil
}

func (l *learnt) valid() error {
	if int(l.rule) >= numberOfRules {
		return fmt.Errorf("its rule is %d", l.rule)
	}
	for _, f := range l.floats() {
		if v := float64(*f); math.IsNaN(v) || math.Abs(v) > 2*topLevel+week {
			return fmt.Errorf("it has learnt %v", v)
		}
	}
	return nil
}
