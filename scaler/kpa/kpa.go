// Package kpa is Knative's pod autoscaler (knative.dev/serving 0.50) over plain structs and virtual time: the windows
// of pkg/autoscaler/aggregation, the decisions of pkg/autoscaler/scaling and what pkg/reconciler/autoscaling/kpa makes
// of them.
//
// Guarantees: the same calls give the same results, no call but New allocates, and every step gives what Knative's own
// packages give: scaler/kpa/exact drives both side by side.
//
// Left out is what decides no count: the activator, of which only the time matters for which it has been in the path. It
// is taken to be in the path as soon as the reconciler wants it there, and its probe to succeed. Knative reconciles on
// events and timers; here each step reconciles once, so what waits for a time happens at the first step after it. Nor does
// this package sample: Knative scrapes some pods of many and scales up; Record takes the total.
//
// An Autoscaler is for one goroutine.
package kpa

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrNotFinite is for values that are NaN or infinite: added to a window they would never leave its total.
var ErrNotFinite = errors.New("not a finite number")

// Autoscaler holds the state of one revision.
type Autoscaler struct {
	scraped             bool // pods are scraped, so silence is missing data
	stable, panicWindow window
	decider             decider
	reconciler          reconciler
}

// New returns the autoscaler of a new revision where readyPods is 0, else of a revision that is active with as many
// replicas, as after a restart of Knative's autoscaler. The error names the field of the Config.
func New(c Config, now time.Time, readyPods int) (*Autoscaler, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("cannot make a KPA: %w", err)
	}
	if readyPods < 0 || readyPods > maxScale {
		return nil, fmt.Errorf("cannot make a KPA: readyPods is %d, must be in [0, %d]", readyPods, maxScale)
	}
	s := c.spec()
	return &Autoscaler{
		scraped:     c.TargetBurstCapacity != -1,
		stable:      newWindow(c.StableWindow, c.Aggregation),
		panicWindow: newWindow(c.panicWindow(), c.Aggregation),
		decider:     newDecider(s, c.ScaleDownDelay, now, readyPods),
		reconciler:  newReconciler(c, s.total, now, readyPods),
	}, nil
}

// Record adds an observation: the Metric's value over all pods, in requests in flight or per second. Knative's collector
// has one a second while there are pods, 0 included. Values within one second of the clock add up, and what is a window
// late is dropped. The error is ErrNotFinite; nothing is recorded then.
func (a *Autoscaler) Record(now time.Time, value float64) error {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return fmt.Errorf("cannot record %v: %w", value, ErrNotFinite)
	}
	second := now.Unix()
	a.stable.record(second, value)
	a.panicWindow.record(second, value)
	return nil
}

// Scale decides. Knative does so every 2 s, and at once when a request meets a revision without pods. Less than no ready
// pods count as none.
func (a *Autoscaler) Scale(now time.Time, readyPods int) Result {
	readyPods = max(readyPods, 0)
	r := Result{Valid: true}
	if second := now.Unix(); a.scraped && a.stable.empty(second) {
		r.Valid, r.Reasons = false, NoData
	} else {
		r.StableValue, r.PanicValue = a.stable.average(second), a.panicWindow.average(second)
		r.Desired, r.ExcessBurstCapacity, r.Reasons = a.decider.decide(now, readyPods, r.StableValue, r.PanicValue)
		a.reconciler.desired, a.reconciler.excess = r.Desired, r.ExcessBurstCapacity
	}
	r.Reasons |= a.reconciler.step(now, readyPods)
	r.Panic = a.decider.panicking
	r.Desired, r.Replicas, r.Phase = a.reconciler.desired, a.reconciler.replicas, a.reconciler.phase
	return r
}

// SetReachable says from now on whether a route leads to the revision.
func (a *Autoscaler) SetReachable(reachable bool) {
	a.reconciler.cfg.Reachable, a.decider.spec.reachable = reachable, reachable
}
