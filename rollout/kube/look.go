package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/capacity"
	"headroom.dev/headroom/rollout/evidence"
	"headroom.dev/headroom/rollout/route"
	"headroom.dev/headroom/rollout/workload"
)

// look is one round for a policy: what it says, what there is, what to do, and doing it.
type look struct {
	c   *Controller
	e   *entry
	p   *v1alpha1.RolloutPolicy
	now time.Time
	log *slog.Logger

	record    *record
	before    rollout.State // as it was stored
	rules     rollout.Policy
	releasing bool // the hold is to be taken away: the policy is deleted, or is about another workload now
	frozen    bool // the policy makes no sense: nothing goes on

	seen     *workload.Seen
	versions map[string]rollout.Version
	basis    *Basis
	refusal  *rollout.Refusal
	// candidate is the best plan while the update waits to start.
	candidate *rollout.Schedule
	wait      string
	actions   []rollout.Action

	router   route.Router
	split    route.Split
	routed   error // what Read said
	weight   *float64
	verdict  rollout.Verdict
	judged   *v1alpha1.RolloutVerdict
	problem  *Problem // the first thing that is wrong
	messages []string // what a person should know besides
	again    time.Duration
}

// look does one round. What is wrong with the policy is reported in its status; errors are those of the cluster.
func (c *Controller) look(ctx context.Context, e *entry, p *v1alpha1.RolloutPolicy, now time.Time) (time.Duration, error) {
	if p.DeletionTimestamp != nil && !controllerutil.ContainsFinalizer(p, v1alpha1.FinalizerRollout) {
		c.forget(client.ObjectKeyFromObject(p))
		return 0, nil
	}
	l := &look{c: c, e: e, p: p, now: now, log: c.opts.Log.With("namespace", p.Namespace, "rolloutpolicy", p.Name), again: c.opts.Period}
	before := p.Status.DeepCopy()
	done, err := l.run(ctx)
	if l.basis == nil && !l.active() {
		c.unclaim(client.ObjectKeyFromObject(p)) // what is not followed waits for nothing
	}
	if err != nil && l.passing(err) {
		return soon, nil
	}
	if problem := (*Problem)(nil); errors.As(err, &problem) {
		l.blame(problem)
		err = nil
	}
	if err != nil {
		if l.basis != nil {
			// What cannot be done is said where people look, besides in the log.
			l.messages = append(l.messages, err.Error())
			err = errors.Join(err, l.report(ctx, before))
		}
		return 0, err
	}
	if done {
		c.forget(client.ObjectKeyFromObject(p))
		return 0, nil
	}
	if err := l.report(ctx, before); err != nil {
		return 0, err
	}
	return l.again, nil
}

// passing says that an error is another's write that came first: the next look sees it.
func (l *look) passing(err error) bool {
	if errors.Is(err, errChanged) || errors.Is(err, workload.ErrConflict) {
		l.log.Debug("somebody else wrote first", "err", err)
		return true
	}
	return false
}

// blame makes something the reason why the policy is not Ready, unless there is one.
func (l *look) blame(p *Problem) {
	if l.problem == nil {
		l.problem = p
	}
}

// run looks, decides and acts. done says that the policy is gone, and nothing of it left.
func (l *look) run(ctx context.Context) (done bool, err error) {
	l.releasing = l.p.DeletionTimestamp != nil
	if l.record, err = l.c.load(ctx, l.p); err != nil {
		return false, err
	}
	if l.record.unreadable != nil {
		l.log.Error("the record of the rollout counts as lost", "err", l.record.unreadable)
		l.messages = append(l.messages, l.record.unreadable.Error())
	}
	l.before = l.record.State
	if err := l.alone(ctx); err != nil && !l.active() {
		if l.releasing {
			return true, l.leave(ctx)
		}
		return false, err
	}
	if err := l.readPolicy(); err != nil {
		return false, err
	}
	if l.seen, err = l.c.opts.Planner.Workloads.Read(ctx, l.ref()); err != nil {
		return false, err
	}
	if kept := l.record.Notes.Kept; kept != "" {
		if err := l.c.opts.Planner.Workloads.Recall(ctx, l.seen, kept); err != nil {
			return false, err
		}
	}
	l.versions = l.seen.Core()
	if l.seen.Workload == nil {
		if l.releasing && l.before.Phase == rollout.Adopting {
			return true, l.leave(ctx)
		}
		l.blame(missing(l.p))
		if l.before.Phase == rollout.Adopting {
			return false, nil
		}
	}
	return l.follow(ctx)
}

// follow decides and acts on what was read.
func (l *look) follow(ctx context.Context) (done bool, err error) {
	if err := l.finalizer(ctx); err != nil {
		return false, err
	}
	l.observeRouter(ctx)
	if err := l.decide(ctx); err != nil {
		return false, err
	}
	if err := l.act(ctx); err != nil {
		return false, err
	}
	return l.over(ctx)
}

