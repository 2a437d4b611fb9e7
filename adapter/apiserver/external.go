package apiserver

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/metrics/pkg/apis/external_metrics"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"

	"headroom.dev/headroom/adapter/metric"
)

// ListAllExternalMetrics implements provider.ExternalMetricsProvider.
func (p *Provider) ListAllExternalMetrics() []provider.ExternalMetricInfo {
	var out []provider.ExternalMetricInfo
	for _, d := range p.opts.Reader.Metrics() {
		if d.Resource == metric.External {
			out = append(out, provider.ExternalMetricInfo{Metric: d.Name})
		}
	}
	if len(out) == 0 {
		return []provider.ExternalMetricInfo{{Metric: placeholder}}
	}
	slices.SortFunc(out, func(a, b provider.ExternalMetricInfo) int { return strings.Compare(a.Metric, b.Metric) })
	return slices.Compact(out)
}

// GetExternalMetric implements provider.ExternalMetricsProvider.
func (p *Provider) GetExternalMetric(_ context.Context, namespace string, selector labels.Selector, info provider.ExternalMetricInfo) (*external_metrics.ExternalMetricValueList, error) {
	now := p.opts.Now()
	ofLabels, ofFallback := splitSelector(selector)
	match := func(set map[string]string) bool { return ofLabels.Matches(labels.Set(set)) }
	series, err := p.opts.Reader.External(info.Metric, namespace, match, now)
	if absent, ok := errors.AsType[*metric.AbsentError](err); ok {
		return nil, notFound("no external metric %s in %s: %s", info.Metric, namespace, absent.Reason)
	}
	if err != nil {
		return nil, statusOf(err)
	}
	list := &external_metrics.ExternalMetricValueList{Items: make([]external_metrics.ExternalMetricValue, 0, len(series))}
	reason := "no value matches " + describe(selector)
	for i := range series {
		s := &series[i]
		number, why := quantity(s.Value.Value)
		if why != "" {
			reason = why
			continue
		}
		set := marked(s)
		if !ofFallback.Matches(labels.Set(set)) {
			continue
		}
		p.observe(p.externalAge, &s.Value, now)
		list.Items = append(list.Items, external_metrics.ExternalMetricValue{
			MetricName: info.Metric, MetricLabels: set, Timestamp: metav1.NewTime(s.Time),
			WindowSeconds: windowSeconds(s.Window), Value: number,
		})
	}
	if len(list.Items) == 0 {
		return nil, notFound("no external metric %s in %s: %s", info.Metric, namespace, reason)
	}
	return list, nil
}

// splitSelector parts what a selector says of a series' own labels from what it says of FallbackLabel.
func splitSelector(selector labels.Selector) (ofLabels, ofFallback labels.Selector) {
	requirements, selectable := selector.Requirements()
	if !selectable {
		return selector, selector
	}
	ofLabels, ofFallback = labels.Everything(), labels.Everything()
	for _, r := range requirements {
		if r.Key() == FallbackLabel {
			ofFallback = ofFallback.Add(r)
		} else {
			ofLabels = ofLabels.Add(r)
		}
	}
	return ofLabels, ofFallback
}

// marked returns the series' labels with FallbackLabel where that is due, and without it where it is not: a scraped label
// of that name is no word of ours.
func marked(s *metric.Series) map[string]string {
	_, forged := s.Labels[FallbackLabel]
	if s.Fallback == metric.NoFallback && !forged {
		return s.Labels
	}
	set := maps.Clone(s.Labels)
	delete(set, FallbackLabel)
	if s.Fallback != metric.NoFallback {
		set[FallbackLabel] = string(s.Fallback)
	}
	return set
}
