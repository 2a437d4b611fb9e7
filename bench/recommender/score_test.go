package main

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender"
)

// random returns a series of some days at steps of ten minutes with gaps, and requests for it that change now and then.
func random(r *rand.Rand) (*series, *replayed) {
	s := &series{resource: recommender.CPU, start: time.Unix(1_700_000_000, 0), step: 10 * time.Minute}
	for range 144*2 + r.IntN(144) {
		v := r.Float64()
		if r.IntN(20) == 0 {
			v = math.NaN()
		}
		s.usage = append(s.usage, v)
	}
	out := &replayed{requests: make([]float64, len(s.usage))}
	request := math.NaN()
	for i := range s.usage {
		if i >= 144 && r.IntN(10) == 0 {
			request = 0.2 + r.Float64()
			out.advices = append(out.advices, given{i, advice{true, request, request * r.Float64(), request * (1 + r.Float64())}})
		}
		out.requests[i] = request
	}
	return s, out
}

// oracle measures word by word after the definitions, one quantity after another.
func oracle(s *series, r *replayed, risk float64) score {
	var slack []float64
	var used, above, n, known, changes float64
	for i := range s.usage {
		if i < 144 || math.IsNaN(s.usage[i]) {
			continue
		}
		known++
		if math.IsNaN(r.requests[i]) {
			continue
		}
		n++
		slack = append(slack, max(0, (r.requests[i]-s.usage[i])/r.requests[i]))
		used += s.usage[i]
		above += max(0, s.usage[i]-r.requests[i])
	}
	out := score{underVolume: above / used, unsized: 1 - n/known, up: math.NaN(), down: math.NaN()}
	for _, v := range slack {
		out.slack += v / n
		if v == 0 {
			out.underTime += 1 / n
		}
	}
	for i := 145; i < len(s.usage); i++ {
		if before := r.requests[i-1]; !math.IsNaN(before) && (r.requests[i] > before*1.1 || r.requests[i] < before*0.9) {
			changes++
		}
	}
	out.changes = changes / (float64(len(s.usage)-144) / 144)
	var held, asked float64
	var widths []float64
	for _, g := range r.advices {
		if g.index+6 > len(s.usage) {
			continue
		}
		var values []float64
		for _, v := range s.usage[g.index : g.index+6] {
			if !math.IsNaN(v) {
				values = append(values, v)
			}
		}
		if len(values) < 3 {
			continue
		}
		slices.Sort(values)
		need := math.NaN()
		for k := len(values) - 1; k >= 0; k-- { // the smallest request that at most a share of risk is above
			if float64(len(values)-1-k) <= risk*float64(len(values)) {
				need = values[k]
			}
		}
		asked++
		if g.lower <= need && need <= g.upper {
			held++
		}
		widths = append(widths, g.upper/g.lower)
	}
	out.covered = held / asked
	slices.Sort(widths)
	out.width = (widths[(len(widths)-1)/2] + widths[len(widths)/2]) / 2
	return out
}

func TestScoreAgainstOracle(t *testing.T) {
	for seed := range uint64(200) {
		s, r := random(rand.New(rand.NewPCG(seed, 1)))
		risk := float64(seed%5) / 10
		got, want := scoreOf(s, r, risk, recommender.DefaultPolicy(s.resource).Hold), oracle(s, r, risk)
		for k, field := range got.fields() {
			if w := *want.fields()[k]; math.IsNaN(w) {
				require.True(t, math.IsNaN(*field), "seed %d, field %d: %v, want unknown", seed, k, *field)
			} else {
				require.InDelta(t, w, *field, 1e-9, "seed %d, field %d", seed, k)
			}
		}
	}
}

// TestNeeded: of memory it is the peak; where half is unknown it is unknown.
func TestNeeded(t *testing.T) {
	s := &series{resource: recommender.Memory, usage: []float64{1, 9, 2, math.NaN(), math.NaN(), math.NaN(), 4}}
	assert.Equal(t, 9.0, needed(s, 0, 3, 0.5))
	assert.Equal(t, 2.0, needed(s, 2, 4, 0.5))
	assert.True(t, math.IsNaN(needed(s, 3, 7, 0)))
	s.resource = recommender.CPU
	assert.Equal(t, 1.0, needed(s, 0, 3, 2.0/3))
	assert.Equal(t, 2.0, needed(s, 0, 3, 0.34))
}

// TestFollow: up until 95 % of the need, down until the headroom is what it was; what never follows takes until the next step.
func TestFollow(t *testing.T) {
	const day = 24
	s := &series{resource: recommender.Memory, step: time.Hour, steps: []int{3 * day, 6 * day}}
	for i := range 9 * day {
		v := 10.0
		if i >= 3*day && i < 6*day {
			v = 20
		}
		s.usage = append(s.usage, v)
	}
	r := &replayed{requests: make([]float64, len(s.usage))}
	for i := range r.requests {
		switch {
		case i < 3*day+5:
			r.requests[i] = 12
		case i < 3*day+7:
			r.requests[i] = 18.9
		case i < 6*day+30:
			r.requests[i] = 24
		default:
			r.requests[i] = 12.5 // 1.25 times the need, as 24 is within 5 % of 1.2 times 20
		}
	}
	up, down := follow(s, r)
	assert.Equal(t, 7.0, up)
	assert.Equal(t, 30.0, down)
	for i := range r.requests {
		r.requests[i] = 12
	}
	up, _ = follow(s, r)
	assert.Equal(t, 72.0, up, "it never did")
}

