package store

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

// Append stores all that one successful scrape of one target yielded; none at all is a yield, too, and ends the target's
// series. at is the time of the scrape, to the millisecond; it must be later than the target's former one, else the
// scrape is refused (Late), so a wall clock that steps back is the caller's to hide. Labels of new series are copied: the
// caller may reuse their memory.
func (st *Store) Append(targetName string, at time.Time, samples []Sample) AppendResult {
	t := at.UnixMilli()
	st.mu.Lock()
	defer st.mu.Unlock()
	tg, ok := st.targets[targetName]
	if !ok {
		tg = &target{name: targetName, last: math.MinInt64}
		st.targets[targetName] = tg
	}
	if t <= tg.last {
		st.refused.LateScrapes++
		return AppendResult{Late: true}
	}
	tg.last = t
	tg.scrapes++
	var res AppendResult
	for i := range samples {
		st.add(tg, point{t, samples[i].Value}, samples[i].Labels, &res)
	}
	st.sweep(tg, &res)
	st.refused.UnwantedSamples += uint64(res.Unwanted)
	st.refused.DuplicateSamples += uint64(res.Duplicate)
	st.refused.OverLimitSamples += uint64(res.OverLimit)
	return res
}

// add stores one sample of the present scrape of tg.
func (st *Store) add(tg *target, p point, ls labels.Labels, res *AppendResult) {
	g := st.groups[ls]
	s := g.of(tg)
	if s == nil {
		keep, wanted := (*st.keep.Load())[ls.Get(nameLabel)]
		switch {
		case !wanted:
			res.Unwanted++
			return
		case st.series >= st.opts.MaxSeries || len(tg.series) >= st.opts.MaxSeriesPerTarget:
			res.OverLimit++
			return
		}
		if g == nil {
			g = st.newGroup(ls.Copy(), keep)
		}
		s = &series{group: g, target: tg}
		g.members = append(g.members, s)
		tg.series = append(tg.series, s)
		st.series++
	}
	if s.seen == tg.scrapes {
		res.Duplicate++
		return
	}
	s.seen = tg.scrapes
	st.push(s, p)
	res.Stored++
}

// of returns the group's series of tg, or nil.
func (g *group) of(tg *target) *series {
	if g == nil {
		return nil
	}
	for _, s := range g.members {
		if s.target == tg {
			return s
		}
	}
	return nil
}

func (st *Store) newGroup(ls labels.Labels, keep time.Duration) *group {
	name := ls.Get(nameLabel)
	f, ok := st.families[name]
	if !ok {
		f = &family{name: name, keep: (keep + slack).Milliseconds()}
		st.families[name] = f
	}
	g := &group{labels: ls, family: f, pos: len(f.groups)}
	f.groups = append(f.groups, g)
	st.groups[ls] = g
	return g
}

// push appends a point and leaves behind those that fell out of the window. When the array is full the window moves to a
// new one with half as much room again: at one sample a second and 30 s that is one allocation of 768 bytes every 16 s.
func (st *Store) push(s *series, p point) {
	oldest := p.t - s.group.family.keep
	drop := 0
	for drop < len(s.points) && s.points[drop].t <= oldest {
		drop++
	}
	if over := len(s.points) - drop + 1 - st.opts.MaxSamplesPerSeries; over > 0 {
		drop += over
		st.refused.CutSamples += uint64(over)
	}
	s.points = s.points[drop:]
	if n := len(s.points); n == cap(s.points) {
		s.points = append(slices.Grow([]point(nil), max(8, n+n/2)), s.points...)
		s.room = cap(s.points)
	}
	s.points = append(s.points, p)
}

// sweep ends the series of tg that its present scrape lacks, and drops those that ended so long ago that no rule looks
// at their last point.
func (st *Store) sweep(tg *target, res *AppendResult) {
	tg.series = slices.DeleteFunc(tg.series, func(s *series) bool {
		switch s.seen {
		case tg.scrapes:
			return false
		case tg.scrapes - 1:
			st.push(s, point{tg.last, math.Float64frombits(value.StaleNaN)})
			res.Ended++
			return false
		}
		old := s.points[len(s.points)-1].t <= tg.last-s.group.family.keep
		if old {
			st.unlink(s)
		}
		return old
	})
}

// unlink takes a series out of everything but its target's list.
func (st *Store) unlink(s *series) {
	st.series--
	g := s.group
	g.members = slices.DeleteFunc(g.members, func(m *series) bool { return m == s })
	if len(g.members) > 0 {
		return
	}
	delete(st.groups, g.labels)
	f := g.family
	last := len(f.groups) - 1
	f.groups[g.pos] = f.groups[last]
	f.groups[g.pos].pos = g.pos
	f.groups[last] = nil
	f.groups = f.groups[:last]
	if last == 0 {
		delete(st.families, f.name)
	}
}
