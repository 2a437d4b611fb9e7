package rollout

import (
	"fmt"
	"time"
)

// underway decides in the middle of a rollout: first what ends it, then what holds it up, then what takes it on. The order is
// that of harm: a workload that is scaled to nothing, a template that is not ours, users whom the old version lacks GPUs for.
func (d *decider) underway() {
	for _, check := range []func() bool{d.released, d.conflicted, d.template, d.scaled, d.liveLoad, d.failing, d.mix} {
		if check() {
			return
		}
	}
	if d.Frozen {
		return
	}
	if d.Phase == Moving {
		d.arrive()
		return
	}
	d.pass()
}

func (d *decider) released() bool {
	if d.o.Release {
		d.abandon("PolicyRemoved", "the policy was removed in the middle of the rollout: back to what was judged", "", "")
	}
	return d.o.Release
}

// conflicted goes back where others write to the router and the policy says so.
func (d *decider) conflicted() bool {
	if !d.routerIsTheirs() {
		return false
	}
	d.abandon("ForeignWrite", "going back, since "+d.o.Conflict, "", d.To)
	return true
}

// template looks at whether somebody changed the template.
func (d *decider) template() bool {
	switch t := d.w.Template; {
	case t == d.To || t == d.Queued && d.Queued != "":
		return false
	case t == d.From:
		d.abandon("Undone", "the template is the stable one again"+d.author(), "", "")
	case d.r.Policy.OnNewTemplate == Queue:
		d.Queued, d.NotBefore = t, d.now
		d.say(d.now, "Queued", "version "+t+" waits for its turn"+d.author())
		return false
	case d.r.Service.Kind == StatefulSet:
		// Ordinals that have the version before stay so below a partition for the newest: they are given back first.
		d.abandon("Restarted", fmt.Sprintf("version %s replaces %s%s: first back to what was judged", t, d.To, d.author()), t, "")
		d.NotBefore = d.now
	default:
		d.say(d.now, "Restarted", fmt.Sprintf("version %s replaces %s%s: the rollout begins anew", t, d.To, d.author()))
		d.To, d.Schedule, d.Step, d.Mixed, d.Passed = t, nil, 0, true, false
		d.enter(Planning, d.now)
	}
	return true
}

// author names who wrote the template, where that is known.
func (d *decider) author() string {
	if w := d.w.Writers["template"]; w != "" {
		return " (written by " + w + ")"
	}
	return ""
}

// scaled ends the rollout on a scaling after which the Deployment controller would promote the new version by itself, and
// fits the step to any other.
func (d *decider) scaled() bool {
	n := d.w.Replicas
	if n == d.Replicas {
		return false
	}
	if n == 0 || 2*n < d.Schedule.Replicas && d.step().Held {
		d.abandon("ScaledDown", fmt.Sprintf("scaled from %d to %d replicas in the middle of the rollout: Kubernetes would promote the new version unjudged", d.Schedule.Replicas, n), d.To, "")
		return true
	}
	d.refit(n)
	return false
}

// keep is how many replicas must serve now.
func (d *decider) keep() int {
	n := d.w.Replicas
	if d.r.Service.Capacity > 0 && len(d.r.Demand.Points) > 0 {
		n = d.r.needed(0) + d.r.Policy.Reserve
	}
	return min(n, d.w.Replicas)
}

// liveLoad gives the new version's GPUs back where the old one, or demand, lacks them.
func (d *decider) liveLoad() bool {
	old, fresh := d.o.Versions[d.From], d.o.Versions[d.To]
	// Surge pods that somebody else's maxSurge has made do not count.
	starved := old.NoGPU > 0 && old.Replicas-old.NoGPU < d.step().Old && fresh.Replicas > fresh.NoGPU
	if d.Phase == Settled && fresh.NoGPU > 0 && old.Ready+fresh.Ready < min(d.r.needed(0), d.w.Replicas) && d.r.Demand.Missing == "" {
		starved = true
	}
	if starved && d.step().Held {
		d.abandon("LiveLoad", fmt.Sprintf("no GPU for %s of the service: the new version gives its own back and tries again later", plural(old.NoGPU+fresh.NoGPU, "pod")), d.To, "")
		return true
	}
	return false
}

// failing tells pods that lack a GPU, load, and are broken apart.
func (d *decider) failing() bool {
	v, limits := d.o.Versions[d.To], d.r.Policy.Deadlines
	switch {
	case d.o.Verdict.Key == d.Key() && d.o.Verdict.Result == Fail:
		d.abandon("Failed", fmt.Sprintf("step %s failed: %s", d.step().Name, d.o.Verdict.Message), "", d.To)
	case v.Broken > 0 && v.BrokenFor >= limits.Broken:
		d.abandon("Broken", fmt.Sprintf("%s exits again and again%s", plural(v.Broken, "new pod"), because(v.Detail)), "", d.To)
	case v.Loading > 0 && v.LoadingFor >= limits.Loading:
		d.abandon("NeverReady", fmt.Sprintf("%s not Ready for %s, longer than the %s of loading%s", plural(v.Loading, "new pod"), v.LoadingFor, limits.Loading, because(v.Detail)), "", d.To)
	case v.NoGPU > 0 && d.Phase == Moving && min(v.NoGPUFor, d.now.Sub(d.Since)) >= limits.NoGPU+d.delay():
		return d.fallBack(v)
	case d.obstructed(d.o.Versions[d.From]):
		d.abandon("Obstructed", fmt.Sprintf("%s of the old version not Ready%s: the StatefulSet controller replaces no others before they are", plural(d.unready(), "pod"), because(d.o.Versions[d.From].Detail)), d.To, "")
	default:
		return false
	}
	return true
}

