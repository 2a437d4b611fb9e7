package simulate

import (
	"time"
)

// Result is how a policy did over one part of a run.
type Result struct {
	Policy, Setting string
	Start           time.Time
	Duration        time.Duration // with gaps of the trace left out
	Requests        float64
	// Late waited for a slot for longer than Plant.LateAfter; Failed gave up or lost their pod, and are late as well.
	Late, Failed float64
	// Attainment is the share of requests that were on time; 1 without requests.
	Attainment float64
	// ReplicaHours are from the creation of each pod to its end, loading and draining included.
	ReplicaHours float64
	// UnderTime and OverTime are the shares of time with fewer or more serving replicas than were needed to let nothing wait;
	// Under and Over by how much on average, relative to those needed (θ_U and θ_O of Herbst et al., Ready for Rain? 2016).
	UnderTime, OverTime, Under, Over float64
	// Changes is how often the wanted replicas changed.
	Changes int
	// KilledLoading are pods deleted before they served, KilledBusy those killed with requests at the end of their grace period.
	KilledLoading, KilledBusy int
	// Waits for a slot, of the requests that got one.
	WaitP50, WaitP95, WaitP99 time.Duration
	Series                    []Point
}

// Point is a stretch of a run: means over it, sums for requests.
type Point struct {
	At             time.Time
	Arrivals       float64 // per second
	Needed         float64 // replicas that would let nothing wait
	Wanted         float64 // replicas that the cluster is asked for
	Ready, Loading float64 // replicas
	Missing        float64 // replicas by which Ready fell short of Needed: means hide what lasts less than a point
	Queue          float64 // requests that wait
	Late           float64 // requests that became late
}

// score is what a run is scored by, part by part.
type score struct {
	ends                      []int
	part                      int
	parts                     []sums
	changes                   int
	killedLoading, killedBusy int
	marks                     [3]int // those counters at the end of the part before
	width                     int    // seconds of a point; 0: no series
	point                     Point
	inPoint                   int
}

type sums struct {
	seconds, requests, late, failed, hours float64
	underTime, overTime, under, over       float64
	needing                                float64 // seconds with a need
	counters                               [3]int
	waits                                  [302]float64 // by whole seconds; the last is longer
	series                                 []Point
	start                                  int
}

func newScore(ends []int, points, seconds int) *score {
	s := &score{ends: ends, parts: make([]sums, len(ends))}
	if points > 0 {
		s.width = max((seconds+points-1)/points, 1)
	}
	for i := 1; i < len(ends); i++ {
		s.parts[i].start = ends[i-1]
	}
	return s
}

func (s *score) arrived(c cohort) { s.parts[s.part].requests += c.count }

// started counts requests that get a slot now.
func (s *score) started(now int, c cohort, lateAfter time.Duration) {
	p := &s.parts[s.part]
	wait := now - c.at
	p.waits[min(wait, len(p.waits)-1)] += c.count
	if time.Duration(wait)*time.Second > lateAfter {
		p.late += c.count
		s.point.Late += c.count
	}
}

func (s *score) second(r *run, serving int, failed float64) {
	p := &s.parts[s.part]
	p.failed += failed
	p.late += failed
	total := len(r.replicas)
	needed := r.load.Needed(r.now)
	if r.load.unknown == nil || !r.load.unknown[r.now] {
		p.seconds++
		p.hours += float64(total)
		if gap := float64(serving) - float64(needed); gap < 0 {
			p.underTime++
			p.under -= gap / float64(needed)
		} else if gap > 0 {
			p.overTime++
			if needed > 0 {
				p.over += gap / float64(needed)
			}
		}
		if needed > 0 {
			p.needing++
		}
	}
	if s.width > 0 {
		s.draw(r, float64(serving), float64(needed), failed)
	}
	if r.now+1 == s.ends[s.part] {
		counters := [3]int{s.changes, s.killedLoading, s.killedBusy}
		for i := range counters {
			p.counters[i] = counters[i] - s.marks[i]
		}
		s.marks = counters
		if s.part < len(s.ends)-1 {
			s.part++
		}
	}
}

func (s *score) draw(r *run, serving, needed, failed float64) {
	d := &s.point
	d.Arrivals += r.arrived
	d.Needed += needed
	d.Wanted += float64(r.spec)
	d.Ready += serving
	d.Missing += max(needed-serving, 0)
	d.Late += failed
	for _, p := range r.replicas {
		if p.state == loading {
			d.Loading++
		}
		d.Queue += p.waiting
	}
	s.inPoint++
	if s.inPoint < s.width && r.now+1 != s.ends[s.part] {
		return
	}
	n := float64(s.inPoint)
	for _, v := range []*float64{&d.Arrivals, &d.Needed, &d.Wanted, &d.Ready, &d.Loading, &d.Missing, &d.Queue} {
		*v /= n
	}
	d.At = r.load.Trace.Start.Add(time.Duration(r.now+1-s.inPoint) * time.Second)
	s.parts[s.part].series = append(s.parts[s.part].series, *d)
	s.point, s.inPoint = Point{}, 0
}

func (s *score) results(policy Policy, l *Load) []Result {
	out := make([]Result, len(s.parts))
	for i := range s.parts {
		p := &s.parts[i]
		out[i] = Result{
			Policy: policy.Name(), Setting: policy.Setting(),
			Start:    l.Trace.Start.Add(time.Duration(p.start) * time.Second),
			Duration: time.Duration(p.seconds) * time.Second,
			Requests: p.requests, Late: p.late, Failed: p.failed, Attainment: 1, ReplicaHours: p.hours / 3600,
			Changes: p.counters[0], KilledLoading: p.counters[1], KilledBusy: p.counters[2],
			WaitP50: p.wait(0.5), WaitP95: p.wait(0.95), WaitP99: p.wait(0.99), Series: p.series,
		}
		if p.requests > 0 {
			out[i].Attainment = 1 - min(p.late/p.requests, 1)
		}
		if p.seconds > 0 {
			out[i].UnderTime, out[i].OverTime = p.underTime/p.seconds, p.overTime/p.seconds
		}
		if p.needing > 0 {
			out[i].Under, out[i].Over = p.under/p.needing, p.over/p.needing
		}
	}
	return out
}

func (s *sums) wait(quantile float64) time.Duration {
	total := 0.0
	for _, n := range s.waits {
		total += n
	}
	sum := 0.0
	for i, n := range s.waits {
		if sum += n; sum >= quantile*total-1e-9 && sum > 0 {
			return time.Duration(i) * time.Second
		}
	}
	return 0
}
