package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// ConditionProgressing is True while an update is under way.
	ConditionProgressing = "Progressing"
	// ConditionCompleted is True when every replica runs the workload's newest template.
	ConditionCompleted = "Completed"
	// AnnotationRolloutCommand on a RolloutPolicy is what a person asks for: a RolloutCommand as JSON. Each id is obeyed once.
	AnnotationRolloutCommand = "headroom.dev/rollout-command"
	// AnnotationChangeReason on a pod template, or on the workload, says why a version was made; kubernetes.io/change-cause does,
	// too.
	AnnotationChangeReason = "headroom.dev/change-reason"
	// AnnotationModelVersion on a pod template names the model that a version serves, where its arguments do not.
	AnnotationModelVersion = "headroom.dev/model-version"
	// FinalizerRollout lets a policy that is deleted first put the workload's fields and its traffic back.
	FinalizerRollout = "headroom.dev/rollout"
)

// RolloutCommand is what a person asks for. Kind is Pause, Resume, Promote, Abort, Retry or Undo.
type RolloutCommand struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
	By   string `json:"by,omitempty"`
}

// RolloutPolicyStatus tells where an update stands, how it is planned and why.
type RolloutPolicyStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions hold Ready (the policy is in force; False with Invalid, TargetNotFound, Duplicate, RouterNotFound: the message
	// names the field), Progressing (True while an update is under way) and Completed (True when every replica runs the newest
	// template; False with the reason why not: Planning, Refused, Waiting, Progressing, Paused, Inconclusive, WentBack…).
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// targetGeneration is the workload's metadata.generation that this status has seen; absent where there is no workload.
	//
	// +optional
	TargetGeneration int64 `json:"targetGeneration,omitempty"`

	// handledCommand is the id of the last command in headroom.dev/rollout-command that was obeyed.
	//
	// +optional
	HandledCommand string `json:"handledCommand,omitempty"`

	// phase is Resting, Planning, Moving, Settled, GoingBack, Restoring, Released or Gone.
	//
	// +optional
	Phase string `json:"phase,omitempty"`

	// message is the present reason in a sentence.
	//
	// +optional
	Message string `json:"message,omitempty"`

	// paused says that a person paused the update.
	//
	// +optional
	Paused bool `json:"paused,omitempty"`

	// stable is the version that serves, update the one that is rolled out or waits.
	//
	// +optional
	Stable *RolloutVersion `json:"stable,omitempty"`
	// +optional
	Update *RolloutVersion `json:"update,omitempty"`

	// step is the present one.
	//
	// +optional
	Step *RolloutStep `json:"step,omitempty"`

	// plan is how the update is going to be done, refusal why it cannot start.
	//
	// +optional
	Plan *RolloutPlan `json:"plan,omitempty"`
	// +optional
	Refusal *RolloutRefusal `json:"refusal,omitempty"`

	// basis is what plan or refusal rest on.
	//
	// +optional
	Basis *RolloutBasis `json:"basis,omitempty"`

	// traffic is what the router has in force.
	//
	// +optional
	Traffic *RolloutTraffic `json:"traffic,omitempty"`

	// verdict is the judge's about the present step.
	//
	// +optional
	Verdict *RolloutVerdict `json:"verdict,omitempty"`

	// startedAt is when the present update began.
	//
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`

	// history are the updates that have ended, newest first.
	//
	// +optional
	// +listType=atomic
	History []RolloutRecord `json:"history,omitempty"`
}

// RolloutVersion is one pod template of the workload with its pods.
type RolloutVersion struct {
	// id identifies the template.
	ID string `json:"id"`
	// hash is the value of pod-template-hash, or controller-revision-hash, on its pods; empty before there are any.
	//
	// +optional
	Hash string `json:"hash,omitempty"`
	// revision is as kubectl rollout history counts.
	//
	// +optional
	Revision int64 `json:"revision,omitempty"`
	// images are by container.
	//
	// +optional
	Images map[string]string `json:"images,omitempty"`
	// model is what it serves: from headroom.dev/model-version or the engine's arguments.
	//
	// +optional
	Model string `json:"model,omitempty"`
	// reason is why it was made.
	//
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	Replicas int32 `json:"replicas"`
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`
	// noGPU, loading and broken count pods that are not Ready, by why.
	//
	// +optional
	NoGPU int32 `json:"noGPU,omitempty"`
	// +optional
	Loading int32 `json:"loading,omitempty"`
	// +optional
	Broken int32 `json:"broken,omitempty"`
}

// RolloutStep is one setting of the workload's fields, and what it settles at.
type RolloutStep struct {
	Name string `json:"name"`
	// index counts from 1.
	//
	// +optional
	Index          int32 `json:"index,omitempty"`
	MaxSurge       int32 `json:"maxSurge"`
	MaxUnavailable int32 `json:"maxUnavailable"`
	// old and new are the replicas of each version once it has settled.
	Old int32 `json:"old"`
	New int32 `json:"new"`
	// weightPercent is the new version's share of requests once it has settled.
	//
	// +optional
	WeightPercent string `json:"weightPercent,omitempty"`
	// +optional
	Match string `json:"match,omitempty"`
	// +optional
	Judged bool `json:"judged,omitempty"`
	// gates are named.
	//
	// +optional
	// +listType=atomic
	Gates []string `json:"gates,omitempty"`
	// starts and settles are when it is expected to begin and to be reached, from the start of the update.
	//
	// +optional
	Starts *metav1.Duration `json:"starts,omitempty"`
	// +optional
	Settles *metav1.Duration `json:"settles,omitempty"`
	// least is the fewest Ready replicas on the way to it.
	Least int32 `json:"least"`
	// return is how long going back from it takes until old replicas alone serve demand and reserve.
	//
	// +optional
	Return *metav1.Duration `json:"return,omitempty"`
}

