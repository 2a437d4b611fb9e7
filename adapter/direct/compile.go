package direct

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Options say how an expression is meant.
type Options struct {
	// MaxAge is how far back instant selectors look, the engine's look-back.
	MaxAge time.Duration
	// ObjectLabels name the object of a series and of a result: a result is dated by the series that agree with it in those
	// of the labels that it has. Without any, every series stands behind every result.
	ObjectLabels []string
	// MembershipLabel is the Label of the memberships that the plan will be evaluated with.
	MembershipLabel string
}

// Plan is a compiled expression. It never changes and belongs to no Evaluator.
type Plan struct {
	opts       Options
	objectsKey string
	root       *shape
	leaves     []*shape // one for each selector of the expression
}

// UnsupportedError says what in an expression Compile leaves to the engine.
type UnsupportedError struct {
	What string // "function topk", "group_left", …
}

func (e *UnsupportedError) Error() string { return e.What + " is not evaluated directly" }

// shape is a vector expression without its data.
type shape struct {
	key   string // equal ones give equal values
	name  string // of all its results; "" for none
	names bool   // results may have different names; then name is ""
	build func(e *Evaluator, ms *members) node
}

// Compile returns the plan of an expression that parses, or an *UnsupportedError.
func Compile(expr parser.Expr, opts Options) (*Plan, error) {
	p := &Plan{opts: opts}
	p.opts.ObjectLabels = slices.Clone(opts.ObjectLabels)
	p.objectsKey = strings.Join(p.opts.ObjectLabels, "\xff")
	c := &compiler{plan: p}
	root, err := c.vector(expr)
	if err != nil {
		return nil, err
	}
	p.root = root
	return p, nil
}

type compiler struct{ plan *Plan }

func unsupported(format string, args ...any) error {
	return &UnsupportedError{What: fmt.Sprintf(format, args...)}
}

// vector compiles an expression that gives an instant vector.
func (c *compiler) vector(expr parser.Expr) (*shape, error) {
	switch x := expr.(type) {
	case *parser.ParenExpr:
		return c.vector(x.Expr)
	case *parser.VectorSelector:
		return c.selector(x, selector{instant: true, keepName: true, back: c.plan.opts.MaxAge.Milliseconds()}, "")
	case *parser.Call:
		return c.call(x)
	case *parser.AggregateExpr:
		return c.aggregate(x)
	case *parser.UnaryExpr:
		in, err := c.vector(x.Expr)
		if err != nil || x.Op == parser.ADD {
			return in, err
		}
		return mapShape("-", in, true, func(v float64) (float64, bool) { return -v, true }), nil
	case *parser.BinaryExpr:
		return c.binary(x)
	}
	return nil, unsupported("%T", expr)
}

// selector completes a selector of the given kind.
func (c *compiler) selector(x *parser.VectorSelector, sel selector, fn string) (*shape, error) {
	if err := checkModifiers(x); err != nil {
		return nil, err
	}
	sel.offset = x.OriginalOffset.Milliseconds()
	var ofLabel []*labels.Matcher
	for _, m := range x.LabelMatchers {
		switch {
		case m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual && sel.name == "":
			sel.name = m.Value
		case m.Name == model.MetricNameLabel:
			return nil, unsupported("a selector of several metric names")
		case m.Name == c.plan.opts.MembershipLabel:
			ofLabel = append(ofLabel, m)
		default:
			sel.matchers = append(sel.matchers, m)
		}
	}
	if sel.name == "" {
		return nil, unsupported("a selector without a metric name")
	}
	kind := fmt.Sprintf("%s %t %d %d %q", fn, sel.instant, sel.back, sel.offset, sel.name)
	stored := &shape{key: kind + matcherKey(sel.matchers)}
	stored.build = func(e *Evaluator, _ *members) node { return newSeries(e, sel) }
	all := sel
	all.matchers = slices.Concat(sel.matchers, ofLabel)
	s := &shape{key: kind + matcherKey(all.matchers)}
	if sel.keepName {
		s.name = sel.name
	}
	s.build = func(e *Evaluator, ms *members) node {
		if ms == nil {
			return newSeries(e, all)
		}
		return newView(e.node(stored, nil).(*series), ms, ofLabel) //nolint:forcetypeassert // built above
	}
	c.plan.leaves = append(c.plan.leaves, s)
	return s, nil
}

