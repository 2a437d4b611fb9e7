package vpa_test

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender/histogram"
	"headroom.dev/headroom/recommender/vpa"
)

func TestCheckpoint(t *testing.T) {
	m := model(t)
	a := golden(t, m)
	now := t0.AddDate(0, 0, 2)
	c := a.Checkpoint(now, nil)
	parsed, err := vpa.ParseCheckpoint(c.AppendJSON(nil))
	require.NoError(t, err)
	assert.Equal(t, &c, parsed)

	loaded, err := m.Load(parsed)
	require.NoError(t, err)
	assert.Equal(t, a.Samples(), loaded.Samples())
	assert.Equal(t, a.First(), loaded.First())
	assert.Equal(t, a.Last(), loaded.Last())
	assert.Equal(t, m.Estimate(a, 1), m.Estimate(loaded, 1))

	empty := m.NewAggregate().Checkpoint(now, nil)
	assert.JSONEq(t, `{"lastUpdateTime":"2023-11-16T22:13:20Z","version":"v3","cpuHistogram":{"referenceTimestamp":null},
		"memoryHistogram":{"referenceTimestamp":null},"firstSampleStart":null,"lastSampleStart":null,"totalSamplesCount":0}`,
		string(empty.AppendJSON(nil)))
	parsed, err = vpa.ParseCheckpoint(empty.AppendJSON(nil))
	require.NoError(t, err)
	loaded, err = m.Load(parsed)
	require.NoError(t, err)
	assert.Equal(t, empty, loaded.Checkpoint(now, nil))
}

// TestRestart wants a restart not to count a day's peak twice.
func TestRestart(t *testing.T) {
	m := model(t)
	a, in := m.NewAggregate(), &vpa.Instance{}
	for h := range 60 {
		require.True(t, in.AddMemory(a, t0.Add(time.Duration(h)*time.Hour), int64(100+h)<<20))
	}
	now := t0.Add(60 * time.Hour)
	c := a.Checkpoint(now, slices.Values([]*vpa.Instance{in}))
	b, err := m.Load(&c)
	require.NoError(t, err)
	again := &vpa.Instance{}
	require.True(t, again.AddMemory(b, now, 159<<20))
	restarted, kept := b.Memory(), a.Memory()
	assert.InEpsilon(t, kept.Total()+math.Exp2(0.5), restarted.Total()+2, 0.6)
	filled := 0
	for bucket := range kept.Shape().Buckets() {
		if kept.Weight(bucket) > 0 {
			filled++
			assert.NotZero(t, restarted.Weight(bucket))
		}
	}
	assert.Equal(t, 3, filled, "a peak a day")
}

func TestLoadRefused(t *testing.T) {
	m := model(t)
	f := func(want error, text string, change func(*vpa.Checkpoint)) {
		t.Helper()
		c := golden(t, m).Checkpoint(t0, nil)
		change(&c)
		a, err := m.Load(&c)
		require.ErrorIs(t, err, want)
		require.ErrorContains(t, err, text)
		assert.Nil(t, a)
	}
	f(vpa.ErrVersion, `it is of version "v4", not "v3"`, func(c *vpa.Checkpoint) { c.Version = "v4" })
	f(vpa.ErrVersion, `it is of version ""`, func(c *vpa.Checkpoint) { c.Version = "" })
	f(vpa.ErrCorrupt, "-1 samples", func(c *vpa.Checkpoint) { c.Samples = -1 })
	f(vpa.ErrCorrupt, "samples from", func(c *vpa.Checkpoint) { c.First = c.Last.Add(1) })
	f(vpa.ErrCorrupt, "samples from", func(c *vpa.Checkpoint) { c.Last = time.Time{} })
	f(vpa.ErrCorrupt, "a sample at", func(c *vpa.Checkpoint) { c.First = t0.AddDate(-100, 0, 0) })
	f(vpa.ErrCorrupt, "a sample at", func(c *vpa.Checkpoint) { c.Last = t0.AddDate(1000, 0, 0) })
	f(vpa.ErrCorrupt, "CPU: ", func(c *vpa.Checkpoint) { c.CPU.Total = -1 })
	f(histogram.ErrCorrupt, "CPU: ", func(c *vpa.Checkpoint) { c.CPU.Weights[0].Bucket = -3 })
	f(vpa.ErrCorrupt, "memory: ", func(c *vpa.Checkpoint) { c.Memory.Total = math.NaN() })
	f(vpa.ErrCorrupt, "memory: ", func(c *vpa.Checkpoint) { c.Memory.Weights[2].Bucket = 176 })

	_, err := vpa.ParseCheckpoint([]byte(`{"cpuHistogram":{"bucketWeights":{"1":-5}}}`))
	require.ErrorIs(t, err, vpa.ErrCorrupt)
	require.ErrorIs(t, err, histogram.ErrCorrupt)
}

// FuzzParseCheckpoint wants of any text an error, or an aggregate that can be used, and whose checkpoint can be read again.
func FuzzParseCheckpoint(f *testing.F) {
	m := model(f)
	c := golden(f, m).Checkpoint(t0, nil)
	f.Add(c.AppendJSON(nil))
	c.Version = "v4"
	f.Add(c.AppendJSON(nil))
	f.Add([]byte(`{"version":"v3","cpuHistogram":{"bucketWeights":{"175":1},"totalWeight":1e40},"memoryHistogram":null,"totalSamplesCount":1}`))
	f.Add([]byte(`{"version":"v3","firstSampleStart":"2199-01-01T00:00:00Z","lastSampleStart":"2199-01-01T00:00:00.5Z"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := vpa.ParseCheckpoint(text)
		if err != nil {
			require.ErrorIs(t, err, vpa.ErrCorrupt)
			return
		}
		a, err := m.Load(c)
		if err != nil {
			return
		}
		in := &vpa.Instance{}
		in.AddCPU(a, t0, 100)
		in.AddMemory(a, t0, 1<<30)
		e := m.Estimate(a, 1)
		for _, v := range []vpa.Amounts{e.Target, e.Lower, e.Upper} {
			if v.CPU < 25 || v.CPU > 1e14 || v.Memory < 250<<20 || v.Memory > 1e14 {
				t.Fatalf("%+v", e)
			}
		}
		saved := a.Checkpoint(t0, slices.Values([]*vpa.Instance{in}))
		b := saved.AppendJSON(nil)
		require.True(t, json.Valid(b), "%s", b)
		again, err := vpa.ParseCheckpoint(b)
		require.NoError(t, err)
		_, err = m.Load(again)
		require.NoError(t, err)
	})
}
