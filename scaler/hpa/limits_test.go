package hpa

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestLimits has numbers that calculateScaleUpLimitWithScalingRules and calculateScaleDownLimitWithBehaviors of horizontal.go
// give without scale events.
func TestLimits(t *testing.T) {
	pods := func(n int32) Policy { return Policy{Value: n, Period: time.Minute} }
	percent := func(n int32) Policy { return Policy{Percent: true, Value: n, Period: time.Second} }
	f := func(s Select, current, highest, lowest int32, policies ...Policy) {
		t.Helper()
		r := Rules{Select: s, Policies: policies}
		assert.Equal(t, highest, r.Highest(current, &Memory{}, noon), "up")
		assert.Equal(t, lowest, r.Lowest(current, &Memory{}, noon), "down")
	}
	f(MaxChange, 10, 14, 6, pods(4))
	f(MaxChange, 10, 20, 0, pods(4), percent(100))
	f(MinChange, 10, 14, 6, pods(4), percent(100))
	f(MinChange, 1, 2, 0, pods(2), percent(50)) // TestCalculateScaleUpLimitWithScalingRules
	f(MaxChange, 3, 4, 2, percent(10))          // 3.3 and 2.7: up to more, down to less
	f(MaxChange, 2, 6, -2, pods(4))
	f(Disabled, 10, 10, 10, pods(4))
	f(MaxChange, 0, 4, -4, pods(4), percent(100))
	f(MaxChange, 10, 10, 10-math.MaxInt32, pods(math.MaxInt32)) // upwards it overflows, and so allows nothing
	assert.Equal(t, time.Minute, (&Rules{Policies: []Policy{percent(1), pods(1)}}).Longest())

	up, down := DefaultScaleUp(), DefaultScaleDown()
	assert.Equal(t, int32(5), up.Highest(1, &Memory{}, noon))
	assert.Equal(t, int32(12), up.Highest(6, &Memory{}, noon))
	assert.Equal(t, int32(0), down.Lowest(6, &Memory{}, noon))
	assert.Equal(t, []int32{4, 4, 6}, []int32{HighestWithoutBehavior(0), HighestWithoutBehavior(2), HighestWithoutBehavior(3)})
}

// rules are generateScalingRules of horizontal_test.go.
func rules(pods, podsPeriod, percent, percentPeriod int32) Rules {
	r := Rules{Select: MaxChange}
	if pods != 0 {
		r.Policies = append(r.Policies, Policy{Value: pods, Period: time.Duration(podsPeriod) * time.Second})
	}
	if percent != 0 {
		r.Policies = append(r.Policies, Policy{Percent: true, Value: percent, Period: time.Duration(percentPeriod) * time.Second})
	}
	return r
}

// events are spread evenly over the last so many seconds.
func events(seconds int, changes ...int32) []event {
	var list []event
	for i, c := range changes {
		list = append(list, event{change: c, at: noon.Add(-time.Duration(float64(seconds)*float64(i+1)/float64(len(changes)+1)) * time.Second)})
	}
	return list
}

