package main

import (
	"context"
	"math"
	"slices"
	"time"

	"headroom.dev/headroom/recommender"
)

const (
	// every is how often a policy is asked.
	every = time.Hour
	// hysteresis is by how much a recommendation must differ from the request to be applied: the VPA updater's 10 %.
	hysteresis = 0.10
)

// replayed is what a policy did on a series.
type replayed struct {
	requests []float64 // in force at each sample; NaN while nothing is recommended, and in the warm-up
	advices  []given
	kills    int
}

type given struct {
	index int // of the first sample that it is about
	advice
}

// replay plays a series to a policy, sample by sample. Every hour, and after a kill, it is asked what it recommends; what
// differs by more than the hysteresis is applied at once. Where memory exceeds the request, the container is killed: what was
// measured of it is the request (which is its limit), the policy learns of the kill, and the container starts again with what is
// recommended then, if that is more.
func replay(ctx context.Context, s *series, p policy) (*replayed, error) {
	warm := s.index(s.warmUp())
	r := &replayed{requests: make([]float64, len(s.usage))}
	request, next := math.NaN(), warm
	for i, usage := range s.usage {
		if i%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		now := s.at(i)
		if slices.Contains(s.versions, i) {
			p.version(now)
		}
		if i >= next {
			a := p.recommend(now)
			r.advices = append(r.advices, given{i, a})
			if a.valid && (math.IsNaN(request) || math.Abs(a.request-request) > hysteresis*request) {
				request = a.request
			}
			next = warm + s.index((s.at(i).Sub(s.at(warm))/every+1)*every)
		}
		r.requests[i] = request
		if math.IsNaN(usage) {
			continue
		}
		if s.resource == recommender.Memory && usage > request {
			p.add(now, request)
			p.oom(now, request)
			r.kills++
			if a := p.recommend(now); a.valid && a.request > request {
				request = a.request
			}
			continue
		}
		p.add(now, usage)
	}
	return r, nil
}
