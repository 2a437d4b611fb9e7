package simulate

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadTrace(t *testing.T) {
	read := func(text string) *Trace {
		t.Helper()
		trace, err := ReadTrace("x", strings.NewReader(text), ReadOptions{})
		require.NoError(t, err)
		return trace
	}
	trace := read("second,requests\n0,30\n10,10\n20,0\n")
	assert.Equal(t, []float64{3, 1, 0}, trace.Rate)
	assert.Equal(t, 10*time.Second, trace.Step)
	assert.True(t, trace.Counted)
	assert.Equal(t, 30*time.Second, trace.Duration())

	trace = read("ts,value\n1628640000,3\n1628640060,1.5\n1628640240,2\n")
	assert.False(t, trace.Counted, "a value is a rate")
	assert.Equal(t, "2021-08-11T00:00:00Z", trace.Start.Format(time.RFC3339))
	require.Len(t, trace.Rate, 5, "the lower median of the steps, 60 s, is the step")

	trace = read("ts,value\n0,3\n60,1\n120,1\n300,2\n")
	require.Len(t, trace.Rate, 6)
	count, length := trace.Gaps()
	assert.Equal(t, []any{1, 2 * time.Minute}, []any{count, length})

	trace = read("timestamp,value,container\n0,1,a\n0,2,b\n57,5,a\n57,5,b\n")
	assert.Equal(t, []float64{3, 10}, trace.Rate, "rows of one time are added up")

	trace = read("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,5000,40\n2023-11-16T18:15:48Z,0,80\n")
	assert.Equal(t, []Request{{500 * time.Millisecond, 2}, {2 * time.Second, 2}}, trace.Requests)

	named, err := ReadTrace("x", strings.NewReader("time,load,other\n0,8,1\n1,4,1\n"), ReadOptions{Column: "load", PerSecond: true})
	require.NoError(t, err)
	assert.Equal(t, []float64{8, 4}, named.Rate)
}

func TestReadTraceErrorsNameTheLine(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := ReadTrace("x.csv", strings.NewReader(text), ReadOptions{})
		require.ErrorContains(t, err, "x.csv")
		assert.ErrorContains(t, err, want)
	}
	f("", "empty")
	f("a,b\n1,2\n", "line 1: no column for the time")
	f("ts,load\n1,2\n", "line 1: no column for demand")
	f("ts,value\n1,2\n", "1 rows")
	f("ts,value\n1,2\n2,zz\n", `line 3: "zz" is not a number`)
	f("ts,value\n1,2\nyesterday,3\n", `line 3: "yesterday" is no time`)
	f("ts,value\n5,2\n4,3\n", "line 3: 4 is before the line above")
	f("ts,value\n1,2\n2,-3\n", "line 3: demand is -3")
	f("ts,value\n1,2\n2\n", "line 3")
	f("ts,value\n0,2\n1,2\n2,2\n90000000000,3\n", "steps")
}

// FuzzReadTrace: whatever is read, there is an error or a trace that a plant can be run on.
func FuzzReadTrace(f *testing.F) {
	for _, s := range []string{
		"ts,value\n1,2\n2,3\n", "second,requests\n0,1\n10,NaN\n30,2\n", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,5,6\n2023-11-16 18:15:50,5,1e9\n",
		"time,rate\n0.5,1\n1.1,2\n", "\"ts\n\",value\n", "ts,value\n-5,1\n1e10,1\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		trace, err := ReadTrace("fuzz", strings.NewReader(text), ReadOptions{})
		if err != nil {
			assert.ErrorContains(t, err, "cannot read trace fuzz")
			return
		}
		require.GreaterOrEqual(t, len(trace.Rate)+len(trace.Requests), 2)
		for _, r := range trace.Rate {
			require.False(t, r < 0 || math.IsInf(r, 0))
		}
		if trace.Duration() > time.Hour || trace.Duration() < 2*time.Second {
			return
		}
		load, err := NewLoad(trace.Scaled(10), Plant{})
		require.NoError(t, err)
		results, err := Run(load, always(2), RunOptions{})
		require.NoError(t, err)
		require.False(t, math.IsNaN(results[0].Attainment))
	})
}

// TestScaledBringsThePeak: the 99th percentile becomes the peak; counts of few requests lose their noise, not their sum.
func TestScaledBringsThePeak(t *testing.T) {
	trace, err := Synthetic("daily", 4*24*time.Hour, 1)
	require.NoError(t, err)
	scaled := trace.Scaled(40)
	above := 0
	for i := range scaled.Rate {
		if scaled.Rate[i] > 40 {
			above++
		}
		assert.InEpsilon(t, scaled.Rate[0]/trace.Rate[0], scaled.Rate[i]/trace.Rate[i], 1e-9)
	}
	assert.InDelta(t, 0.01*float64(len(scaled.Rate)), above, 2)

	counts := &Trace{Step: time.Second, Counted: true, Rate: make([]float64, 5000)}
	for i := range counts.Rate {
		counts.Rate[i] = float64(i % 2) // 0 and 1 in turn: 400 are seen in 800 s
	}
	for _, r := range counts.Scaled(100).Rate {
		assert.InEpsilon(t, 100, r, 0.02)
	}
}

func TestSyntheticShapes(t *testing.T) {
	for _, shape := range Shapes() {
		trace, err := Synthetic(shape, 48*time.Hour, 1)
		require.NoError(t, err)
		again, err := Synthetic(shape, 48*time.Hour, 1)
		require.NoError(t, err)
		assert.Equal(t, trace, again, "a seed is a trace")
		other, err := Synthetic(shape, 48*time.Hour, 2)
		require.NoError(t, err)
		assert.Equal(t, shape == "flat", fmt.Sprint(trace.Rate) == fmt.Sprint(other.Rate))
		for _, r := range trace.Rate {
			require.Positive(t, r)
		}
	}
	_, err := Synthetic("square", time.Hour, 1)
	require.ErrorContains(t, err, "square")
	_, err = Synthetic("flat", time.Second, 1)
	require.ErrorContains(t, err, "too short")
}

// TestTuning: of settings that reach the goal on the first half the cheapest is taken, whatever the second half says.
func TestTuning(t *testing.T) {
	trace, err := Synthetic("flat", 4*time.Hour, 1)
	require.NoError(t, err)
	load, err := NewLoad(trace.Scaled(20), Plant{Max: 100})
	require.NoError(t, err)
	asked := 0
	family := Family{Name: "fixed", Variants: []func(u, c float64) Policy{func(u, capacity float64) Policy {
		asked++
		return always(int32(math.Ceil(20 / capacity / u)))
	}}}
	trials, err := Try(load, family, 0.99, 2*time.Hour)
	require.NoError(t, err)
	assert.Len(t, trials, asked)
	best, ok := Best(trials, 0.99)
	require.True(t, ok)
	assert.Equal(t, trials[len(trials)-1].Scored.ReplicaHours, best.Scored.ReplicaHours, "it stops at the first that reaches the goal")
	assert.GreaterOrEqual(t, best.Tuned.Attainment, 0.99)
	assert.Less(t, trials[len(trials)-2].Tuned.Attainment, 0.99)
	worst, ok := Best(trials[:1], 0.99)
	require.True(t, ok)
	assert.Equal(t, trials[0], worst, "where none reaches the goal, the nearest")
	_, ok = Best(nil, 0.99)
	assert.False(t, ok)
	_, err = Try(load, family, 0.99, 5*time.Hour)
	assert.ErrorContains(t, err, "ends before")
}
