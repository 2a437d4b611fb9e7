package hpa

import (
	"fmt"
	"strings"
)

// Text says what a decision is and why, in one line. obs is what it was made of.
func (d *Decision) Text(a *Autoscaler, obs *Observation) string {
	var b strings.Builder
	if d.Rescale {
		fmt.Fprintf(&b, "from %d to %d: ", obs.Replicas, d.Replicas)
	} else {
		fmt.Fprintf(&b, "stays at %d: ", obs.Replicas)
	}
	switch {
	case d.Able == FailedGetScale:
		fmt.Fprintf(&b, "the scale cannot be read: %v", obs.ScaleErr)
	case d.Active == ScalingDisabled:
		b.WriteString("at 0 replicas, to which it did not scale itself, it does nothing")
	case d.Active == InvalidSelector:
		b.WriteString("the scale has no valid selector")
	case d.Active == AmbiguousSelector:
		b.WriteString("another HPA selects the same pods")
	case d.Cause == AboveMax:
		fmt.Fprintf(&b, "it is above maxReplicas %d, whatever the metrics say", a.Max)
	case d.Cause == BelowMin && d.Metric < 0:
		fmt.Fprintf(&b, "it is below minReplicas %d, whatever the metrics say", a.least())
	case d.Metric < 0:
		d.failure(&b, a)
	default:
		d.steps(&b, a, obs)
	}
	return b.String()
}

// failure says which metrics leave the HPA without a wish.
func (d *Decision) failure(b *strings.Builder, a *Autoscaler) {
	if d.First < 0 {
		b.WriteString("it has no metric")
		return
	}
	m := &a.Metrics[d.First]
	if d.Failed == len(a.Metrics) {
		b.WriteString("no metric has a value; ")
	} else {
		fmt.Fprintf(b, "%d of %d metrics have no value, which keeps it from scaling down; ", d.Failed, len(a.Metrics))
	}
	fmt.Fprintf(b, "%s %s: %v", m.Source, m.Name, d.Proposals[d.First].Err)
}

// steps says what came of the highest proposal.
func (d *Decision) steps(b *strings.Builder, a *Autoscaler, obs *Observation) {
	m, p := &a.Metrics[d.Metric], &d.Proposals[d.Metric]
	fmt.Fprintf(b, "%s %s asks for %d (", m.Source, m.Name, p.Replicas)
	switch {
	case p.Cautious:
		fmt.Fprintf(b, "%.4g of its target, and %.4g with %d missing and %d unready pods counted in: %s",
			p.Ratio, p.CautiousRatio, p.Missing, p.Unready, p.Verdict)
	case obs.Replicas == 0:
		b.WriteString("there is no replica yet")
	default:
		fmt.Fprintf(b, "%.4g of its target: %s", p.Ratio, p.Verdict)
	}
	b.WriteString(")")
	if d.Failed > 0 {
		fmt.Fprintf(b, "; %d of %d metrics have no value", d.Failed, len(a.Metrics))
	}
	if d.Stabilized != d.Wanted {
		fmt.Fprintf(b, "; %s: earlier recommendations make that %d", d.Able, d.Stabilized)
	}
	if d.Limiting() {
		fmt.Fprintf(b, "; %s makes that %d", d.Limited, d.Replicas)
	}
	if d.Cause == BelowMin {
		fmt.Fprintf(b, "; minReplicas was raised to %d", d.Replicas)
	}
}
