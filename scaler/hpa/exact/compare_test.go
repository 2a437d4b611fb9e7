package exact

import (
	"errors"
	"fmt"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"headroom.dev/headroom/scaler/hpa"
)

// compare holds what the controller wrote at the last look to what ours expects.
func (w *world) compare(seen *autoscalingv2.HorizontalPodAutoscaler) {
	l := w.now
	if l == nil {
		return
	}
	w.expect(l)
	w.count(l)
	var wrong []string
	differs := func(what string, ours, theirs any) {
		if o, t := fmt.Sprint(ours), fmt.Sprint(theirs); o != t {
			wrong = append(wrong, fmt.Sprintf("%s: ours %s, the controller's %s", what, o, t))
		}
	}
	rescale, replicas := l.written != nil, l.obs.Replicas
	if rescale {
		replicas = *l.written
	}
	differs("rescales", l.d.Rescale, rescale)
	differs("replicas", l.d.Replicas, replicas)
	got := statusOf(&seen.Status, w.want.created)
	differs("AbleToScale", w.want.able, got.able)
	differs("ScalingActive", w.want.active, got.active)
	differs("ScalingLimited", w.want.limited, got.limited)
	differs("ScaledToZero", w.want.zero, got.zero)
	differs("currentReplicas", w.want.current, got.current)
	differs("desiredReplicas", w.want.desired, got.desired)
	differs("currentMetrics", w.want.metrics, got.metrics)
	if len(wrong) == 0 {
		return
	}
	w.out.mismatches++
	if len(w.out.first) < 3 {
		w.out.first = append(w.out.first, fmt.Sprintf("%s %v, now %d (created %d, min %v, max %d, behavior %t): %q\n    %+v",
			w.s.name, l.obs.Now.Sub(w.p.begun).Round(time.Millisecond), l.obs.Replicas, l.obs.Created, *w.spec.Min, w.spec.Max, w.spec.Behavior != nil, wrong, l.d))
	}
	w.want.current, w.want.desired, w.want.metrics = got.current, got.desired, got.metrics
}

// expect is what a decision makes of the status.
func (w *world) expect(l *look) {
	d, want := &l.d, &w.want
	updated := d.Rescale && w.p.updateErr == nil
	switch {
	case d.Able == hpa.FailedGetScale:
		want.able = "FailedGetScale=False"
		return
	case updated:
		want.able = "SucceededRescale=True"
	case d.Rescale:
		want.able = "FailedUpdateScale=False"
	default:
		want.able = string(d.Able) + "=True"
	}
	failed := false
	switch d.Active {
	case "":
	case hpa.ValidMetricFound:
		want.active = "ValidMetricFound=True"
	default:
		failed = d.Active != hpa.ScalingDisabled
		want.active = string(d.Active) + "=False"
	}
	switch {
	case d.Limiting():
		want.limited = string(d.Limited) + "=True"
	case d.Limited != "":
		want.limited = string(d.Limited) + "=False"
	}
	switch {
	case !w.cfg.ScaleToZero && (updated || d.Active == hpa.ScalingDisabled):
		want.zero = ""
	case updated && w.mem.ScaledToZero:
		want.zero = "ScaledToZero=True"
	case updated:
		want.zero = "NotScaledToZero=False"
	}
	want.current, want.created = l.obs.Replicas, l.obs.Created
	if !failed && (updated || !d.Rescale) {
		want.desired = d.Replicas
	}
	want.metrics = nil
	for i := range d.Proposals {
		text := "failed"
		if p := &d.Proposals[i]; p.Err == nil {
			m := &w.spec.Metrics[i]
			text = fmt.Sprint(m.Source, p.Usage)
			if m.Kind == hpa.AverageValue && (m.Source == hpa.Object || m.Source == hpa.External) && l.obs.Created == 0 {
				text = fmt.Sprint(m.Source, "of none")
			}
			if m.Kind == hpa.Utilization {
				text += fmt.Sprint("%", p.Percent)
			}
		}
		want.metrics = append(want.metrics, text)
	}
}

func statusOf(s *autoscalingv2.HorizontalPodAutoscalerStatus, created int32) status {
	out := status{current: s.CurrentReplicas, desired: s.DesiredReplicas}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		text := c.Reason + "=" + string(c.Status)
		switch c.Type {
		case autoscalingv2.AbleToScale:
			out.able = text
		case autoscalingv2.ScalingActive:
			out.active = text
		case autoscalingv2.ScalingLimited:
			out.limited = text
		case autoscalingv2.ScaledToZero:
			out.zero = text
		}
	}
	for i := range s.CurrentMetrics {
		out.metrics = append(out.metrics, metricOf(&s.CurrentMetrics[i], created))
	}
	return out
}

// metricOf leaves out what the controller writes of a value divided by no replicas, which is no number.
func metricOf(m *autoscalingv2.MetricStatus, created int32) string {
	var v autoscalingv2.MetricValueStatus
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		v = m.Resource.Current
	case autoscalingv2.ContainerResourceMetricSourceType:
		v = m.ContainerResource.Current
	case autoscalingv2.PodsMetricSourceType:
		v = m.Pods.Current
	case autoscalingv2.ObjectMetricSourceType:
		v = m.Object.Current
	case autoscalingv2.ExternalMetricSourceType:
		v = m.External.Current
	default:
		return "failed"
	}
	if v.AverageValue != nil && created == 0 && (m.Object != nil || m.External != nil) {
		return fmt.Sprint(m.Type, "of none")
	}
	q := v.AverageValue
	if q == nil {
		q = v.Value
	}
	text := fmt.Sprint(m.Type, q.MilliValue())
	if v.AverageUtilization != nil {
		text += fmt.Sprint("%", *v.AverageUtilization)
	}
	return text
}

