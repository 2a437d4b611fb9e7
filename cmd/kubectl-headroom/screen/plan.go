package screen

import (
	"fmt"
	"strings"

	"headroom.dev/headroom/api/v1alpha1"
)

// Planned is the answer of a dry run: a plan or a refusal, and what it rests on.
type Planned struct {
	Namespace string `json:"namespace"`
	Policy    string `json:"policy,omitempty"` // "" where the workload has none
	Target    string `json:"target"`           // Kind/name
	Strategy  string `json:"strategy"`
	// Versions that the update would lead from and to, where they are known.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`

	Basis   *v1alpha1.RolloutBasis   `json:"basis,omitempty"`
	Plan    *v1alpha1.RolloutPlan    `json:"plan,omitempty"`
	Refusal *v1alpha1.RolloutRefusal `json:"refusal,omitempty"`
	// Assumed says what was taken for want of something better.
	Assumed []string `json:"assumed,omitempty"`
}

// Text is the answer for people.
func (a *Planned) Text(width int) string {
	out := &page{width: width}
	change := ""
	if a.To != "" {
		change = "from " + dash(a.From) + " to " + a.To
	}
	head := []field{one("Target", targetOf(a.Target, a.Namespace, a.Policy)), one("Update", change)}
	if a.Refusal != nil {
		head = append(head, refusalFields(a.Refusal)...)
	}
	if a.Plan != nil {
		head = append(head, planFields(a.Plan, a.Basis)...)
	}
	out.fields(head...)
	if a.Plan != nil {
		out.space()
		out.steps(a.Plan.Steps, 0, true)
	}
	out.basis(a.Basis)
	if len(a.Assumed) > 0 {
		out.space()
		out.fields(items("Assumed", a.Assumed))
	}
	return out.String()
}

func targetOf(target, namespace, policy string) string {
	text := target + " in namespace " + namespace
	if policy != "" {
		text += ", RolloutPolicy " + policy
	}
	return text
}

func planFields(p *v1alpha1.RolloutPlan, basis *v1alpha1.RolloutBasis) []field {
	makespan := fmt.Sprintf("%s, %s; typically %s", p.Strategy, span(p.Makespan.Duration), span(p.Typical.Duration))
	least := plural(p.LeastReplicas, "replica")
	if basis != nil && basis.Replicas > 0 {
		least = fmt.Sprintf("%d of %s", p.LeastReplicas, plural(basis.Replicas, "replica"))
	}
	// Where demand or capacity is not known, a plan counts replicas, and its figures are no demand.
	if p.LeastCapacity != nil && p.LeastDemand != nil && (basis == nil || basis.Missing == "") {
		least += fmt.Sprintf(": capacity %s against a demand of %s", amount(p.LeastCapacity), amount(p.LeastDemand))
	}
	downtime := ""
	if p.Downtime != nil && p.Downtime.Duration > 0 {
		downtime = span(p.Downtime.Duration)
	}
	return []field{
		one("Plan", makespan), one("Least", least), one("Downtime", downtime), one("GPUs", gpusOf(p, "")), items("Notes", p.Notes),
	}
}

// gpusOf says how many GPUs there are at the most, where they come from and what they cost.
func gpusOf(p *v1alpha1.RolloutPlan, unit string) string {
	text := fmt.Sprintf("%d%s at the most", p.GPUs, unit)
	switch {
	case p.ExtraGPUs > 0:
		text += fmt.Sprintf(", %d beyond the service's own", p.ExtraGPUs)
	case p.GPUs > 0:
		text += ", none beyond the service's own"
	}
	if p.GPUHours != nil && !p.GPUHours.IsZero() {
		text += ", " + amount(p.GPUHours) + " GPU-hours"
	}
	var uses []string
	for _, u := range p.Uses {
		uses = append(uses, fmt.Sprintf("%s %s", u.Source, plural(u.Replicas, "replica")))
	}
	if len(uses) > 0 {
		text += "; from " + strings.Join(uses, ", ")
	}
	return text
}

// steps is a plan's table. The present step counts from 1.
func (p *page) steps(steps []v1alpha1.RolloutStep, present int, whole bool) {
	header := []string{"", "STEP", "OLD", "NEW", "TRAFFIC", "STARTS", "SETTLED", "LEAST", "RETURN", "GATES"}
	if whole {
		header = []string{"", "STEP", "SURGE", "UNAVAIL", "OLD", "NEW", "TRAFFIC", "STARTS", "SETTLED", "LEAST", "RETURN", "GATES"}
	}
	rows := [][]string{header}
	for i := range steps {
		s := &steps[i]
		mark := ""
		switch {
		case i+1 < present:
			mark = "✔"
		case i+1 == present:
			mark = "▶"
		}
		row := []string{mark, s.Name}
		if whole {
			row = append(row, number(s.MaxSurge), number(s.MaxUnavailable))
		}
		rows = append(rows, append(row,
			number(s.Old), number(s.New), dash(share(s)), dash(spanOf(s.Starts)), dash(spanOf(s.Settles)), number(s.Least), returnOf(s),
			dash(gatesOf(s)),
		))
	}
	p.table(rows)
}

func share(s *v1alpha1.RolloutStep) string {
	if s.Match != "" {
		return s.Match
	}
	return percent(s.WeightPercent)
}

func returnOf(s *v1alpha1.RolloutStep) string {
	switch {
	case s.Return == nil:
		return "-"
	case s.Return.Duration == 0:
		return "instant"
	}
	return span(s.Return.Duration)
}

func gatesOf(s *v1alpha1.RolloutStep) string {
	var list []string
	if s.Judged {
		list = append(list, "judge")
	}
	return strings.Join(append(list, s.Gates...), ", ")
}

// basis says what a plan, or a refusal, rests on.
func (p *page) basis(b *v1alpha1.RolloutBasis) {
	if b == nil {
		return
	}
	p.space()
	demand := ""
	switch {
	case b.Missing != "":
		demand = "not known: " + b.Missing
	case b.Demand != nil:
		demand = amount(b.Demand) + " now"
		if b.Peak != nil {
			demand += ", " + amount(b.Peak) + " at its peak within the update"
		}
	}
	replicas := number(b.Replicas)
	if b.GPUs > 0 {
		replicas += fmt.Sprintf(" of %s each", plural(b.GPUs, "GPU"))
	}
	if b.Capacity != nil {
		replicas += ", each serves " + amount(b.Capacity)
	}
	p.fields(
		one("Demand", demand), one("Replicas", replicas),
		one("Times", fmt.Sprintf("start-up %s, drain %s (90th percentile)", span(b.Startup.Duration), span(b.Drain.Duration))),
	)
	rows := [][]string{{"SOURCE", "REPLICAS", "MESSAGE"}}
	for _, s := range b.Sources {
		name := s.Kind
		if s.Name != "" {
			name += " (" + s.Name + ")"
		}
		replicas, message := number(s.Replicas), s.Message
		switch s.Kind {
		case "Spare":
			replicas, message = "-", orElse(message, "what demand and the reserve do not need")
		case "Degrade":
			replicas, message = "-", orElse(message, "the reserve")
		}
		rows = append(rows, []string{name, replicas, dash(message)})
	}
	p.table(rows)
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
