package evidence

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout/judge"
)

const (
	defaultInterval = 15 * time.Second
	// minLooks is how many looks a step needs before it passes, whatever was known before: what a change of the mix brings shows
	// after it.
	minLooks = 2
)

// wanted is one metric of an analysis, and where it may be found.
type wanted struct {
	judge.Metric

	sources  []source // of errors and latencies, in the order in which they are tried
	metric   string   // of a gauge
	query    string   // of a gauge
	optional bool
}

// plan is an analysis, read.
type plan struct {
	spec     judge.Spec // of all metrics
	metrics  []wanted   // in the order of spec's
	interval time.Duration
}

// Validate says what of an analysis cannot be judged by, with the fields.
func Validate(a *v1alpha1.Analysis) error {
	_, err := read(a)
	return err
}

// read maps an analysis to what the judge takes.
func read(a *v1alpha1.Analysis) (*plan, error) {
	p := &plan{interval: orElse(a.Interval, defaultInterval)}
	p.spec = judge.Spec{WarmUp: orElse(a.WarmUp, 0), MinLooks: minLooks, Alpha: number(a.Alpha), Beta: number(a.Beta)}
	if a.MinRequests != nil {
		p.spec.MinRequests = float64(*a.MinRequests)
	}
	errs := []error{positive("spec.analysis.alpha", a.Alpha), positive("spec.analysis.beta", a.Beta)}
	list := a.Metrics
	if len(list) == 0 {
		// Both are required: latency alone would pass a version that fails fast.
		list = []v1alpha1.AnalysisMetric{{Name: "errors", Kind: string(judge.Errors)}, {Name: "latency", Kind: string(judge.Latency)}}
	}
	for i := range list {
		w, err := readMetric(&list[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.analysis.metrics[%d] (%s).%w", i, list[i].Name, err))
		}
		p.metrics = append(p.metrics, w)
		p.spec.Metrics = append(p.spec.Metrics, w.Metric)
	}
	if err := errors.Join(errs...); err != nil {
		return p, err
	}
	if _, err := judge.New(p.spec); err != nil {
		return p, fmt.Errorf("spec.analysis: %w", err)
	}
	return p, nil
}

func readMetric(m *v1alpha1.AnalysisMetric) (wanted, error) {
	w := wanted{optional: m.Optional, Metric: judge.Metric{Name: m.Name, Kind: judge.Kind(m.Kind), MaxRatio: number(m.MaxRatio)}}
	if m.Metric != "" && !nameExpression().MatchString(m.Metric) {
		return w, fmt.Errorf("metric: %q is no name of a metric", m.Metric)
	}
	if err := positive("maxRatio", m.MaxRatio); err != nil {
		return w, err
	}
	switch w.Kind {
	case judge.Errors:
		return w, w.readErrors(m)
	case judge.Latency:
		w.sources = latencySources()
		if m.Metric != "" {
			w.sources = []source{histogram(m.Metric)}
		}
		if m.QuantilePercent != nil {
			w.Quantile = float64(*m.QuantilePercent) / 100
		}
	case judge.Gauge:
		w.metric, w.query = m.Metric, m.Query
		w.Min, w.Max = limit(m.Min), limit(m.Max)
		if m.Optional {
			w.Absence = judge.AbsenceIgnore
		}
	default:
		return w, fmt.Errorf("kind: %q is none of Errors, Latency and Gauge", m.Kind)
	}
	return w, nil
}

func (w *wanted) readErrors(m *v1alpha1.AnalysisMetric) error {
	if m.MaxIncrease != nil {
		if w.MaxIncrease = number(m.MaxIncrease); w.MaxIncrease == 0 {
			w.MaxIncrease = -1 // 0 is the judge's word for its default
		}
	}
	switch {
	case m.Metric == "" && m.Failed != "":
		return errors.New("failed: needs metric, the counter that it selects from")
	case m.Metric == "":
		w.sources = errorSources()
		return nil
	case m.Failed == "":
		w.sources = []source{byStatus(m.Metric, m.Metric, "code", "status", "status_code", "response_code", "http_response_status_code", "http_status_code")}
		return nil
	}
	failed, err := selector(m.Failed)
	if err != nil {
		return fmt.Errorf("failed: %w", err)
	}
	var there []*labels.Matcher
	for _, f := range failed {
		there = append(there, labels.MustNewMatcher(labels.MatchNotEqual, f.Name, ""))
	}
	w.sources = []source{{
		id: m.Metric + "{" + m.Failed + "}", all: []series{{name: m.Metric}}, failed: []series{{m.Metric, [][]*labels.Matcher{failed}}},
		counts: series{m.Metric, [][]*labels.Matcher{there}},
	}}
	return nil
}

// selector reads label matchers: code=~"5..".
func selector(text string) ([]*labels.Matcher, error) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr("x{" + text + "}")
	if err != nil {
		return nil, err
	}
	vector, ok := expr.(*parser.VectorSelector)
	if !ok || vector.OriginalOffset != 0 || vector.Timestamp != nil || vector.StartOrEnd != 0 {
		return nil, fmt.Errorf("%q is no list of label matchers", text)
	}
	var list []*labels.Matcher
	for _, m := range vector.LabelMatchers {
		if m.Name != model.MetricNameLabel {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("it selects everything")
	}
	return list, nil
}

func nameExpression() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`) }

func orElse(d *metav1.Duration, otherwise time.Duration) time.Duration {
	if d == nil || d.Duration <= 0 {
		return otherwise
	}
	return d.Duration
}

// positive refuses what the judge would take for its default.
func positive(field string, q *resource.Quantity) error {
	if q != nil && q.Sign() <= 0 {
		return fmt.Errorf("%s: %s is not above 0", field, q)
	}
	return nil
}

// number is 0, the judge's word for its default, for what is not said.
func number(q *resource.Quantity) float64 {
	if q == nil {
		return 0
	}
	return q.AsApproximateFloat64()
}

func limit(q *resource.Quantity) *float64 {
	if q == nil {
		return nil
	}
	v := q.AsApproximateFloat64()
	if math.IsInf(v, 0) {
		return nil
	}
	return &v
}