// count notes which branches a look went through.
func (w *world) count(l *look) {
	b := w.out.branches
	d := &l.d
	b["AbleToScale "+w.want.able]++
	if d.Able != "" {
		b["stabilization "+string(d.Able)]++
	}
	b["ScalingActive "+string(d.Active)]++
	b["ScalingLimited "+string(d.Limited)]++
	b[fmt.Sprintf("cause %d", d.Cause)]++
	switch {
	case d.Failed > 0 && d.Metric >= 0:
		b["metrics: some fail, the others scale up or hold"]++
	case d.Failed > 0 && d.Failed < len(d.Proposals):
		b["metrics: some fail and block scaling down"]++
	case d.Failed > 0:
		b["metrics: all fail"]++
	case len(d.Proposals) > 1:
		b["metrics: several, none fails"]++
	}
	if l.obs.Replicas == 0 && d.Active == hpa.ValidMetricFound {
		switch {
		case d.Cause == hpa.BelowMin:
			b["zero: minReplicas was raised"]++
		case d.Rescale:
			b["zero: metrics scale up"]++
		default:
			b["zero: it stays"]++
		}
	}
	if d.Rescale && d.Replicas == 0 {
		b["zero: metrics scale to it"]++
	}
	for i := range d.Proposals {
		w.countProposal(&w.spec.Metrics[i], &d.Proposals[i])
	}
}

func (w *world) countProposal(m *hpa.Metric, p *hpa.Proposal) {
	b := w.out.branches
	kind := fmt.Sprintf("%s %s", m.Source, m.Kind)
	if p.Err != nil {
		what := "its reading"
		for _, known := range []error{hpa.ErrNoPods, hpa.ErrNoValues, hpa.ErrNoMatch, hpa.ErrNoTarget, hpa.ErrNoReading} {
			if errors.Is(p.Err, known) {
				what = known.Error()
			}
		}
		b["fails: "+what]++
		b[fmt.Sprintf("fails: %s", m.Source)]++
		return
	}
	b[fmt.Sprintf("%s %s", kind, p.Verdict)]++
	if !p.Cautious {
		return
	}
	direction := "at the target"
	switch {
	case p.Ratio < 1:
		direction = "down"
	case p.Ratio > 1:
		direction = "up"
	}
	if p.Missing > 0 {
		b[fmt.Sprintf("missing pods, %s: %s", direction, p.Verdict)]++
	}
	if p.Unready > 0 {
		b["unready pods, "+direction]++
	}
	if p.Ignored > 0 {
		b["ignored pods, "+direction]++
	}
	if p.Strangers > 0 {
		b["strangers, "+direction]++
	}
}

// unmet lists the wanted branches that were never taken.
func unmet(b map[string]int) []string {
	var list []string
	for _, want := range wanted() {
		if b[want] == 0 {
			list = append(list, want)
		}
	}
	return list
}

func wanted() []string {
	var list []string
	each := func(format string, words ...string) {
		for _, word := range words {
			list = append(list, fmt.Sprintf(format, word))
		}
	}
	each("AbleToScale %s", "FailedGetScale=False", "SucceededGetScale=True", "SucceededRescale=True", "FailedUpdateScale=False",
		"ReadyForNewScale=True", "ScaleUpStabilized=True", "ScaleDownStabilized=True")
	each("stabilization %s", "FailedGetScale", "SucceededGetScale", "ReadyForNewScale", "ScaleUpStabilized", "ScaleDownStabilized")
	each("ScalingActive %s", "", "ValidMetricFound", "ScalingDisabled", "InvalidSelector", "AmbiguousSelector", "FailedGetResourceMetric",
		"FailedGetContainerResourceMetric", "FailedGetPodsMetric", "FailedGetObjectMetric", "FailedGetExternalMetric")
	each("ScalingLimited %s", "", "DesiredWithinRange", "TooFewReplicas", "TooManyReplicas", "ScaleUpLimit", "ScaleDownLimit")
	each("cause %s", "0", "1", "2", "3", "4")
	each("metrics: %s", "some fail, the others scale up or hold", "some fail and block scaling down", "all fail", "several, none fails")
	each("zero: %s", "minReplicas was raised", "metrics scale up", "it stays", "metrics scale to it")
	for _, kind := range []string{"Pods AverageValue", "Resource AverageValue", "Resource Utilization", "ContainerResource AverageValue", "ContainerResource Utilization"} {
		each(kind+" %s", "Scaled", "WithinTolerance", "WouldReverse")
	}
	for _, kind := range []string{"Object AverageValue", "Object Value", "External AverageValue", "External Value"} {
		each(kind+" %s", "Scaled", "WithinTolerance")
	}
	each("fails: %s", "its reading", hpa.ErrNoPods.Error(), hpa.ErrNoValues.Error(), hpa.ErrNoMatch.Error(), hpa.ErrNoTarget.Error(),
		hpa.ErrNoReading.Error(), "Resource", "ContainerResource", "Pods", "Object", "External")
	each("missing pods, down: %s", "Scaled", "WithinTolerance", "WouldReverse")
	each("missing pods, up: %s", "Scaled", "WithinTolerance", "WouldReverse")
	each("missing pods, at the target: %s", "WithinTolerance")
	each("unready pods, %s", "up", "down")
	each("ignored pods, %s", "up", "down")
	each("strangers, %s", "up", "down")
	slices.Sort(list)
	return list
}
