package direct

import (
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/kahansum"
)

// grouping names the labels by which rows belong together.
type grouping struct {
	names   []string // sorted
	without bool     // all labels but these
}

// key returns what the labels of one group have in common.
func (g *grouping) key(buf []byte, ls labels.Labels) []byte {
	if g.without {
		return ls.BytesWithoutLabels(buf, g.names...)
	}
	return ls.BytesWithLabels(buf, g.names...)
}

// labels returns the labels of a group, from those of one of its rows.
func (g *grouping) labels(ls labels.Labels) labels.Labels {
	b := labels.NewBuilder(ls)
	if g.without {
		return b.Del(g.names...).Labels()
	}
	return b.Keep(g.names...).Labels()
}

// groups are the groups of a node's rows.
type groups struct {
	grouping
	*table[labels.Labels]
	group assignment
	buf   []byte // reused
}

func newGroups(e *Evaluator, g grouping) groups {
	return groups{grouping: g, table: newTable[labels.Labels](e)}
}

// sync brings the groups of the rows of in up to date.
func (g *groups) sync(in node) {
	var ls labels.Labels
	g.assign(&g.group, in.vec().rows, func(row int) ([]byte, bool) {
		ls = in.labelsOf(row)
		g.buf = g.key(g.buf, ls)
		return g.buf, true
	}, func(int) labels.Labels { return g.grouping.labels(ls) })
}

// aggregate is a node with one value for each group of another's rows.
type aggregate struct {
	vector
	in node
	groups
	op  parser.ItemType
	acc []accumulator // by group
}

// accumulator is a group on its way to a value.
type accumulator struct {
	mean // for SUM sum and c alone
	dev  float64
}

func newAggregate(e *Evaluator, in node, op parser.ItemType, g grouping) *aggregate {
	n := &aggregate{in: in, op: op, groups: newGroups(e, g)}
	n.vector.rows = &n.groups.rows
	return n
}

func (n *aggregate) refresh(e *Evaluator) error {
	if err := e.update(n.in); err != nil {
		return err
	}
	n.sync(n.in)
	n.fit()
	clear(n.has)
	in := n.in.vec()
	switch n.op {
	case parser.SUM:
		n.sum(in)
	case parser.MIN, parser.MAX, parser.GROUP:
		n.pick(in)
	default:
		n.moments(in)
	}
	return nil
}

func (n *aggregate) sum(in *vector) {
	n.acc = resize(n.acc, len(n.has))
	for row, has := range in.has {
		if !has {
			continue
		}
		id := n.group.id[row]
		a := &n.acc[id]
		if !n.has[id] {
			n.has[id], a.sum, a.c = true, in.val[row], 0
			continue
		}
		a.sum, a.c = kahansum.Inc(in.val[row], a.sum, a.c)
	}
	for id, has := range n.has {
		if has {
			n.val[id] = n.acc[id].sum + n.acc[id].c
		}
	}
}

func (n *aggregate) pick(in *vector) {
	for row, has := range in.has {
		if !has {
			continue
		}
		id, v := n.group.id[row], in.val[row]
		switch {
		case n.op == parser.GROUP:
			n.val[id] = 1
		case !n.has[id] || math.IsNaN(n.val[id]) || n.op == parser.MIN && n.val[id] > v || n.op == parser.MAX && n.val[id] < v:
			n.val[id] = v
		}
		n.has[id] = true
	}
}

// moments computes what depends on how many values there are: count, mean and deviation.
func (n *aggregate) moments(in *vector) {
	n.acc = resize(n.acc, len(n.has))
	for row, has := range in.has {
		if !has {
			continue
		}
		id, v := n.group.id[row], in.val[row]
		a := &n.acc[id]
		switch {
		case !n.has[id]:
			n.has[id] = true
			a.first(v)
			a.mean.mean, a.dev = v, v-v // NaN of what has no deviation
		case n.op == parser.AVG:
			a.add(v)
		default: // Welford's way, as the engine
			a.count++
			delta := v - a.mean.mean
			a.mean.mean += delta / a.count
			a.dev += delta * (v - a.mean.mean)
		}
	}
	for id, has := range n.has {
		if !has {
			continue
		}
		a := &n.acc[id]
		switch n.op {
		case parser.AVG:
			n.val[id] = a.value()
		case parser.COUNT:
			n.val[id] = a.count
		case parser.STDVAR:
			n.val[id] = a.dev / a.count
		case parser.STDDEV:
			n.val[id] = math.Sqrt(a.dev / a.count)
		}
	}
}

func (n *aggregate) labelsOf(row int) labels.Labels { return n.values[row] }

func (n *aggregate) close() {}
