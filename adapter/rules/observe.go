package rules

import (
	"context"
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// observer is a Queryable that notes how new the samples are that one evaluation reads. The engine selects and reads in
// one goroutine, so it needs no lock.
type observer struct {
	storage.Queryable
	now        int64 // ms
	selections []*selection
}

// objectKey is an object's labels; empty where a series lacks one.
type objectKey struct{ namespace, pod string }

// selection is what one selector of the expression found.
type selection struct {
	instant    bool  // it reads the newest sample alone: what has ended is out of the value
	start, end int64 // ms, both inclusive: the range that the engine reads
	shift      int64 // ms; now - end, which the selector's offsets explain
	objects    map[objectKey]seen
	all        seen
}

// seen sums up some series. Times are in ms.
type seen struct {
	live  int64 // the oldest of the newest samples of live series; none where there is no live one
	ended int64 // the newest sample of series that ended; never where none did
}

const (
	none  = math.MaxInt64
	never = math.MinInt64
)

func (s seen) and(o seen) seen { return seen{min(s.live, o.live), max(s.ended, o.ended)} }

func nothing() seen { return seen{live: none, ended: never} }

func (o *observer) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := o.Queryable.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &observedQuerier{Querier: q, o: o}, nil
}

type observedQuerier struct {
	storage.Querier
	o *observer
}

func (q *observedQuerier) Select(
	ctx context.Context, sortSeries bool, hints *storage.SelectHints, matchers ...*labels.Matcher,
) storage.SeriesSet {
	s := &selection{
		instant: hints.Range == 0 && hints.Step == 0, // a subquery has a step
		start:   hints.Start, end: hints.End, shift: q.o.now - hints.End,
		objects: map[objectKey]seen{}, all: nothing(),
	}
	q.o.selections = append(q.o.selections, s)
	return &observedSet{SeriesSet: q.Querier.Select(ctx, sortSeries, hints, matchers...), s: s}
}

type observedSet struct {
	storage.SeriesSet
	s  *selection
	it chunkenc.Iterator
}

func (set *observedSet) Next() bool {
	if !set.SeriesSet.Next() {
		return false
	}
	series := set.SeriesSet.At()
	set.it = series.Iterator(set.it)
	if news := set.s.newest(set.it); news != nothing() {
		ls := series.Labels()
		key := objectKey{ls.Get(namespaceLabel), ls.Get(podLabel)}
		if before, ok := set.s.objects[key]; ok {
			set.s.objects[key] = before.and(news)
		} else {
			set.s.objects[key] = news
		}
		set.s.all = set.s.all.and(news)
	}
	return true
}

// newest returns the time of a series' newest sample in the selection's range, as live or as ended.
func (s *selection) newest(it chunkenc.Iterator) seen {
	last, ended := int64(never), false
	for vt := it.Seek(s.start); vt != chunkenc.ValNone; vt = it.Next() {
		t := it.AtT()
		if t > s.end {
			break
		}
		ended = false
		if vt == chunkenc.ValFloat {
			_, v := it.At()
			ended = value.IsStaleNaN(v)
		}
		if !ended {
			last = t + s.shift
		}
	}
	switch {
	case last == never:
		return nothing()
	case ended:
		return seen{live: none, ended: last}
	default:
		return seen{live: last, ended: never}
	}
}

// of sums up the series that stand behind an object. Where the expression does not mix objects, vector matching and
// aggregation keep namespace and pod, so that only the object's own series can be in its value.
func (s *selection) of(key objectKey, mixes bool) seen {
	if mixes {
		return s.all
	}
	if got, ok := s.objects[key]; ok {
		return got
	}
	return nothing()
}

// behind returns the time that dates a value for the object, and whether anything behind it is live; the package comment
// has the rule. Where nothing is known the time is never.
func (o *observer) behind(key objectKey, mixes bool) (t int64, live bool) {
	oldest, newestEnd := int64(none), int64(never)
	for _, s := range o.selections {
		got := s.of(key, mixes)
		newestEnd = max(newestEnd, got.ended)
		switch {
		case got.live != none:
			oldest, live = min(oldest, got.live), true
		case got.ended != never && !s.instant:
			oldest = min(oldest, got.ended)
		}
	}
	if !live {
		return newestEnd, false
	}
	return oldest, true
}
