package judge

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStatesThatNoJudgeWrote(t *testing.T) {
	const spec = `"spec":{"metrics":[{"name":"a","kind":"Errors"}]}`
	for want, raw := range map[string]string{
		"unexpected end":         `{`,
		"version 7":              `{"version":7}`,
		"at least one is needed": `{"version":1}`,
		"0 metrics":              `{"version":1,` + spec + `}`,
		"2 contrasts":            `{"version":1,` + spec + `,"state":{"metrics":[{"contrasts":[{},{}]}]}}`,
		"points of evidence":     `{"version":1,` + spec + `,"state":{"metrics":[{"contrasts":[{"looks":3,"worse":[1]}]}]}}`,
		"a negative count":       `{"version":1,` + spec + `,"state":{"metrics":[{"requests":-1}]}}`,
		"not counts":             `{"version":1,` + spec + `,"state":{"metrics":[{"lastNew":{"p":{"requests":-1}}}]}}`,
	} {
		_, err := Restore([]byte(raw))
		require.ErrorContains(t, err, want)
	}
}

// Whatever is accepted can be judged with, written and read again.
func FuzzRestore(f *testing.F) {
	j, s := mustNew(f, bothMetrics()), service{rand.NewPCG(1, 1)}
	for look := range 3 {
		raw, err := json.Marshal(j)
		require.NoError(f, err)
		f.Add(raw)
		j.Look(start.Add(time.Duration(look)*time.Minute), s.minute(0.02, 1.1))
	}
	f.Add([]byte(`{"version":1,"spec":{"metrics":[{"name":"errors","kind":"Gauge","max":1}]},"state":{"metrics":[{}]}}`))
	o := s.minute(0.02, 1.1)
	f.Fuzz(func(t *testing.T, raw []byte) {
		j, err := Restore(raw)
		if err != nil {
			return
		}
		for look := range 2 {
			v := j.Look(j.state.Last.Add(time.Duration(look+1)*time.Minute), o)
			require.Contains(t, []Outcome{Pass, Fail, Inconclusive}, v.Outcome)
		}
		if raw, err = json.Marshal(j); err == nil { // years beyond 9999 and sums beyond a float64 have no JSON
			_, err = Restore(raw)
			_ = err
		}
	})
}

func TestPowerAgreesWithTheJudge(t *testing.T) {
	q := Question{PerLook: 1200, Split: 0.1, Rate: 0.01, Effect: 3, Margin: 1.5, Looks: 30, Alpha: 0.005, Beta: 0.05}
	p, err := PowerOf(q)
	require.NoError(t, err)
	require.Greater(t, p.Fail, 0.97)
	require.InDelta(t, 7, p.FailLooks, 2, "as the simulated rollouts need")
	require.InDelta(t, 3.6, p.Marked, 1e-9)
	again, err := PowerOf(q)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(p), fmt.Sprint(again), "the same seed, the same answer")

	q.Effect = 1
	p, err = PowerOf(q)
	require.NoError(t, err)
	require.LessOrEqual(t, p.Fail, 0.01)

	q.Effect, q.PerLook = 3, 20
	p, err = PowerOf(q)
	require.NoError(t, err)
	require.Less(t, p.Fail, 0.2, "20 requests a minute cannot tell 1% from 3% in half an hour")

	q.Effect = math.NaN()
	_, err = PowerOf(q)
	require.ErrorContains(t, err, "effect NaN")
}

func TestTailsBetweenBuckets(t *testing.T) {
	// A Pareto tail is straight in logarithms, so between bounds it is exact: S(x) = x^−2 for x ≥ 1.
	bounds := []float64{1.25, 2, 4, 8}
	counts := []float64{1 - 1/1.5625, 1 - 0.25, 1 - 1.0/16, 1 - 1.0/64, 1}
	h, ok := newHistogram(bounds, counts)
	require.True(t, ok)
	for _, x := range []float64{1.1, 1.25, 1.5, 2, 3, 4, 7} {
		require.InDelta(t, 1/(x*x), h.shareAbove(x), 1e-9, "%v", x)
		require.InDelta(t, x, h.valueAt(1/(x*x)), 1e-9, "%v", x)
	}
	require.Equal(t, 1, h.nearest(0.2))
	require.InDelta(t, 1.1, h.quantileRatio(1, 1.21), 1e-9, "1.21 times as many over 2 is a distribution 1.1 times as wide")
	require.InDelta(t, 1/1.1, h.quantileRatio(1, 1/1.21), 1e-9)
	_, ok = newHistogram(bounds, make([]float64, 5))
	require.False(t, ok, "nothing served")
	flat, ok := newHistogram([]float64{1, 2}, []float64{0, 0, 10})
	require.True(t, ok)
	require.Equal(t, -1, flat.nearest(0.05), "all requests are above all bounds")
	require.True(t, finite(flat.valueAt(0.05)))
	require.True(t, finite(flat.valueAt(0.999)))
}

func TestSamplesMakeAHistogram(t *testing.T) {
	v := FromSamples([]float64{0.5, 1, 1.5, math.NaN(), 9}, []float64{1, 2, 4})
	require.Equal(t, []float64{2, 3, 3, 4}, v.Counts)
	require.NoError(t, v.check(Latency))
	narrow, ok := v.onto([]float64{1, 4})
	require.True(t, ok)
	require.Equal(t, []float64{2, 3, 4}, narrow.Counts)
	_, ok = v.onto([]float64{1, 3})
	require.False(t, ok)
}
