package rollout

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// want is what the held fields should be.
func (d *decider) want() Fields {
	f := d.Original
	switch d.Phase {
	case Adopting, Released, Gone:
		return d.w.Fields
	case Resting, Restoring:
		if d.o.Release && d.Phase == Resting {
			return f
		}
		return d.atRest(f)
	case Planning:
		if d.Mixed {
			// Pods of a version that was dropped are Ready; with another minReadySeconds they would count as available at once.
			return d.atRest(d.w.Fields)
		}
		return d.atRest(f)
	case GoingBack:
		return d.backward(f)
	case Moving, Settled:
	}
	return d.forward(f)
}

// atRest lets no template roll.
func (d *decider) atRest(f Fields) Fields {
	switch d.r.Service.Kind {
	case StatefulSet:
		f = byPartition(f, restPartition)
	case DaemonSet:
		f.OnDelete = true
	case Deployment:
		f.Paused = true
	}
	return f
}

// byPartition lets a StatefulSet's pods from an ordinal on be of its template. Only RollingUpdate has a partition.
func byPartition(f Fields, from int) Fields {
	f.Partition, f.OnDelete, f.Recreate = from, false, false
	return f
}

// inPlace lets a DaemonSet replace so many pods at a time. It may have surge or unavailable pods, not both, and the GPUs of a node
// are its old pod's.
func inPlace(f Fields, unavailable int) Fields {
	f.OnDelete, f.Surge, f.Unavailable = false, "0", strconv.Itoa(max(1, unavailable))
	return f
}

func (d *decider) forward(f Fields) Fields {
	at := d.step()
	switch d.r.Service.Kind {
	case StatefulSet:
		if d.Frozen && d.Phase == Moving {
			return byPartition(f, restPartition)
		}
		if f.Unavailable != "" {
			f.Unavailable = strconv.Itoa(d.r.atOnce(d.before(), at))
		}
		return byPartition(f, max(0, d.w.Replicas-at.New))
	case DaemonSet:
		f = inPlace(f, at.Unavailable)
		f.OnDelete = d.Frozen
		return f
	case Deployment:
	}
	f.Paused, f.Recreate = d.Phase == Settled || d.Frozen, false
	f.ProgressDeadline = NoDeadline
	f.Surge, f.Unavailable = strconv.Itoa(at.Surge), strconv.Itoa(at.Unavailable)
	if at.Held {
		f.MinReadySeconds = HoldSeconds
	}
	if d.Schedule.Strategy == Recreate {
		// It has neither number: the API server refuses them.
		f.Recreate, f.Surge, f.Unavailable = true, "", ""
	}
	return f
}

// backward keeps as many replicas serving as demand needs, the failing version's among them where the old one's are too few:
// its pods go first, since they do not count as available.
func (d *decider) backward(f Fields) Fields {
	switch d.r.Service.Kind {
	case StatefulSet:
		if f.Unavailable != "" {
			f.Unavailable = strconv.Itoa(d.backAtOnce())
		}
		return byPartition(f, 0)
	case DaemonSet:
		return inPlace(f, d.backAtOnce())
	case Deployment:
	}
	f.Paused, f.Recreate, f.ProgressDeadline = false, false, NoDeadline
	n := d.w.Replicas
	surge := 0
	if d.Schedule != nil {
		surge = d.step().Surge
		if d.Schedule.Strategy == Recreate {
			f.Recreate, f.Surge, f.Unavailable = true, "", ""
			return f
		}
	}
	// Where fewer than that are Ready anyhow, new pods that are not Ready go without harm: the Deployment controller takes
	// them only down to the number that serve. If old ones still find no GPU, Ready new ones follow, each once the last one's GPU serves.
	old, serving := d.o.Versions[d.From], 0
	for _, v := range d.o.Versions {
		serving += v.Ready
	}
	free := max(0, n-d.keep(), n-serving)
	if d.Yielded.Equal(d.now) && serving > old.Ready {
		free = max(free, n-serving+1)
	}
	free = min(free, n)
	if surge+free == 0 {
		// A version that failed is not worth a deadlock: one of its pods makes room for the first old one.
		free = 1
	}
	f.Surge, f.Unavailable = strconv.Itoa(surge), strconv.Itoa(free)
	return f
}

