package rules

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"headroom.dev/headroom/adapter/bound"
	"headroom.dev/headroom/adapter/direct"
	"headroom.dev/headroom/adapter/metric"
)

// MaxLookBack bounds how far back a rule may look, MaxAge included: rules run over windows held in memory.
const MaxLookBack = 24 * time.Hour

// RuleError says what is wrong with one rule. For errors in the expression, Err begins with "line:column: ", for others
// with the field's name as users write it, "maxAge: ".
type RuleError struct {
	Rule, Metric, Resource string
	Err                    error
}

func (e *RuleError) Error() string { return fmt.Sprintf("rule %q: %v", e.Rule, e.Err) }

// Unwrap returns Err.
func (e *RuleError) Unwrap() error { return e.Err }

// Compiled is one rule after Compile.
type Compiled struct {
	Rule   Rule                     // with defaults filled in
	Err    error                    // a *RuleError where the rule is bad; then the rest is zero
	Window time.Duration            // the largest range in the expression, 0 where it has none
	Needs  map[string]time.Duration // metric name → how far back the rule looks at it
	// Selectors are the series selectors of the expression as PromQL, each once, without range and offset. In groups of
	// pods, their matchers of service and deployment are about what the rule sees, not about what is stored.
	Selectors []string

	selectors []selector
	dating    []string // the labels that lead from a result to the series behind it, see the package comment
	group     string   // the label that membership sets: service, deployment, or "" for none
	covers    map[string]bool
	plan      *direct.Plan // nil where the expression needs the PromQL engine
	identity  string       // equal for rules whose results are the same
	query     string       // for Prometheus rules, what the server is asked
}

// sight returns how far back the rule sees samples: through its ranges, but in groups of pods no farther than MaxAge.
func (c *Compiled) sight() time.Duration {
	var most time.Duration
	for _, s := range c.selectors {
		back := s.back
		if c.Rule.Source == Embedded && c.Rule.Target.Resource != metric.Pods {
			back = min(back, s.offset+c.Rule.MaxAge)
		}
		most = max(most, back)
	}
	return most
}

// tellsObjects reports whether the labels of a series name the object that it is about.
func (c *Compiled) tellsObjects() bool {
	t := &c.Rule.Target
	return t.Resource != metric.External && len(c.dating) == len(t.objectLabels())
}

// covered reports whether the rule speaks about an object.
func (c *Compiled) covered(o objectKey) bool {
	namespace := o.namespace
	if c.Rule.Target.Resource == metric.Namespaces {
		namespace = o.name
	}
	return c.covers == nil || c.covers[namespace]
}

// Set is the immutable result of Compile.
type Set struct {
	rules       []*Compiled
	index       map[metricKey][]int // of the rules for a metric, in the order in which they are asked
	external    map[string][]int    // the same for external metrics, grouped by resource
	descriptors []metric.Descriptor
}

// metricKey finds rules.
type metricKey struct{ metric, resource string }

// Rules returns all rules, bad ones included, in the order in which they are asked. Built-in ones that are replaced are
// not among them.
func (s *Set) Rules() []Compiled {
	list := make([]Compiled, len(s.rules))
	for i, c := range s.rules {
		list[i] = *c
	}
	return list
}

// Needs returns how far back the good embedded rules together look at each metric name: what a store has to keep.
func (s *Set) Needs() map[string]time.Duration {
	needs := map[string]time.Duration{}
	for _, c := range s.rules {
		if c.Rule.Source == Prometheus {
			continue
		}
		for name, d := range c.Needs {
			needs[name] = max(needs[name], d)
		}
	}
	return needs
}

// Compile parses and checks the rules. The set is usable whatever the error: it holds the good rules, and remembers of
// the bad ones why they are (Rules). The error joins one *RuleError for each of these.
func Compile(rules []Rule) (*Set, error) {
	set := &Set{index: map[metricKey][]int{}, external: map[string][]int{}}
	var errs []error
	scopes := map[string]bool{}
	for _, r := range inOrder(rules) {
		c := &Compiled{Rule: r.Rule}
		err := r.err
		if err == nil {
			err = compile(c)
		}
		if scope, ok := scopes[r.Target.Resource]; err == nil && ok && scope != r.Target.RootScoped {
			err = fmt.Errorf("rootScoped: another rule says of %s that it is %t", r.Target.Resource, scope)
		}
		if err != nil {
			c = &Compiled{Rule: r.Rule, Err: &RuleError{Rule: r.Name, Metric: r.Metric, Resource: r.Target.Resource, Err: err}}
			errs = append(errs, c.Err)
		} else {
			scopes[r.Target.Resource] = r.Target.RootScoped
		}
		set.rules = append(set.rules, c)
	}
	set.describe()
	return set, errors.Join(errs...)
}

