package store

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
)

var _ storage.Queryable = (*Store)(nil)

// Querier returns a querier of the points in [mint, maxt] (milliseconds, both inclusive). An equality matcher on
// __name__ reads an index; other matchers are tried on every series that it leaves.
func (st *Store) Querier(mint, maxt int64) (storage.Querier, error) {
	return &querier{st: st, mint: mint, maxt: maxt}, nil
}

type querier struct {
	st         *Store
	mint, maxt int64
}

func (q *querier) Close() error { return nil }

// Select returns the matching series with a point in the range that the querier and the hints share.
func (q *querier) Select(
	ctx context.Context, sortSeries bool, hints *storage.SelectHints, matchers ...*labels.Matcher,
) storage.SeriesSet {
	if err := ctx.Err(); err != nil {
		return storage.ErrSeriesSet(err)
	}
	mint, maxt, limit := q.mint, q.maxt, 0
	if hints != nil {
		limit = hints.Limit
		if !hints.DisableTrimming {
			mint, maxt = max(mint, hints.Start), min(maxt, hints.End)
		}
	}
	found := q.st.collect(mint, maxt, matchers)
	if sortSeries {
		slices.SortFunc(found, func(a, b window) int { return labels.Compare(a.labels, b.labels) })
	}
	if limit > 0 && limit < len(found) {
		found = found[:limit]
	}
	return &seriesSet{list: found, i: -1}
}

// LabelValues returns the sorted values that label name has on the series that Select would return.
func (q *querier) LabelValues(
	ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher,
) ([]string, annotations.Annotations, error) {
	seen := map[string]struct{}{}
	for _, w := range q.st.collect(q.mint, q.maxt, matchers) {
		if v := w.labels.Get(name); v != "" {
			seen[v] = struct{}{}
		}
	}
	return sorted(seen, hints), nil, ctx.Err()
}

// LabelNames returns the sorted label names of the series that Select would return.
func (q *querier) LabelNames(
	ctx context.Context, hints *storage.LabelHints, matchers ...*labels.Matcher,
) ([]string, annotations.Annotations, error) {
	seen := map[string]struct{}{}
	for _, w := range q.st.collect(q.mint, q.maxt, matchers) {
		w.labels.Range(func(l labels.Label) { seen[l.Name] = struct{}{} })
	}
	return sorted(seen, hints), nil, ctx.Err()
}

func sorted(set map[string]struct{}, hints *storage.LabelHints) []string {
	list := make([]string, 0, len(set))
	for s := range set {
		list = append(list, s)
	}
	slices.Sort(list)
	list, _ = hints.ApplyLimit(list)
	return list
}

// collect returns the matching label sets with their points in [mint, maxt], those without any left out.
func (st *Store) collect(mint, maxt int64, matchers []*labels.Matcher) []window {
	var byName, others []*labels.Matcher
	for _, m := range matchers {
		if m.Name == nameLabel {
			byName = append(byName, m)
		} else {
			others = append(others, m)
		}
	}
	st.mu.RLock()
	defer st.mu.RUnlock()
	var found []window
	for _, f := range st.matchFamilies(byName) {
		found = slices.Grow(found, len(f.places)-len(f.free))
		for _, p := range f.places {
			if p.series == nil || !matchAll(others, p.series.labels) {
				continue
			}
			if _, points := p.series.pick(mint, maxt); len(points) > 0 {
				found = append(found, window{labels: p.series.labels, points: points})
			}
		}
	}
	return found
}

// matchFamilies returns the families whose name satisfies all matchers, by name.
func (st *Store) matchFamilies(byName []*labels.Matcher) []*family {
	matches := func(f *family) bool {
		return !slices.ContainsFunc(byName, func(m *labels.Matcher) bool { return !m.Matches(f.name) })
	}
	for _, m := range byName {
		if m.Type == labels.MatchEqual {
			if f, ok := st.families[m.Value]; ok && matches(f) {
				return []*family{f}
			}
			return nil
		}
	}
	var list []*family
	for _, f := range st.families {
		if matches(f) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *family) int { return cmp.Compare(a.name, b.name) })
	return list
}

