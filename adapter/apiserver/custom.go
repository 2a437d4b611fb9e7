package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/metrics/pkg/apis/custom_metrics"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"

	"headroom.dev/headroom/adapter/metric"
)

// namesTimeout bounds how long a request waits for the API server to select objects.
const namesTimeout = 5 * time.Second

// ListAllMetrics implements provider.CustomMetricsProvider.
func (p *Provider) ListAllMetrics() []provider.CustomMetricInfo {
	var out []provider.CustomMetricInfo
	for _, d := range p.opts.Reader.Metrics() {
		if d.Resource != metric.External {
			out = append(out, provider.CustomMetricInfo{GroupResource: schema.ParseGroupResource(d.Resource), Namespaced: d.Namespaced, Metric: d.Name})
		}
	}
	if len(out) == 0 {
		return []provider.CustomMetricInfo{{GroupResource: schema.GroupResource{Resource: metric.Pods}, Namespaced: true, Metric: placeholder}}
	}
	slices.SortFunc(out, func(a, b provider.CustomMetricInfo) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(out)
}

// GetMetricByName implements provider.CustomMetricsProvider.
func (p *Provider) GetMetricByName(_ context.Context, name types.NamespacedName, info provider.CustomMetricInfo, metricSelector labels.Selector) (*custom_metrics.MetricValue, error) {
	q, err := p.newQuestion(info, name.Namespace, metricSelector)
	if err != nil {
		return nil, err
	}
	o := q.object(name.Name)
	var v verdict
	if o.Resource == metric.Pods {
		pod, getErr := p.getPod(o.Namespace, o.Name)
		if getErr != nil {
			return nil, fmt.Errorf("cannot look for %s: %w", o, getErr)
		}
		v, err = p.judgePod(info.Metric, o, pod, q.now)
	} else {
		v, err = p.judge(info.Metric, o, q.now)
	}
	if err != nil {
		return nil, err
	}
	var item custom_metrics.MetricValue
	if a := q.serve(o, &v, &item); a.reason != "" {
		return nil, notFound("%s", p.explain(info.Metric, []absence{a}))
	}
	return &item, nil
}

// GetMetricBySelector implements provider.CustomMetricsProvider.
func (p *Provider) GetMetricBySelector(ctx context.Context, namespace string, selector labels.Selector, info provider.CustomMetricInfo, metricSelector labels.Selector) (*custom_metrics.MetricValueList, error) {
	q, err := p.newQuestion(info, namespace, metricSelector)
	if err != nil {
		return nil, err
	}
	if q.resource == metric.Pods {
		return p.ofPods(q, selector)
	}
	names, err := p.names(ctx, info, namespace, selector)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if err := p.defined(info); err != nil {
			return nil, err
		}
		return nil, notFound("no %s of %s: nothing matches %s", info.Metric, place(q.resource, namespace), describe(selector))
	}
	items, absent := make([]custom_metrics.MetricValue, 0, len(names)), []absence(nil)
	for _, name := range names {
		v, err := p.judge(info.Metric, q.object(name), q.now)
		if err != nil {
			return nil, err
		}
		items, absent = q.add(items, absent, q.object(name), &v)
	}
	return p.answer(info.Metric, items, absent)
}

// ofPods answers what the HPA asks every sync period for every HPA.
func (p *Provider) ofPods(q *question, selector labels.Selector) (*custom_metrics.MetricValueList, error) {
	pods, err := p.selectPods(q.namespace, selector, q.now)
	if err != nil {
		return nil, fmt.Errorf("cannot list the pods of %s: %w", q.namespace, err)
	}
	pods = slices.DeleteFunc(pods, func(pod *corev1.Pod) bool { return over(pod) != "" })
	if len(pods) == 0 {
		if err := p.defined(q.info); err != nil {
			return nil, err
		}
		return nil, notFound("no %s of %s: no running pod matches %s", q.info.Metric, place(metric.Pods, q.namespace), describe(selector))
	}
	items, absent := make([]custom_metrics.MetricValue, 0, len(pods)), []absence(nil)
	for _, pod := range pods {
		v, err := p.judgePod(q.info.Metric, q.object(pod.Name), pod, q.now)
		if err != nil {
			return nil, err
		}
		items, absent = q.add(items, absent, q.object(pod.Name), &v)
	}
	return p.answer(q.info.Metric, items, absent)
}

func (p *Provider) answer(name string, items []custom_metrics.MetricValue, absent []absence) (*custom_metrics.MetricValueList, error) {
	if len(items) == 0 {
		return nil, notFound("%s", p.explain(name, absent))
	}
	return &custom_metrics.MetricValueList{Items: items}, nil
}

