package kube

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// mostMessage bounds what a condition or a status says.
const mostMessage = 4096

// report writes the status when something of note changed, else every statusInterval, and tells of a policy that is no longer in
// force in an event.
func (l *look) report(ctx context.Context, before *v1alpha1.RolloutPolicyStatus) error {
	if l.seen != nil && l.basis != nil {
		l.fill(before)
		l.c.published.show(client.ObjectKeyFromObject(l.p), l)
	} else {
		// Not followed at all: what was said of the workload is not true any more.
		l.p.Status = v1alpha1.RolloutPolicyStatus{Conditions: before.Conditions, History: before.History, HandledCommand: before.HandledCommand}
		if !l.active() {
			l.p.Status.Phase = ""
		} else {
			l.p.Status = *before.DeepCopy()
		}
		if l.problem != nil {
			l.p.Status.Message = shorten(l.problem.Error(), mostMessage)
		}
		l.c.published.forget(client.ObjectKeyFromObject(l.p))
	}
	s := &l.p.Status
	s.ObservedGeneration = l.p.Generation
	for _, c := range []metav1.Condition{l.ready(), l.progressing(), l.completed()} {
		c.ObservedGeneration, c.Message = l.p.Generation, shorten(c.Message, mostMessage)
		meta.SetStatusCondition(&s.Conditions, c)
	}
	if err := l.write(ctx, before); err != nil {
		return err
	}
	l.tell(before)
	return nil
}

// write patches the status.
func (l *look) write(ctx context.Context, before *v1alpha1.RolloutPolicyStatus) error {
	if !notable(before, &l.p.Status) && l.now.Sub(l.e.written) < statusInterval || equality.Semantic.DeepEqual(before, &l.p.Status) {
		return nil
	}
	base := l.p.DeepCopy()
	base.Status = *before
	if err := l.c.opts.Client.Status().Patch(ctx, l.p, client.MergeFrom(base), client.FieldOwner(FieldOwner)); err != nil {
		if apierrors.IsNotFound(err) {
			return nil // deleted meanwhile
		}
		return changed(err, "cannot write the status")
	}
	l.e.written = l.now
	return nil
}

// tell publishes an event where the policy came into force, or is not any more.
func (l *look) tell(before *v1alpha1.RolloutPolicyStatus) {
	ready := meta.FindStatusCondition(l.p.Status.Conditions, v1alpha1.ConditionReady)
	old := meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionReady)
	if ready == nil || l.e.reason == ready.Reason || l.e.reason == "" && old != nil && old.Reason == ready.Reason {
		return
	}
	l.e.reason = ready.Reason
	kind := corev1.EventTypeNormal
	if ready.Status != metav1.ConditionTrue {
		kind = corev1.EventTypeWarning
	}
	l.c.opts.Recorder.Eventf(l.p, nil, kind, ready.Reason, "Follow", "%s", shorten(ready.Message, 1000))
}

// fill writes what a look found into the status; conditions are not its business.
func (l *look) fill(before *v1alpha1.RolloutPolicyStatus) {
	s, out := &l.record.State, &l.p.Status
	out.Phase, out.Paused, out.HandledCommand = phaseName(s.Phase), s.Frozen, s.Handled
	out.TargetGeneration = generationOf(l.seen)
	out.Message = shorten(l.message(), mostMessage)
	out.Stable, out.Update = versionStatus(l.seen, s.From), versionStatus(l.seen, l.update())
	out.Step, out.Plan, out.Refusal, out.Traffic, out.StartedAt = nil, PlanStatus(s.Schedule), nil, nil, nil
	if step := stepOfState(s); step != nil {
		out.Step = stepStatus(step, s.Step)
	}
	if s.Phase == rollout.Planning {
		out.Refusal, out.Plan = RefusalStatus(l.refusal), PlanStatus(l.candidate)
	}
	if l.basis.Report != nil {
		out.Basis = l.basis.Status()
	} else if !begun(s.Phase) {
		out.Basis = nil
	}
	if l.traffic() != nil {
		out.Traffic = &v1alpha1.RolloutTraffic{}
		if l.weight != nil {
			out.Traffic.WeightPercent = percent(*l.weight)
		}
		if isNotYet(l.routed) {
			out.Traffic.Message = shorten(l.routed.Error(), mostMessage)
		}
	}
	switch {
	case l.judged != nil:
		out.Verdict = l.judged
	case s.Phase != rollout.Settled || s.Key() != l.before.Key():
		out.Verdict = nil
	default:
		out.Verdict = before.Verdict
	}
	if run := l.record.Notes.Run; run != nil {
		out.StartedAt = run.StartedAt
	}
	out.History = l.record.Notes.History
}

// update is the template that is rolled out, or waits, or was gone back from and is still asked for; "" where there is none.
func (l *look) update() string {
	s := &l.record.State
	switch w := l.seen.Workload; {
	case s.To != "":
		return s.To
	case w != nil && s.From != "" && w.Template != s.From:
		return w.Template
	default:
		return s.Queued
	}
}

