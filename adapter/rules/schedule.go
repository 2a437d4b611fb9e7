package rules

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"headroom.dev/headroom/adapter/direct"
)

// A tick runs its rules in four ways, none of which waits for another:
//
//   - Rules with a plan share one direct.Evaluator, which keeps what it knows of the series from tick to tick, and so run
//     one after the other, in the lane.
//   - Other quick rules are taken from a queue by as many workers as there are processors, the quickest and those that
//     had to wait first. Each tick has workers of its own: one that is caught in a rule that has become slow is not missed.
//   - Rules that are known to be slow run each in a goroutine of its own, a few at once, and are not waited for.
//   - Queries to the server likewise.

// round is what one tick waits for.
type round struct {
	left int // workers and the lane
	done chan struct{}
}

// leave says that one of the round has done its work.
func (e *Evaluator) leave(r *round) {
	r.left--
	if r.left == 0 {
		close(r.done)
	}
}

// lane is the one goroutine for rules with plans.
type lane struct {
	direct *direct.Evaluator
	busy   bool
	now    *state // that it runs
	before *state // that it ran when the former tick began
}

// start starts what is due. The caller holds mu.
func (e *Evaluator) start(now time.Time) *round {
	r := &round{left: 1, done: make(chan struct{})} // one for this function, so that an idle tick is done at once
	e.round, e.queue = r, e.queue[:0]
	var planned, slow []*state
	for _, st := range e.states {
		quick := st.duration <= slowAfter
		switch {
		case st.c.Err != nil || st.running || st.due.After(now):
		case st.c.Rule.Source == Prometheus:
			e.startRemote(st, now)
		case e.planned(st) && st.own == nil:
			planned = append(planned, st)
		case quick && !e.planned(st):
			e.queue = append(e.queue, st)
		default:
			slow = append(slow, st)
		}
	}
	e.startLane(planned, now, r)
	e.startSlow(slow, now)
	slices.SortStableFunc(e.queue, func(a, b *state) int {
		return cmp.Or(cmp.Compare(b.waited, a.waited), cmp.Compare(a.expected(), b.expected()))
	})
	for _, st := range e.queue {
		st.waited++
	}
	for range min(len(e.queue), runtime.GOMAXPROCS(0)) {
		r.left++
		e.wg.Go(func() { e.work(r) })
	}
	e.leave(r)
	return r
}

// expected is how long the rule may take; one that is new may take long.
func (st *state) expected() time.Duration {
	if st.result == nil && st.err == nil {
		return slowAfter
	}
	return st.duration
}

// work runs rules of the queue until it is empty or belongs to a later tick.
func (e *Evaluator) work(r *round) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.round == r && len(e.queue) > 0 && !e.closed {
		st := e.queue[0]
		e.queue = e.queue[1:]
		e.evaluate(st, e.now, nil)
	}
	e.leave(r)
}

// startSlow starts the slow rules that have waited longest.
func (e *Evaluator) startSlow(list []*state, now time.Time) {
	slices.SortStableFunc(list, func(a, b *state) int { return a.due.Compare(b.due) })
	for _, st := range list[:min(len(list), maxSlow-e.slow)] {
		e.slow++
		st.running = true
		e.wg.Go(func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			var run *direct.Run
			if st.own != nil {
				run = st.own.Run(now)
			}
			e.evaluate(st, now, run)
			e.slow--
		})
	}
}

func (e *Evaluator) startRemote(st *state, now time.Time) {
	if e.remote == maxRemote || e.opts.Remote == nil {
		return
	}
	e.remote++
	st.running = true
	e.wg.Go(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.evaluate(st, now, nil)
		e.remote--
	})
}

// startLane runs the rules with plans, unless the lane still runs them for an earlier tick. A lane that has been at the same
// rule since the former tick is left to it: that rule gets an evaluator of its own from then on, and the others a new lane.
func (e *Evaluator) startLane(list []*state, now time.Time, r *round) {
	if l := e.lane; l != nil && l.busy {
		if l.now == nil || l.now != l.before {
			l.before = l.now
			return
		}
		l.now.own = e.opts.Direct()
		e.lane = nil
	}
	if len(list) == 0 {
		return
	}
	if e.lane == nil {
		e.lane = &lane{direct: e.opts.Direct()}
		for _, st := range e.states {
			st.ran = st.ran && st.own != nil
		}
	}
	l := e.lane
	l.busy, l.before = true, nil
	r.left++
	e.wg.Go(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		run := l.direct.Run(now)
		for _, st := range list {
			if e.lane != l || e.closed {
				break
			}
			l.now = st
			e.evaluate(st, now, run)
		}
		l.busy, l.now = false, nil
		e.leave(r)
	})
}

// evaluate runs a rule once. The caller holds mu, which is free while the rule runs.
func (e *Evaluator) evaluate(st *state, now time.Time, run *direct.Run) {
	c, plan, former := st.c, st.plan, st.result
	st.running, st.waited = true, 0
	e.mu.Unlock()
	begin := e.opts.Clock()
	res, panicked, err := contained(func() (*result, error) {
		switch {
		case c.Rule.Source == Prometheus:
			return e.runRemote(e.ctx, c, former, now)
		case run != nil:
			return e.runDirect(run, c, plan, former, now)
		}
		ctx, cancel := context.WithTimeout(e.ctx, e.opts.Timeout)
		defer cancel()
		return e.runEngine(ctx, c, former, now)
	})
	took := e.opts.Clock().Sub(begin)
	e.mu.Lock()
	st.running, st.duration, st.err = false, took, nil
	if err != nil {
		st.err = fmt.Errorf("cannot evaluate: %w", err)
	} else {
		st.result = res
	}
	st.due = now.Add(e.pause(st))
	if run != nil {
		e.judgePlan(st, panicked)
	}
}

// pause returns how long after the start of its last evaluation a rule is due again.
func (e *Evaluator) pause(st *state) time.Duration {
	if st.c.Rule.Source != Prometheus {
		return pauseFactor * st.duration
	}
	interval := e.opts.RemoteInterval
	if st.err == nil && st.result.series+st.result.objects == 0 {
		interval *= remoteIdleFactor
	}
	return max(remotePauseFactor*st.duration, interval)
}

// judgePlan decides where a rule with a plan runs next. The first run of a plan finds out all about its series and is
// no measure; after that, one long run may be the machine's fault.
func (e *Evaluator) judgePlan(st *state, panicked bool) {
	switch {
	case panicked: // what it left behind is not to be trusted
		if st.own == nil {
			e.lane = nil
		}
		st.noPlan, st.own = true, nil
		return
	case !st.ran || st.duration <= slowAfter:
		st.long = 0
	default:
		st.long++
	}
	st.ran = true
	switch {
	case st.own == nil && st.long < 2:
		st.due = time.Time{} // the lane's evaluator forgets what a run leaves out
	case st.own == nil:
		st.own, st.ran = e.opts.Direct(), false
	case st.long == 0 && st.duration < slowAfter/2:
		st.own, st.ran = nil, false
	}
}
