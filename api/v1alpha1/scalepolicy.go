package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ScalePolicy says how many replicas a service may have and what they must achieve. In mode Observe it records what it
// would do and what that would cost or save; in mode Act it publishes the external metric headroom_desired_replicas, and a
// HorizontalPodAutoscaler that it owns carries it out.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=sp,categories=headroom
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRef.name`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Min",type=integer,JSONPath=`.spec.minReplicas`
// +kubebuilder:printcolumn:name="Max",type=integer,JSONPath=`.spec.maxReplicas`
// +kubebuilder:printcolumn:name="Current",type=integer,JSONPath=`.status.currentReplicas`
// +kubebuilder:printcolumn:name="Desired",type=integer,JSONPath=`.status.desiredReplicas`
// +kubebuilder:printcolumn:name="Limit",type=string,JSONPath=`.status.limit`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
type ScalePolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec ScalePolicySpec `json:"spec"`
	// +optional
	Status ScalePolicyStatus `json:"status,omitzero"`
}

// ScalePolicySpec is what the owner of a service asks for.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",message="minReplicas must not be above maxReplicas"
// +kubebuilder:validation:XValidation:rule="!has(self.schedule) || self.schedule.all(s, s.minReplicas <= self.maxReplicas)",message="no floor of schedule may be above maxReplicas"
// +kubebuilder:validation:XValidation:rule="has(self.slo) || has(self.capacityPerReplica)",message="one of slo and capacityPerReplica must be set: without either nothing says how much a replica can serve"
type ScalePolicySpec struct {
	// targetRef names what is scaled: anything with a scale subresource, in the policy's namespace.
	//
	// +required
	TargetRef TargetReference `json:"targetRef"`

	// mode is Observe (decide and record, change nothing) or Act (carry it out through an HPA). Default Observe.
	//
	// +optional
	// +kubebuilder:default=Observe
	Mode ScaleMode `json:"mode,omitempty"`

	// minReplicas is the fewest replicas. Default 1.
	//
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	MinReplicas *int32 `json:"minReplicas,omitempty"`

	// maxReplicas is the most replicas.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	MaxReplicas int32 `json:"maxReplicas"`

	// demand is the quantity that adds up over the replicas. Default: the metric requests_per_second.
	//
	// +optional
	// +kubebuilder:default={metric: requests_per_second}
	Demand DemandSource `json:"demand,omitzero"`

	// slo is what a replica's load is judged by: how much one serves while this holds is its capacity.
	//
	// +optional
	SLO *ServiceLevel `json:"slo,omitempty"`

	// capacityPerReplica is the demand that one replica serves within the SLO, in the unit of demand, where it is known: 12 or
	// "2.5". It is then not learnt.
	//
	// +optional
	CapacityPerReplica *resource.Quantity `json:"capacityPerReplica,omitempty"`

	// startupTime is the time from a pod's creation until it serves, where it is known: 3m. It is then not learnt.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('24h')",message="must be a duration up to 24h, for example 90s or 3m"
	StartupTime *metav1.Duration `json:"startupTime,omitempty"`

	// utilizationPercent is the share of their capacity at which replicas are planned to run. Default 90.
	//
	// +optional
	// +kubebuilder:default=90
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=100
	UtilizationPercent int32 `json:"utilizationPercent,omitempty"`

	// forecast says how forecasts are used.
	//
	// +optional
	Forecast ForecastOptions `json:"forecast,omitzero"`

	// scaleDownWindow is for how long replicas are kept after they were last wanted, where no skilful forecast says that they
	// are not needed. Default 5m.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('1h')",message="must be a duration up to 1h, for example 30s or 5m"
	ScaleDownWindow *metav1.Duration `json:"scaleDownWindow,omitempty"`

	// schedule are floors by the clock: replicas that stand whatever demand is.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Schedule []ScheduledFloor `json:"schedule,omitempty"`

	// autoscaler is about the HorizontalPodAutoscaler that carries decisions out in mode Act.
	//
	// +optional
	Autoscaler AutoscalerOptions `json:"autoscaler,omitzero"`
}

// ScaleMode says whether decisions are carried out.
//
// +kubebuilder:validation:Enum=Observe;Act
type ScaleMode string

// The modes.
const (
	ModeObserve ScaleMode = "Observe"
	ModeAct     ScaleMode = "Act"
)

// TargetReference names an object with a scale subresource.
type TargetReference struct {
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	APIVersion string `json:"apiVersion"`
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// DemandSource says what demand is.
//
// +kubebuilder:validation:XValidation:rule="has(self.metric) != has(self.query)",message="exactly one of metric and query must be set"
type DemandSource struct {
	// metric is a metric of pods that adds up: requests_per_second, tokens_per_second or requests_in_flight, or any other that a
	// MetricRule defines for pods. A mean or a latency does not add up.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.matches('(latency|_ms$|_percent$|_ratio$|time_to_first)')",message="must add up over pods: requests_per_second, tokens_per_second or requests_in_flight, not a latency, percentage or ratio"
	Metric string `json:"metric,omitempty"`

	// query is a PromQL expression with one result, the demand of the whole service.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	Query string `json:"query,omitempty"`

	// concurrency says that demand is a number of requests in flight, which waiting requests are part of, not a rate. Default
	// false, and true for the metric requests_in_flight.
	//
	// +optional
	Concurrency *bool `json:"concurrency,omitempty"`
}

// ServiceLevel is what users of a service are promised.
type ServiceLevel struct {
	// metric is a latency of pods in milliseconds: time_to_first_token_p95_ms, request_latency_p95_ms, …
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Metric string `json:"metric"`

	// target is the largest value that keeps the promise: 500, for 500 ms.
	//
	// +required
	Target resource.Quantity `json:"target"`
}

// ForecastOptions say how forecasts are used.
type ForecastOptions struct {
	// disabled leaves decisions to present demand. Forecasts are made and scored all the same. Default false.
	//
	// +optional
	Disabled bool `json:"disabled,omitempty"`

	// quantilePercent is the quantile of the forecast that replicas must be ready for. Default 95.
	//
	// +optional
	// +kubebuilder:default=95
	// +kubebuilder:validation:Minimum=50
	// +kubebuilder:validation:Maximum=99
	QuantilePercent int32 `json:"quantilePercent,omitempty"`

	// step is the grid of the series that forecasts rest on. Default 1m; less only for tests with a compressed day.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('10m')",message="must be a duration from 1s to 10m"
	Step *metav1.Duration `json:"step,omitempty"`
}

// ScheduledFloor is a floor by the clock.
type ScheduledFloor struct {
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// start is when the floor begins, as a cron expression of five fields: "0 7 * * 1-5".
	//
	// +required
	// +kubebuilder:validation:MinLength=9
	// +kubebuilder:validation:MaxLength=128
	Start string `json:"start"`

	// duration is for how long it stands: 90m.
	//
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s') && duration(self) <= duration('168h')",message="must be a duration above 0s and up to 168h, for example 90m"
	Duration metav1.Duration `json:"duration"`

	// timeZone is the IANA name of start's time zone: Europe/Berlin. Default UTC.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	TimeZone string `json:"timeZone,omitempty"`

	// minReplicas is how many replicas stand. They are ordered early enough to serve at start.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	MinReplicas int32 `json:"minReplicas"`
}

// AutoscalerOptions are about the owned HorizontalPodAutoscaler.
type AutoscalerOptions struct {
	// name is the HPA's name. Default: the policy's.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// adopt takes over an HPA of this name, or one for the same target, that somebody else made. Without it such an HPA is left
	// alone and the policy says so. Default false.
	//
	// +optional
	Adopt bool `json:"adopt,omitempty"`
}

// The reasons of a ScalePolicy's condition Ready besides Invalid and Pending.
const (
	ReasonDecided            = "Decided"            // True
	ReasonHeld               = "Held"               // True: data is missing, replicas stay as they are
	ReasonTargetNotFound     = "TargetNotFound"     // False
	ReasonNoSelector         = "NoSelector"         // False: the target's scale has no selector
	ReasonAutoscalerConflict = "AutoscalerConflict" // False: another HPA scales the target
)

// MetricDesiredReplicas is the external metric that a ScalePolicy in mode Act publishes in its namespace, with the label
// scalepolicy.
const MetricDesiredReplicas = "headroom_desired_replicas"

// Annotations of an HPA that carries a ScalePolicy out.
const (
	// AnnotationOriginalSpec keeps the spec that an adopted HPA had, as JSON, for when the policy lets go of it.
	AnnotationOriginalSpec = Group + "/original-spec"
	// AnnotationRolloutFloor is the number of replicas that an update of the target needs for now: the HPA's minReplicas is not below
	// it, as far as the policy's maxReplicas lets it.
	AnnotationRolloutFloor = Group + "/rollout-floor"
)

// ScalePolicyList is a list of ScalePolicies.
//
// +kubebuilder:object:root=true
type ScalePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ScalePolicy `json:"items"`
}
