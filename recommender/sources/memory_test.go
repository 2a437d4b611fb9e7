package sources

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

// memory is a storage that Prometheus' engine can query. (Prometheus' own for tests would bring three clouds' clients into go.mod.)
type memory []storage.Series

// point is a float at a time in milliseconds.
type point struct {
	t int64
	f float64
}

func (p point) ST() int64                     { return 0 }
func (p point) T() int64                      { return p.t }
func (p point) F() float64                    { return p.f }
func (p point) H() *histogram.Histogram       { return nil }
func (p point) FH() *histogram.FloatHistogram { return nil }
func (p point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p point) Copy() chunks.Sample           { return p }

func (m *memory) add(ls labels.Labels, points []chunks.Sample) {
	*m = append(*m, storage.NewListSeries(ls, points))
}

// load reads series as promqltest writes them: name{labels} values, one value every step from 0 on.
func load(tb testing.TB, step time.Duration, lines string) *memory {
	tb.Helper()
	var m memory
	for line := range strings.Lines(lines) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		ls, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(line)
		require.NoError(tb, err, line)
		var points []chunks.Sample
		for i, v := range values {
			if !v.Omitted {
				points = append(points, point{int64(i) * step.Milliseconds(), v.Value})
			}
		}
		m.add(ls, points)
	}
	return &m
}

// Querier implements storage.Queryable.
func (m *memory) Querier(int64, int64) (storage.Querier, error) { return memoryQuerier{m}, nil }

type memoryQuerier struct{ *memory }

func (memoryQuerier) Close() error { return nil }

// Select returns what matches, with all of its samples: the engine takes those that it wants.
func (q memoryQuerier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var found []storage.Series
	for _, s := range *q.memory {
		ls := s.Labels()
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(ls.Get(m.Name)) }) {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return &memorySet{list: found, i: -1}
}

func (memoryQuerier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errors.ErrUnsupported
}

func (memoryQuerier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errors.ErrUnsupported
}

type memorySet struct {
	list []storage.Series
	i    int
}

func (s *memorySet) Next() bool                      { s.i++; return s.i < len(s.list) }
func (s *memorySet) At() storage.Series              { return s.list[s.i] }
func (*memorySet) Err() error                        { return nil }
func (*memorySet) Warnings() annotations.Annotations { return nil }
