package simulate

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Policy decides how many replicas there should be.
type Policy interface {
	// Name is the policy's, Setting its parameters', for tables.
	Name() string
	Setting() string
	// Period is how often Decide is called, in seconds.
	Period() int
	// Decide returns the replicas wanted. It must not keep v.
	Decide(v *View) int32
}

// Prepared is a Policy that is told what it will run on before it does.
type Prepared interface {
	Prepare(l *Load, p Plant) error
}

// Observer is a Policy that looks each second, as Knative's autoscaler does.
type Observer interface {
	Observe(v *View)
}

// Lagging is a Policy whose decisions take effect some seconds after what they rest on was seen.
type Lagging interface {
	Lag() int
}

// RunOptions say what is to be kept of a run.
type RunOptions struct {
	// Cuts divide the run into parts that are scored apart; none: one part.
	Cuts []time.Duration
	// Points is how many points a result's series has at most; 0: no series.
	Points int
}

// run is one run of a policy over a load.
type run struct {
	plant    Plant
	load     *Load
	policy   Policy
	rng      *rand.Rand
	noise    []float32  // standard normals, drawn once: a month has a hundred million
	replicas []*replica // by creation
	gone     []*replica // for reuse
	nextID   int
	spec     int32 // the replicas wanted of the cluster
	pending  []order
	backlog  []cohort // nobody is ready
	view     View
	score    *score
	totals   totals
	arrived  float64
	started  func(cohort)
	now      int
}

// noises is how many there are; each second begins at another.
const noises = 1 << 16

type order struct {
	at       int
	replicas int32
}

// Run plays the load under a policy and returns a Result for each part.
func Run(l *Load, policy Policy, o RunOptions) ([]Result, error) {
	if !slices.IsSorted(o.Cuts) {
		return nil, errors.New("cannot simulate: cuts are not in order")
	}
	if p, ok := policy.(Prepared); ok {
		if err := p.Prepare(l, l.plant); err != nil {
			return nil, fmt.Errorf("cannot simulate %s: %w", policy.Name(), err)
		}
	}
	lag := 0
	if p, ok := policy.(Lagging); ok {
		lag = p.Lag()
	}
	observer, _ := policy.(Observer)
	r := newRun(l, policy, o)
	for r.now = range l.Seconds() {
		r.second()
		if observer != nil {
			r.view.at(r.now)
			observer.Observe(&r.view)
		}
		r.decide(lag)
	}
	return r.score.results(policy, l), nil
}

func newRun(l *Load, policy Policy, o RunOptions) *run {
	seconds := l.Seconds()
	parts := make([]int, 0, len(o.Cuts)+1)
	for _, c := range o.Cuts {
		if at := int(c / time.Second); at > 0 && at < seconds {
			parts = append(parts, at)
		}
	}
	r := &run{
		plant: l.plant, load: l, policy: policy, rng: rand.New(rand.NewPCG(l.plant.Seed, 2)),
		score: newScore(append(parts, seconds), o.Points, seconds), noise: make([]float32, noises),
	}
	for i := range r.noise {
		r.noise[i] = float32(r.rng.NormFloat64())
	}
	r.started = func(c cohort) { r.score.started(r.now, c, r.plant.LateAfter) }
	r.view.run = r
	r.begin()
	return r
}

// decide asks the policy when it is time, and does what it wanted lag seconds ago.
func (r *run) decide(lag int) {
	if r.now%r.policy.Period() == 0 && (r.load.unknown == nil || !r.load.unknown[r.now]) {
		r.view.at(r.now)
		r.pending = append(r.pending, order{r.now + lag, r.policy.Decide(&r.view)})
	}
	for len(r.pending) > 0 && r.pending[0].at <= r.now {
		r.scale(r.pending[0].replicas)
		r.pending = slices.Delete(r.pending, 0, 1)
	}
}

// begin starts with the replicas that the first minute needs, ready.
func (r *run) begin() {
	most := int32(1)
	for s := range min(60, r.load.Seconds()) {
		most = max(most, r.load.Needed(s))
	}
	r.spec = min(max(most, r.plant.Min), r.plant.Max)
	for range r.spec {
		p := r.create()
		p.state, p.created, p.readyAt = ready, -3600, -3000
	}
}

