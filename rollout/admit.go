package rollout

import (
	"fmt"
	"sort"
	"time"
)

// Claim is a rollout that wants GPUs beyond its service's own.
type Claim struct {
	Name     string    `json:"name"`
	Priority int       `json:"priority,omitempty"` // higher first
	Since    time.Time `json:"since,omitzero"`     // when it began to wait
	// Running claims keep what they hold: nothing is taken from a rollout that is under way.
	Running bool `json:"running,omitempty"`
	// Held are GPUs beyond its service's own that its pods hold already, though it does not run: it keeps those.
	Held int `json:"held,omitempty"`
	// Plans are in order of preference, the one under way alone where the claim is running.
	Plans []Schedule `json:"plans"`
}

// Admission is the answer to a claim.
type Admission struct {
	Name     string `json:"name"`
	Admitted bool   `json:"admitted"`
	// Plan is the index of the plan that is admitted, GPUs what it takes from the budget.
	Plan   int    `json:"plan"`
	GPUs   int    `json:"gpus"`
	Reason string `json:"reason"`
}

// Admit shares a budget of GPUs among rollouts: first those that run, then by priority, time of waiting and name. Each gets its
// first plan that fits into what is left. What an earlier claim waits for is kept for it, so that small ones cannot starve a
// large one; only plans that need no GPUs pass it. A claim that exceeds the whole budget is refused and keeps nothing.
func Admit(budget int, claims []Claim) []Admission {
	order := make([]int, len(claims))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return claims[order[i]].before(&claims[order[j]]) })
	out := make([]Admission, 0, len(claims))
	left, blocker := budget, ""
	for _, c := range claims {
		if !c.Running {
			left -= c.Held
		}
	}
	for _, i := range order {
		held := 0
		if !claims[i].Running {
			held = claims[i].Held
		}
		a := claims[i].admit(budget, left+held, blocker)
		switch {
		case a.Admitted:
			left -= max(0, a.GPUs-held)
		case blocker == "" && claims[i].least() <= budget:
			blocker = claims[i].Name
		}
		out = append(out, a)
	}
	return out
}

func (c *Claim) before(d *Claim) bool {
	switch {
	case c.Running != d.Running:
		return c.Running
	case c.Priority != d.Priority:
		return c.Priority > d.Priority
	case !c.Since.Equal(d.Since):
		return c.Since.Before(d.Since)
	default:
		return c.Name < d.Name
	}
}

// least is what the cheapest plan needs.
func (c *Claim) least() int {
	n := 0
	for i, p := range c.Plans {
		if i == 0 || p.Extra < n {
			n = p.Extra
		}
	}
	return n
}

func (c *Claim) admit(budget, left int, blocker string) Admission {
	a := Admission{Name: c.Name}
	if len(c.Plans) == 0 {
		a.Reason = "it has no plan"
		return a
	}
	for i, p := range c.Plans {
		fits := p.Extra <= left && blocker == "" || p.Extra == 0
		if !fits && !c.Running {
			continue
		}
		a.Admitted, a.Plan, a.GPUs = true, i, p.Extra
		switch {
		case c.Running:
			a.Reason = "it is under way"
		case p.Extra == 0:
			a.Reason = "it needs no GPUs beyond its own"
		default:
			a.Reason = fmt.Sprintf("it takes %d of %s left", p.Extra, plural(left, "GPU"))
		}
		if i > 0 {
			a.Reason += fmt.Sprintf("; its plan %d does, faster ones do not fit", i+1)
		}
		return a
	}
	switch need := c.least(); {
	case need > budget:
		a.Reason = fmt.Sprintf("it needs %s, more than the budget of %d", plural(need, "GPU"), budget)
	case blocker != "" && need <= left:
		a.Reason = fmt.Sprintf("%s are kept for %s, which waits for more", plural(left, "GPU"), blocker)
	default:
		a.Reason = fmt.Sprintf("it needs %s, and %d of %d are left", plural(need, "GPU"), max(0, left), budget)
	}
	return a
}
