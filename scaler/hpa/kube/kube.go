// Package kube turns the API's objects into what scaler/hpa decides over.
//
// Guarantees: it reads what the controller reads of them (horizontal.go, replica_calculator.go and metrics/client.go of
// pkg/controller/podautoscaler), and nothing is set that the objects leave unset.
package kube

import (
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/scaler/hpa"
)

// Autoscaler is the spec of an HPA, with or without the defaults of the API server.
func Autoscaler(spec *autoscalingv2.HorizontalPodAutoscalerSpec) hpa.Autoscaler {
	a := hpa.Autoscaler{Min: spec.MinReplicas, Max: spec.MaxReplicas, Metrics: make([]hpa.Metric, len(spec.Metrics))}
	for i := range spec.Metrics {
		a.Metrics[i] = Metric(&spec.Metrics[i])
	}
	if b := spec.Behavior; b != nil {
		a.Behavior = &hpa.Behavior{Up: rules(b.ScaleUp), Down: rules(b.ScaleDown)}
	}
	return a
}

// Metric reads the target as the controller does: by its type for Object metrics, else by which number is there.
func Metric(spec *autoscalingv2.MetricSpec) hpa.Metric {
	m := hpa.Metric{Source: hpa.Source(spec.Type)}
	var target autoscalingv2.MetricTarget
	switch {
	case spec.Resource != nil:
		m.Name, target = string(spec.Resource.Name), spec.Resource.Target
	case spec.ContainerResource != nil:
		m.Name, target = string(spec.ContainerResource.Name), spec.ContainerResource.Target
	case spec.Pods != nil:
		m.Name, target = spec.Pods.Metric.Name, spec.Pods.Target
	case spec.Object != nil:
		m.Name, target = spec.Object.Metric.Name, spec.Object.Target
		if target.Type != autoscalingv2.AverageValueMetricType {
			target.AverageValue = nil
		}
		if target.Type != autoscalingv2.ValueMetricType {
			target.Value = nil
		}
	case spec.External != nil:
		m.Name, target = spec.External.Metric.Name, spec.External.Target
	}
	whole := m.Source == hpa.Object || m.Source == hpa.External
	switch {
	case target.AverageValue != nil:
		m.Kind, m.Target = hpa.AverageValue, target.AverageValue.MilliValue()
	case whole && target.Value != nil:
		m.Kind, m.Target = hpa.Value, target.Value.MilliValue()
	case !whole && m.Source != hpa.Pods && target.AverageUtilization != nil:
		m.Kind, m.Target = hpa.Utilization, int64(*target.AverageUtilization)
	}
	return m
}

func rules(r *autoscalingv2.HPAScalingRules) hpa.Rules {
	var out hpa.Rules
	if r == nil {
		return out
	}
	if r.StabilizationWindowSeconds != nil {
		out.Window = new(time.Duration(*r.StabilizationWindowSeconds) * time.Second)
	}
	if r.SelectPolicy != nil {
		out.Select = hpa.Select(*r.SelectPolicy)
	}
	if r.Tolerance != nil {
		out.Tolerance = new(r.Tolerance.AsApproximateFloat64())
	}
	if r.Policies != nil {
		out.Policies = make([]hpa.Policy, len(r.Policies))
		for i, p := range r.Policies {
			out.Policies[i] = hpa.Policy{
				Percent: p.Type == autoscalingv2.PercentScalingPolicy, Value: p.Value, Period: time.Duration(p.PeriodSeconds) * time.Second,
			}
		}
	}
	return out
}

// Pod reads a pod.
func Pod(p *corev1.Pod) hpa.Pod {
	pod := hpa.Pod{Name: p.Name, Phase: phase(p.Status.Phase), Deleted: p.DeletionTimestamp != nil}
	if p.Status.StartTime != nil {
		pod.Started = p.Status.StartTime.Time
	}
	for i := range p.Status.Conditions {
		c := &p.Status.Conditions[i]
		if c.Type != corev1.PodReady {
			continue
		}
		pod.ReadySince = c.LastTransitionTime.Time
		switch c.Status {
		case corev1.ConditionTrue:
			pod.Ready = hpa.Ready
		case corev1.ConditionFalse:
			pod.Ready = hpa.NotReady
		default:
			pod.Ready = hpa.UnknownReadiness
		}
		break
	}
	return pod
}

func phase(p corev1.PodPhase) hpa.Phase {
	switch p {
	case corev1.PodRunning:
		return hpa.Running
	case corev1.PodPending:
		return hpa.Pending
	case corev1.PodSucceeded:
		return hpa.Succeeded
	case corev1.PodFailed:
		return hpa.Failed
	default:
		return hpa.UnknownPhase
	}
}