// TestLimitWithBehavior has the cases of TestScalingWithRules.
func TestLimitWithBehavior(t *testing.T) {
	f := func(name string, least, most, current, wanted int32, up, down *Rules, past *Memory, replicas int32, reason Reason) {
		t.Helper()
		a := Autoscaler{Min: &least, Max: most, Behavior: &Behavior{Up: DefaultScaleUp(), Down: DefaultScaleDown()}}
		if up != nil {
			a.Behavior.Up = *up
		}
		if down != nil {
			a.Behavior.Down = *down
		}
		if past == nil {
			past = &Memory{}
		}
		got, why := a.limit(current, wanted, past, noon)
		assert.Equal(t, replicas, got, name)
		assert.Equal(t, reason, why, name)
	}
	only := func(pods, podsPeriod, percent, percentPeriod int32) *Rules {
		return new(rules(pods, podsPeriod, percent, percentPeriod))
	}
	ups, downs := &Memory{ups: events(120, 1, 5, 9)}, &Memory{downs: events(120, 1, 5, 9)}

	f("prenormalized desired replicas within range", 3, 8, 5, 7, nil, nil, nil, 7, DesiredWithinRange)
	f("prenormalized desired replicas < minReplicas", 2, 8, 3, 1, nil, nil, nil, 2, TooFewReplicas)
	f("within range when minReplicas is 0", 0, 10, 1, 0, nil, nil, nil, 0, DesiredWithinRange)
	f("maxReplicas is the limit because maxReplicas < scaleUpLimit", 1, 10, 20, 1000, nil, nil, nil, 10, TooManyReplicas)
	f("desired replica count is more than the maximum replica count", 100, 150, 100, 1000, nil, nil, nil, 150, TooManyReplicas)
	f("scaleUpLimit is the limit with user policies", 1, 2000, 3, 1000, only(0, 0, 1, 60), nil, nil, 4, ScaleUpLimit)
	f("scaleUp with default behavior", 1, 1000, 10, 50, nil, nil, nil, 20, ScaleUpLimit)
	f("scaleUp with pods policy larger than percent policy", 1, 1000, 10, 500, only(100, 60, 100, 60), nil, nil, 110, ScaleUpLimit)
	f("scaleUp with percent policy larger than pods policy", 1, 1000, 10, 500, only(2, 60, 100, 60), nil, nil, 20, ScaleUpLimit)
	f("scaleUp with spec MaxReplicas limitation with large pod policy", 1, 1000, 10, 50, only(100, 60, 0, 0), nil, nil, 50, DesiredWithinRange)
	f("scaleUp with pod policy limitation", 1, 1000, 10, 50, only(30, 60, 0, 0), nil, nil, 40, ScaleUpLimit)
	f("scaleUp with percent policy limitation", 1, 1000, 10, 50, only(0, 0, 200, 60), nil, nil, 30, ScaleUpLimit)
	f("scaleDown with percent policy larger than pod policy", 1, 1000, 100, 2, nil, only(20, 60, 1, 60), nil, 80, ScaleDownLimit)
	f("scaleDown with pod policy larger than percent policy", 1, 1000, 100, 2, nil, only(2, 60, 1, 60), nil, 98, ScaleDownLimit)
	f("scaleDown with spec MinReplicas limitation with large pod policy", 1, 1000, 10, 0, nil, only(100, 60, 0, 0), nil, 1, TooFewReplicas)
	f("scaleDown with spec MinReplicas limitation with large percent policy", 5, 1000, 10, 2, nil, only(0, 0, 100, 60), nil, 5, TooFewReplicas)
	f("scaleDown with pod policy limitation", 1, 1000, 10, 2, nil, only(5, 60, 0, 0), nil, 5, ScaleDownLimit)
	f("scaleDown with percent policy limitation", 1, 1000, 10, 5, nil, only(0, 0, 50, 60), nil, 5, DesiredWithinRange)
	f("scaleUp with large pod policy and events", 1, 200, 100, 500, only(300, 60, 0, 0), nil, ups, 200, TooManyReplicas)
	f("scaleUp with large percent policy and events", 1, 200, 100, 500, only(0, 0, 10000, 60), nil, ups, 200, TooManyReplicas)
	f("scaleUp with a lot of recent scale up events", 1, 1000, 100, 500, only(5, 120, 0, 0), nil, ups, 100, ScaleUpLimit)
	f("scaleUp with pod policy and previous events", 1, 1000, 100, 500, only(150, 120, 0, 0), nil, ups, 235, ScaleUpLimit)
	f("scaleUp with percent policy and previous events", 1, 1000, 100, 500, only(0, 0, 200, 120), nil, ups, 255, ScaleUpLimit)
	f("scaleDown with large pod policy and previous events", 5, 1000, 100, 0, nil, only(130, 120, 0, 0), downs, 5, TooFewReplicas)
	f("scaleDown with large percent policy and previous events", 5, 1000, 100, 2, nil, only(0, 0, 100, 120), downs, 5, TooFewReplicas)
	f("scaleDown with pod policy limitation and previous events", 1, 1000, 100, 2, nil, only(5, 120, 0, 0), downs, 100, ScaleDownLimit)
	f("scaleDown with percent policy limitation and previous events", 1, 1000, 100, 0, nil, only(0, 0, 50, 120), downs, 57, ScaleDownLimit)
	f("scaleUp counts what went down", 1, 1000, 100, 500, only(5, 120, 0, 0), nil, downs, 120, ScaleUpLimit)
}

// TestLimitWithoutBehavior has the cases of TestConvertDesiredReplicasWithRules.
func TestLimitWithoutBehavior(t *testing.T) {
	f := func(name string, current, wanted, least, most, replicas int32, reason Reason) {
		t.Helper()
		a := Autoscaler{Min: &least, Max: most}
		got, why := a.limit(current, wanted, &Memory{}, noon)
		assert.Equal(t, replicas, got, name)
		assert.Equal(t, reason, why, name)
	}
	f("prenormalized desired replicas within range", 5, 7, 3, 8, 7, DesiredWithinRange)
	f("prenormalized desired replicas < minReplicas", 3, 1, 2, 8, 2, TooFewReplicas)
	f("prenormalized desired zeroed replicas within range", 1, 0, 0, 10, 0, DesiredWithinRange)
	f("maxReplicas is the limit because maxReplicas < scaleUpLimit", 20, 1000, 1, 10, 10, TooManyReplicas)
	f("scaleUpLimit is the limit because scaleUpLimit < maxReplicas", 3, 1000, 1, 2000, 6, ScaleUpLimit)
}

// past are recommendations, of the replicas, as many minutes ago.
type past struct {
	replicas int32
	minutes  int
}

func remember(list ...past) *Memory {
	m := &Memory{}
	for _, p := range list {
		m.recommendations = append(m.recommendations, recommendation{p.replicas, noon.Add(-time.Duration(p.minutes) * time.Minute)})
	}
	return m
}

func (m *Memory) list() []int32 {
	var list []int32
	for _, r := range m.recommendations {
		list = append(list, r.replicas)
	}
	return list
}