func matchAll(matchers []*labels.Matcher, ls labels.Labels) bool {
	for _, m := range matchers {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

// pick returns the one of the series and its twins that speaks for them all, with its points in [mint, maxt]; the package
// comment has the rule.
func (s *series) pick(mint, maxt int64) (*series, []Point) {
	best, points := s, cut(s.points, mint, maxt)
	for t := s.twin; t != nil; t = t.twin {
		p := cut(t.points, mint, maxt)
		if len(p) > 0 && (len(points) == 0 || better(p, t.target.name, points, best.target.name)) {
			best, points = t, p
		}
	}
	return best, points
}

func better(a []Point, aName string, b []Point, bName string) bool {
	lastA, lastB := a[len(a)-1], b[len(b)-1]
	if endA, endB := value.IsStaleNaN(lastA.V), value.IsStaleNaN(lastB.V); endA != endB {
		return endB
	}
	if lastA.T != lastB.T {
		return lastA.T > lastB.T
	}
	return aName < bName
}

// cut returns the points in [mint, maxt].
func cut(points []Point, mint, maxt int64) []Point {
	points = points[search(points, mint):]
	if n := len(points); n == 0 || points[n-1].T <= maxt { // the usual case: nothing is newer than the query
		return points
	}
	return points[:sort.Search(len(points), func(i int) bool { return points[i].T > maxt })]
}

// search returns the index of the first point at t or later. Scrapes are regular as a rule, so it looks first where that
// point were if they all were: halving its way through memory that is in no cache is half the cost of an evaluation.
func search(points []Point, t int64) int {
	n := len(points)
	if n == 0 || points[0].T >= t {
		return 0
	}
	if points[n-1].T < t {
		return n
	}
	first, span := points[0].T, points[n-1].T-points[0].T
	before, after := 0, n-1 // t lies after the one, and not after the other
	guess := int(((t-first)*int64(n-1) + span - 1) / span)
	for range 4 {
		if before+1 == after {
			return after
		}
		if guess = min(max(guess, before+1), after-1); points[guess].T < t {
			before = guess
			guess++
		} else {
			after = guess
			guess--
		}
	}
	return before + 1 + sort.Search(after-before-1, func(i int) bool { return points[before+1+i].T >= t })
}

// window is a storage.Series: one label set with its points in the queried range.
type window struct {
	labels labels.Labels
	points []Point
}

func (w *window) Labels() labels.Labels { return w.labels }

func (w *window) Iterator(reuse chunkenc.Iterator) chunkenc.Iterator {
	it, ok := reuse.(*iterator)
	if !ok {
		it = &iterator{}
	}
	*it = iterator{points: w.points, i: -1}
	return it
}

type seriesSet struct {
	list []window
	i    int
}

func (ss *seriesSet) Next() bool {
	ss.i++
	return ss.i < len(ss.list)
}

func (ss *seriesSet) At() storage.Series                { return &ss.list[ss.i] }
func (ss *seriesSet) Err() error                        { return nil }
func (ss *seriesSet) Warnings() annotations.Annotations { return nil }

// iterator walks float points; there are no histogram samples in the store.
type iterator struct {
	points []Point
	i      int
}

func (it *iterator) Next() chunkenc.ValueType {
	if it.i < len(it.points) {
		it.i++
	}
	return it.here()
}

//nolint:govet // chunkenc.Iterator's Seek, not io.Seeker's
func (it *iterator) Seek(t int64) chunkenc.ValueType {
	it.i = max(it.i, 0)
	if rest := it.points[it.i:]; len(rest) > 0 && rest[0].T < t {
		it.i += sort.Search(len(rest), func(i int) bool { return rest[i].T >= t })
	}
	return it.here()
}

func (it *iterator) here() chunkenc.ValueType {
	if it.i < len(it.points) {
		return chunkenc.ValFloat
	}
	return chunkenc.ValNone
}

func (it *iterator) At() (int64, float64) { return it.points[it.i].T, it.points[it.i].V }
func (it *iterator) AtT() int64           { return it.points[it.i].T }
func (it *iterator) AtST() int64          { return 0 }
func (it *iterator) Err() error           { return nil }

func (it *iterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	return math.MinInt64, nil
}

func (it *iterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return math.MinInt64, nil
}
