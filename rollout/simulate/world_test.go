package simulate_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/simulate"
)

func run(w *simulate.World, seconds int) {
	for range seconds {
		w.Tick()
	}
}

func held(surge, unavailable string, paused bool) rollout.Fields {
	return rollout.Fields{Paused: paused, MinReadySeconds: rollout.HoldSeconds, ProgressDeadline: rollout.NoDeadline, Surge: surge, Unavailable: unavailable}
}

// The native Deployment on 8 replicas of a GPU each, loading for 180 s and draining for 30 s: the times seen by hand.
func TestNative(t *testing.T) {
	for _, row := range []struct {
		gpus               int
		surge, unavailable string
		makespan, least    int
	}{
		{8, "1", "0", -1, 8},
		{8, "0", "1", 1680, 7},
		{9, "1", "0", 1680, 8},
		{9, "1", "1", 841, 7},
		{9, "25%", "25%", 631, 6},
		{10, "2", "0", 840, 8},
		{16, "8", "0", 210, 8},
		{9, "1", "3", 421, 5},
	} {
		w := simulate.New(8, 1, 30, simulate.Behavior{Load: 180}, []int{row.gpus})
		w.Write("user", rollout.Fields{ProgressDeadline: 600, Surge: row.surge, Unavailable: row.unavailable}, "v2")
		makespan, least := -1, 8
		for i := range 4000 {
			w.Tick()
			least = min(least, w.Ready(""))
			if w.Ready("v2") == 8 && w.Used() == 8 {
				makespan = i
				break
			}
		}
		require.Equal(t, row.makespan, makespan, "%+v", row)
		require.Equal(t, row.least, least, "%+v", row)
	}
}

// What a real control plane ended at when a hold was scaled from 8 to n and back.
func TestScalingInHold(t *testing.T) {
	for _, row := range []struct {
		surge, unavailable       string
		n                        int
		old, fresh, pOld, pFresh int
	}{
		{"1", "0", 3, 7, 2, 8, 0},
		{"1", "0", 1, 4, 5, 8, 0},
		{"1", "2", 5, 4, 5, 6, 3},
		{"1", "2", 1, 0, 8, 4, 5},
		{"4", "4", 3, 0, 8, 3, 9},
		{"8", "0", 1, 2, 8, 7, 9},
		{"1", "0", 0, 0, 8, 0, 8},
	} {
		for _, paused := range []bool{false, true} {
			w := simulate.New(8, 1, 1, simulate.Behavior{Load: 2}, []int{40})
			run(w, 5)
			w.Write("hold", held(row.surge, row.unavailable, false), "v2")
			run(w, 60)
			if paused {
				w.Write("hold", held(row.surge, row.unavailable, true), "")
				run(w, 10)
			}
			w.Scale(row.n)
			run(w, 60)
			w.Scale(8)
			run(w, 60)
			want := []int{row.old, row.fresh}
			if paused {
				want = []int{row.pOld, row.pFresh}
			}
			require.Equal(t, want, []int{w.Spec("v1"), w.Spec("v2")}, "%+v paused %v", row, paused)
		}
	}
}

func TestMixes(t *testing.T) {
	w := simulate.New(8, 1, 1, simulate.Behavior{Load: 2}, []int{3, 3, 3})
	run(w, 5)
	mix := func() []int { return []int{w.Ready("v1"), w.Ready("v2")} }
	steady := rollout.Fields{Paused: true, ProgressDeadline: 600, Surge: "25%", Unavailable: "25%"}
	w.Write("hold", steady, "v2")
	run(w, 30)
	require.Equal(t, []int{8, 0}, mix())
	w.Write("hold", held("1", "0", false), "")
	run(w, 30)
	require.Equal(t, []int{8, 1}, mix())
	w.Write("hold", held("1", "2", false), "")
	run(w, 30)
	require.Equal(t, []int{6, 3}, mix())
	back := rollout.Fields{ProgressDeadline: 600, Surge: "1", Unavailable: "2"}
	w.Write("hold", back, "v1")
	run(w, 60)
	require.Equal(t, []int{8, 0}, mix())
	w.Write("hold", held("1", "2", false), "v2")
	run(w, 60)
	require.Equal(t, []int{6, 3}, mix())
	w.Write("hold", back, "")
	run(w, 120)
	require.Equal(t, []int{0, 8}, mix())
}