// TestStabilizationWithoutBehavior has the cases of TestNormalizeDesiredReplicas.
func TestStabilizationWithoutBehavior(t *testing.T) {
	f := func(name string, m *Memory, wanted, stabilized int32, kept ...int32) {
		t.Helper()
		assert.Equal(t, stabilized, m.highest(5*time.Minute, wanted, noon), name)
		assert.Equal(t, kept, m.list(), name)
	}
	f("empty log", remember(), 5, 5, 5)
	f("stabilize", remember(past{4, 2}, past{5, 1}), 3, 5, 4, 5, 3)
	f("no stabilize", remember(past{1, 2}, past{2, 1}), 3, 3, 1, 2, 3)
	f("no stabilize - old recommendations", remember(past{10, 10}, past{9, 9}), 3, 3, 10, 3)
	f("stabilize - old recommendations", remember(past{10, 10}, past{4, 1}, past{5, 2}, past{9, 9}), 3, 5, 10, 4, 5, 3)
	f("the edge is within", remember(past{9, 5}), 3, 9, 9, 3)
}

// TestStabilizationWithBehavior has the cases of TestNormalizeDesiredReplicasWithBehavior.
func TestStabilizationWithBehavior(t *testing.T) {
	f := func(name string, m *Memory, up, down int, current, wanted, stabilized int32, kept ...int32) {
		t.Helper()
		assert.Equal(t, stabilized, m.stabilize(time.Duration(up)*time.Second, time.Duration(down)*time.Second, current, wanted, noon), name)
		assert.Equal(t, kept, m.list(), name)
	}
	f("empty recommendations for scaling down", remember(), 0, 0, 100, 5, 5, 5)
	f("simple scale down stabilization", remember(past{4, 2}, past{5, 1}), 0, 180, 100, 3, 5, 4, 5, 3)
	f("simple scale up stabilization", remember(past{4, 2}, past{5, 1}), 300, 0, 1, 7, 4, 4, 5, 7)
	f("no scale down stabilization", remember(past{1, 2}, past{2, 1}), 300, 0, 100, 3, 3, 1, 2, 3)
	f("no scale up stabilization", remember(past{4, 2}, past{5, 1}), 0, 300, 1, 3, 3, 4, 5, 3)
	f("no scale down stabilization, reuse recommendation element", remember(past{10, 10}, past{9, 9}), 0, 0, 100, 3, 3, 10, 3)
	f("no scale up stabilization, reuse recommendation element", remember(past{10, 10}, past{9, 9}), 0, 0, 1, 100, 100, 10, 100)
	f("scale down stabilization, reuse one of obsolete recommendation element",
		remember(past{10, 10}, past{4, 1}, past{5, 2}, past{9, 9}), 0, 180, 100, 3, 5, 10, 4, 5, 3)
	f("scale up stabilization, reuse one of obsolete recommendation element",
		remember(past{10, 100}, past{6, 1}, past{5, 2}, past{9, 3}), 300, 0, 1, 100, 5, 100, 6, 5, 9)
	f("do not scale up when prenormalized rec goes down", remember(past{2, 100}, past{3, 3}), 300, 300, 2, 1, 2, 1, 3)
	f("do not scale down when prenormalized rec goes up", remember(past{2, 100}, past{1, 3}), 300, 300, 2, 3, 2, 3, 1)
	f("the edge is without, and not old", remember(past{9, 5}), 300, 300, 9, 3, 3, 9, 3)
}

// TestStore has the cases of TestStoreScaleEvents.
func TestStore(t *testing.T) {
	type e struct {
		change   int32
		seconds  int
		outdated bool
	}
	f := func(name string, longest int, within int32, before, after []e) {
		t.Helper()
		var list []event
		for _, x := range before {
			list = append(list, event{change: x.change, at: noon.Add(-time.Duration(x.seconds) * time.Second)})
		}
		assert.Equal(t, within, changes(list, noon.Add(-time.Minute)), name)
		var got []e
		for _, x := range store(list, 5, time.Duration(longest)*time.Second, noon) {
			got = append(got, e{x.change, 0, x.outdated})
		}
		assert.Equal(t, after, got, name)
	}
	f("empty entries with two-policy-behavior", 60, 0, nil, []e{{5, 0, false}})
	f("one outdated entry to be replaced with behavior", 60, 0, []e{{7, 61, false}}, []e{{5, 0, false}})
	f("one actual entry to be not touched with behavior", 60, 7, []e{{7, 58, false}}, []e{{7, 0, false}, {5, 0, false}})
	f("two entries, one of them to be replaced", 60, 6, []e{{7, 61, false}, {6, 59, false}}, []e{{5, 0, false}, {6, 0, false}})
	f("replace one entry, use policies with different periods", 60, 14,
		[]e{{8, 29, false}, {6, 59, false}, {7, 61, false}, {9, 61, false}}, []e{{8, 0, false}, {6, 0, false}, {7, 0, true}, {5, 0, false}})
	f("two entries, both actual", 120, 13, []e{{7, 58, false}, {6, 59, false}}, []e{{7, 0, false}, {6, 0, false}, {5, 0, false}})
}
