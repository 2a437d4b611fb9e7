package kpa

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

const (
	testStableWindow = time.Minute
	testUtilization  = 0.75
)

func testStart() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }

// testDecider is Knative's newTestAutoscaler.
func testDecider(target, targetBurstCapacity float64) *decider {
	d := newDecider(spec{
		target: target, total: target / testUtilization, targetBurstCapacity: targetBurstCapacity,
		panicThreshold: 2, maxUp: 10, maxDown: 10, stableWindow: testStableWindow, reachable: true,
	}, 0, testStart(), 1)
	return &d
}

// delayedDecider is the decider of Knative's tests of the scale-down delay.
func delayedDecider(scaleDownDelay time.Duration) *decider {
	d := newDecider(spec{target: 10, maxUp: 10, maxDown: 10, panicThreshold: 100, reachable: true}, scaleDownDelay, testStart(), 0)
	return &d
}

// expectedEBC is Knative's: what the pods can take, less the burst and the load.
func expectedEBC(target, targetBurstCapacity, load, pods float64) int {
	return int(math.Floor(target/testUtilization*pods - targetBurstCapacity - load))
}

// expectScale is Knative's, in place of whose fake pod counter and metric client the values are arguments.
func expectScale(t *testing.T, d *decider, now time.Time, ready int, stable, panicked float64, desired, excess int) {
	t.Helper()
	got, ebc, _ := d.decide(now, ready, stable, panicked)
	assert.Equal(t, desired, got, "desired")
	assert.Equal(t, excess, ebc, "excess burst capacity")
}

// The tests from here on are those of Knative's pkg/autoscaler/scaling/autoscaler_test.go, by their names.

func TestAutoscalerScaleDownDelay(t *testing.T) {
	d, now := delayedDecider(5*time.Minute), time.Time{}
	t.Run("simple", func(t *testing.T) {
		expectScale(t, d, now.Add(2*time.Second), 0, 40, 40, 4, 0)
		expectScale(t, d, now.Add(5*time.Minute), 0, 0, 0, 4, 0)
		expectScale(t, d, now.Add(5*time.Minute+2*time.Second), 0, 0, 0, 0, 0)
	})
	t.Run("gradual", func(t *testing.T) {
		expectScale(t, d, now.Add(9*time.Minute), 0, 40, 40, 4, 0)
		expectScale(t, d, now.Add(10*time.Minute), 0, 30, 30, 4, 0)
		expectScale(t, d, now.Add(11*time.Minute), 0, 0, 0, 4, 0)
		expectScale(t, d, now.Add(14*time.Minute), 0, 0, 0, 3, 0)
		expectScale(t, d, now.Add(15*time.Minute), 0, 0, 0, 0, 0)
	})
}

func TestAutoscalerScaleDownDelayNotReachable(t *testing.T) {
	d, now := delayedDecider(5*time.Minute), time.Time{}
	expectScale(t, d, now.Add(2*time.Second), 0, 40, 40, 4, 0)
	expectScale(t, d, now.Add(time.Minute), 0, 0, 0, 4, 0)
	d.spec.reachable = false
	expectScale(t, d, now.Add(2*time.Second), 0, 0, 0, 0, 0)
}

func TestAutoscalerScaleDownDelayZero(t *testing.T) {
	d, now := delayedDecider(0), time.Time{}
	expectScale(t, d, now, 0, 40, 40, 4, 0)
	expectScale(t, d, now.Add(500*time.Millisecond), 0, 20, 20, 2, 0)
}

func TestAutoscalerStableModeIncreaseWithConcurrencyDefault(t *testing.T) {
	d := testDecider(10, 101)
	expectScale(t, d, testStart(), 1, 50, 10, 5, expectedEBC(10, 101, 10, 1))
	expectScale(t, d, testStart(), 1, 100, 10, 10, expectedEBC(10, 101, 10, 1))
}

func TestAutoscalerStableModeIncreaseWithRPS(t *testing.T) {
	d := testDecider(10, 101)
	expectScale(t, d, testStart(), 1, 50, 50, 5, expectedEBC(10, 101, 50, 1))
	expectScale(t, d, testStart(), 1, 100, 99, 10, expectedEBC(10, 101, 99, 1))
}

