package traffic

import (
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"headroom.dev/headroom/rollout/route"
)

// AllRules as the name of a rule stands for every rule that sends requests to the service.
const AllRules = "*"

// dialect is how a kind of object spells rules and their backends.
type dialect struct {
	kind    kind
	rules   []string // where the list of rules is
	refs    string   // the field of a rule that lists its backends
	matches string   // the one that lists what it matches
	weight  int64    // what a backend without a weight has
	totals  []int64  // what weights add up to where the choice is ours, in rising order
	reports bool     // status.parents tells what the router has taken over
	// is reports whether a backend of this object's namespace is meant by a reference.
	is func(ref map[string]any, b Backend, namespace string) bool
	// point makes a reference mean another backend of the same kind.
	point func(ref map[string]any, name string)
	// match returns a rule's matches, each narrowed to each of the given ones.
	match func(rule map[string]any, matches []route.Match) ([]any, error)
}

// Backend is what a rule sends requests to.
type Backend struct {
	Group, Kind, Name string // "" and Service where empty
}

func (b Backend) kind() string {
	if b.Kind == "" {
		return "Service"
	}
	return b.Kind
}

func (b Backend) String() string { return b.kind() + " " + b.Name }

// plan is what a split means for the rules of one object.
type plan struct {
	dialect
	object, namespace string // for messages; of the object
	rule              string // the name of the rule that is changed, AllRules, or empty for the only one
	base              Backend
	// stable and canary stand in for the base: helpers with names of their own, or stable is the base. Without a second
	// helper canary has no name.
	stable, canary Backend
	split          route.Split
}

// weights are a rule's original ones; nil where a backend had none.
type weights struct {
	Base   *int64 `json:"base,omitempty"`
	Had    bool   `json:"had,omitempty"` // the canary was among the rule's backends
	Canary *int64 `json:"canary,omitempty"`
}

// two reports whether there is a backend for a canary.
func (p *plan) two() bool { return p.canary.Name != "" }

// field names a place in a rule for messages.
func (p *plan) field(i int, rest string) string {
	return fmt.Sprintf("%s[%d]%s", strings.Join(p.rules, "."), i, rest)
}

// wanted reports whether a rule is meant by its name.
func (p *plan) wanted(rule map[string]any) bool {
	return p.rule == "" || p.rule == AllRules || rule["name"] == p.rule
}

// refsOf returns a rule's backends; none where the rule has none.
func (p *plan) refsOf(rules []any, i int) (map[string]any, []any, error) {
	rule, ok := rules[i].(map[string]any)
	if !ok {
		return nil, nil, fmt.Errorf("%w %s of %s: not an object", route.ErrInvalid, p.field(i, ""), p.object)
	}
	value, ok := rule[p.refs]
	if !ok || value == nil {
		return rule, nil, nil
	}
	refs, ok := value.([]any)
	if !ok {
		return nil, nil, fmt.Errorf("%w %s of %s: not a list", route.ErrInvalid, p.field(i, "."+p.refs), p.object)
	}
	return rule, refs, nil
}

// index returns where a backend is among refs, -1 where it is not.
func (p *plan) index(refs []any, b Backend) int {
	for j, value := range refs {
		if ref, ok := value.(map[string]any); ok && p.is(ref, b, p.namespace) {
			return j
		}
	}
	return -1
}

// taken reports whether a backend bears the name of a helper, though nothing of ours should be left.
func (p *plan) taken(refs []any) bool {
	return p.stable != p.base && (p.index(refs, p.stable) >= 0 || p.two() && p.index(refs, p.canary) >= 0)
}

// find returns the rules that send requests to the base, and checks that they are the ones that can be meant.
func (p *plan) find(rules []any) (map[int]bool, error) {
	if p.stable == p.canary {
		return nil, fmt.Errorf("%w: both versions behind %s", route.ErrInvalid, p.stable)
	}
	found, names := map[int]bool{}, []string(nil)
	for i := range rules {
		rule, refs, err := p.refsOf(rules, i)
		if err != nil {
			return nil, err
		}
		if p.taken(refs) {
			return nil, fmt.Errorf("%w %s of %s: it names the Service of a version already, and nothing says that we wrote it", route.ErrAmbiguous, p.field(i, "."+p.refs), p.object)
		}
		j := p.index(refs, p.base)
		if !p.wanted(rule) || j < 0 {
			continue
		}
		if p.index(refs[j+1:], p.base) >= 0 {
			return nil, fmt.Errorf("%w %s of %s: %s is there twice", route.ErrAmbiguous, p.field(i, "."+p.refs), p.object, p.base)
		}
		found[i] = true
		names = append(names, p.field(i, ""))
	}
	switch {
	case len(found) == 0 && p.rule != "" && p.rule != AllRules:
		return nil, fmt.Errorf("%s: no rule of name %q sends requests to %s: %w", p.object, p.rule, p.base, route.ErrNotFound)
	case len(found) == 0:
		return nil, fmt.Errorf("%s: no rule sends requests to %s: %w", p.object, p.base, route.ErrNotFound)
	case len(found) > 1 && p.rule != AllRules:
		return nil, fmt.Errorf("%w rules of %s: %s is in %s; name one, or %q for all", route.ErrAmbiguous, p.object, p.base, strings.Join(names, ", "), AllRules)
	}
	return found, nil
}

