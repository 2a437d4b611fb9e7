package rollout

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

// decider is one call of Next.
type decider struct {
	State
	r   Request
	o   *Observation
	w   *Workload
	now time.Time
}

// mostTransitions bounds the phases one observation can lead through; the longest way is Resting to Settled to Resting.
const mostTransitions = 12

// Next takes a rollout on by what is observed. The request's Now is the time, its service and demand those of the moment. The
// state is to be stored before the actions are carried out, or after: either way the next call goes on. Called with what it
// returned and the same observation it gives the same actions; only the call that adopts a workload does not act yet.
func Next(s State, r Request, o Observation) (State, []Action) {
	r = r.withDefaults()
	d := &decider{State: s, r: r, o: &o, w: o.Workload, now: r.Now}
	if d.w != nil {
		d.r.Service.Replicas = d.w.Replicas
	}
	for range mostTransitions {
		before := d.State
		d.transit()
		if d.watch(); reflect.DeepEqual(before, d.State) {
			break
		}
	}
	if s.Phase == Adopting && d.w != nil {
		// What the owner wrote must be stored before it is written over; the next call acts.
		return d.State, d.announce(nil)
	}
	return d.State, d.actions()
}

// transit changes the phase where the observation says so.
func (d *decider) transit() {
	if d.w == nil {
		d.absent()
		return
	}
	if d.UID != "" && d.UID != d.w.UID {
		// Another object of the same name: nothing of the old one is its.
		d.State = State{Seq: d.Seq, Events: d.Events, Handled: d.Handled, Reason: d.Reason, Message: d.Message}
	}
	d.obey()
	switch d.Phase {
	case Adopting:
		d.adopt()
	case Resting:
		d.rest()
	case Planning:
		d.planning()
	case Moving, Settled:
		d.underway()
	case GoingBack:
		d.returning()
	case Restoring:
		if d.w.Fields == d.want() && d.o.Stable == d.From && d.weightInForce() {
			d.enter(Resting, d.now)
		}
	case Released, Gone:
		if !d.o.Release {
			d.State = State{Seq: d.Seq, Events: d.Events, Handled: d.Handled, Reason: d.Reason, Message: d.Message}
		}
	}
}

// absent ends what there was of a workload that is gone.
func (d *decider) absent() {
	switch d.Phase {
	case Adopting:
		d.say(d.now, "NotFound", "the "+string(d.r.Service.Kind)+" does not exist")
	case Released, Gone:
	case Resting, Planning, Moving, Settled, GoingBack, Restoring:
		d.enter(Gone, d.now)
		d.say(d.now, "Deleted", "the "+string(d.r.Service.Kind)+" was deleted: the rollout ends")
	}
}

// adopt learns what is the user's, once no update of Kubernetes' own is under way. A hold whose state was lost is ended first, by
// going back to what is known to have been stable.
func (d *decider) adopt() {
	owners := d.ownersOf(d.w.Fields)
	lost := owners != d.w.Fields
	if d.o.Release && !lost {
		d.enter(Released, d.now)
		return
	}
	stable := d.w.Template
	if d.others(stable) > 0 {
		if !lost || d.o.Versions[d.o.Stable].Replicas == 0 {
			d.say(d.now, "UpdateInProgress", "an update that began before the policy is still under way")
			return
		}
		stable = d.o.Stable
	}
	d.UID, d.Original, d.From = d.w.UID, owners, stable
	if lost {
		d.say(d.now, "FieldsUnknown", "the fields of a former hold were found and its state was not: Kubernetes' defaults take their place")
	}
	if d.others(stable) > 0 {
		if d.w.Template != stable {
			d.To = d.w.Template
		}
		d.abandon("StateLost", "back to "+stable+", since what was judged of the other version is not known any more", "", d.To)
		return
	}
	d.enter(Restoring, d.now)
	d.say(d.now, "Adopted", "new templates wait for their plan from now on")
}

// ownersOf is what the owner may have written of fields as they are found. They are the owner's, but for those of a hold whose state
// was lost: of these nobody knows any more what they were.
func (d *decider) ownersOf(f Fields) Fields {
	ours := func(field string) bool {
		_, others := d.w.Writers[field]
		return d.w.Writers != nil && !others // nil: nobody can tell
	}
	switch d.r.Service.Kind {
	case StatefulSet:
		if f.Partition == restPartition {
			f.Partition = 0
		}
	case DaemonSet:
		f.OnDelete = f.OnDelete && !ours("updateStrategy.onDelete")
	case Deployment:
		if f.ProgressDeadline == NoDeadline && (f.MinReadySeconds == HoldSeconds || ours("progressDeadlineSeconds")) {
			return Fields{ProgressDeadline: 600, Surge: "25%", Unavailable: "25%"}
		}
		f.Paused = f.Paused && !ours("paused")
	}
	return f
}

