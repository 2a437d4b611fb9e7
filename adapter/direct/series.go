package direct

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"headroom.dev/headroom/adapter/store"
)

// selector is what reads the store: the series of one name, and the range of their points.
type selector struct {
	name     string
	matchers []*labels.Matcher // but the one that gives the name
	back     int64             // ms: the length of the range; the newest sample in it counts where compute is nil
	offset   int64             // ms
	instant  bool
	compute  rangeFunc
	keepName bool
}

// How a series' points in the range end.
const (
	unseen = iota // no sample
	live
	ended // a stale marker follows
)

// series is the leaf of all expressions: a value of each series that a selector finds. Its rows are the store's places.
type series struct {
	vector
	selector
	own     rows
	version uint64   // of the store's family
	seen    []uint64 // the store's stamps
	sets    []labels.Labels
	pods    *table[pod]
	pod     assignment // the pod that a series is about

	newest []int64       // ms, by row: the newest sample in the range
	ends   []uint8       // by row: unseen, live or ended
	whole  []store.Point // reused: points without stale markers
	key    []byte        // reused
}

// pod is what memberships are asked about.
type pod struct{ namespace, name string }

func newSeries(e *Evaluator, sel selector) *series {
	n := &series{selector: sel, pods: e.pods}
	n.rows = &n.own
	return n
}

func (n *series) refresh(e *Evaluator) error {
	end := e.now - n.offset
	w := window{start: end - n.back, end: end}
	e.st.View(n.name, func(f store.Family) {
		if f.Version() != n.version {
			n.sync(f)
		}
		n.fit()
		n.newest, n.ends = resize(n.newest, len(n.stamp)), resize(n.ends, len(n.stamp))
		for row, stamp := range n.stamp {
			n.has[row], n.ends[row] = false, unseen
			if stamp == 0 {
				continue
			}
			if points, even := f.Window(row, w.start+1, w.end); len(points) > 0 {
				n.read(row, points, even, &w)
			}
		}
	})
	n.pods.assign(&n.pod, &n.own, func(row int) ([]byte, bool) {
		n.key = n.sets[row].BytesWithLabels(n.key, namespaceLabel, podLabel)
		return n.key, n.sets[row].Get(podLabel) != ""
	}, func(row int) pod {
		return pod{n.sets[row].Get(namespaceLabel), n.sets[row].Get(podLabel)}
	})
	return nil
}

// read computes the value of one series from its points, of which there are some.
func (n *series) read(row int, points []store.Point, even bool, w *window) {
	last := &points[len(points)-1]
	if !value.IsStaleNaN(last.V) {
		n.ends[row], n.newest[row] = live, last.T
	} else {
		i := len(points) - 2
		for i >= 0 && value.IsStaleNaN(points[i].V) {
			i--
		}
		if i < 0 {
			return
		}
		n.ends[row], n.newest[row] = ended, points[i].T
	}
	switch {
	case n.instant:
		n.val[row], n.has[row] = last.V, n.ends[row] == live
	case even:
		n.val[row], n.has[row] = n.compute(points, true, w)
	default:
		n.whole = n.whole[:0]
		for _, p := range points {
			if !value.IsStaleNaN(p.V) {
				n.whole = append(n.whole, p)
			}
		}
		n.val[row], n.has[row] = n.compute(n.whole, false, w)
	}
}

// sync takes over the places of the store that changed. One whose series does not match is free here.
func (n *series) sync(f store.Family) {
	places := f.Places()
	for len(n.seen) < places {
		n.seen, n.own.stamp, n.sets = append(n.seen, 0), append(n.own.stamp, 0), append(n.sets, labels.EmptyLabels())
	}
	n.version = f.Version()
	n.own.version = n.version
	for row, seen := range n.seen {
		var stamp uint64
		if row < places {
			stamp = f.Stamp(row)
		}
		if stamp == seen {
			continue
		}
		n.seen[row], n.own.stamp[row], n.sets[row] = stamp, 0, labels.EmptyLabels()
		if stamp != 0 && n.matches(f.Labels(row)) {
			n.own.stamp[row], n.sets[row] = stamp, f.Labels(row)
		}
	}
}

func (n *series) matches(ls labels.Labels) bool {
	for _, m := range n.matchers {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

func (n *series) labelsOf(row int) labels.Labels {
	if n.keepName {
		return n.sets[row]
	}
	return withoutName(n.sets[row])
}

func (n *series) close() { n.pods.drop(&n.pod) }