// message is the present reason in a sentence.
func (l *look) message() string {
	var parts []string
	if l.problem != nil {
		parts = append(parts, l.problem.Error())
	}
	if s := &l.record.State; s.Message != "" {
		parts = append(parts, l.named(s.Message))
	}
	return strings.Join(append(parts, l.messages...), "; ")
}

func is(kind string, ok bool, reason, message string) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message}
	if ok {
		c.Status = metav1.ConditionTrue
	}
	return c
}

// ready says whether the policy is in force.
func (l *look) ready() metav1.Condition {
	switch {
	case l.problem != nil:
		return is(v1alpha1.ConditionReady, false, l.problem.Reason, l.problem.Error())
	case l.releasing:
		return is(v1alpha1.ConditionReady, false, ReasonReleasing, "the workload is given back as its owner wrote it")
	default:
		message := "new templates of " + l.ref().String() + " wait for their plan"
		return is(v1alpha1.ConditionReady, true, ReasonInForce, strings.Join(append([]string{message}, l.messages...), "; "))
	}
}

// progressing says whether an update is under way.
func (l *look) progressing() metav1.Condition {
	s := &l.record.State
	reason := s.Reason
	if reason == "" {
		reason = phaseName(s.Phase)
	}
	switch s.Phase {
	case rollout.Moving, rollout.Settled, rollout.GoingBack, rollout.Restoring:
		return is(v1alpha1.ConditionProgressing, true, reason, l.named(s.Message))
	case rollout.Adopting, rollout.Resting, rollout.Planning, rollout.Released, rollout.Gone:
	}
	return is(v1alpha1.ConditionProgressing, false, reason, l.named(s.Message))
}

// completed says whether every replica runs the workload's newest template. A version that was gone back from, or waits, is newer
// than the one that the workload has again.
func (l *look) completed() metav1.Condition {
	s := &l.record.State
	message := l.named(s.Message)
	no := func(reason string) metav1.Condition { return is(v1alpha1.ConditionCompleted, false, reason, message) }
	if l.seen == nil || l.seen.Workload == nil || l.basis == nil {
		if l.problem != nil {
			message = l.problem.Error()
			return no(l.problem.Reason)
		}
		return no(phaseName(s.Phase))
	}
	switch s.Phase {
	case rollout.Planning:
		return no(l.planningReason())
	case rollout.Moving, rollout.Settled:
		return no(l.movingReason())
	case rollout.Resting:
		switch v := l.versions[s.From]; {
		case s.Failed != "":
			return no("WentBack")
		case s.Queued != "" || l.seen.Workload.Template != s.From:
			return no("Waiting")
		case v.Ready < l.seen.Workload.Replicas:
			return is(v1alpha1.ConditionCompleted, true, "Completed", "all replicas run the newest template; not all of them are Ready")
		}
		return is(v1alpha1.ConditionCompleted, true, "Completed", "all replicas run the newest template")
	case rollout.Adopting, rollout.GoingBack, rollout.Restoring, rollout.Released, rollout.Gone:
	}
	return no(phaseName(s.Phase))
}

func (l *look) planningReason() string {
	switch s := &l.record.State; {
	case s.Frozen:
		return "Paused"
	case l.wait != "":
		return "Waiting"
	case l.refusal != nil:
		return "Refused"
	}
	return "Planning"
}

func (l *look) movingReason() string {
	switch s := &l.record.State; {
	case s.Frozen || l.frozen:
		return "Paused"
	case s.Reason == "Inconclusive" || s.Reason == "WaitsForPerson" || s.Reason == "WaitsForWindow":
		return s.Reason
	}
	return "Progressing"
}

// notable says whether something changed that a reader should see at once: not a number that always moves.
func notable(before, after *v1alpha1.RolloutPolicyStatus) bool {
	strip := func(s *v1alpha1.RolloutPolicyStatus) *v1alpha1.RolloutPolicyStatus {
		c := s.DeepCopy()
		c.Basis, c.Refusal = nil, nil
		if c.Verdict != nil {
			c.Verdict = &v1alpha1.RolloutVerdict{Result: c.Verdict.Result, Reason: c.Verdict.Reason}
		}
		return c
	}
	return !equality.Semantic.DeepEqual(strip(before), strip(after))
}

// shorten cuts a text to so many bytes.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "…"
}

// finished counts an update that has ended.
func (p *published) finished(of *v1alpha1.RolloutPolicy, r *v1alpha1.RolloutRecord, now time.Time) {
	p.ended.WithLabelValues(of.Namespace, of.Name, r.Outcome).Inc()
	if r.StartedAt != nil {
		p.duration.WithLabelValues(of.Namespace, of.Name, r.Outcome).Observe(now.Sub(r.StartedAt.Time).Seconds())
	}
}
