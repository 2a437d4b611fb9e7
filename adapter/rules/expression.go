package rules

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"headroom.dev/headroom/adapter/metric"
)

// selector is one series selector of an expression.
type selector struct {
	text     string // without range and offset
	matchers []*labels.Matcher
	back     time.Duration // how far back it looks, in all
	offset   time.Duration // its own and those of the subqueries around it
}

// analyse takes in the expression, or says at which position it cannot be served.
func (c *Compiled) analyse(expr parser.Expr) error {
	var err error
	at := func(n parser.Node, format string, args ...any) error {
		return fmt.Errorf("%s: %w", n.PositionRange().StartPosInput(c.Rule.Expr, 0), fmt.Errorf(format, args...))
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
	if err != nil {
		return err
	}
	if len(c.selectors) == 0 {
		return at(expr, "the expression selects no series")
	}
	for _, s := range c.selectors {
		if !slices.Contains(c.Selectors, s.text) {
			c.Selectors = append(c.Selectors, s.text)
		}
	}
	c.dating = datingLabels(expr, &c.Rule.Target)
	c.group, err = groupLabel(expr, &c.Rule)
	return err
}

// visit takes in one node of the expression, or says why it cannot be served. path holds the nodes above it.
func (c *Compiled) visit(node parser.Node, path []parser.Node) string {
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
	s := selector{matchers: n.LabelMatchers, offset: n.OriginalOffset, back: n.OriginalOffset}
	isRange := false
	for _, above := range path {
		switch above := above.(type) {
		case *parser.SubqueryExpr:
			s.offset += above.OriginalOffset
			s.back += above.OriginalOffset + above.Range
		case *parser.MatrixSelector:
			s.back += above.Range
			isRange = true
		}
	}
	if !isRange || n.Anchored {
		s.back += c.Rule.MaxAge
	}
	if s.back > MaxLookBack {
		return fmt.Sprintf("the selector looks %s back, at most %s", s.back, MaxLookBack)
	}
	bare := *n
	bare.OriginalOffset, bare.Offset, bare.Anchored = 0, 0, false
	s.text = bare.String()
	c.selectors = append(c.selectors, s)
	name := n.LabelMatchers[i].Value
	c.Needs[name] = max(c.Needs[name], s.back)
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

// datingLabels returns the labels that lead from a result to the series behind it.
func datingLabels(expr parser.Expr, t *Target) []string {
	candidates := t.objectLabels()
	if t.Resource == metric.External {
		candidates = append([]string{t.NamespaceLabel}, t.Labels...)
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			if a, ok := node.(*parser.AggregateExpr); ok && !a.Without {
				candidates = append(candidates, a.Grouping...)
			}
			return nil
		})
	}
	var list []string
	for _, label := range candidates {
		if len(list) == len(group{}) {
			break
		}
		if isLabel(label) && !slices.Contains(list, label) && !mixes(expr, label) {
			list = append(list, label)
		}
	}
	return list
}

// mixes reports whether the expression can carry samples from one value of a label to another.
func mixes(expr parser.Expr, label string) bool {
	found := false
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		found = found || mixesAt(node, label)
		return nil
	})
	return found
}

func mixesAt(node parser.Node, label string) bool {
	switch n := node.(type) {
	case *parser.BinaryExpr:
		m := n.VectorMatching
		return m != nil && (slices.Contains(m.MatchingLabels, label) != m.On || slices.Contains(m.Include, label))
	case *parser.Call:
		switch n.Func.Name {
		case "scalar":
			return true
		case "label_replace", "label_join":
			return writes(n.Args[1], label)
		}
	case *parser.AggregateExpr:
		return n.Op == parser.COUNT_VALUES && writes(n.Param, label)
	}
	return false
}

// writes reports whether a function that writes the label named by arg may write this one.
func writes(arg parser.Expr, label string) bool {
	s, ok := arg.(*parser.StringLiteral)
	return !ok || s.Val == label
}

// groupLabel returns the label that membership sets on the series of an embedded rule, "" for none.
func groupLabel(expr parser.Expr, r *Rule) (string, error) {
	t := &r.Target
	switch {
	case r.Source == Prometheus:
		return "", nil
	case t.Resource == metric.Services && t.NameLabel == serviceLabel, t.Resource == metric.Deployments && t.NameLabel == deploymentLabel:
		return t.NameLabel, nil
	case t.Resource != metric.External:
		return "", nil
	}
	service, deployment := refersTo(expr, serviceLabel), refersTo(expr, deploymentLabel)
	switch {
	case service && deployment:
		return "", errors.New("1:1: the expression refers to the labels service and deployment; a pod's series can be seen per service or per deployment")
	case service:
		return serviceLabel, nil
	case deployment:
		return deploymentLabel, nil
	}
	return "", nil
}

// refersTo reports whether the expression names a label anywhere.
func refersTo(expr parser.Expr, label string) bool {
	found := false
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			found = found || slices.ContainsFunc(n.LabelMatchers, func(m *labels.Matcher) bool { return m.Name == label })
		case *parser.AggregateExpr:
			found = found || slices.Contains(n.Grouping, label)
		case *parser.BinaryExpr:
			if m := n.VectorMatching; m != nil {
				found = found || slices.Contains(m.MatchingLabels, label) || slices.Contains(m.Include, label)
			}
		case *parser.StringLiteral: // an argument of label_replace and its like
			found = found || n.Val == label
		}
		return nil
	})
	return found
}
