package rules

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"headroom.dev/headroom/adapter/bound"
	"headroom.dev/headroom/adapter/direct"
	"headroom.dev/headroom/adapter/metric"
)

func newEngine(opts *Options) *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		Timeout:       opts.Timeout,
		MaxSamples:    opts.MaxSamples,
		LookbackDelta: metric.DefaultMaxAge, // each query says its own
		// The step of a subquery that names none. The engine has no default for it.
		NoStepSubqueryIntervalFn: func(int64) int64 { return bound.SubqueryStep.Milliseconds() },
	})
}

// runEngine evaluates an embedded rule with the PromQL engine.
func (e *Evaluator) runEngine(ctx context.Context, c *Compiled, former *result, now time.Time) (*result, error) {
	m := newMaker(c, former, now, e.opts.MaxResults)
	if former == nil || former.series == 0 {
		// Most rules are about servers that a cluster does not have. The engine parses, plans and traces before it finds that out.
		if found, err := e.finds(ctx, c, now); err != nil || !found {
			return m.res, err
		}
	}
	o := &observer{Queryable: e.opts.Store, now: now.UnixMilli(), members: membershipOf(c, e.opts.Directory), dates: &dates{by: c.dating}}
	query, err := e.engine.NewInstantQuery(ctx, o, promql.NewPrometheusQueryOpts(false, c.Rule.MaxAge, nil), c.Rule.Expr, now)
	if err != nil {
		return nil, err
	}
	defer query.Close()
	vector, err := query.Exec(ctx).Vector()
	if err != nil {
		return nil, err
	}
	m.res.series = o.dates.series
	return m.takeVector(vector, o.dates)
}

// finds reports whether any selector of the expression has a sample.
func (e *Evaluator) finds(ctx context.Context, c *Compiled, now time.Time) (bool, error) {
	for _, s := range c.selectors {
		end := timestamp.FromTime(now.Add(-s.offset))
		start := timestamp.FromTime(now.Add(-s.back))
		found, err := e.selects(ctx, c, &s, start, end)
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

func (e *Evaluator) selects(ctx context.Context, c *Compiled, s *selector, start, end int64) (bool, error) {
	q, err := e.opts.Store.Querier(start, end)
	if err != nil {
		return false, err
	}
	defer q.Close() //nolint:errcheck // what was only read
	matchers, _ := splitMatchers(&direct.Membership{Label: c.group}, s.matchers)
	set := q.Select(ctx, false, &storage.SelectHints{Start: start, End: end}, matchers...)
	found := set.Next()
	return found, set.Err()
}

// takeVector makes a result of what the engine or a server gave.
func (m *maker) takeVector(vector promql.Vector, d *dates) (*result, error) {
	m.expect(len(vector))
	for i := range vector {
		s := &vector[i]
		r := row{labels: s.Metric, value: s.F, histogram: s.H != nil}
		r.time, r.live = d.behind(groupOf(s.Metric, d.by))
		m.add(r)
	}
	m.addMissing(d)
	return m.result()
}

// addMissing adds the objects that series were found of, but no result.
func (m *maker) addMissing(d *dates) {
	if !m.c.tellsObjects() {
		return
	}
	found := make(map[objectKey]bool, len(m.rows))
	for i := range m.rows {
		found[m.rows[i].key] = true
	}
	for _, s := range d.selections {
		for g := range s.groups {
			key := objectKey{g[0], g[1]}
			if m.c.Rule.Target.RootScoped {
				key = objectKey{"", g[0]}
			}
			if found[key] {
				continue
			}
			found[key] = true
			r := row{key: key, missing: true}
			r.time, r.live = d.behind(g)
			m.addObject(r)
		}
	}
}

// runDirect evaluates an embedded rule by a plan of it.
func (e *Evaluator) runDirect(run *direct.Run, c *Compiled, plan *direct.Plan, former *result, now time.Time) (*result, error) {
	m := newMaker(c, former, now, e.opts.MaxResults)
	var members direct.Membership
	if of := membershipOf(c, e.opts.Directory); of != nil {
		members = *of
	}
	out, err := run.Evaluate(plan, members)
	if err != nil {
		return nil, err
	}
	m.res.series = out.Series
	m.expect(len(out.Results) + len(out.Missing))
	for i := range out.Results {
		r := &out.Results[i]
		row := row{labels: r.Labels, value: r.Value}
		row.time, row.live = dateOf(r.Seen)
		m.add(row)
	}
	for i := range out.Missing {
		if !m.c.tellsObjects() {
			break
		}
		o := &out.Missing[i]
		row := row{key: objectKey{"", o.Object[0]}, missing: true}
		if len(o.Object) > 1 {
			row.key = objectKey{o.Object[0], o.Object[1]}
		}
		row.time, row.live = dateOf(o.Seen)
		m.addObject(row)
	}
	return m.result()
}

// dateOf is behind for what a plan saw.
func dateOf(s direct.Seen) (t int64, live bool) {
	if s.Live == direct.None {
		return s.Ended, false
	}
	return s.Live, true
}

// contained calls evaluate and makes an error of a panic. The engine turns its own panics into errors only while it
// evaluates; one in a Queryable, or while it prepares, would end the process for all rules.
func contained(evaluate func() (*result, error)) (res *result, panicked bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			res, panicked, err = nil, true, fmt.Errorf("panic: %v", p)
		}
	}()
	res, err = evaluate()
	return res, false, err
}
