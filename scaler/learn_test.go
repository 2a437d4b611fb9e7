package scaler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// queueing is a replica of eight slots and requests of 4 s: 2 requests per second are its end. The queue of an M/M/8 shows what
// load it bears.
func queueing(load float64) (waiting float64) {
	const servers, service = 8, 4.0
	a := load * service
	if a >= servers {
		return math.Inf(1)
	}
	sum, term := 1.0, 1.0
	for k := 1; k < servers; k++ {
		term *= a / float64(k)
		sum += term
	}
	last := term * a / servers * servers / (servers - a)
	return last / (sum + last) * a / (servers - a)
}

// watch shows a service that carries load for a time, with five replicas.
func watch(t *testing.T, s *Service, clock *float64, load func(second float64) float64, seconds float64, r *rand.Rand) {
	t.Helper()
	const replicas = 5
	for end := *clock + seconds; *clock < end; *clock += 15 {
		rate := load(*clock) * (1 + 0.05*r.NormFloat64())
		o := Observation{Now: at(*clock), Replicas: replicas, Demand: Reading{Value: rate * replicas}}
		o.Latency = Reading{Value: 100 + 1000*min(queueing(rate), 100)}
		for i := range replicas {
			o.Pods = append(o.Pods, Pod{Name: fmt.Sprint(i), Version: "v1", Created: at(-500), Ready: at(-400), Serving: true})
		}
		require.NoError(t, s.Observe(o))
	}
}

// TestCapacityIsWhereTheSLOBreaks: the learnt capacity is within a tenth of the load at which the true latency passes the target,
// when load comes past it now and then.
func TestCapacityIsWhereTheSLOBreaks(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	truth := 0.0
	for ; 100+1000*queueing(truth) <= 500; truth += 0.001 {
	}
	s, err := NewService(Config{Policy: Policy{Max: 10}, LatencyTarget: 500})
	require.NoError(t, err)
	clock := 0.0
	watch(t, s, &clock, func(second float64) float64 { return 1.1 + 0.85*math.Sin(second/3600) }, 12*3600, r)
	capacity := s.Input(at(clock)).Capacity
	assert.Equal(t, Learnt, capacity.Source)
	assert.InEpsilon(t, truth, capacity.Value, 0.1, "the truth is %.3g", truth)
	assert.Greater(t, capacity.Samples, 1000)

	k := s.Knowledge()
	require.Len(t, k.Capacity, 1)
	assert.Equal(t, "v1", k.Capacity[0].Version)
	after, err := NewService(Config{Policy: Policy{Max: 10}, LatencyTarget: 500})
	require.NoError(t, err)
	after.Restore(k)
	watch(t, after, new(float64), func(float64) float64 { return 0.5 }, 60, r)
	assert.Equal(t, capacity.Value, after.Input(at(60)).Capacity.Value, "a new process goes on with it")
}

// TestCapacityNeverReached: of a service that was never at its limit only a bound is known, and replicas are planned for
// more than the highest load that it bore.
func TestCapacityNeverReached(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	s, err := NewService(Config{Policy: Policy{Max: 10, Utilization: 0.8}, LatencyTarget: 500})
	require.NoError(t, err)
	clock := 0.0
	watch(t, s, &clock, func(float64) float64 { return 0.5 }, 3600, r)
	capacity := s.Input(at(clock)).Capacity
	assert.Equal(t, AtLeast, capacity.Source)
	assert.InDelta(t, 0.55*explore, capacity.Value*0.8, 0.08)
	assert.GreaterOrEqual(t, capacity.Value*0.8, 0.55)
}

// TestCapacityFollowsAChange: a service that became slower shows.
func TestCapacityFollowsAChange(t *testing.T) {
	c := newCapacity()
	r := rand.New(rand.NewPCG(5, 1))
	feed := func(limit float64, n int) {
		for range n {
			load := 0.2 + 2*r.Float64()
			c.observe(load, load <= limit)
		}
	}
	feed(1.5, 20_000)
	assert.InEpsilon(t, 1.5, c.estimate().value, 0.08)
	feed(0.9, 20_000)
	assert.InEpsilon(t, 0.9, c.estimate().value, 0.08)
}

func TestCapacityOfLittle(t *testing.T) {
	c := newCapacity()
	assert.Equal(t, Unknown, c.estimate().source)
	for _, load := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		c.observe(load, true)
	}
	c.observe(1, true)
	assert.Equal(t, Unknown, c.estimate().source, "one observation is luck")
	for range 20 {
		c.observe(1, false)
	}
	e := c.estimate()
	assert.Equal(t, Learnt, e.source)
	assert.LessOrEqual(t, e.value, 1.0, "the least load seen is too much already")
}

// pod has its times in seconds.
func pod(name string, created, scheduled, started, ready float64) Pod {
	return Pod{Name: name, Created: at(created), Scheduled: at(scheduled), Started: at(started), Ready: at(ready), Serving: true}
}

