package direct

import (
	"errors"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Why the engine refuses to match vectors.
var (
	errManySides   = errors.New("many-to-many matching not allowed: matching labels must be unique on one side")
	errManyMatches = errors.New("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)")
)

// matching finds the rows of two nodes that have the matching labels in common.
type matching struct {
	left, right node
	on          grouping // of the signature
	names       []string // as on(…) or ignoring(…) has them
	signatures  *table[struct{}]
	l, r        assignment // the signature of each row
	key         []byte     // reused
}

func newMatching(e *Evaluator, left, right node, vm *parser.VectorMatching) matching {
	on := grouping{names: slices.Clone(vm.MatchingLabels), without: !vm.On}
	if on.without {
		on.names = append(on.names, metadata()...)
	}
	slices.Sort(on.names)
	return matching{left: left, right: right, on: on, names: vm.MatchingLabels, signatures: newTable[struct{}](e)}
}

func (m *matching) update(e *Evaluator) error {
	// Both always, so that what stands below either counts as used.
	if err := errors.Join(e.update(m.left), e.update(m.right)); err != nil {
		return err
	}
	m.sync(m.left, &m.l)
	m.sync(m.right, &m.r)
	return nil
}

func (m *matching) sync(n node, a *assignment) {
	m.signatures.assign(a, n.vec().rows, func(row int) ([]byte, bool) {
		m.key = m.on.key(m.key, n.labelsOf(row))
		return m.key, true
	}, func(int) struct{} { return struct{}{} })
}

// binary is an arithmetic operator or comparison between the matching rows of two nodes. Its rows are the left ones.
type binary struct {
	vector
	matching
	op       func(l, r float64) (float64, bool)
	dropName bool
	other    []int32 // by signature: the row on the right that has a value
	matched  []bool  // by signature
}

func (n *binary) refresh(e *Evaluator) error {
	if err := n.matching.update(e); err != nil {
		return err
	}
	left, right := n.left.vec(), n.right.vec()
	n.rows = left.rows
	n.fit()
	clear(n.has)
	n.other, n.matched = resize(n.other, len(n.signatures.stamp)), resize(n.matched, len(n.signatures.stamp))
	clear(n.matched)
	for i := range n.other {
		n.other[i] = noID
	}
	if !slices.Contains(left.has, true) {
		return nil // nothing matches, so nothing matches twice
	}
	for row, has := range right.has {
		if !has {
			continue
		}
		sig := n.r.id[row]
		if n.other[sig] != noID {
			return errManySides
		}
		n.other[sig] = int32(row)
	}
	for row, has := range left.has {
		if !has {
			continue
		}
		sig := n.l.id[row]
		if n.other[sig] == noID {
			continue
		}
		if n.matched[sig] {
			return errManyMatches
		}
		n.matched[sig] = true
		n.val[row], n.has[row] = n.op(left.val[row], right.val[n.other[sig]])
	}
	return nil
}

func (n *binary) labelsOf(row int) labels.Labels {
	ls := n.left.labelsOf(row)
	if n.dropName {
		ls = withoutName(ls)
	}
	b := labels.NewBuilder(ls)
	if n.on.without {
		return b.Del(n.names...).Labels()
	}
	return b.Keep(n.names...).Labels()
}

func (n *binary) close() {}

// restrict is and, or unless: the rows on the left with, or without, a match on the right.
type restrict struct {
	vector
	matching
	unless  bool
	present []bool // by signature: some row on the right has a value
}

func (n *restrict) refresh(e *Evaluator) error {
	if err := n.matching.update(e); err != nil {
		return err
	}
	left := n.left.vec()
	n.rows = left.rows
	n.fit()
	n.present = mark(n.present, n.signatures, &n.r, n.right.vec())
	for row, has := range left.has {
		n.has[row], n.val[row] = has && n.present[n.l.id[row]] != n.unless, left.val[row]
	}
	return nil
}

// mark says which signatures have a row with a value.
func mark(present []bool, signatures *table[struct{}], a *assignment, v *vector) []bool {
	present = resize(present, len(signatures.stamp))
	clear(present)
	for row, has := range v.has {
		if has {
			present[a.id[row]] = true
		}
	}
	return present
}

func (n *restrict) labelsOf(row int) labels.Labels { return n.left.labelsOf(row) }

func (n *restrict) close() {}

// union is or: the left rows, and the right ones without a match among them. Its rows are those of the left and, from
// offset on, those of the right.
type union struct {
	vector
	matching
	own           rows
	leftAt        uint64 // the versions that own stands for
	rightAt       uint64
	leftN, rightN int
	offset        int
	seen          []uint64 // by own row: the stamp on its side
	present       []bool   // by signature: some row on the left has a value
}

func (n *union) refresh(e *Evaluator) error {
	if err := n.matching.update(e); err != nil {
		return err
	}
	left, right := n.left.vec(), n.right.vec()
	n.rows = &n.own
	n.sync(e, left.rows, right.rows)
	n.fit()
	n.present = mark(n.present, n.signatures, &n.l, left)
	clear(n.has)
	copy(n.has, left.has)
	copy(n.val, left.val)
	for row, has := range right.has {
		n.has[n.offset+row], n.val[n.offset+row] = has && !n.present[n.r.id[row]], right.val[row]
	}
	return nil
}

// sync brings the own rows up to date. The left side has some room to grow, else all rows on the right are new ones.
func (n *union) sync(e *Evaluator, left, right *rows) {
	if n.leftAt == left.version && n.rightAt == right.version && n.leftN == len(left.stamp) && n.rightN == len(right.stamp) {
		return
	}
	n.leftAt, n.rightAt, n.leftN, n.rightN = left.version, right.version, len(left.stamp), len(right.stamp)
	if n.leftN > n.offset {
		for row := n.offset; row < len(n.seen); row++ {
			n.set(e, row, 0)
		}
		n.offset = n.leftN + n.leftN/4 + 8
	}
	n.own.stamp, n.seen = resize(n.own.stamp, n.offset+n.rightN), resize(n.seen, n.offset+n.rightN)
	for row, stamp := range left.stamp {
		n.set(e, row, stamp)
	}
	for row, stamp := range right.stamp {
		n.set(e, n.offset+row, stamp)
	}
}

// set gives an own row a new stamp where that of its side is new.
func (n *union) set(e *Evaluator, row int, stamp uint64) {
	if n.seen[row] != stamp {
		n.seen[row] = stamp
		e.touch(&n.own, int32(row), stamp == 0)
	}
}

func (n *union) labelsOf(row int) labels.Labels {
	if row >= n.offset {
		return n.right.labelsOf(row - n.offset)
	}
	return n.left.labelsOf(row)
}

func (n *union) close() {}

// operator returns an arithmetic operator, or a comparison that keeps the left number where it holds; nil for others.
func operator(op parser.ItemType) func(l, r float64) (float64, bool) {
	switch op {
	case parser.ADD:
		return func(l, r float64) (float64, bool) { return l + r, true }
	case parser.SUB:
		return func(l, r float64) (float64, bool) { return l - r, true }
	case parser.MUL:
		return func(l, r float64) (float64, bool) { return l * r, true }
	case parser.DIV:
		return func(l, r float64) (float64, bool) { return l / r, true }
	case parser.POW:
		return func(l, r float64) (float64, bool) { return math.Pow(l, r), true }
	case parser.MOD:
		return func(l, r float64) (float64, bool) { return math.Mod(l, r), true }
	case parser.ATAN2:
		return func(l, r float64) (float64, bool) { return math.Atan2(l, r), true }
	case parser.EQLC:
		return func(l, r float64) (float64, bool) { return l, l == r }
	case parser.NEQ:
		return func(l, r float64) (float64, bool) { return l, l != r }
	case parser.GTR:
		return func(l, r float64) (float64, bool) { return l, l > r }
	case parser.LSS:
		return func(l, r float64) (float64, bool) { return l, l < r }
	case parser.GTE:
		return func(l, r float64) (float64, bool) { return l, l >= r }
	case parser.LTE:
		return func(l, r float64) (float64, bool) { return l, l <= r }
	}
	return nil
}