// before is the step before the present one.
func (d *decider) before() Step {
	if d.Schedule == nil || d.Step == 0 {
		return Step{}
	}
	return d.Schedule.Steps[d.Step-1]
}

// starved says that pods have waited for a GPU for longer than those of pods that end take to be free.
func (d *decider) starved(v Version) bool {
	return v.NoGPU > 0 && v.NoGPUFor > d.r.Service.Drain.P90+bindingTime
}

// backAtOnce is how many pods of a StatefulSet or a DaemonSet may be missing on the way back: one at least, for a version that
// failed is not worth a deadlock. Those for which there is no GPU are missing anyhow, and must not stop the others.
func (d *decider) backAtOnce() int {
	if d.r.Service.Serial {
		return 1
	}
	n := max(1, d.w.Replicas-d.keep())
	if old := d.o.Versions[d.From]; d.starved(old) {
		n = max(n, old.NoGPU+1)
	}
	return n
}

// template is the one that is to be written, "" where it is as it should be.
func (d *decider) wantTemplate() string {
	want := ""
	switch d.Phase {
	case GoingBack:
		want = d.From
	case Moving, Settled:
		want = d.To
	case Resting:
		switch {
		case d.o.Release, d.w.Replicas == 0:
			want = d.From
		case d.Queued != "" && !d.lost(d.Queued) && !d.now.Before(d.NotBefore) && d.o.Versions[d.From].Ready >= d.w.Replicas:
			want = d.Queued
		}
	case Adopting, Planning, Restoring, Released, Gone:
	}
	if want == d.w.Template {
		return ""
	}
	return want
}

// watch tells a foreign write from one of ours that is still under way: ours had been seen in force.
func (d *decider) watch() {
	if d.w == nil || d.Phase == Adopting || d.Phase == Released || d.Phase == Gone {
		return
	}
	want := d.want()
	if want != d.Wanted {
		d.Wanted, d.InForce = want, d.w.Fields == want
		return
	}
	if d.w.Fields == want {
		d.InForce = true
		return
	}
	if !d.InForce {
		return
	}
	d.InForce = false
	fields := foreign(want, d.w.Fields, d.w.Writers)
	if fields == "" {
		// The caller's own write, made before it died with a state that it had not stored.
		return
	}
	running := d.Phase == Moving || d.Phase == Settled
	if d.Reasserted++; running && (d.r.Policy.OnForeign == Stop || d.Reasserted > mostReasserts) {
		d.abandon("ForeignWrite", "going back, since others write "+fields, "", d.To)
		return
	}
	d.say(d.now, "ForeignWrite", fmt.Sprintf("written again (%d): %s", d.Reasserted, fields))
}

// foreign names the fields that are not as wanted and that others wrote, with what they are and who wrote them.
func foreign(want, got Fields, writers map[string]string) string {
	var out []string
	add := func(name string, want, got any) {
		if w := writers[name]; want != got && w != "" {
			out = append(out, fmt.Sprintf("%s: %v instead of %v by %s", name, got, want, w))
		}
	}
	add("paused", want.Paused, got.Paused)
	add("minReadySeconds", want.MinReadySeconds, got.MinReadySeconds)
	add("progressDeadlineSeconds", want.ProgressDeadline, got.ProgressDeadline)
	add("maxSurge", want.Surge, got.Surge)
	add("maxUnavailable", want.Unavailable, got.Unavailable)
	add("strategy.recreate", want.Recreate, got.Recreate)
	add("partition", want.Partition, got.Partition)
	add("updateStrategy.onDelete", want.OnDelete, got.OnDelete)
	sort.Strings(out)
	return strings.Join(out, ", ")
}

