package judge

import "math"

// The prior of a rate in its bounds, as a beta distribution: it makes the bounds tight for rates of a few per cent and below.
const priorMarked, priorUnmarked = 0.5, 50.0

// logBayes is the log of the beta-binomial mixture against the rate p, for x marked of n requests: its exponential is a test
// martingale where p is the rate.
func logBayes(x, n, p float64) float64 { return logMixture(x, n) - xlogy(x, p) - xlogy(n-x, 1-p) }

func logMixture(x, n float64) float64 {
	return logBeta(priorMarked+x, priorUnmarked+n-x) - logBeta(priorMarked, priorUnmarked)
}

func logBeta(a, b float64) float64 {
	// For large arguments the difference of Lgamma loses a part in 1e16 of a·ln(a): 1e-5 nats at 1e9 requests.
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	return la + lb - lab
}

// xlogy is x·ln(y), 0 where x is.
func xlogy(x, y float64) float64 {
	if x <= 0 {
		return 0
	}
	return x * math.Log(y)
}

// rateBounds are the rates that x of n requests do not reject at alpha, at any time.
func rateBounds(x, n, alpha float64) (low, high float64) {
	if n <= 0 {
		return 0, 1
	}
	mixture, bar := logMixture(x, n), -math.Log(alpha)
	cross := func(inside, outside float64) float64 {
		for range 50 {
			middle := (inside + outside) / 2
			if mixture-xlogy(x, middle)-xlogy(n-x, 1-middle) < bar {
				inside = middle
			} else {
				outside = middle
			}
		}
		return outside
	}
	mean := x / n // always inside: no mixture is more likely than it
	low, high = 0, 1
	if x > 0 {
		low = cross(mean, 0)
	}
	if x < n {
		high = cross(mean, 1)
	}
	return low, high
}
