package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/bench/result"
)

// TestScale: every contestant does each operation, and the figures are there.
func TestScale(t *testing.T) {
	all, err := contestants()
	require.NoError(t, err)
	s, in := size{containers: 20, rounds: 2}, newStream(1)
	fleets, costs := make([]fleet, len(all)), make([]*cost, len(all))
	for k, c := range all {
		fleets[k], costs[k] = c.make(s.containers), &cost{name: c.name, goal: c.goal, bytes: 200}
		require.NoError(t, fill(t.Context(), fleets[k], s.containers, 2, in))
	}
	require.NoError(t, s.measure(t.Context(), all, fleets, costs, in, io.Discard))
	for _, c := range costs {
		assert.Greater(t, c.kept, 100.0, c.name)
		for k := range operations {
			require.NoError(t, c.failed[k], "%s: %s", c.name, operation(k))
			assert.Len(t, c.rounds[k], s.rounds, "%s: %s", c.name, operation(k))
			assert.Positive(t, c.nanoseconds(k))
		}
	}
	r := &report{Result: result.New("x")}
	r.costs(s, costs)
	assert.Contains(t, r.tables.String(), "| memory | ")
	goals := 0
	for _, f := range r.Figures {
		if f.Goal != "" {
			goals++
		}
	}
	assert.Equal(t, 2*(1+operations), goals)
}

// TestRestored: what was loaded from checkpoints recommends as what wrote them.
func TestRestored(t *testing.T) {
	all, err := contestants()
	require.NoError(t, err)
	const n = 3
	in := newStream(2)
	for _, c := range all {
		f := c.make(n)
		require.NoError(t, fill(t.Context(), f, n, 2, in))
		now := in.at(history)
		checkpoints, err := save([]fleet{f}, n, now)
		require.NoError(t, err, c.name)
		restored, err := c.restore(again(checkpoints[0], 2*n))
		require.NoError(t, err, c.name)
		for i := range n {
			cpu, memory, err := f.recommend(i, now)
			require.NoError(t, err, c.name)
			cpuAfter, memoryAfter, err := restored.recommend(n+i, now)
			require.NoError(t, err, c.name)
			// The VPA's checkpoints round weights, which can move a percentile to the next bucket, 5 % on.
			assert.InEpsilon(t, cpu, cpuAfter, 0.06, "%s, CPU", c.name)
			assert.InEpsilon(t, memory, memoryAfter, 0.06, "%s, memory", c.name)
		}
		_, err = c.restore([][]byte{[]byte("{")})
		require.Error(t, err, "%s takes a torn checkpoint", c.name)
	}
}

// TestRatio: rounds are compared one by one, so that a slow spell does not count.
func TestRatio(t *testing.T) {
	a, b := &cost{}, &cost{}
	a.rounds[sampling], b.rounds[sampling] = []float64{1, 10, 1.2}, []float64{4, 40, 4}
	assert.InDelta(t, 0.25, a.ratio(b, sampling), 1e-12)
	b.failed[sampling] = io.EOF
	assert.NotEqual(t, a.ratio(b, sampling), a.ratio(b, sampling), "unknown where one failed")
}

// TestStream: containers differ, usage is never negative, and CPU has a daily cycle.
func TestStream(t *testing.T) {
	in := newStream(1)
	sizes := map[float64]bool{}
	for i := range 100 {
		cpu, memory := in.usage(i, 0)
		sizes[cpu] = true
		assert.Positive(t, cpu)
		assert.Greater(t, memory, 1e7)
	}
	assert.Greater(t, len(sizes), 95)
	least, most := 1e9, 0.0
	for hour := range 24 {
		sum := 0.0
		for m := range 60 {
			cpu, _ := in.usage(7, hour*60+m)
			sum += cpu
		}
		least, most = min(least, sum), max(most, sum)
	}
	assert.Greater(t, most, 3*least)
}
