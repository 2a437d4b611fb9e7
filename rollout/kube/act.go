package kube

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/workload"
)

// act carries out what was decided. Each part can be repeated: whatever dies on the way, the next look goes on.
func (l *look) act(ctx context.Context) error {
	if l.weighs() {
		l.record.Notes.Traffic = l.traffic().DeepCopy()
	}
	keep, err := l.keeps(ctx)
	if err != nil {
		return err
	}
	ensure, hold := l.provisions(), l.guards()
	l.record.Notes.Ensured = l.record.Notes.Ensured || ensure
	l.record.Notes.Held = l.record.Notes.Held || hold
	if err := l.c.save(ctx, l.p, l.record); err != nil {
		return err
	}
	if keep {
		if err := l.c.opts.Planner.Workloads.Keep(ctx, l.seen); err != nil {
			return err
		}
	}
	var late []error // what must not keep the rest from being done
	if l.record.Notes.Ensured {
		late = append(late, l.ensure(ctx, ensure))
	}
	if hold {
		late = append(late, l.guard(ctx))
	}
	for _, a := range l.actions {
		if err := l.carryOut(ctx, a); err != nil {
			return errors.Join(append(late, err)...)
		}
	}
	late = append(late, l.unblock(ctx))
	late = append(late, l.unguard(ctx))
	late = append(late, l.forget(ctx))
	late = append(late, l.rest(ctx))
	l.pace()
	if err := l.c.save(ctx, l.p, l.record); err != nil {
		return err
	}
	return errors.Join(late...)
}

// keeps says that the template which waits for its turn is about to be written over, and nothing else has it. It is noted, instead of
// one that waited before.
func (l *look) keeps(ctx context.Context) (bool, error) {
	n, q := &l.record.Notes, l.record.State.Queued
	if q == "" || !l.seen.Fleeting(q) {
		return false, nil
	}
	if n.Kept != "" && n.Kept != q {
		if err := l.c.opts.Planner.Workloads.Forget(ctx, l.ref(), n.Kept); err != nil {
			return false, err
		}
	}
	n.Kept = q
	return true, nil
}

// forget drops a template that was kept, once something else has it or it is not waited for any more.
func (l *look) forget(ctx context.Context) error {
	s, n := &l.record.State, &l.record.Notes
	if n.Kept == "" || active(s.Phase) && (n.Kept == s.Queued || n.Kept == s.To) && l.hash(n.Kept) == "" {
		return nil
	}
	if err := l.c.opts.Planner.Workloads.Forget(ctx, l.ref(), n.Kept); err != nil {
		return err
	}
	n.Kept = ""
	return nil
}

// pace is when the next look is due.
func (l *look) pace() {
	s := &l.record.State
	switch {
	case s.Phase != l.before.Phase || s.Step != l.before.Step:
		l.again = min(l.again, soon)
	case len(l.actions) > 0 || l.underWay():
		l.again = min(l.again, underWay)
	case s.Phase == rollout.Planning:
		l.again = min(l.again, gatherInterval)
	}
}

// unblock lets a StatefulSet go on that waits for a pod of a broken version.
func (l *look) unblock(ctx context.Context) error {
	s := &l.record.State
	if l.seen.Workload == nil || s.Frozen || s.Phase != rollout.Moving && s.Phase != rollout.GoingBack {
		return nil
	}
	names, err := l.c.opts.Planner.Workloads.Unblock(ctx, l.seen)
	if len(names) > 0 {
		l.log.Info("deleted pods that the update waits for", "pods", names)
	}
	return err
}

func (l *look) carryOut(ctx context.Context, a rollout.Action) error {
	switch a := a.(type) {
	case rollout.Patch:
		l.again = soon
		if err := l.c.opts.Planner.Workloads.Write(ctx, l.seen, a); err != nil && !errors.Is(err, workload.ErrConflict) {
			return err
		}
	case rollout.SetWeight:
		l.setWeight(ctx, a)
	case rollout.Finish:
		return l.finish(ctx, a.Stable)
	case rollout.Yield:
		name, err := l.c.opts.Planner.Workloads.Yield(ctx, l.seen, a.Template)
		if name != "" {
			l.log.Info("deleted a pod whose GPU the old version waits for", "pod", name)
		}
		return err
	case rollout.Clean:
		return l.clean(ctx)
	case rollout.Announce:
		l.announce(a.Event)
	}
	return nil
}