func checkModifiers(x *parser.VectorSelector) error {
	switch {
	case x.OriginalOffset < 0 || x.OriginalOffsetExpr != nil:
		return unsupported("an offset that is negative or computed")
	case x.Timestamp != nil || x.StartOrEnd != 0:
		return unsupported("the @ modifier")
	case x.Anchored || x.Smoothed:
		return unsupported("an anchored or smoothed selector")
	}
	return nil
}

// matcherKey is equal for matchers that are.
func matcherKey(matchers []*labels.Matcher) string {
	list := make([]string, len(matchers))
	for i, m := range matchers {
		list[i] = m.String()
	}
	slices.Sort(list)
	return fmt.Sprintf("%q", list)
}

func (c *compiler) call(x *parser.Call) (*shape, error) {
	name := x.Func.Name
	if fn, ok := rangeFuncs()[name]; ok {
		m, ok := x.Args[0].(*parser.MatrixSelector)
		if !ok || m.RangeExpr != nil {
			return nil, unsupported("%s of a subquery or a computed range", name)
		}
		vs, ok := m.VectorSelector.(*parser.VectorSelector)
		if !ok {
			return nil, unsupported("%s of %T", name, m.VectorSelector)
		}
		return c.selector(vs, selector{
			compute: fn, back: m.Range.Milliseconds(), keepName: name == "last_over_time",
		}, name)
	}
	if name == "histogram_quantile" {
		return c.histogramQuantile(x)
	}
	if len(x.Args) == 0 || x.Args[0].Type() != parser.ValueTypeVector {
		return nil, unsupported("function %s", name)
	}
	args := make([]float64, len(x.Args)-1)
	for i, arg := range x.Args[1:] {
		v, ok := constant(arg)
		if !ok {
			return nil, unsupported("function %s with an argument that is not a constant", name)
		}
		args[i] = v
	}
	fn := valueFunc(name, args)
	if fn == nil {
		return nil, unsupported("function %s", name)
	}
	in, err := c.vector(x.Args[0])
	if err != nil {
		return nil, err
	}
	return mapShape(fmt.Sprint(name, args), in, true, fn), nil
}

// mapShape is one value for each value of in.
func mapShape(key string, in *shape, dropName bool, of func(v float64) (float64, bool)) *shape {
	out := &shape{key: key + "(" + in.key + ")", name: in.name, names: in.names}
	if dropName {
		out.name, out.names = "", false
	}
	out.build = func(e *Evaluator, ms *members) node {
		return &mapped{in: e.node(in, ms), dropName: dropName, of: of}
	}
	return out
}

func (c *compiler) histogramQuantile(x *parser.Call) (*shape, error) {
	q, ok := constant(x.Args[0])
	if !ok {
		return nil, unsupported("histogram_quantile of a quantile that is not a constant")
	}
	in, err := c.vector(x.Args[1])
	if err != nil {
		return nil, err
	}
	if in.names {
		return nil, unsupported("histogram_quantile of several metrics")
	}
	buckets := &shape{key: "histograms(" + in.key + ")"}
	buckets.build = func(e *Evaluator, ms *members) node { return newHistograms(e, e.node(in, ms)) }
	return &shape{key: fmt.Sprint("quantile ", q, buckets.key), build: func(e *Evaluator, ms *members) node {
		return &quantile{in: e.node(buckets, ms).(*histograms), q: q} //nolint:forcetypeassert // built above
	}}, nil
}

func (c *compiler) aggregate(x *parser.AggregateExpr) (*shape, error) {
	switch x.Op {
	case parser.SUM, parser.AVG, parser.MIN, parser.MAX, parser.COUNT, parser.GROUP, parser.STDDEV, parser.STDVAR:
	default:
		return nil, unsupported("aggregation %s", x.Op)
	}
	g := grouping{names: slices.Clone(x.Grouping), without: x.Without}
	if g.without {
		g.names = append(g.names, metadata()...)
	} else if reserved(g.names) {
		return nil, unsupported("aggregation by a metric's name, type or unit")
	}
	slices.Sort(g.names)
	g.names = slices.Compact(g.names)
	in, err := c.vector(x.Expr)
	if err != nil {
		return nil, err
	}
	return &shape{
		key:   fmt.Sprintf("%s %t %q (%s)", x.Op, g.without, g.names, in.key),
		build: func(e *Evaluator, ms *members) node { return newAggregate(e, e.node(in, ms), x.Op, g) },
	}, nil
}

func reserved(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(metadata(), n) })
}

