package placement

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMakeRoomLocally: where nodes are independent, counting each alone finds the victims that counting all anew after each finds.
func TestMakeRoomLocally(t *testing.T) {
	made, several := 0, 0
	each(t, 600, func(t *testing.T, r *rand.Rand, c Cluster, s Shape) {
		for i := range c.Pods {
			c.Pods[i].Priority, c.Pods[i].AntiAffinity = int32(r.IntN(8)), nil
		}
		s = uncoupled(s)
		s.AntiAffinity = nil
		snapshot, err := NewSnapshot(c)
		require.NoError(t, err)
		p := newProblem(snapshot, &s)
		require.True(t, p.independent())
		k := fit(t, c, s).Count + 1 + r.IntN(6)
		var answers [2]Answer
		var victims [2][]Victim
		for i, coupled := range []bool{false, true} {
			m := maker{s: snapshot, shape: &s, k: int64(k), coupled: coupled, may: func(p *Pod) bool { return p.Priority < s.Priority && !p.Terminating }}
			answers[i], err = snapshot.Fit(s, k)
			require.NoError(t, err)
			require.NoError(t, m.make(&answers[i]))
			victims[i] = m.victims
		}
		answers[0].Terminating, answers[0].AfterTerminating = answers[1].Terminating, answers[1].AfterTerminating // no part of Room
		require.Equal(t, answers[1], answers[0])
		require.ElementsMatch(t, victims[1], victims[0])
		if len(victims[0]) > 0 {
			made++
		}
		if len(victims[0]) > 2 {
			several++
		}
	})
	require.Positive(t, made)
	require.Positive(t, several)
}

// BenchmarkMakeRoomFull is a fleet whose every node is full of pods that may go: for shapes of one GPU, and of all of a node's.
func BenchmarkMakeRoomFull(b *testing.B) {
	c := fleet()
	for i := range c.Pods {
		delete(c.Pods[i].Requests, "nvidia.com/gpu")
		if c.Pods[i].Priority, c.Pods[i].AntiAffinity = -1, nil; i%10 < 8 {
			c.Pods[i].Requests["nvidia.com/gpu"] = 1
		}
	}
	s, err := NewSnapshot(c)
	require.NoError(b, err)
	for _, gpus := range []int64{1, 8} {
		for _, k := range []int{4, 64} {
			b.Run(fmt.Sprintf("%dx%d", k, gpus), func(b *testing.B) {
				shape := server(false)
				shape.Requests["nvidia.com/gpu"] = gpus
				for b.Loop() {
					r, err := s.MakeRoom(shape, k, func(*Pod) bool { return true })
					require.NoError(b, err)
					require.Equal(b, k, r.Count)
				}
			})
		}
	}
}
