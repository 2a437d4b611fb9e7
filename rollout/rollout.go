// Package rollout finds the capacity for an update of a GPU service before it starts, and then takes it there step by step.
//
// Plan turns what is known (replicas, demand, start-up and drain times, where GPUs could come from) into a Schedule: steps of
// (maxSurge, maxUnavailable, traffic weight) with makespan, least capacity, GPUs and cost; or into a Refusal that says what is
// missing and what would make it possible. Admit shares one GPU budget among several schedules. Advise says which strategy
// suits a service.
//
// Next takes a rollout on: it maps a State and an Observation to the next State and the Actions still to be taken. It is
// level-triggered: actions are the difference between what the state wants and what is observed, so a controller that died
// after any write goes on from whichever state it had stored, and replaying an observation gives the same actions.
//
// # The hold
//
// A Deployment's own fields hold it at an exact mix of two versions. The Deployment controller gives up old pods only for new
// ones that are available, that is Ready for minReadySeconds; with minReadySeconds of a day, N replicas, maxSurge s and
// maxUnavailable u it settles at N-u old and s+u new pods, all serving. Once settled it is paused. New minReadySeconds are taken
// over by the new version's ReplicaSet alone; they are raised in the patch that lets the new template roll, and restored in the
// patch that finishes or goes back. At rest the Deployment stays paused, so that a new template waits for its plan.
//
// # What holds
//
//   - What the schedule says is served (Schedule.Least) is served while demand and start-up times keep to what was planned with.
//   - No version is promoted whose steps were not passed by the judge or by a person, whatever is scaled, re-applied or restarted.
//   - minReadySeconds, progressDeadlineSeconds, the strategy and its two numbers are as the user wrote them once it is over.
//   - Old replicas are not given up for new ones that are not Ready, beyond what demand leaves free.
//
// The package knows no Kubernetes and no clock. The lists of sources are in replicas, as rollout/placement counts them.
package rollout

import "time"

// Strategy is how a service is updated.
type Strategy string

// The strategies.
const (
	Rolling   Strategy = "Rolling"
	Recreate  Strategy = "Recreate"
	BlueGreen Strategy = "BlueGreen"
	Canary    Strategy = "Canary"
)

// Kind is the kind of workload that is updated.
type Kind string

// The kinds. A StatefulSet is held by its partition, a DaemonSet cannot be held at a mix.
const (
	Deployment  Kind = "Deployment"
	StatefulSet Kind = "StatefulSet"
	DaemonSet   Kind = "DaemonSet"
)

// Span is a time that varies: its median and its 90th percentile. Plans keep their promises with P90.
type Span struct {
	P50 time.Duration `json:"p50"`
	P90 time.Duration `json:"p90"`
}

// Service is what is updated.
type Service struct {
	Kind     Kind `json:"kind,omitempty"` // default Deployment
	Replicas int  `json:"replicas"`
	// GPUs are those of one replica.
	GPUs int `json:"gpus"`
	// Capacity is the demand that one replica serves within the SLO, in the unit of the demand.
	Capacity float64 `json:"capacity"`
	// StartUp is the time from a GPU's being free to the pod's first answer, Drain the time from a pod's deletion to its
	// GPU's being free.
	StartUp Span `json:"startUp"`
	Drain   Span `json:"drain"`
	// Serial says that a StatefulSet's pods are replaced one at a time (its maxUnavailable, 1 by default).
	Serial bool `json:"serial,omitempty"`
	// Router says that traffic can be split by weights; without, each Ready pod gets the same share.
	Router bool `json:"router,omitempty"`
}

// SourceKind is where capacity may come from.
type SourceKind string

// The kinds of sources, in the order in which they should be given.
const (
	// Free are replicas that fit on GPUs that nobody uses.
	Free SourceKind = "Free"
	// Spare are replicas of the service itself that neither demand nor the reserve needs. Their number comes from the demand.
	Spare SourceKind = "Spare"
	// Preempt are placeholder pods of negative priority, or named preemptible workloads; Delay is their grace period.
	Preempt SourceKind = "Preempt"
	// Provision are nodes still to be made: a ProvisioningRequest, a CapacityBuffer, or pending placeholder pods.
	Provision SourceKind = "Provision"
	// Degrade are the replicas kept as the reserve for failures: only demand is then served. Their number comes from the demand.
	Degrade SourceKind = "Degrade"
)

// Source is capacity that an update may use. Sources are tried in order; those that are not listed are not touched.
type Source struct {
	Kind SourceKind `json:"kind"`
	Name string     `json:"name,omitempty"`
	// Replicas is how many more pods of the service fit there; not used for Spare and Degrade.
	Replicas int `json:"replicas,omitempty"`
	// Delay is the expected time from asking for it to its being usable.
	Delay time.Duration `json:"delay,omitempty"`
}

// label names a source in messages.
func (s Source) label() string {
	if s.Name != "" {
		return string(s.Kind) + " (" + s.Name + ")"
	}
	return string(s.Kind)
}

// extra says whether the source brings GPUs beyond the service's own.
func (s Source) extra() bool { return s.Kind == Free || s.Kind == Preempt || s.Kind == Provision }

// CanaryStep is a part of the way. Exactly one of Percent and Replicas is set.
type CanaryStep struct {
	// Percent is the share of the service's replicas that the new version is to have, rounded up.
	Percent float64 `json:"percent,omitempty"`
	// Replicas is that number itself.
	Replicas int `json:"replicas,omitempty"`
	// Weight is the share of traffic in percent that goes to the new version; 0: as much as lets each of its pods carry what an
	// old one carries.
	Weight float64 `json:"weight,omitempty"`
	// Header or cookie requests only: Weight counts for nothing, the router sends what matches.
	Match string `json:"match,omitempty"`
	Gates []Gate `json:"gates,omitempty"`
	// Unjudged lets the step pass without the judge. Gates still count.
	Unjudged bool `json:"unjudged,omitempty"`
}

