package app

import (
	"context"
	"encoding/json"
	"math"
	"net/url"
	"strconv"
	"time"

	custom "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	external "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"

	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/cmd/kubectl-headroom/explain"
)

const (
	customAPI   = "custom.metrics.k8s.io/v1beta2"
	externalAPI = "external.metrics.k8s.io/v1beta1"
	resourceAPI = "metrics.k8s.io/v1beta1"
	pods        = "pods"
	nodes       = "nodes"
	namespaces  = "namespaces"
)

// valuesAlone asks the metrics APIs as the HPA does, and makes an explanation of what they tell: values and their times.
func (c *cluster) valuesAlone(ctx context.Context, q *question) (*query.Explanation, error) {
	x := &query.Explanation{Metric: q.metric, Resource: q.resource, Namespace: q.namespace}
	values := url.Values{}
	if q.resource == "" {
		if q.metricSelector != "" {
			values.Set("labelSelector", q.metricSelector)
		}
		var list external.ExternalMetricValueList
		if err := c.fetch(ctx, scoped(externalAPI, q.namespace, q.metric), values, &list); err != nil {
			return nil, err
		}
		x.At = c.now()
		for i := range list.Items {
			item := &list.Items[i]
			window := time.Duration(0)
			if item.WindowSeconds != nil {
				window = time.Duration(*item.WindowSeconds) * time.Second
			}
			x.Objects = append(x.Objects, query.Object{
				Labels: item.MetricLabels, Value: valueOf(item.Value.AsApproximateFloat64(), item.Timestamp.Time, window, item.MetricLabels, x.At),
			})
		}
		return x, nil
	}
	if q.metricSelector != "" {
		values.Set("metricLabelSelector", q.metricSelector)
	}
	list, err := c.customValues(ctx, q, values)
	if err != nil {
		return nil, err
	}
	x.At = c.now()
	for i := range list.Items {
		item := &list.Items[i]
		x.Objects = append(x.Objects, query.Object{Name: item.DescribedObject.Name, Value: customValue(item, x.At)})
	}
	return x, nil
}

// customValues asks for one object, or for those that the selector means; without either for all that have a value.
func (c *cluster) customValues(ctx context.Context, q *question, values url.Values) (*custom.MetricValueList, error) {
	var list custom.MetricValueList
	name := "*"
	if q.name != "" {
		name = q.name
	} else if q.podSelector != "" {
		values.Set("labelSelector", q.podSelector)
	}
	path := scoped(customAPI, q.namespace, q.resource, name, q.metric)
	if q.resource == namespaces {
		path = scoped(customAPI, q.namespace, "metrics", q.metric)
	}
	return &list, c.fetch(ctx, path, values, &list)
}

func customValue(item *custom.MetricValue, now time.Time) *query.Value {
	var marks map[string]string
	if item.Metric.Selector != nil {
		marks = item.Metric.Selector.MatchLabels
	}
	window := time.Duration(0)
	if item.WindowSeconds != nil {
		window = time.Duration(*item.WindowSeconds) * time.Second
	}
	return valueOf(item.Value.AsApproximateFloat64(), item.Timestamp.Time, window, marks, now)
}

// valueOf is to the second: the metrics APIs carry no more of times.
func valueOf(v float64, at time.Time, window time.Duration, marks map[string]string, now time.Time) *query.Value {
	return &query.Value{
		Value: query.Number(v), Time: at.UTC(), Age: math.Max(0, math.Round(now.Sub(at).Seconds())), Window: window.Seconds(),
		Fallback: marks[explain.FallbackLabel],
	}
}

// newest asks for the newest sample of each series that a PromQL selector means. An instant query answers with its own
// time, so the samples' times are a second query.
func (c *cluster) newest(ctx context.Context, namespace, selector string) ([]explain.Series, error) {
	samples, err := c.instant(ctx, namespace, selector)
	if err != nil {
		return nil, err
	}
	times, err := c.instant(ctx, namespace, "timestamp("+selector+")")
	if err != nil {
		return nil, err
	}
	at := map[string][]float64{}
	for i := range times {
		key := identity(times[i].Metric)
		at[key] = append(at[key], times[i].number())
	}
	now := c.now()
	list := make([]explain.Series, 0, len(samples))
	for _, s := range samples {
		one := explain.Series{Selector: selector, Labels: s.Metric, Value: query.Number(s.number())}
		// timestamp() drops names, by which alone series of one selector may differ.
		if found := at[identity(s.Metric)]; len(found) == 1 && !math.IsNaN(found[0]) {
			t := time.UnixMilli(int64(math.Round(found[0] * 1000))).UTC()
			one.Time, one.Age = &t, new(math.Max(0, now.Sub(t).Seconds()))
		}
		list = append(list, one)
	}
	return list, nil
}

// sample is one of an instant query's answer.
type sample struct {
	Metric map[string]string `json:"metric"`
	Value  []json.RawMessage `json:"value"` // time and value, which is a string
}

func (s *sample) number() float64 {
	var text string
	if len(s.Value) != 2 || json.Unmarshal(s.Value[1], &text) != nil {
		return math.NaN()
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

func (c *cluster) instant(ctx context.Context, namespace, expr string) ([]sample, error) {
	var answer struct {
		Data struct {
			Result []sample `json:"result"`
		} `json:"data"`
	}
	path := scoped(query.APIVersion, namespace, "prometheus", "api", "v1", "query")
	err := c.fetch(ctx, path, url.Values{"query": {expr}}, &answer)
	return answer.Data.Result, err
}

// identity is a series less its name.
func identity(labels map[string]string) string {
	set := map[string]string{}
	for name, value := range labels {
		if name != "__name__" {
			set[name] = value
		}
	}
	b, _ := json.Marshal(set) // sorts the names; strings always can be written
	return string(b)
}
