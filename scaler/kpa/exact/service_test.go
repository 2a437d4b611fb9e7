package exact

import (
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"knative.dev/serving/pkg/autoscaler/metrics"
)

// spell is a state that comes and goes, each for exponentially distributed times.
type spell struct {
	apart, length float64 // means, in seconds; it never comes where apart is 0
	on            bool
	until         float64
}

func (s *spell) at(now float64, rng *rand.Rand) bool {
	if s.apart == 0 {
		return false
	}
	for now >= s.until {
		if s.until > 0 {
			s.on = !s.on
		}
		mean := s.apart
		if s.on {
			mean = s.length
		}
		s.until += 1 + rng.ExpFloat64()*mean
	}
	return s.on
}

// load is the concurrency or the requests per second that the service is offered.
type load struct {
	base, daily, noise float64
	whole              bool // whole numbers only
	burst, idle, walk  spell
	factor, drift      float64
}

func (l *load) at(now float64, rng *rand.Rand) float64 {
	if l.idle.at(now, rng) {
		return 0
	}
	was := l.burst.on
	x := l.base * (1 + l.daily*math.Sin(2*math.Pi*now/86400))
	if l.burst.at(now, rng) {
		if !was {
			l.factor = 1.5 + 20*rng.Float64()*rng.Float64()
		}
		x *= l.factor
	}
	if l.walk.apart > 0 {
		l.drift = max(-3, min(3, l.drift+0.02*rng.NormFloat64()))
		x *= math.Exp(l.drift)
	}
	x *= 1 + l.noise*rng.NormFloat64()
	if l.whole {
		x = math.Round(x)
	}
	return max(0, x)
}

// service is what the autoscalers see: pods that come after a while or never, their scrapes, and the activator.
type service struct {
	rng     *rand.Rand
	load    load
	startup float64 // mean seconds until a pod is ready
	stuck   spell   // pods that are made meanwhile never become ready
	ill     spell   // a third of the pods is not ready
	mute    spell   // scrapes fail
	sampled bool    // scrapes see only a part of the load: too few or too many

	pods  []float64 // when each becomes ready
	start time.Time
}

func (s *service) now(t time.Time) float64 { return t.Sub(s.start).Seconds() }

// resize makes pods, or deletes those that come last.
func (s *service) resize(now time.Time, replicas int) {
	t := s.now(now)
	stuck := s.stuck.at(t, s.rng)
	for len(s.pods) < replicas {
		ready := t + s.startup*(0.5+s.rng.Float64())
		if stuck {
			ready = math.Inf(1)
		}
		s.pods = append(s.pods, ready)
	}
	s.pods = s.pods[:replicas]
}

func (s *service) ready(now time.Time) int {
	t, n := s.now(now), 0
	for _, p := range s.pods {
		if p <= t {
			n++
		}
	}
	if s.ill.at(t, s.rng) {
		n -= (n + 2) / 3
	}
	return n
}

var errScrape = errors.New("pods do not answer")

// scrape is what Knative's scraper would give: nothing without pods, zeros from idle ones.
func (s *service) scrape(now time.Time, ready int) (metrics.Stat, error) {
	t := s.now(now)
	value := s.load.at(t, s.rng)
	if s.mute.at(t, s.rng) {
		return metrics.Stat{}, errScrape
	}
	if ready == 0 {
		return metrics.Stat{}, nil
	}
	if s.sampled {
		value *= 0.9 + 0.2*s.rng.Float64()
	}
	proxied := value * 0.25 * s.rng.Float64()
	return metrics.Stat{
		PodName:                   "service-scraper",
		AverageConcurrentRequests: value, AverageProxiedConcurrentRequests: proxied,
		RequestCount: 1.5 * value, ProxiedRequestCount: 1.5 * proxied,
	}, nil
}

// queue is what an activator reports of requests that wait in it, or go through it.
func (s *service) queue(now time.Time, ready int) (metrics.Stat, bool) {
	value := s.load.at(s.now(now), s.rng)
	if ready > 0 {
		value *= 0.25 * s.rng.Float64()
	}
	return metrics.Stat{PodName: "activator", AverageConcurrentRequests: value, RequestCount: 1.5 * value}, value > 0
}
