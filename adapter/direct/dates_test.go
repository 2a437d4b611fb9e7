package direct

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
)

// dates says by brute force what stands behind each object or result: by the values of the object labels, joined.
type dates struct {
	selectors []map[string]Seen // by object, with all series' labels
	instant   []bool
}

func (w *world) dates(t *testing.T, text string, opts Options, m Membership, now time.Time) dates {
	t.Helper()
	var d dates
	parser.Inspect(parse(t, text), func(node parser.Node, path []parser.Node) error {
		vs, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		end := now.Add(-vs.OriginalOffset).UnixMilli()
		back, instant := testMaxAge, true
		if len(path) > 0 {
			if ms, ok := path[len(path)-1].(*parser.MatrixSelector); ok {
				back, instant = ms.Range, false
			}
		}
		hints := &storage.SelectHints{Start: end - back.Milliseconds() + 1, End: end}
		q, err := (&membersQueryable{w.st, m}).Querier(hints.Start, hints.End)
		require.NoError(t, err)
		set := q.Select(t.Context(), false, hints, vs.LabelMatchers...)
		found := map[string]Seen{}
		for set.Next() {
			last, ended := newest(set.At(), hints.Start, hints.End)
			if last == math.MinInt64 {
				continue
			}
			last += vs.OriginalOffset.Milliseconds()
			var values []string
			for _, name := range opts.ObjectLabels {
				values = append(values, set.At().Labels().Get(name))
			}
			key := strings.Join(values, "/")
			s, ok := found[key]
			if !ok {
				s = Seen{None, Never}
			}
			if ended {
				s.Ended = max(s.Ended, last)
			} else {
				s.Live = min(s.Live, last)
			}
			found[key] = s
		}
		d.selectors, d.instant = append(d.selectors, found), append(d.instant, instant)
		return nil
	})
	return d
}

// behind sums up as the documentation of Seen says.
func (d *dates) behind(object []string) Seen {
	out := Seen{None, Never}
	anyLive := false
	for i, found := range d.selectors {
		s := Seen{None, Never}
		for key, f := range found {
			agrees := true
			for j, v := range strings.Split(key, "/") {
				agrees = agrees && (len(object) == 0 || object[j] == "" || object[j] == v)
			}
			if agrees {
				s.Live, s.Ended = min(s.Live, f.Live), max(s.Ended, f.Ended)
			}
		}
		out.Ended = max(out.Ended, s.Ended)
		if s.Live != None {
			anyLive = true
			out.Live = min(out.Live, s.Live)
		} else if s.Ended != Never && !d.instant[i] {
			out.Live = min(out.Live, s.Ended)
		}
	}
	if !anyLive {
		out.Live = None
	}
	return out
}

func compareDates(t *testing.T, d dates, got *Output, opts Options, what string) {
	t.Helper()
	found := map[string]bool{}
	for _, r := range got.Results {
		for i, name := range opts.ObjectLabels {
			require.Equal(t, r.Labels.Get(name), r.Object[i])
		}
		require.Len(t, r.Object, len(opts.ObjectLabels))
		require.Equal(t, d.behind(r.Object), r.Seen, "%s: dates of %s", what, r.Labels)
		found[strings.Join(r.Object, "/")] = true
	}
	var want, missing []string
	for _, objects := range d.selectors {
		for key := range objects {
			values := strings.Split(key, "/")
			if len(opts.ObjectLabels) > 0 && !slices.Contains(values, "") && !found[key] {
				want = append(want, fmt.Sprint(key, d.behind(values)))
				found[key] = true
			}
		}
	}
	for _, o := range got.Missing {
		missing = append(missing, fmt.Sprint(strings.Join(o.Object, "/"), o.Seen))
	}
	require.ElementsMatch(t, want, missing, what)
}
