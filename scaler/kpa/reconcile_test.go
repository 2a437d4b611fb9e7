package kpa

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

const testGrace = time.Minute

// testReconciler is the revision of Knative's TestScaler: active for longer than the stable window.
func testReconciler(replicas, desired int) *reconciler {
	c := DefaultConfig()
	c.ScaleToZeroGracePeriod = testGrace
	r := newReconciler(c, 100, testStart(), replicas)
	r.desired, r.replicas = desired, replicas
	return &r
}

func (r *reconciler) in(p Phase, length time.Duration) {
	r.phase, r.since = p, testStart().Add(-length)
}

func (r *reconciler) inProxy(length time.Duration) {
	r.proxied, r.proxiedSince = true, testStart().Add(-length)
}

// TestScaler has the cases of Knative's pkg/reconciler/autoscaling/kpa/scaler_test.go, by their names, without those of
// probes that fail.
func TestScaler(t *testing.T) {
	const (
		window  = time.Minute
		timeout = 10*time.Minute + activationBuffer
		stay    = false
		apply   = true
	)
	for _, c := range []struct {
		label          string
		start, desired int
		prepare        func(*reconciler)
		want           int
		applied        bool
		why            Reasons
	}{
		{"waits to scale to zero (just before idle period)", 1, 0, func(r *reconciler) {
			r.in(Active, window-time.Second)
		}, 1, apply, ActiveTooShort},
		{"custom PA window, check for standard window, no probe", 1, 0, func(r *reconciler) {
			r.cfg.StableWindow = 20 * time.Second
			r.in(Active, window)
		}, 0, stay, Deactivated},
		{"scale to 1 waiting for idle expires", 10, 0, func(r *reconciler) {
			r.in(Active, window-time.Second)
		}, 1, apply, ActiveTooShort},
		{"waits to scale to zero after idle period", 1, 0, func(r *reconciler) {
			r.in(Active, window)
		}, 0, stay, Deactivated},
		{"can scale to zero after grace period, but 0 PA retention", 1, 0, func(r *reconciler) {
			r.in(Inactive, testGrace)
		}, 0, apply, 0},
		{"can't scale to zero after grace period, but before last pod retention", 1, 0, func(r *reconciler) {
			r.in(Inactive, testGrace)
			r.cfg.ScaleToZeroPodRetentionPeriod = 2 * testGrace
		}, 0, stay, PodRetention},
		{"scale to zero after grace period, and after last pod retention", 1, 0, func(r *reconciler) {
			r.in(Inactive, testGrace)
			r.cfg.ScaleToZeroPodRetentionPeriod = testGrace
		}, 0, apply, 0},
		{"waits to scale to zero (just before grace period)", 1, 0, func(r *reconciler) {
			r.in(Inactive, testGrace-time.Second)
		}, 0, stay, GracePeriod},
		{"waits to scale to zero (just before grace period, sks short)", 1, 0, func(r *reconciler) {
			r.in(Inactive, testGrace-time.Second)
			r.inProxy(testGrace - time.Second)
		}, 0, stay, GracePeriod},
		{"waits to scale to zero (just before grace period, sks in proxy long) and last pod timeout positive", 1, 0, func(r *reconciler) {
			r.in(Inactive, testGrace-time.Second)
			r.cfg.ScaleToZeroPodRetentionPeriod = 42 * time.Second
			r.inProxy(testGrace)
		}, 0, apply, 0},
		{"waits to scale to zero (just before grace period, sks in proxy long)", 1, 0, func(r *reconciler) {
			r.in(Inactive, testGrace-time.Second)
			r.inProxy(testGrace)
		}, 0, apply, 0},
		{"waits to scale to zero while activating until after deadline exceeded", 1, 0, func(r *reconciler) {
			r.in(Activating, timeout)
		}, unknown, stay, AwaitActivation},
		{"scale to zero while activating after deadline exceeded", 1, 0, func(r *reconciler) {
			r.in(Activating, timeout+time.Second)
		}, 0, apply, ActivationTimeout},
		{"scale to zero while activating after revision deadline exceeded", 1, 0, func(r *reconciler) {
			r.cfg.ProgressDeadline = 5 * time.Second
			r.in(Activating, 5*time.Second+activationBuffer+time.Second)
		}, 0, apply, ActivationTimeout},
		{"scale down to minScale before grace period", 10, 0, func(r *reconciler) {
			r.cfg.MinScale = 2
			r.in(Inactive, testGrace-time.Second)
		}, 2, apply, MinScale},
		{"scale to zero ignore last pod retention if revision is unreachable", 1, 0, func(r *reconciler) {
			r.in(Inactive, testGrace)
			r.cfg.Reachable, r.cfg.ScaleToZeroPodRetentionPeriod = false, 10*testGrace
		}, 0, apply, 0},
		{"can't scale to zero if revision is unreachable, but before deadline", 1, 0, func(r *reconciler) {
			r.in(Inactive, testGrace-time.Second)
			r.cfg.Reachable, r.cfg.ScaleToZeroPodRetentionPeriod = false, 10*testGrace
		}, 0, stay, GracePeriod},
		{"ignore minScale if unreachable", 10, 0, func(r *reconciler) {
			r.in(Inactive, testGrace)
			r.cfg.Reachable, r.cfg.MinScale = false, 2
		}, 0, apply, 0},
		{"scales up", 1, 10, nil, 10, apply, 0},
		{"scales up to maxScale", 1, 10, func(r *reconciler) { r.cfg.MaxScale = 8 }, 8, apply, MaxScale},
		{"scale up inactive revision", 1, 10, func(r *reconciler) { r.in(Inactive, testGrace/2) }, 10, apply, 0},
		{"does not scale up from zero with no metrics", 0, unknown, func(r *reconciler) { r.in(Inactive, 0) }, unknown, stay, 0},
		{"scales up from zero to desired one", 0, 1, nil, 1, apply, 0},
		{"negative scale does not scale", 12, unknown, nil, unknown, stay, 0},
		{"initial scale attained, but now time to scale down", 2, 0, func(r *reconciler) {
			r.cfg.InitialScale = 2
			r.in(Active, window/2)
		}, 1, apply, ActiveTooShort},
		{"haven't scaled to initial scale, override desired scale with initial scale", 0, 1, func(r *reconciler) {
			r.cfg.InitialScale, r.initialized = 2, false
			r.in(Activating, 0)
		}, 2, apply, InitialScale},
		{"reaching initial scale zero", 0, 0, func(r *reconciler) {
			r.cfg.InitialScale, r.cfg.AllowZeroInitialScale = 0, true
			r.in(Inactive, 0)
			r.inProxy(0)
		}, 0, stay, GracePeriod},
		{"unreachable revision with initialScale > 1 can scale to 0", 2, 0, func(r *reconciler) {
			r.cfg.InitialScale, r.initialized, r.cfg.Reachable = 2, false, false
			r.in(Active, window/2)
		}, 1, apply, ActiveTooShort},
		// Not in Knative's table:
		{"scale to zero disabled", 1, 0, func(r *reconciler) { r.cfg.EnableScaleToZero = false }, 1, apply, ZeroDisabled},
		{"no metrics while activating", 3, unknown, func(r *reconciler) { r.in(Activating, 0) }, unknown, stay, AwaitActivation},
		{"no metrics while activating with a minimum", 1, unknown, func(r *reconciler) {
			r.cfg.MinScale = 3
			r.in(Activating, 0)
		}, 3, apply, MinScale},
		{"initial scale above max scale", 1, 1, func(r *reconciler) {
			r.cfg.InitialScale, r.cfg.MaxScale, r.initialized = 9, 5, false
		}, 9, apply, InitialScale},
	} {
		t.Run(c.label, func(t *testing.T) {
			r := testReconciler(c.start, c.desired)
			if c.prepare != nil {
				c.prepare(r)
			}
			want, applied, why := r.scale(testStart())
			assert.Equal(t, c.want, want)
			assert.Equal(t, c.applied, applied)
			assert.Equal(t, c.why, why, "%v", why)
		})
	}
}

