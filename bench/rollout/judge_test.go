package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Two misses that users of Kayenta reported are misses here, too.
func TestKayentaAsReported(t *testing.T) {
	control := []float64{1, 1.1, .9, 1.05, .95, 1.02, .98, 1.01, .99, 1.03}
	shifted := make([]float64, 0, len(control))
	for _, c := range control {
		shifted = append(shifted, 2*c)
	}
	require.True(t, kayentaHigh(shifted, control))
	require.False(t, kayentaHigh(control, shifted))
	require.False(t, kayentaHigh(control, control))
	mostly := []float64{100, 110, 90, 105, 95, 102, 98, 1, 1, 1}
	require.False(t, kayentaHigh(mostly, control), "spinnaker#6278: 7 of 10 points at 100 times pass")
	sparse, none := make([]float64, 30), make([]float64, 30)
	sparse[3], sparse[11], sparse[19] = 0.5, 0.5, 0.5
	require.False(t, kayentaHigh(sparse, none), "kayenta#426: sparse errors pass")
}

func TestThresholdsCountBreaches(t *testing.T) {
	bad, good := interval{all: 100, bad: 3}, interval{all: 100, bad: 1}
	first, fifth := &thresholds{errors: true}, &thresholds{errors: true, allowed: 4}
	require.False(t, first.look(good, good))
	require.True(t, first.look(bad, good))
	for i, v := range []interval{bad, good, bad, bad, bad, good, bad} {
		require.Equal(t, i == 6, fifth.look(v, good), "look %d", i)
	}
}

// The service has the rates that it is said to have, and a seed says all.
func TestTheSimulationIsTheServiceThatIsDescribed(t *testing.T) {
	for _, s := range scenarios()[:8] {
		all, bad, slow, newAll := 0.0, 0.0, 0.0, 0.0
		for run := range uint64(40) {
			m := newSimulation(s, 1, run)
			for range looks {
				fresh, old := m.next()
				newAll += fresh.all
				for _, v := range []interval{fresh, old} {
					all, bad = all+v.all, bad+v.bad
					for _, n := range v.hist[7:] {
						slow += n
					}
				}
			}
		}
		if !s.wander && !s.outages {
			require.InEpsilon(t, perMinute, all/(40*looks), 0.02, s.name)
			require.InEpsilon(t, errorRate, bad/all, 0.1, s.name)
			require.InEpsilon(t, 0.0634, slow/all, 0.05, "%s: P(Z > ln(2.5)/0.6)", s.name)
		}
		require.InEpsilon(t, float64(s.newPods[0])/podsInAll, newAll/all, 0.03, s.name)
	}
	a, err := play(scenarios()[7], 1, 5)
	require.NoError(t, err)
	b, err := play(scenarios()[7], 1, 5)
	require.NoError(t, err)
	require.Equal(t, a, b)
}
