package apiserver

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/api/query"
)

// inquiry is a request for an explanation.
type inquiry struct {
	metric    string
	resource  string // metric.External for an external metric
	namespace string
	name      string          // of one object; "" for those that the selector means
	selector  labels.Selector // of objects
	series    labels.Selector // of an external metric's series
	now       time.Time
}

func (p *Provider) serveExplanation(w http.ResponseWriter, r *http.Request) {
	info, _ := request.RequestInfoFrom(r.Context())
	switch {
	case len(info.Parts) != 2:
		writeError(w, r, noSuchPath(r))
		return
	case info.Verb != "get":
		writeError(w, r, apierrors.NewMethodNotSupported(schema.GroupResource{Group: query.Group, Resource: explanationsResource}, info.Verb))
		return
	}
	in, err := readInquiry(r, info, p.opts.Now())
	if err == nil {
		var out *query.Explanation
		if out, err = p.explanation(r, in); err == nil {
			writeJSON(w, r, http.StatusOK, out)
			return
		}
	}
	writeError(w, r, err)
}

func readInquiry(r *http.Request, info *request.RequestInfo, now time.Time) (*inquiry, error) {
	values := r.URL.Query()
	in := &inquiry{metric: info.Name, resource: values.Get("resource"), namespace: info.Namespace, name: values.Get("name"), now: now}
	for _, s := range []struct {
		parameter string
		into      *labels.Selector
	}{{"labelSelector", &in.selector}, {"metricLabelSelector", &in.series}} {
		var err error
		if *s.into, err = labels.Parse(values.Get(s.parameter)); err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("%s: %v", s.parameter, err))
		}
	}
	if in.name != "" && !in.selector.Empty() {
		return nil, apierrors.NewBadRequest("name and labelSelector exclude each other")
	}
	if in.resource == metric.Namespaces && in.namespace != "" {
		if in.name != "" && in.name != in.namespace || !in.selector.Empty() {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("inside of namespace %s only that namespace can be asked about", in.namespace))
		}
		in.namespace, in.name = "", in.namespace // the object itself is of no namespace
	}
	return in, nil
}

func (p *Provider) explanation(r *http.Request, in *inquiry) (*query.Explanation, error) {
	out := &query.Explanation{
		APIVersion: query.APIVersion, Kind: "Explanation", At: in.now.UTC(),
		Metric: in.metric, Resource: in.resource, Namespace: in.namespace,
		Rules: []query.Rule{}, Objects: []query.Object{},
	}
	for _, rule := range p.opts.Rules(in.now) {
		if rule.Metric == in.metric && (rule.Resource == in.resource || in.resource == metric.External && rule.External) {
			out.Rules = append(out.Rules, rule)
		}
	}
	var err error
	switch in.resource {
	case metric.External:
		out.Objects, out.Reason, err = p.explainExternal(in)
	case metric.Pods:
		out.Objects, err = p.explainPods(in)
	default:
		out.Objects, err = p.explainObjects(r, in)
	}
	if err == nil && len(out.Objects) == 0 && out.Reason == "" {
		out.Reason = fmt.Sprintf("no %s: nothing matches %s", place(in.resource, in.namespace), describe(in.selector))
	}
	return out, err
}

func (p *Provider) explainExternal(in *inquiry) ([]query.Object, string, error) {
	if in.namespace == "" {
		return nil, "", apierrors.NewBadRequest("external metrics are asked for in a namespace")
	}
	list := []query.Object{}
	ofLabels, ofFallback := splitSelector(in.series)
	match := func(set map[string]string) bool { return ofLabels.Matches(labels.Set(set)) }
	series, err := p.opts.Reader.External(in.metric, in.namespace, match, in.now)
	if absent, ok := errors.AsType[*metric.AbsentError](err); ok {
		return list, absent.Reason, nil
	}
	if ambiguous, ok := errors.AsType[*metric.AmbiguousError](err); ok {
		return list, ambiguous.Error(), nil
	}
	if err != nil {
		return nil, "", statusOf(err)
	}
	for i := range series {
		s := &series[i]
		o := query.Object{Labels: marked(s), Value: toValue(&s.Value, in.now)}
		if _, o.Reason = quantity(s.Value.Value); o.Reason == "" && !ofFallback.Matches(labels.Set(o.Labels)) {
			o.Reason = "the metric selector leaves it out"
		}
		o.LeftOut = o.Reason != ""
		list = append(list, o)
	}
	return list, "", nil
}

