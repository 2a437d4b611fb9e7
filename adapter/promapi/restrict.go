package promapi

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

const namespaceLabel = "namespace"

var errTooManySeries = errors.New("the request examines too many series; name the metrics, or select less")

// view is what one request sees of the source: the series of its namespace, up to a number. Everything that a request
// reads comes through its Select, so that this is the one place where namespaces are kept apart.
type view struct {
	source storage.Queryable
	own    *labels.Matcher // nil: every namespace
	left   int             // series that the request may still examine; the engine reads selector after selector
}

func (s *Server) viewOf(ctx context.Context) *view {
	v := &view{source: s.source, left: s.opts.MaxSeries}
	if ns := namespaceOf(ctx); ns != "" {
		v.own = labels.MustNewMatcher(labels.MatchEqual, namespaceLabel, ns)
	}
	return v
}

// Querier returns a querier for one goroutine.
func (v *view) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := v.source.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &viewQuerier{view: v, source: q}, nil
}

type viewQuerier struct {
	view   *view
	source storage.Querier
}

func (q *viewQuerier) Close() error { return q.source.Close() }

// LabelValues is no part of a view: listings go through Select. (Of the engine only info(), which is not enabled, could ask.)
func (q *viewQuerier) LabelValues(
	context.Context, string, *storage.LabelHints, ...*labels.Matcher,
) ([]string, annotations.Annotations, error) {
	return nil, nil, errors.ErrUnsupported
}

// LabelNames is no part of a view either.
func (q *viewQuerier) LabelNames(
	context.Context, *storage.LabelHints, ...*labels.Matcher,
) ([]string, annotations.Annotations, error) {
	return nil, nil, errors.ErrUnsupported
}

// Select returns the matching series of the view's namespace, sorted: Prometheus' own storage sorts them always, and a
// limit cuts the same ones twice. The source is asked when the first series is, so that a
// query with a thousand selectors holds no more than the limit allows. It gets the matchers that cost it nothing; regular
// expressions, whose cost a request chooses, are tried here, where no scrape waits for the store's lock and a
// cancellation is seen.
func (q *viewQuerier) Select(
	ctx context.Context, _ bool, hints *storage.SelectHints, matchers ...*labels.Matcher,
) storage.SeriesSet {
	set := &viewSet{view: q.view, done: ctx.Err}
	var cheap []*labels.Matcher
	if q.view.own != nil {
		cheap = append(cheap, q.view.own)
	}
	for _, m := range matchers {
		if m.Type == labels.MatchEqual || m.Type == labels.MatchNotEqual {
			cheap = append(cheap, m)
		} else {
			set.costly = append(set.costly, m)
		}
	}
	if hints != nil && hints.Limit > 0 {
		unlimited := *hints
		unlimited.Limit = 0
		hints = &unlimited
	}
	set.open = func() storage.SeriesSet { return q.source.Select(ctx, true, hints, cheap...) }
	return set
}

// viewSet is opened by its first Next.
type viewSet struct {
	storage.SeriesSet // nil before
	open              func() storage.SeriesSet
	costly            []*labels.Matcher
	view              *view
	done              func() error
	err               error
}

func (s *viewSet) Next() bool {
	if s.SeriesSet == nil {
		s.SeriesSet = s.open()
	}
	for s.err == nil && s.SeriesSet.Next() {
		if s.err = s.done(); s.err != nil {
			return false
		}
		if s.view.left--; s.view.left < 0 {
			s.err = errTooManySeries
			return false
		}
		ls := s.At().Labels()
		if !slices.ContainsFunc(s.costly, func(m *labels.Matcher) bool { return !m.Matches(ls.Get(m.Name)) }) {
			return true
		}
	}
	return false
}

func (s *viewSet) Err() error {
	if s.err != nil || s.SeriesSet == nil {
		return s.err
	}
	return s.SeriesSet.Err()
}

func (s *viewSet) Warnings() annotations.Annotations {
	if s.SeriesSet == nil {
		return nil
	}
	return s.SeriesSet.Warnings()
}
