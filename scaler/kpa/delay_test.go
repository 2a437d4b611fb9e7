package kpa

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWindowMax has the cases of Knative's pkg/autoscaler/aggregation/max/window_test.go: windows of five entries.
func TestWindowMax(t *testing.T) {
	for _, c := range []struct {
		name         string
		values, want []int
		index        func(int) int
	}{
		{"single value", []int{1}, []int{1}, nil},
		{"ascending values", []int{1, 2}, []int{1, 2}, nil},
		{"descending values", []int{2, 1}, []int{2, 2}, nil},
		{"up, down, up", []int{1, 2, 1}, []int{1, 2, 2}, nil},
		{"windowing out", []int{5, 6, 5, 5, 5, 5, 5}, []int{5, 6, 6, 6, 6, 6, 5}, nil},
		{"windowing out with gaps", []int{6, 5, 2, 1}, []int{6, 6, 6, 2}, func(i int) int { return i + i/3*3 }},
		{
			"windowing out 8",
			[]int{5, 8, 5, 7, 5, 5, 1, 4, 4, 4, 4, 9, 3, 4, 2, 1, 0},
			[]int{5, 8, 8, 8, 8, 8, 7, 7, 5, 5, 4, 9, 9, 9, 9, 9, 4}, nil,
		},
		{"multiple with same index, ascending", []int{1, 2, 3, 4, 5, 6, 7}, []int{1, 2, 3, 4, 5, 6, 7}, func(int) int { return 1 }},
		{"multiple with same index, descending", []int{7, 6, 5, 4, 3, 2, 1}, []int{7, 7, 7, 7, 7, 7, 7}, func(int) int { return 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDelay(5 * tick)
			var got []int
			for i, v := range c.values {
				if c.index != nil {
					i = c.index(i)
				}
				got = append(got, d.record(testStart().Add(time.Duration(i)*tick), v))
			}
			assert.Equal(t, c.want, got)
		})
	}
}

// TestDelayOracle holds the ring to the largest count of all that are not too old. Clocks that go back find some entry.
func TestDelayOracle(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 2))
		length := 1 + rng.IntN(30)
		d := newDelay(time.Duration(length) * tick)
		type entry struct {
			tick  int64
			count int
		}
		var all []entry
		now := testStart()
		for range 300 {
			now = now.Add(time.Duration(rng.IntN(3)*rng.IntN(4000)) * time.Millisecond)
			e := entry{now.Unix() / 2, rng.IntN(20)}
			all = append(all, e)
			want := 0
			for _, one := range all {
				if e.tick-one.tick < int64(length) {
					want = max(want, one.count)
				}
			}
			require.Equal(t, want, d.record(now, e.count), "seed %d", seed)
		}
		for range 100 {
			now = now.Add(time.Duration(rng.IntN(100)-60) * time.Second)
			got := d.record(now, rng.IntN(20))
			require.LessOrEqual(t, got, 20, "seed %d", seed)
			require.LessOrEqual(t, d.length, length, "seed %d", seed)
		}
	}
}
