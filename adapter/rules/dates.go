package rules

import (
	"github.com/prometheus/prometheus/model/labels"
)

// dates is what one evaluation knows of the age of the series that it read.
type dates struct {
	by         []string // the labels that lead from a result to its series, at most as many as a group has
	selections []*selection
	series     int // that were read
}

// group is the values of dates.by of a series or a result; empty where it lacks one.
type group [4]string

func groupOf(ls labels.Labels, by []string) (g group) {
	for i, name := range by {
		g[i] = ls.Get(name)
	}
	return g
}

// selection is what one selector of the expression found.
type selection struct {
	instant bool // it reads the newest sample alone: what has ended is out of the value
	groups  map[group]seen
	// partial has the groups again for results that lack some of the labels: by which they have, with the others blanked.
	partial map[[len(group{})]bool]map[group]seen
}

// seen sums up some series. Times are in ms.
type seen struct {
	live  int64 // the oldest of the newest samples of live series; none where there is no live one
	ended int64 // the newest sample of series that ended; never where none did
}

func (s seen) and(o seen) seen { return seen{min(s.live, o.live), max(s.ended, o.ended)} }

func nothing() seen { return seen{live: none, ended: never} }

func newSelection(instant bool) *selection {
	return &selection{instant: instant, groups: map[group]seen{}}
}

func (s *selection) add(g group, news seen) {
	if news == nothing() {
		return
	}
	addTo(s.groups, g, news)
}

func addTo(groups map[group]seen, g group, news seen) {
	if before, ok := groups[g]; ok {
		news = before.and(news)
	}
	groups[g] = news
}

// of sums up the series that agree with a result in the labels that it has.
func (s *selection) of(g group, labelCount int) seen {
	var has [len(g)]bool
	lacks := false
	for i := range labelCount {
		has[i] = g[i] != ""
		lacks = lacks || !has[i]
	}
	groups := s.groups
	if lacks {
		groups = s.blanked(has)
	}
	if got, ok := groups[g]; ok {
		return got
	}
	return nothing()
}

// blanked returns the groups with all labels emptied that are not in has. Expressions yield few kinds of results, so that
// there are few such maps.
func (s *selection) blanked(has [len(group{})]bool) map[group]seen {
	if groups, ok := s.partial[has]; ok {
		return groups
	}
	groups := map[group]seen{}
	for g, news := range s.groups {
		for i := range g {
			if !has[i] {
				g[i] = ""
			}
		}
		addTo(groups, g, news)
	}
	if s.partial == nil {
		s.partial = map[[len(group{})]bool]map[group]seen{}
	}
	s.partial[has] = groups
	return groups
}

// behind returns the time that dates a value for the group, and whether anything behind it is live; the package comment
// has the rule. Where nothing is known the time is never.
func (d *dates) behind(g group) (t int64, live bool) {
	oldest, newestEnd := int64(none), int64(never)
	for _, s := range d.selections {
		got := s.of(g, len(d.by))
		newestEnd = max(newestEnd, got.ended)
		switch {
		case got.live != none:
			oldest, live = min(oldest, got.live), true
		case got.ended != never && !s.instant:
			oldest = min(oldest, got.ended)
		}
	}
	if !live {
		return newestEnd, false
	}
	return oldest, true
}
