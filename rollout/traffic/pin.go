package traffic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"headroom.dev/headroom/rollout/route"
)

// pool is a kind of object that selects pods, and where its selector is.
type pool struct {
	kind kind
	path []string
}

func servicePool() pool { return pool{services(), []string{"spec", "selector"}} }

// poolOf returns what is known of a backend's kind.
func poolOf(b Backend) (pool, error) {
	switch {
	case b.kind() == "Service" && b.Group == "":
		return servicePool(), nil
	case b.kind() == "InferencePool" && b.Group == "inference.networking.k8s.io":
		return pool{kindOf(b.Group, "InferencePool", "v1"), []string{"spec", "selector", "matchLabels"}}, nil
	}
	return pool{}, fmt.Errorf("%w: backend %s of group %q; known are Service and InferencePool of inference.networking.k8s.io", route.ErrUnsupported, b, b.Group)
}

// pin narrows a selector to one version. s is what the record says. A selector that holds another version than we wrote is
// a conflict.
func (t Target) pin(u *unstructured.Unstructured, p pool, hash string, s route.Split) error {
	selector, err := selectorAt(u, p.path)
	if err != nil {
		return err
	}
	rec, err := recordOf(u, t.Service)
	if err != nil {
		return err
	}
	have, pinned := selector[HashLabel]
	was := rec.pinnedTo(have)
	switch {
	case rec == nil && pinned:
		next := rec.next(s, t.Now())
		next.Hash = &have
		rec = next
	case rec == nil:
		rec = rec.next(s, t.Now())
	case !was:
		return conflict(u, append(slices.Clone(p.path), HashLabel)...)
	case have != hash || !rec.Wanted.Equal(s):
		rec = rec.next(s, t.Now())
	}
	rec.Pinned = hash
	selector[HashLabel] = hash
	if err := unstructured.SetNestedStringMap(u.Object, selector, p.path...); err != nil {
		return fmt.Errorf("%w %s of %s: %w", route.ErrInvalid, strings.Join(p.path, "."), describe(u), err)
	}
	return keep(u, t.Service, rec)
}

// pinnedTo reports whether a selector's hash is the one that we wrote.
func (r *record) pinnedTo(hash string) bool { return r != nil && r.Pinned == hash }

// unpin puts a selector back, unless someone else has.
func (t Target) unpin(u *unstructured.Unstructured, p pool) error {
	rec, err := recordOf(u, t.Service)
	if err != nil || rec == nil {
		return err
	}
	selector, err := selectorAt(u, p.path)
	if err != nil {
		return err
	}
	if rec.pinnedTo(selector[HashLabel]) {
		if delete(selector, HashLabel); rec.Hash != nil {
			selector[HashLabel] = *rec.Hash
		}
		if err := unstructured.SetNestedStringMap(u.Object, selector, p.path...); err != nil {
			return fmt.Errorf("%w %s of %s: %w", route.ErrInvalid, strings.Join(p.path, "."), describe(u), err)
		}
	}
	return keep(u, t.Service, nil)
}

// versions counts the ready pods of what selects them, by version and without regard to a pin of ours.
func (t Target) versions(ctx context.Context, u *unstructured.Unstructured, p pool) (endpoints, error) {
	selector, err := selectorAt(u, p.path)
	if err != nil {
		return nil, err
	}
	delete(selector, HashLabel)
	return t.available(ctx, selector)
}

// pinBoth narrows two backends to a version each, if the ones that are to get requests have ready pods.
func (t Target) pinBoth(ctx context.Context, f Fixed, s route.Split) error {
	type change struct {
		b    Backend
		hash string
		gets bool
	}
	stable, canary := s.Gets()
	changes := []change{{f.Canary, s.Canary, canary}, {f.Stable, s.Stable, stable}}
	for _, c := range changes {
		p, err := poolOf(c.b)
		if err != nil {
			return err
		}
		u, err := t.get(ctx, p.kind, c.b.Name)
		if err != nil {
			return err
		}
		ready, err := t.versions(ctx, u, p)
		if err != nil {
			return err
		}
		if c.gets && ready[c.hash] == 0 {
			return &route.NotYetError{Want: s, InForce: unknown(s), Why: fmt.Sprintf("%s selects no ready pod of version %s (%s)", describe(u), c.hash, ready)}
		}
		if c.hash != "" {
			if err := t.pin(u, p, c.hash, s); err != nil { // in memory: is it possible?
				return err
			}
		}
	}
	for _, c := range changes {
		if c.hash == "" {
			continue // gets nothing, and keeps its version until Restore
		}
		p, err := poolOf(c.b)
		if err != nil {
			return err
		}
		err = t.change(ctx, p.kind, c.b.Name, func(u *unstructured.Unstructured) error { return t.pin(u, p, c.hash, s) })
		if err != nil {
			return err
		}
	}
	return nil
}

// pinned checks that two backends still are as pinBoth left them, with ready pods where requests go.
func (t Target) pinned(ctx context.Context, f Fixed, s route.Split) error {
	check := func(b Backend, hash string) error {
		p, err := poolOf(b)
		if err != nil {
			return err
		}
		u, err := t.get(ctx, p.kind, b.Name)
		if err != nil {
			return err
		}
		selector, err := selectorAt(u, p.path)
		if err != nil {
			return err
		}
		if selector[HashLabel] != hash {
			return conflict(u, append(slices.Clone(p.path), HashLabel)...)
		}
		ready, err := t.available(ctx, selector)
		if err == nil && ready[hash] == 0 {
			err = &route.NotYetError{Want: s, InForce: unknown(s), Why: describe(u) + " has no ready pod"}
		}
		return err
	}
	stable, canary := s.Gets()
	if stable {
		if err := check(f.Stable, s.Stable); err != nil {
			return err
		}
	}
	if canary {
		return check(f.Canary, s.Canary)
	}
	return nil
}

// unpinBoth puts both selectors back. One that is gone holds up nothing.
func (t Target) unpinBoth(ctx context.Context, f Fixed) error {
	var all []error
	for _, b := range []Backend{f.Stable, f.Canary} {
		p, err := poolOf(b)
		if err == nil {
			err = t.change(ctx, p.kind, b.Name, func(u *unstructured.Unstructured) error { return t.unpin(u, p) })
		}
		if err != nil && !gone(err) {
			all = append(all, fmt.Errorf("cannot restore %s: %w", b, err))
		}
	}
	return errors.Join(all...)
}
