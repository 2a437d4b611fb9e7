package traffic

import (
	"context"
	"fmt"
	"math"

	"headroom.dev/headroom/rollout/route"
)

// Replicas is what there is without a router: a Service sends requests to all of its ready endpoints alike, so that a
// version's share is its part of them, to half a pod. Nothing is written; the mix of pods is somebody else's to change.
// Clients that keep connections open, as HTTP/2 ones do, follow more slowly than the endpoints.
type Replicas struct {
	target         Target
	stable, canary string
}

var _ route.Router = (*Replicas)(nil)

// NewReplicas returns the router of a Service that selects two versions. Nothing in the cluster remembers a Set, so it is
// told which they are; an empty canary means one version.
func NewReplicas(t Target, stable, canary string) *Replicas { return &Replicas{t, stable, canary} }

// Set implements route.Router: nil where the ready endpoints make the share, to half a pod; else a NotYet that says what
// share they make.
func (r *Replicas) Set(ctx context.Context, s route.Split) error {
	if err := r.set(ctx, s); err != nil {
		return fmt.Errorf("cannot share out the requests of Service %s/%s: %w", r.target.Namespace, r.target.Service, err)
	}
	return nil
}

func (r *Replicas) set(ctx context.Context, s route.Split) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if len(s.Matches) > 0 {
		return fmt.Errorf("%w: a Service knows no headers or cookies", route.ErrUnsupported)
	}
	ready, err := r.endpoints(ctx)
	if err != nil {
		return err
	}
	is := seen(s, ready)
	n := float64(ready[s.Stable] + ready[s.Canary])
	if s.Canary == "" {
		n = float64(ready[s.Stable])
	}
	// Written so that NaN is not near anything. A version that is to get requests has to have a pod, and one that is to get
	// none has not, though they may be nearer than half a pod.
	near := math.Abs(is.Share-s.Share)*n <= 0.5+1e-9 && (s.Share > 0) == (is.Share > 0) && (s.Share < 1) == (is.Share < 1)
	if !near {
		return &route.NotYetError{Want: s, InForce: is, Why: fmt.Sprintf("ready endpoints of Service %s/%s: %s", r.target.Namespace, r.target.Service, ready)}
	}
	return nil
}

func (r *Replicas) endpoints(ctx context.Context) (endpoints, error) {
	if _, err := r.target.get(ctx, services(), r.target.Service); err != nil {
		return nil, err
	}
	return r.target.receiving(ctx, r.target.Service)
}

// Read implements route.Router. There is no NotYet but for endpoints that are of neither version, or none at all.
func (r *Replicas) Read(ctx context.Context) (route.Split, error) {
	want := unknown(route.Split{Stable: r.stable, Canary: r.canary})
	ready, err := r.endpoints(ctx)
	if err == nil {
		want = seen(want, ready)
		if math.IsNaN(want.Share) {
			err = &route.NotYetError{Want: want, InForce: want, Why: "ready endpoints: " + ready.String()}
		}
	}
	if err != nil {
		return want, fmt.Errorf("cannot tell the split by the endpoints of Service %s/%s: %w", r.target.Namespace, r.target.Service, err)
	}
	return want, nil
}

// Restore implements route.Router: nothing was changed.
func (r *Replicas) Restore(context.Context) error { return nil }
