package judge

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/integrate/quad"
	"gonum.org/v1/gonum/stat/distuv"
)

// The closed form against the integral that it stands for: the mean likelihood of all rates, weighted by the prior.
func TestTheBetaMixtureIsItsIntegral(t *testing.T) {
	prior := distuv.Beta{Alpha: priorMarked, Beta: priorUnmarked}
	for _, c := range []struct{ x, n, p float64 }{{0, 50, 0.01}, {3, 100, 0.01}, {1, 1000, 0.02}, {40, 60, 0.5}, {7.5, 300.25, 0.02}} {
		likelihood := func(p float64) float64 {
			return math.Exp(xlogy(c.x, p/c.p) + xlogy(c.n-c.x, (1-p)/(1-c.p)))
		}
		// p = u² takes the pole of the prior at 0.
		integral := quad.Fixed(func(u float64) float64 { return likelihood(u*u) * prior.Prob(u*u) * 2 * u }, 0, 1, 4000, nil, 0)
		require.InEpsilon(t, math.Log(integral), logBayes(c.x, c.n, c.p), 1e-4, "%+v", c)
	}
}

// With a constant share the grid is a mixture like the beta-binomial Bayes factor BF = B(a+x, b+y) / (B(a,b)·θ^x·(1−θ)^y): with a beta
// prior put on its ratios they agree.
func TestTheGridIsTheBetaBinomialTest(t *testing.T) {
	const theta, k = 0.1, 50.0
	a, b := k*theta, k*(1-theta)
	prior := distuv.Beta{Alpha: a, Beta: b}
	for _, c := range []struct{ x, y float64 }{{0, 30}, {3, 30}, {12, 40}, {30, 60}, {100, 900}} {
		closed := logBeta(a+c.x, b+c.y) - logBeta(a, b) - xlogy(c.x, theta) - xlogy(c.y, 1-theta)
		mixed := quad.Fixed(func(p float64) float64 {
			r := p / (1 - p) * (1 - theta) / theta
			return math.Exp(c.x*math.Log(r)-(c.x+c.y)*math.Log1p(theta*(r-1))) * prior.Prob(p)
		}, 0, 1, 4000, nil, 0)
		require.InDelta(t, closed, math.Log(mixed), 1e-4, "%+v", c)
	}
}

// A mean over every way in which the marked requests can fall is at most 1: by enumeration, for all small cases, where new is as old or
// better. So the products are test martingales.
func TestOneIntervalIsAnEValue(t *testing.T) {
	g := newGrids()
	for _, n := range []struct{ fresh, old, marked float64 }{{3, 9, 1}, {3, 9, 6}, {10, 10, 7}, {10, 10, 20}, {1, 40, 5}, {40, 1, 30}} {
		for _, odds := range []float64{1, 0.8, 0.3} { // Fisher's non-central hypergeometric
			sum, mean := 0.0, make([]float64, len(g.worse))
			for x := 0.0; x <= min(n.marked, n.fresh); x++ {
				if n.marked-x > n.old {
					continue
				}
				p := math.Exp(logChoose(n.fresh, x)+logChoose(n.old, n.marked-x)) * math.Pow(odds, x)
				var c contrast
				c.add(g, interval{new: x, newAll: n.fresh, old: n.marked - x, oldAll: n.old})
				sum += p
				for i := range mean {
					mean[i] += p * math.Exp(c.WorsePlain[i])
				}
			}
			for i := range mean {
				if sum > 0 {
					require.LessOrEqual(t, mean[i]/sum, 1+1e-9, "%+v, odds %v, ratio %v", n, odds, g.worse[i])
				}
			}
		}
	}
}

func logChoose(n, k float64) float64 { return -math.Log(n+1) - logBeta(n-k+1, k+1) }

// The weighted beginnings against a list of all of them.
func TestBeginningsSumToOne(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	g := newGrids()
	var c contrast
	var gains []float64 // of the third ratio
	for range 40 {
		in := interval{new: float64(random.IntN(5)), newAll: 100, old: float64(random.IntN(20)), oldAll: 900}
		before, phi := 0.0, c.Dispersion.factor()
		if c.WorsePlain != nil {
			before = c.WorsePlain[2]
		}
		c.add(g, in)
		gains = append(gains, min(maxGain, (c.WorsePlain[2]-before)/phi))
	}
	dumb, weights := 0.0, 0.0
	for start := range gains {
		weight := 0.5
		if start > 0 {
			weight = 0.5 / float64(start*(start+1))
		}
		sum := 0.0
		for _, gain := range gains[start:] {
			sum += gain
		}
		dumb, weights = dumb+weight*math.Exp(sum), weights+weight
	}
	require.InDelta(t, math.Log(dumb), c.Worse[2], 1e-9)
	require.InDelta(t, 1, weights+c.Unstarted, 1e-12)
}