func (p *Provider) explainPods(in *inquiry) ([]query.Object, error) {
	if err := p.defined(in.info()); err != nil {
		return nil, err
	}
	if in.name != "" {
		pod, err := p.getPod(in.namespace, in.name)
		if err != nil {
			return nil, fmt.Errorf("cannot look for pod %s/%s: %w", in.namespace, in.name, err)
		}
		v, err := p.judgePod(in.metric, in.object(in.name), pod, in.now)
		if err != nil {
			return nil, err
		}
		return []query.Object{p.toObject(in, in.name, &v)}, nil
	}
	pods, err := p.selectPods(in.namespace, in.selector, in.now)
	if err != nil {
		return nil, err
	}
	list := make([]query.Object, len(pods))
	for i, pod := range pods {
		v, err := p.judgePod(in.metric, in.object(pod.Name), pod, in.now)
		if err != nil {
			return nil, err
		}
		list[i] = p.toObject(in, pod.Name, &v)
	}
	return list, nil
}

func (p *Provider) explainObjects(r *http.Request, in *inquiry) ([]query.Object, error) {
	if err := p.defined(in.info()); err != nil {
		return nil, err
	}
	names := []string{in.name}
	if in.name == "" {
		var err error
		if names, err = p.names(r.Context(), in.info(), in.namespace, in.selector); err != nil {
			return nil, err
		}
	}
	list := make([]query.Object, len(names))
	for i, name := range names {
		v, err := p.judge(in.metric, in.object(name), in.now)
		if err != nil {
			return nil, err
		}
		list[i] = p.toObject(in, name, &v)
	}
	return list, nil
}

func (in *inquiry) object(name string) metric.Object {
	return metric.Object{Resource: in.resource, Namespace: in.namespace, Name: name}
}

func (in *inquiry) info() provider.CustomMetricInfo {
	return provider.CustomMetricInfo{GroupResource: schema.ParseGroupResource(in.resource), Namespaced: in.namespace != "", Metric: in.metric}
}

// toObject says all that is known of an object, also of one whose value is not served.
func (p *Provider) toObject(in *inquiry, name string, v *verdict) query.Object {
	o := in.object(name)
	out := query.Object{Name: name, Reason: v.leftOut}
	if v.absent == "" {
		out.Value = toValue(&v.value, in.now)
		if _, why := quantity(v.value.Value); out.Reason == "" {
			out.Reason = why
		}
		out.LeftOut = out.Reason != ""
	} else if out.Reason == "" {
		out.Reason = v.absent
		if why := p.opts.Why(in.metric, o); why != "" {
			out.Reason += ": " + why
		}
	}
	for _, c := range p.opts.Reader.Candidates(in.metric, o, in.now) {
		candidate := query.Candidate{Rule: c.Rule}
		if absent, ok := errors.AsType[*metric.AbsentError](c.Err); ok {
			candidate.Reason = absent.Reason
		} else if c.Err != nil {
			candidate.Reason = c.Err.Error()
		} else {
			candidate.Value = toValue(&c.Value, in.now)
		}
		out.Rules = append(out.Rules, candidate)
	}
	return out
}

func toValue(v *metric.Value, now time.Time) *query.Value {
	return &query.Value{
		Value: query.Number(v.Value), Time: v.Time.UTC(), Age: math.Round(v.Age(now).Seconds()*1e3) / 1e3,
		Window: v.Window.Seconds(), Rule: v.Rule, Fallback: string(v.Fallback),
	}
}
