package kube

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/route"
)

// kindName is the policies' own kind.
const kindName = "RolloutPolicy"

// Reasons of the condition Ready, besides v1alpha1's.
const (
	ReasonInForce        = "InForce"        // True
	ReasonRouterNotFound = "RouterNotFound" // False: spec.traffic names what does not exist; no update starts
	ReasonRouterFailed   = "RouterFailed"   // False: the router cannot do what is asked
	ReasonRouterConflict = "RouterConflict" // False: somebody else has written what the router's object is set to
	ReasonReleasing      = "Releasing"      // False: the policy is being deleted
)

// Problem is what is wrong with a policy.
type Problem struct { //nolint:errname // a condition, which is an error only on its way
	Reason string // of the condition Ready
	Field  string // spec.…
	Err    error
}

func (p *Problem) Error() string { return p.Field + ": " + p.Err.Error() }

func (p *Problem) Unwrap() error { return p.Err }

// invalid is a Problem with a field of the spec.
func invalid(field string, err error) *Problem {
	return &Problem{Reason: v1alpha1.ReasonInvalid, Field: field, Err: err}
}

// PolicyOf returns the spec as rollout takes it, with the time zones of windows as they are at a moment. The error is a Problem.
func PolicyOf(spec *v1alpha1.RolloutPolicySpec, now time.Time) (rollout.Policy, error) {
	p := rollout.Policy{
		Strategy: rollout.Strategy(spec.Strategy), Reserve: int(spec.Reserve), Downtime: spec.AcceptDowntime,
		InstantReturn: spec.InstantReturn, MaxSurge: whole(spec.MaxSurge), MaxUnavailable: whole(spec.MaxUnavailable),
		Within: duration(spec.Within), Hold: duration(spec.Analysis.Expected),
		OnForeign: rollout.Reaction(spec.OnForeignWrite), OnNewTemplate: rollout.TemplateChange(spec.OnNewTemplate),
		Deadlines: rollout.Deadlines{
			NoGPU: duration(spec.Deadlines.NoGPU), Loading: duration(spec.Deadlines.Loading),
			Broken: duration(spec.Deadlines.Broken), Inconclusive: duration(spec.Deadlines.Inconclusive),
		},
	}
	if err := contradictions(spec); err != nil {
		return p, err
	}
	names := namer{}
	var err error
	if b := spec.BlueGreen; b != nil {
		p.KeepOld, p.NoShrink, p.Unjudged = duration(b.KeepOld), b.NoShrink, b.Unjudged
		if p.Gates, err = gatesOf(b.Gates, "spec.blueGreen", names, now); err != nil {
			return p, err
		}
	}
	if spec.Canary != nil {
		for i := range spec.Canary.Steps {
			step, err := stepOf(&spec.Canary.Steps[i], i, names, now)
			if err != nil {
				return p, err
			}
			p.Steps = append(p.Steps, step)
		}
	}
	if err := p.Validate(); err != nil {
		return p, blame(err)
	}
	return p, nil
}

// contradictions are those that the CRD's own rules keep out, for specs that came another way, and those that they cannot see.
func contradictions(spec *v1alpha1.RolloutPolicySpec) error {
	strategy := rollout.Strategy(spec.Strategy)
	switch t := spec.Traffic; {
	case spec.Canary != nil && strategy != rollout.Canary:
		return invalid("spec.canary", errors.New("belongs to the strategy Canary"))
	case spec.BlueGreen != nil && strategy != rollout.BlueGreen:
		return invalid("spec.blueGreen", errors.New("belongs to the strategy BlueGreen"))
	case strategy == rollout.Recreate && !spec.AcceptDowntime:
		return invalid("spec.acceptDowntime", errors.New("must be true, since Recreate takes the service away"))
	case t != nil && t.Switch && strategy != rollout.BlueGreen:
		return invalid("spec.traffic.switch", fmt.Errorf("sends all requests to one version, which belongs to the strategy BlueGreen, not to %s", orRolling(strategy)))
	}
	for i := range stepsOf(spec) {
		s := &spec.Canary.Steps[i]
		if spec.Traffic == nil && (s.WeightPercent != nil || s.Match != nil) {
			return invalid(fmt.Sprintf("spec.canary.steps[%d]", i), errors.New("splits requests, and spec.traffic is absent"))
		}
	}
	return nil
}

func orRolling(s rollout.Strategy) rollout.Strategy {
	if s == "" {
		return rollout.Rolling
	}
	return s
}

func stepsOf(spec *v1alpha1.RolloutPolicySpec) []v1alpha1.CanaryStep {
	if spec.Canary == nil {
		return nil
	}
	return spec.Canary.Steps
}

func stepOf(s *v1alpha1.CanaryStep, i int, names namer, now time.Time) (rollout.CanaryStep, error) {
	out := rollout.CanaryStep{Unjudged: s.Unjudged}
	path := fmt.Sprintf("spec.canary.steps[%d]", i)
	if s.Percent != nil {
		out.Percent = float64(*s.Percent)
	}
	if s.Replicas != nil {
		out.Replicas = int(*s.Replicas)
	}
	if s.WeightPercent != nil {
		out.Weight = float64(*s.WeightPercent)
	}
	if m := s.Match; m != nil {
		match := route.Match{Header: m.Header, Cookie: m.Cookie, Value: m.Value}
		if err := (route.Split{Stable: "a", Canary: "b", Matches: []route.Match{match}}).Validate(); err != nil {
			return out, invalid(path+".match", err)
		}
		out.Match = match.String()
	}
	var err error
	out.Gates, err = gatesOf(s.Gates, path, names, now)
	return out, err
}

