// Package apiserver serves custom.metrics.k8s.io (v1beta1 and v1beta2), external.metrics.k8s.io and query.headroom.dev over
// a Reader.
//
// Guarantees:
//   - A value bears the time at which its data was measured and the window it looks over, never the time of the request.
//   - An object without a value is left out of a list; when none has one, and for a single object, the answer is a 404
//     Status whose message says per object why. The HPA controller copies it into the condition that people read.
//   - A pod that terminates, has ended or is gone has no value, however fresh its last one is; nor has one that is loading,
//     unless its rule says otherwise.
//   - A value that is not measured bears the label FallbackLabel: in metric.selector (v1beta2) or selector (v1beta1) of
//     custom metrics, in metricLabels of external ones. Metric selectors see it, so that "!headroom.dev/fallback" asks for
//     measured values alone; the HPA controller, which sends and reads no such label unless told to, is not disturbed.
//   - No list has an object twice.
//   - Faults of the request are 400, what does not exist is 404; never 200 with a Status, which crashed controllers.
//   - Discovery costs as much as there are metrics, whatever the number of objects, follows the rules within a second, is
//     never empty and does not depend on any source being up.
//   - Requests are answered from memory; only selecting objects other than pods by labels asks the API server.
package apiserver

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/api/query"
)

// FallbackLabel marks values that are not measured; its value is a metric.Fallback.
const FallbackLabel = "headroom.dev/fallback"

// Reader has the values. Its methods are called concurrently and answer from memory.
type Reader interface {
	// Metrics returns what is served, the same whether there are values or not.
	Metrics() []metric.Descriptor
	// Lookup returns the value, a *metric.UnknownError or a *metric.AbsentError.
	Lookup(name string, o metric.Object, now time.Time) (metric.Value, error)
	// Objects yields the objects of a namespace, "" for all, that have or lately had a value.
	Objects(name, resourceName, namespace string) iter.Seq[metric.Object]
	// External returns the values of an external metric whose labels match. The error is a *metric.UnknownError, a
	// *metric.AbsentError where there are none, or a *metric.AmbiguousError.
	External(name, namespace string, match func(map[string]string) bool, now time.Time) ([]metric.Series, error)
	// Candidates returns what each rule says of the object, in the order in which they are asked.
	Candidates(name string, o metric.Object, now time.Time) []metric.Candidate
}

// Options of a Provider. Registerer may be nil.
type Options struct {
	Reader    Reader
	Pods      cache.Indexer // with namespaces and PodIndexers
	Directory metric.Directory
	Kinds     *Kinds
	Names     Lister // of objects other than pods
	// Why says what else is known about why the object has no such metric, "http://10.1.2.3:8000/metrics: connection
	// refused", or "". It is asked for at most three objects of an answer.
	Why func(metricName string, o metric.Object) string
	// Rules returns every rule with how it fared, in the order in which they are asked.
	Rules func(now time.Time) []query.Rule
	// Prometheus returns Prometheus' HTTP API, at /api/v1/…, over the series of one namespace, "" for all.
	Prometheus func(namespace string) http.Handler
	// Now is the clock by which the Reader's values are stamped.
	Now        func() time.Time
	Registerer prometheus.Registerer
}

// Provider answers for custom and external metrics.
type Provider struct {
	opts                   Options
	customAge, externalAge prometheus.Observer
	fallbacks              *prometheus.CounterVec
	rarities               rarities
}

var _ provider.MetricsProvider = (*Provider)(nil)

// NewProvider returns a Provider.
func NewProvider(opts Options) *Provider {
	age := promauto.With(opts.Registerer).NewHistogramVec(prometheus.HistogramOpts{
		Name: "headroom_adapter_served_value_age_seconds", Help: "Age of the data behind each value at the time it was served.",
		// The API's own times are whole seconds and its freshness histogram starts at one second; we aim at less than two.
		Buckets: []float64{0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 15, 30, 60},
	}, []string{"api"})
	return &Provider{
		opts:        opts,
		customAge:   age.WithLabelValues("custom"),
		externalAge: age.WithLabelValues("external"),
		fallbacks: promauto.With(opts.Registerer).NewCounterVec(prometheus.CounterOpts{
			Name: "headroom_adapter_served_fallback_values_total", Help: "Values served in place of measured ones, by the kind of fallback.",
		}, []string{"fallback"}),
	}
}

// observe counts a value that is served.
func (p *Provider) observe(age prometheus.Observer, v *metric.Value, now time.Time) {
	age.Observe(v.Age(now).Seconds())
	if v.Fallback != metric.NoFallback {
		p.fallbacks.WithLabelValues(string(v.Fallback)).Inc()
	}
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

// windowSeconds returns the API's form of a window, nil for none.
func windowSeconds(d time.Duration) *int64 {
	if d <= 0 {
		return nil
	}
	return new(int64(math.Ceil(d.Seconds())))
}

// absence is one object that has no value to serve.
type absence struct {
	object metric.Object
	reason string
	search bool // whether Options.Why may know more
}

// explain says why none of the objects, at least one and all of one namespace and resource, has a value: three reasons,
// as a condition has room for a sentence and not for a page.
func (p *Provider) explain(name string, absent []absence) string {
	const most = 3
	for i, a := range absent[:min(most, len(absent))] {
		if !a.search {
			continue
		}
		if why := p.opts.Why(name, a.object); why != "" {
			absent[i].reason += ": " + why
		}
	}
	first := absent[0]
	if len(absent) == 1 {
		return (&metric.AbsentError{Metric: name, Object: first.object, Reason: first.reason}).Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "no %s of %d %s: ", name, len(absent), place(first.object.Resource, first.object.Namespace))
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

// place returns "pods in demo", or "nodes" where there is no namespace.
func place(resourceName, namespace string) string {
	if namespace == "" {
		return resourceName
	}
	return resourceName + " in " + namespace
}

// statusOf gives those of the Reader's errors their codes that end a request.
func statusOf(err error) error {
	if unknown, ok := errors.AsType[*metric.UnknownError](err); ok {
		return notFound("%s", unknown.Error())
	}
	if ambiguous, ok := errors.AsType[*metric.AmbiguousError](err); ok {
		return apierrors.NewBadRequest(ambiguous.Error())
	}
	return err
}

func notFound(format string, args ...any) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusNotFound,
		Reason:  metav1.StatusReasonNotFound,
		Message: fmt.Sprintf(format, args...),
	}}
}
