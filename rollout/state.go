package rollout

import (
	"fmt"
	"slices"
	"time"
)

// Phase is where a rollout stands.
type Phase string

// The phases.
const (
	Adopting  Phase = ""          // the fields are not yet known to be the user's
	Resting   Phase = "Resting"   // one version; the next template waits for its plan
	Planning  Phase = "Planning"  // a new template, and no plan that can start
	Moving    Phase = "Moving"    // to the mix of a step
	Settled   Phase = "Settled"   // at the mix of a held step, paused; judged and gated
	GoingBack Phase = "GoingBack" // to the old version
	Restoring Phase = "Restoring" // of the user's fields
	Released  Phase = "Released"  // the policy is gone, and so is all of the hold
	Gone      Phase = "Gone"      // the workload is deleted
)

// Fields are those of the workload that a rollout holds. What a kind has not stays as it was found.
type Fields struct {
	Paused           bool   `json:"paused"`
	MinReadySeconds  int    `json:"minReadySeconds"`
	ProgressDeadline int    `json:"progressDeadlineSeconds"`
	Surge            string `json:"maxSurge"` // as written: "1" or "25%"; "" where there is none
	Unavailable      string `json:"maxUnavailable"`
	Recreate         bool   `json:"strategy.recreate,omitempty"`       // strategy.type; then there is neither Surge nor Unavailable
	Partition        int    `json:"partition,omitempty"`               // StatefulSet; -1: its strategy has no rollingUpdate
	OnDelete         bool   `json:"updateStrategy.onDelete,omitempty"` // DaemonSet and StatefulSet: updateStrategy.type
}

const (
	// HoldSeconds is the minReadySeconds of a hold: a day, longer than any step is left alone.
	HoldSeconds = 86400
	// NoDeadline is the progressDeadlineSeconds that Kubernetes takes for none; it must exceed minReadySeconds.
	NoDeadline = 2147483647
	// restPartition keeps every ordinal of a StatefulSet on its old template.
	restPartition = 2147483647
)

// Workload is the object that is updated, as it was last read. It must not be older than the last write of the caller.
type Workload struct {
	UID      string `json:"uid"`
	Replicas int    `json:"replicas"` // spec.replicas
	Template string `json:"template"` // what identifies its pod template, such as the pod-template-hash
	Fields   Fields `json:"fields"`
	// Synced says that the controller of its kind has seen its newest generation.
	Synced bool `json:"synced"`
	// Writers name, by field (as the JSON of Fields calls them, and "template"), who wrote it last, where that was not the
	// caller; "unknown" where that cannot be read.
	Writers map[string]string `json:"writers,omitempty"`
}

// Version counts the pods of one template that are not being deleted.
type Version struct {
	Replicas int `json:"replicas"` // spec of its ReplicaSet, or pods
	Ready    int `json:"ready"`
	// NoGPU are Unschedulable, Loading are bound and not Ready, Broken exit again and again; each with how long the worst has
	// been in that state.
	NoGPU      int           `json:"noGPU,omitempty"`
	Loading    int           `json:"loading,omitempty"`
	Broken     int           `json:"broken,omitempty"`
	NoGPUFor   time.Duration `json:"noGPUFor,omitempty"`
	LoadingFor time.Duration `json:"loadingFor,omitempty"`
	BrokenFor  time.Duration `json:"brokenFor,omitempty"`
	// Detail is what the scheduler or the kubelet says of the worst pod.
	Detail string `json:"detail,omitempty"`
}

// Result is what the judge or a gate says.
type Result string

// The results. A judge that has no verdict yet gives NoResult.
const (
	NoResult     Result = ""
	Pass         Result = "Pass"
	Fail         Result = "Fail"
	Inconclusive Result = "Inconclusive"
)

// Verdict is a result about what State.Key names.
type Verdict struct {
	Key     string `json:"key"`
	Result  Result `json:"result"`
	Message string `json:"message,omitempty"`
}

// CommandKind is what a person may ask for.
type CommandKind string

// The commands.
const (
	Pause   CommandKind = "Pause"
	Resume  CommandKind = "Resume"
	Promote CommandKind = "Promote" // past the gates and the judge of the present step
	Abort   CommandKind = "Abort"
	Retry   CommandKind = "Retry" // a version that was gone back from
	Undo    CommandKind = "Undo"  // to the version before, by a rollout of its own
)

// Command is what a person asks for; each ID is obeyed once.
type Command struct {
	ID   string      `json:"id"`
	Kind CommandKind `json:"kind"`
	By   string      `json:"by,omitempty"`
}

// Observation is what is seen at one moment.
type Observation struct {
	Workload *Workload          `json:"workload"` // nil: it does not exist
	Versions map[string]Version `json:"versions"` // by template
	// Weight is the share of traffic of the new version that is in force, as read back; nil where no router is configured or
	// it did not answer.
	Weight *float64 `json:"weight,omitempty"`
	// Match is which requests go to the new version besides that share, in the words of Step.Match; it is in force where Weight is.
	Match string `json:"match,omitempty"`
	// Stable is the template that routers and records have as the stable one.
	Stable  string             `json:"stable,omitempty"`
	Verdict Verdict            `json:"verdict,omitzero"`
	Gates   map[string]Verdict `json:"gates,omitempty"` // of webhooks, by name; Key as for the judge
	// Wait is why Admit does not let the schedule start yet; "" where it does.
	Wait    string  `json:"wait,omitempty"`
	Command Command `json:"command,omitzero"`
	// Conflict is what others wrote to the router's objects in the middle of the update, "" where nothing.
	Conflict string `json:"conflict,omitempty"`
	// Lost are those of the state's templates that the workload cannot be given again, since nobody keeps them any more: their
	// ReplicaSets or ControllerRevisions are gone (revisionHistoryLimit).
	Lost []string `json:"lost,omitempty"`
	// Release says that the policy is being removed.
	Release bool `json:"release,omitempty"`
	// Announced is the Seq of the last Event that the caller has published.
	Announced int `json:"announced,omitempty"`
}

