package simulate

import (
	"time"
)

// totals remember the service's sums by second.
type totals struct {
	done, running, waiting [ringSize]float64
	known                  [ringSize]bool
}

func (t *totals) record(r *run, finished float64) {
	i := r.now % ringSize
	running, waiting := 0.0, 0.0
	for _, p := range r.replicas {
		if p.state == ready {
			running += p.running
			waiting += p.waiting
		}
	}
	t.done[i], t.running[i], t.waiting[i] = finished, running, waiting
	t.known[i] = r.load.unknown == nil || !r.load.unknown[r.now]
}

// View is what a policy can see: the metrics as they are when they arrive, MetricDelay old.
type View struct {
	run  *run
	now  int
	last int // the second that metrics are of
}

func (v *View) at(now int) {
	v.now = now
	v.last = max(now-int(v.run.plant.MetricDelay/time.Second), 0)
}

// Second is the time since the start.
func (v *View) Second() int { return v.now }

// Now is the time.
func (v *View) Now() time.Time { return v.run.load.Trace.Start.Add(time.Duration(v.now) * time.Second) }

// Replicas are those that the cluster is asked for, which are also those of the scale's status.
func (v *View) Replicas() int32 { return v.run.spec }

// Known says whether there are metrics: not in a gap of the trace.
func (v *View) Known() bool { return v.run.totals.known[v.last%ringSize] }

// Rate is the requests finished per second, over the metric's window.
func (v *View) Rate() float64 {
	window := v.window()
	sum := 0.0
	for s := v.last - window + 1; s <= v.last; s++ {
		sum += v.run.totals.done[s%ringSize]
	}
	return sum / float64(window)
}

func (v *View) window() int { return max(min(int(v.run.plant.MetricWindow/time.Second), v.last+1), 1) }

// Running and Waiting are requests in the ready replicas, in slots and before them.
func (v *View) Running() float64 { return v.run.totals.running[v.last%ringSize] }

// Waiting see Running.
func (v *View) Waiting() float64 { return v.run.totals.waiting[v.last%ringSize] }

// PodView is what can be seen of a pod that is not being deleted.
type PodView struct {
	ID       int
	Created  int // seconds since the start
	ReadyAt  int
	Ready    bool
	Rate     float64 // requests finished per second
	Running  float64 // at present: a fluid has no noise between replicas that would age
	Waiting  float64
	Measured bool // it served within the metric's window
}

// EachPod calls f for each pod that is not being deleted, by creation.
func (v *View) EachPod(f func(PodView)) {
	window := v.window()
	for _, p := range v.run.replicas {
		if p.state == draining {
			continue
		}
		view := PodView{ID: p.id, Created: p.created, ReadyAt: p.readyAt, Ready: p.state == ready, Running: p.running, Waiting: p.waiting}
		if view.Ready && p.readyAt <= v.last {
			view.Measured = true
			view.Rate = p.finished(v.last, window) / float64(window)
		}
		f(view)
	}
}

// Ready is how many replicas serve.
func (v *View) Ready() int {
	n := 0
	for _, p := range v.run.replicas {
		if p.state == ready {
			n++
		}
	}
	return n
}

// Slots is how many requests a replica works on at once.
func (v *View) Slots() float64 { return v.run.load.slots }