// weight is the share of traffic that the new version should have; false where none is managed now.
func (d *decider) weight() (SetWeight, bool) {
	out := SetWeight{Old: d.From, New: d.To}
	if d.r.Service.Router && (d.Phase == Restoring || d.Phase == Resting) {
		// What was sent to a version that is gone comes back; Finish has done so for one that was promoted.
		return out, d.o.Weight != nil && d.o.Stable == d.From
	}
	if !d.r.Service.Router || d.To == "" || d.Schedule == nil {
		return out, false
	}
	old, fresh := d.o.Versions[d.From], d.o.Versions[d.To]
	switch d.Phase {
	case Moving:
		d.between(&out, old.Ready, fresh.Ready)
	case Settled:
		out.Weight, out.Match = d.step().Weight, d.step().Match
	case GoingBack:
		// What the old replicas cannot serve stays with the new ones until they can.
		if need := d.keep(); old.Ready < need && fresh.Ready > 0 {
			out.Weight = 1 - float64(old.Ready)/float64(need)
		}
	case Adopting, Resting, Planning, Restoring, Released, Gone:
		return out, false
	}
	return out, true
}

// between is the weight on the way to a step.
func (d *decider) between(out *SetWeight, old, fresh int) {
	at := d.step()
	switch {
	case d.Schedule.Strategy == BlueGreen && !at.Held:
		out.Weight = 1
	case !at.Held:
		out.Weight = Matched(fresh, old)
	case d.Step > 0:
		before := d.Schedule.Steps[d.Step-1]
		out.Weight, out.Match = before.Weight, before.Match
		if before.Weight == Matched(before.New, before.Old) {
			// Old pods that go, and new ones that are not passed yet, change what the others carry.
			out.Weight = Matched(min(fresh, before.New), old)
		}
	}
}

const (
	// sameWeight is what routers round by: Gateway API weights are written in millionths, Istio's in percent.
	sameWeight = 0.0101
	// bindingTime is how long the scheduler may take for a pod that fits.
	bindingTime = 10 * time.Second
	// routerPatience is for how long going back waits for a router to take traffic away from pods that are to go.
	routerPatience = time.Minute
)

func (d *decider) weightInForce() bool {
	w, managed := d.weight()
	if !managed {
		return true
	}
	return d.o.Weight != nil && d.o.Match == w.Match && *d.o.Weight-w.Weight < sameWeight && w.Weight-*d.o.Weight < sameWeight
}

// actions is the difference between what the state wants and what is observed.
func (d *decider) actions() []Action {
	switch over := d.Phase == Gone || d.Phase == Released; {
	case over && d.o.Stable != "":
		return d.announce([]Action{Clean{}})
	case over || d.w == nil:
		return d.announce(nil)
	}
	var out []Action
	weighed := d.weightInForce()
	if w, managed := d.weight(); managed && !weighed {
		out = append(out, w)
	}
	if p, needed := d.patch(weighed); needed {
		out = append(out, p)
	}
	if d.Phase == Restoring && d.o.Stable != d.From {
		out = append(out, Finish{d.From})
	}
	return d.announce(append(out, d.yield()...))
}

// yield gives up a Ready pod of a version that is being left by a StatefulSet in OrderedReady, where returning says so.
func (d *decider) yield() []Action {
	if !d.r.Service.Serial || d.Phase != GoingBack || !d.Yielded.Equal(d.now) {
		return nil
	}
	left := ""
	for template, v := range d.o.Versions {
		if template != d.w.Template && template != d.From && v.Ready > 0 && (left == "" || template < left) {
			left = template
		}
	}
	if left == "" {
		return nil
	}
	return []Action{Yield{left}}
}

// patch is the write that is needed, if one is.
func (d *decider) patch(weighed bool) (Patch, bool) {
	p := Patch{d.want(), d.wantTemplate()}
	if d.Phase == GoingBack && !weighed && !d.routerIsTheirs() && d.now.Sub(d.Since) < routerPatience {
		// Pods that still get traffic are not taken away yet.
		return p, false
	}
	return p, d.Phase != Adopting && (p.Fields != d.w.Fields || p.Template != "")
}

// routerIsTheirs says that the router stays as others wrote it: no share of ours is waited for.
func (d *decider) routerIsTheirs() bool { return d.o.Conflict != "" && d.r.Policy.OnForeign == Stop }

func (d *decider) announce(out []Action) []Action {
	for _, e := range d.Events {
		if e.Seq > d.o.Announced {
			out = append(out, Announce{e})
		}
	}
	return out
}