func (d *decider) rest() {
	d.Schedule, d.Step, d.Tried, d.To, d.Mixed = nil, 0, nil, "", false
	if d.o.Release {
		if d.w.Fields == d.Original && d.w.Template == d.From {
			d.enter(Released, d.now)
			d.say(d.now, "Released", "the workload is as its owner wrote it")
		}
		return
	}
	d.learn()
	switch t := d.w.Template; {
	case (t == d.From || t == d.Failed) && d.strays() > 0:
		d.abandon("NotPassed", plural(d.strays(), "replica")+" of versions that were not passed, after somebody let them roll", d.Queued, d.Failed)
	case t == d.From && d.lost(d.Queued):
		d.say(d.now, "VersionLost", d.isLost(d.Queued)+", for which it waited: apply its template again")
	case t == d.From:
	case t == d.Failed:
		d.say(d.now, "NotRetried", "version "+t+" was gone back from: change the template, or retry")
	case d.w.Replicas == 0:
		d.Queued = t
	default:
		if t != d.Known {
			d.Known = ""
		}
		d.To, d.Queued, d.Failed, d.Frozen, d.Reasserted = t, "", "", false, 0
		d.enter(Planning, d.now)
	}
}

// learn takes what the owner changes at rest for the owner's: only paused, or its like, is held then. What a hold may have
// written, before a caller died that had not stored its state, is not learnt.
func (d *decider) learn() {
	theirs := d.w.Fields
	if theirs != d.atRest(theirs) || d.w.Template != d.From || theirs.ProgressDeadline == NoDeadline && d.Original.ProgressDeadline != NoDeadline {
		return
	}
	theirs.Paused, theirs.Partition, theirs.OnDelete = d.Original.Paused, d.Original.Partition, d.Original.OnDelete
	d.Original = theirs
}

// strays counts the pods of versions other than the stable one.
func (d *decider) strays() int { return d.others(d.From) }

func (d *decider) others(than string) int {
	n := 0
	for template, v := range d.o.Versions {
		if template != than {
			n += v.Replicas
		}
	}
	return n
}

// planning waits for a schedule that can start.
func (d *decider) planning() {
	d.Mixed = d.strays() > 0
	if !d.dropped() {
		d.start()
	}
}

// dropped ends the planning of a version that is not to be rolled out any more, or not yet.
func (d *decider) dropped() bool {
	switch {
	case d.o.Release:
		d.abandon("PolicyRemoved", "the policy was removed before the new version was planned", "", "")
	case d.w.Template == d.From && d.Mixed:
		d.abandon("Undone", "the template is the stable one again", "", "")
	case d.w.Template == d.From:
		d.enter(Restoring, d.now)
		d.say(d.now, "Undone", "the template is the stable one again")
	case d.w.Template != d.To:
		d.To = d.w.Template
		return false
	case d.w.Replicas == 0:
		d.abandon("ScaledToZero", "there are no replicas: the new version waits until there are", d.To, "")
	case d.r.Service.Kind == StatefulSet && d.strays() > d.o.Versions[d.To].Replicas:
		d.abandon("Restarted", "pods of a third version are left: first back to what was judged", d.To, "")
		d.NotBefore = d.now
	default:
		return false
	}
	return true
}

// start begins where there is a plan, and says what it waits for where there is none.
func (d *decider) start() {
	s, refusal := Plan(d.untried())
	switch {
	case refusal != nil && d.Mixed:
		d.abandon(string(refusal.Reason), refusal.String(), d.To, "")
	case refusal != nil:
		d.say(d.now, string(refusal.Reason), refusal.String())
	case d.o.Wait != "" && d.Mixed:
		// What it holds of the budget may be what the others wait for.
		d.abandon("WaitsForBudget", d.o.Wait, d.To, "")
	case d.o.Wait != "":
		d.say(d.now, "WaitsForBudget", d.o.Wait)
	case d.Frozen:
		d.say(d.now, "Paused", "paused by a person")
	case d.r.Service.Kind == StatefulSet && d.r.Service.Serial && d.unready() > 0 && !d.Mixed:
		d.say(d.now, "WaitsForPods", fmt.Sprintf("%s not Ready%s: in OrderedReady nothing is replaced before they are", plural(d.unready(), "replica"), because(d.o.Versions[d.From].Detail)))
	default:
		d.Schedule, d.Step, d.Replicas, d.Passed = &s, 0, d.w.Replicas, false
		d.enter(Moving, d.now)
		d.say(d.now, "Started", fmt.Sprintf("%s of %s: %s, at least %d of %d replicas serve", s.Strategy, d.To, s.Makespan, s.Least.Replicas, s.Replicas))
	}
}

// unready counts the stable version's pods that are not Ready, and those that are not there.
func (d *decider) unready() int { return max(0, d.w.Replicas-d.o.Versions[d.From].Ready) }

// heldName is of the source that surge pods hold already.
const heldName = "held by surge pods"

func (d *decider) untried() Request { return Untried(&d.State, d.r, d.o) }