// render returns rules under the split, made from the user's own, and what the way back needs. Its argument stays as it is.
func (p *plan) render(rules []any) ([]any, []weights, error) {
	found, err := p.find(rules)
	if err != nil {
		return nil, nil, err
	}
	var out []any
	var kept []weights
	for i, value := range rules {
		if !found[i] {
			out = append(out, value)
			continue
		}
		rule := runtime.DeepCopyJSONValue(value).(map[string]any)
		w, err := p.weigh(rule, i)
		if err != nil {
			return nil, nil, err
		}
		if len(p.split.Matches) > 0 {
			claimed, err := p.claim(rule)
			if err != nil {
				return nil, nil, fmt.Errorf("%w %s of %s: %w", route.ErrInvalid, p.field(i, "."+p.matches), p.object, err)
			}
			out = append(out, claimed)
		}
		out, kept = append(out, rule), append(kept, w)
	}
	return out, kept, nil
}

// weigh puts the two versions with their weights in the place of the base.
func (p *plan) weigh(rule map[string]any, i int) (weights, error) {
	refs := rule[p.refs].([]any)
	at := p.index(refs, p.base)
	stable := refs[at].(map[string]any)
	var w weights
	var canary map[string]any
	room, others := p.weight, int64(0) // of the base and the canary, and of the rest
	for j, value := range refs {
		ref, ok := value.(map[string]any)
		if !ok {
			return w, fmt.Errorf("%w %s of %s: not an object", route.ErrInvalid, p.field(i, fmt.Sprintf(".%s[%d]", p.refs, j)), p.object)
		}
		given, err := weightOf(ref)
		if err != nil {
			return w, fmt.Errorf("%w %s of %s: %w", route.ErrInvalid, p.field(i, fmt.Sprintf(".%s[%d].weight", p.refs, j)), p.object, err)
		}
		is := p.weight
		if given != nil {
			is = *given
		}
		switch {
		case j == at:
			w.Base, room = given, is
		case p.two() && p.is(ref, p.canary, p.namespace):
			if w.Had {
				return w, fmt.Errorf("%w %s of %s: %s is there twice", route.ErrAmbiguous, p.field(i, "."+p.refs), p.object, p.canary)
			}
			w.Had, w.Canary, canary = true, given, ref
		default:
			others += is
		}
	}
	if w.Had && w.Canary != nil {
		room += *w.Canary
	}
	if !p.two() {
		p.point(stable, p.stable.Name)
		return w, nil
	}
	a, b, err := p.parts(room, others)
	if err != nil {
		return w, fmt.Errorf("%s of %s: %w", p.field(i, "."+p.refs), p.object, err)
	}
	if canary == nil {
		canary = runtime.DeepCopyJSON(stable)
		p.point(canary, p.canary.Name)
		refs = append(refs[:at+1:at+1], append([]any{canary}, refs[at+1:]...)...)
	}
	p.point(stable, p.stable.Name)
	stable["weight"], canary["weight"] = a, b
	rule[p.refs] = refs
	return w, nil
}

// parts returns the weights of the two versions. Other backends of the rule keep theirs, so that only the service's own
// weight is there to be shared.
func (p *plan) parts(room, others int64) (stable, canary int64, err error) {
	total := route.Total(p.split.Share, p.totals...)
	if others > 0 {
		if total = room; total < 100 && !route.Exact(p.split.Share, total) {
			return 0, 0, fmt.Errorf("%w: %s has weight %d beside other backends, and %.4g %% of that is no whole number; below 100 it would be rounded too far",
				route.ErrUnsupported, p.base, total, p.split.Share*100)
		}
	}
	stable, canary = route.Round(p.split.Share, total)
	return stable, canary, nil
}

