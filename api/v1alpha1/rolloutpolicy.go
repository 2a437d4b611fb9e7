package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RolloutPolicy has a workload updated by plan: a new pod template waits until there is capacity for it, goes out step by step,
// is judged against the version before, and goes back where it is worse. The workload stays a plain Deployment, StatefulSet or
// DaemonSet: the policy holds it by its own fields, and puts them back as they were when it is deleted.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=rop,categories=headroom
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRef.name`
// +kubebuilder:printcolumn:name="Strategy",type=string,JSONPath=`.spec.strategy`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Step",type=string,JSONPath=`.status.step.name`
// +kubebuilder:printcolumn:name="Old",type=integer,JSONPath=`.status.stable.readyReplicas`
// +kubebuilder:printcolumn:name="New",type=integer,JSONPath=`.status.update.readyReplicas`
// +kubebuilder:printcolumn:name="Traffic",type=string,JSONPath=`.status.traffic.weightPercent`
// +kubebuilder:printcolumn:name="Completed",type=string,JSONPath=`.status.conditions[?(@.type=="Completed")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=1
type RolloutPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec RolloutPolicySpec `json:"spec"`
	// +optional
	Status RolloutPolicyStatus `json:"status,omitzero"`
}

// RolloutPolicySpec is what the owner of a service asks for.
//
// +kubebuilder:validation:XValidation:rule="!has(self.canary) || self.strategy == 'Canary'",message="canary belongs to the strategy Canary"
// +kubebuilder:validation:XValidation:rule="!has(self.blueGreen) || self.strategy == 'BlueGreen'",message="blueGreen belongs to the strategy BlueGreen"
// +kubebuilder:validation:XValidation:rule="self.strategy != 'Recreate' || (has(self.acceptDowntime) && self.acceptDowntime)",message="Recreate takes the service away: acceptDowntime must be true"
// +kubebuilder:validation:XValidation:rule="!has(self.maxSurge) || !has(self.maxUnavailable) || self.maxSurge + self.maxUnavailable > 0",message="maxSurge and maxUnavailable are both 0: nothing could be updated"
type RolloutPolicySpec struct {
	// targetRef names what is updated: a Deployment, StatefulSet or DaemonSet of apps/v1, in the policy's namespace.
	//
	// +required
	// +kubebuilder:validation:XValidation:rule="self.apiVersion == 'apps/v1' && self.kind in ['Deployment', 'StatefulSet', 'DaemonSet']",message="must be a Deployment, StatefulSet or DaemonSet of apps/v1"
	TargetRef TargetReference `json:"targetRef"`

	// strategy is Rolling (the fastest plan that keeps demand and reserve served), Canary (a share first, judged), BlueGreen (the
	// new version complete before traffic is switched) or Recreate (with downtime). Default Rolling.
	//
	// +optional
	// +kubebuilder:default=Rolling
	Strategy RolloutStrategy `json:"strategy,omitempty"`

	// canary are the steps of the strategy Canary. Default: 10 % and 50 % of the replicas, each judged.
	//
	// +optional
	Canary *CanaryStrategy `json:"canary,omitempty"`

	// blueGreen are options of the strategy BlueGreen.
	//
	// +optional
	BlueGreen *BlueGreenStrategy `json:"blueGreen,omitempty"`

	// acceptDowntime is consent to the strategy Recreate. Default false.
	//
	// +optional
	AcceptDowntime bool `json:"acceptDowntime,omitempty"`

	// reserve is how many replicas may fail at any time of an update without demand being missed. Default 0.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Reserve int32 `json:"reserve,omitempty"`

	// instantReturn keeps, at each step that is judged, as many old replicas as demand and reserve need. Default false.
	//
	// +optional
	InstantReturn bool `json:"instantReturn,omitempty"`

	// maxSurge bounds how many replicas more than spec.replicas a plan may choose. Default: what fits.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxSurge *int32 `json:"maxSurge,omitempty"`

	// maxUnavailable bounds how many replicas fewer a plan may choose. Default: what demand and reserve leave free.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxUnavailable *int32 `json:"maxUnavailable,omitempty"`

	// within is the longest time that an update may be planned to take: 2h. Default: any.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s')",message="must be a duration above 0s, for example 90m"
	Within *metav1.Duration `json:"within,omitempty"`

	// demand is the quantity that adds up over the replicas, and that must stay served. Default: that of the ScalePolicy for the
	// same target, or the metric requests_per_second.
	//
	// +optional
	Demand *DemandSource `json:"demand,omitempty"`

	// capacityPerReplica is the demand that one replica serves within its SLO, in the unit of demand. Default: what the
	// ScalePolicy for the same target states or has learnt. Where nobody knows it, every replica counts as needed.
	//
	// +optional
	CapacityPerReplica *resource.Quantity `json:"capacityPerReplica,omitempty"`

	// startupTime is the time from a pod's being bound to a node until it is Ready: 3m. Default: as the pods that there are did.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('24h')",message="must be a duration up to 24h, for example 90s or 3m"
	StartupTime *metav1.Duration `json:"startupTime,omitempty"`

	// drainTime is the time from a pod's deletion until its GPUs are free: 30s. Default: its terminationGracePeriodSeconds.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('24h')",message="must be a duration up to 24h, for example 30s"
	DrainTime *metav1.Duration `json:"drainTime,omitempty"`

	// sources are where capacity for an update may come from, in the order in which they are tried; what is not listed is not
	// touched. Default: Free, then Spare.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Sources []CapacitySource `json:"sources,omitempty"`

	// traffic says what splits requests between the versions. Without it each Ready pod gets what the Service gives it.
	//
	// +optional
	Traffic *TrafficRouting `json:"traffic,omitempty"`

	// analysis says how the new version is judged.
	//
	// +optional
	Analysis Analysis `json:"analysis,omitzero"`

	// onForeignWrite is what to do when somebody else writes a field of the hold in the middle of an update: Reassert (write it
	// again, five times at most) or Stop (go back). Default Reassert.
	//
	// +optional
	// +kubebuilder:default=Reassert
	// +kubebuilder:validation:Enum=Reassert;Stop
	OnForeignWrite string `json:"onForeignWrite,omitempty"`

	// onNewTemplate is what to do with a third template in the middle of an update: Restart (with the newest) or Queue (finish
	// first). Default Restart.
	//
	// +optional
	// +kubebuilder:default=Restart
	// +kubebuilder:validation:Enum=Restart;Queue
	OnNewTemplate string `json:"onNewTemplate,omitempty"`

	// deadlines are for how long new pods may be in a state before a step has failed.
	//
	// +optional
	Deadlines RolloutDeadlines `json:"deadlines,omitzero"`

	// priority orders updates that wait for the same GPUs, higher first. Default 0.
	//
	// +optional
	Priority int32 `json:"priority,omitempty"`

	// historyLimit is how many ended updates status.history keeps. Default 10.
	//
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=50
	HistoryLimit *int32 `json:"historyLimit,omitempty"`
}

