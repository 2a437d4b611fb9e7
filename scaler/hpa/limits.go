package hpa

import (
	"math"
	"time"
)

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

// Rules are behavior's for one direction.
type Rules struct {
	Window   time.Duration // of stabilization
	Select   Select
	Policies []Policy
}

// DefaultScaleUp are the rules that the API server writes where behavior says nothing of scaling up.
func DefaultScaleUp() Rules {
	const period = 15 * time.Second
	return Rules{Select: MaxChange, Policies: []Policy{{Value: 4, Period: period}, {Percent: true, Value: 100, Period: period}}}
}

// DefaultScaleDown are the same for scaling down. Their window is the controller's flag, 300 s unless it is set.
func DefaultScaleDown() Rules {
	return Rules{Window: 300 * time.Second, Select: MaxChange, Policies: []Policy{{Percent: true, Value: 100, Period: 15 * time.Second}}}
}

// Longest is the longest period of the policies: what changed before it limits nothing.
func (r Rules) Longest() time.Duration {
	var longest time.Duration
	for _, p := range r.Policies {
		longest = max(longest, p.Period)
	}
	return longest
}

// Highest is to how many replicas the rules, as those for scaling up, let an autoscaler go that has changed nothing during
// their periods.
func (r Rules) Highest(current int32) int32 {
	if r.Select == Disabled {
		return current
	}
	var list []int32
	for _, p := range r.Policies {
		if p.Percent {
			list = append(list, ceil(float64(current)*(1+float64(p.Value)/100)))
		} else {
			list = append(list, ceil(float64(current)+float64(p.Value)))
		}
	}
	return max(current, r.one(list, true))
}

// Lowest is the same for scaling down. It may be below 0.
func (r Rules) Lowest(current int32) int32 {
	if r.Select == Disabled {
		return current
	}
	var list []int32
	for _, p := range r.Policies {
		if p.Percent {
			list = append(list, int32(float64(current)*(1-float64(p.Value)/100)))
		} else {
			list = append(list, current-p.Value)
		}
	}
	return min(current, r.one(list, false))
}

// one returns the number that counts; upwards the policy that allows most is the greatest.
func (r Rules) one(list []int32, up bool) int32 {
	greatest := (r.Select == MinChange) != up
	result := int32(math.MaxInt32)
	if greatest {
		result = math.MinInt32
	}
	for _, n := range list {
		if greatest {
			result = max(result, n)
		} else {
			result = min(result, n)
		}
	}
	return result
}

// HighestWithoutBehavior is to how many replicas the controller goes at once for an autoscaler without behavior.
func HighestWithoutBehavior(current int32) int32 { return max(ceil(2*float64(current)), 4) }
