package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"headroom.dev/headroom/recommender"
)

// length of the synthetic traces: two weeks, so that each day of the week was seen.
const length = 14 * 24 * time.Hour

// shape is how demand goes: a level (about 1 at its usual peak) at a time since the start, a Monday.
type shape struct {
	name            string
	level           func(at time.Duration, r *rand.Rand) float64
	steps, versions []time.Duration
}

func hours(at time.Duration) float64 { return at.Hours() }

// byDay is low at four in the morning and high at four in the afternoon.
func byDay(at time.Duration) float64 {
	return 0.55 - 0.45*math.Cos(2*math.Pi*(hours(at)-4)/24)
}

func within(at, from, until time.Duration) bool { return at >= from && at < until }

func shapes(seed uint64) []shape {
	const hour, day = time.Hour, 24 * time.Hour
	var burstEnds time.Duration
	burst := 0.0
	return []shape{
		{name: "daily", level: func(at time.Duration, _ *rand.Rand) float64 { return byDay(at) }},
		{name: "weekly", level: func(at time.Duration, _ *rand.Rand) float64 {
			if int(at/day)%7 >= 5 {
				return 0.35 * byDay(at)
			}
			return byDay(at)
		}},
		{name: "bursts", level: func(at time.Duration, r *rand.Rand) float64 {
			if at >= burstEnds {
				burst = 0
				if r.Float64() < 1.0/240 { // one in four hours
					burst = 0.5 * math.Pow(1-r.Float64(), -1/2.5)
					burstEnds = at + time.Duration(5+r.IntN(25))*time.Minute
				}
			}
			return 0.2 + min(burst, 4)
		}},
		{name: "ramp", level: func(at time.Duration, _ *rand.Rand) float64 {
			return (0.3 + 1.2*float64(at)/float64(length)) * (0.8 + 0.2*byDay(at))
		}},
		{name: "steps", steps: []time.Duration{5*day + 7*hour, 9*day + 15*hour}, level: func(at time.Duration, _ *rand.Rand) float64 {
			if within(at, 5*day+7*hour, 9*day+15*hour) {
				return 1
			}
			return 0.45
		}},
		{
			name: "versions", steps: []time.Duration{4*day + 10*hour, 8*day + 14*hour}, versions: []time.Duration{4*day + 10*hour, 6*day + 9*hour, 8*day + 14*hour},
			level: func(at time.Duration, _ *rand.Rand) float64 {
				level := 0.6 + 0.4*byDay(at)
				switch {
				case at >= 8*day+14*hour:
					return 0.5 * level
				case at >= 4*day+10*hour:
					return 1.6 * level
				}
				return level
			},
		},
		{name: "batch", level: func(at time.Duration, _ *rand.Rand) float64 {
			run := int(at / (6 * hour))
			if at%(6*hour) < time.Duration(30+(run*7+int(seed))%20)*time.Minute {
				return 1
			}
			return 0.03
		}},
	}
}

// synthetic makes a trace for each shape and resource, of several containers each.
func synthetic(seed uint64, count int) []*trace {
	var list []*trace
	for _, resource := range []recommender.Resource{recommender.CPU, recommender.Memory} {
		for k, kind := range shapes(seed) {
			t := &trace{name: fmt.Sprintf("%s/%s", resource, kind.name)}
			t.family = t.name
			for c := range count {
				number := seed + uint64(c)
				t.series = append(t.series, container(fmt.Sprintf("%s #%d", t.name, c), resource, shapes(number)[k], number))
			}
			list = append(list, t)
		}
	}
	return list
}

// container is one container whose demand has a shape. CPU follows at once, with noise that lasts some minutes. Memory has a
// part that is always there, follows within an hour or so, and is let go of slowly, with garbage in between.
func container(name string, resource recommender.Resource, kind shape, seed uint64) *series {
	r := rand.New(rand.NewPCG(seed, 0x5eed)) //nolint:gosec // reproducible, not secret
	s := &series{name: name, resource: resource, start: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), step: time.Minute}
	s.usage = make([]float64, s.index(length))
	size := math.Exp(r.NormFloat64() * 0.7) // cores, or times 4 GiB
	noise, held, garbage := 0.0, 0.0, 0.0
	for i := range s.usage {
		level := kind.level(time.Duration(i)*s.step, r)
		noise = 0.8*noise + 0.6*r.NormFloat64()
		if resource == recommender.CPU {
			v := level * math.Exp(0.12*noise)
			if r.Float64() < 1.0/500 { // a short peak: start of a worker, a reload
				v *= 1 + r.ExpFloat64()
			}
			s.usage[i] = size * v
			continue
		}
		rate := 0.005
		if level > held {
			rate = 0.05
		}
		held += rate * (level - held)
		if garbage += 0.002 * (0.5 + r.Float64()); garbage > 0.08+0.02*r.Float64() {
			garbage = 0
		}
		s.usage[i] = math.Floor(size * 4 * (1 << 30) * (0.4 + 0.5*held + garbage + 0.004*noise))
	}
	for _, at := range kind.steps {
		s.steps = append(s.steps, s.index(at))
	}
	for _, at := range kind.versions {
		s.versions = append(s.versions, s.index(at))
	}
	return s
}