// names returns the objects to answer for, by name, each once. Without a selector they are those that there are values of.
func (p *Provider) names(ctx context.Context, info provider.CustomMetricInfo, namespace string, selector labels.Selector) ([]string, error) {
	resourceName := info.GroupResource.String()
	var names []string
	if selector.Empty() {
		if err := p.defined(info); err != nil { // a namespaced metric must not be asked for in all namespaces at once
			return nil, err
		}
		for o := range p.opts.Reader.Objects(info.Metric, resourceName, namespace) {
			names = append(names, o.Name)
		}
	} else {
		ctx, cancel := context.WithTimeout(ctx, namesTimeout)
		defer cancel()
		var err error
		if names, err = p.opts.Names.Names(ctx, resourceName, namespace, selector); err != nil {
			return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("cannot tell which %s match %s: %v", place(resourceName, namespace), describe(selector), err))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// defined returns a 404 unless a rule defines the metric for such objects.
func (p *Provider) defined(info provider.CustomMetricInfo) error {
	unknown := &metric.UnknownError{Metric: info.Metric, Resource: info.GroupResource.String()}
	for _, d := range p.opts.Reader.Metrics() {
		switch {
		case d.Name != info.Metric || d.Resource != unknown.Resource:
		case d.Namespaced == info.Namespaced:
			return nil
		case d.Namespaced:
			return notFound("%s outside of namespaces", unknown)
		default:
			return notFound("%s inside of namespaces", unknown)
		}
	}
	return statusOf(unknown)
}

// verdict is what the API makes of one object.
type verdict struct {
	value   metric.Value
	absent  string // why there is no value
	leftOut string // why a value that there may be is not served
}

// judge looks an object up. The error is for what ends the whole request.
func (p *Provider) judge(name string, o metric.Object, now time.Time) (verdict, error) {
	v, err := p.opts.Reader.Lookup(name, o, now)
	if err == nil {
		return verdict{value: v}, nil
	}
	if absent, ok := errors.AsType[*metric.AbsentError](err); ok {
		return verdict{absent: absent.Reason}, nil
	}
	return verdict{}, statusOf(err)
}

// judgePod is judge for a pod as it is now; nil where there is none.
func (p *Provider) judgePod(name string, o metric.Object, pod *corev1.Pod, now time.Time) (verdict, error) {
	v, err := p.judge(name, o, now)
	if err != nil {
		return v, err
	}
	if pod == nil {
		v.leftOut = "there is no such pod"
		return v, nil
	}
	if v.leftOut = over(pod); v.leftOut != "" {
		return v, nil
	}
	known, ok := p.opts.Directory.Pod(o.Namespace, o.Name)
	switch {
	case !ok:
		v.leftOut = "the pod is too new to be known"
	case known.Over != "":
		v.leftOut = known.Over
	case known.Loading != "" && !v.value.IncludeLoading:
		v.leftOut = "the pod is loading: " + known.Loading
	}
	return v, nil
}

// question is what one request asks of each object.
type question struct {
	provider  *Provider
	info      provider.CustomMetricInfo
	resource  string
	namespace string
	kind      custom_metrics.ObjectReference // less the name
	selector  labels.Selector                // of the metric; nil for all
	now       time.Time

	window  time.Duration // the last one seen
	seconds *int64        // its form in the API, shared by the items
}

func (p *Provider) newQuestion(info provider.CustomMetricInfo, namespace string, metricSelector labels.Selector) (*question, error) {
	q := &question{provider: p, info: info, resource: info.GroupResource.String(), namespace: namespace, now: p.opts.Now()}
	if metricSelector != nil && !metricSelector.Empty() {
		q.selector = metricSelector
	}
	gvk, err := p.opts.Kinds.Of(q.resource)
	if err != nil {
		if unknown := p.defined(info); unknown != nil {
			return nil, unknown
		}
		return nil, apierrors.NewServiceUnavailable(err.Error())
	}
	q.kind.APIVersion, q.kind.Kind = gvk.ToAPIVersionAndKind() // "v1" for the core group, where the library makes "/v1"
	q.kind.Namespace = namespace
	return q, nil
}

func (q *question) object(name string) metric.Object {
	return metric.Object{Resource: q.resource, Namespace: q.namespace, Name: name}
}

// add appends the object to the items or to the absent.
func (q *question) add(items []custom_metrics.MetricValue, absent []absence, o metric.Object, v *verdict) ([]custom_metrics.MetricValue, []absence) {
	items = append(items, custom_metrics.MetricValue{})
	if a := q.serve(o, v, &items[len(items)-1]); a.reason != "" {
		return items[:len(items)-1], append(absent, a)
	}
	return items, absent
}

// serve writes the object's item and counts it, or returns why there is none.
func (q *question) serve(o metric.Object, v *verdict, item *custom_metrics.MetricValue) absence {
	switch {
	case v.leftOut != "":
		return absence{object: o, reason: v.leftOut}
	case v.absent != "":
		return absence{object: o, reason: v.absent, search: true}
	}
	number, reason := quantity(v.value.Value)
	if reason != "" {
		return absence{object: o, reason: reason, search: true}
	}
	var marks labels.Set
	if v.value.Fallback != metric.NoFallback {
		marks = labels.Set{FallbackLabel: string(v.value.Fallback)}
	}
	if q.selector != nil && !q.selector.Matches(marks) {
		return absence{object: o, reason: mismatch(q.selector, marks)}
	}
	q.provider.observe(q.provider.customAge, &v.value, q.now)
	if v.value.Window != q.window {
		q.window, q.seconds = v.value.Window, windowSeconds(v.value.Window)
	}
	item.DescribedObject = q.kind
	item.DescribedObject.Name = o.Name
	item.Metric.Name = q.info.Metric
	if marks != nil {
		item.Metric.Selector = &metav1.LabelSelector{MatchLabels: marks}
	}
	item.Timestamp = metav1.NewTime(v.value.Time)
	item.WindowSeconds = q.seconds
	item.Value = number
	return absence{}
}

func mismatch(selector labels.Selector, marks labels.Set) string {
	if len(marks) == 0 {
		return fmt.Sprintf("the metric has no labels, so the metric selector %q matches nothing", selector)
	}
	return fmt.Sprintf("the metric selector %q does not match its only label %s", selector, marks)
}

func describe(selector labels.Selector) string {
	if selector.Empty() {
		return "an empty selector"
	}
	return fmt.Sprintf("the selector %q", selector)
}
