package route

import (
	"math"
	"slices"
)

// exactly is how far a share may be from what whole numbers say of it; far below any weight's step (1e-6 at the finest).
const exactly = 1e-9

// Matched is the canary's share at which each of its pods gets what each stable pod gets: c/(c+s) of ready pods. At any
// smaller share the canary is flattered: of 1 canary and 8 stable pods, 5 % gives the canary pod 42 % of a stable pod's
// load. NaN where no pod is ready.
func Matched(canary, stable int) float64 {
	if canary < 0 || stable < 0 || canary+stable == 0 {
		return math.NaN()
	}
	return float64(canary) / (float64(canary) + float64(stable))
}

// Round turns a share into whole weights that add up to total, as near as they can be. A share between 0 and 1 leaves each
// side at least one unit, where there are two to share out: rounded to nothing, a canary would be judged by no requests,
// or the stable version would be off without anyone having asked for it. A share outside 0 to 1 is taken to the nearer end,
// and NaN leaves the canary nothing.
func Round(share float64, total int64) (stable, canary int64) {
	if total <= 0 || !(share > 0) {
		return max(total, 0), 0
	}
	if share >= 1 {
		return 0, total
	}
	canary = int64(math.Round(share * float64(total)))
	if total >= 2 {
		canary = min(max(canary, 1), total-1)
	}
	return total - canary, canary
}

// Share is the opposite of Round. NaN where the weights add up to nothing.
func Share(stable, canary int64) float64 {
	if stable < 0 || canary < 0 || (stable == 0 && canary == 0) {
		return math.NaN()
	}
	return float64(canary) / (float64(stable) + float64(canary))
}

// Total returns the smallest of the candidates, given in rising order, in which a share is exact, and the last where it is
// in none. Most steps are whole percents, and 90 and 10 say more to a reader than 9000 and 1000.
func Total(share float64, candidates ...int64) int64 {
	var last int64
	for _, last = range candidates {
		if Exact(share, last) {
			break
		}
	}
	return last
}

// Exact reports whether a share is a whole number of parts of total.
func Exact(share float64, total int64) bool {
	_, canary := Round(share, total)
	return total > 0 && math.Abs(float64(canary)/float64(total)-share) < exactly
}

// Same reports whether two splits mean the same where weights add up to total: the same versions and matches, and shares
// that become the same weights.
func Same(a, b Split, total int64) bool {
	if a.Stable != b.Stable || a.Canary != b.Canary || !slices.Equal(a.Matches, b.Matches) {
		return false
	}
	if math.IsNaN(a.Share) || math.IsNaN(b.Share) {
		return false
	}
	_, x := Round(a.Share, total)
	_, y := Round(b.Share, total)
	return x == y
}
