package rules

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"headroom.dev/headroom/adapter/direct"
	"headroom.dev/headroom/adapter/metric"
)

// Defaults of Options.
const (
	// DefaultBudget leaves a tick of half a second most of its time, and is far above what rules need.
	DefaultBudget = 200 * time.Millisecond
	// DefaultTimeout is well below DefaultMaxAge.
	DefaultTimeout = 2 * time.Second
	// DefaultMaxSamples is what the engine may hold at once for one rule: 16 bytes each. 1,000 pods with 40 buckets
	// and 30 samples are 1.2 million.
	DefaultMaxSamples = 20_000_000
	// DefaultMaxResults is what one rule may describe, at some 80 bytes each: ten times the pods of the largest bench.
	DefaultMaxResults = 50_000
	// DefaultRemoteInterval asks a server twice or oftener for each of its usual scrape intervals, 15 and 30 s.
	DefaultRemoteInterval = 5 * time.Second
	// DefaultRemoteTimeout leaves a second try within DefaultRemoteMaxAge, and outlasts a slow server.
	DefaultRemoteTimeout = 10 * time.Second
)

const (
	// pauseFactor is how many times its own duration a rule waits from one start to the next.
	pauseFactor = 10
	// remotePauseFactor is the same for queries: they cost us nothing, and a server in trouble at least every other moment.
	remotePauseFactor = 2
	// remoteIdleFactor is how many intervals pass between two queries of a rule that finds no series: most of the built-in
	// ones are about servers that a cluster does not have.
	remoteIdleFactor = 6
	// slowAfter is when a rule no longer shares a worker with others: then the pause is longer than a tick of half a second.
	slowAfter = 50 * time.Millisecond
	// maxSlow and maxRemote bound how many slow rules, and how many queries to the server, run at once.
	maxSlow   = 4
	maxRemote = 8
)

// Options of an Evaluator. Store is required; zero values of the rest stand for the defaults.
type Options struct {
	Store storage.Queryable
	// Direct makes evaluators of plans over the same store; nil runs all rules in the PromQL engine.
	Direct func() *direct.Evaluator
	// Directory knows the pods; nil lets rules about groups of pods see all series as they are.
	Directory metric.Directory
	// Remote is asked by rules with the source Prometheus; nil makes them fail.
	Remote Remote
	// Clock measures how long rules take, on which pauses and Status.Duration rest; without it durations are 0.
	Clock func() time.Time

	Budget         time.Duration // how long a tick waits for the rules that it starts
	Timeout        time.Duration // of one evaluation of one rule in the engine
	MaxSamples     int           // of one evaluation of one rule in the engine
	MaxResults     int           // of one rule
	RemoteInterval time.Duration // from one query of a rule to the next; six times that where it finds no series
	RemoteTimeout  time.Duration // of one query
}

func (o *Options) complete() {
	setDefault(&o.Budget, DefaultBudget)
	setDefault(&o.Timeout, DefaultTimeout)
	setDefault(&o.MaxSamples, DefaultMaxSamples)
	setDefault(&o.MaxResults, DefaultMaxResults)
	setDefault(&o.RemoteInterval, DefaultRemoteInterval)
	setDefault(&o.RemoteTimeout, DefaultRemoteTimeout)
	if o.Clock == nil {
		o.Clock = func() time.Time { return time.Time{} }
	}
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Evaluator runs a set of rules, tick after tick, and carries what one tick leaves for the next. It is safe for
// concurrent use; ticks wait for one another.
type Evaluator struct {
	opts   Options
	engine *promql.Engine
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // evaluations

	ticking sync.Mutex // held by Tick

	mu     sync.Mutex
	closed bool
	wanted *Set // in force from the next tick on
	set    *Set
	states []*state // as in set.rules
	now    time.Time
	round  *round
	queue  []*state // quick rules that wait for a worker of the round
	lane   *lane
	slow   int // slow rules that run
	remote int // queries to the server that run
	memory map[metricKey]*memory
}

// state is one rule's. The Evaluator's mu guards it.
type state struct {
	c        *Compiled
	plan     *direct.Plan // c's, or that of an equal rule before it: an evaluator knows its series
	result   *result      // the last good one
	err      error        // of the last evaluation
	duration time.Duration
	due      time.Time
	running  bool
	waited   int               // ticks at which it was due and nobody took it
	long     int               // evaluations by plan, one after the other, that took longer than slowAfter
	ran      bool              // it has run in the lane or by its own evaluator, which then knows its series
	own      *direct.Evaluator // of a rule that was too slow for the lane
	noPlan   bool              // its plan panicked: the engine runs it
}

// planned reports whether the rule runs by its plan.
func (e *Evaluator) planned(st *state) bool {
	return e.opts.Direct != nil && st.plan != nil && !st.noPlan
}

// NewEvaluator returns an evaluator without rules.
func NewEvaluator(opts Options) *Evaluator {
	opts.complete()
	e := &Evaluator{opts: opts, engine: newEngine(&opts), wanted: &Set{}, memory: map[metricKey]*memory{}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// SetRules replaces the rules from the next tick on. Rules that stay the same keep their values.
func (e *Evaluator) SetRules(set *Set) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wanted = set
}

// Tick evaluates what is due as of now, which never goes back, and returns the snapshot of what all rules have, at the
// latest after the budget. After Close it evaluates nothing.
func (e *Evaluator) Tick(now time.Time) *Snapshot {
	e.ticking.Lock()
	defer e.ticking.Unlock()
	e.mu.Lock()
	e.adopt(now)
	e.now = now
	var r *round
	if !e.closed {
		r = e.start(now)
	}
	e.mu.Unlock()
	if r != nil {
		ctx, cancel := context.WithTimeout(e.ctx, e.opts.Budget)
		select {
		case <-r.done:
		case <-ctx.Done():
		}
		cancel()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.snapshot(now)
}

// Close ends all evaluations and waits for them.
func (e *Evaluator) Close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.wg.Wait()
}

// adopt takes over the rules that are wanted.
func (e *Evaluator) adopt(now time.Time) {
	if e.set == e.wanted {
		return
	}
	former := map[string]*state{}
	for _, st := range e.states {
		if st.c.Err == nil {
			former[st.c.identity] = st
		}
	}
	e.set, e.states = e.wanted, make([]*state, len(e.wanted.rules))
	for i, c := range e.set.rules {
		st, ok := former[c.identity]
		switch {
		case !ok || c.Err != nil:
			st = &state{err: c.Err, plan: c.plan}
		case !maps.Equal(st.c.covers, c.covers) || (st.c.covers == nil) != (c.covers == nil):
			st.due = time.Time{}
		}
		st.c = c
		if c.Err == nil && c.Rule.Source == Prometheus && e.opts.Remote == nil {
			st.err = errors.New("source: no Prometheus server is configured")
		}
		e.states[i] = st
	}
	e.queue = nil
	e.remember(now)
}

// snapshot puts together what all rules have.
func (e *Evaluator) snapshot(now time.Time) *Snapshot {
	s := &Snapshot{at: now, set: e.set, views: make([]rule, len(e.states))}
	for i, st := range e.states {
		s.views[i] = rule{c: st.c, result: st.result, err: st.err, duration: st.duration, direct: e.planned(st)}
	}
	e.learn(s, now)
	return s
}
