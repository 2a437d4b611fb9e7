package rules

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"headroom.dev/headroom/adapter/metric"
)

const (
	// DefaultTimeout is far above what rules need (the built-in ones take some 60 ms of CPU together for 1,000 pods with
	// 17,000 series, BenchmarkEvaluate) and well below DefaultMaxAge.
	DefaultTimeout = 2 * time.Second
	// DefaultMaxSamples is what the engine may hold at once for one rule: 16 bytes each. 1,000 pods with 40 buckets
	// and 30 samples are 1.2 million.
	DefaultMaxSamples = 20_000_000

	// maxExamples bounds Status.Examples.
	maxExamples = 5

	unlabelled = "the rule gives results without labels namespace and pod; aggregate by (namespace, pod)"
)

// EvaluatorOptions bound an evaluation; zero values stand for the defaults.
type EvaluatorOptions struct {
	Timeout    time.Duration // for each rule
	MaxSamples int           // for each rule
	// Clock measures Status.Duration; without it durations are 0.
	Clock func() time.Time
}

// Evaluator runs a set of rules. It is safe for concurrent use.
type Evaluator struct {
	set    *Set
	engine *promql.Engine
	clock  func() time.Time
}

// NewEvaluator returns an evaluator of the set's good rules.
func NewEvaluator(set *Set, opts EvaluatorOptions) *Evaluator {
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.MaxSamples <= 0 {
		opts.MaxSamples = DefaultMaxSamples
	}
	if opts.Clock == nil {
		opts.Clock = func() time.Time { return time.Time{} }
	}
	return &Evaluator{set: set, clock: opts.Clock, engine: promql.NewEngine(promql.EngineOpts{
		Timeout:       opts.Timeout,
		MaxSamples:    opts.MaxSamples,
		LookbackDelta: metric.DefaultMaxAge, // each query says its own
		// The step of a subquery that names none. The engine has no default for it.
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Second.Milliseconds() },
	})}
}

// Evaluate runs all good rules over q as of now, each in a goroutine and with a time limit of its own: one that fails or
// is slow has no value in the snapshot, and delays it by Timeout at most. It always returns a snapshot; ctx ends it early.
func (e *Evaluator) Evaluate(ctx context.Context, q storage.Queryable, now time.Time) *Snapshot {
	snap := &Snapshot{at: now, rules: make([]result, len(e.set.rules)), index: map[metricKey]int{}}
	var wg sync.WaitGroup
	for i := range e.set.rules {
		c, res := &e.set.rules[i], &snap.rules[i]
		key := metricKey{c.Rule.Metric, c.Rule.Resource}
		if _, ok := snap.index[key]; checkNames(&c.Rule) == nil && (!ok || c.Err == nil) {
			snap.index[key] = i
		}
		res.rule = c
		res.status = Status{Rule: c.Rule, Err: c.Err}
		if c.Err == nil {
			wg.Go(func() {
				start := e.clock()
				res.run(ctx, e.engine, q, now)
				res.status.Duration = e.clock().Sub(start)
			})
		}
	}
	wg.Wait()
	return snap
}

// run fills in the result of one rule.
func (r *result) run(ctx context.Context, engine *promql.Engine, q storage.Queryable, now time.Time) {
	// The engine turns its own panics into errors only while it evaluates. One in a Queryable, or while it prepares, would
	// end the process for all rules.
	defer func() {
		if p := recover(); p != nil {
			r.status.Err = fmt.Errorf("cannot evaluate: panic: %v", p)
			r.entries = nil
		}
	}()
	o := &observer{Queryable: q, now: now.UnixMilli()}
	opts := promql.NewPrometheusQueryOpts(false, r.rule.Rule.MaxAge, nil)
	query, err := engine.NewInstantQuery(ctx, o, opts, r.rule.Rule.Expr, now)
	if err != nil {
		r.status.Err = fmt.Errorf("cannot evaluate: %w", err)
		return
	}
	defer query.Close()
	res := query.Exec(ctx)
	vector, err := res.Vector()
	if err != nil {
		r.status.Err = fmt.Errorf("cannot evaluate: %w", err)
		return
	}
	found := r.take(o, vector)
	if !r.rule.mixes { // else a series' own labels need not name an object of the rule
		r.explainMissing(o, found)
	}
	slices.SortFunc(r.entries, func(a, b entry) int { return a.object.compare(b.object) })
}