// claim returns the rule for requests that matches send to the canary.
func (p *plan) claim(rule map[string]any) (map[string]any, error) {
	claimed := runtime.DeepCopyJSON(rule)
	refs := claimed[p.refs].([]any)
	ref := refs[p.index(refs, p.canary)].(map[string]any)
	ref["weight"] = p.totals[0] // alone, and at 0 nothing would answer
	claimed[p.refs] = []any{ref}
	delete(claimed, "name") // names are unique
	matches, err := p.match(rule, p.split.Matches)
	claimed[p.matches] = matches
	return claimed, err
}

// strip is the way back from render: rules without anything of ours, and how many of them were ours. What others changed
// in the meantime stays.
func (p *plan) strip(rules []any, kept []weights) ([]any, int, error) {
	ours := func(i int) bool { // a rule that holds the split
		if i >= len(rules) {
			return false
		}
		rule, refs, err := p.refsOf(rules, i)
		return err == nil && p.wanted(rule) && p.index(refs, p.stable) >= 0 && (!p.two() || p.index(refs, p.canary) >= 0)
	}
	var out []any
	n := 0
	for i, value := range rules {
		_, refs, err := p.refsOf(rules, i)
		if err != nil {
			return nil, 0, err
		}
		if ours(i+1) && len(p.split.Matches) > 0 && len(refs) == 1 && p.index(refs, p.canary) == 0 {
			continue // the rule of a match
		}
		if ours(i) && len(kept) > 0 {
			rule := runtime.DeepCopyJSONValue(value).(map[string]any)
			p.unweigh(rule, kept[min(n, len(kept)-1)])
			n++
			value = rule
		}
		out = append(out, value)
	}
	return out, n, nil
}

// unweigh takes the two versions out of a rule again.
func (p *plan) unweigh(rule map[string]any, w weights) {
	var refs []any
	for _, value := range rule[p.refs].([]any) {
		ref, ok := value.(map[string]any)
		switch {
		case ok && p.is(ref, p.stable, p.namespace):
			p.point(ref, p.base.Name)
			setWeight(ref, w.Base)
		case ok && p.two() && p.is(ref, p.canary, p.namespace):
			if !w.Had {
				continue
			}
			setWeight(ref, w.Canary)
		}
		refs = append(refs, value)
	}
	rule[p.refs] = refs
}

// intact reports whether rules are what render once made of what is left when ours is taken out.
func (p *plan) intact(rules []any, kept []weights) bool {
	plain, n, err := p.strip(rules, kept)
	if err != nil || n != len(kept) {
		return false
	}
	again, _, err := p.render(plain)
	return err == nil && reflect.DeepEqual(again, rules)
}

func setWeight(ref map[string]any, w *int64) {
	if w == nil {
		delete(ref, "weight")
	} else {
		ref["weight"] = *w
	}
}

// weightOf returns a backend's weight, nil where it has none.
func weightOf(ref map[string]any) (*int64, error) {
	switch w := ref["weight"].(type) {
	case nil:
		return nil, nil //nolint:nilnil // absence is an answer
	case int64:
		if w >= 0 && w <= 1_000_000 {
			return &w, nil
		}
	}
	return nil, fmt.Errorf("%v is no weight from 0 to 1000000", ref["weight"])
}

// scrub makes what names a helper name the base, where someone else's change has left it in a place that strip does not
// know: helpers are about to go.
func (p *plan) scrub(rules []any, kept []weights) []any {
	var w weights
	if len(kept) > 0 {
		w = kept[0]
	}
	out := make([]any, 0, len(rules))
	for i, value := range rules {
		if _, refs, err := p.refsOf(rules, i); err == nil && (p.index(refs, p.stable) >= 0 || p.two() && p.index(refs, p.canary) >= 0) {
			rule := runtime.DeepCopyJSONValue(value).(map[string]any)
			p.unname(rule, w)
			value = rule
		}
		out = append(out, value)
	}
	return out
}

// unname leaves one reference to the base in a rule, and none to helpers.
func (p *plan) unname(rule map[string]any, w weights) {
	var refs []any
	named := p.index(rule[p.refs].([]any), p.base) >= 0
	for _, value := range rule[p.refs].([]any) {
		ref, ok := value.(map[string]any)
		if ok && (p.is(ref, p.stable, p.namespace) || p.two() && p.is(ref, p.canary, p.namespace)) {
			if named {
				continue
			}
			named = true
			p.point(ref, p.base.Name)
			setWeight(ref, w.Base)
		}
		refs = append(refs, value)
	}
	rule[p.refs] = refs
}