// RolloutStrategy is how a workload is updated.
//
// +kubebuilder:validation:Enum=Rolling;Canary;BlueGreen;Recreate
type RolloutStrategy string

// The strategies.
const (
	StrategyRolling   RolloutStrategy = "Rolling"
	StrategyCanary    RolloutStrategy = "Canary"
	StrategyBlueGreen RolloutStrategy = "BlueGreen"
	StrategyRecreate  RolloutStrategy = "Recreate"
)

// CanaryStrategy are the steps of a canary.
type CanaryStrategy struct {
	// steps are taken in order, each larger than the one before; after the last one all replicas follow.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	Steps []CanaryStep `json:"steps"`
}

// CanaryStep is a part of the way to the new version.
//
// +kubebuilder:validation:XValidation:rule="has(self.percent) != has(self.replicas)",message="exactly one of percent and replicas must be set"
type CanaryStep struct {
	// percent is the share of the replicas that the new version is to have, rounded up.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`

	// replicas is that number itself.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	Replicas *int32 `json:"replicas,omitempty"`

	// weightPercent is the share of requests that goes to the new version; it needs traffic. Default: as much as lets each of
	// its pods carry what an old one carries.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	WeightPercent *int32 `json:"weightPercent,omitempty"`

	// match sends only requests that fit it to the new version; it needs traffic by a route or an Ingress.
	//
	// +optional
	Match *RequestMatch `json:"match,omitempty"`

	// gates must be passed before the step ends, besides the judge.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	Gates []RolloutGate `json:"gates,omitempty"`

	// unjudged lets the step pass without the judge; gates still count. Default false.
	//
	// +optional
	Unjudged bool `json:"unjudged,omitempty"`
}