// take makes entries of the engine's results and returns the objects that have one.
func (r *result) take(o *observer, vector promql.Vector) map[objectKey]bool {
	found := make(map[objectKey]bool, len(vector))
	r.entries = make([]entry, 0, len(vector))
	slices.SortFunc(vector, func(a, b promql.Sample) int {
		return cmp.Or(cmp.Compare(a.Metric.Get(namespaceLabel), b.Metric.Get(namespaceLabel)),
			cmp.Compare(a.Metric.Get(podLabel), b.Metric.Get(podLabel)))
	})
	for i := 0; i < len(vector); {
		key := objectKey{vector[i].Metric.Get(namespaceLabel), vector[i].Metric.Get(podLabel)}
		same := i + 1
		for same < len(vector) && vector[same].Metric.Get(namespaceLabel) == key.namespace && vector[same].Metric.Get(podLabel) == key.pod {
			same++
		}
		results := vector[i:same]
		i = same
		switch {
		case key.namespace == "" || key.pod == "":
			r.status.Unlabelled += len(results)
			r.example("result %s has no labels namespace and pod", results[0].Metric)
			continue
		case len(results) > 1:
			r.status.Ambiguous++
			e := entry{object: key, problem: fmt.Sprintf("%d results for one object, like %s and %s; aggregate by (namespace, pod)",
				len(results), results[0].Metric, results[1].Metric)}
			r.example("%s/%s: %s", key.namespace, key.pod, e.problem)
			r.entries = append(r.entries, e)
		default:
			r.entries = append(r.entries, r.entryOf(o, key, &results[0]))
		}
		found[key] = true
	}
	return found
}

func (r *result) entryOf(o *observer, key objectKey, s *promql.Sample) entry {
	e := entry{object: key, value: s.F}
	t, live := o.behind(key, r.rule.mixes)
	switch {
	case t == never:
		e.problem = "no series is known to stand behind the result"
		return e
	case !live:
		e.ended = true
	case s.H != nil:
		e.problem = "the result is a histogram, not a number"
	case math.IsNaN(s.F) && r.rule.Window > 0:
		e.problem = fmt.Sprintf("NaN: no observations in %s", r.rule.Window)
	case math.IsNaN(s.F):
		e.problem = "NaN"
	case math.IsInf(s.F, 0):
		e.problem = "the result is infinite"
	default:
		r.status.Objects++
	}
	e.time = time.UnixMilli(t)
	return e
}

// explainMissing adds entries for the objects that the rule read series of, but has no result for.
func (r *result) explainMissing(o *observer, found map[objectKey]bool) {
	problem := "the expression gives no result for it"
	switch {
	case r.status.Unlabelled > 0:
		problem = unlabelled
	case r.rule.Window > 0:
		problem += fmt.Sprintf("; a rate needs two samples in %s", r.rule.Window)
	}
	for _, s := range o.selections {
		for key := range s.objects {
			if key.namespace == "" || key.pod == "" || found[key] {
				continue
			}
			found[key] = true
			t, live := o.behind(key, false)
			r.entries = append(r.entries, entry{object: key, time: time.UnixMilli(t), ended: !live, problem: problem})
		}
	}
}

func (r *result) example(format string, args ...any) {
	if len(r.status.Examples) < maxExamples {
		r.status.Examples = append(r.status.Examples, fmt.Sprintf(format, args...))
	}
}
