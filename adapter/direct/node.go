package direct

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/schema"
)

// node is one vector expression under one membership: rows that stay, and their values in the present run.
type node interface {
	// refresh brings rows and values up to date, with those of the nodes below. It is called through Evaluator.update.
	refresh(e *Evaluator) error
	// labelsOf builds the labels of a row that is not free.
	labelsOf(row int) labels.Labels
	// close gives up what the node holds in tables that it shares.
	close()
	vec() *vector
}

// vector is the part that all nodes have: rows, and their values in the present run.
type vector struct {
	ran uint64 // the newest run that used the node
	err error  // of that run
	*rows
	// Values of the present run, by row. A free row has none.
	has []bool
	val []float64
}

func (v *vector) vec() *vector { return v }

// fit makes room for the values of all rows.
func (v *vector) fit() {
	v.has, v.val = resize(v.has, len(v.stamp)), resize(v.val, len(v.stamp))
}

// update refreshes a node once in each run.
func (e *Evaluator) update(n node) error {
	s := n.vec()
	if s.ran != e.run {
		s.ran = e.run
		s.err = n.refresh(e)
	}
	return s.err
}

// node returns the node of a shape under a membership, a new one if there is none yet.
func (e *Evaluator) node(s *shape, m *members) node {
	key := s.key
	if m != nil {
		key = m.id + "\xff" + key
	}
	n, ok := e.nodes[key]
	if !ok {
		n = s.build(e, m)
		e.nodes[key] = n
	}
	return n
}

// mapped is a node with one value for each value of another, or none: functions of a number, operators with a number.
type mapped struct {
	vector
	in       node
	dropName bool
	of       func(v float64) (float64, bool)
}

func (n *mapped) refresh(e *Evaluator) error {
	if err := e.update(n.in); err != nil {
		return err
	}
	in := n.in.vec()
	n.rows = in.rows
	n.fit()
	for row, has := range in.has {
		if has {
			n.val[row], has = n.of(in.val[row])
		}
		n.has[row] = has
	}
	return nil
}

func (n *mapped) labelsOf(row int) labels.Labels {
	if n.dropName {
		return withoutName(n.in.labelsOf(row))
	}
	return n.in.labelsOf(row)
}

func (n *mapped) close() {}

// metadata returns the labels that say what a series is: name, type and unit.
func metadata() []string { return []string{"__name__", "__type__", "__unit__"} }

// withoutName returns labels without the metric's name, type and unit, which no longer hold for a computed value.
func withoutName(ls labels.Labels) labels.Labels { return ls.DropReserved(schema.IsMetadataLabel) }
