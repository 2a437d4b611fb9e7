package rollout

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Reaction is what to do when somebody else writes a field of the hold.
type Reaction string

// The reactions.
const (
	// Reassert writes the field again, up to mostReasserts times in a rollout, then goes back.
	Reassert Reaction = "Reassert"
	// Stop goes back to the old version at once.
	Stop Reaction = "Stop"
)

// TemplateChange is what to do with a third template in the middle of a rollout.
type TemplateChange string

// The answers to a third template.
const (
	// Restart drops the version that is being rolled out and begins with the newest.
	Restart TemplateChange = "Restart"
	// Queue finishes the rollout first.
	Queue TemplateChange = "Queue"
)

// Deadlines are for how long new pods may be in a state before the step has failed. Zero values mean the defaults.
type Deadlines struct {
	// NoGPU is for pods that no node can take, beyond the delay of the sources in use. Default 2 min.
	NoGPU time.Duration `json:"noGPU,omitempty"`
	// Loading is for pods that are bound and run, and are not Ready. Default three times StartUp.P90, at least 5 min.
	Loading time.Duration `json:"loading,omitempty"`
	// Broken is for containers that exit again and again. Default 1 min.
	Broken time.Duration `json:"broken,omitempty"`
	// Inconclusive is for how long a judge may lack data before the rollout goes back; 0: until a person decides.
	Inconclusive time.Duration `json:"inconclusive,omitempty"`
}

// Gate stands before the end of a step. Exactly one of its fields besides Name is set.
type Gate struct {
	Name string `json:"name,omitempty"`
	// Manual waits for a person to promote.
	Manual bool `json:"manual,omitempty"`
	// Pause waits for a time from when the step settled.
	Pause time.Duration `json:"pause,omitempty"`
	// Windows are when the step may end.
	Windows []Window `json:"windows,omitempty"`
	// Webhook waits for a result that the observation brings under the gate's name.
	Webhook bool `json:"webhook,omitempty"`
}

// Window is a time of the day, on some days of the week.
type Window struct {
	Days []time.Weekday `json:"days,omitempty"` // none: every day
	// From and To are since midnight; a window whose To is not after its From ends on the next day.
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
	// Offset is the zone's, east of UTC.
	Offset time.Duration `json:"offset,omitempty"`
}

// Open reports whether a moment lies in the window.
func (w Window) Open(now time.Time) bool {
	local := now.UTC().Add(w.Offset)
	midnight := local.Truncate(24 * time.Hour)
	if w.To > w.From {
		return w.on(local) && !local.Before(midnight.Add(w.From)) && local.Before(midnight.Add(w.To))
	}
	return w.on(local) && !local.Before(midnight.Add(w.From)) || w.on(local.AddDate(0, 0, -1)) && local.Before(midnight.Add(w.To))
}

func (w Window) on(t time.Time) bool {
	for _, d := range w.Days {
		if d == t.Weekday() {
			return true
		}
	}
	return len(w.Days) == 0
}

func (g Gate) validate() error {
	set := 0
	for _, is := range []bool{g.Manual, g.Pause != 0, len(g.Windows) > 0, g.Webhook} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return fmt.Errorf("must have exactly one of manual, pause, windows and webhook, not %d", set)
	case g.Pause < 0:
		return fmt.Errorf("pause is %s: it must not be negative", g.Pause)
	case g.Webhook && g.Name == "":
		return errors.New("is a webhook without a name")
	}
	for i, w := range g.Windows {
		if w.From < 0 || w.From >= 24*time.Hour || w.To < 0 || w.To > 24*time.Hour {
			return fmt.Errorf("windows[%d] is from %s to %s: both must lie within a day", i, w.From, w.To)
		}
	}
	return nil
}

func (r Request) withDefaults() Request {
	if r.Service.Kind == "" {
		r.Service.Kind = Deployment
	}
	r.Policy = r.Policy.WithDefaults(r.Service)
	return r
}

// WithDefaults returns the policy with what is unset as documented.
func (p Policy) WithDefaults(s Service) Policy {
	if p.Strategy == "" {
		p.Strategy = Rolling
	}
	if p.Hold == 0 {
		p.Hold = 5 * time.Minute
	}
	if p.Strategy == Canary && len(p.Steps) == 0 {
		p.Steps = []CanaryStep{{Percent: 10}, {Percent: 50}}
	}
	if p.OnForeign == "" {
		p.OnForeign = Reassert
	}
	if p.OnNewTemplate == "" {
		p.OnNewTemplate = Restart
	}
	if p.Deadlines.NoGPU == 0 {
		p.Deadlines.NoGPU = 2 * time.Minute
	}
	if p.Deadlines.Loading == 0 {
		p.Deadlines.Loading = max(5*time.Minute, 3*s.StartUp.P90)
	}
	if p.Deadlines.Broken == 0 {
		p.Deadlines.Broken = time.Minute
	}
	return p
}