// active says that something of the workload may be held.
func (l *look) active() bool { return active(l.before.Phase) }

func active(p rollout.Phase) bool {
	return p != rollout.Adopting && p != rollout.Released && p != rollout.Gone
}

// alone says whether another policy has the same target: the one that holds it already, else the older one, then by name.
func (l *look) alone(ctx context.Context) error {
	var all v1alpha1.RolloutPolicyList
	if err := l.c.opts.Reader.List(ctx, &all, client.InNamespace(l.p.Namespace)); err != nil {
		return fmt.Errorf("cannot list the policies: %w", err)
	}
	for i := range all.Items {
		if other := &all.Items[i]; other.Name != l.p.Name && RefOf(other) == RefOf(l.p) && precedes(other, l.p) {
			return &Problem{Reason: v1alpha1.ReasonDuplicate, Field: "spec.targetRef", Err: fmt.Errorf("RolloutPolicy %q has %s already", other.Name, RefOf(l.p))}
		}
	}
	return nil
}

// precedes says which of two policies has a target.
func precedes(a, b *v1alpha1.RolloutPolicy) bool {
	holds := func(p *v1alpha1.RolloutPolicy) bool {
		return controllerutil.ContainsFinalizer(p, v1alpha1.FinalizerRollout) && p.Status.Phase != "" && p.Status.Phase != phaseName(rollout.Adopting) && active(rollout.Phase(p.Status.Phase))
	}
	switch {
	case holds(a) != holds(b):
		return holds(a)
	case !a.CreationTimestamp.Equal(&b.CreationTimestamp):
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	default:
		return a.Name < b.Name
	}
}

// readPolicy makes the rules of what the policy says. One that makes no sense freezes an update where it is, by the rules that it
// began with; where nothing is held, it is not followed at all.
func (l *look) readPolicy() error {
	rules, err := PolicyOf(&l.p.Spec, l.now)
	if err == nil {
		l.rules, l.record.Notes.Rules = rules, &rules
	} else {
		problem := (*Problem)(nil)
		if !errors.As(err, &problem) || !l.active() && !l.releasing {
			return err
		}
		l.blame(problem)
		l.frozen = true
		if last := l.record.Notes.Rules; last != nil {
			l.rules = *last
		}
	}
	if t := l.record.Notes.Target; t != nil && l.active() && *t != targetOf(l.p) {
		l.releasing = true
		l.messages = append(l.messages, fmt.Sprintf("%s %q is given back first", t.Kind, t.Name))
	} else if !l.active() {
		l.record.Notes.Target = new(targetOf(l.p))
	}
	return nil
}

// target is what a record is about.
type target struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

func targetOf(p *v1alpha1.RolloutPolicy) target {
	return target{p.Spec.TargetRef.Kind, p.Spec.TargetRef.Name}
}

// ref is the workload that this look is about: that of the record, as long as something of it may be held.
func (l *look) ref() workload.Ref {
	r := RefOf(l.p)
	if t := l.record.Notes.Target; t != nil && l.active() {
		r.Kind, r.Name = rollout.Kind(t.Kind), t.Name
	}
	return r
}

// finalizer makes sure that a policy cannot go before what it holds.
func (l *look) finalizer(ctx context.Context) error {
	if l.p.DeletionTimestamp != nil || controllerutil.ContainsFinalizer(l.p, v1alpha1.FinalizerRollout) {
		return nil
	}
	base := l.p.DeepCopy()
	controllerutil.AddFinalizer(l.p, v1alpha1.FinalizerRollout)
	status := l.p.Status
	if err := l.c.opts.Client.Patch(ctx, l.p, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}), client.FieldOwner(FieldOwner)); err != nil {
		return changed(err, "cannot add the finalizer")
	}
	l.p.Status = status
	return nil
}

// over ends a policy that is deleted and holds nothing any more, and a record that is about another workload now.
func (l *look) over(ctx context.Context) (bool, error) {
	n := &l.record.Notes
	if !l.releasing || active(l.record.State.Phase) || l.record.Stable != "" || n.Held || n.Ensured || n.Kept != "" {
		return false, nil
	}
	if l.p.DeletionTimestamp != nil {
		return true, l.leave(ctx)
	}
	// Begin anew with what the policy names now.
	l.record.State, l.record.Judge = rollout.State{Seq: l.record.State.Seq, Events: l.record.State.Events, Handled: l.record.State.Handled}, nil
	n.Target, n.Run = new(targetOf(l.p)), nil
	l.again = soon
	return false, l.c.save(ctx, l.p, l.record)
}

