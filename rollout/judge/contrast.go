package judge

import (
	"math"
	"slices"
)

// contrast accumulates the evidence about one kind of marked requests: how many times as often new is marked as old.
type contrast struct {
	// Likelihood is of every ratio in ratios() against 1, in nats.
	Likelihood []float64 `json:"likelihood,omitempty"`
	// Worse is, for every ratio in worseRatios(), the log of the products so far, weighted by when they began.
	Worse []float64 `json:"worse,omitempty"`
	// Within is of every share of the margin in withinShares() against the margin itself, in nats.
	Within []float64 `json:"within,omitempty"`
	// Unstarted is the weight of the beginnings still to come.
	Unstarted float64 `json:"unstarted"`
	Looks     int     `json:"looks"`
	Marked    float64 `json:"marked"` // marked requests of both
	// Information is the sum of e·θ(1−θ)/dispersion: the precision of the log ratio near 1.
	Information float64 `json:"information"`

	Dispersion dispersion `json:"dispersion"`
}

// interval is what one interval says about marked requests.
type interval struct {
	new, old       float64 // marked
	newAll, oldAll float64 // all
	margin         float64 // the largest allowed ratio; 0 where there is none to test
	groups         []group // of old, in a fixed order; may be empty
}

// group is a fixed part of the old pods.
type group struct{ marked, all float64 }

// maxGain is the most that one look adds to a log e-value: a burst that nobody has seen before must not decide alone. Cutting a
// factor whose mean is ≤ 1 keeps its mean ≤ 1. e³ ≈ 20.
const maxGain = 3

func grid(steps ...float64) []float64 {
	for i, s := range steps {
		steps[i] = math.Exp(s)
	}
	return steps
}

// worseRatios are the ratios that count as evidence for "worse": 1.1 to 20.
func worseRatios() []float64 { return grid(.1, .2, .3, .4, .6, .8, 1, 1.3, 1.6, 2, 2.5, 3) }

// withinShares are the shares of the margin that count as evidence for "within the margin".
func withinShares() []float64 { return grid(-.05, -.1, -.2, -.3, -.4, -.6, -.8, -1.1, -1.5, -2, -3) }

const (
	ratioStep  = 0.15 // of the log
	ratioSteps = 24   // each way: 1/37 to 37
)

func ratios() []float64 {
	steps := make([]float64, 2*ratioSteps+1)
	for i := range steps {
		steps[i] = ratioStep * float64(i-ratioSteps)
	}
	return grid(steps...)
}

// logLikelihood of a ratio against 1: x of e marked requests are new's, which has the share theta of all.
func logLikelihood(ratio, x, e, theta float64) float64 {
	return x*math.Log(ratio) - e*math.Log1p(theta*(ratio-1))
}

// add takes one interval. Arms without requests say nothing.
func (c *contrast) add(in interval) {
	if in.newAll <= 0 || in.oldAll <= 0 {
		return
	}
	x, e, theta := in.new, in.new+in.old, in.newAll/(in.newAll+in.oldAll)
	c.Dispersion.addGroups(in.groups)
	phi := c.Dispersion.factor()
	c.Dispersion.addArms(x, e, theta, c.estimate())
	c.Looks++
	c.Marked += e
	c.Information += e * theta * (1 - theta) / phi
	c.start()
	for i, r := range ratios() {
		c.Likelihood[i] += logLikelihood(r, x, e, theta) / phi
	}
	for i, r := range worseRatios() {
		c.Worse[i] += min(maxGain, logLikelihood(r, x, e, theta)/phi)
	}
	if in.margin > 0 {
		base := logLikelihood(in.margin, x, e, theta)
		for i, s := range withinShares() {
			c.Within[i] += min(maxGain, (logLikelihood(in.margin*s, x, e, theta)-base)/phi)
		}
	}
}

// start makes room at the first look, and gives the look its share of the beginnings: 1/2 to the first, 1/2·1/(t(t−1)) to each later
// one, which is 1 in all.
func (c *contrast) start() {
	if c.Worse == nil {
		c.Likelihood = make([]float64, len(ratios()))
		c.Worse = slices.Repeat([]float64{math.Log(0.5)}, len(worseRatios()))
		c.Within = make([]float64, len(withinShares()))
		c.Unstarted = 0.5
		return
	}
	t := float64(c.Looks)
	weight := math.Log(0.5 / (t * (t - 1)))
	for i, w := range c.Worse {
		c.Worse[i] = logAdd(w, weight)
	}
	c.Unstarted = 0.5 / t
}

// worse is the log e-value against "no worse than old".
func (c *contrast) worse() float64 {
	if c.Worse == nil {
		return 0
	}
	return logAdd(logMean(c.Worse), math.Log(c.Unstarted))
}

// within is the log e-value against "as bad as the margin, or worse".
func (c *contrast) within() float64 {
	if c.Within == nil {
		return 0
	}
	return logMean(c.Within)
}

// estimate is the most likely ratio, within the grid; 1 where nothing is known.
func (c *contrast) estimate() float64 {
	if c.Likelihood == nil || c.Marked == 0 {
		return 1
	}
	best := 0
	for i, l := range c.Likelihood {
		if l > c.Likelihood[best] {
			best = i
		}
	}
	at := float64(best - ratioSteps)
	if best > 0 && best < len(c.Likelihood)-1 {
		a, b, d := c.Likelihood[best-1], c.Likelihood[best], c.Likelihood[best+1]
		if curve := a - 2*b + d; curve < 0 {
			at += (a - d) / (2 * curve)
		}
	}
	return math.Exp(ratioStep * at)
}

// confidence returns the time-uniform confidence interval of the ratio: what the mixture over all ratios does not reject at alpha.
// A side that the grid does not bound is 0 or +Inf.
func (c *contrast) confidence(alpha float64) (low, high float64) {
	low, high = 0, math.Inf(1)
	if c.Likelihood == nil {
		return low, high
	}
	bar := logMean(c.Likelihood) + math.Log(alpha) // a ratio whose likelihood is below is rejected
	at := func(i int, from, to float64) float64 {  // where the line between two points crosses the bar
		return math.Exp(ratioStep * (float64(i-ratioSteps) + (bar-from)/(to-from)))
	}
	first := slices.IndexFunc(c.Likelihood, func(l float64) bool { return l >= bar })
	if first > 0 {
		low = at(first-1, c.Likelihood[first-1], c.Likelihood[first])
	}
	last := len(c.Likelihood) - 1
	for last >= 0 && c.Likelihood[last] < bar {
		last--
	}
	if last >= 0 && last < len(c.Likelihood)-1 {
		high = at(last, c.Likelihood[last], c.Likelihood[last+1])
	}
	return low, high
}

// missingLooks is about how many more looks like the ones so far bring the evidence for "within" to target nats, where new is as
// the ratio says; +Inf where they never do.
func (c *contrast) missingLooks(target, margin, ratio float64) float64 {
	if c.Looks == 0 || c.Information == 0 || margin <= 0 || ratio >= margin {
		return math.Inf(1)
	}
	gap := math.Log(margin / ratio)
	perLook := min(maxGain, c.Information/float64(c.Looks)*gap*gap/2)
	return max(0, target-c.within()) / perLook
}

func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(a, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// logMean is the log of the mean of what the logs stand for.
func logMean(logs []float64) float64 {
	top := slices.Max(logs)
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(l - top)
	}
	return top + math.Log(sum/float64(len(logs)))
}