// obstructed says whether old pods of a StatefulSet have been in the way for too long.
func (d *decider) obstructed(old Version) bool {
	limits, since := d.r.Policy.Deadlines, d.now.Sub(d.Since)
	if d.r.Service.Kind != StatefulSet || d.Phase != Moving {
		return false
	}
	return old.NoGPU > 0 && min(old.NoGPUFor, since) >= limits.NoGPU+d.delay() || max(old.LoadingFor, old.BrokenFor) >= limits.Loading && since >= limits.Loading
}

// because appends what a component says of the cause, where it says something.
func because(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + detail
}

// delay is how long the sources in use may take, and old pods to leave their GPUs.
func (d *decider) delay() time.Duration {
	longest := time.Duration(0)
	for _, u := range d.Schedule.Uses {
		longest = max(longest, u.Source.Delay)
	}
	return longest + d.r.Service.Drain.P90
}

// fallBack goes on without the source whose pods stay Unschedulable, where the same step can be had from the others.
func (d *decider) fallBack(v Version) bool {
	failed := ""
	for _, u := range d.Schedule.Uses {
		if u.Source.extra() && u.Source.Name != heldName {
			failed = u.Source.label()
		}
	}
	message := fmt.Sprintf("no GPU for %s in %s%s", plural(v.NoGPU, "new pod"), v.NoGPUFor, because(v.Detail))
	if failed == "" {
		d.abandon("NoGPU", message, d.To, "")
		return true
	}
	d.Tried = append(append([]string(nil), d.Tried...), failed)
	next, refusal := Plan(d.untried())
	if refusal != nil {
		d.abandon("NoGPU", message+"; "+refusal.Message, d.To, "")
		return true
	}
	step := d.sameStep(&next, v.Replicas)
	if step < 0 {
		d.abandon("NoGPU", message+"; the other sources do not carry this step", d.To, "")
		return true
	}
	d.Schedule, d.Step = &next, step
	d.Since = d.now
	d.say(d.now, "FellBack", fmt.Sprintf("%s; without %s: surge %d, unavailable %d", message, failed, next.Steps[step].Surge, next.Steps[step].Unavailable))
	return true
}

// sameStep finds the step of another schedule that is as far as the present one: it has room for the new pods that there are,
// and no judge stands before it that has not been passed.
func (d *decider) sameStep(next *Schedule, replicas int) int {
	now, judged := d.step(), 0
	for _, s := range d.Schedule.Steps[:d.Step] {
		if s.Judged {
			judged++
		}
	}
	for i, s := range next.Steps {
		if s.New >= max(now.New, replicas) && s.Held == now.Held && s.Judged == now.Judged {
			return i
		}
		if s.Judged {
			judged--
		}
		if judged < 0 {
			break
		}
	}
	return -1
}

// mix looks at whether a held step is, or can still be, at its mix. Scaling and other people's writes move it.
func (d *decider) mix() bool {
	at, old, fresh := d.step(), d.o.Versions[d.From].Replicas, d.o.Versions[d.To].Replicas
	if !at.Held || !d.w.Synced || d.Phase == Moving && (d.w.Fields != d.want() || d.replacing(old, fresh)) {
		return false
	}
	switch {
	case !d.passable(at, old, fresh):
		message := fmt.Sprintf("%d old and %d new replicas instead of %d and %d: more of the new version than was passed", old, fresh, at.Old, at.New)
		if others := foreign(d.want(), d.w.Fields, d.w.Writers); others != "" {
			message += "; others wrote " + others
		}
		d.abandon("MixLost", message, d.To, "")
		return true
	case fresh >= at.New && old <= at.Old && (old != at.Old || fresh != at.New) && d.o.Versions[d.To].Ready == fresh:
		// The Deployment controller is done and the mix another: scaling in proportion rounds, or somebody let it roll.
		return d.remain(old, fresh)
	case fresh < at.New && d.Phase == Settled:
		d.Passed = false
		d.enter(Moving, d.now)
		d.say(d.now, "MixChanged", fmt.Sprintf("%d old and %d new replicas instead of %d and %d: the step is taken again", old, fresh, at.Old, at.New))
		return true
	}
	return false
}

