package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Shapes are the names of the synthetic traces.
func Shapes() []string { return []string{"daily", "weekly", "bursts", "steps", "walk", "flat"} }

// Synthetic makes a trace of a known shape, one value a minute, with 10 requests per second at its usual height:
//
//   - daily: a day's wave with a steep morning, the same each day but for 5 % of noise that lasts for an hour or so
//   - weekly: the same, with quiet weekends
//   - bursts: the daily wave, with ten minutes of half as much again at three hours of the day
//   - steps: the level jumps to another one every few hours, at random times
//   - walk: a random walk of the logarithm that is drawn back to its mean within hours
//   - flat: constant
func Synthetic(shape string, length time.Duration, seed uint64) (*Trace, error) {
	if !slices.Contains(Shapes(), shape) {
		return nil, fmt.Errorf("no synthetic trace is called %q: there are %v", shape, Shapes())
	}
	n := int(length / time.Minute)
	if n < 2 {
		return nil, fmt.Errorf("a synthetic trace of %s is too short", length)
	}
	rng := rand.New(rand.NewPCG(seed, 3))
	t := &Trace{Name: shape, Start: time.Unix(1767571200, 0).UTC(), Step: time.Minute, Rate: make([]float64, n)} // a Monday
	level, noise := 1.0, 0.0
	for i := range t.Rate {
		day := math.Mod(float64(i)/1440, 1)
		noise += -noise/60 + 0.05*math.Sqrt(2.0/60)*rng.NormFloat64()
		switch shape {
		case "daily":
			level = wave(day)
		case "weekly":
			level = wave(day)
			if i/1440%7 >= 5 {
				level *= 0.4
			}
		case "bursts":
			level = wave(day)
			if m := i % 1440; m%480 >= 60 && m%480 < 70 {
				level *= 1.5
			}
		case "steps":
			if rng.Float64() < 1.0/240 {
				level = 0.2 + rng.Float64()
			}
		case "walk":
			level = math.Exp(math.Log(level)*(1-1.0/360) + 0.6*math.Sqrt(2.0/360)*rng.NormFloat64())
		case "flat":
			noise = 0
		}
		t.Rate[i] = 10 * level * math.Exp(noise)
	}
	return t, nil
}

// wave is a day's demand: a fifth of the height at night, a rise within two hours of the morning, a dent at noon, a slow end.
func wave(day float64) float64 {
	h := day * 24
	rise := 1 / (1 + math.Exp(-(h-8)*3))
	fall := 1 / (1 + math.Exp((h-20)*1.2))
	return 0.2 + 0.8*rise*fall - 0.15*math.Exp(-(h-12.5)*(h-12.5)*2)
}
