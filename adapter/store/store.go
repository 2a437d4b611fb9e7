// Package store keeps the newest samples of the series that rules look at, in memory and bounded, and lets Prometheus'
// PromQL engine query them.
//
// It stores what one successful scrape of one target yielded (Append, AppendRefs), for the metric names that somebody asked
// for (Options.Keep), as far back as they look. It reads no clock: every time comes in as an argument. Readers that come
// back every second use View.
//
// Guarantees:
//   - A Select sees every scrape entirely or not at all, and the points it returned never change under the reader. Two
//     Selects of one Querier may differ by the newest scrape of a target that was appended between them.
//   - A series that a target's former scrape had and the present one lacks ends in a Prometheus stale marker
//     (value.StaleNaN) at the time of the present one. A scrape that failed is not reported here: its samples just age.
//   - What is refused (too many series, scrapes that are not later than the former one, a series twice in one scrape) is
//     counted, never silently dropped.
//   - Two targets with one identical label set are one series to a query: the whole points of one of them. A target whose
//     series has not ended wins over one whose has; then the one with the newest sample in the queried range; then the
//     lesser target name. Points of the two are never mixed, which a rate would take for counter resets.
//
// Memory: a series costs about 175 bytes for itself and its place in the indexes, its labels (ByteSize, 100 to 250 bytes
// in practice), and 16 bytes for each of at most 1.5 times the points of its window. A histogram bucket with 150 bytes
// of labels that is scraped every second and kept for 30 s so costs about 1.1 KiB; TestBytes holds Stats().Bytes to the heap.
// Options.MaxBytes (512 MiB) bounds the sum: what would pass it is refused (new series) or takes the place of older points.
package store

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

const (
	// DefaultMaxSeries is about 430 MiB at 1.1 KiB a series: 8,000 pods with the 48 series that the built-in rules read of vLLM.
	DefaultMaxSeries = 400_000
	// DefaultMaxSeriesPerTarget keeps one target that invents label values from taking the room of all others. An
	// inference pod has some 30 series that rules want, an agent with 8 devices and 64 pods some 500.
	DefaultMaxSeriesPerTarget = 5_000
	// DefaultMaxBytes holds DefaultMaxSeries of the usual size; it is long windows that meet it first.
	DefaultMaxBytes = 512 << 20
	// DefaultMaxSamplesPerSeries is more than an hour at one scrape a second.
	DefaultMaxSamplesPerSeries = 4_096

	// slack is how much longer than asked for points are kept: a query at "now" may run just after a scrape that came
	// later than "now", and must still find its whole range.
	slack = time.Second

	nameLabel = "__name__"
)

// Options bound the store. Zero limits stand for the defaults.
type Options struct {
	// Keep says for each metric name (as PromQL selects it: "http_request_duration_seconds_bucket") how far back it is
	// looked at. Other names are never stored.
	Keep map[string]time.Duration
	// MaxSeries and MaxSeriesPerTarget bound the series of all and of each target. Samples of further series are refused.
	MaxSeries, MaxSeriesPerTarget int
	// MaxBytes bounds what all series cost by the arithmetic of the package comment. New series are refused, and a window
	// that would have to grow loses its oldest points instead.
	MaxBytes int
	// MaxSamplesPerSeries bounds the window of a series; its oldest points make room.
	MaxSamplesPerSeries int
}

// Sample is one value of one series, at the time of its scrape.
type Sample struct {
	Labels labels.Labels // sorted and without empty values, as the labels package builds them; includes __name__
	Value  float64       // NaN and infinities are stored as they are
}

// AppendResult says what became of one scrape.
type AppendResult struct {
	Stored    int  // samples kept
	Ended     int  // series of the former scrape that this one lacks; each got a stale marker
	Unwanted  int  // samples with a name outside Keep
	Duplicate int  // further samples of a series that the same scrape already had; the first is kept
	OverLimit int  // samples of new series that found no room
	Late      bool // the whole scrape was refused: it is not later than the target's former one
}

// Point is the value of a series at one scrape; a stale marker (value.IsStaleNaN) where the series ended.
type Point struct {
	T int64 // ms
	V float64
}

// Stats describes the store at one moment; the last five count since its creation.
type Stats struct {
	Targets, Series, Samples int
	Bytes                    int // the arithmetic of the package comment, with the arrays' true capacities
	LateScrapes              uint64
	UnwantedSamples          uint64
	DuplicateSamples         uint64
	OverLimitSamples         uint64
	CutSamples               uint64 // points that MaxSamplesPerSeries or MaxBytes drove out before their window did
}

