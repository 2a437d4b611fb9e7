package screen

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
)

// Status is one screen about a policy: where its update stands, why, with which versions, and how it goes on.
func Status(p *v1alpha1.RolloutPolicy, now time.Time, width int) string {
	out := &page{width: width}
	st := &p.Status
	phase := dash(st.Phase)
	if st.Paused {
		phase += " (paused)"
	}
	started := ""
	if Underway(p) {
		started = ago(st.StartedAt, now)
	}
	out.fields(
		one("Name", p.Namespace+"/"+p.Name),
		one("Target", p.Spec.TargetRef.Kind+"/"+p.Spec.TargetRef.Name),
		one("Strategy", strategyOf(p)),
		one("Phase", phase),
		one("Message", reason(p)),
		one("Started", started),
		one("Step", presentStep(st)),
		one("Traffic", presentTraffic(st)),
	)
	out.versions(st)
	if st.Refusal != nil {
		out.space()
		out.fields(refusalFields(st.Refusal)...)
		out.basis(st.Basis)
	}
	if st.Plan != nil {
		out.space()
		out.fields(planFields(st.Plan, st.Basis)...)
		out.space()
		out.steps(st.Plan.Steps, presentIndex(st), false)
	}
	if st.Verdict != nil {
		out.space()
		out.verdict(st.Verdict, now)
	}
	out.conditions(st.Conditions, now)
	return out.String()
}

func strategyOf(p *v1alpha1.RolloutPolicy) string {
	if p.Spec.Strategy == "" {
		return string(v1alpha1.StrategyRolling)
	}
	return string(p.Spec.Strategy)
}

// presentIndex counts from 1; 0 is before the first step.
func presentIndex(st *v1alpha1.RolloutPolicyStatus) int {
	if st.Step == nil || st.Phase != moving && st.Phase != settled {
		return 0
	}
	return int(st.Step.Index)
}

func presentStep(st *v1alpha1.RolloutPolicyStatus) string {
	s := st.Step
	if s == nil {
		return ""
	}
	text := s.Name
	if s.Index > 0 && st.Plan != nil {
		text = fmt.Sprintf("%d of %d, %s", s.Index, len(st.Plan.Steps), s.Name)
	}
	text += fmt.Sprintf(": %d old and %d new replicas", s.Old, s.New)
	if s.MaxSurge+s.MaxUnavailable > 0 {
		text += fmt.Sprintf(" (maxSurge %d, maxUnavailable %d)", s.MaxSurge, s.MaxUnavailable)
	}
	return text
}

func presentTraffic(st *v1alpha1.RolloutPolicyStatus) string {
	if st.Traffic == nil {
		return ""
	}
	var parts []string
	if w := st.Traffic.WeightPercent; w != "" {
		parts = append(parts, percent(w)+" to the new version")
	}
	if st.Traffic.Message != "" {
		parts = append(parts, st.Traffic.Message)
	}
	return strings.Join(parts, "; ")
}

func (p *page) versions(st *v1alpha1.RolloutPolicyStatus) {
	type role struct {
		name string
		v    *v1alpha1.RolloutVersion
	}
	rows := [][]string{{"VERSION", "REVISION", "HASH", "READY", "NO GPU", "LOADING", "BROKEN", "IMAGE", "MODEL", "REASON"}}
	var images []map[string]string
	var roles []role
	for _, r := range []role{{"stable", st.Stable}, {"new", st.Update}} {
		if r.v != nil {
			roles, images = append(roles, r), append(images, r.v.Images)
		}
	}
	write := brief(images...)
	for _, r := range roles {
		v := r.v
		rows = append(rows, []string{
			r.name, revision(v.Revision), dash(v.Hash), fmt.Sprintf("%d/%d", v.ReadyReplicas, v.Replicas), some(v.NoGPU), some(v.Loading),
			some(v.Broken), dash(write(v.Images)), dash(v.Model), dash(v.Reason),
		})
	}
	if len(rows) > 1 {
		p.space()
		p.table(rows)
	}
}

func refusalFields(r *v1alpha1.RolloutRefusal) []field {
	return []field{one("Refused", r.Reason+": "+r.Message), items("Possible", r.Remedies)}
}

func (p *page) verdict(v *v1alpha1.RolloutVerdict, now time.Time) {
	text := dash(v.Result)
	if v.Reason != "" {
		text += " (" + v.Reason + ")"
	}
	if v.Looks > 0 {
		text += " after " + plural(v.Looks, "look")
	}
	if t := ago(v.At, now); t != "" {
		text += ", the last " + t
	}
	if v.Message != "" {
		text += ": " + v.Message
	}
	p.fields(one("Judge", text))
	rows := [][]string{{"METRIC", "RESULT", "OLD", "NEW", "RATIO", "MESSAGE"}}
	for _, m := range v.Metrics {
		message := m.Message
		if message == "" {
			message = m.Reason
		}
		rows = append(rows, []string{m.Name, dash(m.Result), dash(m.Old), dash(m.New), dash(m.Ratio), dash(message)})
	}
	p.table(rows)
}

