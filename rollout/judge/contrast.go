package judge

import (
	"math"
	"slices"
)

// contrast accumulates the evidence about one kind of marked requests: how many times as often new is marked as old. Evidence is in
// nats. What a look adds is divided by the dispersion known then, which a test martingale needs. As that may grow later,
// the plain sums are kept, too: the evidence is the lesser of what was gathered and of the plain sum by today's dispersion.
type contrast struct {
	// Likelihood is of every ratio of the full grid against 1, plain.
	Likelihood []float64 `json:"likelihood,omitempty"`
	// Worse is, for every ratio of the grid for "worse", the log of the products so far, weighted by when they began;
	// WorsePlain the plain sum, and WorseLow the lowest that it has been.
	Worse      []float64 `json:"worse,omitempty"`
	WorsePlain []float64 `json:"worsePlain,omitempty"`
	WorseLow   []float64 `json:"worseLow,omitempty"`
	// Within is of every share of the margin against the margin itself; WithinPlain its plain sum.
	Within      []float64 `json:"within,omitempty"`
	WithinPlain []float64 `json:"withinPlain,omitempty"`
	// Unstarted is the weight of the beginnings still to come.
	Unstarted float64 `json:"unstarted"`
	Looks     int     `json:"looks"`
	Marked    float64 `json:"marked"` // marked requests of both
	// Information is the sum of e·θ(1−θ): the precision of the log ratio near 1, were requests independent.
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

// grids are the ratios that evidence is gathered about, and their logs.
type grids struct {
	worse, worseLog   []float64 // for "worse": 1.1 to 14
	within, withinLog []float64 // shares of the margin, for "within"
	full, fullLog     []float64 // for the estimate and its interval
}

const (
	ratioStep  = 0.2 // of the log
	ratioSteps = 18  // each way: 1/37 to 37
)

func newGrids() *grids {
	g := &grids{
		worseLog:  []float64{.1, .2, .35, .5, .75, 1, 1.4, 1.9, 2.6},
		withinLog: []float64{-.05, -.1, -.2, -.3, -.4, -.6, -.8, -1.2, -2, -3},
	}
	for i := range 2*ratioSteps + 1 {
		g.fullLog = append(g.fullLog, ratioStep*float64(i-ratioSteps))
	}
	exp := func(logs []float64) []float64 {
		values := make([]float64, len(logs))
		for i, l := range logs {
			values[i] = math.Exp(l)
		}
		return values
	}
	g.worse, g.within, g.full = exp(g.worseLog), exp(g.withinLog), exp(g.fullLog)
	return g
}

// add takes one interval. Arms without requests say nothing.
func (c *contrast) add(g *grids, in interval) {
	if in.newAll <= 0 || in.oldAll <= 0 {
		return
	}
	x, e, theta := in.new, in.new+in.old, in.newAll/(in.newAll+in.oldAll)
	share := e / (in.newAll + in.oldAll)
	compared := c.Dispersion.addGroups(in.groups)
	phi := c.Dispersion.factor()
	if !compared && c.Looks > 0 { // the first look has no estimate to be held to
		c.Dispersion.addArms(x, e, theta, c.estimate(), 1-share)
	}
	c.Looks++
	c.Marked += e
	c.Information += e * theta * (1 - theta)
	c.start(g)
	for i, l := range g.fullLog {
		c.Likelihood[i] += x*l - e*math.Log1p(theta*(g.full[i]-1))
	}
	for i, l := range g.worseLog {
		// The normaliser must not be below the hypergeometric one; both binomials are above it (Hoeffding 1963), whichever is nearer.
		gain := x*l - min(e*math.Log1p(theta*(g.worse[i]-1)), in.newAll*math.Log1p(share*(g.worse[i]-1)))
		c.Worse[i] += min(maxGain, gain/phi)
		c.WorseLow[i] = min(c.WorseLow[i], c.WorsePlain[i])
		c.WorsePlain[i] += gain
	}
	if in.margin <= 0 {
		return
	}
	base := e * math.Log1p(theta*(in.margin-1))
	for i, l := range g.withinLog {
		gain := x*l - e*math.Log1p(theta*(in.margin*g.within[i]-1)) + base
		c.Within[i] += min(maxGain, gain/phi)
		c.WithinPlain[i] += gain
	}
}

// start makes room at the first look, and gives the look its share of the beginnings: 1/2 to the first, 1/2·1/(t(t−1)) to each later
// one, which is 1 in all.
func (c *contrast) start(g *grids) {
	if c.Worse == nil {
		c.Likelihood = make([]float64, len(g.full))
		c.Worse = slices.Repeat([]float64{-math.Ln2}, len(g.worse))
		c.WorsePlain, c.WorseLow = make([]float64, len(g.worse)), make([]float64, len(g.worse))
		c.Within, c.WithinPlain = make([]float64, len(g.within)), make([]float64, len(g.within))
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
	phi, best := c.Dispersion.factor(), 0.0
	for i, sum := range c.WorsePlain {
		best = max(best, (sum-c.WorseLow[i])/phi)
	}
	return min(best, logAdd(logMean(c.Worse), math.Log(c.Unstarted)))
}

// within is the log e-value against "as bad as the margin, or worse".
func (c *contrast) within() float64 {
	if c.Within == nil {
		return 0
	}
	phi, best := c.Dispersion.factor(), math.Inf(-1)
	for _, sum := range c.WithinPlain {
		best = max(best, sum/phi)
	}
	return min(best, logMean(c.Within))
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
	phi := c.Dispersion.factor()
	scaled := make([]float64, len(c.Likelihood))
	for i, l := range c.Likelihood {
		scaled[i] = l / phi
	}
	bar := logMean(scaled) + math.Log(alpha)      // a ratio whose likelihood is below is rejected
	at := func(i int, from, to float64) float64 { // where the line between two points crosses the bar
		return math.Exp(ratioStep * (float64(i-ratioSteps) + (bar-from)/(to-from)))
	}
	first := slices.IndexFunc(scaled, func(l float64) bool { return l >= bar })
	if first > 0 {
		low = at(first-1, scaled[first-1], scaled[first])
	}
	last := len(scaled) - 1
	for last >= 0 && scaled[last] < bar {
		last--
	}
	if last >= 0 && last < len(scaled)-1 {
		high = at(last, scaled[last], scaled[last+1])
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
	perLook := min(maxGain, c.Information/c.Dispersion.factor()/float64(c.Looks)*gap*gap/2)
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
