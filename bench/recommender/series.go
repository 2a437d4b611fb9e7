package main

import (
	"math"
	"time"

	"headroom.dev/headroom/recommender"
)

// series is the usage of one container in one resource, at even steps.
type series struct {
	name     string
	resource recommender.Resource // CPU (cores) or Memory (bytes)
	start    time.Time
	step     time.Duration
	usage    []float64 // NaN where it is unknown
	steps    []int     // where the level changes for good, as far as that is known
	versions []int     // where a new version was rolled out, and the recommenders that can be told are told
}

func (s *series) at(i int) time.Time { return s.start.Add(time.Duration(i) * s.step) }

func (s *series) duration() time.Duration { return time.Duration(len(s.usage)) * s.step }

// index is the first sample at or after a time since the start.
func (s *series) index(since time.Duration) int { return int((since + s.step - 1) / s.step) }

// warmUp is the time that nothing is scored in: a day, or half of what there is if that is less.
func (s *series) warmUp() time.Duration { return min(24*time.Hour, s.duration()/2) }

// trace is one or several series that are scored as one, by their mean; a family is traces of one origin.
type trace struct {
	name, family string
	series       []*series
}

func (t *trace) resource() recommender.Resource { return t.series[0].resource }

// leastTime is for how long a series must go on to be scored: enough to learn in the first half.
const leastTime = 6 * time.Hour

// known says whether there is enough of a series: six hours, half of its samples, and not all of them zero.
func (s *series) known() bool {
	count, most := 0, 0.0
	for _, v := range s.usage {
		if !math.IsNaN(v) {
			count++
			most = max(most, v)
		}
	}
	return s.duration() >= leastTime && 2*count >= len(s.usage) && most > 0
}
