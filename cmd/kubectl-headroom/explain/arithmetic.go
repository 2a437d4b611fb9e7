package explain

import (
	"fmt"
	"strings"

	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/scaler/hpa"
)

// proposalOfPods puts the arithmetic of a Pods metric into words.
func (c *composer) proposalOfPods(m *Metric, p *hpa.Proposal, target int64) *Proposal {
	n := p.Measured
	text := fmt.Sprintf("mean of %s %s / target %s = %s", count(n, "pod"), m.withUnit(p.Usage), m.withUnit(target), factor(p.Ratio))
	because := fmt.Sprintf("%s averages %s on %s%s", m.Name, m.withUnit(p.Usage), count(n, "pod"), c.against(m, target, p))
	ratio := p.Ratio
	if p.Cautious {
		ratio = p.CautiousRatio
		var counted []string
		if assumed(p) {
			n += p.Missing
			counted = append(counted, count(p.Missing, "missing pod")+" as "+m.withUnit(p.Assumed))
		}
		if p.Ratio > 1 && p.Unready > 0 {
			n += p.Unready
			counted = append(counted, count(p.Unready, "pending pod")+" as "+m.withUnit(0))
		}
		if len(counted) > 0 {
			with := strings.Join(counted, " and ")
			text += fmt.Sprintf("; with %s = %s", with, factor(ratio))
			because = fmt.Sprintf("%s averages %s on %s against a target of %s, and with %s %s",
				m.Name, m.withUnit(p.Usage), count(p.Measured, "pod"), m.withUnit(target), with, cautious(p))
		}
	}
	switch p.Verdict {
	case hpa.WithinTolerance:
		text += c.within(p.Replicas)
	case hpa.WouldReverse:
		text += fmt.Sprintf(", which would turn the direction round: it stays at %d", p.Replicas)
	default:
		text += fmt.Sprintf("; ⌈%s × %s⌉ = %d", number(ratio), count(n, "pod"), p.Replicas)
		because += fmt.Sprintf(" (⌈%s × %d⌉ = %d)", number(ratio), n, p.Replicas)
	}
	return &Proposal{
		Replicas: p.Replicas, Verdict: p.Verdict, Usage: query.Number(float64(p.Usage) / 1000), Ratio: query.Number(p.Ratio),
		Text: text, Because: because,
	}
}

// cautious says what counting pods without a value leads to.
func cautious(p *hpa.Proposal) string {
	switch p.Verdict {
	case hpa.WithinTolerance:
		return "that is within the tolerance"
	case hpa.WouldReverse:
		return "the direction would turn round"
	default:
		return "it is " + factor(p.CautiousRatio) + " of that"
	}
}

// proposalOfWhole is for a metric of which there is one number, the sum of n; nil where the HPA has no pods to count.
func (c *composer) proposalOfWhole(m *Metric, plain *hpa.Metric, usage int64, n int) *Proposal {
	t, target := &c.out.Target, plain.Target
	whole := m.withUnit(usage)
	is := "is " + whole
	if n > 1 {
		whole = fmt.Sprintf("sum of %d series %s", n, whole)
		is = fmt.Sprintf("sums up to %s over %d series", m.withUnit(usage), n)
	}
	var p hpa.Proposal
	var text, steps string
	if m.TargetType == "AverageValue" {
		p = hpa.ForAverageValue(plain, t.Created, usage, c.tol)
		text = fmt.Sprintf("%s / %s / target %s = %s", whole, count(int(t.Created), "replica"), m.withUnit(target), factor(p.Ratio))
		if t.Created == 0 {
			text = whole + ", and no replica yet"
		}
		if p.Verdict == hpa.Scaled {
			steps = fmt.Sprintf("⌈%s / %s⌉ = %d", m.withUnit(usage), m.withUnit(target), p.Replicas)
		}
	} else {
		ready := c.readyPods()
		p = hpa.ForValue(plain, t.Replicas, ready, usage, c.tol)
		text = fmt.Sprintf("%s / target %s = %s", whole, m.withUnit(target), factor(p.Ratio))
		switch {
		case p.Verdict != hpa.Scaled:
		case t.Replicas == 0:
			steps = fmt.Sprintf("⌈%s⌉ = %d, from zero by the ratio alone", number(p.Ratio), p.Replicas)
		case c.exists != nil && len(c.in.Pods) == 0:
			return nil
		default:
			steps = fmt.Sprintf("⌈%s × %s⌉ = %d", number(p.Ratio), count(ready, "ready pod"), p.Replicas)
		}
	}
	because := fmt.Sprintf("%s of %s %s%s", m.Name, m.Of, is, c.against(m, target, &p))
	if p.Verdict == hpa.WithinTolerance {
		text += c.within(p.Replicas)
	} else {
		text += "; " + steps
		because += " (" + steps + ")"
	}
	return &Proposal{
		Replicas: p.Replicas, Verdict: p.Verdict, Usage: query.Number(float64(usage) / 1000), Ratio: query.Number(p.Ratio),
		Text: text, Because: because,
	}
}

func (c *composer) within(replicas int32) string {
	return fmt.Sprintf(", within %s to %s: it stays at %d", exact(1-c.tol.Down), exact(1+c.tol.Up), replicas)
}

// against compares with the target, in words.
func (c *composer) against(m *Metric, target int64, p *hpa.Proposal) string {
	each := ""
	if m.TargetType == "AverageValue" && m.Of != "pods" {
		each = " a replica"
	}
	if p.Verdict == hpa.WithinTolerance {
		return fmt.Sprintf(", within the tolerance of its target %s%s", m.withUnit(target), each)
	}
	return fmt.Sprintf(" against a target of %s%s", m.withUnit(target), each)
}
