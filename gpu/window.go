package gpu

import (
	"cmp"
	"slices"
	"time"
)

// nominalPeriod is the time that a point stands for when there is none before it: the driver's ring has 6 to 7 a second.
const nominalPeriod = time.Second / 6

// maxPeriod bounds the time that a point stands for. Instantaneous rates come once a tick, and say nothing about longer.
const maxPeriod = 5 * time.Second

// Window holds what was measured over the last Span. Points may be unevenly spaced: the driver's ring gives seven a
// second while kernels run and none when idle, where one instantaneous rate a tick takes its place. Each point therefore
// counts for the time since the point before it. The zero Window has no span and keeps nothing.
type Window struct {
	Span   time.Duration
	points []windowPoint // oldest first
	sorted []windowPoint // scratch
}

type windowPoint struct {
	at     time.Time
	weight time.Duration
	value  float64
}

// Summary is what a Window holds. Without a sample all its Values are unknown.
type Summary struct {
	Mean, P50, P95, Max Value // percentiles by nearest rank, weighted by time
	Samples             int
	Newest              time.Time
}

// Add appends a point. Points that are not newer than the last one count for no time.
func (w *Window) Add(at time.Time, value float64) {
	weight := nominalPeriod
	if n := len(w.points); n > 0 {
		weight = min(max(at.Sub(w.points[n-1].at), 0), maxPeriod)
	}
	w.points = append(w.points, windowPoint{at, weight, value})
}

// AddRing appends the driver's samples. Its clock is unknown (boot time or epoch, by driver), so the newest sample is
// taken to be of now, and the others as much older as their stamps say.
func (w *Window) AddRing(ring []RingPoint, now time.Time) {
	for i := range ring {
		w.Add(ringTime(ring[len(ring)-1].Stamp, ring[i].Stamp, now), ring[i].Ratio)
	}
}

// ringTime dates a stamp when newest is of now. Stamps out of order or further back than a day are not believed.
func ringTime(newest, stamp uint64, now time.Time) time.Time {
	const day = uint64(24 * time.Hour / time.Microsecond)
	if stamp > newest || newest-stamp > day {
		return now
	}
	return now.Add(-time.Duration(newest-stamp) * time.Microsecond)
}

// Trim drops what is older than Span.
func (w *Window) Trim(now time.Time) {
	oldest := now.Add(-w.Span)
	n := 0
	for n < len(w.points) && w.points[n].at.Before(oldest) {
		n++
	}
	w.points = append(w.points[:0], w.points[n:]...)
}

// Clear drops everything.
func (w *Window) Clear() { w.points = w.points[:0] }

// Summary trims the window and returns what is left in it.
func (w *Window) Summary(now time.Time) Summary {
	w.Trim(now)
	n := len(w.points)
	if n == 0 {
		none := Unknown("no samples")
		return Summary{Mean: none, P50: none, P95: none, Max: none}
	}
	w.sorted = append(w.sorted[:0], w.points...)
	slices.SortFunc(w.sorted, func(a, b windowPoint) int { return cmp.Compare(a.value, b.value) })
	total, sum := time.Duration(0), 0.0
	for _, p := range w.sorted {
		total += p.weight
		sum += p.value * p.weight.Seconds()
	}
	s := Summary{Max: Known(w.sorted[n-1].value), Samples: n, Newest: w.points[n-1].at}
	if total == 0 { // all of one moment
		for i := range w.sorted {
			w.sorted[i].weight = 1
			sum += w.sorted[i].value
		}
		total = time.Duration(n)
		s.Mean = Known(sum / float64(n))
	} else {
		s.Mean = Known(min(max(sum/total.Seconds(), w.sorted[0].value), w.sorted[n-1].value)) // rounding stays between them
	}
	s.P50, s.P95 = Known(quantile(w.sorted, total, 0.50)), Known(quantile(w.sorted, total, 0.95))
	return s
}

// quantile returns the smallest value such that at least the part q of the time is at or below it.
func quantile(sorted []windowPoint, total time.Duration, q float64) float64 {
	want := time.Duration(q * float64(total))
	seen := time.Duration(0)
	for _, p := range sorted {
		if seen += p.weight; seen >= want && p.weight > 0 {
			return p.value
		}
	}
	return sorted[len(sorted)-1].value
}
