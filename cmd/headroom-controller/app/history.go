package app

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/scaler/kube"
)

// maxPoints is how many steps one query asks for: Prometheus refuses more than 11,000.
const maxPoints = 10_000

// History implements kube.Historian.
func (p *plane) History(ctx context.Context, of kube.Past) ([]kube.Value, error) {
	expr := of.Query
	if expr == "" {
		var err error
		if expr, err = p.expression(ctx, &of); err != nil {
			return nil, err
		}
	}
	var values []kube.Value
	for start := of.Start; !start.After(of.End); start = start.Add(maxPoints * of.Step) {
		end := start.Add((maxPoints - 1) * of.Step)
		if end.After(of.End) {
			end = of.End
		}
		matrix, err := p.server.QueryRange(ctx, expr, start, end, of.Step)
		if err != nil {
			return nil, err
		}
		if len(matrix) > 1 {
			return nil, fmt.Errorf("the history has %d series, where one was expected: %s", len(matrix), expr)
		}
		for _, series := range matrix {
			for _, s := range series.Floats {
				if !math.IsNaN(s.F) && !math.IsInf(s.F, 0) && s.F >= 0 {
					values = append(values, kube.Value{Value: s.F, At: time.UnixMilli(s.T)})
				}
			}
		}
	}
	return values, nil
}

// expression is PromQL for the sum of a metric of pods over the target's: the rules that define the metric, in their order,
// narrowed to pods whose names begin as the target's do. What the selector means in the past nobody knows.
func (p *plane) expression(ctx context.Context, of *kube.Past) (string, error) {
	var list query.RuleList
	if err := p.get(ctx, "/apis/"+query.APIVersion+"/rules", nil, &list); err != nil {
		return "", fmt.Errorf("cannot learn how %s is defined: %w", of.Metric, err)
	}
	var found []string
	var errs []error
	for i := range list.Items {
		r := &list.Items[i]
		if r.Metric != of.Metric || r.Resource != "pods" {
			continue
		}
		narrow, err := narrowed(r.Expr, of.Namespace, podNames(&of.Target))
		if err != nil {
			errs = append(errs, fmt.Errorf("rule %s: %w", r.Name, err))
			continue
		}
		found = append(found, "("+narrow+")")
	}
	if len(found) == 0 {
		return "", errors.Join(append(errs, fmt.Errorf("no rule defines %s for pods", of.Metric))...)
	}
	return "sum(" + strings.Join(found, " or ") + ")", nil
}

// podNames is what the names of a target's pods match.
func podNames(t *kube.Target) string {
	name := regexp.QuoteMeta(t.Name)
	switch t.Kind {
	case "Deployment":
		return name + "-[a-z0-9]+-[a-z0-9]{5}"
	case "StatefulSet":
		return name + "-[0-9]+"
	}
	return name + "-.+"
}

// narrowed adds matchers for the namespace and the pods to each selector of an expression.
func narrowed(expr, namespace, pods string) (string, error) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return "", fmt.Errorf("cannot parse the expression: %w", err)
	}
	inNamespace, err := labels.NewMatcher(labels.MatchEqual, "namespace", namespace)
	if err != nil {
		return "", err
	}
	ofTarget, err := labels.NewMatcher(labels.MatchRegexp, "pod", pods)
	if err != nil {
		return "", err
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			s.LabelMatchers = append(s.LabelMatchers, inNamespace, ofTarget)
		}
		return nil
	})
	return parsed.String(), nil
}
