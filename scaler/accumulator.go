package scaler

import (
	"math"
	"time"
)

// accumulator makes the mean of each step from samples.
type accumulator struct {
	start time.Time
	sum   float64
	count int
}

// add takes a sample and returns, with the first sample of the next step, the mean of the step that ended. A step without any
// known sample has none; steps without samples are left out.
func (a *accumulator) add(now time.Time, value float64, step time.Duration) (end time.Time, mean float64, done bool) {
	start := now.Truncate(step)
	if !a.start.IsZero() && start.After(a.start) {
		end, mean, done = a.start.Add(step), math.NaN(), true
		if a.count > 0 {
			mean = a.sum / float64(a.count)
		}
		a.sum, a.count = 0, 0
	}
	a.start = start
	if !math.IsNaN(value) {
		a.sum += value
		a.count++
	}
	return end, mean, done
}
