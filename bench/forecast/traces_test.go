package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseTrace(t *testing.T) {
	long := "90000,1\n" // over a day, so that steps are minutes
	got, err := parseTrace(strings.NewReader("ts,value\n0,2\n30,4\n60,5\n180,7\n" + long))
	require.NoError(t, err)
	require.Equal(t, time.Minute, got.step)
	require.Equal(t, []float64{3, 5}, got.values[:2], "values are averaged")
	require.True(t, math.IsNaN(got.values[2]), "and a gap is a gap")

	got, err = parseTrace(strings.NewReader("second,requests\n0,30\n50,30\n180,12\n" + long))
	require.NoError(t, err)
	require.Equal(t, []float64{1, 0, 0, 0.2}, got.values[:4], "requests are summed to a rate, and none are none")

	got, err = parseTrace(strings.NewReader("TIMESTAMP,ContextTokens\n2023-11-16 18:15:40.5,1\n2023-11-16 18:15:41,9\n2023-11-16 18:16:05,3\n"))
	require.NoError(t, err)
	require.Equal(t, 10*time.Second, got.step)
	require.Equal(t, []float64{0.2, 0, 0.1}, got.values, "lines are counted")

	for text, want := range map[string]string{
		"":                             "it is empty",
		"ts,value\n1,2\n":              "fewer than two lines",
		"ts,value\n1,2\nx,3\n":         `line 3: strconv.ParseFloat: parsing "x"`,
		"ts,value\n1\n":                "line 2: no value",
		"TIMESTAMP,ContextTokens\nx,1": "line 2: parsing time",
		"timestamp,value,container\n":  "a file of many containers",
	} {
		_, err := parseTrace(strings.NewReader(text))
		require.ErrorContains(t, err, want)
	}
}

func TestMeasureScoresAPerfectDayAboveLastValue(t *testing.T) {
	values := make([]float64, 6*1440)
	for i := range values {
		values[i] = 50 - 40*math.Cos(2*math.Pi*float64(i)/1440) + float64(i%7)
	}
	_, outcomes, _, err := measure(trace{name: "day", step: time.Minute, values: values})
	require.NoError(t, err)
	for _, o := range outcomes {
		require.Greater(t, o.score(), 0.3, "%d min", o.minutes)
		require.Equal(t, float64(3*1440), o.n)
	}
}