// replacing says that a StatefulSet's pods end and come again.
func (d *decider) replacing(old, fresh int) bool {
	return d.r.Service.Kind == StatefulSet && old+fresh < d.w.Replicas && d.passable(d.step(), old, fresh)
}

// remain looks at whether a mix suffices that a hold cannot leave: it neither takes back new replicas nor gives back old ones.
func (d *decider) remain(old, fresh int) bool {
	serving := old + fresh
	if d.Schedule.Strategy == BlueGreen {
		serving = min(old, fresh)
	}
	if serving < d.keep() {
		d.abandon("MixLost", fmt.Sprintf("%d old and %d new replicas are left, fewer than demand needs", old, fresh), d.To, "")
		return true
	}
	d.amend(old, fresh)
	return false
}

// passable says whether a mix is as far from what was passed as a hold can come by scaling, not farther.
func (d *decider) passable(at Step, old, fresh int) bool {
	return fresh <= at.New+1 && old > 0 && (fresh <= at.New || old >= at.Old || old >= d.keep())
}

// arrive looks at whether a step is reached.
func (d *decider) arrive() {
	if !d.w.Synced || d.w.Fields != d.want() || d.w.Template != d.To {
		return
	}
	at, old, fresh, others := d.step(), d.o.Versions[d.From], d.o.Versions[d.To], 0
	for template, v := range d.o.Versions {
		if template != d.From && template != d.To {
			others += v.Replicas
		}
	}
	if others > 0 || fresh.Ready != fresh.Replicas || fresh.Replicas != at.New {
		return
	}
	if !at.Held {
		if old.Replicas == 0 && fresh.Replicas == d.w.Replicas {
			d.complete()
		}
		return
	}
	if old.Replicas != at.Old {
		return
	}
	d.Mixed, d.Passed = false, false
	d.Attempt++
	d.enter(Settled, d.now)
	d.say(d.now, "StepReached", fmt.Sprintf("step %s: %d old and %d new replicas serve", at.Name, at.Old, at.New))
}

func (d *decider) complete() {
	d.Previous, d.From, d.To, d.Schedule, d.Failed = d.From, d.To, "", nil, ""
	d.Known = ""
	d.enter(Restoring, d.now)
	d.say(d.now, "Completed", "all replicas run "+d.From)
}

// pass goes on to the next step where the judge and the gates, or a person, let it.
func (d *decider) pass() {
	at := d.step()
	if d.w.Fields != d.want() || !d.weightInForce() {
		return
	}
	if !d.Passed {
		if why := d.blocked(at); why != "" {
			return
		}
	}
	if left := at.Keep - d.now.Sub(d.Since); left > 0 {
		return
	}
	d.Step++
	d.Passed = false
	if next := d.step(); next.Held && next.Surge == at.Surge && next.Unavailable == at.Unavailable {
		// Nothing moves but traffic.
		d.Attempt++
		d.enter(Settled, d.now)
		d.say(d.now, "StepReached", "step "+next.Name+": traffic moves")
		return
	}
	d.enter(Moving, d.now)
}

// blocked is what the present step waits for, "" where it may pass. It is the condition as well.
func (d *decider) blocked(at Step) string {
	if at.Judged {
		v := d.o.Verdict
		if v.Key != d.Key() {
			v = Verdict{}
		}
		switch v.Result {
		case Pass:
		case Inconclusive:
			limit := d.r.Policy.Deadlines.Inconclusive
			if limit > 0 && d.now.Sub(d.Since) >= limit {
				d.abandon("Inconclusive", fmt.Sprintf("step %s could not be judged within %s: %s", at.Name, limit, v.Message), "", d.To)
			} else {
				d.say(d.now, "Inconclusive", fmt.Sprintf("step %s waits, it cannot be judged: %s", at.Name, v.Message))
			}
			return "inconclusive"
		case NoResult:
			if d.Reason == "Inconclusive" && v.Key != "" {
				d.say(d.now, "Judged", "step "+at.Name+" is judged now")
			}
			return "the judge"
		case Fail:
			return "the judge"
		}
	}
	for _, g := range at.Gates {
		if why := d.gate(g); why != "" {
			return why
		}
	}
	return ""
}

func (d *decider) gate(g Gate) string {
	switch {
	case g.Manual:
		d.say(d.now, "WaitsForPerson", "step "+d.step().Name+" waits for a person to promote it")
		return "manual"
	case g.Pause > 0:
		if d.now.Sub(d.Since) < g.Pause {
			return "pause"
		}
	case g.Webhook:
		v := d.o.Gates[g.Name]
		switch {
		case v.Key != d.Key() || v.Result == NoResult || v.Result == Inconclusive:
			return "webhook"
		case v.Result == Fail:
			d.abandon("GateFailed", "gate "+g.Name+": "+v.Message, "", d.To)
			return "failed"
		}
	default:
		for _, w := range g.Windows {
			if w.Open(d.now) {
				return ""
			}
		}
		d.say(d.now, "WaitsForWindow", "step "+d.step().Name+" waits for its time window")
		return "window"
	}
	return ""
}
