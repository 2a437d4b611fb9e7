package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"headroom.dev/headroom/scaler/hpa"
)

// Verdict is what comes of it all.
type Verdict struct {
	Current int32  `json:"currentReplicas"`          // of the scale's spec
	Wanted  *int32 `json:"wantedReplicas,omitempty"` // the largest proposal; nil where there is none
	Metric  string `json:"metric,omitempty"`         // that made it
	// Allowed is what limits, policies and the HPA's conditions leave of it now.
	Allowed  *int32 `json:"allowedReplicas,omitempty"`
	Because  string `json:"because"`
	HeldBack []Hold `json:"heldBack,omitempty"`
	Sentence string `json:"sentence"`
}

// Hold is one thing that keeps the HPA from what it wants.
type Hold struct {
	By  string `json:"by"` // a field of the HPA's spec, or what else
	Why string `json:"why"`
	// Changed says that the policies allow less or more than they state, for replicas have changed within their periods.
	Changed bool `json:"recentlyChanged,omitempty"`
}

func (c *composer) verdict() {
	v := &c.out.Verdict
	v.Current = c.out.Target.Replicas
	switch {
	case v.Current == 0 && !c.scalesFromZero():
		v.Because = "its target has 0 replicas, which turns an HPA off"
		v.Sentence = "does nothing: " + v.Because
		return
	case v.Current > c.out.Max:
		c.goTo(c.out.Max, "it has more than maxReplicas")
		return
	case v.Current != 0 && v.Current < c.out.Min:
		c.goTo(c.out.Min, "it has fewer than minReplicas")
		return
	}
	best, failing, unread := c.compare()
	if best == nil {
		v.Because = "no metric has a value"
		if len(failing) == 0 {
			v.Because = "no metric could be read"
		}
		v.Sentence = fmt.Sprintf("stays at %d because %s: %s", v.Current, v.Because, strings.Join(c.reasons(), "; "))
		return
	}
	want := best.Proposal.Replicas
	v.Wanted, v.Metric, v.Because = &want, best.Name, best.Proposal.Because
	c.limits(want, failing)
	c.sentence(best.Proposal.Approximate, failing, unread)
}

func (c *composer) scalesFromZero() bool {
	if c.condition(autoscalingv2.ScaledToZero).Status != "True" {
		return false
	}
	for _, m := range c.out.Metrics {
		if m.Type == string(autoscalingv2.ObjectMetricSourceType) || m.Type == string(autoscalingv2.ExternalMetricSourceType) {
			return true
		}
	}
	return c.out.Min != 0
}

// goTo is for what the controller does without looking at metrics.
func (c *composer) goTo(n int32, why string) {
	v := &c.out.Verdict
	v.Wanted, v.Allowed, v.Because = &n, &n, why
	v.Sentence = fmt.Sprintf("goes from %d to %d because %s, whatever its metrics say", v.Current, n, why)
}

// compare returns the metric with the largest proposal, the first of several, and the names of those without one.
func (c *composer) compare() (best *Metric, failing, unread []string) {
	for i := range c.out.Metrics {
		m := &c.out.Metrics[i]
		switch {
		case m.Proposal == nil && m.Error != "":
			failing = append(failing, m.Name)
		case m.Proposal == nil:
			unread = append(unread, m.Name)
		case best == nil || m.Proposal.Replicas > best.Proposal.Replicas:
			best = m
		}
	}
	return best, failing, unread
}

func (c *composer) reasons() []string {
	var list []string
	for i := range c.out.Metrics {
		m := &c.out.Metrics[i]
		why := m.Error
		if why == "" {
			why = m.Unread
		}
		list = append(list, m.Name+": "+why)
	}
	return list
}

func (c *composer) hold(by, why string) {
	c.out.Verdict.HeldBack = append(c.out.Verdict.HeldBack, Hold{By: by, Why: why})
}

// holdByPolicy is hold for a direction's policies.
func (c *composer) holdByPolicy(by, why string, d *Direction) {
	recently := c.recently(d)
	c.out.Verdict.HeldBack = append(c.out.Verdict.HeldBack, Hold{By: by, Why: why + recently, Changed: recently != ""})
}

// limits finds what holds the wish back, in the order in which the controller goes: failing metrics, stabilization, then
// the one limit that binds among maxReplicas or minReplicas and the policies.
func (c *composer) limits(want int32, failing []string) {
	v := &c.out.Verdict
	allowed := want
	v.Allowed = &allowed
	able := c.condition(autoscalingv2.AbleToScale)
	switch {
	case want > v.Current:
		allowed = c.limitUp(want, able)
	case want < v.Current:
		allowed = c.limitDown(want, able, failing)
	default:
		return
	}
	if able.Status == "False" {
		c.hold("AbleToScale", able.Reason+": "+able.Message)
		allowed = v.Current
	}
	if active := c.condition(autoscalingv2.ScalingActive); active.Status == "False" && active.Reason != "ScalingDisabled" && len(failing) == 0 {
		c.hold("its last look", "it failed ("+active.Reason+"), the next one may not")
	}
}

