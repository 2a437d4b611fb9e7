package scaler

import (
	"slices"
	"time"
)

// startUps learns how long pods take from their creation until they serve. It keeps the last starts, so that a new model or
// a warm image cache shows within that many.
type startUps struct {
	seen  map[string]time.Time // pods whose start counted, with the time they were last seen
	ring  []start
	next  int
	sorts []time.Duration // scratch
	p50   time.Duration
	p90   time.Duration
}

// start is one pod's way: waiting for a node, image and containers, weights.
type start struct{ scheduling, starting, loading, whole time.Duration }

// keptStarts is how many starts are remembered: enough that a p90 rests on ten.
const keptStarts = 100

// observe learns of pods that serve for the first time, since they were created, without a restart of their containers.
func (s *startUps) observe(now time.Time, pods []Pod) {
	for i := range pods {
		p := &pods[i]
		if !p.Serving || p.Created.IsZero() || p.Ready.Before(p.Created) {
			continue
		}
		if _, known := s.seen[p.Name]; !known {
			s.add(p)
		}
		if s.seen == nil {
			s.seen = map[string]time.Time{}
		}
		s.seen[p.Name] = now
	}
	if len(s.seen) > 2*len(pods)+keptStarts { // pods that are gone
		for name, at := range s.seen {
			if at.Before(now) {
				delete(s.seen, name)
			}
		}
	}
}

func (s *startUps) add(p *Pod) {
	st := start{whole: p.Ready.Sub(p.Created)}
	if !p.Scheduled.Before(p.Created) && !p.Started.Before(p.Scheduled) && !p.Ready.Before(p.Started) {
		st.scheduling, st.starting, st.loading = p.Scheduled.Sub(p.Created), p.Started.Sub(p.Scheduled), p.Ready.Sub(p.Started)
	}
	if len(s.ring) < keptStarts {
		s.ring = append(s.ring, st)
	} else {
		s.ring[s.next] = st
	}
	s.next = (s.next + 1) % keptStarts
	s.p50 = s.quantile(0.5, func(st start) time.Duration { return st.whole })
	s.p90 = s.quantile(0.9, func(st start) time.Duration { return st.whole })
}

// quantile is over the starts that are remembered; the nearest rank.
func (s *startUps) quantile(p float64, of func(start) time.Duration) time.Duration {
	if len(s.ring) == 0 {
		return 0
	}
	s.sorts = s.sorts[:0]
	for _, st := range s.ring {
		s.sorts = append(s.sorts, of(st))
	}
	slices.Sort(s.sorts)
	return s.sorts[min(int(p*float64(len(s.sorts))), len(s.sorts)-1)]
}

// restore starts from the quantiles that a former process had learnt.
func (s *startUps) restore(k LearntStartUp) {
	if len(s.ring) > 0 || k.Samples == 0 {
		return
	}
	s.p50, s.p90 = k.P50, k.P90
}