// Validate returns an error that names the first field that makes no sense, or contradicts another.
func (p Policy) Validate() error {
	if err := p.validateWords(); err != nil {
		return err
	}
	switch {
	case p.Reserve < 0:
		return fmt.Errorf("reserve is %d: it must not be negative", p.Reserve)
	case min(p.KeepOld, p.Within, p.Hold) < 0:
		return fmt.Errorf("keepOld (%s), within (%s) and hold (%s) must not be negative", p.KeepOld, p.Within, p.Hold)
	case min(p.Deadlines.NoGPU, p.Deadlines.Loading, p.Deadlines.Broken, p.Deadlines.Inconclusive) < 0:
		return errors.New("deadlines must not be negative")
	case len(p.Steps) > 0 && p.Strategy != Canary:
		return fmt.Errorf("steps belong to the strategy Canary, not to %s", p.Strategy)
	}
	if err := validateBounds(p.MaxSurge, p.MaxUnavailable); err != nil {
		return err
	}
	for i, g := range p.Gates {
		if err := g.validate(); err != nil {
			return fmt.Errorf("gates[%d] %w", i, err)
		}
	}
	return p.validateSteps()
}

func (p Policy) validateWords() error {
	switch p.Strategy {
	case "", Rolling, Recreate, BlueGreen, Canary:
	default:
		return fmt.Errorf("the strategy %q does not exist: use Rolling, Recreate, BlueGreen or Canary", p.Strategy)
	}
	switch p.OnForeign {
	case "", Reassert, Stop:
	default:
		return fmt.Errorf("onForeign is %q: it must be Reassert or Stop", p.OnForeign)
	}
	switch p.OnNewTemplate {
	case "", Restart, Queue:
	default:
		return fmt.Errorf("onNewTemplate is %q: it must be Restart or Queue", p.OnNewTemplate)
	}
	return nil
}

func validateBounds(surge, unavailable *int) error {
	switch {
	case surge != nil && *surge < 0 || unavailable != nil && *unavailable < 0:
		return errors.New("maxSurge and maxUnavailable must not be negative")
	case surge != nil && unavailable != nil && *surge+*unavailable == 0:
		return errors.New("maxSurge and maxUnavailable are both 0: nothing could be updated")
	}
	return nil
}

func (p Policy) validateSteps() error {
	var before CanaryStep
	for i, s := range p.Steps {
		if err := s.validate(before); err != nil {
			return fmt.Errorf("steps[%d]%w", i, err)
		}
		before = s
	}
	return nil
}

func (s CanaryStep) validate(before CanaryStep) error {
	switch {
	case (s.Percent != 0) == (s.Replicas != 0):
		return errors.New(" must have exactly one of percent and replicas")
	case !(s.Percent >= 0 && s.Percent <= 100) || s.Replicas < 0:
		return fmt.Errorf(" has percent %v and replicas %d: they must be positive, and percent at most 100", s.Percent, s.Replicas)
	case !(s.Weight >= 0 && s.Weight <= 100):
		return fmt.Errorf(".weight is %v: it must be from 0 to 100", s.Weight)
	case s.Percent > 0 && s.Percent <= before.Percent || s.Replicas > 0 && s.Replicas <= before.Replicas:
		return errors.New(" is not above the step before it")
	case s.Weight > 0 && s.Weight < before.Weight:
		return errors.New(".weight is below that of the step before it")
	}
	for j, g := range s.Gates {
		if err := g.validate(); err != nil {
			return fmt.Errorf(".gates[%d] %w", j, err)
		}
	}
	return nil
}

// mostReplicas bounds what is planned: a Deployment of more pods than a cluster holds is a mistake.
const mostReplicas = 150_000

func (r *Request) validate() error {
	if err := r.Service.validate(); err != nil {
		return err
	}
	for i, src := range r.Sources {
		switch src.Kind {
		case Free, Spare, Preempt, Provision, Degrade:
		default:
			return fmt.Errorf("sources[%d] is of the kind %q, which does not exist", i, src.Kind)
		}
		if src.Replicas < 0 || src.Delay < 0 {
			return fmt.Errorf("sources[%d] (%s) must not be negative", i, src.label())
		}
	}
	for i, c := range r.Policy.Steps {
		if !r.Service.Router && (c.Weight > 0 || c.Match != "") {
			return fmt.Errorf("steps[%d] splits traffic, and no router is configured", i)
		}
	}
	if err := r.Demand.validate(); err != nil {
		return err
	}
	return r.Policy.Validate()
}

func (s Service) validate() error {
	switch s.Kind {
	case Deployment, StatefulSet, DaemonSet:
	default:
		return fmt.Errorf("the kind %q cannot be rolled out: use Deployment, StatefulSet or DaemonSet", s.Kind)
	}
	switch {
	case s.Replicas < 1 || s.Replicas > mostReplicas:
		return fmt.Errorf("replicas is %d: nothing serves, or more than %d", s.Replicas, mostReplicas)
	case s.GPUs < 0:
		return fmt.Errorf("gpus is %d: it must not be negative", s.GPUs)
	case !(s.Capacity > 0) || math.IsInf(s.Capacity, 0):
		return fmt.Errorf("capacity is %v: it must be a positive number", s.Capacity)
	}
	return errors.Join(s.StartUp.validate("startUp"), s.Drain.validate("drain"))
}

func (s Span) validate(name string) error {
	if s.P50 < 0 || s.P90 < s.P50 {
		return fmt.Errorf("%s is %s at p50 and %s at p90: neither may be negative, nor p90 below p50", name, s.P50, s.P90)
	}
	return nil
}
