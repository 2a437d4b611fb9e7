package kubelet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A busy server's GPU has a ring that goes back ten seconds; when all of it was idle there is none, as with a real driver.
func TestGaugeKeepsARing(t *testing.T) {
	g := &gauge{}
	now, busy := time.Unix(1e9, 0), time.Duration(0)
	tick := func(share float64) int {
		now = now.Add(feedEvery)
		busy += time.Duration(share * float64(feedEvery))
		g.samples = append(g.samples, busyAt{now, busy})
		g.samples = g.samples[max(0, len(g.samples)-feedWindow-1):]
		g.sample(now)
		return len(g.ring)
	}
	assert.Zero(t, tick(0))
	assert.Zero(t, tick(0))
	assert.Equal(t, 1, tick(0.5))
	assert.Equal(t, uint(50), g.ring[0].Percent)
	for i := range 100 {
		assert.Equal(t, min(2+i, 40), tick(1))
	}
	for range 39 {
		assert.Equal(t, 40, tick(0))
	}
	assert.Zero(t, tick(0))
}
