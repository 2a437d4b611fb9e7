package kube

import (
	"context"
	"errors"
	"time"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

type (
	gathered struct{}
	answer   struct{}
	claim    struct{}
)

type look struct {
	record   *record
	versions map[string]rollout.Version
	weight   *float64
	verdict  rollout.Verdict
}

func (c *Controller) look(ctx context.Context, e *entry, p *v1alpha1.RolloutPolicy, now time.Time) (time.Duration, error) {
	return 0, errors.ErrUnsupported
}
