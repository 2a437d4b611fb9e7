package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/bench/result"
	"headroom.dev/headroom/recommender"
)

// TestFrontier against all pairs.
func TestFrontier(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		all := make([]spot, r.IntN(20))
		for i := range all {
			all[i] = spot{under: float64(r.IntN(6)), slack: float64(r.IntN(6))}
		}
		var want []spot
		for _, s := range all {
			beaten := slices.ContainsFunc(all, func(o spot) bool {
				return o.under <= s.under && o.slack <= s.slack && (o.under < s.under || o.slack < s.slack)
			})
			if !beaten && !slices.Contains(want, s) {
				want = append(want, s)
			}
		}
		slices.SortFunc(want, func(a, b spot) int { return int(a.under - b.under) })
		require.Equal(t, want, frontier(all), "seed %d: %v", seed, all)
	}
	assert.Empty(t, frontier([]spot{{math.NaN(), 1, ""}, {1, math.NaN(), ""}}))
}

func TestSlackAt(t *testing.T) {
	front := []spot{{0.01, 0.6, ""}, {0.03, 0.4, ""}, {0.10, 0.3, ""}}
	for under, want := range map[float64]float64{0.01: 0.6, 0.02: 0.5, 0.03: 0.4, 0.065: 0.35, 0.1: 0.3, 0.5: 0.3} {
		assert.InDelta(t, want, slackAt(front, under), 1e-12, "at %v", under)
	}
	assert.True(t, math.IsNaN(slackAt(front, 0.009)), "nothing is that rarely under")
	assert.True(t, math.IsNaN(slackAt(nil, 0.5)))
}

func TestDominates(t *testing.T) {
	base := score{slack: 0.5, underTime: 0.05, underVolume: 0.01, changes: 1}
	better, mixed, blind, part := base, base, base, base
	better.slack = 0.4
	mixed.slack, mixed.changes = 0.4, 1.1
	blind.slack, blind.changes = 0.4, math.NaN()
	part.slack, part.unsized = 0.4, 0.2
	assert.True(t, dominates(better, base))
	assert.False(t, dominates(base, better))
	assert.False(t, dominates(base, base), "it is not worse than itself")
	assert.False(t, dominates(mixed, base))
	assert.False(t, dominates(blind, base))
	assert.False(t, dominates(part, base), "what recommends nothing part of the time has it easy")
}

// four settings and a family of two traces.
func four() ([]setting, []*outcome) {
	all := []setting{
		{group: groupVPA, name: "VPA", named: true},
		{group: groupTwin, name: "recommender/vpa", named: true},
		{group: groupTuned, name: "VPA other"},
		{group: groupFixed, name: "p98 <24h"},
		{group: groupFixed, name: "p99 24h"},
		{group: groupOurs, name: groupOurs, named: true},
		{group: groupOurs, name: "headroom, risk 5%", risk: 0.05},
	}
	vpa := score{slack: 0.5, underTime: 0.04, underVolume: 0.05, changes: 2, covered: 0.4}
	scores := []score{
		vpa, vpa, {slack: 0.45, underTime: 0.04, underVolume: 0.06, changes: 3},
		{slack: 0.44, underTime: 0.039, underVolume: 0.03, changes: 1},
		{slack: 0.47, underTime: 0.01, underVolume: 0.03, changes: 1},
		{slack: 0.40, underTime: 0.02, underVolume: 0.01, changes: 1, covered: 0.92},
		{slack: 0.30, underTime: 0.06, underVolume: 0.02, changes: 1, covered: 0.85},
	}
	s := flat(recommender.CPU, 3, 1)
	a := &outcome{&trace{"f/a", "f", []*series{s}}, scores}
	b := &outcome{&trace{"f/b", "f", []*series{s}}, slices.Clone(scores)}
	b.scores[5].slack, b.scores[5].underTime = 0.48, 0.04 // p98 24h beats it, in changes by nothing
	b.scores[5].underVolume = 0.04
	return all, []*outcome{a, b}
}

func TestTunedAndLeast(t *testing.T) {
	all, list := four()
	fixed := func(s setting) bool { return s.group == groupFixed }
	assert.Equal(t, "p98 <24h", all[tuned(all, list[0].scores, fixed, 0.04)].name)
	assert.Equal(t, "p99 24h", all[tuned(all, list[0].scores, fixed, 0.02)].name)
	assert.Equal(t, -1, tuned(all, list[0].scores, fixed, 0.001))
	assert.Equal(t, "p99 24h", all[least(all, list[0].scores, fixed, func(s score) float64 { return s.underTime })].name)
	assert.Equal(t, []string{"p98 <24h", "p99 24h"}, dominating(all, list[1].scores, list[1].scores[5]))
	assert.Empty(t, dominating(all, list[0].scores, list[0].scores[5]))
}

// TestFiguresMiss: what is worse than the goal says so.
func TestFiguresMiss(t *testing.T) {
	all, list := four()
	r := &report{Result: result.New("x")}
	r.judge(all, list, false)
	figures := map[string]result.Figure{}
	for _, f := range r.Figures {
		figures[f.Name] = f
	}
	a := figures["f/a: slack of the VPA's, at its under-time"]
	assert.InDelta(t, 0.35/0.5, *a.Value, 1e-9, "half way between 2 and 6 % under")
	assert.True(t, *a.Met)
	b := figures["f/b: slack of the VPA's, at its under-time"]
	assert.InDelta(t, 0.48/0.5, *b.Value, 1e-9)
	assert.False(t, *b.Met)
	assert.True(t, *figures["f: baselines that beat the default in everything"].Met)
	assert.True(t, *figures["cpu: traces on which recommender/vpa differs from the VPA"].Met)
	assert.True(t, *figures["f: intervals that held what was needed, headroom"].Met)
	list[0].scores[1].changes++
	r = &report{Result: result.New("x")}
	r.judge(all, list, false)
	assert.Equal(t, 1.0, *r.Figures[0].Value)
	assert.Contains(t, r.tables.String(), "| f/b | 50.00 % at 4.00 % | 48.00 % | 0.96 |")
	assert.NotContains(t, r.tables.String(), "NaN")
}

// TestPicture: it is well-formed, with a panel for the family and for each trace, and the frontiers.
func TestPicture(t *testing.T) {
	all, list := four()
	raw := picture(all, append(families(list), list...))
	decoder := xml.NewDecoder(strings.NewReader(raw))
	lines, panels := 0, 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok {
			switch e.Name.Local {
			case "polyline":
				lines++
			case "g":
				panels++
			}
		}
	}
	assert.Equal(t, 3, panels)
	assert.Equal(t, 9, lines)
	assert.Contains(t, raw, "p98 &lt;24h")
	assert.NotContains(t, raw, "NaN")
}
