package scaler

import "time"

// farthest is a lead time that horizons must reach whatever the step: pods load for as long in a compressed day, and beyond the
// last horizon there is no forecast to order them by.
const farthest = 10 * time.Minute

// horizons are 1, 3, 5 and 10 steps, and from there on twice as many until farthest is reached.
func horizons(step time.Duration) []time.Duration {
	all := []time.Duration{step, 3 * step, 5 * step, 10 * step}
	for last := 10 * step; last < farthest; {
		last *= 2
		all = append(all, last)
	}
	return all
}
