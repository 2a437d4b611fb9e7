// Package hpa is the stock Horizontal Pod Autoscaler (autoscaling/v2 of Kubernetes 1.37, pkg/controller/podautoscaler) as a
// function over plain structs: how many replicas it asks for, and why.
//
// Guarantees: the functions are pure; what the controller keeps from one look to the next is in Memory, which the caller
// holds. They round as the controller does (thousandths as int64, ratios as float64) and keep its peculiarities, down to
// how its numbers overflow; scaler/hpa/exact drives the real controller beside them. A look allocates nothing but what
// Memory grows by.
//
// Sources, by function: horizontal.go (Decide, Memory, Rules), replica_calculator.go and metrics/utilization.go (Propose,
// Config.Group), pkg/apis/autoscaling/v2/defaults.go (Autoscaler.Default), and validation.go there (Autoscaler.Validate).
package hpa

import "time"

// Config are the flags of kube-controller-manager, and the gate, that bear on decisions.
type Config struct {
	Tolerance              float64       // --horizontal-pod-autoscaler-tolerance, for both directions
	DownscaleStabilization time.Duration // --horizontal-pod-autoscaler-downscale-stabilization
	CPUInitialization      time.Duration // --horizontal-pod-autoscaler-cpu-initialization-period
	InitialReadinessDelay  time.Duration // --horizontal-pod-autoscaler-initial-readiness-delay
	ScaleToZero            bool          // the gate HPAScaleToZero
}

// DefaultConfig are the defaults of Kubernetes 1.37.
func DefaultConfig() Config {
	return Config{
		Tolerance: 0.1, DownscaleStabilization: 5 * time.Minute, CPUInitialization: 5 * time.Minute,
		InitialReadinessDelay: 30 * time.Second, ScaleToZero: true,
	}
}

// Autoscaler is the spec of a HorizontalPodAutoscaler. Default fills in what it leaves unset, as the API server does.
type Autoscaler struct {
	Min      *int32
	Max      int32
	Metrics  []Metric
	Behavior *Behavior // nil is not the same as one with nothing set: the controller then has rules of its own
}

func (a *Autoscaler) least() int32 {
	if a.Min == nil {
		return 1
	}
	return *a.Min
}

// readsWithoutPods: only Object and External metrics have values while there is no pod.
func (a *Autoscaler) readsWithoutPods() bool {
	for i := range a.Metrics {
		if s := a.Metrics[i].Source; s == Object || s == External {
			return true
		}
	}
	return false
}

// Tolerances are the controller's, with what the behavior says instead.
func (a *Autoscaler) Tolerances(cfg *Config) Tolerances {
	t := Tolerances{Down: cfg.Tolerance, Up: cfg.Tolerance}
	if b := a.Behavior; b != nil {
		if b.Down.Tolerance != nil {
			t.Down = *b.Down.Tolerance
		}
		if b.Up.Tolerance != nil {
			t.Up = *b.Up.Tolerance
		}
	}
	return t
}

// Source is where a metric is from, in the words of the API.
type Source string

// The types of metrics.
const (
	Resource          Source = "Resource"
	ContainerResource Source = "ContainerResource"
	Pods              Source = "Pods"
	Object            Source = "Object"
	External          Source = "External"
)

// Kind says what a target is of, in the words of the API.
type Kind string

// The types of targets. A metric without a usable one, which the API server lets pass for Object metrics, has the kind "".
const (
	Utilization  Kind = "Utilization"
	AverageValue Kind = "AverageValue"
	Value        Kind = "Value"
)

// Metric is one metric of an autoscaler.
type Metric struct {
	Source Source
	Name   string // of the metric or the resource; "cpu" is the one for which readiness counts
	Kind   Kind
	Target int64 // thousandths; percent of the request for Utilization
}

// cpu: the controller waits for readiness and whole windows only for CPU.
func (m *Metric) cpu() bool {
	return m.Name == "cpu" && (m.Source == Resource || m.Source == ContainerResource)
}

// Behavior is how fast replicas may change, with all its fields set.
type Behavior struct{ Up, Down Rules }

// Rules are behavior's for one direction.
type Rules struct {
	Window    *time.Duration // of stabilization; nil, for scaling down only, is the controller's flag
	Select    Select
	Policies  []Policy
	Tolerance *float64 // nil is the controller's flag
}

// Select says which of several policies counts.
type Select string

// The ways to select, in the words of the API.
const (
	MaxChange Select = "Max"      // the policy that allows most
	MinChange Select = "Min"      // the policy that allows least
	Disabled  Select = "Disabled" // nothing changes in this direction
)

// Policy is how far replicas may go within a period.
type Policy struct {
	Percent bool // Value is one of the replicas at the period's start, else a number of pods
	Value   int32
	Period  time.Duration
}

// Observation is what the controller sees at one look. It is read, and not kept.
type Observation struct {
	Now      time.Time
	Replicas int32 // of the scale's spec
	Created  int32 // of the scale's status
	// ScaleErr is why the scale could not be read: nothing else is then looked at.
	ScaleErr error
	// Selector is InvalidSelector or AmbiguousSelector where the pods cannot be told, else "".
	Selector Reason
	Pods     []Pod     // that the scale's selector means
	Readings []Reading // for each of the metrics, in their order
}

// Reading is what the controller is told of one metric.
type Reading struct {
	// Err is why there is none.
	Err error
	// Values are an External metric's series, or the one number of an Object metric, in thousandths.
	Values []int64
	// Samples are the pods' for the other types, in the order of Observation.Pods; pods beyond its end have none.
	Samples []Sample
	// Strangers are values of pods that the list of pods does not have (yet, or any more), in thousandths. The controller
	// counts them, but for Utilization, where they only count as pods.
	Strangers []int64
	// RequestErr is why the request of a pod is not known: for Utilization, one is enough to fail the metric.
	RequestErr error
}

// Sample is what one pod has of a metric.
type Sample struct {
	Measured bool
	Milli    int64 // thousandths
	Request  int64 // thousandths, of the pod or of the container; for Utilization, and there also where nothing is measured
	// At is the end of the Window over which CPU was measured.
	At     time.Time
	Window time.Duration
}
