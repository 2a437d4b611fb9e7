package rules

import (
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"headroom.dev/headroom/adapter/direct"
)

// observer is the Queryable that the engine reads for one evaluation of one rule. It shows series as the rule's membership
// has them, and notes how new their samples are. The engine selects and reads in one goroutine, so it needs no lock.
type observer struct {
	storage.Queryable
	now     int64              // ms
	members *direct.Membership // nil shows the series as they are
	dates   *dates
}

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
	set := &observedSet{
		o: q.o, s: newSelection(hints.Range == 0 && hints.Step == 0), // a subquery has a step
		start: hints.Start, end: hints.End,
	}
	q.o.dates.selections = append(q.o.dates.selections, set.s)
	matchers, set.matchers = splitMatchers(q.o.members, matchers)
	set.SeriesSet = q.Querier.Select(ctx, sortSeries, hints, matchers...) // instant queries ask for no order
	return set
}

// splitMatchers parts the matchers of the label that membership sets from the others.
func splitMatchers(m *direct.Membership, matchers []*labels.Matcher) (stored, set []*labels.Matcher) {
	if m == nil || m.Label == "" {
		return matchers, nil
	}
	for _, matcher := range matchers {
		if matcher.Name == m.Label {
			set = append(set, matcher)
		} else {
			stored = append(stored, matcher)
		}
	}
	return stored, set
}

type observedSet struct {
	storage.SeriesSet
	o          *observer
	s          *selection
	matchers   []*labels.Matcher // of the label that membership sets
	start, end int64             // ms, both inclusive: the range that the engine reads
	it         chunkenc.Iterator

	current storage.Series
	more    []storage.Series // further views of the series that was read last
}

// At returns the series as membership has it.
func (set *observedSet) At() storage.Series { return set.current }

// Next goes to the next series that takes part.
func (set *observedSet) Next() bool {
	for len(set.more) == 0 {
		if !set.SeriesSet.Next() {
			return false
		}
		set.read(set.SeriesSet.At())
	}
	set.current, set.more = set.more[0], set.more[1:]
	return true
}

// read puts the views of a series into more.
func (set *observedSet) read(series storage.Series) {
	set.it = series.Iterator(set.it)
	news := set.newest()
	m := set.o.members
	if m != nil && max(news.ended, live(news)) <= set.o.now-m.MaxAge.Milliseconds() {
		return
	}
	set.more = set.more[:0]
	views(m, series.Labels(), func(ls labels.Labels) {
		if slices.ContainsFunc(set.matchers, func(m *labels.Matcher) bool { return !m.Matches(ls.Get(m.Name)) }) {
			return
		}
		if news != nothing() {
			set.o.dates.series++
		}
		set.s.add(groupOf(ls, set.o.dates.by), news)
		set.more = append(set.more, view{Series: series, labels: ls})
	})
}

// views calls yield with the labels under which membership shows a series.
func views(m *direct.Membership, ls labels.Labels, yield func(labels.Labels)) {
	if m == nil {
		yield(ls)
		return
	}
	pod := ls.Get(podLabel)
	if pod == "" {
		yield(ls)
		return
	}
	values, ok := m.Of(ls.Get(namespaceLabel), pod)
	if !ok {
		return
	}
	if m.Label == "" {
		yield(ls)
		return
	}
	b := labels.NewBuilder(ls)
	for _, v := range values {
		yield(b.Set(m.Label, v).Labels())
	}
}

// view is a series under the labels that membership gives it.
type view struct {
	storage.Series
	labels labels.Labels
}

func (v view) Labels() labels.Labels { return v.labels }

// newest returns the time of a series' newest sample in the selection's range, as live or as ended, counted as if the
// selector had no offset.
func (set *observedSet) newest() seen {
	last, ended := int64(never), false
	for vt := set.it.Seek(set.start); vt != chunkenc.ValNone; vt = set.it.Next() {
		t := set.it.AtT()
		if t > set.end {
			break
		}
		ended = false
		if vt == chunkenc.ValFloat {
			_, v := set.it.At()
			ended = value.IsStaleNaN(v)
		}
		if !ended {
			last = t + set.o.now - set.end
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

// live returns the time of the live sample, never where there is none.
func live(s seen) int64 {
	if s.live == none {
		return never
	}
	return s.live
}

const (
	none  = math.MaxInt64
	never = math.MinInt64
)
