package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ScalePolicyStatus tells what the scaler decided and what it has learnt. It is written when something of note changes, else
// every 30 s.
type ScalePolicyStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions hold Ready: True with the reason Decided or Held (data is missing, replicas stay), False with Invalid (the
	// message names the field), TargetNotFound, NoSelector or AutoscalerConflict, Unknown with Pending.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// currentReplicas are those that the target asks for now, desiredReplicas those decided, reactiveReplicas those that
	// present demand alone would have asked for.
	//
	// +optional
	CurrentReplicas *int32 `json:"currentReplicas,omitempty"`
	// +optional
	DesiredReplicas *int32 `json:"desiredReplicas,omitempty"`
	// +optional
	ReactiveReplicas *int32 `json:"reactiveReplicas,omitempty"`

	// limit is what bound the decision.
	//
	// +optional
	Limit string `json:"limit,omitempty"`

	// demand is what was measured and what was forecast.
	//
	// +optional
	Demand *DemandStatus `json:"demand,omitempty"`

	// forecasts are the skills of the forecaster in use at each horizon.
	//
	// +optional
	// +listType=atomic
	Forecasts []ForecastStatus `json:"forecasts,omitempty"`

	// capacity is what one replica serves within the SLO, per version and GPU model.
	//
	// +optional
	// +listType=atomic
	Capacity []CapacityStatus `json:"capacity,omitempty"`

	// startup is how long pods take to serve.
	//
	// +optional
	Startup *StartupStatus `json:"startup,omitempty"`

	// history is the demand of the past that forecasts rest on.
	//
	// +optional
	History *HistoryStatus `json:"history,omitempty"`

	// decisions are the last ones that changed something, newest first.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Decisions []DecisionRecord `json:"decisions,omitempty"`

	// account is what was used and what the policy would have used, since it began.
	//
	// +optional
	Account *AccountStatus `json:"account,omitempty"`
}

// DemandStatus is demand, measured and forecast. Numbers are quantities, since the API has no floats.
type DemandStatus struct {
	// +optional
	Current *resource.Quantity `json:"current,omitempty"`
	// +optional
	Predicted *resource.Quantity `json:"predicted,omitempty"`
	// predictedFor is the time that predicted is about.
	//
	// +optional
	PredictedFor *metav1.Time `json:"predictedFor,omitempty"`
	// previouslyPredicted is what had been predicted for now, at the policy's quantile.
	//
	// +optional
	PreviouslyPredicted *resource.Quantity `json:"previouslyPredicted,omitempty"`
	// queue is the number of waiting requests.
	//
	// +optional
	Queue *resource.Quantity `json:"queue,omitempty"`
	// missing says why there is no current demand.
	//
	// +optional
	Missing string `json:"missing,omitempty"`
}

// ForecastStatus is the skill of a forecaster.
type ForecastStatus struct {
	Horizon metav1.Duration `json:"horizon"`
	Method  string          `json:"method"`
	// scorePercent is by how much its loss is below last-value's, in percent.
	//
	// +optional
	ScorePercent *int32 `json:"scorePercent,omitempty"`
	Samples      int32  `json:"samples"`
	// inUse says that it beats last-value and sets the floor.
	InUse bool `json:"inUse"`
}

// CapacityStatus is what one replica serves.
type CapacityStatus struct {
	// +optional
	Version string `json:"version,omitempty"`
	// +optional
	GPU        string            `json:"gpu,omitempty"`
	PerReplica resource.Quantity `json:"perReplica"`
	// source is Stated, Learnt, or AtLeast: no load was seen that broke the SLO.
	Source  string `json:"source"`
	Samples int32  `json:"samples"`
}

// StartupStatus is how long pods take from their creation until they serve.
type StartupStatus struct {
	Source string `json:"source"`
	// +optional
	P50 *metav1.Duration `json:"p50,omitempty"`
	// +optional
	P90 *metav1.Duration `json:"p90,omitempty"`
	// scheduling, starting and loading are the medians of its parts: until a node was found, until the containers ran, and
	// until they were ready.
	//
	// +optional
	Scheduling *metav1.Duration `json:"scheduling,omitempty"`
	// +optional
	Starting *metav1.Duration `json:"starting,omitempty"`
	// +optional
	Loading *metav1.Duration `json:"loading,omitempty"`
	Samples int32            `json:"samples"`
}

// HistoryStatus is the demand of the past.
type HistoryStatus struct {
	// since is the start of the oldest step that is known.
	Since metav1.Time `json:"since"`
	// samples is how many steps of it are known.
	Samples int32 `json:"samples"`
	// source says where it came from when the controller started: Prometheus, Checkpoint, or Observed where it began anew.
	Source string `json:"source"`
}

// DecisionRecord is one decision.
type DecisionRecord struct {
	Time     metav1.Time `json:"time"`
	From     int32       `json:"from"`
	To       int32       `json:"to"`
	Reactive int32       `json:"reactive"`
	Limit    string      `json:"limit"`
	Message  string      `json:"message"`
}

// AccountStatus compares replica-hours since a time.
type AccountStatus struct {
	Since metav1.Time `json:"since"`
	// usedReplicaHours is what the target had, policyReplicaHours what the policy would have had.
	UsedReplicaHours   resource.Quantity `json:"usedReplicaHours"`
	PolicyReplicaHours resource.Quantity `json:"policyReplicaHours"`
	// shortReplicaHours is by how much demand exceeded the capacity of what the target had.
	ShortReplicaHours resource.Quantity `json:"shortReplicaHours"`
	// policyShortReplicaHours is the same for what the policy would have had, its start-up time counted.
	PolicyShortReplicaHours resource.Quantity `json:"policyShortReplicaHours"`
}
