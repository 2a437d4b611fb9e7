// Package apiserver serves custom.metrics.k8s.io, in the versions v1beta1 and v1beta2, over a Reader.
//
// Guarantees:
//   - A value bears the time at which its data was measured and the window it looks over, never the time of the request.
//   - An object without a value is left out of a list; when none has one, and for a single object, the answer is a 404
//     Status whose message says per object why. The HPA controller copies it into the condition that people read.
//   - A pod that terminates, has ended or is gone has no value, however fresh its last one is.
//   - Faults of the request are 400, what does not exist is 404; never 200 with a Status, which crashed controllers.
//   - Discovery costs as much as there are metrics, whatever the number of pods, and does not depend on any source being up.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/metrics/pkg/apis/custom_metrics"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"

	"headroom.dev/headroom/adapter/metric"
)

// Reader has the values. Its methods are called concurrently and answer from memory.
type Reader interface {
	// Metrics returns what is served, the same whether there are values or not.
	Metrics() []metric.Descriptor
	// Lookup returns the value, a *metric.UnknownError or a *metric.AbsentError.
	Lookup(name string, o metric.Object, now time.Time) (metric.Value, error)
}

// Options of a Provider; all but Registerer are required.
type Options struct {
	Reader Reader
	Pods   corelisters.PodLister
	// Why says what else is known about why the object has no such metric, "http://10.1.2.3:8000/metrics: connection
	// refused", or "". It is asked for at most three objects of an answer.
	Why func(metricName string, o metric.Object) string
	// Now is the clock by which the Reader's values are stamped.
	Now        func() time.Time
	Registerer prometheus.Registerer
}

// Provider answers for the metrics of pods.
type Provider struct {
	opts Options
	age  prometheus.Histogram
}

var _ provider.CustomMetricsProvider = (*Provider)(nil)

const pods = "pods"

// NewProvider returns a Provider.
func NewProvider(opts Options) *Provider {
	return &Provider{
		opts: opts,
		age: promauto.With(opts.Registerer).NewHistogram(prometheus.HistogramOpts{
			Name: "headroom_adapter_served_value_age_seconds", Help: "Age of the data behind each value at the time it was served.",
			// The API's own times are whole seconds and its freshness histogram starts at one second; we aim at less than two.
			Buckets: []float64{0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 15, 30, 60},
		}),
	}
}

// ListAllMetrics implements provider.CustomMetricsProvider.
func (p *Provider) ListAllMetrics() []provider.CustomMetricInfo {
	var out []provider.CustomMetricInfo
	for _, d := range p.opts.Reader.Metrics() {
		if d.Resource == pods {
			out = append(out, provider.CustomMetricInfo{GroupResource: schema.GroupResource{Resource: pods}, Namespaced: true, Metric: d.Name})
		}
	}
	slices.SortFunc(out, func(a, b provider.CustomMetricInfo) int { return strings.Compare(a.Metric, b.Metric) })
	return out
}

// GetMetricByName implements provider.CustomMetricsProvider.
func (p *Provider) GetMetricByName(_ context.Context, name types.NamespacedName, info provider.CustomMetricInfo, selector labels.Selector) (*custom_metrics.MetricValue, error) {
	o := metric.Object{Resource: info.GroupResource.String(), Namespace: name.Namespace, Name: name.Name}
	if err := p.served(info, selector, o.String()); err != nil {
		return nil, err
	}
	pod, err := p.opts.Pods.Pods(name.Namespace).Get(name.Name)
	if err != nil {
		return nil, notFound("no %s of %s: there is no such pod", info.Metric, o)
	}
	if reason := over(pod); reason != "" {
		return nil, notFound("no %s of %s: %s", info.Metric, o, reason)
	}
	value, reason, err := p.value(info.Metric, o, p.opts.Now())
	switch {
	case err != nil:
		return nil, err
	case reason != "":
		return nil, notFound("%s", p.explain(info.Metric, []absence{{o, reason}}))
	}
	return value, nil
}

