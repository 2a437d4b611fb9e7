package traffic

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout/route"
)

// Rules moves traffic by the rules of one HTTPRoute, GRPCRoute or VirtualService.
type Rules struct {
	target  Target
	dialect dialect
	name    string
	rule    string
	fixed   *Fixed
}

var _ route.Router = (*Rules)(nil)

// RulesOptions say which object, and what of it.
type RulesOptions struct {
	Name string // of the object, in the Service's namespace
	// Rule is the name of the rule to change. Empty: the only one that sends requests to the Service. AllRules: each that does.
	Rule string
	// Fixed names two backends of the user's own, where the Service cannot be divided, as an InferencePool, whose endpoint
	// picker belongs to one pool. Nil: a Service for each version is made beside the user's.
	Fixed *Fixed
}

// Fixed are two backends that stand already. Each is narrowed to one version by pod-template-hash in its selector.
type Fixed struct {
	Stable Backend // the one that the rules name now
	Canary Backend
}

// HTTPRoute returns the router of an HTTPRoute of Gateway API.
func HTTPRoute(t Target, o RulesOptions) *Rules {
	return &Rules{t, gateway("HTTPRoute"), o.Name, o.Rule, o.Fixed}
}

// GRPCRoute returns the router of a GRPCRoute of Gateway API.
func GRPCRoute(t Target, o RulesOptions) *Rules {
	return &Rules{t, gateway("GRPCRoute"), o.Name, o.Rule, o.Fixed}
}

// VirtualService returns the router of an Istio VirtualService. A DestinationRule for the user's Service does not hold for
// those of its versions; Fixed backends are Services here.
func VirtualService(t Target, o RulesOptions) *Rules {
	return &Rules{t, virtualService(), o.Name, o.Rule, o.Fixed}
}

// plan says what a split means for the object.
func (r *Rules) plan(u *unstructured.Unstructured, s route.Split) *plan {
	p := &plan{dialect: r.dialect, object: describe(u), namespace: u.GetNamespace(), rule: r.rule, split: s}
	if r.fixed != nil {
		p.base, p.stable, p.canary = r.fixed.Stable, r.fixed.Stable, r.fixed.Canary
		return p
	}
	p.base = Backend{Name: r.target.Service}
	p.stable = Backend{Name: helper(r.target.Service, s.Stable)}
	if s.Canary != "" {
		p.canary = Backend{Name: helper(r.target.Service, s.Canary)}
	}
	return p
}

// rulesOf reads the list of rules.
func (r *Rules) rulesOf(u *unstructured.Unstructured) ([]any, error) {
	value, _, err := unstructured.NestedFieldNoCopy(u.Object, r.dialect.rules...)
	rules, ok := value.([]any)
	if err != nil || !ok {
		return nil, fmt.Errorf("%w %s of %s: no list of rules", route.ErrInvalid, strings.Join(r.dialect.rules, "."), describe(u))
	}
	return rules, nil
}

// rewrite puts a split into an object, in memory.
func (r *Rules) rewrite(u *unstructured.Unstructured, s route.Split) error {
	rules, err := r.rulesOf(u)
	if err != nil {
		return err
	}
	rec, err := recordOf(u, r.target.Service)
	if err != nil {
		return err
	}
	if rec != nil {
		was := r.plan(u, rec.Wanted)
		if !was.intact(rules, rec.Weights) {
			return conflict(u, r.dialect.rules...)
		}
		if rec.Wanted.Equal(s) {
			return nil
		}
		if rules, _, err = was.strip(rules, rec.Weights); err != nil {
			return err
		}
	}
	rules, kept, err := r.plan(u, s).render(rules)
	if err != nil {
		return err
	}
	rec = rec.next(s, r.target.Now())
	rec.Weights = kept
	if err := unstructured.SetNestedSlice(u.Object, rules, r.dialect.rules...); err != nil {
		return fmt.Errorf("%w %s of %s: %w", route.ErrInvalid, strings.Join(r.dialect.rules, "."), describe(u), err)
	}
	return keep(u, r.target.Service, rec)
}

// Set implements route.Router.
func (r *Rules) Set(ctx context.Context, s route.Split) error {
	if err := r.set(ctx, s); err != nil {
		return fmt.Errorf("cannot move traffic by %s %s/%s: %w", r.dialect.kind[0].Kind, r.target.Namespace, r.name, err)
	}
	return nil
}

func (r *Rules) set(ctx context.Context, s route.Split) error {
	if err := s.Validate(); err != nil {
		return err
	}
	inForce := unknown(s)
	err := r.target.change(ctx, r.dialect.kind, r.name, func(u *unstructured.Unstructured) error {
		if rec, err := recordOf(u, r.target.Service); err == nil && rec != nil {
			inForce = rec.Wanted
		}
		return r.rewrite(u, s)
	}, client.DryRunAll)
	if err != nil {
		return err
	}
	if r.fixed != nil {
		err = r.target.pinBoth(ctx, *r.fixed, s)
	} else {
		err = r.target.ensure(ctx, s.Stable, s.Canary)
		if err == nil {
			err = r.target.reclaim(ctx, s.Stable, s.Canary)
		}
		if err == nil {
			err = r.target.answering(ctx, s, inForce)
		}
	}
	if err != nil {
		return err
	}
	err = r.target.change(ctx, r.dialect.kind, r.name, func(u *unstructured.Unstructured) error { return r.rewrite(u, s) })
	if err != nil || r.fixed != nil {
		return err
	}
	// What no split names any more goes as soon as the router has left it; until then the next Set sees to it.
	u, err := r.target.get(ctx, r.dialect.kind, r.name)
	if err == nil {
		_, err = r.target.release(ctx, r.follows(u, nil) == "", s.Stable, s.Canary)
	}
	return err
}

