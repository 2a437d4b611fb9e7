package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/bench/result"
	"headroom.dev/headroom/scaler/simulate"
)

func TestDailyTellsCyclesFromNone(t *testing.T) {
	for shape, cyclic := range map[string]bool{"daily": true, "weekly": true, "bursts": true, "walk": false, "steps": false} {
		trace, err := simulate.Synthetic(shape, 14*24*time.Hour, 1)
		require.NoError(t, err)
		assert.Equal(t, cyclic, named{trace, daily(trace)}.cyclic(), "%s: %v", shape, daily(trace))
	}
	daylight := &simulate.Trace{}
	for second := 0; second < 5*86400; second += 60 { // single requests, by day alone
		if hour := second / 3600 % 24; hour >= 8 && hour < 20 {
			daylight.Requests = append(daylight.Requests, simulate.Request{At: time.Duration(second) * time.Second, Work: 1})
		}
	}
	assert.True(t, named{daylight, daily(daylight)}.cyclic())
	short, err := simulate.Synthetic("daily", 2*24*time.Hour, 1)
	require.NoError(t, err)
	assert.True(t, math.IsNaN(daily(short)), "two days tell nothing")
	assert.False(t, named{short, math.NaN()}.cyclic())
}

func trial(tuned, scored, hours float64) simulate.Trial {
	return simulate.Trial{
		Tuned:  simulate.Result{Attainment: tuned, ReplicaHours: hours},
		Scored: simulate.Result{Attainment: scored, ReplicaHours: hours},
	}
}

func contestOfFour() *contest {
	return &contest{
		trace: named{&simulate.Trace{Name: "a<b"}, 0.9}, startUp: 3 * time.Minute, names: []string{limit, stock, ours},
		trials: map[string][]simulate.Trial{
			limit: {trial(0.98, 0.995, 40), trial(0.999, 0.999, 50)},
			stock: {trial(0.98, 0.97, 80), trial(0.991, 0.992, 100), trial(0.999, 0.999, 140)},
			ours:  {trial(0.97, 0.991, 60), trial(0.992, 0.993, 75), trial(0.995, 0.985, 90)},
		},
	}
}

// TestLines: settings are chosen by the half that they are tuned on, the clairvoyant's by what it knows; what matched the HPA
// afterwards is told apart from it.
func TestLines(t *testing.T) {
	lines := contestOfFour().lines(0.99)
	require.Len(t, lines, 3)
	assert.Equal(t, 40.0, lines[0].hours)
	assert.Equal(t, 100.0, lines[1].hours)
	own := lines[2]
	assert.Equal(t, 75.0, own.hours)
	assert.Equal(t, 0.75, own.againstHPA)
	assert.Equal(t, 75.0/40, own.againstLimit)
	assert.Equal(t, 0.75, own.matched, "60 hours were less on time than the HPA")

	strict := contestOfFour().lines(0.999)
	assert.Equal(t, 0.985, strict[2].chosen.Scored.Attainment, "no setting reached the goal: the nearest on the tuned half")
	assert.True(t, math.IsNaN(strict[2].matched))
}

// TestFiguresMiss: few hours are no merit where requests were late.
func TestFiguresMiss(t *testing.T) {
	c := contestOfFour()
	r := result.New("x")
	lines := c.lines(0.999)
	c.figures(r, 0.999, lines[1], lines[2])
	assert.False(t, *r.Figures[0].Met, "98.5 of 99.9 % on time")
	assert.True(t, *r.Figures[1].Met)
	assert.Equal(t, "<= 0.8", r.Figures[1].Goal)
	c.trace.daily = 0.1
	r = result.New("x")
	c.figures(r, 0.999, lines[1], lines[2])
	assert.Equal(t, "<= 1.02", r.Figures[1].Goal, "without a daily cycle")
}

// TestPicture: it is well-formed, with every family that is near enough.
func TestPicture(t *testing.T) {
	dir := t.TempDir()
	_, err := draw([]*contest{contestOfFour()}, dir)
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(dir, "scaler-180s.svg"))
	require.NoError(t, err)
	decoder := xml.NewDecoder(strings.NewReader(string(raw)))
	lines := 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
			lines++
		}
	}
	assert.Equal(t, 3, lines)
	assert.Contains(t, string(raw), "a&lt;b")
	assert.NotContains(t, string(raw), "NaN")
}
