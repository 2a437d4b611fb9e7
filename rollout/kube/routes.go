package kube

import (
	"context"
	"errors"
	"fmt"
	"math"

	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/route"
)

// mostReasserts bounds how often in an update a router's object that others write is written again, as rollout does for fields.
const mostReasserts = 5

// weighs says that the router is about to be set.
func (l *look) weighs() bool {
	for _, a := range l.actions {
		if _, ok := a.(rollout.SetWeight); ok && l.router != nil {
			return true
		}
	}
	return false
}

// setWeight asks the router for a share. A router that cannot is a condition, not an error: pods must be able to go back without it.
func (l *look) setWeight(ctx context.Context, a rollout.SetWeight) {
	split, ok := l.splitOf(a)
	if l.router == nil || !ok {
		return
	}
	err := l.router.Set(ctx, split)
	conflict := (*route.ConflictError)(nil)
	if errors.As(err, &conflict) {
		l.blame(&Problem{Reason: ReasonRouterConflict, Field: trafficField(l.traffic()), Err: err})
		if n := &l.record.Notes; l.rules.OnForeign != rollout.Stop && n.Reasserted < mostReasserts {
			n.Reasserted++
			if err = l.router.Restore(ctx); err == nil || isNotYet(err) {
				err = l.router.Set(ctx, split)
			}
		}
	}
	l.say(err)
}

// say reports what a router answered.
func (l *look) say(err error) {
	conflict, field := (*route.ConflictError)(nil), ""
	if t := l.traffic(); t != nil {
		field = trafficField(t)
	}
	switch {
	case err == nil, errors.As(err, &conflict):
	case isNotYet(err):
		l.messages = append(l.messages, err.Error())
	case errors.Is(err, route.ErrNotFound), errors.Is(err, route.ErrNotInstalled):
		l.blame(&Problem{Reason: ReasonRouterNotFound, Field: field, Err: err})
	case errors.Is(err, route.ErrUnsupported), errors.Is(err, route.ErrAmbiguous), errors.Is(err, route.ErrInvalid):
		l.blame(&Problem{Reason: ReasonRouterFailed, Field: field, Err: err})
	default:
		l.log.Warn("the router could not be set", "err", err)
		l.messages = append(l.messages, "the router could not be set: "+err.Error())
	}
}

func isNotYet(err error) bool {
	notYet := (*route.NotYetError)(nil)
	return errors.As(err, &notYet)
}

// splitOf is what the router is to be set to; false where the version that is to get requests has no pods yet.
func (l *look) splitOf(a rollout.SetWeight) (route.Split, bool) {
	out := route.Split{Stable: l.hash(a.Old)}
	fresh := l.hash(a.New)
	matches, err := matchOf(a.Match)
	if err != nil || out.Stable == "" || out.Stable == fresh {
		return out, false
	}
	share := a.Weight
	if t := l.traffic(); t != nil && t.Switch {
		share = math.Round(share) // all or nothing
	}
	if fresh == "" || l.versions[a.New].Replicas == 0 {
		return out, share == 0 && len(matches) == 0
	}
	out.Canary, out.Share, out.Matches = fresh, share, matches
	return out, true
}

// finish makes a version the stable one: all requests go to it, and then where the user's own objects say, which is the same once
// the other versions are gone.
func (l *look) finish(ctx context.Context, stable string) error {
	if l.router == nil {
		l.record.Stable = stable
		return nil
	}
	split, conflict := route.Split{Stable: l.hash(stable)}, (*route.ConflictError)(nil)
	switch {
	case errors.Is(l.routed, route.ErrNotSet), errors.As(l.routed, &conflict): // Restore leaves alone what others wrote
	case l.routed == nil && l.split.Equal(split):
	case gone(l.routed):
	case split.Stable == "":
		return nil // it has no pods yet
	default:
		l.say(l.router.Set(ctx, split))
		return nil // in force by the next look
	}
	return l.restored(ctx, stable)
}

// gone says that there is nothing left that could be put back.
func gone(err error) bool {
	return errors.Is(err, route.ErrNotFound) || errors.Is(err, route.ErrNotInstalled)
}

// restored puts the router's objects back, and takes down which version is the stable one then.
func (l *look) restored(ctx context.Context, stable string) error {
	switch err := l.router.Restore(ctx); {
	case err == nil, gone(err):
		l.record.Stable, l.record.Notes.Traffic, l.record.Notes.Reasserted = stable, nil, 0
	case isNotYet(err):
		l.messages = append(l.messages, err.Error())
	default:
		return fmt.Errorf("cannot put the traffic back: %w", err)
	}
	return nil
}

// clean removes what is left of a workload that is gone, or whose policy is.
func (l *look) clean(ctx context.Context) error {
	if l.router == nil {
		l.record.Stable = ""
		return nil
	}
	return l.restored(ctx, "")
}

// rest puts the router's objects back once only one version is left after going back: there Next has no Finish.
func (l *look) rest(ctx context.Context) error {
	s := &l.record.State
	if s.Phase != rollout.Resting || l.router == nil || l.record.Stable != s.From || l.record.Notes.Traffic == nil || len(l.actions) > 0 {
		return nil
	}
	for template, v := range l.versions {
		if template != s.From && v.Replicas > 0 {
			return nil
		}
	}
	return l.restored(ctx, s.From)
}

// routerOf is a policy's router, for what it says of traffic now or said when the update began.
func (l *look) routerOf() (route.Router, error) {
	p := l.p.DeepCopy()
	p.Spec.Traffic = l.traffic()
	return l.c.opts.Routers(p)
}
