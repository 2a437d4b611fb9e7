package load

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"time"
)

// Arrival is one request of a schedule.
type Arrival struct {
	At     time.Duration // since the start
	Tokens Tokens        // zero where the pattern says nothing of them
}

// Tokens is the size of a request.
type Tokens struct {
	Prompt int
	Output int
}

// Pattern is demand over time.
type Pattern interface {
	// Rate returns the expected requests per second at t since the start; 0 outside of the pattern.
	Rate(t time.Duration) float64
	// Duration returns how long the pattern is.
	Duration() time.Duration
	// Arrivals returns the schedule that the seed stands for, in order of time. It is computed as it is read and is
	// the same at every reading.
	Arrivals(seed uint64) iter.Seq[Arrival]
}

// Limits of what one process can sensibly offer.
const (
	maxRate     = 1e6 // requests per second
	maxDuration = 366 * 24 * time.Hour
)

func checkRate(name string, rate float64) error {
	if !(rate >= 0 && rate <= maxRate) { // so, NaN is refused too
		return fmt.Errorf("%s %g is not in 0 to %g requests/s", name, rate, maxRate)
	}
	return nil
}

func checkDuration(name string, d time.Duration) error {
	if d <= 0 || d > maxDuration {
		return fmt.Errorf("%s %s is not above 0s and at most %s", name, d, maxDuration)
	}
	return nil
}

// poisson returns the arrivals of a Poisson process with that rate, by thinning: candidates come at the constant rate
// peak, which rate never exceeds, and each stays with probability rate/peak (Lewis and Shedler 1979). It is exact for any
// shape of rate.
func poisson(rate func(time.Duration) float64, peak float64, length time.Duration, seed uint64) iter.Seq[Arrival] {
	return func(yield func(Arrival) bool) {
		if peak <= 0 {
			return
		}
		rng := newRNG(seed, streamArrivals)
		for seconds := rng.ExpFloat64() / peak; seconds < length.Seconds(); seconds += rng.ExpFloat64() / peak {
			at := time.Duration(seconds * float64(time.Second))
			if rng.Float64()*peak < rate(at) && !yield(Arrival{At: at}) {
				return
			}
		}
	}
}

// Streams keep the uses of one seed independent of each other.
const (
	streamArrivals = iota
	streamTargets
	streamNoise
)

func newRNG(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, stream))
}

// Step is a constant rate for a time.
type Step struct {
	Rate float64 // requests per second
	For  time.Duration
}

type steps []Step

// Constant returns Poisson arrivals at one rate.
func Constant(rate float64, length time.Duration) (Pattern, error) {
	return Steps([]Step{{Rate: rate, For: length}})
}

// Steps returns Poisson arrivals at one rate after another.
func Steps(list []Step) (Pattern, error) {
	if len(list) == 0 {
		return nil, errors.New("no steps")
	}
	total := time.Duration(0)
	for i, step := range list {
		name := fmt.Sprintf("step %d: ", i+1)
		if err := checkRate(name+"rate", step.Rate); err != nil {
			return nil, err
		}
		if err := checkDuration(name+"length", step.For); err != nil {
			return nil, err
		}
		total += step.For
		if err := checkDuration(name+"length so far", total); err != nil {
			return nil, err
		}
	}
	return steps(append([]Step(nil), list...)), nil
}

func (s steps) Rate(t time.Duration) float64 {
	if t < 0 {
		return 0
	}
	for _, step := range s {
		if t < step.For {
			return step.Rate
		}
		t -= step.For
	}
	return 0
}

func (s steps) Duration() time.Duration {
	total := time.Duration(0)
	for _, step := range s {
		total += step.For
	}
	return total
}

func (s steps) Arrivals(seed uint64) iter.Seq[Arrival] {
	peak := 0.0
	for _, step := range s {
		peak = max(peak, step.Rate)
	}
	return poisson(s.Rate, peak, s.Duration(), seed)
}

type sine struct {
	mean, amplitude float64
	period, length  time.Duration
}

// Sine returns Poisson arrivals whose rate swings about mean, from where it rises first.
func Sine(mean, amplitude float64, period, length time.Duration) (Pattern, error) {
	checks := []error{
		checkRate("mean", mean), checkRate("amplitude", amplitude), checkRate("mean plus amplitude", mean+amplitude),
		checkDuration("period", period), checkDuration("length", length),
	}
	for _, err := range checks {
		if err != nil {
			return nil, err
		}
	}
	if amplitude > mean {
		return nil, fmt.Errorf("amplitude %g is larger than mean %g: the rate would fall below 0", amplitude, mean)
	}
	return sine{mean, amplitude, period, length}, nil
}

func (s sine) Rate(t time.Duration) float64 {
	if t < 0 || t >= s.length {
		return 0
	}
	return s.mean + s.amplitude*math.Sin(2*math.Pi*t.Seconds()/s.period.Seconds())
}

func (s sine) Duration() time.Duration { return s.length }

func (s sine) Arrivals(seed uint64) iter.Seq[Arrival] {
	return poisson(s.Rate, s.mean+s.amplitude, s.length, seed)
}