func TestMeanLeavesOutUnknown(t *testing.T) {
	unknown := math.NaN()
	m := mean([]score{{slack: 0.5, kills: 2, up: unknown, changes: 1}, {slack: 0.7, kills: 3, up: 4, changes: 3}})
	assert.InDelta(t, 0.6, m.slack, 1e-12)
	assert.Equal(t, 5.0, m.kills)
	assert.Equal(t, 4.0, m.up)
	assert.Equal(t, 2.0, m.changes)
	assert.True(t, score{up: unknown}.same(score{up: unknown}))
	assert.False(t, score{up: unknown}.same(score{up: 0}))
}

// scripted is a policy that notes what it is told.
type scripted struct {
	answer   func(now time.Time) advice
	added    []point
	kills    []point
	asked    []time.Time
	versions []time.Time
}

func (p *scripted) add(at time.Time, v float64)       { p.added = append(p.added, point{at, v}) }
func (p *scripted) oom(at time.Time, request float64) { p.kills = append(p.kills, point{at, request}) }
func (p *scripted) version(at time.Time)              { p.versions = append(p.versions, at) }
func (p *scripted) recommend(now time.Time) advice {
	p.asked = append(p.asked, now)
	return p.answer(now)
}

func flat(resource recommender.Resource, days int, v float64) *series {
	s := &series{resource: resource, start: time.Unix(1_700_000_000, 0), step: time.Minute, usage: make([]float64, days*1440)}
	for i := range s.usage {
		s.usage[i] = v
	}
	return s
}

// TestProtocol: nothing is asked in the first day, then once an hour, before the sample of that moment is known; less than
// 10 % is not applied; what is unknown is not told.
func TestProtocol(t *testing.T) {
	s := flat(recommender.CPU, 3, 1)
	s.usage[5], s.versions = math.NaN(), []int{100}
	answers := []float64{math.NaN(), 2, 2.19, 1.81, 2.21, 2.0, 1.98} // none, applied, no, no, applied, no, applied
	p := &scripted{}
	p.answer = func(time.Time) advice {
		v := answers[min(len(p.asked), len(answers))-1]
		return advice{valid: !math.IsNaN(v), request: v, lower: v, upper: v}
	}
	r, err := replay(context.Background(), s, p)
	require.NoError(t, err)
	require.Len(t, p.asked, 48)
	assert.Equal(t, s.at(1440), p.asked[0])
	assert.Equal(t, s.at(1500), p.asked[1])
	assert.Equal(t, []time.Time{s.at(100)}, p.versions)
	assert.Len(t, p.added, len(s.usage)-1)
	for hour, want := range []float64{math.NaN(), 2, 2, 2, 2.21, 2.21, 1.98, 1.98} {
		for _, minute := range []int{0, 59} {
			got := r.requests[1440+60*hour+minute]
			assert.True(t, got == want || math.IsNaN(got) && math.IsNaN(want), "hour %d: %v, want %v", hour, got, want)
		}
	}
	assert.True(t, math.IsNaN(r.requests[1439]))
	assert.InDelta(t, 2.0/2, scoreOf(s, r, 0.02, time.Hour).changes, 1e-9, "the first one is no change")
	assert.InDelta(t, 1.0/48, scoreOf(s, r, 0.02, time.Hour).unsized, 1e-9)
}

// TestKill: a peak above the request is a kill; what was measured is the request, and it starts again with what is recommended
// then, if that is more.
func TestKill(t *testing.T) {
	s := flat(recommender.Memory, 2, 100)
	s.usage[2000], s.usage[2001], s.usage[2002] = 300, 300, 300
	p := &scripted{}
	p.answer = func(time.Time) advice {
		return advice{valid: true, request: []float64{110, 200, 260, 320}[min(len(p.kills), 3)]}
	}
	r, err := replay(context.Background(), s, p)
	require.NoError(t, err)
	assert.Equal(t, []point{{s.at(2000), 110}, {s.at(2001), 200}, {s.at(2002), 260}}, p.kills)
	assert.Equal(t, 3, r.kills)
	assert.Equal(t, []float64{110, 200, 260, 320}, r.requests[2000:2004])
	assert.Equal(t, point{s.at(2001), 200}, p.added[2001])
	less := &scripted{}
	less.answer = func(time.Time) advice { return advice{valid: true, request: 110 - float64(len(less.kills))} }
	r, err = replay(context.Background(), s, less)
	require.NoError(t, err)
	assert.Equal(t, 110.0, r.requests[2003], "a restart takes nothing away")
}

func TestReplayEndsWhenItIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := replay(ctx, flat(recommender.CPU, 2, 1), &scripted{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestWarmUp(t *testing.T) {
	assert.Equal(t, 24*time.Hour, flat(recommender.CPU, 3, 1).warmUp())
	assert.Equal(t, 12*time.Hour, flat(recommender.CPU, 1, 1).warmUp(), "of a day, half is left to score")
}
