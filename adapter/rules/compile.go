package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"headroom.dev/headroom/adapter/metric"
)

// MaxLookBack bounds how far back a rule may look, MaxAge included: rules run over windows held in memory.
const MaxLookBack = 24 * time.Hour

// RuleError says what is wrong with one rule. For errors in the expression, Err begins with "line:column: ".
type RuleError struct {
	Metric, Resource string
	Err              error
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("rule %q for %q: %v", e.Metric, e.Resource, e.Err)
}

// Unwrap returns Err.
func (e *RuleError) Unwrap() error { return e.Err }

// Compiled is one rule after Compile.
type Compiled struct {
	Rule   Rule                     // with MaxAge filled in
	Err    error                    // a *RuleError where the rule is bad; then the rest is zero
	Window time.Duration            // the largest range in the expression, 0 where it has none
	Needs  map[string]time.Duration // metric name → how far back the rule looks at it

	// mixes: the expression may carry samples of one object into the value of another.
	mixes bool
}

// lookBack returns the largest of Needs.
func (c *Compiled) lookBack() time.Duration {
	var most time.Duration
	for _, d := range c.Needs {
		most = max(most, d)
	}
	return most
}

// Set is the immutable result of Compile.
type Set struct{ rules []Compiled }

// Rules returns all rules in the order of Compile's argument, bad ones included.
func (s *Set) Rules() []Compiled { return slices.Clone(s.rules) }

// Needs returns how far back the good rules together look at each metric name: what a store has to keep.
func (s *Set) Needs() map[string]time.Duration {
	needs := map[string]time.Duration{}
	for _, c := range s.rules {
		for name, d := range c.Needs {
			needs[name] = max(needs[name], d)
		}
	}
	return needs
}

// Compile parses and checks the rules. The set is usable whatever the error: it holds the good rules, and remembers of
// the bad ones why they are (Rules). The error joins one *RuleError for each of these.
func Compile(rules []Rule) (*Set, error) {
	set := &Set{rules: make([]Compiled, 0, len(rules))}
	var errs []error
	defined := map[metricKey]bool{}
	for _, r := range rules {
		if r.MaxAge == 0 {
			r.MaxAge = metric.DefaultMaxAge
		}
		c := Compiled{Rule: r}
		key := metricKey{r.Metric, r.Resource}
		err := compile(&c)
		if err == nil && defined[key] {
			err = errors.New("defined twice; the first definition is used")
		}
		if err != nil {
			c = Compiled{Rule: r, Err: &RuleError{Metric: r.Metric, Resource: r.Resource, Err: err}}
			errs = append(errs, c.Err)
		} else {
			defined[key] = true
		}
		set.rules = append(set.rules, c)
	}
	return set, errors.Join(errs...)
}

func compile(c *Compiled) error {
	r := &c.Rule
	if err := checkNames(r); err != nil {
		return err
	}
	if r.MaxAge < 0 || r.MaxAge > MaxLookBack {
		return fmt.Errorf("maxAge %s is not between 0 and %s", r.MaxAge, MaxLookBack)
	}
	// Default options: nothing experimental, so a rule means the same on every Prometheus-compatible server.
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(r.Expr)
	if err != nil {
		return err
	}
	at := func(n parser.Node, format string, args ...any) error {
		return fmt.Errorf("%s: %w", n.PositionRange().StartPosInput(r.Expr, 0), fmt.Errorf(format, args...))
	}
	if expr.Type() != parser.ValueTypeVector {
		return at(expr, "the expression gives a %s, not an instant vector", parser.DocumentedType(expr.Type()))
	}
	c.Needs = map[string]time.Duration{}
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		if err == nil {
			if reason := c.visit(node, path); reason != "" {
				err = at(node, "%s", reason)
			}
		}
		return err
	})
	if err == nil && len(c.Needs) == 0 {
		return at(expr, "the expression selects no series")
	}
	return err
}

