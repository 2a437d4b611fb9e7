package explain

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/scaler/hpa"
)

// FallbackLabel marks values that are no young enough measurement, in the metrics APIs and in the selectors of an HPA.
const FallbackLabel = "headroom.dev/fallback"

// Metric is one metric of an HPA.
type Metric struct {
	Type       string       `json:"type"` // as in the HPA's spec
	Name       string       `json:"name"`
	Of         string       `json:"of"` // "pods", "Service chat", "external", "metrics.k8s.io"
	Selector   string       `json:"selector,omitempty"`
	TargetType string       `json:"targetType"`
	Target     query.Number `json:"target"`
	Unit       string       `json:"unit,omitempty"`
	Rules      []query.Rule `json:"rules,omitempty"`
	Objects    []Object     `json:"objects,omitempty"`
	Partial    string       `json:"partial,omitempty"` // why there are neither rules nor reasons
	Error      string       `json:"error,omitempty"`   // why the HPA has no value: the metric fails
	Unread     string       `json:"unread,omitempty"`  // why it is not known whether it has
	// Proposal is nil where the metric fails, or nothing is known.
	Proposal *Proposal `json:"proposal,omitempty"`
}

// Object is what one pod, object or series has, and how the HPA counts it.
type Object struct {
	query.Object
	Counted string        `json:"counted"`             // measured, missing, pending, ignored
	As      *query.Number `json:"countedAs,omitempty"` // the value that decided, where it is not the measured one
}

// How the HPA counts an object.
const (
	measured = "measured"
	missing  = "missing" // cautiously: as the target when scaling down, as 0 when scaling up
	pending  = "pending" // as 0 when scaling up, else not at all
	dropped  = "ignored" // not at all
)

// Proposal is how many replicas one metric asks for, and the arithmetic that leads there.
type Proposal struct {
	Replicas    int32        `json:"replicas"`
	Verdict     hpa.Verdict  `json:"verdict"`
	Approximate bool         `json:"approximate,omitempty"` // from the HPA's own last reading, not from values of now
	Usage       query.Number `json:"usage"`
	Ratio       query.Number `json:"ratio"`
	Text        string       `json:"text"`    // the arithmetic
	Because     string       `json:"because"` // the same in words
}

func (c *composer) metric(spec *autoscalingv2.MetricSpec, plain *hpa.Metric, source *Source) Metric {
	m := Metric{Type: string(spec.Type), Partial: source.Partial, Unread: source.Unread}
	var target autoscalingv2.MetricTarget
	var selector *metav1.LabelSelector
	switch {
	case spec.Pods != nil:
		m.Name, m.Of, target, selector = spec.Pods.Metric.Name, "pods", spec.Pods.Target, spec.Pods.Metric.Selector
	case spec.Object != nil:
		o := spec.Object
		m.Name, m.Of, target, selector = o.Metric.Name, o.DescribedObject.Kind+" "+o.DescribedObject.Name, o.Target, o.Metric.Selector
	case spec.External != nil:
		m.Name, m.Of, target, selector = spec.External.Metric.Name, "external", spec.External.Target, spec.External.Metric.Selector
	case spec.Resource != nil:
		m.Name, m.Of, target = string(spec.Resource.Name), "metrics.k8s.io", spec.Resource.Target
	case spec.ContainerResource != nil:
		r := spec.ContainerResource
		m.Name, m.Of, target = string(r.Name), "metrics.k8s.io, container "+r.Container, r.Target
	}
	m.setTarget(&target)
	if selector != nil {
		m.Selector = metav1.FormatLabelSelector(selector)
	}
	if x := source.Explanation; x != nil {
		m.Rules = x.Rules
		m.Unit = unitOf(x)
		m.Objects = objectsOf(x, selector, spec.External != nil)
	}
	if spec.Resource != nil || spec.ContainerResource != nil {
		m.Unit = ""
		if m.TargetType == string(autoscalingv2.UtilizationMetricType) {
			m.Unit = "percent"
		}
	}
	if source.Absent != "" {
		m.Error = source.Absent
	}
	switch {
	case m.Error != "":
	case source.Explanation == nil:
		c.byOwnReading(&m, spec, plain)
	case spec.Pods != nil:
		c.ofPods(&m, plain)
	default:
		c.ofWhole(&m, plain)
	}
	return m
}