// GetMetricBySelector implements provider.CustomMetricsProvider.
func (p *Provider) GetMetricBySelector(_ context.Context, namespace string, selector labels.Selector, info provider.CustomMetricInfo, metricSelector labels.Selector) (*custom_metrics.MetricValueList, error) {
	if err := p.served(info, metricSelector, "pods in "+namespace); err != nil {
		return nil, err
	}
	matched, err := p.opts.Pods.Pods(namespace).List(selector)
	if err != nil {
		return nil, fmt.Errorf("cannot list the pods of %s: %w", namespace, err)
	}
	alive := slices.DeleteFunc(matched, func(pod *corev1.Pod) bool { return over(pod) != "" }) // List made the slice for us
	if len(alive) == 0 {
		return nil, notFound("no %s of pods in %s: no running pod matches %s", info.Metric, namespace, describe(selector))
	}
	slices.SortFunc(alive, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })

	now := p.opts.Now()
	list := &custom_metrics.MetricValueList{}
	var absent []absence
	for _, pod := range alive {
		o := metric.Object{Resource: pods, Namespace: namespace, Name: pod.Name}
		value, reason, err := p.value(info.Metric, o, now)
		switch {
		case err != nil:
			return nil, err
		case reason != "":
			absent = append(absent, absence{o, reason})
		default:
			list.Items = append(list.Items, *value)
		}
	}
	if len(list.Items) == 0 {
		return nil, notFound("%s", p.explain(info.Metric, absent))
	}
	return list, nil
}

// served refuses what no pod can have.
func (p *Provider) served(info provider.CustomMetricInfo, metricSelector labels.Selector, of string) error {
	if info.GroupResource.String() != pods || !info.Namespaced {
		return notFound("%s", (&metric.UnknownError{Metric: info.Metric, Resource: info.GroupResource.String()}).Error())
	}
	known := slices.ContainsFunc(p.opts.Reader.Metrics(), func(d metric.Descriptor) bool {
		return d.Name == info.Metric && d.Resource == pods
	})
	if !known {
		return notFound("%s", (&metric.UnknownError{Metric: info.Metric, Resource: pods}).Error())
	}
	if metricSelector != nil && !metricSelector.Empty() {
		return notFound("no %s of %s: the metric has no labels, so the metric selector %q matches nothing", info.Metric, of, metricSelector)
	}
	return nil
}

// value looks one pod up. The reason is why there is none; the error is for what ends the whole request.
func (p *Provider) value(name string, o metric.Object, now time.Time) (*custom_metrics.MetricValue, string, error) {
	v, err := p.opts.Reader.Lookup(name, o, now)
	if absent, ok := errors.AsType[*metric.AbsentError](err); ok {
		return nil, absent.Reason, nil
	}
	if unknown, ok := errors.AsType[*metric.UnknownError](err); ok {
		return nil, "", notFound("%s", unknown.Error())
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot look up %s of %s: %w", name, o, err)
	}
	q, reason := quantity(v.Value)
	if reason != "" {
		return nil, reason, nil
	}
	p.age.Observe(v.Age(now).Seconds())
	out := &custom_metrics.MetricValue{
		DescribedObject: custom_metrics.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: o.Namespace, Name: o.Name},
		Metric:          custom_metrics.MetricIdentifier{Name: name},
		Timestamp:       metav1.NewTime(v.Time),
		Value:           q,
	}
	if v.Window > 0 {
		out.WindowSeconds = new(int64(math.Ceil(v.Window.Seconds())))
	}
	return out, "", nil
}

// quantity returns v in thousandths, the unit in which the HPA computes, or why the API cannot carry it.
func quantity(v float64) (resource.Quantity, string) {
	const most = math.MaxInt64 / 1000
	switch {
	case math.IsNaN(v):
		return resource.Quantity{}, "the value is not a number"
	case math.Abs(v) >= most:
		return resource.Quantity{}, fmt.Sprintf("the value %g is too large for the API", v)
	}
	return *resource.NewMilliQuantity(int64(math.Round(v*1000)), resource.DecimalSI), ""
}

// over says why a pod that is still listed takes no part any more, or "".
func over(pod *corev1.Pod) string {
	switch {
	case pod.DeletionTimestamp != nil:
		return "the pod is terminating"
	case pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed:
		return "the pod has ended"
	}
	return ""
}

type absence struct {
	object metric.Object
	reason string
}

// explain says why none of the objects, at least one and all of one namespace, has a value: three reasons, as a condition
// has room for a sentence and not for a page.
func (p *Provider) explain(name string, absent []absence) string {
	const most = 3
	for i, a := range absent[:min(most, len(absent))] {
		if why := p.opts.Why(name, a.object); why != "" {
			absent[i].reason += ": " + why
		}
	}
	first := absent[0]
	if len(absent) == 1 {
		return (&metric.AbsentError{Metric: name, Object: first.object, Reason: first.reason}).Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "no %s of %d pods in %s: ", name, len(absent), first.object.Namespace)
	for i, a := range absent[:min(most, len(absent))] {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %s", a.object.Name, a.reason)
	}
	if more := len(absent) - most; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

func describe(selector labels.Selector) string {
	if selector.Empty() {
		return "an empty selector"
	}
	return fmt.Sprintf("the selector %q", selector)
}

func notFound(format string, args ...any) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusNotFound,
		Reason:  metav1.StatusReasonNotFound,
		Message: fmt.Sprintf(format, args...),
	}}
}