func TestAutoscalerUnpanicAfterSlowIncrease(t *testing.T) {
	d, start := testDecider(1, 98), testStart()
	expectScale(t, d, start, 10, 11, 25, 25, expectedEBC(1, 98, 25, 10))
	assert.Equal(t, start, d.panicTime)
	now := start.Add(testStableWindow / 2)
	expectScale(t, d, now, 40, 30, 41, 41, expectedEBC(1, 98, 41, 40))
	assert.Equal(t, start, d.panicTime)
	now = now.Add(testStableWindow/2 + tick)
	expectScale(t, d, now, 55, 50, 56, 50, expectedEBC(1, 98, 56, 55))
	assert.False(t, d.panicking)
}

func TestAutoscalerExtendPanicWindow(t *testing.T) {
	d, now := testDecider(1, 98), testStart()
	expectScale(t, d, now, 10, 11, 25, 25, expectedEBC(1, 98, 25, 10))
	now = now.Add(testStableWindow / 2)
	expectScale(t, d, now, 40, 30, 80, 80, expectedEBC(1, 98, 80, 40))
	assert.Equal(t, now, d.panicTime)
}

func TestAutoscalerStableModeDecrease(t *testing.T) {
	d := testDecider(10, 98)
	expectScale(t, d, testStart(), 8, 100, 100, 10, expectedEBC(10, 98, 100, 8))
	expectScale(t, d, testStart(), 8, 50, 50, 5, expectedEBC(10, 98, 50, 8))
}

func TestAutoscalerStableModeNoTrafficScaleToZero(t *testing.T) {
	d := testDecider(10, 75)
	expectScale(t, d, testStart(), 1, 1, 0, 1, expectedEBC(10, 75, 0, 1))
	expectScale(t, d, testStart(), 1, 0, 0, 0, expectedEBC(10, 75, 0, 1))
}

func TestAutoscalerActivationScale(t *testing.T) {
	d := testDecider(10, 75)
	d.spec.activationScale = 2
	expectScale(t, d, testStart(), 1, 0, 0, 0, expectedEBC(10, 75, 0, 1))
	expectScale(t, d, testStart(), 1, 1, 0, 2, expectedEBC(10, 75, 0, 1))
}

func TestAutoscalerPanicModeExponentialTrackAndStabilize(t *testing.T) {
	d, now := testDecider(1, 101), testStart()
	expectScale(t, d, now, 1, 6, 6, 6, expectedEBC(1, 101, 6, 1))
	expectScale(t, d, now, 6, 36, 36, 36, expectedEBC(1, 101, 36, 6))
	now = now.Add(time.Second)
	expectScale(t, d, now, 36, 216, 216, 216, expectedEBC(1, 101, 216, 36))
	assert.Equal(t, now, d.panicTime)
	expectScale(t, d, now, 216, 1296, 1296, 1296, expectedEBC(1, 101, 1296, 216))
	now = now.Add(time.Second)
	expectScale(t, d, now, 1296, 1296, 1296, 1296, expectedEBC(1, 101, 1296, 1296))
}

func TestAutoscalerScale(t *testing.T) {
	panicking := func(d *decider) {
		d.panicking, d.panicTime, d.panicPods = true, testStart().Add(-5*time.Second), 5
	}
	for _, c := range []struct {
		label                        string
		target, burst, stable, panic float64
		prepare                      func(*decider)
		ready, want, wantEBC         int
		why                          Reasons
	}{
		{"AutoscalerNoDataAtZeroNoAutoscale", 10, 100, 0, 0, nil, 1, 0, expectedEBC(10, 100, 0, 1), 0},
		{"AutoscalerStableModeUnlimitedTBC", 181, -1, 21, 26, nil, 1, 1, -1, 0},
		{"Autoscaler0TBC", 10, 0, 50, 49, nil, 1, 5, 0, 0},
		{"AutoscalerStableModeNoChange", 10, 100, 50, 50, nil, 1, 5, expectedEBC(10, 100, 50, 1), 0},
		{"AutoscalerPanicStableLargerThanPanic", 1, 100, 50, 30, panicking, 5, 50, expectedEBC(1, 100, 30, 5), 0},
		{"AutoscalerPanicStableLessThanPanic", 1, 100, 20, 30, panicking, 5, 30, expectedEBC(1, 100, 30, 5), PanicWindow},
		{"AutoscalerStableModeNoChangeAlreadyScaled", 10, 100, 50, 50, nil, 5, 5, expectedEBC(10, 100, 50, 5), 0},
		{
			"AutoscalerStableModeIncreaseWithSmallScaleUpRate", 1, 1982, 3, 3.1,
			func(d *decider) { d.spec.maxUp = 1.1 }, 2, 3, expectedEBC(1, 1982, 3.1, 2), 0,
		},
		{
			"AutoscalerStableModeDecreaseWithSmallScaleDownRate", 10, 1982, 1, 1,
			func(d *decider) { d.spec.maxDown = 1.1 }, 100, 90, expectedEBC(10, 1982, 1, 100), ScaleDownRate,
		},
		{
			"AutoscalerStableModeDecreaseNonReachable", 10, 1982, 1, 1,
			func(d *decider) { d.spec.maxDown, d.spec.reachable = 1.1, false }, 100, 1, expectedEBC(10, 1982, 1, 100), 0,
		},
		{"AutoscalerPanicModeDoublePodCount", 10, 84, 50, 100, nil, 1, 10, expectedEBC(10, 84, 100, 1), PanicWindow},
	} {
		t.Run(c.label, func(t *testing.T) {
			d := testDecider(c.target, c.burst)
			if c.prepare != nil {
				c.prepare(d)
			}
			got, excess, why := d.decide(testStart(), c.ready, c.stable, c.panic)
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.wantEBC, excess)
			assert.Equal(t, c.why, why, "%v", why)
		})
	}
}

