package rollout

import (
	"fmt"
	"time"
)

// Change is how much an update touches.
type Change string

// The sizes of a change.
const (
	ImageOnly   Change = "Image" // same model, same API
	ModelChange Change = "Model" // other answers, same API
	APIChange   Change = "API"   // clients of one version cannot use the other
)

// Situation is what an advice rests on beside the request, whose Policy.Strategy counts for nothing.
type Situation struct {
	Change Change `json:"change"`
	// Risky says that the owner expects trouble: a new engine, a new driver, a model nobody has served.
	Risky bool `json:"risky,omitempty"`
	// Downtime is for how long the service may be away.
	Downtime time.Duration `json:"downtime,omitempty"`
	// Detect is the time after which the judge, at the traffic of a first canary, sees the effect that matters; 0: it never
	// does. Judge says why, where it has no power.
	Detect time.Duration `json:"detect,omitempty"`
	Judge  string        `json:"judge,omitempty"`
}

// Option is a strategy with what it would take.
type Option struct {
	Strategy Strategy  `json:"strategy"`
	Schedule *Schedule `json:"schedule,omitempty"` // nil where it is refused
	Refusal  *Refusal  `json:"refusal,omitempty"`
	// Why are the reasons for and against, the deciding one first.
	Why []string `json:"why"`
	// fit orders options: higher is better.
	fit int
}

// longestDetection is how long a canary may take to show something before it is called blind.
const longestDetection = 30 * time.Minute

// Advise says which strategy suits a service now: all four, the best first, each with its plan or refusal and the reasons.
func Advise(r Request, s Situation) []Option {
	options := make([]Option, 0, 4)
	for _, strategy := range []Strategy{Rolling, Canary, BlueGreen, Recreate} {
		with := r
		with.Policy.Strategy = strategy
		if strategy != Canary {
			with.Policy.Steps = nil
		}
		with.Policy.Downtime = s.Downtime > 0 || r.Policy.Downtime
		o := Option{Strategy: strategy}
		schedule, refusal := Plan(with)
		if refusal != nil {
			o.Refusal, o.fit = refusal, -1000
			o.Why = append(o.Why, refusal.Message)
		} else {
			o.Schedule = &schedule
		}
		s.weigh(&o)
		options = append(options, o)
	}
	best := make([]Option, 0, len(options))
	for len(options) > 0 {
		top := 0
		for i := range options {
			if options[i].fit > options[top].fit {
				top = i
			}
		}
		best = append(best, options[top])
		options = append(options[:top], options[top+1:]...)
	}
	return best
}

// weight is what a reason counts, for or against.
type weight func(fit int, format string, args ...any)

// weigh judges an option. What would break clients counts most, then harm to users, then time and cost.
func (s *Situation) weigh(o *Option) {
	say := func(fit int, format string, args ...any) {
		o.fit += fit
		o.Why = append(o.Why, fmt.Sprintf(format, args...))
	}
	switch o.Strategy {
	case Rolling:
		s.mixes(say)
		switch {
		case s.careful():
			say(-20, "nothing judges the new version while it takes over")
		case s.Change == ImageOnly:
			say(20, "the fastest that keeps demand served, and the change is small")
		}
	case Canary:
		s.mixes(say)
		s.canary(say)
	case BlueGreen:
		s.blueGreen(say, o.Schedule)
	case Recreate:
		s.recreate(say, o.Schedule)
	}
}

// careful says that the new version should be seen at work before it takes over.
func (s *Situation) careful() bool { return s.Risky || s.Change == ModelChange }

func (s *Situation) canary(say weight) {
	switch {
	case s.Detect == 0 && s.Judge != "":
		say(-30, "the metrics cannot judge a canary: %s", s.Judge)
	case s.Detect == 0:
		say(-30, "the metrics would show no difference")
	case s.Detect > longestDetection:
		say(-30, "the metrics would show a difference only after %s", s.Detect.Round(time.Second))
	case s.careful():
		say(40, "the judge sees a difference within %s at a tenth of the traffic", s.Detect.Round(time.Second))
	default:
		say(10, "it can be judged within %s, and a small change seldom needs it", s.Detect.Round(time.Second))
	}
}

func (s *Situation) blueGreen(say weight, plan *Schedule) {
	switch {
	case s.Change == APIChange:
		say(60, "all clients change over at one moment, and can return at once")
	case s.careful():
		say(20, "the new version is tested whole before it serves, and return is instant")
	default:
		say(-10, "twice the pods for a small change")
	}
	if plan != nil && plan.Extra > 0 {
		say(-5, "it takes %s beyond the service's own", plural(plan.Extra, "GPU"))
	}
}

func (s *Situation) recreate(say weight, plan *Schedule) {
	switch {
	case s.Downtime == 0:
		say(-1000, "the service may not be away")
	case plan != nil && plan.Downtime > s.Downtime:
		say(-1000, "it would be away for %s, longer than the %s tolerated", plan.Downtime, s.Downtime)
	case s.Change == APIChange:
		say(30, "both versions never serve at once, without GPUs beyond the service's own")
	default:
		say(-40, "it takes the service away where others do not")
	}
}

func (s *Situation) mixes(say weight) {
	if s.Change == APIChange {
		say(-100, "both versions would answer at once, and the API changes")
	}
}
