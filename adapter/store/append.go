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
	st.mu.Lock()
	defer st.mu.Unlock()
	var res AppendResult
	tg := st.open(targetName, at.UnixMilli())
	if tg == nil {
		return AppendResult{Late: true}
	}
	for i := range samples {
		if s := st.admit(tg, samples[i].Labels, &res); s != nil {
			st.take(tg, s, samples[i].Value, &res)
		}
	}
	st.close(tg, &res)
	return res
}

// AppendRefs is Append for a caller that remembers its series, so that a scrape like the former one costs neither labels
// nor a look-up by them. values[i] belongs to the series refs[i], which is what a former AppendRefs for that target left
// there, or 0. For a 0, and for a series that the store has dropped since, it calls labelsOf(i) and puts the series' ref
// in its place, 0 where it refused it. labelsOf runs under the store's lock; it must not use the store, and may reuse the
// memory of the labels that it returned before.
func (st *Store) AppendRefs(
	targetName string, at time.Time, refs []uint64, values []float64, labelsOf func(i int) labels.Labels,
) AppendResult {
	st.mu.Lock()
	defer st.mu.Unlock()
	var res AppendResult
	tg := st.open(targetName, at.UnixMilli())
	if tg == nil {
		return AppendResult{Late: true}
	}
	for i, ref := range refs {
		s := tg.find(ref)
		if s == nil {
			if s = st.admit(tg, labelsOf(i), &res); s == nil {
				refs[i] = 0
				continue
			}
			refs[i] = s.ref()
		}
		st.take(tg, s, values[i], &res)
	}
	st.close(tg, &res)
	return res
}

// ref names the series among its target's.
func (s *series) ref() uint64 { return uint64(s.id)<<32 | uint64(s.spot) }

// find returns the series that a ref names, nil where there is none.
func (tg *target) find(ref uint64) *series {
	if spot := int(uint32(ref)); spot < len(tg.series) {
		if s := tg.series[spot]; s != nil && uint64(s.id) == ref>>32 {
			return s
		}
	}
	return nil
}

// open begins a scrape; nil where it is late.
func (st *Store) open(targetName string, t int64) *target {
	tg, ok := st.targets[targetName]
	if !ok {
		tg = &target{name: targetName, last: math.MinInt64}
		st.targets[targetName] = tg
	}
	if t <= tg.last {
		st.stats.LateScrapes++
		return nil
	}
	tg.last = t
	tg.scrapes++
	return tg
}

// close ends a scrape: it ends the series that the scrape lacks, and drops those that ended so long ago that no rule
// looks at their last point.
func (st *Store) close(tg *target, res *AppendResult) {
	for _, s := range tg.series {
		switch {
		case s == nil || s.seen == tg.scrapes:
		case s.seen == tg.scrapes-1:
			st.push(s, Point{tg.last, math.Float64frombits(value.StaleNaN)})
			res.Ended++
		case s.points[len(s.points)-1].T <= tg.last-s.family.keep:
			st.remove(s)
		}
	}
	st.stats.UnwantedSamples += uint64(res.Unwanted)
	st.stats.DuplicateSamples += uint64(res.Duplicate)
	st.stats.OverLimitSamples += uint64(res.OverLimit)
}

// admit returns the target's series with these labels, a new one if need be; nil where it is refused.
func (st *Store) admit(tg *target, ls labels.Labels, res *AppendResult) *series {
	first := st.byLabels[ls]
	for s := first; s != nil; s = s.twin {
		if s.target == tg {
			return s
		}
	}
	name := ls.Get(nameLabel)
	keep, wanted := st.keep.Load().names[name]
	switch {
	case !wanted:
		res.Unwanted++
		return nil
	case st.stats.Series >= st.opts.MaxSeries || tg.live() >= st.opts.MaxSeriesPerTarget ||
		st.stats.Bytes+seriesBytes+int(ls.ByteSize())+leastRoom*pointBytes > st.opts.MaxBytes:
		res.OverLimit++
		return nil
	}
	st.ids = max(st.ids+1, 1)
	s := &series{target: tg, id: st.ids}
	if first == nil {
		s.labels = ls.Copy()
		st.settle(s, name, keep)
	} else {
		s.labels, s.family, s.place = first.labels, first.family, first.place
		first.twin, s.twin = s, first.twin
	}
	st.stats.Series++
	st.stats.Bytes += seriesBytes + int(ls.ByteSize())
	if n := len(tg.free); n > 0 {
		s.spot, tg.free = tg.free[n-1], tg.free[:n-1]
		tg.series[s.spot] = s
	} else {
		s.spot = uint32(len(tg.series))
		tg.series = append(tg.series, s)
	}
	return s
}