// Event is something a person should read.
type Event struct {
	Seq     int       `json:"seq"`
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
}

// State is all that a rollout remembers. It is stored as JSON after each Next; Next never changes what it points to.
type State struct {
	Phase    Phase  `json:"phase"`
	UID      string `json:"uid,omitempty"`
	Original Fields `json:"original,omitzero"`
	// From is the stable template, To the one that is rolled out, Previous the stable one before From.
	From     string `json:"from,omitempty"`
	To       string `json:"to,omitempty"`
	Previous string `json:"previous,omitempty"`
	// Failed was gone back from, and is not tried again unless told; Queued waits until NotBefore.
	Failed    string    `json:"failed,omitempty"`
	Queued    string    `json:"queued,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	// Known was stable before, and a person asked to have it again: its rollout is not judged.
	Known string `json:"known,omitempty"`

	Schedule *Schedule `json:"schedule,omitempty"`
	Step     int       `json:"step,omitempty"`
	Replicas int       `json:"replicas,omitempty"` // for which the step's numbers are
	Since    time.Time `json:"since,omitzero"`     // of the phase
	Attempt  int       `json:"attempt,omitempty"`  // counts settlings, so that verdicts belong to one
	// Passed says that a person let the present step pass, Frozen that a person paused the rollout.
	Passed bool `json:"passed,omitempty"`
	Frozen bool `json:"frozen,omitempty"`
	// Tried are the sources whose pods stayed Unschedulable.
	Tried []string `json:"tried,omitempty"`
	// Unblocked is when a Ready pod was last given up for one that finds no GPU.
	Yielded time.Time `json:"yielded,omitzero"`
	// Mixed says that pods of a third version may be left.
	Mixed bool `json:"mixed,omitempty"`

	// Wanted are the fields last asked for; InForce says that they have been seen in force since.
	Wanted     Fields `json:"wanted,omitzero"`
	InForce    bool   `json:"inForce,omitempty"`
	Reasserted int    `json:"reasserted,omitempty"`

	Handled string  `json:"handled,omitempty"` // the last command's ID
	Seq     int     `json:"seq,omitempty"`
	Events  []Event `json:"events,omitempty"` // the newest mostEvents
	// Reason and Message are the present condition.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

const (
	mostEvents    = 16
	mostReasserts = 5
	// retryAfter is how long a version that gave up its GPUs, or got none, waits before it is planned again.
	retryAfter = 5 * time.Minute
)

// Key names what a verdict must be about: the step of the version since it last settled.
func (s *State) Key() string { return fmt.Sprintf("%s/%d/%d", s.To, s.Step, s.Attempt) }

// step is the present one.
func (s *State) step() Step {
	if s.Schedule == nil || s.Step >= len(s.Schedule.Steps) {
		return Step{}
	}
	return s.Schedule.Steps[s.Step]
}

// say makes something the present condition, and an event unless there was the same in this phase.
func (s *State) say(now time.Time, reason, message string) {
	if s.Reason == reason && s.Message == message {
		return
	}
	s.Reason, s.Message = reason, message
	for _, e := range s.Events {
		if e.Reason == reason && e.Message == message && !e.At.Before(s.Since) {
			return
		}
	}
	s.Seq++
	kept := s.Events[max(0, len(s.Events)-mostEvents+1):]
	s.Events = slices.Concat(kept, []Event{{s.Seq, now, reason, message}})
}

// enter goes to a phase.
func (s *State) enter(p Phase, now time.Time) { s.Phase, s.Since = p, now }

// An Action is what the caller is to do, in the order given. Each may be repeated.
type Action interface{ action() }

// Patch writes all held fields, and the template where it is not "", in one write by one field manager.
type Patch struct {
	Fields   Fields `json:"fields"`
	Template string `json:"template,omitempty"`
}

// SetWeight sends a share of traffic, 0 to 1, to the pods of New and the rest to those of Old.
type SetWeight struct {
	Old    string  `json:"old"`
	New    string  `json:"new"`
	Weight float64 `json:"weight"`
	Match  string  `json:"match,omitempty"`
}

// Finish makes a template the stable one, in routers and records. All traffic goes to it.
type Finish struct {
	Stable string `json:"stable"`
}

// Yield deletes the Ready pod of the highest ordinal that has a template, so that one which is to follow it finds a GPU: the
// StatefulSet controller, in OrderedReady, replaces nothing while a pod waits for one.
type Yield struct {
	Template string `json:"template"`
}

// Clean removes what routers and records have of a workload that is gone, or whose policy is.
type Clean struct{}

// Announce publishes an event.
type Announce struct{ Event }

func (Patch) action()     {}
func (SetWeight) action() {}
func (Finish) action()    {}
func (Yield) action()     {}
func (Clean) action()     {}
func (Announce) action()  {}
