// Package bound refuses PromQL that would harm the process that evaluates it, before it is evaluated.
//
// Prometheus trusts those who query it. Here one request, or one rule, must not end the process that all autoscaling reads.
// The engine's own limits, on time and on samples, do not see what is bounded here: what an expression costs the parser, the
// room that the engine makes for steps and groups before it counts the first sample, and labels that grow exponentially.
package bound

import (
	"fmt"
	"regexp/syntax"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// What an expression may be.
const (
	// MaxExpr, in bytes, is more than a selector that lists 1,000 pods by name takes.
	MaxExpr = 64 << 10
	// maxTokens bounds the parser, which takes seconds for ten thousand nested brackets or added terms.
	maxTokens = 4_000
	// maxDepth bounds recursions over the expression; at a gigabyte of stack a Go process ends.
	maxDepth = 200
	// maxSteps bounds the steps of all subqueries together. The engine makes 16 bytes of statistics for each before it
	// counts the first sample: max_over_time(vector(1)[1y:1ms]) would take 500 GB.
	maxSteps = 1_000_000
	// maxK bounds topk and bottomk by group: the engine makes room for k samples (48 bytes) in each of maybe 100,000 groups.
	maxK = 20
	// maxGrowth and maxExtra bound what nested label_join and label_replace make of labels: a value of n bytes becomes at
	// most maxGrowth*n+maxExtra. Forty joins of a label with itself would make it 2^40 times as long.
	maxGrowth, maxExtra = 64, 4096
	// maxProgram bounds the regular expression of label_replace, which the engine tries on series after series without
	// looking at the clock: some 10 µs per try.
	maxProgram = 1_000
)

// SubqueryStep is the step of a subquery that names none; engines that evaluate what Parse returns must say the same.
const SubqueryStep = time.Second

// Text bounds what an expression, or a selector, costs the parser.
func Text(expr string) error {
	if len(expr) > MaxExpr {
		return fmt.Errorf("the expression has %d bytes, at most %d", len(expr), MaxExpr)
	}
	var item parser.Item
	for lexer, n := parser.Lex(expr), 0; item.Typ != parser.EOF && item.Typ != parser.ERROR; n++ {
		if n > maxTokens {
			return fmt.Errorf("the expression has more than %d tokens", maxTokens)
		}
		lexer.NextItem(&item)
	}
	return nil
}

// Parse reads an expression that is to be evaluated over span, 0 for one moment. Nothing experimental is allowed, so that an
// expression means the same on every Prometheus-compatible server. Errors are the parser's, or say which bound is passed.
func Parse(text string, span time.Duration) (parser.Expr, error) {
	if err := Text(text); err != nil {
		return nil, err
	}
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return nil, err
	}
	_, err = new(bounds).check(expr, 0, float64(span))
	return expr, err
}

// bounds adds up what an expression costs.
type bounds struct{ steps float64 }

// growth is a bound on label values: one of n bytes becomes at most factor*n+extra.
type growth struct{ factor, extra float64 }

// check returns how far a node makes labels grow, or says why it is refused. span is how long the time is over which the
// node is evaluated, in nanoseconds.
func (b *bounds) check(node parser.Node, depth int, span float64) (growth, error) {
	if depth > maxDepth {
		return growth{}, fmt.Errorf("the expression nests deeper than %d", maxDepth)
	}
	switch n := node.(type) {
	case *parser.SubqueryExpr:
		step := n.Step
		if step == 0 {
			step = SubqueryStep
		}
		span += float64(n.Range)
		if b.steps += span / float64(max(step, time.Millisecond)); b.steps > maxSteps {
			return growth{}, fmt.Errorf("the subqueries have more than %d steps", maxSteps)
		}
	case *parser.AggregateExpr:
		if (n.Op == parser.TOPK || n.Op == parser.BOTTOMK) && (n.Without || len(n.Grouping) > 0) {
			if k, ok := n.Param.(*parser.NumberLiteral); !ok || k.Val > maxK {
				return growth{}, fmt.Errorf("%s by group takes a number of at most %d", n.Op, maxK)
			}
		}
	}
	g := growth{factor: 1}
	for child := range parser.ChildrenIter(node) {
		below, err := b.check(child, depth+1, span)
		if err != nil {
			return growth{}, err
		}
		g = growth{max(g.factor, below.factor), max(g.extra, below.extra)}
	}
	if call, ok := node.(*parser.Call); ok {
		return g.after(call)
	}
	return g, nil
}

// after returns what becomes of the growth of a function's arguments.
func (g growth) after(call *parser.Call) (growth, error) {
	switch call.Func.Name {
	case "label_join":
		parts := float64(max(len(call.Args)-3, 1))
		g = growth{g.factor * parts, parts * (g.extra + float64(len(literal(call.Args[2]))))}
	case "label_replace":
		if err := checkProgram(literal(call.Args[4])); err != nil {
			return growth{}, err
		}
		template := literal(call.Args[2])
		parts := float64(max(strings.Count(template, "$"), 1))
		g = growth{g.factor * parts, parts*g.extra + float64(len(template))}
	}
	if g.factor > maxGrowth || g.extra > maxExtra {
		return growth{}, fmt.Errorf("%s would make labels too long", call.Func.Name)
	}
	return g, nil
}

// literal returns the text of an argument that is a string, which PromQL can only write out.
func literal(expr parser.Expr) string {
	switch e := expr.(type) {
	case *parser.StringLiteral:
		return e.Val
	case *parser.ParenExpr:
		return literal(e.Expr)
	}
	return ""
}

func checkProgram(pattern string) error {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil //nolint:nilerr // the engine says it better
	}
	prog, err := syntax.Compile(re.Simplify())
	if err == nil && len(prog.Inst) > maxProgram {
		err = fmt.Errorf("the regular expression of label_replace has %d instructions, at most %d", len(prog.Inst), maxProgram)
	}
	return err
}
