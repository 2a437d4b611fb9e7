package traffic

import (
	"context"
	"fmt"
	"math"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"headroom.dev/headroom/rollout/route"
)

// Selector moves all of a Service's traffic at once, by the version's hash in its selector. A Share has to be 0 or 1.
type Selector struct{ target Target }

var _ route.Router = (*Selector)(nil)

// NewSelector returns the router of a Service.
func NewSelector(t Target) *Selector { return &Selector{t} }

// chosen is the version that gets everything.
func chosen(s route.Split) (string, error) {
	switch {
	case len(s.Matches) > 0:
		return "", fmt.Errorf("%w: a Service knows no headers or cookies", route.ErrUnsupported)
	case s.Share != 0 && s.Share != 1:
		return "", fmt.Errorf("%w: a Service's selector gives all to one version, not %.4g %%", route.ErrUnsupported, s.Share*100)
	case s.Share == 1:
		return s.Canary, nil
	}
	return s.Stable, nil
}

// Set implements route.Router. The version must have a ready pod; the Service never selects nothing.
func (r *Selector) Set(ctx context.Context, s route.Split) error {
	if err := r.set(ctx, s); err != nil {
		return fmt.Errorf("cannot switch Service %s/%s: %w", r.target.Namespace, r.target.Service, err)
	}
	return nil
}

func (r *Selector) set(ctx context.Context, s route.Split) error {
	if err := s.Validate(); err != nil {
		return err
	}
	hash, err := chosen(s)
	if err != nil {
		return err
	}
	u, err := r.target.get(ctx, services(), r.target.Service)
	if err != nil {
		return err
	}
	ready, err := r.target.versions(ctx, u, servicePool())
	if err != nil {
		return err
	}
	if ready[hash] == 0 {
		return &route.NotYetError{Want: s, InForce: unknown(s), Why: fmt.Sprintf("%s selects no ready pod of version %s (%s)", describe(u), hash, ready)}
	}
	return r.target.change(ctx, services(), r.target.Service, func(u *unstructured.Unstructured) error {
		return r.target.pin(u, servicePool(), hash, s)
	})
}

// Read implements route.Router: the split is that of the endpoints, whatever the selector says.
func (r *Selector) Read(ctx context.Context) (route.Split, error) {
	s, err := r.read(ctx)
	if err != nil {
		return s, fmt.Errorf("cannot tell the split by Service %s/%s: %w", r.target.Namespace, r.target.Service, err)
	}
	return s, nil
}

func (r *Selector) read(ctx context.Context) (route.Split, error) {
	nothing := unknown(route.Split{})
	u, err := r.target.get(ctx, services(), r.target.Service)
	if err != nil {
		return nothing, err
	}
	rec, err := recordOf(u, r.target.Service)
	if err == nil && rec == nil {
		err = route.ErrNotSet
	}
	if err != nil {
		return nothing, err
	}
	selector, err := selectorAt(u, servicePool().path)
	if err != nil {
		return unknown(rec.Wanted), err
	}
	if !rec.pinnedTo(selector[HashLabel]) {
		return unknown(rec.Wanted), conflict(u, append(servicePool().path, HashLabel)...)
	}
	ready, err := r.target.receiving(ctx, r.target.Service)
	if err != nil {
		return unknown(rec.Wanted), err
	}
	s, others := seen(rec.Wanted, ready), ready.others(rec.Wanted)
	if others > 0 || math.IsNaN(s.Share) || s.Share != rec.Wanted.Share {
		return s, &route.NotYetError{Want: rec.Wanted, InForce: s, Why: fmt.Sprintf("ready endpoints of %s: %s", describe(u), ready)}
	}
	return s, nil
}

// seen is the split that ready endpoints make: requests go to all alike. Not known where none is of the split's versions,
// or any is of another.
func seen(s route.Split, ready endpoints) route.Split {
	canary := 0
	if s.Canary != "" {
		canary = ready[s.Canary]
	}
	s.Matches = nil
	if s.Share = route.Matched(canary, ready[s.Stable]); ready.others(s) > 0 {
		s.Share = math.NaN()
	}
	return s
}

// Restore implements route.Router.
func (r *Selector) Restore(ctx context.Context) error {
	err := r.target.change(ctx, services(), r.target.Service, func(u *unstructured.Unstructured) error {
		return r.target.unpin(u, servicePool())
	})
	if err != nil && !gone(err) {
		return fmt.Errorf("cannot restore the selector of Service %s/%s: %w", r.target.Namespace, r.target.Service, err)
	}
	return nil
}