// Store is safe for concurrent use. It is a storage.Queryable.
type Store struct {
	opts Options
	keep atomic.Pointer[kept] // replaced, never changed; read without mu by Wants

	mu       sync.RWMutex
	targets  map[string]*target
	families map[string]*family
	// byLabels finds a series, the first of its twins, by its labels. The default build of the labels package represents a
	// label set by one string, so that it is a map key that costs no second copy.
	byLabels map[labels.Labels]*series
	stamps   uint64 // the last one given to a place
	ids      uint32 // the last one given to a series
	stats    Stats  // all but Targets
}

// kept is Options.Keep.
type kept struct {
	names   map[string]time.Duration
	version uint64 // another one where the names are others
}

// target is one scraped endpoint.
type target struct {
	name    string
	last    int64     // ms, the newest scrape
	scrapes uint64    // successful ones so far
	series  []*series // each keeps its spot while it lives; nil where one is free
	free    []uint32  // spots
}

// live returns the number of the target's series.
func (tg *target) live() int { return len(tg.series) - len(tg.free) }

// family holds all series of one metric name.
type family struct {
	name    string
	keep    int64   // ms, slack included
	places  []place // each label set keeps its place while it lives
	free    []uint32
	version uint64 // the newest stamp, of places that were left, too
}

// place is where a family holds one label set. A free one has neither series nor stamp.
type place struct {
	series *series // the first of its twins
	stamp  uint64  // another one for each label set that ever stood here
}

// series is what one target said under one label set.
type series struct {
	labels labels.Labels
	family *family
	target *target
	twin   *series // the next one with these labels, of another target; most series have none
	// points are in ascending time. What is in here is never changed, only followed by more or left behind by
	// re-slicing, so that a reader that took the slice under the lock may go on reading it without.
	points []Point
	bent   int64  // time of the newest point that is less than the one before, or at either end of a gap (a stale marker)
	seen   uint64 // target.scrapes when last present
	room   uint32 // points that the array behind was allocated for
	place  uint32 // in family.places; twins share it
	spot   uint32 // in target.series
	id     uint32 // never 0
}

// New returns an empty store.
func New(opts Options) *Store {
	setDefault(&opts.MaxSeries, DefaultMaxSeries)
	setDefault(&opts.MaxSeriesPerTarget, DefaultMaxSeriesPerTarget)
	setDefault(&opts.MaxBytes, DefaultMaxBytes)
	setDefault(&opts.MaxSamplesPerSeries, DefaultMaxSamplesPerSeries)
	st := &Store{
		opts:     opts,
		targets:  map[string]*target{},
		families: map[string]*family{},
		byLabels: map[labels.Labels]*series{},
	}
	st.keep.Store(&kept{names: maps.Clone(opts.Keep), version: 1})
	return st
}

func setDefault(v *int, def int) {
	if *v <= 0 {
		*v = def
	}
}

// Wants reports whether samples of that metric name are stored. It takes no lock: a scraper asks for every line.
func (st *Store) Wants(name string) bool {
	_, ok := st.keep.Load().names[name]
	return ok
}

// WantsVersion returns another number as soon as Wants has other answers.
func (st *Store) WantsVersion() uint64 { return st.keep.Load().version }

// SetKeep replaces Options.Keep. Series of names that nobody wants any more vanish at once; a shorter window takes
// effect with a series' next sample, a longer one fills up from now on.
func (st *Store) SetKeep(keep map[string]time.Duration) {
	keep = maps.Clone(keep)
	st.mu.Lock()
	defer st.mu.Unlock()
	version := st.keep.Load().version
	if !maps.EqualFunc(keep, st.keep.Load().names, func(_, _ time.Duration) bool { return true }) {
		version++
	}
	st.keep.Store(&kept{names: keep, version: version})
	gone := false
	for name, f := range st.families {
		if d, ok := keep[name]; ok {
			f.keep = (d + slack).Milliseconds()
		} else {
			gone = true
		}
	}
	if !gone {
		return
	}
	for _, tg := range st.targets {
		for _, s := range tg.series {
			if s == nil {
				continue
			}
			if _, wanted := keep[s.family.name]; !wanted {
				st.remove(s)
			}
		}
	}
}

// Forget removes a target that no longer exists, with all its series. An Append for it after that makes it a new
// target, so the caller must have ended the target's scrapes before.
func (st *Store) Forget(targetName string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	tg, ok := st.targets[targetName]
	if !ok {
		return
	}
	for _, s := range tg.series {
		if s != nil {
			st.remove(s)
		}
	}
	delete(st.targets, targetName)
}

// Stats costs nothing worth counting.
func (st *Store) Stats() Stats {
	st.mu.RLock()
	defer st.mu.RUnlock()
	out := st.stats
	out.Targets = len(st.targets)
	return out
}

// The parts of a series' cost, as TestBytes measured them (64-bit): the struct, and the slots in the map and slices that
// point to it at their mean fill.
const (
	seriesBytes = 96 + 45 + 20 + 12 // series, slot in byLabels, in family.places, in target.series
	pointBytes  = 16
)
