package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"headroom.dev/headroom/recommender"
)

// named keeps the traces whose name contains part.
func named(list []*trace, part string) []*trace {
	return slices.DeleteFunc(list, func(t *trace) bool { return !strings.Contains(t.name, part) })
}

// judge writes the tables and figures of the accuracy.
func (r *report) judge(all []setting, list []*outcome, everything bool) {
	for _, resource := range []recommender.Resource{recommender.CPU, recommender.Memory} {
		group := of(list, resource)
		if len(group) == 0 {
			continue
		}
		means := meanOf(group)
		shown := r.shown(all, means, everything)
		if len(group) > 1 {
			r.table(fmt.Sprintf("%s, mean of %d traces", resource, len(group)), all, means, shown)
			r.best(all, means)
		}
		for _, o := range group {
			r.table(fmt.Sprintf("%s of %s (%d series, %.1f days)", resource, o.name, len(o.series), o.series[0].duration().Hours()/24), all, o.scores, shown)
		}
		fronts := families(group)
		r.pareto(all, fronts, group)
		r.figures(all, fronts, group)
	}
}

// shown are the settings with a row: those told by name, and what was best of the others when all was known.
func (r *report) shown(all []setting, means []score, everything bool) []int {
	vpa := means[find(all, "VPA")].underTime
	chosen := []int{tuned(all, means, func(s setting) bool { return s.group == groupTuned }, vpa), tuned(all, means, func(s setting) bool { return s.group == groupFixed }, vpa)}
	var list []int
	for j, s := range all {
		if everything || s.named || slices.Contains(chosen, j) || s.group == groupOurs && s.risk > 0 {
			list = append(list, j)
		}
	}
	return list
}

func (r *report) table(title string, all []setting, scores []score, shown []int) {
	fmt.Fprintf(&r.tables, "\n%s:\n\n", title)
	fmt.Fprintln(&r.tables, "| setting | slack | under-time | under-volume | OOM kills | changes/day | 95 % of a step up, down | interval held it, upper ÷ lower |")
	fmt.Fprintln(&r.tables, "|---|---|---|---|---|---|---|---|")
	for _, j := range shown {
		s := scores[j]
		name := all[j].name
		switch {
		case s.unsized == 1:
			fmt.Fprintf(&r.tables, "| %s | no recommendation | | | | | | |\n", name)
			continue
		case s.unsized > 0:
			name += fmt.Sprintf(" (none in %.1f %% of time)", 100*s.unsized)
		}
		fmt.Fprintf(&r.tables, "| %s | %s | %s | %s | %.0f | %.2f | %s, %s | %s, %s |\n", name, percent(s.slack), percent(s.underTime), percent(s.underVolume),
			s.kills, s.changes, known("%.1f h", s.up), known("%.1f h", s.down), percent(s.covered), known("%.2f", s.width))
	}
}

// best tells the fixed settings that are best in one metric each, and at the VPA's under-time.
func (r *report) best(all []setting, means []score) {
	isFixed := func(s setting) bool { return s.group == groupFixed || s.group == groupKRR }
	fmt.Fprint(&r.tables, "\nBest of the fixed percentiles, each chosen when all was known:")
	for _, m := range []struct {
		name  string
		value func(score) float64
	}{
		{"slack", func(s score) float64 { return s.slack }},
		{"under-time", func(s score) float64 { return s.underTime }},
		{"under-volume", func(s score) float64 { return s.underVolume }},
		{"changes", func(s score) float64 { return s.changes }},
	} {
		if j := least(all, means, isFixed, m.value); j >= 0 {
			fmt.Fprintf(&r.tables, " %s: %s (%.4g);", m.name, all[j].name, m.value(means[j]))
		}
	}
	vpa := means[find(all, "VPA")]
	if j := tuned(all, means, isFixed, vpa.underTime); j >= 0 {
		fmt.Fprintf(&r.tables, " least slack at no more than the VPA's under-time: %s (%s)", all[j].name, percent(means[j].slack))
	}
	fmt.Fprintln(&r.tables, ".")
}

