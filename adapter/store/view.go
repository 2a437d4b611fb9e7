package store

import (
	"github.com/prometheus/prometheus/model/labels"
)

// View calls read with all series of one metric name at one moment: every scrape is in there entirely or not at all.
// It holds the store's lock meanwhile, so read must be brief and must not use the store. It is for readers that come
// back again and again: a label set keeps its place while it lives, so that what a reader found out about it holds
// until the place has another stamp.
func (st *Store) View(name string, read func(Family)) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	f := st.families[name]
	if f == nil {
		f = &family{}
	}
	read(Family{f})
}

// Family is all series of one metric name, during a View.
type Family struct{ f *family }

// Version changes whenever the stamp of any place does; 0 where there are no series.
func (f Family) Version() uint64 { return f.f.version }

// Places returns the number of places, free ones included.
func (f Family) Places() int { return len(f.f.places) }

// Stamp tells apart the label sets that have a place one after the other, in any family of the store; 0 for a free place.
func (f Family) Stamp(place int) uint64 { return f.f.places[place].stamp }

// Labels returns the label set at a place that is not free.
func (f Family) Labels(place int) labels.Labels { return f.f.places[place].series.labels }

// Window returns the points in [mint, maxt] (ms, both inclusive) of the label set at a place that is not free. They
// never change, and may be read after the View. even says that there is no stale marker among them and none is less
// than the one before it.
func (f Family) Window(place int, mint, maxt int64) (points []Point, even bool) {
	s, points := f.f.places[place].series.pick(mint, maxt)
	return points, len(points) > 0 && s.bent < points[0].T
}
