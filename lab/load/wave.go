package load

import (
	"fmt"
	"iter"
	"math"
	"time"
)

// Wave is a day of demand that repeats, as services see it that are used at work: a calm night, a steep rise in the morning, a
// lunch dip, a second, slightly lower peak, and an evening that is slower than the morning. A day may be compressed to minutes.
type Wave struct {
	Night, Peak float64       // expected requests per second before noise
	Day         time.Duration // of one repetition
	Days        int
	// Noise is the standard deviation of the logarithm of the noise, drawn every hundredth of a day and for
	// each day as a whole; 0: none. It multiplies the rate and has mean 1.
	Noise float64
	Seed  uint64 // of the noise
}

// maxNoise is far above what demand shows within minutes; more is a typing error.
const maxNoise = 1

// noiseSteps is how often noise is drawn in a day; between the draws it changes linearly.
const noiseSteps = 100

// Where in a Wave's day its rise is over and its peak begins, and how long the rise takes, as shares of the day.
const (
	WaveRisen = 0.42
	WaveRise  = WaveRisen - waveRises
)

// waveRises is where the rise begins.
const waveRises = 0.27

// knot is a point of the day's shape: level 0 is the night's rate, 1 the peak's.
type knot struct{ at, level float64 }

// shape is the day. The rise from the night's demand to the peak's takes 15 % of it, 3.6 hours of 24; the mean level is
// 0.38.
func shape() []knot {
	return []knot{{0, 0}, {waveRises, 0}, {WaveRisen, 1}, {0.47, 0.95}, {0.52, 0.8}, {0.58, 0.95}, {0.66, 0.9}, {0.75, 0.4}, {0.85, 0.1}, {0.95, 0}, {1, 0}}
}

// level returns the shape at a share of the day in 0 to 1. Knots are joined by half cosines, so that there is no kink.
func level(share float64) float64 {
	all := shape()
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if share <= b.at {
			return a.level + (b.level-a.level)*(1-math.Cos(math.Pi*(share-a.at)/(b.at-a.at)))/2
		}
	}
	return all[len(all)-1].level
}

type wave struct {
	Wave
	days  []float64 // a factor for each day
	noise []float64 // a factor at each multiple of Day/noiseSteps, the end included
	peak  float64   // no rate is above it
}

// Waves returns Poisson arrivals whose rate follows the wave.
func Waves(w Wave) (Pattern, error) {
	for _, err := range []error{checkRate("night", w.Night), checkRate("peak", w.Peak), checkDuration("day", w.Day)} {
		if err != nil {
			return nil, err
		}
	}
	switch {
	case w.Peak < w.Night:
		return nil, fmt.Errorf("peak %g is below night %g", w.Peak, w.Night)
	case w.Days < 1 || w.Days > 1000:
		return nil, fmt.Errorf("days %d is not in 1 to 1000", w.Days)
	case !(w.Noise >= 0 && w.Noise <= maxNoise): // so, NaN is refused too
		return nil, fmt.Errorf("noise %g is not in 0 to %d", w.Noise, maxNoise)
	}
	if err := checkDuration("length", w.Day*time.Duration(w.Days)); err != nil {
		return nil, err
	}
	rng := newRNG(w.Seed, streamNoise)
	draw := func() float64 { return math.Exp(w.Noise*rng.NormFloat64() - w.Noise*w.Noise/2) }
	p := wave{Wave: w}
	highDay, high := 0.0, 0.0
	for range w.Days {
		p.days = append(p.days, draw())
		highDay = max(highDay, p.days[len(p.days)-1])
	}
	for range w.Days*noiseSteps + 1 {
		p.noise = append(p.noise, draw())
		high = max(high, p.noise[len(p.noise)-1])
	}
	p.peak = w.Peak * highDay * high
	return p, checkRate("peak with noise", p.peak)
}

func (w wave) Rate(t time.Duration) float64 {
	if t < 0 || t >= w.Duration() {
		return 0
	}
	days := t.Seconds() / w.Day.Seconds()
	day := min(int(days), w.Days-1)
	steps := days * noiseSteps
	i := min(int(steps), len(w.noise)-2)
	between := steps - float64(i)
	return (w.Night + (w.Peak-w.Night)*level(days-float64(day))) * w.days[day] * (w.noise[i]*(1-between) + w.noise[i+1]*between)
}

func (w wave) Duration() time.Duration { return w.Day * time.Duration(w.Days) }

func (w wave) Arrivals(seed uint64) iter.Seq[Arrival] {
	return poisson(w.Rate, w.peak, w.Duration(), seed)
}
