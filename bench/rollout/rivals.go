package main

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// rule is a judge of today: it sees a minute of both versions and says whether the new one is to go back.
type rule interface {
	look(fresh, old interval) bool
}

// thresholds holds the new version to fixed limits, as AnalysisTemplates of Argo Rollouts (failureLimit) and Canaries of Flagger
// (threshold) do: more than 2% errors, or a p95 of more than 1.2 times the long-run one. Flagger's counter of failed checks
// does not go back on a good one; nor does Argo's failureLimit.
type thresholds struct {
	allowed, breaches int
	errors, latency   bool
}

func (t *thresholds) look(fresh, _ interval) bool {
	if fresh.all == 0 {
		return false
	}
	if t.errors && fresh.bad/fresh.all > 0.02 || t.latency && fresh.p95() > 1.2*longRunP95 {
		t.breaches++
	}
	return t.breaches > t.allowed
}

// zTest compares the sums so far at every look as if it were the only one: errors, and requests over 2.5 s (about p93), at 5% one-sided.
type zTest struct {
	errors, latency         bool
	newAll, newBad, newSlow float64
	oldAll, oldBad, oldSlow float64
}

func (t *zTest) look(fresh, old interval) bool {
	slow := func(v interval) float64 {
		sum := 0.0
		for _, n := range v.hist[7:] {
			sum += n
		}
		return sum
	}
	t.newAll, t.newBad, t.newSlow = t.newAll+fresh.all, t.newBad+fresh.bad, t.newSlow+slow(fresh)
	t.oldAll, t.oldBad, t.oldSlow = t.oldAll+old.all, t.oldBad+old.bad, t.oldSlow+slow(old)
	worse := func(x, y float64) bool {
		p := (x + y) / (t.newAll + t.oldAll)
		return (x/t.newAll-y/t.oldAll)/math.Sqrt(p*(1-p)*(1/t.newAll+1/t.oldAll)) > 1.645
	}
	return t.errors && worse(t.newBad, t.oldBad) || t.latency && worse(t.newSlow, t.oldSlow)
}

// kayenta is NetflixACAJudge as spinnaker/kayenta has it (MannWhitneyClassifier; tolerance 0.25 and confidence 0.98 are constants
// there): the Hodges–Lehmann estimate of the shift between the minutes' values and its confidence interval, from all
// pairwise differences; High where the lower end is above a quarter of the estimate. It looks again every minute from the tenth on.
type kayenta struct {
	errors, latency bool
	newErr, oldErr  []float64
	newP95, oldP95  []float64
}

func (k *kayenta) look(fresh, old interval) bool {
	if fresh.all == 0 || old.all == 0 {
		return false
	}
	k.newErr, k.oldErr = append(k.newErr, fresh.bad/fresh.all), append(k.oldErr, old.bad/old.all)
	k.newP95, k.oldP95 = append(k.newP95, fresh.p95()), append(k.oldP95, old.p95())
	if len(k.newErr) < 10 {
		return false
	}
	return k.errors && kayentaHigh(k.newErr, k.oldErr) || k.latency && kayentaHigh(k.newP95, k.oldP95)
}

// kayentaHigh classifies after the removal of outliers that Kayenta leaves off unless told otherwise.
func kayentaHigh(experiment, control []float64) bool {
	differences := make([]float64, 0, len(experiment)*len(control))
	for _, e := range experiment {
		for _, c := range control {
			differences = append(differences, e-c)
		}
	}
	slices.Sort(differences)
	n, m := float64(len(experiment)), float64(len(control))
	// The interval's lower end by the normal approximation with its correction for continuity, as R's wilcox.test and Kayenta's copy of it.
	z := distuv.UnitNormal.Quantile(0.99)
	k := int(math.Floor(n*m/2 - 0.5 - z*math.Sqrt(n*m*(n+m+1)/12)))
	if k < 0 {
		return false
	}
	estimate := differences[len(differences)/2]
	return differences[k] > 0.25*math.Abs(estimate)
}