func TestMirroredArmsHaveTheInverseRatio(t *testing.T) {
	g := newGrids()
	random := rand.New(rand.NewPCG(2, 1))
	var c, mirrored contrast
	for range 20 {
		in := interval{new: float64(random.IntN(30)), newAll: float64(500 + random.IntN(100)), old: float64(random.IntN(60)), oldAll: float64(900 + random.IntN(100))}
		c.add(g, in)
		mirrored.add(g, interval{new: in.old, newAll: in.oldAll, old: in.new, oldAll: in.newAll})
	}
	require.InEpsilon(t, 1/c.estimate(), mirrored.estimate(), 1e-3)
	low, high := c.confidence(0.05)
	lowMirrored, highMirrored := mirrored.confidence(0.05)
	require.InEpsilon(t, 1/high, lowMirrored, 1e-3)
	require.InEpsilon(t, 1/low, highMirrored, 1e-3)
}

// The ratio's maximum by hand, and the likelihood's where shares differ between intervals.
func TestTheEstimateIsTheMostLikelyRatio(t *testing.T) {
	g := newGrids()
	var c contrast
	require.Equal(t, 1.0, c.estimate())
	c.add(g, interval{new: 30, newAll: 1000, old: 90, oldAll: 9000})
	require.InEpsilon(t, 3, c.estimate(), 0.01)
	c.add(g, interval{new: 150, newAll: 5000, old: 50, oldAll: 5000})
	require.InEpsilon(t, 3, c.estimate(), 0.01, "×3 in both, at other shares")
	low, high := c.confidence(0.01)
	require.Less(t, low, 3.0)
	require.Greater(t, high, 3.0)
	require.Greater(t, low, 1.5)
	require.Less(t, high, 6.0)
}

func TestExtremeCountsStayFinite(t *testing.T) {
	g := newGrids()
	for _, in := range []interval{
		{new: 0, newAll: 1e12, old: 0, oldAll: 1e12, margin: 1.5},
		{new: 1e12, newAll: 1e12, old: 0, oldAll: 1e12, margin: 1.5},
		{new: 0, newAll: 1e12, old: 1e12, oldAll: 1e12, margin: 1.5},
		{new: 1e14, newAll: 1e15, old: 1e3, oldAll: 1e3, margin: 30},
		{new: 1e-9, newAll: 1e-3, old: 1e-9, oldAll: 1e-3, margin: 1.01},
		{new: 1, newAll: 0, old: 1, oldAll: 10, margin: 1.5},
	} {
		var c contrast
		for range 1000 {
			c.add(g, in)
		}
		for _, v := range []float64{c.worse(), c.within(), c.estimate()} {
			require.True(t, finite(v), "%+v: %v", in, v)
		}
		low, high := c.confidence(0.01)
		require.LessOrEqual(t, low, high, "%+v", in)
		require.True(t, finite(c.Dispersion.factor()), "%+v", in)
	}
	low, high := rateBounds(5e8, 1e10, 0.01)
	require.Less(t, low, 0.05)
	require.Greater(t, high, 0.05)
	low, high = rateBounds(0, 3000, 0.01)
	require.Zero(t, low)
	require.Less(t, high, 0.005)
}

// Time-uniform bounds hold at every look at once: at 5% at most 5% of long runs may ever leave them.
func TestRateBoundsHoldAtEveryLook(t *testing.T) {
	const seed, runs = 3, 400
	source := rand.NewPCG(seed, 1)
	for _, p := range []float64{0.002, 0.02, 0.3} {
		left := 0
		for range runs {
			x, n := 0.0, 0.0
			for range 60 {
				x += distuv.Binomial{N: 50, P: p, Src: source}.Rand()
				n += 50
				if logBayes(x, n, p) >= -math.Log(0.05) {
					left++
					break
				}
			}
		}
		require.LessOrEqual(t, left, runs*5/100, "seed %d, rate %v", seed, p)
	}
}

func TestDispersionSeesBurstsAndPodsThatDiffer(t *testing.T) {
	// The median of 21 services with eight old pods.
	factorOf := func(draw func(source rand.Source, pod int) float64) float64 {
		factors := make([]float64, 0, 21)
		for seed := range uint64(21) {
			var d dispersion
			source := rand.NewPCG(seed, 1)
			for range 60 {
				groups := make([]group, maxGroups)
				for i := range 8 {
					groups[i] = group{draw(source, i), 1000}
				}
				require.True(t, d.addGroups(groups))
			}
			factors = append(factors, d.factor())
		}
		return median(factors)
	}
	require.Less(t, factorOf(func(source rand.Source, _ int) float64 { return distuv.Poisson{Lambda: 10, Src: source}.Rand() }), 1.6)
	bursts := factorOf(func(source rand.Source, _ int) float64 { return 5 * distuv.Poisson{Lambda: 2, Src: source}.Rand() })
	require.InDelta(t, 6, bursts, 1.5, "bursts of 5; the largest of several estimates leans upwards")
	differ := factorOf(func(source rand.Source, i int) float64 {
		return distuv.Poisson{Lambda: 8 + float64(i%2)*4, Src: source}.Rand()
	})
	require.Greater(t, differ, 15.0, "600 counts that differ by 20% have 24 times the variance")
	var one dispersion
	require.False(t, one.addGroups([]group{{5, 100}, {}, {}}), "one group has nobody to be compared with")
}