// settle gives the first series of a label set its place.
func (st *Store) settle(s *series, name string, keep time.Duration) {
	f, ok := st.families[name]
	if !ok {
		f = &family{name: name, keep: (keep + slack).Milliseconds()}
		st.families[name] = f
	}
	s.family = f
	st.byLabels[s.labels] = s
	st.stamps++
	f.version = st.stamps
	p := place{series: s, stamp: st.stamps}
	if n := len(f.free); n > 0 {
		s.place, f.free = f.free[n-1], f.free[:n-1]
		f.places[s.place] = p
	} else {
		s.place = uint32(len(f.places))
		f.places = append(f.places, p)
	}
}

// take stores the series' value of the present scrape.
func (st *Store) take(tg *target, s *series, v float64, res *AppendResult) {
	if s.seen == tg.scrapes {
		res.Duplicate++
		return
	}
	s.seen = tg.scrapes
	st.push(s, Point{tg.last, v})
	res.Stored++
}

// leastRoom is how many points a new series has room for.
const leastRoom = 8

// push appends a point and leaves behind those that fell out of the window. When the array is full the window moves to a
// new one with half as much room again: at one sample a second and 30 s that is one allocation of 768 bytes every 16 s.
func (st *Store) push(s *series, p Point) {
	if n := len(s.points); n > 0 {
		if before := s.points[n-1].V; p.V < before || value.IsStaleNaN(p.V) || value.IsStaleNaN(before) {
			s.bent = p.T
		}
	}
	oldest := p.T - s.family.keep
	drop := 0
	for drop < len(s.points) && s.points[drop].T <= oldest {
		drop++
	}
	if over := len(s.points) - drop + 1 - st.opts.MaxSamplesPerSeries; over > 0 {
		drop += over
		st.stats.CutSamples += uint64(over)
	}
	st.stats.Samples += 1 - drop
	s.points = s.points[drop:]
	if len(s.points) == cap(s.points) {
		st.move(s)
	}
	s.points = append(s.points, p)
}

// move takes the window of a series to a new array with room for more.
func (st *Store) move(s *series) {
	n := len(s.points)
	room := max(leastRoom, n+n/2)
	if st.stats.Bytes+(room-int(s.room))*pointBytes > st.opts.MaxBytes { // then it gives up its oldest third instead
		room = max(leastRoom, int(s.room))
		if cut := n - room*2/3; cut > 0 {
			s.points = s.points[cut:]
			st.stats.Samples -= cut
			st.stats.CutSamples += uint64(cut)
		}
	}
	s.points = append(slices.Grow([]Point(nil), room), s.points...)
	st.stats.Bytes += (cap(s.points) - int(s.room)) * pointBytes
	s.room = uint32(cap(s.points))
}

// remove takes a series out of everything, but leaves an empty target be.
func (st *Store) remove(s *series) {
	st.stats.Series--
	st.stats.Samples -= len(s.points)
	st.stats.Bytes -= seriesBytes + int(s.labels.ByteSize()) + int(s.room)*pointBytes
	s.target.series[s.spot] = nil
	s.target.free = append(s.target.free, s.spot)

	f := s.family
	if first := f.places[s.place].series; first != s {
		for first.twin != s {
			first = first.twin
		}
		first.twin = s.twin
		return
	}
	if s.twin != nil {
		f.places[s.place].series = s.twin
		st.byLabels[s.labels] = s.twin
		return
	}
	delete(st.byLabels, s.labels)
	st.stamps++
	f.version = st.stamps
	f.places[s.place] = place{}
	f.free = append(f.free, s.place)
	if len(f.free) == len(f.places) {
		delete(st.families, f.name)
	}
}
