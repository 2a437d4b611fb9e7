package kube

import (
	"slices"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// The outcome of an update that all replicas run.
const outcomeCompleted = "Completed"

// defaultHistory is how many ended updates are kept where the policy does not say.
const defaultHistory = 10

// recordRun keeps account of the present update, and of those that have ended. It is stored with the state that it follows from.
func (l *look) recordRun() {
	before, after, n := &l.before, &l.record.State, &l.record.Notes
	for _, e := range news(before, after) {
		if refusal(e.Reason) {
			l.c.published.refusals.WithLabelValues(l.p.Namespace, l.p.Name, e.Reason).Inc()
		}
	}
	if run := n.Run; run != nil {
		if v := l.seen.Versions[run.ID]; v.Hash != "" {
			run.Hash, run.Revision = v.Hash, v.Revision // there is a ReplicaSet by now
		}
		if after.Schedule != nil && run.StartedAt == nil {
			run.Strategy, run.StartedAt = string(after.Schedule.Strategy), new(timeOf(l.now))
		}
		if outcome, message := l.outcome(before, after); outcome != "" {
			l.end(run, outcome, message)
			n.Run = nil
		}
	}
	if n.Run == nil && after.To != "" && begun(after.Phase) {
		n.Run = l.begin(after)
	}
	limit := defaultHistory
	if h := l.p.Spec.HistoryLimit; h != nil {
		limit = int(*h)
	}
	n.History = n.History[:min(len(n.History), limit)]
}

// news are the events of one decision.
func news(before, after *rollout.State) []rollout.Event {
	i := 0
	for i < len(after.Events) && after.Events[i].Seq <= before.Seq {
		i++
	}
	return after.Events[i:]
}

// refusal says that an event is about an update that cannot be planned.
func refusal(reason string) bool {
	switch rollout.Reason(reason) {
	case rollout.Invalid, rollout.Unsupported, rollout.NoConsent, rollout.NoCapacity, rollout.Overloaded, rollout.TooLong:
		return true
	}
	return false
}

func begun(p rollout.Phase) bool {
	return p == rollout.Planning || p == rollout.Moving || p == rollout.Settled
}

func (l *look) begin(s *rollout.State) *v1alpha1.RolloutRecord {
	v := l.seen.Versions[s.To]
	d := v.Describe()
	run := &v1alpha1.RolloutRecord{ID: s.To, Hash: v.Hash, Revision: v.Revision, Images: d.Images, Model: d.Model, Reason: d.Reason, From: s.From}
	if s.Schedule != nil {
		run.Strategy, run.StartedAt = string(s.Schedule.Strategy), new(timeOf(l.now))
	}
	return run
}

// outcome is how the present update has ended, "" where it has not. It ends when it is promoted, and when going back begins.
func (l *look) outcome(before, after *rollout.State) (reason, message string) {
	said := news(before, after)
	switch run := l.record.Notes.Run; {
	case after.Phase == rollout.Gone:
		return "Deleted", after.Message
	case before.From != "" && after.From == run.ID && before.From != after.From:
		return outcomeCompleted, ""
	case begun(after.Phase) && after.To != run.ID:
		return "Restarted", "another version took its place"
	case begun(after.Phase):
		return "", ""
	}
	for _, e := range slices.Backward(said) {
		if e.Reason != "WentBack" && e.Reason != "Released" {
			return e.Reason, e.Message
		}
	}
	return before.Reason, before.Message // it was said before
}

// end takes an update that has ended into the history. One that had not started counts only where somebody broke it off.
func (l *look) end(run *v1alpha1.RolloutRecord, outcome, message string) {
	if run.StartedAt == nil && outcome != "Aborted" {
		return
	}
	done := *run
	done.Outcome, done.Message, done.EndedAt = outcome, shorten(l.named(message), 1024), timeOf(l.now)
	n := &l.record.Notes
	n.History = append([]v1alpha1.RolloutRecord{done}, n.History...)
	l.c.published.finished(l.p, &done, l.now)
}