func (c *composer) limitUp(want int32, able Condition) int32 {
	v, up := &c.out.Verdict, &c.out.Behavior.Up
	stabilized := able.Reason == "ScaleUpStabilized"
	if stabilized {
		c.hold("behavior.scaleUp.stabilizationWindowSeconds", fmt.Sprintf("a lower recommendation of the last %s counts", short(up.window)))
	}
	limit, by := hpa.HighestWithoutBehavior(v.Current), "the controller's own limit"
	why := "twice as many, or 4, at each look"
	if c.out.Behavior.Set {
		limit, by, why = up.rules.Highest(v.Current, &hpa.Memory{}, c.in.Now), "behavior.scaleUp", up.limit("+")
		if up.rules.Select == hpa.Disabled {
			why = "selectPolicy: Disabled"
		}
	}
	switch {
	case want > c.out.Max && c.out.Max <= limit:
		c.hold("maxReplicas", fmt.Sprintf("at most %d", c.out.Max))
		limit = c.out.Max
	case want > limit:
		c.holdByPolicy(by, why, up)
	case c.condition(autoscalingv2.ScalingLimited).Reason == "ScaleUpLimit" && c.recently(up) != "":
		c.holdByPolicy(by, why, up)
	}
	if stabilized {
		return v.Current
	}
	return min(want, limit)
}

func (c *composer) limitDown(want int32, able Condition, failing []string) int32 {
	v, down := &c.out.Verdict, &c.out.Behavior.Down
	if len(failing) > 0 {
		c.hold("metrics without a value", "the HPA does not scale down while "+strings.Join(failing, " and ")+" may ask for more")
		return v.Current
	}
	stabilized := able.Reason == "ScaleDownStabilized"
	if stabilized {
		c.hold("behavior.scaleDown.stabilizationWindowSeconds",
			fmt.Sprintf("a higher recommendation of the last %s counts", short(down.window)))
	}
	limit, why := int32(0), ""
	if c.out.Behavior.Set {
		limit, why = down.rules.Lowest(v.Current, &hpa.Memory{}, c.in.Now), down.limit("-")
		if down.rules.Select == hpa.Disabled {
			why = "selectPolicy: Disabled"
		}
	}
	switch {
	case want < c.out.Min && c.out.Min >= limit:
		c.hold("minReplicas", fmt.Sprintf("at least %d", c.out.Min))
		limit = c.out.Min
	case want < limit:
		c.holdByPolicy("behavior.scaleDown", why, down)
	case c.condition(autoscalingv2.ScalingLimited).Reason == "ScaleDownLimit" && c.recently(down) != "":
		c.holdByPolicy("behavior.scaleDown", why, down)
	}
	if stabilized {
		return v.Current
	}
	return max(want, limit)
}

// recently says that replicas have changed within a policy's period, so that the policies allow less than they state.
func (c *composer) recently(d *Direction) string {
	last := c.out.Status.LastScale
	if last == nil {
		return ""
	}
	ago := c.in.Now.Sub(*last)
	if d.rules.Select == hpa.Disabled || ago >= d.rules.Longest() {
		return ""
	}
	return fmt.Sprintf(", and it changed %s ago, which counts", short(max(ago, time.Second)))
}

func (c *composer) sentence(approximate bool, failing, unread []string) {
	v := &c.out.Verdict
	about := ""
	if approximate {
		about = "about "
	}
	var b strings.Builder
	if *v.Wanted == v.Current {
		fmt.Fprintf(&b, "wants %s%d, as now, because %s", about, *v.Wanted, v.Because)
	} else {
		fmt.Fprintf(&b, "wants %s%d of now %d because %s", about, *v.Wanted, v.Current, v.Because)
		b.WriteString("; " + c.outcome())
	}
	if len(failing) > 0 && *v.Wanted >= v.Current {
		fmt.Fprintf(&b, "; %s: no value, which keeps the HPA from scaling down alone", strings.Join(failing, " and "))
	}
	if len(unread) > 0 {
		fmt.Fprintf(&b, "; %s could not be read and may ask for more", strings.Join(unread, " and "))
	}
	v.Sentence = b.String()
}

// outcome says what holds the wish back, and what comes of it.
func (c *composer) outcome() string {
	v := &c.out.Verdict
	window, extreme := c.out.Behavior.Up.window, "lowest"
	if *v.Wanted < v.Current {
		window, extreme = c.out.Behavior.Down.window, "highest"
	}
	stabilization := ""
	if window > 0 {
		stabilization = fmt.Sprintf(" once the %s recommendation of the last %s allows it", extreme, short(window))
	}
	if len(v.HeldBack) == 0 {
		if stabilization != "" {
			return fmt.Sprintf("nothing holds it back: the HPA goes to %d%s", *v.Allowed, stabilization)
		}
		return "nothing holds it back: the HPA acts at its next look"
	}
	var list []string
	for _, h := range v.HeldBack {
		list = append(list, fmt.Sprintf("%s (%s)", h.By, h.Why))
	}
	text := "held back by " + strings.Join(list, " and by ")
	switch {
	case slices.ContainsFunc(v.HeldBack, func(h Hold) bool { return h.Changed }):
		return text // by how much is the controller's to know
	case *v.Allowed == v.Current:
		return text + fmt.Sprintf(", so it stays at %d", v.Current)
	}
	return text + fmt.Sprintf(", so it goes to %d%s", *v.Allowed, stabilization)
}