// matchOf is the opposite of route.Match.String.
func matchOf(text string) ([]route.Match, error) {
	if text == "" {
		return nil, nil
	}
	if rest, ok := strings.CutPrefix(text, "cookie "); ok {
		if name, value, ok := strings.Cut(rest, "="); ok {
			return []route.Match{{Cookie: name, Value: value}}, nil
		}
	}
	if rest, ok := strings.CutPrefix(text, "header "); ok {
		if name, value, ok := strings.Cut(rest, ": "); ok {
			return []route.Match{{Header: name, Value: value}}, nil
		}
	}
	return nil, fmt.Errorf("cannot read the match %q", text)
}

// blame gives an error of rollout.Policy its field in the spec. Its texts begin with their field, as rollout calls it.
func blame(err error) *Problem {
	text := err.Error()
	for _, f := range []struct{ theirs, ours string }{
		{"steps[", "spec.canary.steps["},
		{"steps ", "spec.canary.steps"},
		{"gates[", "spec.blueGreen.gates["},
		{"reserve ", "spec.reserve"},
		{"keepOld ", "spec"},
		{"deadlines ", "spec.deadlines"},
		{"maxSurge ", "spec.maxSurge"},
		{"onForeign ", "spec.onForeignWrite"},
		{"onNewTemplate ", "spec.onNewTemplate"},
		{"the strategy ", "spec.strategy"},
	} {
		rest, ok := strings.CutPrefix(text, f.theirs)
		if !ok {
			continue
		}
		if !strings.HasSuffix(f.theirs, "[") {
			return invalid(f.ours, err)
		}
		// The path goes on until the first space, the sentence follows.
		path, sentence, _ := strings.Cut(rest, " ")
		path = strings.ReplaceAll(path, ".weight", ".weightPercent")
		return invalid(f.ours+path, errors.New(sentence))
	}
	return invalid("spec", err)
}

// namer gives gates names that differ.
type namer map[string]int

func (n namer) of(g *v1alpha1.RolloutGate) string {
	name := g.Name
	if name == "" {
		switch {
		case g.Manual:
			name = "manual"
		case g.Pause != nil:
			name = "pause"
		case g.Webhook != nil:
			name = "webhook"
		default:
			name = "windows"
		}
	}
	n[name]++
	if k := n[name]; k > 1 {
		name += "-" + strconv.Itoa(k)
		n[name]++
	}
	return name
}

func gatesOf(list []v1alpha1.RolloutGate, path string, names namer, now time.Time) ([]rollout.Gate, error) {
	var out []rollout.Gate
	for i := range list {
		g := &list[i]
		gate := rollout.Gate{Name: names.of(g), Manual: g.Manual, Pause: duration(g.Pause), Webhook: g.Webhook != nil}
		for j := range g.Windows {
			w, err := windowOf(&g.Windows[j], fmt.Sprintf("%s.gates[%d].windows[%d]", path, i, j), now)
			if err != nil {
				return nil, err
			}
			gate.Windows = append(gate.Windows, w)
		}
		out = append(out, gate)
	}
	return out, nil
}

// webhooks are those of a spec, by the names that PolicyOf gives their gates.
func webhooks(spec *v1alpha1.RolloutPolicySpec) map[string]v1alpha1.GateWebhook {
	out, names := map[string]v1alpha1.GateWebhook{}, namer{}
	add := func(list []v1alpha1.RolloutGate) {
		for i := range list {
			if name := names.of(&list[i]); list[i].Webhook != nil {
				out[name] = *list[i].Webhook
			}
		}
	}
	if spec.BlueGreen != nil {
		add(spec.BlueGreen.Gates)
	}
	for i := range stepsOf(spec) {
		add(spec.Canary.Steps[i].Gates)
	}
	return out
}

func windowOf(w *v1alpha1.TimeWindow, path string, now time.Time) (rollout.Window, error) {
	var out rollout.Window
	zone, err := time.LoadLocation(w.TimeZone) // "" is UTC
	if err != nil || w.TimeZone == "Local" {
		return out, invalid(path+".timeZone", fmt.Errorf("there is no time zone %q: use a name such as Europe/Berlin", w.TimeZone))
	}
	_, offset := now.In(zone).Zone()
	out.Offset = time.Duration(offset) * time.Second
	if out.From, err = timeOfDay(w.From); err != nil {
		return out, invalid(path+".from", err)
	}
	if out.To, err = timeOfDay(w.To); err != nil {
		return out, invalid(path+".to", err)
	}
	for _, name := range w.Days {
		day, ok := weekday(name)
		if !ok {
			return out, invalid(path+".days", fmt.Errorf("there is no day %q: use Mon, Tue, Wed, Thu, Fri, Sat and Sun", name))
		}
		out.Days = append(out.Days, day)
	}
	return out, nil
}

func timeOfDay(text string) (time.Duration, error) {
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%q is no time of the day: use one such as 09:00", text)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

func weekday(name string) (time.Weekday, bool) {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if d.String()[:3] == name {
			return d, true
		}
	}
	return 0, false
}

func duration(d *metav1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}

func whole(n *int32) *int {
	if n == nil {
		return nil
	}
	return new(int(*n))
}