// second lets one pass: pods become ready, work ends, requests arrive and begin.
func (r *run) second() {
	now := r.now
	timeout := int(r.plant.Timeout / time.Second)
	finished, failed := 0.0, 0.0
	serving := 0
	chance := r.rng.Uint32()
	for _, p := range r.replicas {
		if p.state == loading {
			if p.readyAt > now {
				continue
			}
			p.state = ready
		}
		finished += p.finish(now, float64(r.noise[chance%noises]))
		chance++
		failed += p.expire(now - timeout)
		if p.state == ready {
			serving++
		}
	}
	arrived := float64(r.load.arrivals[now])
	if arrived > 0 {
		c := cohort{now, arrived, r.load.workOf(now)}
		r.score.arrived(c)
		if serving == 0 {
			r.backlog = append(r.backlog, c)
		} else {
			r.dispatch(c, serving)
		}
	}
	for serving > 0 && len(r.backlog) > 0 {
		r.dispatch(r.backlog[0], serving)
		r.backlog = r.backlog[1:]
	}
	for len(r.backlog) > 0 && r.backlog[0].at < now-timeout {
		failed += r.backlog[0].count
		r.backlog = r.backlog[1:]
	}
	failed += r.advance(now)
	r.arrived = arrived
	r.totals.record(r, finished)
	r.score.second(r, serving, failed)
}

// drained is of how many requests less none is left: a fluid thins out for ever.
const drained = 0.5

// advance begins what fits, and ends pods that have drained.
func (r *run) advance(now int) (aborted float64) {
	kept := r.replicas[:0]
	for _, p := range r.replicas {
		if p.waiting > 0 {
			p.begin(r.load.slots, r.started)
		}
		if p.state == draining && (p.load() < drained || p.ends <= now) {
			if left := p.load(); left >= drained {
				aborted += left
				r.score.killedBusy++
			}
			r.gone = append(r.gone, p)
			continue
		}
		kept = append(kept, p)
	}
	clear(r.replicas[len(kept):])
	r.replicas = kept
	return aborted
}

// dispatch deals requests out to the serving replicas so that they are as equally loaded as can be.
func (r *run) dispatch(c cohort, serving int) {
	sum, n := c.count, 0
	for _, p := range r.replicas {
		if p.state == ready {
			sum += p.load()
			n++
		}
	}
	level := sum / float64(n)
	for range serving { // those above the level get none, which lowers it for the others
		above, rest, m := false, c.count, 0
		for _, p := range r.replicas {
			if p.state != ready {
				continue
			}
			if l := p.load(); l < level {
				rest += l
				m++
			} else {
				above = true
			}
		}
		if m == 0 {
			break
		}
		next := rest / float64(m)
		if !above || next >= level-1e-9 {
			level = next
			break
		}
		level = next
	}
	for _, p := range r.replicas {
		if p.state != ready {
			continue
		}
		if gap := level - p.load(); gap > 1e-12 {
			p.admit(cohort{c.at, gap, c.work * gap / c.count})
		}
	}
}

func (r *run) create() *replica {
	var p *replica
	if n := len(r.gone); n > 0 {
		p, r.gone = r.gone[n-1], r.gone[:n-1]
		*p = replica{queue: p.queue[:0]}
	} else {
		p = &replica{}
	}
	takes := r.plant.StartUp + r.plant.Scheduling
	if j := r.plant.Jitter; j > 0 {
		takes += time.Duration((2*r.rng.Float64() - 1) * float64(j))
	}
	p.id = r.nextID
	r.nextID++
	p.created, p.readyAt = r.now, r.now+int(math.Round(takes.Seconds()))
	r.replicas = append(r.replicas, p)
	return p
}

// scale brings the cluster to as many replicas as wanted: the controllers create, or delete in the order of ReplicaSets (pods
// that are not ready first, of those and of the others the youngest).
func (r *run) scale(wanted int32) {
	wanted = min(max(wanted, r.plant.Min), r.plant.Max)
	if wanted == r.spec {
		return
	}
	r.score.changes++
	for ; r.spec < wanted; r.spec++ {
		r.create()
	}
	for _, victims := range []state{loading, ready} {
		for i := len(r.replicas) - 1; i >= 0 && r.spec > wanted; i-- {
			p := r.replicas[i]
			if p.state != victims {
				continue
			}
			r.spec--
			if p.state == loading {
				r.score.killedLoading++
				r.gone = append(r.gone, p)
				r.replicas = slices.Delete(r.replicas, i, i+1)
				continue
			}
			p.state, p.ends = draining, r.now+int(r.plant.Drain/time.Second)
		}
	}
}
