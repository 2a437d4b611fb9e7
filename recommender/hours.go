package recommender

import "math"

const (
	week     = 7 * day
	day      = 24   // hours
	lifetime = week // of an hour with its distribution; of its P98 alone twice that
)

// hour is a closed hour: levels of the median and of the 98th percentile, and the mark of the peak. p50 is 0 where nothing is
// known.
type hour struct {
	p50, p98 uint8
	max      uint16
}

func (h hour) known() bool { return h.p50 != 0 }

// peak is the level of the peak.
func (h hour) peak() float64 { return markLevel(h.max) }

// Shares of an hour's samples above its quantiles.
const (
	overP50 = 0.5
	overP98 = 0.02
)

// over is the share of the hour in which use was above a level: log-linear between what is known, and below the median as steep
// as above it.
func (h hour) over(level float64) float64 {
	p50, p98, peak := float64(h.p50), float64(h.p98), h.peak()
	switch {
	case level >= peak && level >= p98:
		return 0
	case level >= p98:
		return overP98 * (peak - level) / (peak - p98)
	case level >= p50:
		return overP98 + (overP50-overP98)*(p98-level)/(p98-p50)
	}
	return min(1, overP50+(1-overP50)*(p50-level)/h.below())
}

// below is how many levels below the median the samples are taken to reach.
func (h hour) below() float64 { return max(1, float64(h.p98-h.p50)) }

// quantile is the level that a share of the hour is above.
func (h hour) quantile(over float64) float64 {
	p50, p98 := float64(h.p50), float64(h.p98)
	if over >= overP98 {
		return p98 - (p98-p50)*(over-overP98)/(overP50-overP98)
	}
	return p98 + max(0, h.peak()-p98)*(1-over/overP98)
}

// openHour gathers samples until its hour is over: how many there were at each level, weighted by certainty. Of most containers
// these are some tens of levels.
type openHour struct {
	low    uint8    // level of counts[0]
	counts []uint16 // scaled down by half together when one is full
	max    uint16
	n      uint32
}

// sure is the weight of a sample of certainty 1.
const sure = 8

func (o *openHour) add(value, certainty float64) {
	level := levelOf(value)
	o.reach(level)
	c := &o.counts[level-o.low]
	weight := uint16(max(1, certainty*sure+0.5))
	if *c > math.MaxUint16-weight {
		for i, n := range o.counts {
			o.counts[i] = n - n/2 // never to 0
		}
	}
	*c += weight
	if value > gridLow && o.max < topMark && value > markValue(max(o.max, 1)) || o.max == 0 {
		o.max = markOf(value)
	}
	o.n++
}

// reach makes room for a level, two more on the side that grows.
func (o *openHour) reach(level uint8) {
	switch {
	case len(o.counts) == 0:
		o.low, o.counts = level, append(o.counts, 0)
	case level < o.low:
		more := min(int(o.low-level)+2, int(o.low)-1)
		grown := make([]uint16, more+len(o.counts))
		copy(grown[more:], o.counts)
		o.low, o.counts = o.low-uint8(more), grown
	default:
		for int(level-o.low) >= len(o.counts) {
			o.counts = append(o.counts, 0)
		}
	}
}

// close returns the hour and makes the next begin. The room is kept, if it fitted.
func (o *openHour) close() hour {
	h := o.summary()
	first, last := -1, 0
	for i, c := range o.counts {
		if c > 0 {
			last = i
			if first < 0 {
				first = i
			}
		}
	}
	if used := last - first + 1; first >= 0 && 2*used+4 < len(o.counts) {
		o.low, o.counts = o.low+uint8(first), make([]uint16, used)
	} else {
		clear(o.counts)
	}
	o.max, o.n = 0, 0
	return h
}

func (o *openHour) summary() hour {
	if o.n == 0 {
		return hour{}
	}
	return hour{p50: o.quantile(overP50), p98: o.quantile(overP98), max: o.max}
}

// quantile is the level that no more than a share of the samples is above.
func (o *openHour) quantile(over float64) uint8 {
	total := 0
	for _, c := range o.counts {
		total += int(c)
	}
	allowed, above := int(over*float64(total)), 0
	for i := len(o.counts) - 1; i >= 0; i-- {
		if above += int(o.counts[i]); above > allowed {
			return o.low + uint8(i)
		}
	}
	return o.low
}

// over is the share of the samples above a level.
func (o *openHour) over(level float64) float64 {
	total, above := 0, 0
	for i, c := range o.counts {
		total += int(c)
		if float64(o.low)+float64(i) > level+0.5 {
			above += int(c)
		}
	}
	if total == 0 {
		return unknown()
	}
	return float64(above) / float64(total)
}

// timeline is what has been, by hours: ring buffers whose newest entry is before next.
type timeline struct {
	hours [lifetime]hour
	older [lifetime]uint8 // P98 of the week before
	next  int             // number of the hour that is open, since 1970
	first int             // number of the first hour kept, next if there is none
}

// push appends a closed hour.
func (t *timeline) push(h hour) {
	i := t.next % lifetime
	t.older[i] = 0
	if old := t.hours[i]; old.known() {
		t.older[i] = old.p98
	}
	t.hours[i] = h
	t.next++
	t.first = max(t.first, t.next-lifetime)
}

// at returns the hour of a number, unknown where it is not kept.
func (t *timeline) at(number int) hour {
	if number < t.first || number >= t.next {
		return hour{}
	}
	return t.hours[number%lifetime]
}
