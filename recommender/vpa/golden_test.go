package vpa_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender/histogram"
	"headroom.dev/headroom/recommender/vpa"
)

// t0 is the start of the golden vector.
var t0 = time.Unix(1_700_000_000, 0).UTC()

func model(tb testing.TB, change ...func(*vpa.Config)) *vpa.Model {
	tb.Helper()
	c := vpa.DefaultConfig()
	for _, f := range change {
		f(&c)
	}
	m, err := vpa.New(c)
	require.NoError(tb, err)
	return m
}

// golden is two days of a CPU sample a minute, and three daily memory peaks.
func golden(tb testing.TB, m *vpa.Model) *vpa.Aggregate {
	tb.Helper()
	a := m.NewAggregate()
	for i := range 2880 {
		require.True(tb, a.AddCPU(t0.Add(time.Duration(i)*time.Minute), int64(100+i%400)))
	}
	for i := range 3 {
		require.True(tb, a.AddMemoryPeak(t0.AddDate(0, 0, i), int64(300+100*i)<<20))
	}
	return a
}

// TestGolden holds what the library 1.8.1 was seen to make of the golden vector.
func TestGolden(t *testing.T) {
	m := model(t)
	a := golden(t, m)
	p := [3]float64{0.5, 0.9, 0.95}
	var got [3]float64
	a.CPU().Percentiles(p[:], got[:])
	assert.Equal(t, [3]float64{.30539003907512757, .47727098817987673, .51113453758887062}, got)

	e := m.Estimate(a, 1)
	assert.Equal(t, vpa.Estimate{
		Target: vpa.Amounts{CPU: 548, Memory: 628694953},
		Lower:  vpa.Amounts{CPU: 349, Memory: 628066511},
		Upper:  vpa.Amounts{CPU: 880, Memory: 943151615},
	}, e)

	c := a.Checkpoint(t0.AddDate(0, 0, 2), nil)
	day := time.Date(2023, 11, 15, 0, 0, 0, 0, time.UTC)
	assert.Equal(t, day, c.CPU.Reference)
	assert.Equal(t, day, c.Memory.Reference)
	assert.Equal(t, []histogram.Weight{{Bucket: 19, Weight: 2500}, {Bucket: 23, Weight: 5000}, {Bucket: 26, Weight: 10000}}, c.Memory.Weights)
}