// Read implements route.Router.
func (r *Rules) Read(ctx context.Context) (route.Split, error) {
	s, err := r.read(ctx)
	if err != nil {
		return s, fmt.Errorf("cannot tell the split by %s %s/%s: %w", r.dialect.kind[0].Kind, r.target.Namespace, r.name, err)
	}
	return s, nil
}

func (r *Rules) read(ctx context.Context) (route.Split, error) {
	u, err := r.target.get(ctx, r.dialect.kind, r.name)
	if err != nil {
		return unknown(route.Split{}), err
	}
	rec, err := recordOf(u, r.target.Service)
	if err == nil && rec == nil {
		err = route.ErrNotSet
	}
	if err != nil {
		return unknown(route.Split{}), err
	}
	p := r.plan(u, rec.Wanted)
	rules, err := r.rulesOf(u)
	if err != nil {
		return unknown(rec.Wanted), err
	}
	if !p.intact(rules, rec.Weights) {
		return unknown(rec.Wanted), conflict(u, r.dialect.rules...)
	}
	s := rec.Wanted
	if s.Share, err = p.share(rules); err != nil {
		return unknown(s), err
	}
	if why := r.follows(u, rec); why != "" {
		return rec.inForce(), &route.NotYetError{Want: rec.Wanted, InForce: rec.inForce(), Why: why}
	}
	if r.fixed != nil {
		err = r.target.pinned(ctx, *r.fixed, s)
	} else {
		err = r.target.answering(ctx, s, unknown(s))
	}
	if err != nil {
		return unknown(s), err
	}
	return s, nil
}

// share is what the weights in the rules really say.
func (p *plan) share(rules []any) (float64, error) {
	if !p.two() {
		return 0, nil
	}
	for i := range rules {
		_, refs, err := p.refsOf(rules, i)
		if err != nil {
			return 0, err
		}
		j, k := p.index(refs, p.stable), p.index(refs, p.canary)
		if j < 0 || k < 0 {
			continue
		}
		stable, err := weightOf(refs[j].(map[string]any))
		if err != nil {
			return 0, fmt.Errorf("%w %s of %s: %w", route.ErrInvalid, p.field(i, ""), p.object, err)
		}
		canary, err := weightOf(refs[k].(map[string]any))
		switch {
		case err != nil:
			return 0, fmt.Errorf("%w %s of %s: %w", route.ErrInvalid, p.field(i, ""), p.object, err)
		case stable == nil || canary == nil || *stable+*canary == 0:
			return 0, fmt.Errorf("%w %s of %s: the weights of %s and %s add up to nothing", route.ErrInvalid, p.field(i, ""), p.object, p.stable, p.canary)
		}
		return route.Share(*stable, *canary), nil
	}
	return 0, fmt.Errorf("%s: no rule names both %s and %s: %w", p.object, p.stable, p.canary, route.ErrNotFound)
}

// follows says why the router has not taken over the object as it stands, or nothing. Without a record only what the
// router reports counts.
func (r *Rules) follows(u *unstructured.Unstructured, rec *record) string {
	if r.dialect.reports {
		return accepted(u)
	}
	if why := reconciled(u); why != "" {
		return why
	}
	if rec != nil {
		if left := r.target.settle() - r.target.Now().Sub(rec.Written); left > 0 {
			return fmt.Sprintf("%s was changed less than %s ago", describe(u), r.target.settle())
		}
	}
	return ""
}

// Restore implements route.Router.
func (r *Rules) Restore(ctx context.Context) error {
	seen, want := true, unknown(route.Split{})
	err := r.target.change(ctx, r.dialect.kind, r.name, func(u *unstructured.Unstructured) error {
		rec, err := recordOf(u, r.target.Service)
		if err != nil || rec == nil {
			return err
		}
		want = rec.Wanted
		rules, err := r.rulesOf(u)
		if err != nil {
			return err
		}
		p := r.plan(u, rec.Wanted)
		if rules, _, err = p.strip(rules, rec.Weights); err != nil {
			return err
		}
		if r.fixed == nil {
			rules = p.scrub(rules, rec.Weights)
		}
		if err := unstructured.SetNestedSlice(u.Object, rules, r.dialect.rules...); err != nil {
			return fmt.Errorf("%w %s of %s: %w", route.ErrInvalid, strings.Join(r.dialect.rules, "."), describe(u), err)
		}
		return keep(u, r.target.Service, nil)
	})
	if err != nil && !gone(err) {
		return fmt.Errorf("cannot restore %s %s/%s: %w", r.dialect.kind[0].Kind, r.target.Namespace, r.name, err)
	}
	if r.fixed != nil {
		return r.target.unpinBoth(ctx, *r.fixed)
	}
	why := "helpers are kept until requests have left them"
	if u, err := r.target.get(ctx, r.dialect.kind, r.name); err == nil {
		if not := r.follows(u, nil); not != "" {
			seen, why = false, not
		}
	}
	waiting, err := r.target.release(ctx, seen)
	if err == nil && waiting > 0 {
		err = &route.NotYetError{Want: want, InForce: unknown(want), Why: why}
	}
	if err != nil {
		return fmt.Errorf("cannot remove the Services of versions of %s/%s: %w", r.target.Namespace, r.target.Service, err)
	}
	return nil
}
