package hpa

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestLimits has numbers that horizontal.go's calculateScaleUpLimitWithScalingRules and
// calculateScaleDownLimitWithBehaviors give without scale events.
func TestLimits(t *testing.T) {
	pods := func(n int32) Policy { return Policy{Value: n, Period: time.Minute} }
	percent := func(n int32) Policy { return Policy{Percent: true, Value: n, Period: time.Second} }
	f := func(s Select, current, highest, lowest int32, policies ...Policy) {
		t.Helper()
		r := Rules{Select: s, Policies: policies}
		assert.Equal(t, highest, r.Highest(current), "up")
		assert.Equal(t, lowest, r.Lowest(current), "down")
	}
	f(MaxChange, 10, 14, 6, pods(4))
	f(MaxChange, 10, 20, 0, pods(4), percent(100))
	f(MinChange, 10, 14, 6, pods(4), percent(100))
	f(MaxChange, 3, 4, 2, percent(10)) // 3.3 and 2.7: up to more, down to less
	f(MaxChange, 2, 6, -2, pods(4))
	f(Disabled, 10, 10, 10, pods(4))
	f(MaxChange, 0, 4, -4, pods(4), percent(100))
	assert.Equal(t, time.Minute, Rules{Policies: []Policy{percent(1), pods(1)}}.Longest())

	up, down := DefaultScaleUp(), DefaultScaleDown()
	assert.Equal(t, int32(5), up.Highest(1))
	assert.Equal(t, int32(12), up.Highest(6))
	assert.Equal(t, int32(0), down.Lowest(6))
	assert.Equal(t, []int32{4, 4, 6}, []int32{HighestWithoutBehavior(0), HighestWithoutBehavior(2), HighestWithoutBehavior(3)})
}