// Untried is the request that Next plans with in a state: without sources whose pods stayed Unschedulable, and with the GPUs that
// surge pods hold already.
func Untried(s *State, r Request, o *Observation) Request {
	if s.Known != "" && s.To == s.Known {
		r.Policy = r.Policy.known()
	}
	sources := r.Sources
	r.Sources = nil
	held := 0
	if o.Workload != nil {
		held = -o.Workload.Replicas
	}
	for _, v := range o.Versions {
		held += v.Replicas - v.NoGPU
	}
	if held > 0 {
		r.Sources = append(r.Sources, Source{Kind: Free, Name: heldName, Replicas: held})
	}
	for _, source := range sources {
		if !slices.Contains(s.Tried, source.label()) {
			r.Sources = append(r.Sources, source)
		}
	}
	return r
}

// known is the policy for a version that was stable before: what a canary or a gate would tell is known, and users wait for it.
func (p Policy) known() Policy {
	if p.Strategy == Canary {
		p.Strategy, p.Steps = Rolling, nil
	}
	p.Unjudged, p.Gates, p.InstantReturn = true, nil, false
	return p
}

// abandon goes back before anything, or anything more, is promoted. queue is tried again later, failed is not.
func (d *decider) abandon(reason, message, queue, failed string) {
	d.Queued, d.Failed = queue, failed
	if queue != d.Known {
		d.Known = ""
	}
	if queue != "" {
		d.NotBefore = d.now.Add(retryAfter)
	}
	d.Passed = false
	d.enter(GoingBack, d.now)
	d.say(d.now, reason, message)
}

// returning waits until only the old version is left.
func (d *decider) returning() {
	if t := d.w.Template; t != d.From && t != d.To && t != "" {
		// A template newer than the one that is being left: it waits for its turn.
		d.Queued, d.NotBefore, d.To = t, d.now, t
	}
	if d.stranded() || d.w.Template != d.From || !d.w.Synced {
		return
	}
	old := d.o.Versions[d.From]
	if d.strays() > 0 {
		// Old pods without GPUs may stop everything. A new one that serves gives its own up, and no other before that one serves again.
		if d.starved(old) && old.Loading == 0 && d.now.Sub(d.Yielded) > d.r.Service.Drain.P90+bindingTime {
			d.Yielded = d.now
		}
		return
	}
	// Old pods that still load are waited for at rest: what was held is given back as soon as the new version is gone. In OrderedReady
	// those after one that has no GPU are not there yet.
	if old.Replicas == d.w.Replicas || d.r.Service.Serial && d.starved(old) {
		d.enter(Restoring, d.now)
		d.say(d.now, "WentBack", "only "+d.From+" is left; "+d.Message)
	}
}

// stranded ends going back to a version that nobody keeps any more: what the workload has stays.
func (d *decider) stranded() bool {
	if d.w.Template == d.From || !d.lost(d.From) {
		return false
	}
	d.say(d.now, "VersionLost", d.isLost(d.From)+" to be gone back to: what the workload has stays")
	d.Previous, d.From, d.To, d.Queued, d.Failed, d.Schedule = "", d.w.Template, "", "", "", nil
	d.enter(Restoring, d.now)
	return true
}

// obey carries out a command once.
func (d *decider) obey() {
	c := d.o.Command
	if c.ID == "" || c.ID == d.Handled {
		return
	}
	d.Handled = c.ID
	running := d.Phase == Moving || d.Phase == Settled || d.Phase == Planning
	switch c.Kind {
	case Pause:
		d.Frozen = true
		d.say(d.now, "Paused", "paused by "+c.By)
	case Resume:
		d.Frozen = false
		d.say(d.now, "Resumed", "resumed by "+c.By)
	case Promote:
		if d.Phase == Settled {
			d.Passed, d.Frozen = true, false
			d.say(d.now, "Promoted", fmt.Sprintf("step %s was passed by %s", d.step().Name, c.By))
		}
	case Abort:
		if running {
			d.abandon("Aborted", "aborted by "+c.By, "", d.To)
		}
	case Undo:
		d.undo(running, c.By)
	case Retry:
		d.retry()
	}
}

func (d *decider) undo(running bool, by string) {
	switch {
	case running:
		d.abandon("Undone", "undone by "+by, "", d.To)
	case d.Phase != Resting && d.Phase != Restoring:
	case d.Previous == "":
		d.say(d.now, "NothingToUndo", "no version before "+d.From+" is known")
	case d.lost(d.Previous):
		d.say(d.now, "VersionLost", d.isLost(d.Previous)+": apply its template instead")
	default:
		d.Queued, d.Failed, d.NotBefore, d.Known = d.Previous, "", d.now, d.Previous
	}
}

// retry lets a version that was gone back from, or waits, begin now.
func (d *decider) retry() {
	switch {
	case d.Phase != Resting:
	case d.Failed != "" && d.Failed != d.w.Template && d.lost(d.Failed):
		d.say(d.now, "VersionLost", d.isLost(d.Failed)+": apply its template, and retry")
	case d.Failed != "":
		d.Queued, d.Failed, d.NotBefore = d.Failed, "", d.now
	case d.Queued != "":
		d.NotBefore = d.now
	}
}

// lost says that nobody keeps a template any more.
func (d *decider) lost(template string) bool {
	return template != "" && slices.Contains(d.o.Lost, template)
}

func (d *decider) isLost(template string) string {
	return "no ReplicaSet or ControllerRevision has version " + template + " any more (revisionHistoryLimit)"
}