func (m *Metric) setTarget(t *autoscalingv2.MetricTarget) {
	m.TargetType = string(t.Type)
	var milli int64
	switch {
	case t.AverageUtilization != nil:
		milli = int64(*t.AverageUtilization) * 1000
	case t.AverageValue != nil && t.Type != autoscalingv2.ValueMetricType:
		milli = t.AverageValue.MilliValue()
	case t.Value != nil:
		milli = t.Value.MilliValue()
	}
	m.Target = query.Number(float64(milli) / 1000)
}

// unitOf is the unit of the rule that gave values, else that of the first.
func unitOf(x *query.Explanation) string {
	units := map[string]string{}
	for _, r := range x.Rules {
		units[r.Name] = r.Unit
	}
	for i := range x.Objects {
		if v := x.Objects[i].Value; v != nil {
			return units[v.Rule]
		}
	}
	if len(x.Rules) > 0 {
		return x.Rules[0].Unit
	}
	return ""
}

// objectsOf counts as measured what the metrics APIs serve. The selector of a metric that is not external can only ask for
// the mark of fallbacks.
func objectsOf(x *query.Explanation, selector *metav1.LabelSelector, external bool) []Object {
	matches := labels.Everything()
	if selector != nil && !external {
		var err error
		if matches, err = metav1.LabelSelectorAsSelector(selector); err != nil {
			matches = labels.Nothing()
		}
	}
	list := make([]Object, len(x.Objects))
	for i := range x.Objects {
		o := Object{Object: x.Objects[i], Counted: missing}
		if o.Value != nil && !o.LeftOut {
			marks := labels.Set{}
			if o.Value.Fallback != "" {
				marks[FallbackLabel] = o.Value.Fallback
			}
			if matches.Matches(marks) {
				o.Counted = measured
			} else {
				o.Reason = "the metric selector leaves it out"
			}
		}
		list[i] = o
	}
	return list
}

// milli is a value as the API carries it.
func (o *Object) milli() *int64 {
	if o.Counted != measured {
		return nil
	}
	return new(int64(math.Round(float64(o.Value.Value) * 1000)))
}

func (m *Metric) withUnit(milli int64) string { return WithUnit(float64(milli)/1000, m.Unit) }

// ofPods is for a Pods metric.
func (c *composer) ofPods(m *Metric, plain *hpa.Metric) {
	if c.exists != nil {
		m.Objects = c.joinPods(m)
	}
	n := len(m.Objects)
	obs := hpa.Observation{Now: c.in.Now, Replicas: c.out.Target.Replicas, Pods: make([]hpa.Pod, n)}
	r := hpa.Reading{Samples: make([]hpa.Sample, n)}
	for i := range m.Objects {
		o := &m.Objects[i]
		obs.Pods[i] = hpa.Pod{Name: o.Name, Deleted: o.Counted == dropped}
		if o.Counted == pending {
			obs.Pods[i].Phase = hpa.Pending
		}
		if milli := o.milli(); milli != nil {
			r.Samples[i] = hpa.Sample{Measured: true, Milli: *milli}
		}
	}
	p := hpa.Propose(&c.cfg, plain, &obs, &r, c.tol)
	if p.Err != nil {
		m.Error = p.Err.Error()
		return
	}
	for i := range m.Objects {
		switch o := &m.Objects[i]; {
		case o.Counted == missing && assumed(&p):
			o.As = new(query.Number(float64(p.Assumed) / 1000))
		case o.Counted == pending && p.Ratio > 1:
			o.As = new(query.Number(0))
		}
	}
	m.Proposal = c.proposalOfPods(m, &p, plain.Target)
}

// assumed says that missing pods were counted in.
func assumed(p *hpa.Proposal) bool { return p.Cautious && p.Missing > 0 && p.Ratio != 1 }

