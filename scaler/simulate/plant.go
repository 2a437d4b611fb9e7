// Package simulate plays a service in virtual time: requests of a trace queue at replicas that take time to start, and the
// production deciders (scaler, scaler/hpa, scaler/kpa) say how many there are.
//
// Time goes in steps of a second. Requests are a fluid: those that arrive in a second are dealt out so that replicas are
// equally loaded, each replica works on up to Slots of them, the others wait there in order of arrival, and what it works
// on ends as exponential service times do, with their noise. Arrivals of a trace of rates are Poisson. TestAgainstEvents holds
// this to a simulation of single requests. What is left out: prefill and decode are one, a batch's size does not slow its requests
// down, no retries, no failures of pods.
package simulate

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/stat/distuv"
)

// Plant is the service and its cluster. Zero values mean the defaults.
type Plant struct {
	// Slots is how many requests a replica works on at once. Default 8.
	Slots int
	// ServiceTime is how long a request takes a slot on average, where the trace does not say. Default 4 s.
	ServiceTime time.Duration
	// StartUp is the time from a pod's creation to its first request, of which Scheduling may pass before it holds a GPU; Jitter
	// is the spread of it (uniform, to either side).
	StartUp, Scheduling, Jitter time.Duration
	// MetricWindow is what rates look back, MetricDelay how old the newest sample is that a decision sees. Defaults 10 s and 2 s,
	// as the adapter measures them.
	MetricWindow, MetricDelay time.Duration
	// LateAfter is for how long a request may wait for a slot and be on time. Default 1 s.
	LateAfter time.Duration
	// Timeout is after what wait clients give up: a failed request. Default 60 s.
	Timeout time.Duration
	// Drain is how long a pod that is deleted may go on with what it has. Default 30 s, a pod's grace period.
	Drain time.Duration
	// Min and Max bound the replicas, whatever a policy wants. Defaults 1 and 1000.
	Min, Max int32
	// Seed is that of arrivals and start-ups.
	Seed uint64
}

func (p Plant) withDefaults() Plant {
	if p.Slots == 0 {
		p.Slots = 8
	}
	if p.ServiceTime == 0 {
		p.ServiceTime = 4 * time.Second
	}
	if p.MetricWindow == 0 {
		p.MetricWindow = 10 * time.Second
	}
	if p.MetricDelay == 0 {
		p.MetricDelay = 2 * time.Second
	}
	if p.LateAfter == 0 {
		p.LateAfter = time.Second
	}
	if p.Timeout == 0 {
		p.Timeout = time.Minute
	}
	if p.Drain == 0 {
		p.Drain = 30 * time.Second
	}
	if p.Min == 0 {
		p.Min = 1
	}
	if p.Max == 0 {
		p.Max = 1000
	}
	return p
}

// Validate returns an error that names the first field that makes no sense.
func (p Plant) Validate() error {
	p = p.withDefaults()
	for name, d := range map[string]time.Duration{
		"service time": p.ServiceTime, "start-up": p.StartUp, "scheduling": p.Scheduling, "jitter": p.Jitter, "metric window": p.MetricWindow,
		"metric delay": p.MetricDelay, "late after": p.LateAfter, "timeout": p.Timeout, "drain": p.Drain,
	} {
		if d < 0 || d > 24*time.Hour {
			return fmt.Errorf("%s is %s: it must be within 0 and 24h", name, d)
		}
	}
	switch {
	case p.Slots < 1:
		return fmt.Errorf("slots is %d: it must be at least 1", p.Slots)
	case p.Min < 0 || p.Min > p.Max:
		return fmt.Errorf("min (%d) must be within 0 and max (%d)", p.Min, p.Max)
	case p.MetricWindow+p.MetricDelay > ringSize*time.Second:
		return fmt.Errorf("metric window and delay (%s) must be within %d s together", p.MetricWindow+p.MetricDelay, ringSize)
	case p.MetricWindow < time.Second:
		return fmt.Errorf("metric window is %s: it must be at least 1s", p.MetricWindow)
	case p.Jitter > p.StartUp+p.Scheduling:
		return fmt.Errorf("jitter (%s) is above start-up with scheduling (%s)", p.Jitter, p.StartUp+p.Scheduling)
	}
	return nil
}

