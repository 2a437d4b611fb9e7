package judge

import "math"

// dispersion estimates by what factor counts vary more than independent requests would.
type dispersion struct {
	Arms   scales   `json:"arms"`
	Groups []scales `json:"groups,omitempty"`
	// Chi2 and Freedom are of complete blocks of 1, 2, 4, … looks, summed over series.
	Chi2    [blockSizes]float64 `json:"chi2"`
	Freedom [blockSizes]float64 `json:"freedom"`
}

// scales holds the open blocks of a series, and all of it: the residual and its variance were requests independent.
type scales struct {
	Residual [blockSizes]float64 `json:"residual"`
	Variance [blockSizes]float64 `json:"variance"`
	Looks    int                 `json:"looks"`
	Sum      float64             `json:"sum"`   // of the residuals
	SumOf    float64             `json:"sumOf"` // of the variances
}

const (
	blockSizes = 5 // 1 to 16 looks
	maxGroups  = 16
	// The prior of the factor, as if that many degrees of freedom had been seen: requests are never quite independent, and the first
	// looks have little to go by. Each block size has the estimate of the one below for its prior.
	priorDispersion = 1.1
	priorFreedom    = 6
	// maxTail bounds smallSample where there are only a few pods.
	maxTail = 5
	// minVariance is how much variance a block must have before its χ² says anything: with fewer marked requests it is
	// either about 0 or huge.
	minVariance = 0.5
)

// factor is at least 1: the largest of the estimates for blocks of each size and for the whole time so far.
func (d *dispersion) factor() float64 {
	factor, prior := 1.0, priorDispersion
	for s := range blockSizes {
		prior = (prior*priorFreedom + d.Chi2[s]) / (priorFreedom + d.Freedom[s])
		factor = max(factor, prior)
	}
	// Pods that differ for good: the whole time is one block. What is more than the blocks explain counts as surely as so few pods allow.
	chi2, live := 0.0, 0.0
	for _, g := range d.Groups {
		if g.SumOf >= minVariance {
			chi2 += g.Sum * g.Sum / g.SumOf
			live++
		}
	}
	if live >= 2 {
		freedom := live - 1
		excess := max(0, chi2/live-prior)
		factor = max(factor, prior+excess*smallSample(freedom))
	}
	return factor
}

// smallSample is by how much a variance from so few degrees of freedom must be raised so that a normal's tail at 8 nats (about what
// the best ratio has when a metric fails) is Student's: ν·(e^(2·8/ν)−1) / (2·8). With nine old pods it is about 3.
func smallSample(freedom float64) float64 {
	return min(maxTail, freedom*math.Expm1(16/freedom)/16)
}

// addGroups compares the groups of old with one another; false where fewer than two served.
func (d *dispersion) addGroups(groups []group) bool {
	marked, all, live := 0.0, 0.0, 0
	for _, g := range groups {
		marked += g.marked
		all += g.all
		if g.all > 0 {
			live++
		}
	}
	if live < 2 {
		return false
	}
	if len(d.Groups) != len(groups) {
		d.Groups = make([]scales, len(groups))
	}
	// The groups' residuals sum to 0: each is worth (live−1)/live of a degree of freedom.
	freedom := float64(live-1) / float64(live)
	for i, g := range groups {
		share := g.all / all
		d.add(&d.Groups[i], g.marked-marked*share, marked*share*(1-share)*(1-marked/all), freedom)
	}
	return true
}

// addArms compares new's share of the marked requests with what the estimate before this look foretold. It takes a version that gets
// worse for dispersion, so it is the second choice.
// Drawn without putting back, from requests of which only the share unmarked is not marked, the variance is that much smaller.
func (d *dispersion) addArms(x, e, theta, ratio, unmarked float64) {
	p := theta * ratio / (1 - theta + theta*ratio)
	d.add(&d.Arms, x-e*p, e*p*(1-p)*unmarked, 1)
}

func (d *dispersion) add(series *scales, residual, variance, freedom float64) {
	series.Looks++
	series.Sum += residual
	series.SumOf += variance
	for s := range blockSizes {
		series.Residual[s] += residual
		series.Variance[s] += variance
		// A block with too little in it goes on growing.
		if series.Looks%(1<<s) != 0 || series.Variance[s] < minVariance {
			continue
		}
		d.Chi2[s] += freedom * series.Residual[s] * series.Residual[s] / series.Variance[s]
		d.Freedom[s] += freedom
		series.Residual[s], series.Variance[s] = 0, 0
	}
}