// Policy is what the owner of a service asks for. Zero values mean the defaults.
type Policy struct {
	Strategy Strategy `json:"strategy,omitempty"` // default Rolling
	// Reserve is how many replicas may fail at any time without demand being missed.
	Reserve int `json:"reserve,omitempty"`
	// Downtime is consent to Recreate.
	Downtime bool `json:"downtime,omitempty"`
	// KeepOld is for how long blue/green keeps the old version after the switch, for instant return.
	KeepOld time.Duration `json:"keepOld,omitempty"`
	// NoShrink forbids blue/green to run both versions below full size.
	NoShrink bool `json:"noShrink,omitempty"`
	// Steps are the canary's; default 10 % and 50 %.
	Steps []CanaryStep `json:"steps,omitempty"`
	// Gates are passed before blue/green switches.
	Gates []Gate `json:"gates,omitempty"`
	// Unjudged lets blue/green switch without the judge. Gates still count.
	Unjudged bool `json:"unjudged,omitempty"`
	// InstantReturn keeps, at each step that is judged, as many old replicas as demand and reserve need.
	InstantReturn bool `json:"instantReturn,omitempty"`
	// MaxSurge and MaxUnavailable bound what a plan may choose; nil: no bound.
	MaxSurge       *int `json:"maxSurge,omitempty"`
	MaxUnavailable *int `json:"maxUnavailable,omitempty"`
	// Within is the longest makespan that is accepted; 0: any. Sources beyond the first that suffice are used to keep it.
	Within time.Duration `json:"within,omitempty"`
	// Hold is the time that a judged step is expected to take. Default 5 min.
	Hold time.Duration `json:"hold,omitempty"`

	OnForeign     Reaction       `json:"onForeign,omitempty"`     // default Reassert
	OnNewTemplate TemplateChange `json:"onNewTemplate,omitempty"` // default Restart
	Deadlines     Deadlines      `json:"deadlines,omitzero"`
}

// Request is all that a plan rests on.
type Request struct {
	Now     time.Time `json:"now"`
	Service Service   `json:"service"`
	Policy  Policy    `json:"policy"`
	Demand  Forecast  `json:"demand"`
	Sources []Source  `json:"sources,omitempty"`
}

// Step is one setting of the Deployment's fields, and what it settles at.
type Step struct {
	Name        string `json:"name"`
	Surge       int    `json:"surge"`
	Unavailable int    `json:"unavailable"`
	// Old and New are the replicas of each version once it has settled.
	Old int `json:"old"`
	New int `json:"new"`
	// Weight is the share of traffic of the new version, 0 to 1, once it has settled.
	Weight float64 `json:"weight"`
	Match  string  `json:"match,omitempty"`
	// Share is the share of replicas that the new version was asked to have, where it was a share; 0 to 1.
	Share float64 `json:"share,omitempty"`
	// Held steps stop at their mix; others roll on until no old replica is left.
	Held bool `json:"held,omitempty"`
	// Judged steps go on only when the judge, or a person, says so.
	Judged bool   `json:"judged,omitempty"`
	Gates  []Gate `json:"gates,omitempty"`
	// Keep is how long the step lasts once its gates are passed.
	Keep time.Duration `json:"keep,omitempty"`
	// Starts and Settles are when it is expected to begin and to be reached, from the start of the rollout.
	Starts  time.Duration `json:"starts"`
	Settles time.Duration `json:"settles"`
	// Least is the fewest Ready replicas on the way to it.
	Least int `json:"least"`
	// Return is how long going back takes until old replicas alone serve demand and reserve: 0 is instant.
	Return time.Duration `json:"return"`
}

// Use is what a schedule takes from a source.
type Use struct {
	Source   Source `json:"source"`
	Replicas int    `json:"replicas"`
	GPUs     int    `json:"gpus"`
}

// Low is the moment at which least is left above demand.
type Low struct {
	After    time.Duration `json:"after"` // from the start of the rollout
	Replicas int           `json:"replicas"`
	Capacity float64       `json:"capacity"`
	Demand   float64       `json:"demand"`
}

// Schedule is how a service is going to be updated.
type Schedule struct {
	Strategy Strategy `json:"strategy"`
	Kind     Kind     `json:"kind"`
	Replicas int      `json:"replicas"`
	// Needed is how many replicas the largest demand within the makespan needs, Reserve those for failures.
	Needed  int    `json:"needed"`
	Reserve int    `json:"reserve"`
	Steps   []Step `json:"steps"`
	// Makespan is the time until the last old pod has left its GPU, at p90 of start-up and drain; Typical the same at p50. Holds
	// and kept versions are in it, at Policy.Hold and Policy.KeepOld.
	Makespan time.Duration `json:"makespan"`
	Typical  time.Duration `json:"typical"`
	// Downtime is for how long no replica is Ready.
	Downtime time.Duration `json:"downtime,omitempty"`
	Least    Low           `json:"least"`
	// Peak is the most GPUs that are in use at a time, pods that end included; Extra is what of it exceeds the service's own.
	Peak  int   `json:"peak"`
	Extra int   `json:"extra"`
	Uses  []Use `json:"uses,omitempty"`
	// GPUHours are those beyond what the service itself uses.
	GPUHours float64 `json:"gpuHours"`
	// Notes say what a reader might not expect.
	Notes []string `json:"notes,omitempty"`
}
