package app

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	custom "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"

	"headroom.dev/headroom/adapter/promapi"
	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/rollout/evidence"
	"headroom.dev/headroom/scaler/kube"
)

// plane is the metric plane as the controller sees it: the adapter's APIs, and a Prometheus-compatible server for queries and
// the past where there is one.
type plane struct {
	api    rest.Interface
	server *promapi.Client // nil without one
}

// Pods implements kube.Metrics.
func (p *plane) Pods(ctx context.Context, namespace string, selector labels.Selector, metric string) (map[string]kube.Value, error) {
	list, err := p.custom(ctx, namespace, "pods/*/"+url.PathEscape(metric), url.Values{"labelSelector": {selector.String()}})
	if err != nil {
		return nil, err
	}
	values := make(map[string]kube.Value, len(list.Items))
	for i := range list.Items {
		values[list.Items[i].DescribedObject.Name] = valueOf(&list.Items[i])
	}
	return values, nil
}

// Deployment implements kube.Metrics.
func (p *plane) Deployment(ctx context.Context, namespace, name, metric string) (kube.Value, error) {
	list, err := p.custom(ctx, namespace, "deployments.apps/"+name+"/"+url.PathEscape(metric), nil)
	if err != nil {
		return kube.Value{}, err
	}
	if len(list.Items) != 1 {
		return kube.Value{}, fmt.Errorf("%s of Deployment %q has %d values", metric, name, len(list.Items))
	}
	return valueOf(&list.Items[0]), nil
}

func (p *plane) custom(ctx context.Context, namespace, path string, values url.Values) (*custom.MetricValueList, error) {
	var list custom.MetricValueList
	path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/" + namespace + "/" + path
	return &list, p.get(ctx, path, values, &list)
}

func (p *plane) get(ctx context.Context, path string, values url.Values, into any) error {
	request := p.api.Get().AbsPath(path).SetHeader("Accept", "application/json")
	for name, list := range values {
		for _, v := range list {
			request = request.Param(name, v)
		}
	}
	result := request.Do(ctx)
	if err := result.Error(); err != nil { // Raw's error would be without the server's message
		return err
	}
	raw, err := result.Raw()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", path, err)
	}
	return nil
}

func valueOf(item *custom.MetricValue) kube.Value {
	return kube.Value{Value: item.Value.AsApproximateFloat64(), At: item.Timestamp.Time}
}

// Query implements kube.Metrics. A Prometheus-compatible server sees all namespaces: the expression must name its own.
func (p *plane) Query(ctx context.Context, namespace, expr string) ([]kube.Value, error) {
	samples, err := p.query(ctx, namespace, expr)
	if err != nil {
		return nil, err
	}
	values := make([]kube.Value, len(samples))
	for i, s := range samples {
		values[i] = kube.Value{Value: s.Value, At: s.At}
	}
	return values, nil
}

// labelled is the plane as rollouts see it: samples have their labels.
type labelled struct{ *plane }

// Query implements evidence.Plane.
func (l labelled) Query(ctx context.Context, namespace, expr string) ([]evidence.Sample, error) {
	return l.query(ctx, namespace, expr)
}

// Pods implements evidence.PodMetrics.
func (l labelled) Pods(ctx context.Context, namespace string, selector labels.Selector, metric string) (map[string]evidence.Sample, error) {
	values, err := l.plane.Pods(ctx, namespace, selector, metric)
	if err != nil {
		return nil, err
	}
	out := make(map[string]evidence.Sample, len(values))
	for name, v := range values {
		out[name] = evidence.Sample{Value: v.Value, At: v.At}
	}
	return out, nil
}

func (p *plane) query(ctx context.Context, namespace, expr string) ([]evidence.Sample, error) {
	if p.server != nil {
		vector, err := p.server.Query(ctx, expr, time.Now())
		if err != nil {
			return nil, err
		}
		samples := make([]evidence.Sample, len(vector))
		for i, s := range vector {
			samples[i] = evidence.Sample{Labels: s.Metric.Map(), Value: s.F, At: time.UnixMilli(s.T)}
		}
		return samples, nil
	}
	var answer struct {
		Data struct {
			Type   string          `json:"resultType"`
			Result json.RawMessage `json:"result"`
		} `json:"data"`
	}
	path := "/apis/" + query.APIVersion + "/namespaces/" + namespace + "/prometheus/api/v1/query"
	if err := p.get(ctx, path, url.Values{"query": {expr}}, &answer); err != nil {
		return nil, err
	}
	return results(answer.Data.Type, answer.Data.Result)
}

// results reads an instant query's result: a vector, or a scalar.
func results(kind string, raw json.RawMessage) ([]evidence.Sample, error) {
	switch kind {
	case "scalar":
		var pair []json.RawMessage
		if err := json.Unmarshal(raw, &pair); err != nil {
			return nil, fmt.Errorf("cannot read the query's scalar: %w", err)
		}
		s, err := point(pair)
		return []evidence.Sample{s}, err
	case "vector":
		var vector []struct {
			Metric map[string]string `json:"metric"`
			Value  []json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(raw, &vector); err != nil {
			return nil, fmt.Errorf("cannot read the query's vector: %w", err)
		}
		var samples []evidence.Sample
		for _, v := range vector {
			s, err := point(v.Value)
			if err != nil {
				return nil, err
			}
			s.Labels = v.Metric
			samples = append(samples, s)
		}
		return samples, nil
	}
	return nil, fmt.Errorf("the query's result is of type %q, not an instant vector", kind)
}

// point reads [1435781451.781, "1"].
func point(pair []json.RawMessage) (evidence.Sample, error) {
	var at float64
	var text string
	if len(pair) != 2 || json.Unmarshal(pair[0], &at) != nil || json.Unmarshal(pair[1], &text) != nil {
		return evidence.Sample{}, fmt.Errorf("cannot read the query's sample %s", pair)
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(v, 0) { // what is too large for a float64 is infinite
		return evidence.Sample{}, fmt.Errorf("cannot read the query's sample: %w", err)
	}
	return evidence.Sample{Value: v, At: time.UnixMilli(int64(math.Round(at * 1000)))}, nil
}