// against compares the frontier of ours with the VPA on one trace: its slack, ours at its under-time.
func against(all []setting, scores []score) (vpa, own float64) {
	s := scores[find(all, "VPA")]
	return s.slack, slackAt(frontier(spots(all, scores, isOurs)), s.underTime)
}

// pareto tells, trace by trace and family by family, what ours would have at the VPA's under-time, and what beats it.
func (r *report) pareto(all []setting, fronts, traces []*outcome) {
	fmt.Fprintln(&r.tables, "\n| trace | VPA: slack at under-time | headroom's slack there | ratio | fixed, best of all | baselines that beat headroom's default in slack, under-time, under-volume and changes at once |")
	fmt.Fprintln(&r.tables, "|---|---|---|---|---|---|")
	own := find(all, groupOurs)
	list := traces
	for _, f := range fronts {
		if !slices.ContainsFunc(traces, func(o *outcome) bool { return o.trace == f.trace }) {
			list = append(slices.Clone(list), f)
		}
	}
	for _, o := range list {
		vpa, slack := against(all, o.scores)
		under := o.scores[find(all, "VPA")].underTime
		fixed := slackAt(frontier(spots(all, o.scores, func(s setting) bool { return s.group == groupFixed || s.group == groupKRR })), under)
		beaten := "no recommendation"
		if o.scores[own].unsized < 1 {
			beaten = some(dominating(all, o.scores, o.scores[own]))
		}
		fmt.Fprintf(&r.tables, "| %s | %s at %s | %s | %s | %s | %s |\n", o.name, percent(vpa), percent(under), percent(slack), known("%.2f", slack/vpa), percent(fixed), beaten)
	}
}

// some names the first few.
func some(names []string) string {
	const few = 3
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > few:
		return fmt.Sprintf("%d: %s, …", len(names), strings.Join(names[:few], ", "))
	}
	return strings.Join(names, ", ")
}

// figures are those with a goal.
func (r *report) figures(all []setting, fronts, traces []*outcome) {
	vpa, own, twin := find(all, "VPA"), find(all, groupOurs), find(all, "recommender/vpa")
	apart := 0.0
	for _, o := range traces {
		if !o.scores[vpa].same(o.scores[twin]) {
			apart++
		}
	}
	r.AddAtMost(string(traces[0].resource())+": traces on which recommender/vpa differs from the VPA", apart, "", 0)
	for _, o := range traces {
		theirs, ours := against(all, o.scores)
		r.AddAtMost(o.name+": slack of the VPA's, at its under-time", ours/theirs, "", 0.8)
	}
	for _, f := range fronts {
		beaten := math.NaN()
		if f.scores[own].unsized < 1 {
			beaten = float64(len(dominating(all, f.scores, f.scores[own])))
		}
		r.AddAtMost(f.family+": baselines that beat the default in everything", beaten, "", 0)
		for _, m := range []struct {
			who string
			s   score
		}{{"VPA", f.scores[vpa]}, {groupOurs, f.scores[own]}} {
			r.Add(f.family+": slack, "+m.who, 100*m.s.slack, "%")
			r.Add(f.family+": under-time, "+m.who, 100*m.s.underTime, "%")
			r.Add(f.family+": under-volume, "+m.who, 100*m.s.underVolume, "%")
			r.Add(f.family+": OOM kills, "+m.who, m.s.kills, "")
			r.Add(f.family+": changes a day, "+m.who, m.s.changes, "")
		}
		r.Add(f.family+": intervals that held what was needed, VPA", 100*f.scores[vpa].covered, "%")
		if held := f.scores[own].covered; !math.IsNaN(held) || f.scores[own].unsized == 1 {
			r.AddAtLeast(f.family+": intervals that held what was needed, headroom", 100*held, "%", 100*recommender.DefaultPolicy(f.resource()).Confidence)
		}
	}
}

func percent(share float64) string { return known("%.2f %%", 100*share) }

// known formats a number, or says that it is not known.
func known(format string, v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf(format, v)
}