func TestAutoscalerPanicThenUnPanicScaleDown(t *testing.T) {
	d, now := testDecider(10, 93), testStart()
	expectScale(t, d, now, 1, 100, 100, 10, expectedEBC(10, 93, 100, 1))
	expectScale(t, d, now, 10, 100, 1000, 100, expectedEBC(10, 93, 1000, 10))
	expectScale(t, d, now.Add(30*time.Second), 10, 1, 1, 100, expectedEBC(10, 93, 1, 10))
	expectScale(t, d, now.Add(61*time.Second), 10, 1, 1, 1, expectedEBC(10, 93, 1, 10))
}

func TestAutoscalerRateLimitScaleUp(t *testing.T) {
	d := testDecider(10, 61)
	expectScale(t, d, testStart(), 1, 1000, 1001, 10, expectedEBC(10, 61, 1001, 1))
	expectScale(t, d, testStart(), 10, 1000, 1001, 100, expectedEBC(10, 61, 1001, 10))
}

func TestAutoscalerRateLimitScaleDown(t *testing.T) {
	d := testDecider(10, 61)
	expectScale(t, d, testStart(), 100, 1, 1, 10, expectedEBC(10, 61, 1, 100))
	expectScale(t, d, testStart(), 10, 1, 1, 1, expectedEBC(10, 61, 1, 10))
}

func TestAutoscalerUseOnePodAsMinimumIfEndpointsNotFound(t *testing.T) {
	expectScale(t, testDecider(10, 81), testStart(), 0, 1000, 888, 10, expectedEBC(10, 81, 888, 0))
}

func TestStartInPanicMode(t *testing.T) {
	s := spec{target: 100, total: 120, targetBurstCapacity: 11, panicThreshold: 220, maxUp: 10, maxDown: 10, stableWindow: testStableWindow}
	for ready := range 3 {
		d := newDecider(s, 0, testStart(), ready)
		assert.Equal(t, ready > 1, d.panicking)
		assert.Equal(t, ready, d.panicPods)
	}
}

// Until here.

func TestReasonsOfRates(t *testing.T) {
	d := testDecider(10, 0)
	_, _, why := d.decide(testStart(), 1, 1000, 0)
	assert.Equal(t, ScaleUpRate, why)
	_, _, why = d.decide(testStart(), 100, 1, 1)
	assert.Equal(t, ScaleDownRate, why)

	d.panicking, d.panicTime, d.panicPods = true, testStart(), 40
	desired, _, why := d.decide(testStart(), 100, 1, 1)
	assert.Equal(t, 40, desired)
	assert.Equal(t, ScaleDownRate|PanicHold, why, "what was held back was bound as well")
}

func TestHugeLoadStaysWithinInt32(t *testing.T) {
	d := testDecider(1e-2, 1)
	d.spec.maxUp = math.MaxFloat64
	desired, excess, _ := d.decide(testStart(), 5, 1e300, 1e300)
	assert.Equal(t, math.MaxInt32, desired)
	assert.Equal(t, -math.MaxInt32, excess)
}
