package kube

import (
	"math"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHistoryAgreesWithAMap compares with sums by step in a map, over random times with pauses.
func TestHistoryAgreesWithAMap(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	for range 300 {
		step := []time.Duration{time.Second, 10 * time.Second, time.Minute}[r.Intn(3)]
		h := newHistory(step)
		sums, counts := map[time.Time]float64{}, map[time.Time]int{}
		now := noon
		for range r.Intn(200) {
			now = now.Add(time.Duration(r.Int63n(int64(2 * step))))
			if r.Intn(20) == 0 {
				now = now.Add(10 * step)
			}
			v := math.NaN()
			if r.Intn(10) > 0 {
				v = float64(r.Intn(100))
				sums[now.Truncate(step)] += v
				counts[now.Truncate(step)]++
			}
			h.add(now, v)
		}
		known := 0
		for i, got := range h.values {
			at := h.start.Add(time.Duration(i) * step)
			if counts[at] == 0 {
				require.True(t, math.IsNaN(float64(got)), "nothing was measured at %s", at)
				continue
			}
			known++
			require.InDelta(t, sums[at]/float64(counts[at]), got, 1e-4)
		}
		require.Equal(t, known, h.known())
		delete(counts, now.Truncate(step)) // not over yet
		require.Len(t, counts, known)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	h := newHistory(time.Minute)
	for i := range maxSteps + 100 {
		h.add(noon.Add(time.Duration(i)*time.Minute), float64(i))
	}
	require.Len(t, h.values, maxSteps)
	assert.Equal(t, float32(maxSteps+98), h.values[maxSteps-1])
	assert.Equal(t, noon.Add(99*time.Minute), h.start)
	h.add(noon.Add(10000*time.Hour), 5)
	h.add(noon.Add(10000*time.Hour+time.Minute), 6)
	require.Len(t, h.values, 1, "after ten thousand hours' absence nothing of before counts, and no gap is kept either")
	assert.Equal(t, float32(5), h.values[0])
}

func TestCheckpoint(t *testing.T) {
	h := newHistory(time.Minute)
	for i := range 1000 {
		v := float64(i % 37)
		if i%10 == 3 {
			v = math.NaN()
		}
		h.add(noon.Add(time.Duration(i)*time.Minute), v)
	}
	b, err := h.encode()
	require.NoError(t, err)
	got, err := decodeHistory(b)
	require.NoError(t, err)
	assert.Equal(t, h.step, got.step)
	assert.Equal(t, h.start, got.start)
	require.Len(t, got.values, 999)
	for i := range got.values {
		require.Equal(t, math.Float32bits(h.values[i]), math.Float32bits(got.values[i]))
	}
	// It goes on where it ended, with the pause as a gap.
	got.add(noon.Add(1010*time.Minute), 7)
	got.add(noon.Add(1011*time.Minute), 8)
	require.Len(t, got.values, 1011)
	assert.True(t, math.IsNaN(float64(got.values[1005])))
	assert.Equal(t, float32(7), got.values[1010])
}

// TestCheckpointIsSmall writes four weeks of noise, which gzip cannot shrink.
func TestCheckpointIsSmall(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	h := newHistory(time.Minute)
	h.start = noon
	for range maxSteps {
		h.values = append(h.values, r.Float32()*1e4)
	}
	b, err := h.encode()
	require.NoError(t, err)
	assert.Less(t, len(b), 200<<10, "an object may have 1 MiB, a third more in base64")
	_, err = decodeHistory(b)
	require.NoError(t, err)
}

func TestRegrid(t *testing.T) {
	h := newHistory(time.Minute)
	for i := range 61 {
		h.add(noon.Add(time.Duration(i)*time.Minute), float64(i%2))
	}
	coarse := h.regrid(10 * time.Minute)
	coarse.add(noon.Add(time.Hour), math.NaN())
	require.Len(t, coarse.values, 6)
	assert.Equal(t, float32(0.5), coarse.values[0])
	fine := h.regrid(30 * time.Second)
	require.GreaterOrEqual(t, len(fine.values), 119)
	assert.Equal(t, []float32{0, 0, 1, 1}, fine.values[:4])
	assert.Same(t, h, h.regrid(time.Minute))
}

// FuzzDecodeHistory holds the decoder to: an error, or a history that is written as it was read.
func FuzzDecodeHistory(f *testing.F) {
	h := newHistory(time.Minute)
	for i := range 10 {
		h.add(noon.Add(time.Duration(i)*time.Minute), float64(i))
	}
	b, err := h.encode()
	require.NoError(f, err)
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Add([]byte("HRHIST"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHistory(b)
		if err != nil {
			require.Nil(t, h)
			return
		}
		require.LessOrEqual(t, len(h.values), maxSteps)
		again, err := h.encode()
		require.NoError(t, err)
		same, err := decodeHistory(again)
		require.NoError(t, err)
		require.Equal(t, h.start, same.start)
		require.Len(t, same.values, len(h.values))
		h.add(h.end().Add(time.Hour), 1)
	})
}

func TestCheckpointNames(t *testing.T) {
	assert.Equal(t, "headroom-history-chat", checkpointOf("chat"))
	long := strings.Repeat("a", 253)
	assert.Len(t, checkpointOf(long), 253)
	assert.NotEqual(t, checkpointOf(long), checkpointOf(long[:252]+"b"))
}
