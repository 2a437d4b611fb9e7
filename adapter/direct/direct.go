// Package direct evaluates the common shapes of PromQL over the store, tick after tick, for a small part of what
// Prometheus' engine costs: selectors, functions of a range, aggregations, histogram_quantile, arithmetic, comparisons,
// one-to-one matching, and, or, unless. Compile refuses everything else with an *UnsupportedError; the caller then has
// the engine.
//
// Guarantees:
//   - A value is the engine's (prometheus v0.316.0, no feature flags, look-back MaxAge), to 1e-9 relative where sums depend
//     on their order, and an evaluation fails where the engine's fails. TestEngine holds it to that on random data.
//   - Each selector sees every scrape wholly or not at all, as with the store's Select.
//   - What depends on the set of series alone (matching, grouping, membership, labels of results) is kept between runs and
//     brought up to date for the series that changed; a run reads points and adds numbers. What stands twice in the plans
//     of one run is computed once.
//   - What no plan used for keepRuns runs is dropped: memory is bounded by the series of the plans in use.
//
// Where the engine and this differ: series that differ in __type__ or __unit__ alone, or in a label that the membership
// replaces, become alike when the label goes. The engine then may refuse the expression; here both count.
package direct

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"headroom.dev/headroom/adapter/store"
)

// Labels that name the pod whose membership decides about a series.
const (
	namespaceLabel = "namespace"
	podLabel       = "pod"
)

// Membership decides which series count, and for what. A series without a pod label passes unchanged.
type Membership struct {
	// ID tells apart the memberships of one run. A membership of another ID shares nothing with this one.
	ID string
	// Version changes whenever Of may answer otherwise than before.
	Version uint64
	// Label is set on each series, once to each of its pod's values, in place of one of that name that it may have; ""
	// leaves the series' labels as they are. Matchers of Label in an expression see what is set.
	Label string
	// Of returns the values of Label for a pod; none, and false, leave its series out. Nil stands for no membership at all.
	Of func(namespace, pod string) (values []string, ok bool)
	// MaxAge leaves out any series, with or without a pod, whose newest sample in a selector's range is as old or older,
	// counted from the moment that the selector looks at: out of values and of their dating. 0 leaves none out.
	MaxAge time.Duration
}

// Times of Seen where there is no such series.
const (
	None  = math.MaxInt64 // of Live
	Never = math.MinInt64 // of Ended
)

// Seen says how new the samples behind an object are, in ms. Samples that a selector with an offset reads count as newer
// by the offset.
type Seen struct {
	// Live is the oldest, over the selectors of the expression, of the newest samples of the object's live series; of a
	// range selector with none but ended series, the newest sample of these. None where no selector has a live series.
	Live int64
	// Ended is the newest sample of the object's series that ended (whose last point is a stale marker); Never without any.
	Ended int64
}

// Result is one element of the resulting vector.
type Result struct {
	Labels labels.Labels
	Object []string // the values of Options.ObjectLabels, "" for one that the result lacks; shared, not to be changed
	Value  float64
	Seen   // of the series that agree with Object in what it has; {None, Never} where there are none
}

// Object is one that the selectors found samples of.
type Object struct {
	Object []string // as in Result
	Seen
}

// Output is what an expression gave.
type Output struct {
	Results []Result // in no particular order
	Missing []Object // those with all object labels that have samples and no result; empty without Options.ObjectLabels
	Series  int      // read, with samples in the selectors' ranges; one that two selectors read counts twice
}

// keepRuns is how many runs in a row may not use something before it is dropped. Slow rules pause between ticks, and would
// be slower still if they began from nothing each time.
const keepRuns = 32

// Evaluator runs plans over one store and keeps between runs what does not change. It serves one goroutine at a time.
type Evaluator struct {
	st     *store.Store
	run    uint64 // the number of the present run
	now    int64  // ms
	stamps uint64 // the last one given to a row

	nodes   map[string]node
	objects map[string]*objects
	pods    *table[pod]
	members map[string]*members
	pipes   map[pipeKey]*pipe
}

// New returns an evaluator over a store.
func New(st *store.Store) *Evaluator {
	e := &Evaluator{
		st: st, nodes: map[string]node{}, objects: map[string]*objects{}, members: map[string]*members{}, pipes: map[pipeKey]*pipe{},
	}
	e.pods = newTable[pod](e)
	return e
}

// Run is one evaluation of many plans as of one moment.
type Run struct {
	e      *Evaluator
	number uint64
}

// Run begins a run, which ends the one before.
func (e *Evaluator) Run(now time.Time) *Run {
	e.sweep()
	e.run++
	e.now = now.UnixMilli()
	return &Run{e: e, number: e.run}
}

// sweep drops what was not used for long.
func (e *Evaluator) sweep() {
	unused := func(ran uint64) bool { return e.run >= ran+keepRuns }
	for key, p := range e.pipes {
		if unused(p.ran) {
			p.close()
			delete(e.pipes, key)
		}
	}
	for key, n := range e.nodes {
		if unused(n.vec().ran) {
			n.close()
			delete(e.nodes, key)
		}
	}
	maps.DeleteFunc(e.members, func(_ string, m *members) bool { return unused(m.ran) })
	maps.DeleteFunc(e.objects, func(_ string, o *objects) bool { return unused(o.ran) })
}

// Evaluate returns what the plan gives for a membership. The output is valid until the Evaluator's next run; its labels
// and objects are for good. The error, like the engine's, is about the expression and the present series as a whole.
func (r *Run) Evaluate(p *Plan, m Membership) (*Output, error) {
	e := r.e
	if r.number != e.run {
		return nil, errors.New("the run is over")
	}
	if m.Of != nil && m.Label != p.opts.MembershipLabel {
		return nil, fmt.Errorf("the plan expects the membership label %q, not %q", p.opts.MembershipLabel, m.Label)
	}
	key := pipeKey{p, m.ID}
	pipe, ok := e.pipes[key]
	if !ok {
		pipe = e.newPipe(p, e.membersOf(&m))
		e.pipes[key] = pipe
	}
	if pipe.ms != nil {
		pipe.ms.use(m, e.run)
	}
	return pipe.evaluate(e)
}
