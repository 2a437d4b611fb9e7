package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"headroom.dev/headroom/scaler/hpa"
)

// Behavior is how fast the HPA may go, with its defaults written out.
type Behavior struct {
	Set  bool      `json:"set"` // spec.behavior is there; without it the controller has limits of its own
	Up   Direction `json:"scaleUp"`
	Down Direction `json:"scaleDown"`
}

// Direction is one half of Behavior.
type Direction struct {
	Tolerance float64  `json:"tolerance"`
	Window    float64  `json:"stabilizationWindowSeconds"`
	Select    string   `json:"selectPolicy"`
	Policies  []Policy `json:"policies,omitempty"`
	Text      string   `json:"text"`

	rules  hpa.Rules
	window time.Duration
}

// Policy is how far replicas may go within a period.
type Policy struct {
	Type   string `json:"type"` // Pods or Percent
	Value  int32  `json:"value"`
	Period int32  `json:"periodSeconds"`
}

func behaviorOf(a *hpa.Autoscaler, cfg *hpa.Config) Behavior {
	t := a.Tolerances(cfg)
	out := Behavior{Up: Direction{Tolerance: t.Up}, Down: Direction{Tolerance: t.Down, window: cfg.DownscaleStabilization}}
	if a.Behavior == nil {
		// Scaling up has the controller's constant in place of policies, scaling down has the window alone.
		out.Up.rules.Select, out.Down.rules.Select = hpa.MaxChange, hpa.MaxChange
		out.Up.describe("", cfg)
		out.Down.describe("", cfg)
		out.Up.Text = "at most to twice as many, or 4, at each look; no stabilization"
		return out
	}
	out.Set = true
	out.Up.rules, out.Down.rules = a.Behavior.Up, a.Behavior.Down
	for _, d := range []*Direction{&out.Up, &out.Down} {
		if d.rules.Window != nil {
			d.window = *d.rules.Window
		}
	}
	out.Up.describe("+", cfg)
	out.Down.describe("-", cfg)
	return out
}

func (d *Direction) describe(sign string, cfg *hpa.Config) {
	d.Window, d.Select = d.window.Seconds(), string(d.rules.Select)
	for _, p := range d.rules.Policies {
		kind := autoscalingv2.PodsScalingPolicy
		if p.Percent {
			kind = autoscalingv2.PercentScalingPolicy
		}
		d.Policies = append(d.Policies, Policy{Type: string(kind), Value: p.Value, Period: int32(p.Period.Seconds())})
	}
	stabilization := "no stabilization"
	if d.Window > 0 {
		extreme := "lowest"
		if sign != "+" {
			extreme = "highest"
		}
		stabilization = fmt.Sprintf("stabilized over %s (the %s recommendation in it counts)", short(d.window), extreme)
	}
	switch {
	case d.rules.Select == hpa.Disabled:
		d.Text = "disabled"
	case len(d.Policies) == 0:
		d.Text = stabilization
	default:
		d.Text = d.limit(sign) + "; " + stabilization
	}
	if d.Tolerance != cfg.Tolerance {
		d.Text += "; tolerance " + exact(d.Tolerance)
	}
}

// limit says what the policies allow: "at most max(+4 pods in 15s, +100% in 15s)".
func (d *Direction) limit(sign string) string {
	var list []string
	for _, p := range d.rules.Policies {
		unit := " pods"
		if p.Percent {
			unit = "%"
		} else if p.Value == 1 {
			unit = " pod"
		}
		list = append(list, fmt.Sprintf("%s%d%s in %s", sign, p.Value, unit, short(p.Period)))
	}
	slices.Sort(list)
	if len(list) == 1 {
		return "at most " + list[0]
	}
	way := "max"
	if d.rules.Select == hpa.MinChange {
		way = "min"
	}
	return "at most " + way + "(" + strings.Join(list, ", ") + ")"
}
