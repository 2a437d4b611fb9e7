package recommender

import (
	"math"
	"slices"
)

const (
	week     = 7 * day
	day      = 24   // hours
	lifetime = week // of an hour with its distribution; of its P98 alone twice that
)

// hour is a closed hour: levels of the median and of the 90th percentile, and at its top, of what is slow when there is too little of
// it, the levels of the 98th percentile and of the peak, of memory the mark of the peak. p50 is 0 where nothing is known.
type hour struct {
	p50, p90 uint8
	top      uint16
}

func (h hour) known() bool { return h.p50 != 0 }

// shape is an hour's distribution: levels, and the shares of samples above them. Between them it is log-linear, and below the median
// as wide as between the median and the 90th percentile, scaled by the shares.
type shape [4]float64

// overs are the shares above a shape's levels.
func overs() [4]float64 { return [4]float64{0.5, 0.1, 0.02, 0} }

const below = 0.5 // the share below the median

// peak is the level of memory's.
func (h hour) peak() float64 { return markLevel(h.top) }

// shape of an hour of a resource.
func (h hour) shape(memory bool) shape {
	if memory {
		peak := markLevel(h.top)
		return shape{float64(h.p50), float64(h.p90), peak, peak}
	}
	return shape{float64(h.p50), float64(h.p90), float64(h.top >> 8), float64(h.top & 0xff)}
}

// tail is how many levels below the median the samples are taken to reach.
func (s *shape) tail() float64 { return max(1, (s[1]-s[0])*below/(overs()[0]-overs()[1])) }

// over is the share of the hour in which use was above a level.
func (s *shape) over(level float64) float64 {
	o := overs()
	for i := len(s) - 1; i > 0; i-- {
		switch {
		case level >= s[i]:
			return o[i]
		case level >= s[i-1]:
			return o[i] + (o[i-1]-o[i])*(s[i]-level)/(s[i]-s[i-1])
		}
	}
	return min(1, o[0]+below*(s[0]-level)/s.tail())
}

// quantile is the level that a share of the hour is above.
func (s *shape) quantile(over float64) float64 {
	o := overs()
	for i := 1; i < len(s); i++ {
		if over >= o[i] {
			return s[i] - (s[i]-s[i-1])*(min(over, o[i-1])-o[i])/(o[i-1]-o[i])
		}
	}
	return s[len(s)-1]
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
func (o *openHour) close(memory bool) hour {
	h := o.summary(memory)
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

func (o *openHour) summary(memory bool) hour {
	if o.n == 0 {
		return hour{}
	}
	share := overs()
	h := hour{p50: o.quantile(share[0]), p90: o.quantile(share[1]), top: o.max}
	if !memory {
		h.top = uint16(o.quantile(share[2]))<<8 | uint16(o.low) + uint16(len(o.counts)-1)
		for i := len(o.counts) - 1; o.counts[i] == 0; i-- {
			h.top--
		}
	}
	return h
}

// quantile is the level that no more than a share of the samples is above.
func (o *openHour) quantile(over float64) uint8 {
	total := 0
	for _, c := range o.counts {
		total += int(c)
	}
	allowed, above := int(over*float64(total)), 0
	for i, c := range slices.Backward(o.counts) {
		if above += int(c); above > allowed {
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
	older *[lifetime]uint8 // what the hours of the week before needed; nil of memory
	next  int              // number of the hour that is open, since 1970
	first int              // number of the first hour kept, next if there is none
}

// push appends a closed hour. The one that it takes the place of is kept as what it needed.
func (t *timeline) push(h hour, memory bool, risk float64) {
	i := t.next % lifetime
	if !memory {
		if t.older == nil {
			t.older = new([lifetime]uint8)
		}
		t.older[i] = 0
		if old := t.hours[i]; old.known() {
			s := old.shape(memory)
			t.older[i] = uint8(s.quantile(risk) + 0.5)
		}
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
