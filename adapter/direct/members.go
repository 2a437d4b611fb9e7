package direct

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// members is what a Membership says of each pod, asked anew only for pods that are new and when its version changes.
type members struct {
	id      string
	ran     uint64
	m       Membership
	asked   bool
	version uint64 // of the Membership, when last asked
	pods    *table[pod]
	podsAt  uint64 // pods.version, when last asked

	own  rows       // by pod: changes with its answer
	seen []uint64   // by pod: pods.stamp
	of   [][]string // by pod: the values of Label; one "" where there is no label; none for a pod to leave out
}

// membersOf returns what is known of a membership; nil for none.
func (e *Evaluator) membersOf(m *Membership) *members {
	if m.Of == nil {
		return nil
	}
	ms, ok := e.members[m.ID]
	if !ok {
		ms = &members{id: m.ID, pods: e.pods}
		e.members[m.ID] = ms
	}
	return ms
}

// use takes over the membership of a run: the first one that the run is asked with.
func (ms *members) use(m Membership, run uint64) {
	if ms.ran != run {
		ms.m, ms.ran = m, run
	}
}

func (ms *members) refresh(e *Evaluator) {
	all := !ms.asked || ms.version != ms.m.Version
	if !all && ms.podsAt == ms.pods.version {
		return
	}
	ms.asked, ms.version, ms.podsAt = true, ms.m.Version, ms.pods.version
	n := len(ms.pods.stamp)
	ms.own.stamp, ms.seen, ms.of = resize(ms.own.stamp, n), resize(ms.seen, n), resize(ms.of, n)
	for id, stamp := range ms.pods.stamp {
		changed := ms.seen[id] != stamp
		if stamp == 0 || !changed && !all {
			continue
		}
		ms.seen[id] = stamp
		if values := ms.ask(ms.pods.values[id]); changed || !slices.Equal(values, ms.of[id]) {
			ms.of[id] = slices.Clone(values)
			e.touch(&ms.own, int32(id), false)
		}
	}
}

func (ms *members) ask(p pod) []string {
	values, ok := ms.m.Of(p.namespace, p.name)
	switch {
	case !ok:
		return nil
	case ms.m.Label == "":
		return []string{""}
	}
	return values
}

// view is a series node seen through a membership: each series once for each value.
type view struct {
	vector
	series   *series
	ms       *members
	matchers []*labels.Matcher // of the membership's label
	own      rows

	seriesAt, msAt uint64   // the versions that the rows stand for
	seen, seenPod  []uint64 // by place of the series: its stamp, and that of its pod's answer
	first          []int32  // by place of the series: its first row; noID without
	next           []int32  // by row: the next one of that series
	place          []int32  // by row: the series; noID for a free row
	value          []string // by row: of the membership's label, "" to leave the series' labels alone
	young          []bool   // by place: the series has a sample younger than Membership.MaxAge
	free           []int32
	builder        *labels.Builder // reused
}

func newView(s *series, ms *members, matchers []*labels.Matcher) *view {
	n := &view{series: s, ms: ms, matchers: matchers, builder: labels.NewBuilder(labels.EmptyLabels())}
	n.rows = &n.own
	return n
}

func (n *view) refresh(e *Evaluator) error {
	if err := e.update(n.series); err != nil {
		return err
	}
	n.ms.refresh(e)
	if n.seriesAt != n.series.own.version || n.msAt != n.ms.own.version || len(n.seen) != len(n.series.own.stamp) {
		n.sync(e)
	}
	n.fit()
	in := &n.series.vector
	n.age(e)
	for row, place := range n.place {
		if place == noID {
			n.has[row] = false
			continue
		}
		n.has[row], n.val[row] = in.has[place] && n.young[place], in.val[place]
	}
	return nil
}

// age finds out which series are young enough.
func (n *view) age(e *Evaluator) {
	n.young = resize(n.young, len(n.series.newest))
	oldest := int64(Never)
	if n.ms.m.MaxAge > 0 {
		oldest = e.now - n.series.offset - n.ms.m.MaxAge.Milliseconds()
	}
	for place, t := range n.series.newest {
		n.young[place] = n.series.ends[place] != unseen && t > oldest
	}
}

// sync renews the rows of the series that changed, and of those whose pod did.
func (n *view) sync(e *Evaluator) {
	n.seriesAt, n.msAt = n.series.own.version, n.ms.own.version
	for len(n.seen) < len(n.series.own.stamp) {
		n.seen, n.seenPod, n.first = append(n.seen, 0), append(n.seenPod, 0), append(n.first, noID)
	}
	for place, stamp := range n.series.own.stamp {
		pod, podStamp := n.series.pod.id[place], uint64(0)
		if pod != noID {
			podStamp = n.ms.own.stamp[pod]
		}
		if n.seen[place] == stamp && n.seenPod[place] == podStamp {
			continue
		}
		n.seen[place], n.seenPod[place] = stamp, podStamp
		for row := n.first[place]; row != noID; row = n.next[row] {
			n.place[row] = noID
			n.free = append(n.free, row)
			e.touch(&n.own, row, true)
		}
		n.first[place] = noID
		switch {
		case stamp == 0:
		case pod != noID:
			for _, v := range n.ms.of[pod] {
				if n.matches(v) {
					n.add(e, place, v)
				}
			}
		case n.matches(n.series.sets[place].Get(n.ms.m.Label)):
			n.add(e, place, "")
		}
	}
}

// matches reports whether a value of the membership's label is one that the expression selects.
func (n *view) matches(v string) bool {
	return !slices.ContainsFunc(n.matchers, func(m *labels.Matcher) bool { return !m.Matches(v) })
}

func (n *view) add(e *Evaluator, place int, v string) {
	var row int32
	if last := len(n.free) - 1; last >= 0 {
		row, n.free = n.free[last], n.free[:last]
	} else {
		row = int32(len(n.place))
		n.own.stamp, n.next, n.place, n.value = append(n.own.stamp, 0), append(n.next, 0), append(n.place, 0), append(n.value, "")
	}
	n.place[row], n.value[row] = int32(place), v
	n.next[row], n.first[place] = n.first[place], row
	e.touch(&n.own, row, false)
}

func (n *view) labelsOf(row int) labels.Labels {
	ls := n.series.labelsOf(int(n.place[row]))
	if v := n.value[row]; v != "" {
		n.builder.Reset(ls)
		return n.builder.Set(n.ms.m.Label, v).Labels()
	}
	return ls
}

func (n *view) close() {}
