package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ResourceRecommendation says what the containers of a workload should request: CPU, memory and GPU, with the evidence. It
// changes nothing by itself. The controller makes one for each workload of the namespaces labelled headroom.dev/recommend=true,
// owned by the workload; anyone may write one for a workload that has none.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=rr,categories=headroom
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.targetRef.kind`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRef.name`
// +kubebuilder:printcolumn:name="CPU",type=string,JSONPath=`.status.total.cpu`
// +kubebuilder:printcolumn:name="Recommended",type=string,JSONPath=`.status.recommended.cpu`
// +kubebuilder:printcolumn:name="Memory",type=string,JSONPath=`.status.total.memory`
// +kubebuilder:printcolumn:name="Recommended",type=string,JSONPath=`.status.recommended.memory`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
type ResourceRecommendation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec ResourceRecommendationSpec `json:"spec"`
	// +optional
	Status ResourceRecommendationStatus `json:"status,omitzero"`
}

// LabelRecommend on a namespace, with the value "true", asks for a ResourceRecommendation for each of its workloads.
const LabelRecommend = Group + "/recommend"

// ResourceRecommendationSpec is what the owner of a workload asks for.
type ResourceRecommendationSpec struct {
	// targetRef names the workload: a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob, LeaderWorkerSet, or any other
	// that controls pods, through whatever owns them.
	//
	// +required
	TargetRef TargetReference `json:"targetRef"`

	// estimator is Headroom, or VPA for the numbers that the stock VerticalPodAutoscaler would give. Default Headroom.
	//
	// +optional
	// +kubebuilder:default=Headroom
	Estimator RecommendationEstimator `json:"estimator,omitempty"`

	// risk bounds what may go wrong at the recommended requests.
	//
	// +optional
	Risk RecommendationRisk `json:"risk,omitzero"`

	// hold is for how long a recommendation is meant to stand: long where a change restarts pods, short where they are resized
	// in place. Default 1h for CPU, 24h for memory.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1h') && duration(self) <= duration('168h')",message="must be a duration from 1h to 168h, for example 24h"
	Hold *metav1.Duration `json:"hold,omitempty"`

	// containers are wishes for containers by name; the name * is for all that are not named.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Containers []ContainerRecommendationPolicy `json:"containers,omitempty"`

	// gpu is about GPUs.
	//
	// +optional
	GPU GPURecommendationPolicy `json:"gpu,omitzero"`
}

// RecommendationEstimator is how a recommendation is made.
//
// +kubebuilder:validation:Enum=Headroom;VPA
type RecommendationEstimator string

// The estimators.
const (
	EstimatorHeadroom RecommendationEstimator = "Headroom"
	EstimatorVPA      RecommendationEstimator = "VPA"
)

// RecommendationRisk bounds what may go wrong. Percentages are quantities: 2, "0.5".
type RecommendationRisk struct {
	// cpuPercent is the share of time in which a container may want more CPU than it requests. Default 2.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isGreaterThan(quantity('0')) && quantity(string(self)).isLessThan(quantity('50'))",message="must be above 0 and below 50"
	CPUPercent *resource.Quantity `json:"cpuPercent,omitempty"`

	// memoryPercent is the probability, for a day, that a container wants more memory than it requests. Default 1.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isGreaterThan(quantity('0')) && quantity(string(self)).isLessThan(quantity('50'))",message="must be above 0 and below 50"
	MemoryPercent *resource.Quantity `json:"memoryPercent,omitempty"`
}

// ContainerRecommendationPolicy is what is wished of a container.
type ContainerRecommendationPolicy struct {
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// mode is Auto, or Off for no recommendation. Default Auto.
	//
	// +optional
	// +kubebuilder:validation:Enum=Auto;Off
	Mode string `json:"mode,omitempty"`

	// minAllowed and maxAllowed clamp requests of cpu and memory.
	//
	// +optional
	MinAllowed corev1.ResourceList `json:"minAllowed,omitempty"`
	// +optional
	MaxAllowed corev1.ResourceList `json:"maxAllowed,omitempty"`
}

// GPURecommendationPolicy is about GPUs.
//
// +kubebuilder:validation:XValidation:rule="!has(self.sharing) || self.sharing.size() > 0",message="sharing must name at least one way"
type GPURecommendationPolicy struct {
	// sharing are the ways in which the workload may be given less than a GPU. Default MIG and Whole.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=3
	Sharing []GPUSharing `json:"sharing,omitempty"`
}

// GPUSharing is a way to be given a GPU or less.
//
// +kubebuilder:validation:Enum=Whole;MIG;TimeSlicing
type GPUSharing string

// The ways.
const (
	SharingWhole       GPUSharing = "Whole"
	SharingMIG         GPUSharing = "MIG"
	SharingTimeSlicing GPUSharing = "TimeSlicing"
)

// ConditionCheckpointSaved is a ResourceRecommendation's condition that says whether what was learnt outlives the controller.
const ConditionCheckpointSaved = "CheckpointSaved"

// Its reasons besides ReasonCheckpoint.
const (
	ReasonSaved       = "Saved"       // True
	ReasonWriteFailed = "WriteFailed" // False: the API server refused the checkpoint; it is tried again
)

// The reasons of a ResourceRecommendation's condition Ready besides Invalid, Pending and TargetNotFound.
const (
	ReasonRecommended = "Recommended" // True
	ReasonNoHistory   = "NoHistory"   // False: with the time when there will be one
	ReasonDuplicate   = "Duplicate"   // False: an older object is about the same workload
	ReasonCheckpoint  = "Checkpoint"  // False: the checkpoint cannot be read and is kept; the message names it
)

// ResourceRecommendationList is a list of ResourceRecommendations.
//
// +kubebuilder:object:root=true
type ResourceRecommendationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ResourceRecommendation `json:"items"`
}