// checkNames says why nobody could ask for what the rule defines.
func checkNames(r *Rule) error {
	switch {
	case r.Metric == "" || strings.ContainsAny(r.Metric, "/%? \t\n") || r.Metric == "." || r.Metric == "..":
		return errors.New("the metric's name must be able to stand in a URL path")
	case r.Resource != Pods:
		return fmt.Errorf("rules can only describe %q so far", Pods)
	}
	return nil
}

// visit takes in one node of the expression, or says why it cannot be served. path holds the nodes above it.
func (c *Compiled) visit(node parser.Node, path []parser.Node) string {
	c.mixes = c.mixes || mixesObjects(node)
	switch n := node.(type) {
	case *parser.VectorSelector:
		return c.visitSelector(n, path)
	case *parser.MatrixSelector:
		c.Window = max(c.Window, n.Range)
		return refuseTimes(n.RangeExpr != nil, false, 0, n.Range)
	case *parser.SubqueryExpr:
		c.Window = max(c.Window, n.Range)
		return refuseTimes(n.RangeExpr != nil || n.StepExpr != nil || n.OriginalOffsetExpr != nil,
			n.Timestamp != nil || n.StartOrEnd != 0, n.OriginalOffset, n.Range)
	}
	return ""
}

func (c *Compiled) visitSelector(n *parser.VectorSelector, path []parser.Node) string {
	if reason := refuseTimes(n.OriginalOffsetExpr != nil, n.Timestamp != nil || n.StartOrEnd != 0, n.OriginalOffset, 0); reason != "" {
		return reason
	}
	if n.Smoothed {
		return "smoothed looks into the future"
	}
	i := slices.IndexFunc(n.LabelMatchers, func(m *labels.Matcher) bool {
		return m.Name == nameLabel && m.Type == labels.MatchEqual && m.Value != ""
	})
	if i < 0 {
		return "a selector must name its metric: only named metrics are kept"
	}
	// The same sums as the engine's getTimeRangesForSelector; a test compares them.
	back, isRange := n.OriginalOffset, false
	for _, above := range path {
		switch above := above.(type) {
		case *parser.SubqueryExpr:
			back += above.OriginalOffset + above.Range
		case *parser.MatrixSelector:
			back += above.Range
			isRange = true
		}
	}
	if !isRange || n.Anchored {
		back += c.Rule.MaxAge
	}
	if back > MaxLookBack {
		return fmt.Sprintf("the selector looks %s back, at most %s", back, MaxLookBack)
	}
	name := n.LabelMatchers[i].Value
	c.Needs[name] = max(c.Needs[name], back)
	return ""
}

// refuseTimes refuses what would make the look-back unknown, unbounded, or a guess about the future. It also keeps each
// duration so small that the few that nest cannot overflow their sum.
func refuseTimes(computed, pinned bool, offset, window time.Duration) string {
	switch {
	case computed:
		return "durations must be written out, not computed"
	case pinned:
		return "the @ modifier would pin the rule to one moment"
	case offset < 0:
		return "a negative offset looks into the future"
	case max(offset, window) > MaxLookBack:
		return fmt.Sprintf("the expression looks %s back, at most %s", max(offset, window), MaxLookBack)
	}
	return ""
}

// mixesObjects reports whether a node can carry samples of one object into the value of another.
func mixesObjects(node parser.Node) bool {
	switch n := node.(type) {
	case *parser.BinaryExpr:
		m := n.VectorMatching
		return m != nil && slices.ContainsFunc([]string{namespaceLabel, podLabel}, func(label string) bool {
			return slices.Contains(m.MatchingLabels, label) != m.On || slices.Contains(m.Include, label)
		})
	case *parser.Call:
		switch n.Func.Name {
		case "scalar":
			return true
		case "label_replace", "label_join":
			return writesObjectLabel(n.Args[1])
		}
	case *parser.AggregateExpr:
		return n.Op == parser.COUNT_VALUES && writesObjectLabel(n.Param)
	}
	return false
}

// writesObjectLabel reports whether a function that writes the label named by arg may rename objects.
func writesObjectLabel(arg parser.Expr) bool {
	s, ok := arg.(*parser.StringLiteral)
	return !ok || s.Val == namespaceLabel || s.Val == podLabel
}

// metricKey finds a rule.
type metricKey struct{ metric, resource string }
