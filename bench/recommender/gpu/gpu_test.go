package gpu

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// one makes a container with a sample a minute.
func one(name string, minutes int, value func(minute int) float64) Series {
	s := Series{Name: name}
	for i := range minutes {
		s.Times = append(s.Times, time.Date(2026, 3, 2, 0, i, 0, 0, time.UTC))
		s.Values = append(s.Values, value(i))
	}
	return s
}

func TestJudge(t *testing.T) {
	day := 24 * 60
	r := judge([]Series{
		one("flat", day, func(int) float64 { return 10e9 }),
		one("rises in the second half", day, func(i int) float64 {
			if i > day/2 {
				return 40e9
			}
			return 10e9
		}),
		one("gone", day/2, func(int) float64 { return 10e9 }),
		one("idle later", day, func(i int) float64 {
			if i < day/2 {
				return 40e9
			}
			return 0
		}),
	}, 12*time.Hour)
	assert.Equal(t, 2, r.Containers)
	assert.Equal(t, 2, r.Skipped)
	assert.InDelta(t, 18+71, r.Oracle.GB, 1e-9)
	assert.Zero(t, r.Oracle.Overflow)
	for _, row := range r.Rows {
		assert.Equal(t, 1, row.Overflow, "%s cannot know of the rise", row.Name)
		assert.InDelta(t, row.GB/r.Oracle.GB, row.Ratio, 1e-12)
	}
	assert.InDelta(t, 0.5, r.Exceeded, 1e-12)
	assert.Equal(t, 2, r.Rows[0].Uses["1g.18gb"])
	assert.True(t, math.IsNaN(r.Bound), "no rule knows of it")
}

func TestRunOnSyntheticSeries(t *testing.T) {
	r, err := Run("")
	require.NoError(t, err)
	assert.Equal(t, 72, r.Containers)
	ours := r.Rows[0]
	assert.LessOrEqual(t, ours.Overflow, 3, "of 72, at a risk of 1%%")
	var out strings.Builder
	require.NoError(t, r.Print(&out))
	for _, want := range []string{"oracle", "headroom, risk 1%", "max x 1.15", "VPA's memory path (adapted", "goal: at most 1.25", "bound"} {
		assert.Contains(t, out.String(), want)
	}
}

func TestParseRefusesWhatIsNoTrace(t *testing.T) {
	_, err := Run(t.TempDir())
	require.ErrorContains(t, err, "cannot read the trace of GPU memory")
	for _, text := range []string{
		"", "a,b,c\n", "timestamp,value,container\n", "timestamp,value,container\n1,2\n",
		"timestamp,value,container\nx,2,c\n", "timestamp,value,container\n1,NaN,c\n", "timestamp,value,container\n1,-2,c\n",
	} {
		_, err := parse(strings.NewReader(text))
		require.Error(t, err, "%q", text)
	}
	series, err := parse(strings.NewReader("timestamp,value,container\n20,2,c\n10,1,c\n10,5,b\n"))
	require.NoError(t, err)
	require.Len(t, series, 2)
	assert.Equal(t, []float64{1, 2}, series[1].Values, "in order of time")
}

// 500 MiB lie in bucket 26 of the VPA, as its library says.
func TestVPABucket(t *testing.T) {
	h := half{before: one("x", 60, func(int) float64 { return 500 << 20 })}
	assert.InEpsilon(t, 1.15*546693843, h.vpa(), 0.02)
}