// announce publishes an event.
func (l *look) announce(e rollout.Event) {
	l.record.Notes.Announced = max(l.record.Notes.Announced, e.Seq)
	kind := corev1.EventTypeNormal
	if alarming(e.Reason) {
		kind = corev1.EventTypeWarning
	}
	var related runtime.Object
	if l.seen.Object != nil {
		related = l.seen.Object
	}
	const note = 1000 // an event's may have 1024 bytes
	l.c.opts.Recorder.Eventf(l.p, related, kind, e.Reason, "Rollout", "%s", shorten(l.named(e.Message), note))
}

// alarming says that an event is about something that went wrong, or cannot go on by itself.
func alarming(reason string) bool {
	switch reason {
	case "Adopted", "Started", "StepReached", "Completed", "Released", "Scaled", "Promoted", "Paused", "Resumed", "Queued", "Restarted", "Undone", "Aborted",
		"WaitsForBudget", "WaitsForPerson", "WaitsForWindow", "PolicyRemoved", "ScaledToZero", "UpdateInProgress", "MixChanged", "WentBack":
		return false
	}
	return true
}

// guards says that the HPA must not undo the mix.
func (l *look) guards() bool {
	if l.c.opts.Autoscalers == nil || l.seen.Workload == nil || l.seen.Kind == rollout.DaemonSet {
		return false
	}
	switch s := &l.record.State; s.Phase {
	case rollout.Moving, rollout.Settled, rollout.GoingBack:
		return true
	case rollout.Planning:
		return s.Mixed
	case rollout.Adopting, rollout.Resting, rollout.Restoring, rollout.Released, rollout.Gone:
	}
	return false
}

// guard holds the HPA above the number of replicas below which an update is broken off: half the schedule's, and what a held step
// has of the new version, since fewer replicas than that would promote it.
func (l *look) guard(ctx context.Context) error {
	s := &l.record.State
	n := l.seen.Workload.Replicas
	if s.Schedule != nil {
		n = s.Schedule.Replicas
	}
	floor := (n + 1) / 2
	if step := stepOfState(s); step != nil && step.Held {
		floor = max(floor, min(step.New, n))
	}
	g, err := l.c.opts.Autoscalers.Hold(ctx, l.seen.Ref, max(1, floor))
	if err != nil {
		return changed(err, "cannot hold the HorizontalPodAutoscaler") // its controller writes its status all the time
	}
	if g.Message != "" {
		l.messages = append(l.messages, g.Message)
	}
	if g.Name != "" && g.Min > l.seen.Workload.Replicas {
		l.messages = append(l.messages, fmt.Sprintf("HorizontalPodAutoscaler %s wants at least %d replicas, and there are %d", g.Name, g.Min, l.seen.Workload.Replicas))
	}
	return nil
}

func (l *look) unguard(ctx context.Context) error {
	if p := l.record.State.Phase; !l.record.Notes.Held || p != rollout.Resting && active(p) {
		return nil
	}
	if l.c.opts.Autoscalers != nil {
		if err := l.c.opts.Autoscalers.Release(ctx, l.ref()); err != nil {
			return changed(err, "cannot release the HorizontalPodAutoscaler")
		}
	}
	l.record.Notes.Held = false
	return nil
}

// provisions says that nodes are asked for.
func (l *look) provisions() bool {
	s := &l.record.State
	if s.Schedule == nil || l.seen.Workload == nil || s.Phase != rollout.Moving && s.Phase != rollout.Settled {
		return false
	}
	for _, u := range s.Schedule.Uses {
		if u.Source.Kind == rollout.Provision && u.Replicas > 0 {
			return true
		}
	}
	return false
}

// ensure asks for the nodes of the schedule, or takes back what was asked for.
func (l *look) ensure(ctx context.Context, wanted bool) error {
	var uses []rollout.Use
	if wanted {
		uses = l.record.State.Schedule.Uses
	}
	message, err := l.c.opts.Planner.Capacity.Ensure(ctx, l.p, l.basis.need(), uses)
	if err != nil {
		return fmt.Errorf("cannot ask for nodes: %w", err)
	}
	if message != "" {
		l.messages = append(l.messages, message)
	}
	l.record.Notes.Ensured = wanted
	return nil
}

// traffic is how requests are split: as it was when the update began, as long as anything of that stands.
func (l *look) traffic() *v1alpha1.TrafficRouting {
	if t := l.record.Notes.Traffic; t != nil {
		return t
	}
	return l.p.Spec.Traffic
}