// RolloutPlan is how a workload is going to be updated.
type RolloutPlan struct {
	Strategy string `json:"strategy"`
	// +listType=atomic
	Steps []RolloutStep `json:"steps"`
	// makespan is the time until the last old pod has left its GPU, at the 90th percentile of start-up and drain, typical at the median.
	Makespan metav1.Duration `json:"makespan"`
	Typical  metav1.Duration `json:"typical"`
	// downtime is for how long no replica is Ready.
	//
	// +optional
	Downtime *metav1.Duration `json:"downtime,omitempty"`
	// leastReplicas and leastCapacity are what serves when least is left above leastDemand.
	LeastReplicas int32              `json:"leastReplicas"`
	LeastCapacity *resource.Quantity `json:"leastCapacity,omitempty"`
	LeastDemand   *resource.Quantity `json:"leastDemand,omitempty"`
	// gpus are the most in use at a time, extraGPUs what of them exceeds the service's own.
	GPUs      int32 `json:"gpus"`
	ExtraGPUs int32 `json:"extraGPUs"`
	// gpuHours are those beyond what the service itself uses.
	//
	// +optional
	GPUHours *resource.Quantity `json:"gpuHours,omitempty"`
	// uses are what is taken from each source.
	//
	// +optional
	// +listType=atomic
	Uses []RolloutUse `json:"uses,omitempty"`
	// notes say what a reader might not expect.
	//
	// +optional
	// +listType=atomic
	Notes []string `json:"notes,omitempty"`
}

// RolloutUse is what a plan takes from a source.
type RolloutUse struct {
	Source   string `json:"source"`
	Replicas int32  `json:"replicas"`
	GPUs     int32  `json:"gpus"`
}

// RolloutRefusal says why an update is not started, and what would make it possible.
type RolloutRefusal struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// remedies are what would make a plan possible, one sentence each.
	//
	// +optional
	// +listType=atomic
	Remedies []string `json:"remedies,omitempty"`
}

// RolloutBasis is what a plan rests on.
type RolloutBasis struct {
	Replicas int32 `json:"replicas"`
	// gpus are those of one replica.
	GPUs int32 `json:"gpus"`
	// capacity is the demand that one replica serves; demand is the present one, peak the largest within the plan. Absent where
	// unknown, and then missing says why.
	//
	// +optional
	Capacity *resource.Quantity `json:"capacity,omitempty"`
	// +optional
	Demand *resource.Quantity `json:"demand,omitempty"`
	// +optional
	Peak *resource.Quantity `json:"peak,omitempty"`
	// +optional
	Missing string `json:"missing,omitempty"`
	// startup and drain are at the 90th percentile.
	Startup metav1.Duration `json:"startup"`
	Drain   metav1.Duration `json:"drain"`
	// sources are what each source has.
	//
	// +optional
	// +listType=atomic
	Sources []RolloutSource `json:"sources,omitempty"`
}

// RolloutSource is what a source of capacity has.
type RolloutSource struct {
	Kind string `json:"kind"`
	// +optional
	Name string `json:"name,omitempty"`
	// replicas is how many more pods of the service fit there.
	Replicas int32 `json:"replicas"`
	// message says why no more, or why it is not known.
	//
	// +optional
	Message string `json:"message,omitempty"`
}

// RolloutTraffic is what a router has in force.
type RolloutTraffic struct {
	// weightPercent is the new version's share of requests; absent where the router does not say.
	//
	// +optional
	WeightPercent string `json:"weightPercent,omitempty"`
	// message says what is waited for.
	//
	// +optional
	Message string `json:"message,omitempty"`
}

// RolloutVerdict is what the judge says of the present step.
type RolloutVerdict struct {
	// result is Pass, Fail or Inconclusive.
	Result  string `json:"result"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
	Looks   int32  `json:"looks"`
	// +optional
	At *metav1.Time `json:"at,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=name
	Metrics []RolloutMetricVerdict `json:"metrics,omitempty"`
}

// RolloutMetricVerdict is what the judge says of one metric.
type RolloutMetricVerdict struct {
	Name    string `json:"name"`
	Result  string `json:"result"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
	// old and new are the error rate, the quantile in the histogram's unit, or the gauge; ratio is new over old, with its
	// time-uniform interval.
	//
	// +optional
	Old string `json:"old,omitempty"`
	// +optional
	New string `json:"new,omitempty"`
	// +optional
	Ratio string `json:"ratio,omitempty"`
}

// RolloutRecord is an update that has ended.
type RolloutRecord struct {
	// revision, id, hash, images, model and reason are of the version that was rolled out.
	//
	// +optional
	Revision int64  `json:"revision,omitempty"`
	ID       string `json:"id"`
	// +optional
	Hash string `json:"hash,omitempty"`
	// +optional
	Images map[string]string `json:"images,omitempty"`
	// +optional
	Model string `json:"model,omitempty"`
	// +optional
	Reason string `json:"reason,omitempty"`
	// from is the id of the version before.
	//
	// +optional
	From string `json:"from,omitempty"`
	// +optional
	Strategy string `json:"strategy,omitempty"`
	// outcome is Completed or the reason for going back: Failed, Broken, NeverReady, NoGPU, Aborted, Undone, LiveLoad…
	Outcome string `json:"outcome"`
	Message string `json:"message,omitempty"`
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	EndedAt   metav1.Time  `json:"endedAt"`
}