func TestStartUps(t *testing.T) {
	s, err := NewService(Config{Policy: Policy{Max: 10, Capacity: 1}})
	require.NoError(t, err)
	assert.Equal(t, Unknown, s.Input(at(0)).StartUp.Source)
	var pods []Pod
	for i := range 10 {
		pods = append(pods, pod(fmt.Sprint(i), 0, 2, 12, 100+float64(10*i)))
	}
	pods = append(pods, Pod{Name: "loading", Created: at(300)})
	require.NoError(t, s.Observe(Observation{Now: at(310), Replicas: 11, Pods: pods, Demand: Reading{Value: 3}}))
	k := s.Knowledge().StartUp
	assert.Equal(t, 150*time.Second, k.P50)
	assert.Equal(t, 190*time.Second, k.P90)
	assert.Equal(t, 2*time.Second, k.Scheduling)
	assert.Equal(t, 10*time.Second, k.Starting)
	assert.Equal(t, 138*time.Second, k.Loading)
	assert.Equal(t, 10, k.Samples)
	in := s.Input(at(310))
	assert.Equal(t, Estimate{190, Learnt, 10}, in.StartUp)
	assert.Equal(t, PodCount{Ready: 10, Loading: 1}, in.Pods)

	pods[9].Ready = at(700) // it was unready for a moment: no start
	require.NoError(t, s.Observe(Observation{Now: at(800), Replicas: 11, Pods: pods}))
	assert.Equal(t, 10, s.Knowledge().StartUp.Samples)
	assert.Equal(t, PodCount{Ready: 10, Overdue: 1}, s.Input(at(800)).Pods, "after twice the p90 and a minute it is not expected any more")
	for i := range 300 {
		pods[0] = pod(fmt.Sprintf("new%d", i), 800, 801, 802, 810)
		require.NoError(t, s.Observe(Observation{Now: at(801 + float64(i)), Replicas: 11, Pods: pods}))
	}
	assert.Equal(t, 10*time.Second, s.Knowledge().StartUp.P90, "a warm cache shows")
	assert.Less(t, len(s.startUps.seen), 200, "pods that are gone are forgotten")
}

func TestObservationsMustRise(t *testing.T) {
	s, err := NewService(Config{Policy: Policy{Max: 10, Capacity: 1}})
	require.NoError(t, err)
	require.NoError(t, s.Replay(at(-60), 5))
	require.NoError(t, s.Observe(Observation{Now: at(10)}))
	require.ErrorContains(t, s.Observe(Observation{Now: at(10)}), "after one of")
	assert.ErrorContains(t, s.Replay(at(20), 1), "observed already")
}

func TestOldObservationsHold(t *testing.T) {
	s, err := NewService(Config{Policy: Policy{Max: 10, Capacity: 1}})
	require.NoError(t, err)
	assert.Contains(t, s.Decide(at(0)).Message(), "nothing was observed yet")
	require.NoError(t, s.Observe(Observation{Now: at(10), Replicas: 4, Demand: Reading{Value: 1}}))
	assert.True(t, s.Decide(at(10)).Valid)
	d := s.Decide(at(100))
	assert.False(t, d.Valid)
	assert.Equal(t, int32(4), d.Replicas)
	assert.Contains(t, d.Message(), "1m30s old")
}

func TestPolicyErrorsNameTheField(t *testing.T) {
	f := func(p Policy, field string) {
		t.Helper()
		_, err := NewService(Config{Policy: p})
		assert.ErrorContains(t, err, field)
	}
	f(Policy{}, "max is 0")
	f(Policy{Min: -1, Max: 2}, "min is -1")
	f(Policy{Min: 3, Max: 2}, "min (3) is above max (2)")
	f(Policy{Max: 2, Capacity: math.NaN()}, "capacity")
	f(Policy{Max: 2, Utilization: 1.5}, "utilization")
	f(Policy{Max: 2, Quantile: 1}, "quantile")
	f(Policy{Max: 2, StartUp: -1}, "start-up")
	f(Policy{Max: 2, Schedule: []Floor{{Name: "noon", Start: at(0), End: at(1), Replicas: 3}}}, "schedule[0] (noon)")
	f(Policy{Max: 2, Schedule: []Floor{{Name: "noon", Start: at(1), End: at(1), Replicas: 1}}}, "ends before")
	_, err := NewService(Config{Policy: Policy{Max: 2}, Step: time.Millisecond})
	assert.ErrorContains(t, err, "step")
}

func TestDeletionCosts(t *testing.T) {
	pods := []Pod{
		{Name: "busy", Serving: true, InFlight: Reading{Value: 7}},
		{Name: "idle", Serving: true, InFlight: Reading{Value: 0.2}},
		{Name: "unknown", Serving: true, InFlight: Reading{Missing: "no sample"}},
		{Name: "gone", Serving: true, Deleting: true},
		{Name: "loading"},
	}
	assert.Equal(t, map[string]int{"busy": 7, "idle": 0, "unknown": 7}, DeletionCosts(pods))
}

// TestStepsAreMeans: the grid's values are the means of the samples within each step; a step of unknown samples is NaN.
func TestStepsAreMeans(t *testing.T) {
	var a accumulator
	var ends []time.Time
	var means []float64
	for i, v := range []float64{1, 2, 3, math.NaN(), math.NaN(), math.NaN(), 5, math.NaN(), 9} {
		if end, mean, done := a.add(at(float64(i)*20), v, time.Minute); done {
			ends, means = append(ends, end), append(means, mean)
		}
	}
	assert.Equal(t, []time.Time{at(60), at(120)}, ends)
	assert.Equal(t, 2.0, means[0])
	assert.True(t, math.IsNaN(means[1]))
}