// TestComputeActiveCondition is the table in the comment of Knative's function of that name.
func TestComputeActiveCondition(t *testing.T) {
	all := []Phase{Activating, Active, Inactive}
	for _, c := range []struct {
		want, ready, least int
		from               []Phase
		to                 Phase
	}{
		{0, 0, 1, all, Inactive},
		{0, 5, 1, all, Inactive},
		{3, 1, 2, all, Activating},
		{3, 2, 2, all, Active},
		{unknown, 0, 1, []Phase{Inactive}, Inactive},
		{unknown, 0, 1, []Phase{Activating, Active}, Activating},
		{unknown, 1, 1, []Phase{Inactive}, Inactive},
		{unknown, 0, 0, all, Inactive},
		{unknown, 2, 2, []Phase{Activating, Active}, Active},
	} {
		for _, from := range c.from {
			r := testReconciler(1, c.want)
			r.initialized = c.least != 0
			r.cfg.MinScale, r.cfg.InitialScale = c.least, 0
			r.in(from, time.Hour)
			r.updatePhase(testStart(), c.want, c.ready)
			assert.Equal(t, c.to, r.phase, "%+v from %v", c, from)
			if from == Active && c.to == Active {
				assert.Equal(t, testStart().Add(-time.Hour), r.since)
			}
		}
	}
}

// TestTimedOutStartsAnew: the condition's time is that of its last change, be it only of the reason, so the grace period
// of a revision that timed out begins a step later.
func TestTimedOutStartsAnew(t *testing.T) {
	r := testReconciler(0, 0)
	r.initialized = true
	r.in(Activating, time.Hour)
	for step := range 3 {
		r.updatePhase(testStart().Add(time.Duration(step)*tick), 0, 0)
	}
	assert.Equal(t, Inactive, r.phase)
	assert.Equal(t, testStart().Add(tick), r.since)
}
