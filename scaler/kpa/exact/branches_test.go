package exact

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"headroom.dev/headroom/scaler/kpa"
)

// branches counts how often each way through the algorithm was taken.
type branches map[string]int

func (b branches) hit(name string) { b[name]++ }

// reasons are all that a Result can give.
func reasons() []kpa.Reasons {
	return []kpa.Reasons{
		kpa.NoData, kpa.ScaleUpRate, kpa.ScaleDownRate, kpa.ActivationScale, kpa.PanicWindow, kpa.PanicHold, kpa.Delayed,
		kpa.MinScale, kpa.InitialScale, kpa.MaxScale, kpa.ZeroDisabled, kpa.AwaitActivation, kpa.ActivationTimeout,
		kpa.ActiveTooShort, kpa.Deactivated, kpa.PodRetention, kpa.GracePeriod,
	}
}

// required are the branches that a run must take.
func required() []string {
	names := []string{
		"concurrency", "rps", "linear", "weighted-exponential",
		"report late", "report too late", "reports in one second", "seconds without report", "report after a window",
		"linear: silence within the window", "weighted-exponential: silence within the window", "silence as long as the window",
		"new revision", "restart with one pod", "restart in panic", "initial scale 0",
		"panic begins", "panic goes on", "panic ends", "panic raises", "panic while no data",
		"stable above panic window in panic", "no pods ready", "poke",
		"burst capacity unlimited", "burst capacity 0", "burst capacity positive", "burst capacity negative",
		"silence is a load of 0", "data after silence", "no wish ever, replicas stay",
		"to zero", "to zero by grace period alone", "from zero", "no route", "route comes back", "delay without a route",
	}
	for _, r := range reasons() {
		names = append(names, r.String())
	}
	for _, from := range phases() {
		for _, to := range phases() {
			names = append(names, fmt.Sprintf("%v to %v", from, to))
		}
	}
	return names
}

func phases() []kpa.Phase { return []kpa.Phase{kpa.Activating, kpa.Active, kpa.Inactive} }

// start counts what a scenario is from its beginning.
func (b branches) start(s *scenario) {
	b.hit(string(s.config.Metric))
	b.hit(string(s.config.Aggregation))
	switch {
	case s.adopt > 1:
		b.hit("restart in panic")
	case s.adopt == 1:
		b.hit("restart with one pod")
	default:
		b.hit("new revision")
	}
	if s.config.InitialScale == 0 {
		b.hit("initial scale 0")
	}
}

// step counts what a decision shows, against the one before.
func (b branches) step(p *pair, r kpa.Result, want, ready int, now time.Time) {
	for _, one := range reasons() {
		if r.Reasons.Has(one) {
			b.hit(one.String())
		}
	}
	b.hitIf(ready == 0, "no pods ready")
	b.hitIf(want < 0 && r.Desired < 0, "no wish ever, replicas stay")
	b.hitIf(!p.reachable, "no route")
	b.hitIf(!p.reachable && p.s.config.ScaleDownDelay > 0 && r.Valid && r.Desired < p.last.Desired, "delay without a route")
	b.panics(p.last, r)
	b.bursts(p, r)
	b.silence(p, r, now.Unix())
	if p.prev.IsZero() {
		return
	}
	b.hit(fmt.Sprintf("%v to %v", p.last.Phase, r.Phase))
	b.hitIf(now.Sub(p.prev) < 2*time.Second, "poke")
	b.hitIf(p.last.Replicas == 0 && r.Replicas > 0, "from zero")
	if p.last.Replicas > 0 && r.Replicas == 0 {
		b.hit("to zero")
		b.hitIf(p.last.Reasons.Has(kpa.GracePeriod), "to zero by grace period alone")
	}
	b.hitIf(!p.last.Valid && r.Valid, "data after silence")
}

func (b branches) panics(last, r kpa.Result) {
	b.hitIf(!last.Panic && r.Panic, "panic begins")
	b.hitIf(last.Panic && r.Panic, "panic goes on")
	b.hitIf(last.Panic && !r.Panic, "panic ends")
	b.hitIf(last.Panic && r.Panic && r.Valid && r.Desired > last.Desired, "panic raises")
	b.hitIf(r.Panic && !r.Valid, "panic while no data")
	b.hitIf(r.Panic && r.Valid && r.StableValue > r.PanicValue, "stable above panic window in panic")
}

// record counts how a report lies to those before it.
func (b branches) record(p *pair, second int64) {
	if p.newest == 0 {
		return
	}
	window := int64(p.s.config.StableWindow / time.Second)
	ahead := second - p.newest
	b.hitIf(ahead <= -window, "report too late")
	b.hitIf(ahead < 0 && ahead > -window, "report late")
	b.hitIf(ahead == 0, "reports in one second")
	b.hitIf(ahead > 1 && ahead < window, "seconds without report")
	b.hitIf(ahead >= window, "report after a window")
}

func (b branches) silence(p *pair, r kpa.Result, second int64) {
	if !r.Valid || p.newest == 0 {
		return
	}
	silent, window := second-p.newest, int64(p.s.config.StableWindow/time.Second)
	b.hitIf(silent > 1 && silent < window, string(p.s.config.Aggregation)+": silence within the window")
	b.hitIf(silent == window, "silence as long as the window")
}

func (b branches) bursts(p *pair, r kpa.Result) {
	if !r.Valid {
		return
	}
	switch tbc := p.s.config.TargetBurstCapacity; {
	case tbc == -1:
		b.hit("burst capacity unlimited")
		b.hitIf(r.StableValue == 0, "silence is a load of 0")
	case tbc == 0:
		b.hit("burst capacity 0")
	case r.ExcessBurstCapacity >= 0:
		b.hit("burst capacity positive")
	default:
		b.hit("burst capacity negative")
	}
}

func (b branches) hitIf(ok bool, name string) {
	if ok {
		b.hit(name)
	}
}

func (b branches) missing() []string {
	var none []string
	for _, name := range required() {
		if b[name] == 0 {
			none = append(none, name)
		}
	}
	return none
}

// table lists every branch with how often it was taken.
func (b branches) table() string {
	var out strings.Builder
	out.WriteString("branch, times taken\n")
	names := required()
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&out, "  %-42s %d\n", name, b[name])
	}
	return out.String()
}