// Capacity is how many requests per second a replica can serve with a mean work per request, in seconds of a slot.
func (p Plant) Capacity() float64 {
	p = p.withDefaults()
	return float64(p.Slots) / p.ServiceTime.Seconds()
}

// Load is a trace as a plant sees it, second by second: made once, and run under many policies.
type Load struct {
	Trace    *Trace
	plant    Plant
	arrivals []float32 // requests
	work     []float32 // seconds of a slot that they need; nil: the mean for each
	mean     float64   // seconds of a slot per request
	unknown  []bool    // seconds in gaps of the trace; nil: there are none
	needed   []float32 // slots taken if nothing ever waited
	slots    float64   // of a replica
}

// NewLoad draws the arrivals of a trace.
func NewLoad(t *Trace, p Plant) (*Load, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("cannot simulate: %w", err)
	}
	p = p.withDefaults()
	seconds := int(t.Duration() / time.Second)
	if seconds < 2 {
		return nil, errors.New("cannot simulate: the trace is shorter than 2 s")
	}
	l := &Load{Trace: t, plant: p, arrivals: make([]float32, seconds), mean: p.ServiceTime.Seconds(), slots: float64(p.Slots)}
	if len(t.Requests) > 0 {
		l.requests(t.Requests)
	} else {
		l.rates(t)
	}
	if l.mean < 1 { // a step of a second cannot hold shorter ones: as many more slots, as much longer
		l.slots /= l.mean
		if l.work != nil {
			for i := range l.work {
				l.work[i] /= float32(l.mean)
			}
		}
		l.mean = 1
	}
	l.occupy()
	return l, nil
}

func (l *Load) requests(requests []Request) {
	l.work = make([]float32, len(l.arrivals))
	sum := 0.0
	for _, r := range requests {
		i := min(int(r.At/time.Second), len(l.arrivals)-1)
		l.arrivals[i]++
		l.work[i] += float32(r.Work)
		sum += r.Work
	}
	l.mean = max(sum/float64(len(requests)), 1e-3)
}

func (l *Load) rates(t *Trace) {
	source := rand.NewPCG(l.plant.Seed, 1)
	poisson := distuv.Poisson{Src: source}
	for i := range l.arrivals {
		rate := t.Rate[int(time.Duration(i)*time.Second/t.Step)]
		switch {
		case math.IsNaN(rate):
			if l.unknown == nil {
				l.unknown = make([]bool, len(l.arrivals))
			}
			l.unknown[i] = true
		case rate > 0:
			poisson.Lambda = rate
			l.arrivals[i] = float32(poisson.Rand())
		}
	}
}

// occupy works out how many slots would be taken if nothing waited: arrivals that leave at the rate of their service.
func (l *Load) occupy() {
	l.needed = make([]float32, len(l.arrivals))
	running, work := 0.0, 0.0
	for i, a := range l.arrivals {
		if running > 0 {
			ended := min(running*running/work, running)
			running, work = running-ended, max(work-running, 0)
		}
		running += float64(a)
		work += l.workOf(i)
		if running < 1e-9 || work < 1e-9 {
			running, work = 0, 0
		}
		l.needed[i] = float32(running)
	}
}

func (l *Load) workOf(second int) float64 {
	if l.work != nil {
		return float64(l.work[second])
	}
	return float64(l.arrivals[second]) * l.mean
}

// Seconds is how long the load is.
func (l *Load) Seconds() int { return len(l.arrivals) }

// Capacity is how many requests per second one replica can serve.
func (l *Load) Capacity() float64 { return l.slots / l.mean }

// Needed is how many replicas would serve a second's requests without a queue.
func (l *Load) Needed(second int) int32 {
	return int32(math.Ceil(float64(l.needed[second])/l.slots - 1e-6))
}
