package kpa

import "time"

// tick is how often Knative's autoscaler decides, and the width of the delay's buckets.
const tick = 2 * time.Second

// delay is the largest count of the last ticks: aggregation/max.TimeWindow of knative.dev/serving. Entries are in order of
// time and their counts fall; an entry that a later one reaches can never be the maximum again.
type delay struct {
	entries       []delayed // a ring
	first, length int
}

type delayed struct {
	tick  int64
	count int
}

func newDelay(length time.Duration) delay {
	return delay{entries: make([]delayed, (length+tick-1)/tick)}
}

func (d *delay) at(i int) *delayed {
	i += d.first
	if i >= len(d.entries) {
		i -= len(d.entries)
	}
	return &d.entries[i]
}

func (d *delay) drop() {
	d.length--
	d.first++
	if d.first == len(d.entries) {
		d.first = 0
	}
}

// record notes a count and returns the largest one of the window. Of two counts in one tick the larger stays.
func (d *delay) record(now time.Time, count int) int {
	at := now.Unix() / int64(tick/time.Second)
	for d.length > 0 && count >= d.at(d.length-1).count {
		d.length--
	}
	for d.length > 0 && at-d.at(0).tick >= int64(len(d.entries)) {
		d.drop()
	}
	if d.length > 0 && d.at(d.length-1).tick == at {
		return d.at(0).count // which is at least the one of this tick, which is larger than count
	}
	if d.length == len(d.entries) {
		d.drop() // only a clock that goes back gets here; Knative panics
	}
	*d.at(d.length) = delayed{tick: at, count: count}
	d.length++
	return d.at(0).count
}
