package main

import (
	"cmp"
	"math"
	"slices"
)

// spot is a setting in the plane of under-time and slack.
type spot struct {
	under, slack float64
	name         string
}

// frontier is what no other spot beats in both, by under-time.
func frontier(all []spot) []spot {
	all = slices.DeleteFunc(slices.Clone(all), func(s spot) bool { return math.IsNaN(s.under) || math.IsNaN(s.slack) })
	slices.SortFunc(all, func(a, b spot) int { return cmp.Or(cmp.Compare(a.under, b.under), cmp.Compare(a.slack, b.slack)) })
	var kept []spot
	for _, s := range all {
		if len(kept) == 0 || s.slack < kept[len(kept)-1].slack {
			kept = append(kept, s)
		}
	}
	return kept
}

// slackAt is the slack of a frontier at an under-time, in a straight line between its spots: what one gets who uses each of
// both settings part of the time. Right of the last spot it is that one's; left of the first one it is unknown (NaN).
func slackAt(front []spot, under float64) float64 {
	i := slices.IndexFunc(front, func(s spot) bool { return s.under > under })
	switch {
	case len(front) == 0 || i == 0:
		return math.NaN()
	case i < 0:
		return front[len(front)-1].slack
	}
	a, b := front[i-1], front[i]
	return a.slack + (b.slack-a.slack)*(under-a.under)/(b.under-a.under)
}

// spots are those of the settings that are kept.
func spots(all []setting, scores []score, keep func(setting) bool) []spot {
	var list []spot
	for j, s := range all {
		if keep(s) && scores[j].unsized == 0 {
			list = append(list, spot{scores[j].underTime, scores[j].slack, s.name})
		}
	}
	return list
}

func isOurs(s setting) bool { return s.group == groupOurs }

// dominates says whether a is nowhere worse than b, and better somewhere. What is unknown dominates nothing.
func dominates(a, b score) bool {
	better := false
	x, y := a.compared(), b.compared()
	for k := range x {
		const equal = 1e-9 // sums in another order
		if !(x[k] <= y[k]+equal) {
			return false
		}
		better = better || x[k] < y[k]-equal
	}
	return better && a.unsized <= b.unsized
}

// dominating are the baselines that dominate a score.
func dominating(all []setting, scores []score, own score) []string {
	var names []string
	for j, s := range all {
		if !isOurs(s) && dominates(scores[j], own) {
			names = append(names, s.name)
		}
	}
	return names
}

// find is the index of the setting of a name, which must be there.
func find(all []setting, name string) int {
	return slices.IndexFunc(all, func(s setting) bool { return s.name == name })
}

// tuned is the setting of some with the least slack among those with an under-time of at most under: chosen when all is known,
// as nobody can beforehand. −1 where there is none.
func tuned(all []setting, scores []score, keep func(setting) bool, under float64) int {
	best := -1
	for j, s := range all {
		if keep(s) && scores[j].unsized == 0 && scores[j].underTime <= under && (best < 0 || scores[j].slack < scores[best].slack) {
			best = j
		}
	}
	return best
}

// least is the setting of some that has the least of a metric.
func least(all []setting, scores []score, keep func(setting) bool, metric func(score) float64) int {
	best := -1
	for j, s := range all {
		if keep(s) && !math.IsNaN(metric(scores[j])) && (best < 0 || metric(scores[j]) < metric(scores[best])) {
			best = j
		}
	}
	return best
}