// RequestMatch fits requests that bear a header, or a cookie, of exactly a value.
//
// +kubebuilder:validation:XValidation:rule="has(self.header) != has(self.cookie)",message="exactly one of header and cookie must be set"
type RequestMatch struct {
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Header string `json:"header,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Cookie string `json:"cookie,omitempty"`
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value"`
}

// BlueGreenStrategy are options of blue/green.
type BlueGreenStrategy struct {
	// keepOld is for how long the old version is kept after the switch, for instant return: 10m. Default 0s.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('168h')",message="must be a duration up to 168h, for example 10m"
	KeepOld *metav1.Duration `json:"keepOld,omitempty"`

	// noShrink forbids to run both versions below full size where twice the GPUs cannot be had. Default false.
	//
	// +optional
	NoShrink bool `json:"noShrink,omitempty"`

	// gates must be passed before traffic is switched, besides the judge.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	Gates []RolloutGate `json:"gates,omitempty"`

	// unjudged lets traffic be switched without the judge; gates still count. Default false.
	//
	// +optional
	Unjudged bool `json:"unjudged,omitempty"`
}

// RolloutGate stands before the end of a step.
//
// +kubebuilder:validation:XValidation:rule="[has(self.manual) && self.manual, has(self.pause), has(self.windows), has(self.webhook)].filter(x, x).size() == 1",message="exactly one of manual, pause, windows and webhook must be set"
type RolloutGate struct {
	// name is for messages. Default: the gate's kind.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// manual waits for a person: kubectl headroom rollout promote.
	//
	// +optional
	Manual bool `json:"manual,omitempty"`

	// pause waits for a time from when the step's mix was reached: 10m.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s')",message="must be a duration above 0s, for example 10m"
	Pause *metav1.Duration `json:"pause,omitempty"`

	// windows are when the step may end.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Windows []TimeWindow `json:"windows,omitempty"`

	// webhook is asked whether the step may end.
	//
	// +optional
	Webhook *GateWebhook `json:"webhook,omitempty"`
}

// TimeWindow is a time of the day, on some days of the week.
type TimeWindow struct {
	// days are Mon, Tue, Wed, Thu, Fri, Sat and Sun. Default: every day.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=7
	// +kubebuilder:validation:items:Enum=Mon;Tue;Wed;Thu;Fri;Sat;Sun
	Days []string `json:"days,omitempty"`

	// from and to are times of the day, 09:00 and 17:30. A window whose to is not after its from ends on the next day.
	//
	// +required
	// +kubebuilder:validation:Pattern=`^([01][0-9]|2[0-3]):[0-5][0-9]$`
	From string `json:"from"`
	// +required
	// +kubebuilder:validation:Pattern=`^([01][0-9]|2[0-3]):[0-5][0-9]$`
	To string `json:"to"`

	// timeZone is the IANA name of their time zone: Europe/Berlin. Default UTC.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	TimeZone string `json:"timeZone,omitempty"`
}

// GateWebhook is asked by POST with a JSON body that says what waits (namespace, policy, target, step, and the two versions with
// their images). 200 passes; 202 and 425 mean not yet; 4xx otherwise fails the step, with the body as the reason; anything else,
// and no answer, is asked again.
type GateWebhook struct {
	// +required
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://`
	URL string `json:"url"`

	// timeout of one request: 10s. Default 10s.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('1m')",message="must be a duration from 1s to 1m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// RolloutPolicyList is a list of RolloutPolicies.
//
// +kubebuilder:object:root=true
type RolloutPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []RolloutPolicy `json:"items"`
}
