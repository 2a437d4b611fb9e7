package hpa

import (
	"math"
	"time"
)

// Longest is the longest period of the policies: what changed before it limits nothing.
func (r *Rules) Longest() time.Duration {
	var longest time.Duration
	for i := range r.Policies {
		longest = max(longest, r.Policies[i].Period)
	}
	return longest
}

// Highest is to how many replicas the rules, as those for scaling up, let an autoscaler go that has changed what past has:
// calculateScaleUpLimitWithScalingRules, and never below current.
func (r *Rules) Highest(current int32, past *Memory, now time.Time) int32 {
	if r.Select == Disabled {
		return current
	}
	least := r.Select == MinChange
	result := int32(math.MinInt32)
	if least {
		result = math.MaxInt32
	}
	for i := range r.Policies {
		p := &r.Policies[i]
		start := past.before(current, p.Period, now)
		proposed := start + p.Value // overflows, as the controller's: +2147483647 pods allow nothing
		if p.Percent {
			proposed = ceil(float64(start) * (1 + float64(p.Value)/100))
		}
		if least {
			result = min(result, proposed)
		} else {
			result = max(result, proposed)
		}
	}
	return max(current, result)
}

// Lowest is the same for scaling down (calculateScaleDownLimitWithBehaviors), and never above current. It may be below 0.
func (r *Rules) Lowest(current int32, past *Memory, now time.Time) int32 {
	if r.Select == Disabled {
		return current
	}
	least := r.Select == MinChange
	result := int32(math.MaxInt32)
	if least {
		result = math.MinInt32
	}
	for i := range r.Policies {
		p := &r.Policies[i]
		start := past.before(current, p.Period, now)
		proposed := start - p.Value
		if p.Percent {
			proposed = int32(float64(start) * (1 - float64(p.Value)/100)) // cut, where Highest rounds up
		}
		if least {
			result = max(result, proposed)
		} else {
			result = min(result, proposed)
		}
	}
	return min(current, result)
}

// HighestWithoutBehavior is to how many replicas the controller goes at once for an autoscaler without behavior.
func HighestWithoutBehavior(current int32) int32 { return int32(max(2*float64(current), 4)) }

// limit clamps what is left after stabilization: convertDesiredReplicasWithRules, and with a behavior
// convertDesiredReplicasWithBehaviorRate.
func (a *Autoscaler) limit(current, wanted int32, past *Memory, now time.Time) (int32, Reason) {
	least := a.least()
	switch {
	case a.Behavior == nil:
		most, reason := a.Max, TooManyReplicas
		if limit := HighestWithoutBehavior(current); limit < most {
			most, reason = limit, ScaleUpLimit
		}
		switch {
		case wanted < least:
			return least, TooFewReplicas
		case wanted > most:
			return most, reason
		}
	case wanted > current:
		most, reason := a.Max, TooManyReplicas
		if limit := a.Behavior.Up.Highest(current, past, now); limit < most {
			most, reason = limit, ScaleUpLimit
		}
		if wanted > most {
			return most, reason
		}
	case wanted < current:
		reason := TooFewReplicas
		if limit := a.Behavior.Down.Lowest(current, past, now); limit > least {
			least, reason = limit, ScaleDownLimit
		}
		if wanted < least {
			return least, reason
		}
	}
	return wanted, DesiredWithinRange
}
