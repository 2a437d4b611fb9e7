package main

import (
	"math"
	"slices"
	"time"

	"headroom.dev/headroom/recommender"
)

// score is how a policy did. Shares are 0 to 1; NaN is unknown.
type score struct {
	slack       float64 // mean share of the request that was not used
	underTime   float64 // share of time in which usage exceeded the request
	underVolume float64 // share of the usage above the request
	kills       float64 // for want of memory, in all
	changes     float64 // of the request by more than 10 %, per day
	up, down    float64 // hours until the request had followed a step up or down by 95 %
	covered     float64 // share of the claimed intervals that held what was needed
	width       float64 // median of upper ÷ lower of those intervals
	unsized     float64 // share of time without a recommendation
}

// compared are the metrics that policies are compared by: less is better.
func (s score) compared() [4]float64 {
	return [4]float64{s.slack, s.underTime, s.underVolume, s.changes}
}

// scoreOf measures a replay from the warm-up's end.
func scoreOf(s *series, r *replayed, risk float64, hold time.Duration) score {
	from := s.index(s.warmUp())
	out := score{kills: float64(r.kills)}
	var known, sized, under, slack, used, excess float64
	changes := 0
	for i := from; i < len(s.usage); i++ {
		u, q := s.usage[i], r.requests[i]
		if i > from && math.Abs(q-r.requests[i-1]) > hysteresis*r.requests[i-1] {
			changes++
		}
		if math.IsNaN(u) {
			continue
		}
		known++
		if math.IsNaN(q) {
			continue
		}
		sized++
		used += u
		if u > q {
			under++
			excess += u - q
		} else if q > 0 {
			slack += (q - u) / q
		}
	}
	out.unsized = 1 - sized/known
	out.slack, out.underTime, out.underVolume = slack/sized, under/sized, excess/used
	if used == 0 && sized > 0 {
		out.underVolume = 0
	}
	out.changes = float64(changes) / (float64(len(s.usage)-from) * s.step.Hours() / 24)
	if sized == 0 {
		out.changes = math.NaN()
	}
	out.up, out.down = follow(s, r)
	out.covered, out.width = coverage(s, r, risk, s.index(hold))
	return out
}

// needed is what was needed in samples from to to: the smallest request that would have kept the risk.
func needed(s *series, from, to int, risk float64) float64 {
	var values []float64
	for _, v := range s.usage[from:to] {
		if !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	if 2*len(values) < to-from || len(values) == 0 {
		return math.NaN()
	}
	if s.resource == recommender.Memory {
		return slices.Max(values)
	}
	slices.Sort(values)
	return values[max(0, int(math.Ceil((1-risk)*float64(len(values))-1e-9))-1)]
}

// coverage says how many of the intervals that were claimed held what was needed in the time that they are about.
func coverage(s *series, r *replayed, risk float64, hold int) (covered, width float64) {
	var held, asked float64
	var widths []float64
	for _, g := range r.advices {
		if !g.valid || math.IsNaN(g.lower) || math.IsNaN(g.upper) || g.index+hold > len(s.usage) {
			continue
		}
		need := needed(s, g.index, g.index+hold, risk)
		if math.IsNaN(need) {
			continue
		}
		asked++
		if g.lower <= need && need <= g.upper {
			held++
		}
		if g.lower > 0 {
			widths = append(widths, g.upper/g.lower)
		}
	}
	return held / asked, median(widths)
}

// follow is how long requests took to follow steps of the usage, on average: up until the request is 95 % of what is needed
// after it; down until it stands within 5 % of as far above what is needed as it stood before. What never follows took until
// the next step or the end.
func follow(s *series, r *replayed) (up, down float64) {
	const day = 24 * time.Hour
	var sums, counts [2]float64
	for k, at := range s.steps {
		end := len(s.usage)
		if k+1 < len(s.steps) {
			end = s.steps[k+1]
		}
		span := s.index(day)
		if at-span < s.index(s.warmUp()) || at+span > end || math.IsNaN(r.requests[at-1]) {
			continue
		}
		risk := recommender.DefaultPolicy(s.resource).Risk
		before, after := needed(s, at-span, at, risk), needed(s, at, at+span, risk)
		way := 0
		followed := func(q float64) bool { return q >= 0.95*after }
		if after < before {
			way = 1
			headroom := r.requests[at-1] / before
			followed = func(q float64) bool { return q/after <= headroom/0.95 }
		}
		i := at
		for i < end && !followed(r.requests[i]) {
			i++
		}
		sums[way] += float64(i-at) * s.step.Hours()
		counts[way]++
	}
	return sums[0] / counts[0], sums[1] / counts[1]
}

// fields of the score, for what is done to each alike; kills first.
func (s *score) fields() []*float64 {
	return []*float64{&s.kills, &s.slack, &s.underTime, &s.underVolume, &s.changes, &s.up, &s.down, &s.covered, &s.width, &s.unsized}
}

// same says whether all is equal, or both unknown.
func (s score) same(o score) bool {
	return slices.EqualFunc(s.fields(), o.fields(), func(a, b *float64) bool { return *a == *b || math.IsNaN(*a) && math.IsNaN(*b) })
}

// mean is the macro mean of scores, each field over those that know it; kills are added up.
func mean(list []score) score {
	var out score
	for k, field := range out.fields() {
		sum, n := 0.0, 0.0
		for i := range list {
			if v := *list[i].fields()[k]; !math.IsNaN(v) {
				sum, n = sum+v, n+1
			}
		}
		*field = sum / n
		if field == &out.kills {
			*field = sum
		}
	}
	return out
}

// median is the middle one, or the mean of the two; NaN where there is none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sortedValues := slices.Sorted(slices.Values(values))
	n := len(sortedValues)
	return (sortedValues[(n-1)/2] + sortedValues[n/2]) / 2
}