// leave drops what is left of a policy that is deleted.
func (l *look) leave(ctx context.Context) error {
	if err := l.c.drop(ctx, l.p, l.record); err != nil {
		return err
	}
	if !slices.Contains(l.p.Finalizers, v1alpha1.FinalizerRollout) {
		return nil
	}
	base := l.p.DeepCopy()
	controllerutil.RemoveFinalizer(l.p, v1alpha1.FinalizerRollout)
	if err := l.c.opts.Client.Patch(ctx, l.p, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}), client.FieldOwner(FieldOwner)); client.IgnoreNotFound(err) != nil {
		return changed(err, "cannot take the finalizer away")
	}
	return nil
}

// decide asks rollout.Next what to do.
func (l *look) decide(ctx context.Context) error {
	if err := l.gather(ctx); err != nil {
		return err
	}
	o := l.observe(ctx)
	s := l.before
	if l.frozen {
		s.Frozen = true
	}
	next := func() {
		l.record.State, l.actions = rollout.Next(s, l.basis.Request, o)
	}
	if l.mayPlan() {
		l.c.admission.Lock()
		defer l.c.admission.Unlock()
		if err := l.admit(ctx, &s, &o); err != nil {
			return err
		}
		next()
		l.c.claims[client.ObjectKeyFromObject(l.p)] = l.claim()
	} else {
		next()
		l.c.admission.Lock()
		defer l.c.admission.Unlock()
		l.c.claims[client.ObjectKeyFromObject(l.p)] = l.claim()
	}
	if l.frozen && o.Command.Kind != rollout.Pause {
		l.record.State.Frozen = l.before.Frozen && l.record.State.Frozen
	}
	l.recordRun()
	return nil
}

// mayPlan says whether Next may plan, so that it needs to know what the sources of capacity have.
func (l *look) mayPlan() bool {
	s, w := &l.before, l.seen.Workload
	if w == nil || w.Template == s.From || l.releasing {
		return false
	}
	switch s.Phase {
	case rollout.Resting, rollout.Restoring:
		return w.Template != s.Failed
	case rollout.Planning:
		return true
	case rollout.Moving, rollout.Settled:
		return w.Template != s.To && w.Template != s.Queued
	case rollout.Adopting, rollout.GoingBack, rollout.Released, rollout.Gone:
	}
	return false
}

// gathered is what was found out a short while ago.
type gathered struct {
	at         time.Time
	generation int64  // of the policy
	template   string // of the workload
	demand     evidence.Demand
	report     *capacity.Report // nil where capacity was not looked for
}

// gather fills the basis: with what is asked for only where the decision needs it.
func (l *look) gather(ctx context.Context) error {
	planner := l.c.opts.Planner
	if l.seen.Workload == nil {
		l.basis = &Basis{Seen: l.seen, Request: rollout.Request{Now: l.now, Policy: l.rules, Service: rollout.Service{Kind: l.seen.Kind, Capacity: 1, Router: l.router != nil}}}
		return nil
	}
	l.basis = planner.outline(l.p, l.rules, l.seen, l.now)
	l.basis.Request.Service.Router = l.traffic() != nil
	plan := l.mayPlan() || l.before.Phase == rollout.Moving && l.versions[l.before.To].NoGPU > 0
	if !plan && (!active(l.before.Phase) || l.before.Phase == rollout.Resting || l.before.Phase == rollout.Restoring) {
		return nil
	}
	last := l.e.gathered
	if last != nil && last.generation == l.p.Generation && last.template == l.seen.Workload.Template && l.now.Sub(last.at) < gatherInterval && (last.report != nil || !plan) {
		if last.report != nil {
			l.basis.reports(last.report)
		}
		return l.demands(l.basis.demands(l.p, last.demand))
	}
	return l.gatherAfresh(ctx, plan)
}

func (l *look) gatherAfresh(ctx context.Context, plan bool) error {
	planner := l.c.opts.Planner
	if err := l.demands(planner.demand(ctx, l.p, l.basis)); err != nil {
		return err
	}
	if plan {
		if err := planner.capacity(ctx, l.p, l.basis); err != nil {
			return err
		}
	}
	l.e.gathered = &gathered{at: l.now, generation: l.p.Generation, template: l.seen.Workload.Template, demand: l.basis.Demand, report: l.basis.Report}
	return nil
}

// demands freezes an update whose policy turns out to make no sense.
func (l *look) demands(err error) error {
	problem := (*Problem)(nil)
	if errors.As(err, &problem) {
		l.blame(problem)
		l.frozen = true
		return nil
	}
	return err
}

// changed makes errChanged of a conflict, and a sentence of any other error.
func changed(err error, what string) error {
	if isConflict(err) {
		return errChanged
	}
	return fmt.Errorf("%s: %w", what, err)
}

// generationOf is that of the workload that was seen, 0 where there is none.
func generationOf(s *workload.Seen) int64 {
	if s.Workload == nil {
		return 0
	}
	return s.Object.GetGeneration()
}
