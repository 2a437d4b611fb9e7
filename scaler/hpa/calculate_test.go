package hpa

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pods makes pods of values in thousandths; -1 is a pod without one, -2 a pending, -3 a deleted one.
func pods(values ...int64) []Pod {
	var list []Pod
	for i, v := range values {
		p := Pod{Name: fmt.Sprintf("p%d", i), Pending: v == -2, Ignored: v == -3}
		if v >= 0 {
			p.Milli = &v
		}
		list = append(list, p)
	}
	return list
}

// TestForPods has the cases of replica_calculator_test.go that are about plain metrics, with that file's names.
func TestForPods(t *testing.T) {
	f := func(name string, current int32, target int64, values []int64, replicas int32, verdict Verdict, usage int64) {
		t.Helper()
		p, err := ForPods(current, target, pods(values...), DefaultTolerances())
		require.NoError(t, err, name)
		assert.Equal(t, replicas, p.Replicas, name)
		assert.Equal(t, verdict, p.Verdict, name)
		assert.Equal(t, usage, p.Usage, name)
	}
	f("ScaleUpCM", 3, 15000, []int64{20000, 10000, 30000}, 4, Scaled, 20000)
	f("ScaleUpCMUnreadyHotCpuNoLessScale", 3, 15000, []int64{50000, 10000, 30000}, 6, Scaled, 30000)
	f("ScaleUpCMUnreadyHotCpuScaleWouldScaleDown", 3, 15000, []int64{50000, 15000, 30000}, 7, Scaled, 31666)
	f("ScaleDownCM", 5, 20000, []int64{12000, 12000, 12000, 12000, 12000}, 3, Scaled, 12000)
	f("ScaleDownCMIgnoresDeletionPods", 5, 20000, []int64{12000, 12000, 12000, 12000, 12000, -3, -3}, 3, Scaled, 12000)
	f("ToleranceCM", 3, 20000, []int64{20000, 21000, 21000}, 3, WithinTolerance, 20666)
	f("MissingMetricsNoChangeEq", 2, 100, []int64{100, -1}, 2, WithinTolerance, 100)
	f("MissingMetricsUnreadyScaleUp", 3, 50, []int64{110, -1, -2}, 3, WouldReverse, 110)
	f("pending pods dampen a scale up", 3, 15000, []int64{50000, 10000, 30000, -2}, 6, Scaled, 30000)
	f("missing pods count as the target on the way down", 4, 100, []int64{10, 10, -1, -1}, 3, Scaled, 10)

	_, err := ForPods(3, 100, pods(-1, -2), DefaultTolerances())
	require.ErrorIs(t, err, ErrNoValues)
	_, err = ForPods(3, 100, nil, DefaultTolerances())
	require.ErrorIs(t, err, ErrNoPods)
}

func TestForValues(t *testing.T) {
	p := ForValue(3, 20000, 15000, 3, DefaultTolerances()) // ScaleUpCMObject
	assert.Equal(t, int32(4), p.Replicas)
	p = ForValue(3, 15500, 15000, 3, DefaultTolerances())
	assert.Equal(t, Proposal{Replicas: 3, Verdict: WithinTolerance, Usage: 15500, Ratio: 15500.0 / 15000}, p)
	p = ForValue(0, 20000, 15000, 0, DefaultTolerances())
	assert.Equal(t, int32(2), p.Replicas, "from zero it goes by the ratio alone")
	p = ForAverageValue(3, 20000, 5000, DefaultTolerances()) // ScaleUpPerPodCMObject
	assert.Equal(t, Proposal{Replicas: 4, Verdict: Scaled, Usage: 6667, Ratio: 20000.0 / 15000}, p)
	p = ForAverageValue(0, 20000, 5000, DefaultTolerances())
	assert.Equal(t, int32(4), p.Replicas)
}

// TestMissingIsAsMeasuredAtTheCautiousValue: a pod without a value changes the outcome as one that has 0 does on the way up
// and one at the target on the way down, and never turns the direction round.
func TestMissingIsAsMeasuredAtTheCautiousValue(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	scaled := 0
	for range 20_000 {
		values := make([]int64, 1+r.IntN(8))
		for i := range values {
			values[i] = r.Int64N(400)
		}
		target, current := 1+r.Int64N(300), int32(1+r.IntN(12))
		p, err := ForPods(current, target, pods(append([]int64{-1}, values...)...), DefaultTolerances())
		require.NoError(t, err)
		if p.Ratio > 1 {
			assert.GreaterOrEqual(t, p.Replicas, current, "%v at %d", values, target)
		} else {
			assert.LessOrEqual(t, p.Replicas, current, "%v at %d", values, target)
		}
		if p.Verdict != Scaled {
			continue
		}
		scaled++
		filled, err := ForPods(current, target, pods(append([]int64{*p.AssumedMilli}, values...)...), DefaultTolerances())
		require.NoError(t, err)
		assert.Equal(t, filled.Replicas, p.Replicas, "%v at %d", values, target)
		assert.Equal(t, filled.Ratio, *p.CautiousRatio, "%v at %d", values, target)
	}
	assert.Greater(t, scaled, 1000)
}
