package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/evidence"
	"headroom.dev/headroom/rollout/route"
)

// observe is what there is now, as rollout.Next takes it.
func (l *look) observe(ctx context.Context) rollout.Observation {
	o := rollout.Observation{
		Workload: l.seen.Workload, Versions: l.versions, Weight: l.weight, Match: l.match(), Stable: l.record.Stable,
		Command: l.command(), Release: l.releasing, Announced: l.record.Notes.Announced,
	}
	if st := l.p.Status.Stable; l.before.Phase == rollout.Adopting && o.Stable == "" && st != nil {
		o.Stable = st.ID // the record is lost, and what was said of it is not
	}
	if conflict := (*route.ConflictError)(nil); errors.As(l.routed, &conflict) {
		o.Conflict = conflict.Error()
	}
	if l.seen.Workload != nil {
		s := &l.before
		for _, id := range []string{s.From, s.Previous, s.Failed, s.Queued} {
			if id != "" && !l.seen.Keeps(id) {
				o.Lost = append(o.Lost, id)
			}
		}
	}
	step := l.step()
	if l.before.Phase != rollout.Settled || step == nil || l.seen.Workload == nil {
		return o
	}
	if step.Judged {
		o.Verdict = l.judge(ctx)
		l.verdict = o.Verdict
	}
	o.Gates = l.ask(ctx, step)
	return o
}

// underWay says that a mix of versions is on its way, stands, or is left.
func (l *look) underWay() bool {
	switch l.before.Phase {
	case rollout.Moving, rollout.Settled, rollout.GoingBack:
		return true
	case rollout.Adopting, rollout.Resting, rollout.Planning, rollout.Restoring, rollout.Released, rollout.Gone:
	}
	return false
}

// step is the one that was stored, nil where there is none.
func (l *look) step() *rollout.Step { return stepOfState(&l.before) }

func stepOfState(s *rollout.State) *rollout.Step {
	if s.Schedule == nil || s.Step < 0 || s.Step >= len(s.Schedule.Steps) {
		return nil
	}
	return &s.Schedule.Steps[s.Step]
}

// command is what a person asks for by the annotation.
func (l *look) command() rollout.Command {
	text := l.p.Annotations[v1alpha1.AnnotationRolloutCommand]
	if text == "" {
		return rollout.Command{}
	}
	var c v1alpha1.RolloutCommand
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		l.messages = append(l.messages, fmt.Sprintf("the annotation %s cannot be read: %v", v1alpha1.AnnotationRolloutCommand, err))
		return rollout.Command{}
	}
	out := rollout.Command{ID: c.ID, Kind: rollout.CommandKind(c.Kind), By: c.By}
	if out.By == "" {
		out.By = "a person"
	}
	known := []rollout.CommandKind{rollout.Pause, rollout.Resume, rollout.Promote, rollout.Abort, rollout.Retry, rollout.Undo}
	if c.ID == "" || !slices.Contains(known, out.Kind) {
		l.messages = append(l.messages, fmt.Sprintf("the annotation %s has the id %q and the kind %q: it needs an id, and Pause, Resume, Promote, Abort, Retry or Undo", v1alpha1.AnnotationRolloutCommand, c.ID, c.Kind))
		return rollout.Command{}
	}
	return out
}

// judge takes a look, if one is due. A judge that cannot look has not decided.
func (l *look) judge(ctx context.Context) rollout.Verdict {
	key := l.before.Key()
	pods := func(id string) []*corev1.Pod { return l.seen.Versions[id].Pods }
	j, err := l.c.opts.Planner.Evidence.Judge(ctx, l.p, l.record.Judge, evidence.Look{Key: key, New: pods(l.before.To), Old: pods(l.before.From)})
	if err != nil {
		l.log.Warn("the judge could not look", "err", err)
		return rollout.Verdict{Key: key, Result: rollout.Inconclusive, Message: "the judge could not look: " + err.Error()}
	}
	l.record.Judge, l.judged = j.State, &j.Status
	if wait := j.Next.Sub(l.now); wait > 0 {
		l.again = min(l.again, wait)
	}
	return j.Verdict
}

// observeRouter makes the router and reads the split in force.
func (l *look) observeRouter(ctx context.Context) {
	t := l.traffic()
	if t == nil {
		return
	}
	if l.router, l.routed = l.routerOf(); l.routed != nil {
		l.router = nil
		l.blame(&Problem{Reason: v1alpha1.ReasonInvalid, Field: trafficField(t), Err: l.routed})
		return
	}
	l.split, l.routed = l.router.Read(ctx)
	notYet, conflict := (*route.NotYetError)(nil), (*route.ConflictError)(nil)
	switch {
	case l.routed == nil:
		l.weight = l.share()
	case errors.Is(l.routed, route.ErrNotSet):
	case errors.As(l.routed, &notYet):
		l.messages = append(l.messages, notYet.Error())
	case errors.As(l.routed, &conflict):
		l.blame(&Problem{Reason: ReasonRouterConflict, Field: trafficField(t), Err: l.routed})
	case errors.Is(l.routed, route.ErrNotFound), errors.Is(l.routed, route.ErrNotInstalled):
		l.blame(&Problem{Reason: ReasonRouterNotFound, Field: trafficField(t), Err: l.routed})
	case errors.Is(l.routed, route.ErrAmbiguous), errors.Is(l.routed, route.ErrInvalid), errors.Is(l.routed, route.ErrUnsupported):
		l.blame(&Problem{Reason: ReasonRouterFailed, Field: trafficField(t), Err: l.routed})
	default:
		// The cluster's fault, not the policy's: what is in force is not known, so that nothing is promoted meanwhile.
		l.log.Warn("cannot read the split of traffic", "err", l.routed)
		l.messages = append(l.messages, "the split of traffic cannot be read: "+l.routed.Error())
	}
}

// trafficField is the field that names a router.
func trafficField(t *v1alpha1.TrafficRouting) string {
	switch {
	case t.HTTPRoute != nil:
		return "spec.traffic.httpRoute"
	case t.GRPCRoute != nil:
		return "spec.traffic.grpcRoute"
	case t.VirtualService != nil:
		return "spec.traffic.virtualService"
	case t.Ingress != nil:
		return "spec.traffic.ingress"
	default:
		return "spec.traffic.service"
	}
}

// share is the part of the requests that the new version gets by the split in force; nil where it is not known.
func (l *look) share() *float64 {
	old, fresh := l.hash(l.before.From), l.hash(l.before.To)
	is := l.split
	share := 0.0
	switch {
	case math.IsNaN(is.Share):
		return nil
	case is.Canary != "" && (is.Canary == fresh || fresh == "" && is.Stable == old):
		share = is.Share
	case is.Stable == old && is.Canary == "":
	case is.Stable == fresh && fresh != "" && is.Canary == "":
		share = 1
	case is.Stable == fresh && fresh != "" && is.Canary == old:
		share = 1 - is.Share
	default:
		return nil
	}
	return &share
}

// match is which requests go to the new version besides its share, by the split in force.
func (l *look) match() string {
	if l.weight == nil {
		return ""
	}
	texts := make([]string, len(l.split.Matches))
	for i, m := range l.split.Matches {
		texts[i] = m.String()
	}
	return strings.Join(texts, " or ")
}

// hash is what the pods of a template carry, "" before there are any.
func (l *look) hash(template string) string { return l.seen.Versions[template].Hash }
