package app

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/profiles"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/adapter/store"
	"headroom.dev/headroom/api/query"
)

// ruleset joins the users' rules with the built-in ones and puts them in force.
type ruleset struct {
	builtIn   []rules.Rule
	evaluator *rules.Evaluator
	store     *store.Store
	logger    *slog.Logger

	mu      sync.Mutex // one change at a time
	current atomic.Pointer[rules.Set]
}

func newRuleset(o *Options, evaluator *rules.Evaluator, st *store.Store, logger *slog.Logger) (*ruleset, error) {
	builtIn, err := profiles.Rules(o.Profiles...)
	if err != nil {
		return nil, err
	}
	for i := range builtIn {
		if builtIn[i].Source == "" {
			builtIn[i].Source = rules.Source(o.ProfilesSource)
		}
	}
	r := &ruleset{builtIn: builtIn, evaluator: evaluator, store: st, logger: logger}
	return r, r.use(nil)
}

// set puts the users' rules in force. What is wrong with one of them is told in its status, and here.
func (r *ruleset) set(users []rules.Rule) {
	if err := r.use(users); err != nil {
		r.logger.Warn("some rules cannot be used", "err", err)
	}
	r.logger.Info("rules changed", "metricRules", len(users))
}

func (r *ruleset) use(users []rules.Rule) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	set, err := rules.Compile(append(append([]rules.Rule{}, users...), r.builtIn...))
	r.store.SetKeep(set.Needs())
	r.evaluator.SetRules(set)
	r.current.Store(set)
	return err
}

// agentPrefixes begin the names of all series that agents expose about the pods of their node.
func agentPrefixes() []string { return []string{"gpu_", "DCGM_FI_"} }

// fromAgents says whether a metric of pods is made of series alone that agents expose about other pods.
func (r *ruleset) fromAgents(name string) bool {
	defined := false
	for _, c := range r.current.Load().Rules() {
		if c.Rule.Metric != name || c.Rule.Target.Resource != metric.Pods || c.Err != nil {
			continue
		}
		defined = true
		for needed := range c.Needs {
			if !hasAnyPrefix(needed, agentPrefixes()) {
				return false
			}
		}
	}
	return defined
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// describe returns every rule with how it fared, for the query API.
func (r *ruleset) describe(e *evaluation) func(now time.Time) []query.Rule {
	return func(time.Time) []query.Rule {
		selectors := map[string][]string{}
		for _, c := range r.current.Load().Rules() {
			selectors[c.Rule.Name] = c.Selectors
		}
		statuses := e.Statuses()
		list := make([]query.Rule, len(statuses))
		for i, s := range statuses {
			list[i] = describe(s)
			list[i].Selectors = selectors[s.Rule.Name]
		}
		return list
	}
}

func describe(s rules.Status) query.Rule {
	q := query.Rule{
		Name: s.Rule.Name, Origin: string(s.Rule.Origin), Metric: s.Rule.Metric, Resource: s.Rule.Target.Resource,
		External: s.Rule.Target.External || s.Rule.Target.Resource == metric.External,
		Expr:     s.Rule.Expr, Unit: s.Rule.Unit, MaxAge: s.Rule.MaxAge.Seconds(), Source: string(s.Rule.Source),
		Objects: s.Objects, Series: s.Series, Duration: s.Duration.Seconds(), Notes: s.Notes,
	}
	if s.Err != nil {
		q.Error = s.Err.Error()
	}
	if !s.Evaluated.IsZero() {
		q.Evaluated = &s.Evaluated
	}
	return q
}
