package accelerator

import (
	"math"
	"slices"
	"time"

	"headroom.dev/headroom/recommender"
)

// History is what is known of a resource of a workload.
type History struct {
	Hours []recommender.Hour
	// Certainty is how far the samples are known to be the workload's, 0 to 1 (recommender.Evidence). Devices that several
	// containers share give less than 1.
	Certainty float64
	// Step is the length of what is called an hour (recommender.Policy.Step); 0 for an hour.
	Step time.Duration
}

// HistoryOf is what a usage keeps.
func HistoryOf(u *recommender.Usage, certainty float64, step time.Duration) History {
	return History{Hours: slices.Collect(u.Hours()), Certainty: certainty, Step: step}
}

func (h History) step() time.Duration {
	if h.Step > 0 {
		return h.Step
	}
	return time.Hour
}

// known yields the hours of which something is known.
func (h History) known() []recommender.Hour {
	hours := make([]recommender.Hour, 0, len(h.Hours))
	for _, hour := range h.Hours {
		if hour.Known && hour.Max >= 0 && !math.IsInf(hour.Max, 0) {
			hours = append(hours, hour)
		}
	}
	return hours
}

// certainty of the history; one that is not a number counts as none.
func (h History) certainty() float64 {
	if h.Certainty >= 0 && h.Certainty <= 1 {
		return h.Certainty
	}
	return 0
}

const (
	// minHours is how many hours must be known before there is a tail.
	minHours = 4
	// mostPeaks bounds how many of the highest hours make the tail: of a fortnight the top tenth.
	mostPeaks = 32
	// A tail starts with what is usual: as much as priorPeaks peaks that lie priorExcess of the highest one above the rest. Of twelve
	// hours four are above the threshold; without a prior, four values say so little of the tail that its 99 % bound is
	// twice the peak.
	priorPeaks, priorExcess = 8, 0.05
)

// Tail says how likely a use is to be exceeded. It is estimated from the highest use of each hour: what the top third (at most
// mostPeaks) has above the rest is taken as exponentially distributed, with an unknown mean, whose uncertainty is part of the
// answer (a Lomax distribution): few hours give a heavier tail. Hours count as independent, which overstates the risk where peaks
// cluster. Uncertain attribution widens the prior and discounts what was seen.
//
// How well it keeps what it says (TestStatedRiskIsKept, bench/recommender/gpu): where peaks are exponential, a stated 1 % is 6 % after
// one day of history, 2.5 % after three and 1.7 % after a week; log-normal ones 3.4, 0.8 and 0.9 %; bounded or normal ones below
// 0.1 %. Of 63 real inference containers 1.6 % exceeded it after twelve hours; the prior was picked while looking at these, so that
// is no proof for others. A prior that holds for exponential peaks after a day (priorExcess 0.08) takes 14 % more memory of them.
//
// What it cannot know: a change of regime that has not begun. In general usage, which changes often (the unlabelled series of
// gocrane/crane), a stated 1 % was a quarter to a third of the days after twelve hours of history and 12 % after three days. A rise that has begun (Growth) is carried on to the end of the time
// asked about.
type Tail struct {
	sorted    []float64 // the highest use of each hour, highest first
	threshold float64
	above     float64 // how many hours lie above the threshold
	shape     float64 // of Lomax
	mean      float64 // of the excess
	growth    float64 // per hour
	step      time.Duration
}

// NewTail needs four hours of which something is known.
func NewTail(h History) (t Tail, ok bool) {
	hours := h.known()
	if len(hours) < minHours {
		return Tail{}, false
	}
	for _, hour := range hours {
		t.sorted = append(t.sorted, hour.Max)
	}
	t.step = h.step()
	t.growth = growth(hours, t.step)
	slices.Sort(t.sorted)
	slices.Reverse(t.sorted)
	k := min((len(t.sorted)+2)/3, mostPeaks)
	t.threshold, t.above = t.sorted[k], float64(k)
	sum := 0.0
	for _, peak := range t.sorted[:k] {
		sum += peak - t.threshold
	}
	certainty := h.certainty()
	t.shape = certainty*t.above + priorPeaks
	t.mean = (certainty*sum + priorPeaks*(priorExcess+(1-certainty)/2)*t.Peak()) / t.shape
	return t, true
}

// Peak is the highest use seen.
func (t Tail) Peak() float64 { return t.sorted[0] }

// Growth is by how much the peaks grow per hour, 0 unless that is certain.
func (t Tail) Growth() float64 { return t.growth }

// Risk is the probability that use exceeds a level within a time.
func (t Tail) Risk(level float64, within time.Duration) float64 {
	hours := float64(within) / float64(t.step)
	level -= t.growth * hours
	n := float64(len(t.sorted))
	var p float64
	if level < t.threshold || t.mean <= 0 {
		higher, _ := slices.BinarySearchFunc(t.sorted, level, func(peak, level float64) int {
			if peak > level {
				return -1
			}
			return 1
		})
		if higher == 0 {
			return 0 // never used at all: there is nothing to extrapolate
		}
		p = (float64(higher) + 0.5) / (n + 1)
	} else {
		p = (t.above + 0.5) / (n + 1) * math.Pow(1+(level-t.threshold)/(t.shape*t.mean), -t.shape)
		if level < t.Peak() {
			p = max(p, 1/(n+1)) // it was exceeded: no tail explains that away
		}
	}
	return 1 - math.Pow(1-p, hours)
}

// Bound is the smallest level whose risk is at most so much.
func (t Tail) Bound(risk float64, within time.Duration) float64 {
	low, high := 0.0, max(t.Peak(), 1)
	for t.Risk(high, within) > risk {
		low, high = high, 2*high
		if math.IsInf(high, 0) {
			return high
		}
	}
	for range 80 {
		middle := low + (high-low)/2
		if t.Risk(middle, within) > risk {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// growth is the slope of the hours' peaks in the last day (Theil and Sen: the median of the slopes between all pairs), if a rank
// test (Mann and Kendall, one-sided at 1 %) says that they grow, else 0; and 0 if the days before had peaks as high, since that is a
// day's rise, and no leak. On the first day both look alike, and the rise is carried on.
func growth(hours []recommender.Hour, step time.Duration) float64 {
	newest := hours[len(hours)-1].Start
	first := slices.IndexFunc(hours, func(h recommender.Hour) bool { return newest.Sub(h.Start) < 24*step })
	recent := hours[first:]
	n := len(recent)
	if n < 8 || highest(hours[:len(hours)-n]) >= highest(recent) {
		return 0
	}
	score := 0
	var slopes []float64
	for i := range recent {
		for j := i + 1; j < n; j++ {
			apart := float64(recent[j].Start.Sub(recent[i].Start)) / float64(step)
			if apart <= 0 {
				continue
			}
			rise := recent[j].Max - recent[i].Max
			switch {
			case rise > 0:
				score++
			case rise < 0:
				score--
			}
			slopes = append(slopes, rise/apart)
		}
	}
	deviation := math.Sqrt(float64(n*(n-1)*(2*n+5)) / 18)
	if len(slopes) == 0 || float64(score-1)/deviation < 2.33 {
		return 0
	}
	slices.Sort(slopes)
	return max(0, slopes[len(slopes)/2])
}

// highest is the highest peak, -Inf of none.
func highest(hours []recommender.Hour) float64 {
	peak := math.Inf(-1)
	for _, hour := range hours {
		peak = max(peak, hour.Max)
	}
	return peak
}
