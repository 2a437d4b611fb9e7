package screen

import (
	"fmt"
	"strings"

	"headroom.dev/headroom/api/v1alpha1"
)

// Advice says which strategy suits a service now.
type Advice struct {
	Namespace string `json:"namespace"`
	Policy    string `json:"policy,omitempty"`
	Target    string `json:"target"`
	// Change is how much the update touches, ChangeFrom where that is known from.
	Change     string `json:"change"`
	ChangeFrom string `json:"changeFrom"`
	Risky      bool   `json:"risky,omitempty"`
	Downtime   string `json:"downtime,omitempty"`
	// Judge says what the judge would see of a canary, and when.
	Judge   string                 `json:"judge"`
	Options []AdviceOption         `json:"options"` // the best first
	Basis   *v1alpha1.RolloutBasis `json:"basis,omitempty"`
	Assumed []string               `json:"assumed,omitempty"`
}

// AdviceOption is a strategy with what it would take.
type AdviceOption struct {
	Strategy string                   `json:"strategy"`
	Why      []string                 `json:"why"`
	Plan     *v1alpha1.RolloutPlan    `json:"plan,omitempty"`
	Refusal  *v1alpha1.RolloutRefusal `json:"refusal,omitempty"`
}

// Text is the advice for people.
func (a *Advice) Text(width int) string {
	out := &page{width: width}
	change := a.Change + ", " + a.ChangeFrom
	if a.Risky {
		change += "; risky"
	}
	out.fields(
		one("Target", targetOf(a.Target, a.Namespace, a.Policy)), one("Change", change), one("Tolerated downtime", a.Downtime), one("Judge", a.Judge),
	)
	var rows [][]string
	for i := range a.Options {
		o := &a.Options[i]
		rows = append(rows, []string{"", ""}, []string{fmt.Sprintf("%d. %s", i+1, o.Strategy), o.plan(a.Basis)})
		for _, why := range o.Why {
			rows = append(rows, []string{"", "- " + clean(why)})
		}
	}
	out.columns(rows)
	out.basis(a.Basis)
	if len(a.Assumed) > 0 {
		out.space()
		out.fields(items("Assumed", a.Assumed))
	}
	return out.String()
}

// plan is one line.
func (o *AdviceOption) plan(basis *v1alpha1.RolloutBasis) string {
	switch {
	case o.Refusal != nil:
		return clean("refused (" + o.Refusal.Reason + ")")
	case o.Plan == nil:
		return "-"
	}
	p := o.Plan
	parts := []string{span(p.Makespan.Duration)}
	if p.Downtime != nil && p.Downtime.Duration > 0 {
		parts = append(parts, span(p.Downtime.Duration)+" without service")
	} else {
		least := "at least " + plural(p.LeastReplicas, "replica")
		if basis != nil && basis.Replicas > 0 {
			least = fmt.Sprintf("at least %d of %s", p.LeastReplicas, plural(basis.Replicas, "replica"))
		}
		parts = append(parts, least)
	}
	parts = append(parts, gpusOf(p, " GPUs"))
	return strings.Join(parts, ", ")
}