func (c *compiler) binary(x *parser.BinaryExpr) (*shape, error) {
	if x.LHS.Type() == parser.ValueTypeVector && x.RHS.Type() == parser.ValueTypeVector {
		return c.match(x)
	}
	op := operator(x.Op)
	if op == nil {
		return nil, unsupported("operator %s", x.Op)
	}
	side, number, swap := x.LHS, x.RHS, false
	if x.LHS.Type() == parser.ValueTypeScalar {
		side, number, swap = x.RHS, x.LHS, true
	}
	k, ok := constant(number)
	if !ok {
		return nil, unsupported("a scalar that is not a constant")
	}
	in, err := c.vector(side)
	if err != nil {
		return nil, err
	}
	compares := x.Op.IsComparisonOperator()
	of := func(v float64) (float64, bool) {
		l, r := v, k
		if swap {
			l, r = k, v
		}
		out, keep := op(l, r)
		switch {
		case x.ReturnBool:
			return truth(keep), true
		case compares:
			return v, keep
		}
		return out, keep
	}
	return mapShape(fmt.Sprint(x.Op, x.ReturnBool, k, swap), in, !compares || x.ReturnBool, of), nil
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// match compiles an operator between vectors.
func (c *compiler) match(x *parser.BinaryExpr) (*shape, error) {
	vm := x.VectorMatching
	if err := c.checkMatching(vm); err != nil {
		return nil, err
	}
	left, err := c.vector(x.LHS)
	if err != nil {
		return nil, err
	}
	right, err := c.vector(x.RHS)
	if err != nil {
		return nil, err
	}
	out := &shape{
		key:  fmt.Sprintf("%s %t %t %q (%s) (%s)", x.Op, x.ReturnBool, vm.On, vm.MatchingLabels, left.key, right.key),
		name: left.name, names: left.names,
	}
	matched := func(e *Evaluator, ms *members) matching {
		return newMatching(e, e.node(left, ms), e.node(right, ms), vm)
	}
	switch x.Op {
	case parser.LAND, parser.LUNLESS:
		out.build = func(e *Evaluator, ms *members) node {
			return &restrict{matching: matched(e, ms), unless: x.Op == parser.LUNLESS}
		}
	case parser.LOR:
		if right.names || left.name != right.name {
			out.name, out.names = "", true
		}
		out.build = func(e *Evaluator, ms *members) node { return &union{matching: matched(e, ms)} }
	default:
		op := operator(x.Op)
		if op == nil {
			return nil, unsupported("operator %s", x.Op)
		}
		if compare := op; x.ReturnBool {
			op = func(l, r float64) (float64, bool) { _, keep := compare(l, r); return truth(keep), true }
		}
		dropName := !x.Op.IsComparisonOperator() || x.ReturnBool
		if dropName || vm.On {
			out.name, out.names = "", false
		}
		out.build = func(e *Evaluator, ms *members) node {
			return &binary{matching: matched(e, ms), op: op, dropName: dropName}
		}
	}
	return out, nil
}

func (c *compiler) checkMatching(vm *parser.VectorMatching) error {
	switch {
	case vm.Card == parser.CardManyToOne || vm.Card == parser.CardOneToMany:
		return unsupported("group_left or group_right")
	case vm.FillValues.LHS != nil || vm.FillValues.RHS != nil:
		return unsupported("a fill value")
	case reserved(vm.MatchingLabels):
		return unsupported("matching by a metric's name, type or unit")
	}
	for _, label := range c.plan.opts.ObjectLabels {
		if slices.Contains(vm.MatchingLabels, label) != vm.On {
			return unsupported("matching that leaves out the object's label %s", label)
		}
	}
	return nil
}

// constant returns the value of an expression of numbers alone.
func constant(expr parser.Expr) (float64, bool) {
	switch x := expr.(type) {
	case *parser.NumberLiteral:
		return x.Val, true
	case *parser.ParenExpr:
		return constant(x.Expr)
	case *parser.UnaryExpr:
		v, ok := constant(x.Expr)
		if x.Op == parser.SUB {
			v = -v
		}
		return v, ok
	case *parser.BinaryExpr:
		l, okL := constant(x.LHS)
		r, okR := constant(x.RHS)
		op := operator(x.Op)
		if !okL || !okR || op == nil {
			return 0, false
		}
		v, keep := op(l, r)
		if x.Op.IsComparisonOperator() {
			v = truth(keep)
		}
		return v, true
	}
	return 0, false
}