// ordered is a rule in its place, or why it has none.
type ordered struct {
	Rule
	err error
}

// inOrder fills in defaults, drops built-in rules that users replace, and sorts the rest into the order of asking.
func inOrder(rules []Rule) []ordered {
	users := map[string]bool{}
	for _, r := range rules {
		if r = r.withDefaults(); r.Origin == UserDefined {
			users[r.Name] = true
		}
	}
	list := make([]ordered, 0, len(rules))
	names := map[string]bool{}
	for _, r := range rules {
		r = r.withDefaults()
		if r.Origin == BuiltIn && users[r.Name] {
			continue
		}
		o := ordered{Rule: r}
		if names[r.Name] {
			o.err = errors.New("name: another rule has it already")
		}
		names[r.Name] = true
		list = append(list, o)
	}
	slices.SortStableFunc(list, func(a, b ordered) int { return cmp.Compare(rank(a.Origin), rank(b.Origin)) })
	return list
}

func rank(o Origin) int {
	if o == BuiltIn {
		return 1
	}
	return 0
}

// describe fills in what is served. What is broken stays discoverable, so long as somebody could ask for it.
func (s *Set) describe() {
	for i, c := range s.rules {
		r := &c.Rule
		if checkTarget(r) != nil {
			continue
		}
		key := metricKey{r.Metric, r.Target.Resource}
		if s.index[key] == nil && r.Target.Resource != metric.External {
			s.descriptors = append(s.descriptors, metric.Descriptor{
				Name: r.Metric, Resource: r.Target.Resource, Namespaced: !r.Target.RootScoped, Unit: r.Unit,
			})
		}
		s.index[key] = append(s.index[key], i)
		if !r.Target.External && r.Target.Resource != metric.External {
			continue
		}
		if s.external[r.Metric] == nil {
			s.descriptors = append(s.descriptors, metric.Descriptor{Name: r.Metric, Resource: metric.External, Namespaced: true, Unit: r.Unit})
		}
		s.external[r.Metric] = append(s.external[r.Metric], i)
	}
	for _, list := range s.external {
		slices.SortStableFunc(list, func(a, b int) int {
			return cmp.Compare(s.rules[a].Rule.Target.Resource, s.rules[b].Rule.Target.Resource)
		})
	}
	slices.SortFunc(s.descriptors, func(a, b metric.Descriptor) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Resource, b.Resource))
	})
}

func compile(c *Compiled) error {
	r := &c.Rule
	if err := check(r); err != nil {
		return err
	}
	expr, err := bound.Parse(r.Expr, 0)
	if err != nil {
		return err
	}
	if err := c.analyse(expr); err != nil {
		return err
	}
	if r.Namespaces != nil {
		c.covers = make(map[string]bool, len(r.Namespaces))
		for _, ns := range r.Namespaces {
			c.covers[ns] = true
		}
	}
	t := &r.Target
	c.identity = fmt.Sprintf("%q %q %q %q %t %t %q %t %q %s %q %t", r.Name, t.Resource, t.NameLabel, t.NamespaceLabel, t.RootScoped, t.External,
		t.Labels, t.Labels == nil, r.Expr, r.MaxAge, r.Source, r.IncludeLoading)
	if r.Source == Prometheus {
		c.query = remoteQuery(c)
		return nil
	}
	return c.prepareDirect(expr)
}

// prepareDirect makes a plan, unless the expression needs the PromQL engine.
func (c *Compiled) prepareDirect(expr parser.Expr) error {
	plan, err := direct.Compile(expr, direct.Options{MaxAge: c.Rule.MaxAge, ObjectLabels: c.dating, MembershipLabel: c.group})
	if _, unsupported := errors.AsType[*direct.UnsupportedError](err); unsupported {
		return nil
	}
	c.plan = plan
	return err
}
