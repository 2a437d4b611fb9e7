package histogram_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender/histogram"
)

var day = time.Date(2023, 11, 15, 0, 0, 0, 0, time.UTC)

func TestCheckpoint(t *testing.T) {
	s := shape(t, cpu())
	h := histogram.New(s)
	assert.Equal(t, histogram.Checkpoint{}, h.Checkpoint())
	assert.JSONEq(t, `{"referenceTimestamp":null}`, string(must(json.Marshal(h.Checkpoint()))))

	at := day.UnixNano()
	h.Add(1, 0.5, at)
	h.Add(2, 1, at)
	h.Add(4, 0x1p-14, at)   // less than epsilon: not within
	h.Add(1.5, 0x1p-15, at) // within, but rounded to 0
	c := h.Checkpoint()
	assert.Equal(t, histogram.Checkpoint{
		Reference: day, Total: 1.500091552734375,
		Weights: []histogram.Weight{{Bucket: int32(s.Find(1)), Weight: 5000}, {Bucket: int32(s.Find(2)), Weight: 10000}},
	}, c)
	text := must(json.Marshal(c))
	assert.JSONEq(t, `{"referenceTimestamp":"2023-11-15T00:00:00Z","bucketWeights":{"36":5000,"49":10000},"totalWeight":1.500091552734375}`, string(text))
	var read histogram.Checkpoint
	require.NoError(t, json.Unmarshal(text, &read))
	assert.Equal(t, c, read)

	loaded, err := histogram.Load(s, read)
	require.NoError(t, err)
	assert.Equal(t, 1.500091552734375, loaded.Total())
	assert.Equal(t, 1.500091552734375/15000*5000, loaded.Weight(36))
	assert.Equal(t, h.Percentile(0.3), loaded.Percentile(0.3))
	assert.Equal(t, day, loaded.Reference())

	_, err = json.Marshal(histogram.Checkpoint{Total: math.NaN()})
	require.Error(t, err)
}

// TestLoadRefused wants no histogram of what makes no sense.
func TestLoadRefused(t *testing.T) {
	s := shape(t, cpu())
	f := func(want string, c histogram.Checkpoint) {
		t.Helper()
		h, err := histogram.Load(s, c)
		require.ErrorIs(t, err, histogram.ErrCorrupt)
		require.ErrorContains(t, err, want)
		assert.True(t, h.Empty())
		assert.Equal(t, histogram.Checkpoint{}, h.Checkpoint())
	}
	weights := func(buckets ...int32) histogram.Checkpoint {
		c := histogram.Checkpoint{Reference: day, Total: 1}
		for _, b := range buckets {
			c.Weights = append(c.Weights, histogram.Weight{Bucket: b, Weight: 1})
		}
		return c
	}
	f("bucket -1", weights(-1, 3))
	f("bucket 176", weights(3, 176))
	f("bucket 3 after 3", weights(3, 3))
	f("bucket 2 after 3", weights(3, 2))
	for _, total := range []float64{-1, math.NaN(), math.Inf(1), 1e100} {
		f("a total weight of", histogram.Checkpoint{Reference: day, Total: total, Weights: weights(1).Weights})
	}
	f("a reference timestamp of", histogram.Checkpoint{Reference: day.AddDate(-60, 0, 0), Total: 1})
	f("a reference timestamp of", histogram.Checkpoint{Reference: day.AddDate(600, 0, 0), Total: 1})
}

func TestUnmarshalRefused(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `{"bucketWeights":{"a":1}}`, `{"bucketWeights":{"1":-1}}`, `{"bucketWeights":{"1":4294967296}}`, `{"bucketWeights":[1]}`,
		`{"bucketWeights":{"1":0.5}}`, `{"totalWeight":"1"}`, `{"totalWeight":1e999}`, `{"referenceTimestamp":"yesterday"}`, `{"referenceTimestamp":1}`,
	} {
		c := histogram.Checkpoint{Total: 7}
		require.ErrorIs(t, c.UnmarshalJSON([]byte(text)), histogram.ErrCorrupt, text)
		assert.Equal(t, histogram.Checkpoint{Total: 7}, c, text)
	}
}

// FuzzLoad wants of any text an error, or a histogram that works and whose checkpoint reads back as it was.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"referenceTimestamp":"2023-11-15T00:00:00Z","bucketWeights":{"36":5000,"49":10000},"totalWeight":1.500091552734375}`))
	f.Add([]byte(`{"referenceTimestamp":null,"bucketWeights":{"0":0,"175":1},"totalWeight":1e-9}`))
	f.Add([]byte(`{"referenceTimestamp":"9999-01-01T00:00:00Z","bucketWeights":{"-1":1}}`))
	f.Add([]byte(`{"bucketWeights":{"1":4294967295,"01":1},"totalWeight":1e40}`))
	s := shape(f, cpu())
	f.Fuzz(func(t *testing.T, text []byte) {
		var c histogram.Checkpoint
		if c.UnmarshalJSON(text) != nil {
			return
		}
		h, err := histogram.Load(s, c)
		if err != nil {
			require.ErrorIs(t, err, histogram.ErrCorrupt)
			return
		}
		before := 0.0
		for i := range 21 {
			p := h.Percentile(float64(i) / 20)
			if !(p >= before && p <= s.Start(175)) {
				t.Fatalf("percentile %d of 20 is %v, after %v", i, p, before)
			}
			before = p
		}
		saved := h.Checkpoint()
		var again histogram.Checkpoint
		require.NoError(t, again.UnmarshalJSON(saved.AppendJSON(nil)))
		again.Reference = saved.Reference // its JSON is to the second
		require.Equal(t, saved, again)
		_, err = histogram.Load(s, saved)
		require.NoError(t, err)
		h.Add(1, 1, day.UnixNano())
		h.Subtract(2, 1, day.AddDate(1, 0, 0).UnixNano())
		require.False(t, math.IsNaN(h.Total()) || math.IsInf(h.Total(), 0), "%v", h.Total())
	})
}

// TestSaveAndLoad wants percentiles to survive a checkpoint but for buckets that it leaves out.
func TestSaveAndLoad(t *testing.T) {
	s := shape(t, cpu())
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		h := histogram.New(s)
		for i := range 500 {
			h.Add(math.Exp(r.NormFloat64()), 0.1, day.Add(time.Duration(i)*time.Minute).UnixNano())
		}
		loaded, err := histogram.Load(s, h.Checkpoint())
		require.NoError(t, err)
		for _, p := range []float64{0.05, 0.5, 0.9, 0.95} {
			assert.InEpsilon(t, h.Percentile(p), loaded.Percentile(p), 0.06)
		}
		assert.Equal(t, h.Total(), loaded.Total())
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		return []byte(err.Error())
	}
	return b
}