// joinPods puts the objects in the order of the pods, with one for each pod.
func (c *composer) joinPods(m *Metric) []Object {
	byName := map[string]Object{}
	for _, o := range m.Objects {
		byName[o.Name] = o
	}
	list := make([]Object, 0, len(c.in.Pods))
	for i := range c.in.Pods {
		pod := &c.in.Pods[i]
		o, ok := byName[pod.Name]
		if !ok {
			o = Object{Object: query.Object{Name: pod.Name}, Counted: missing}
			if m.Partial == "" {
				o.Reason = "the adapter does not know the pod yet"
			}
		}
		switch {
		case ignored(pod):
			o.Counted = dropped
			if o.Reason == "" {
				o.Reason = "the pod is being deleted or has failed"
			}
		case pod.Status.Phase == corev1.PodPending:
			o.Counted = pending
			if o.Reason == "" {
				o.Reason = "the pod is Pending"
			}
		}
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b Object) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// ofWhole is for Object and External metrics.
func (c *composer) ofWhole(m *Metric, plain *hpa.Metric) {
	if plain.Kind == "" {
		m.Error = hpa.ErrNoTarget.Error()
		return
	}
	var usage int64
	n := 0
	for i := range m.Objects {
		if v := m.Objects[i].milli(); v != nil {
			n++
			usage += *v
		}
	}
	if n == 0 {
		m.Error = "there is no value"
		if len(m.Objects) == 1 && m.Objects[0].Reason != "" {
			m.Error = m.Objects[0].Reason
		}
		return
	}
	m.Proposal = c.proposalOfWhole(m, plain, usage, n)
	if m.Proposal == nil {
		m.Error = hpa.ErrNoPods.Error()
	}
}

// byOwnReading is for metrics that are not the adapter's, or cannot be read: the HPA wrote down what it read last.
func (c *composer) byOwnReading(m *Metric, spec *autoscalingv2.MetricSpec, plain *hpa.Metric) {
	target := int64(math.Round(float64(m.Target) * 1000))
	usage, ok := reading(spec, c.in.HPA.Status.CurrentMetrics)
	if !ok {
		switch {
		case m.Unread != "":
		case len(c.in.HPA.Status.CurrentMetrics) == 0:
			m.Unread = "the HPA has not read it yet"
		default:
			m.Error = "the HPA could not read it at its last look"
		}
		return
	}
	ready := c.readyPods()
	ratio := float64(usage) / float64(target)
	whole := hpa.Metric{Source: plain.Source, Name: plain.Name, Kind: hpa.Value, Target: target}
	p := hpa.ForValue(&whole, c.out.Target.Replicas, ready, usage, c.tol)
	text := fmt.Sprintf("the HPA read %s / target %s = %s", m.withUnit(usage), m.withUnit(target), factor(ratio))
	if p.Verdict == hpa.WithinTolerance {
		text += c.within(p.Replicas)
	} else {
		text += fmt.Sprintf("; about ⌈%s × %d⌉ = %d", number(ratio), ready, p.Replicas)
	}
	m.Proposal = &Proposal{
		Replicas: p.Replicas, Verdict: p.Verdict, Approximate: true, Usage: query.Number(float64(usage) / 1000),
		Ratio: query.Number(ratio), Text: text,
		Because: fmt.Sprintf("%s was %s at the HPA's last look%s", m.Name, m.withUnit(usage), c.against(m, target, &p)),
	}
}

// reading is what the HPA wrote of a metric, in thousandths; false where it failed.
func reading(spec *autoscalingv2.MetricSpec, all []autoscalingv2.MetricStatus) (int64, bool) {
	for i := range all {
		current := currentOf(spec, &all[i])
		switch {
		case current == nil:
		case current.AverageUtilization != nil:
			return int64(*current.AverageUtilization) * 1000, true
		case current.AverageValue != nil:
			return current.AverageValue.MilliValue(), true
		case current.Value != nil:
			return current.Value.MilliValue(), true
		}
	}
	return 0, false
}

// currentOf returns nil where the status is another metric's.
func currentOf(spec *autoscalingv2.MetricSpec, s *autoscalingv2.MetricStatus) *autoscalingv2.MetricValueStatus {
	var same bool
	var current *autoscalingv2.MetricValueStatus
	switch {
	case spec.Type != s.Type:
	case s.Resource != nil:
		same, current = s.Resource.Name == spec.Resource.Name, &s.Resource.Current
	case s.ContainerResource != nil:
		same = s.ContainerResource.Name == spec.ContainerResource.Name && s.ContainerResource.Container == spec.ContainerResource.Container
		current = &s.ContainerResource.Current
	case s.Pods != nil:
		same, current = apiequality.Semantic.DeepEqual(s.Pods.Metric, spec.Pods.Metric), &s.Pods.Current
	case s.Object != nil:
		same = s.Object.DescribedObject == spec.Object.DescribedObject && apiequality.Semantic.DeepEqual(s.Object.Metric, spec.Object.Metric)
		current = &s.Object.Current
	case s.External != nil:
		same, current = apiequality.Semantic.DeepEqual(s.External.Metric, spec.External.Metric), &s.External.Current
	}
	if !same {
		return nil
	}
	return current
}