func (p *page) conditions(list []metav1.Condition, now time.Time) {
	rows := [][]string{{"CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"}}
	for i := range list {
		c := &list[i]
		rows = append(rows, []string{c.Type, string(c.Status), c.Reason, dash(ago(&c.LastTransitionTime, now)), c.Message})
	}
	if len(rows) > 1 {
		p.space()
		p.table(rows)
	}
}

// List is a line for each policy.
func List(policies []v1alpha1.RolloutPolicy, now time.Time, width int, namespaces, wide bool) string {
	out := &page{width: width}
	header := []string{"NAME", "TARGET", "STRATEGY", "PHASE", "STEP", "OLD", "NEW", "TRAFFIC", "STATUS", "SINCE"}
	if namespaces {
		header = append([]string{"NAMESPACE"}, header...)
	}
	if wide {
		header = append(header, "REVISION", "MAKESPAN", "GPUS")
	}
	rows := [][]string{append(header, "MESSAGE")}
	for i := range policies {
		p := &policies[i]
		st := &p.Status
		since := ""
		for j := range st.Conditions {
			if c := &st.Conditions[j]; c.Type == v1alpha1.ConditionCompleted {
				since = ago(&c.LastTransitionTime, now)
			}
		}
		phase := dash(st.Phase)
		if st.Paused {
			phase += " (paused)"
		}
		row := []string{
			p.Name, p.Spec.TargetRef.Kind + "/" + p.Spec.TargetRef.Name, strategyOf(p), phase, stepOf(st), ready(st.Stable), ready(st.Update),
			trafficOf(st), state(p), dash(since),
		}
		if namespaces {
			row = append([]string{p.Namespace}, row...)
		}
		if wide {
			row = append(row, wideCells(st)...)
		}
		rows = append(rows, append(row, reason(p)))
	}
	out.table(rows)
	return out.String()
}

func wideCells(st *v1alpha1.RolloutPolicyStatus) []string {
	cells := []string{"-", "-", "-"}
	switch {
	case st.Update != nil:
		cells[0] = revision(st.Update.Revision)
	case st.Stable != nil:
		cells[0] = revision(st.Stable.Revision)
	}
	if st.Plan != nil {
		cells[1], cells[2] = span(st.Plan.Makespan.Duration), number(st.Plan.GPUs)
	}
	return cells
}

func ready(v *v1alpha1.RolloutVersion) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%d/%d", v.ReadyReplicas, v.Replicas)
}

func stepOf(st *v1alpha1.RolloutPolicyStatus) string {
	if st.Step == nil {
		return "-"
	}
	if st.Step.Index > 0 && st.Plan != nil {
		return fmt.Sprintf("%s (%d/%d)", st.Step.Name, st.Step.Index, len(st.Plan.Steps))
	}
	return st.Step.Name
}

func trafficOf(st *v1alpha1.RolloutPolicyStatus) string {
	if st.Traffic == nil {
		return "-"
	}
	return dash(percent(st.Traffic.WeightPercent))
}

// Line is a policy in one line, for where a screen cannot be redrawn: what it says changes when something has happened.
func Line(p *v1alpha1.RolloutPolicy) string {
	st := &p.Status
	var parts []string
	phase := dash(st.Phase)
	if st.Paused {
		phase += " (paused)"
	}
	parts = append(parts, phase)
	if s := stepOf(st); s != "-" {
		parts = append(parts, "step "+s)
	}
	if st.Stable != nil {
		parts = append(parts, "old "+ready(st.Stable)+waits(st.Stable))
	}
	if st.Update != nil {
		parts = append(parts, "new "+ready(st.Update)+waits(st.Update))
	}
	if w := trafficOf(st); w != "-" {
		parts = append(parts, "traffic "+w)
	}
	if v := st.Verdict; v != nil && v.Result != "" {
		parts = append(parts, "judge "+v.Result)
	}
	line := strings.Join(parts, ", ")
	if why := reason(p); why != "" {
		line += ": " + why
	}
	return clean(line)
}

// waits tells what pods that are not Ready wait for.
func waits(v *v1alpha1.RolloutVersion) string {
	var parts []string
	for _, w := range []struct {
		n    int32
		what string
	}{{v.NoGPU, "without GPU"}, {v.Loading, "loading"}, {v.Broken, "broken"}} {
		if w.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", w.n, w.what))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}
