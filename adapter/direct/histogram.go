package direct

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// histograms is the node below histogram_quantile: it puts the buckets of each histogram in order, for all quantiles.
type histograms struct {
	vector // has and val stay unused
	in     node
	groups
	seen   []uint64 // by row of in: its stamp
	member []member // by row of in
	bounds [][]bound
	ready  [][]promql.Bucket // by histogram: of the present run; distinct bounds, in order
}

// member is a row's part in a histogram.
type member struct {
	id    int32 // noID for none
	upper float64
}

// bound is one bucket of a histogram.
type bound struct {
	upper float64
	row   int32 // of in
}

func newHistograms(e *Evaluator, in node) *histograms {
	n := &histograms{in: in, groups: newGroups(e, grouping{names: []string{labels.BucketLabel}, without: true})}
	n.vector.rows = &n.groups.rows
	return n
}

func (n *histograms) refresh(e *Evaluator) error {
	if err := e.update(n.in); err != nil {
		return err
	}
	in := n.in.vec()
	n.sync(in)
	n.ready = resize(n.ready, len(n.stamp))
	for id := range n.ready {
		ready := n.ready[id][:0]
		for _, b := range n.bounds[id] {
			switch last := len(ready) - 1; {
			case !in.has[b.row]:
			case last >= 0 && ready[last].UpperBound == b.upper: // "1" and "1.0"
				ready[last].Count += in.val[b.row]
			default:
				ready = append(ready, promql.Bucket{UpperBound: b.upper, Count: in.val[b.row]})
			}
		}
		n.ready[id] = ready
	}
	return nil
}

// sync brings the lists of buckets up to date.
func (n *histograms) sync(in *vector) {
	if n.group.version == in.version && len(n.seen) == len(in.stamp) {
		return
	}
	var ls labels.Labels
	n.assign(&n.group, in.rows, func(row int) ([]byte, bool) {
		ls = n.in.labelsOf(row)
		_, ok := upperBound(ls)
		n.buf = n.key(n.buf, ls)
		return n.buf, ok
	}, func(int) labels.Labels { return withoutName(n.grouping.labels(ls)) })
	n.bounds = resize(n.bounds, len(n.stamp))
	for len(n.seen) < len(in.stamp) {
		n.seen, n.member = append(n.seen, 0), append(n.member, member{id: noID})
	}
	for row, stamp := range in.stamp {
		if n.seen[row] == stamp {
			continue
		}
		n.seen[row] = stamp
		m := &n.member[row]
		if m.id != noID {
			n.bounds[m.id] = slices.DeleteFunc(n.bounds[m.id], func(b bound) bool { return int(b.row) == row })
		}
		if m.id = n.group.id[row]; m.id != noID {
			m.upper, _ = upperBound(n.in.labelsOf(row))
			b := bound{m.upper, int32(row)}
			at, _ := slices.BinarySearchFunc(n.bounds[m.id], b, func(a, b bound) int { return cmp.Compare(a.upper, b.upper) })
			n.bounds[m.id] = slices.Insert(n.bounds[m.id], at, b)
		}
	}
}

// upperBound returns what the bucket label says; false where it is not a number.
func upperBound(ls labels.Labels) (float64, bool) {
	upper, err := strconv.ParseFloat(ls.Get(labels.BucketLabel), 64)
	return upper, err == nil && !math.IsNaN(upper)
}

func (n *histograms) labelsOf(row int) labels.Labels { return n.values[row] }

func (n *histograms) close() {}

// quantile is histogram_quantile.
type quantile struct {
	vector
	in *histograms
	q  float64
}

func (n *quantile) refresh(e *Evaluator) error {
	if err := e.update(n.in); err != nil {
		return err
	}
	n.rows = n.in.vec().rows
	n.fit()
	for id, buckets := range n.in.ready {
		if n.has[id] = len(buckets) > 0; n.has[id] {
			// It makes counts monotonic in place, which changes nothing for the next quantile.
			n.val[id], _, _, _, _, _ = promql.BucketQuantile(n.q, buckets)
		}
	}
	return nil
}

func (n *quantile) labelsOf(row int) labels.Labels { return n.in.labelsOf(row) }

func (n *quantile) close() {}
