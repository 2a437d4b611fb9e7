package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrafficRouting says what splits requests between the versions.
//
// +kubebuilder:validation:XValidation:rule="[has(self.switch) && self.switch, has(self.httpRoute), has(self.grpcRoute), has(self.virtualService), has(self.ingress)].filter(x, x).size() == 1",message="exactly one of switch, httpRoute, grpcRoute, virtualService and ingress must be set"
type TrafficRouting struct {
	// service is the Service that selects the pods of both versions.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Service string `json:"service"`

	// switch sends all requests to one version by the Service's selector. For BlueGreen only.
	//
	// +optional
	Switch bool `json:"switch,omitempty"`

	// httpRoute is an HTTPRoute of Gateway API.
	//
	// +optional
	HTTPRoute *RouteReference `json:"httpRoute,omitempty"`

	// grpcRoute is a GRPCRoute of Gateway API.
	//
	// +optional
	GRPCRoute *RouteReference `json:"grpcRoute,omitempty"`

	// virtualService is an Istio VirtualService.
	//
	// +optional
	VirtualService *RouteReference `json:"virtualService,omitempty"`

	// ingress is an Ingress of ingress-nginx.
	//
	// +optional
	Ingress *IngressReference `json:"ingress,omitempty"`
}

// RouteReference names a route, in the policy's namespace.
type RouteReference struct {
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// rule is the name of the rule to change, or * for each that sends requests to the Service. Default: the only one that does.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Rule string `json:"rule,omitempty"`
}

// IngressReference names an Ingress, in the policy's namespace.
type IngressReference struct {
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// annotationsPrefix is ingress-nginx's. Default nginx.ingress.kubernetes.io.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	AnnotationsPrefix string `json:"annotationsPrefix,omitempty"`
}

// Analysis says how the new version is judged against the old one while both serve.
type Analysis struct {
	// metrics are what is compared. Default: errors, and the latency of requests.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Metrics []AnalysisMetric `json:"metrics,omitempty"`

	// interval is between two looks: 15s. Default 15s.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('10m')",message="must be a duration from 1s to 10m"
	Interval *metav1.Duration `json:"interval,omitempty"`

	// expected is how long a judged step is planned to take. Default 5m.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s')",message="must be a duration above 0s, for example 5m"
	Expected *metav1.Duration `json:"expected,omitempty"`

	// warmUp leaves out what pods say for so long after they became Ready: 1m. Default 0s.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('24h')",message="must be a duration up to 24h, for example 1m"
	WarmUp *metav1.Duration `json:"warmUp,omitempty"`

	// minRequests is how many requests of the new version a metric needs before it decides. Default 100.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	MinRequests *int32 `json:"minRequests,omitempty"`

	// alpha bounds the chance that a version that is no worse fails: "0.01". Default 0.01.
	//
	// +optional
	Alpha *resource.Quantity `json:"alpha,omitempty"`

	// beta bounds the chance that a version beyond a metric's margin passes: "0.05". Default 0.05.
	//
	// +optional
	Beta *resource.Quantity `json:"beta,omitempty"`
}

// AnalysisMetric is one thing to judge.
//
// +kubebuilder:validation:XValidation:rule="self.kind != 'Gauge' || has(self.metric) || has(self.query)",message="a Gauge needs metric or query"
// +kubebuilder:validation:XValidation:rule="!has(self.metric) || !has(self.query)",message="at most one of metric and query may be set"
type AnalysisMetric struct {
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// kind is Errors (requests, and those that failed), Latency (a histogram) or Gauge (one number of a pod).
	//
	// +required
	// +kubebuilder:validation:Enum=Errors;Latency;Gauge
	Kind string `json:"kind"`

	// metric is, for a Latency, the name of a histogram without its suffix (vllm:time_to_first_token_seconds), for Errors the
	// counter of all requests, and for a Gauge a metric of pods. Default for Errors and Latency: what the engine is known to have.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Metric string `json:"metric,omitempty"`

	// failed is, for Errors with metric, the selector of the counter's series that count failures: code=~"5..".
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Failed string `json:"failed,omitempty"`

	// query is, for a Gauge, a PromQL expression with one result for each pod, labelled pod.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	Query string `json:"query,omitempty"`

	// quantilePercent of a latency that must be within the margin. Default 95.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=99
	QuantilePercent *int32 `json:"quantilePercent,omitempty"`

	// maxRatio is how many times the old version's value the new one may have. Default 1.5 for Errors, 1.1 for Latency.
	//
	// +optional
	MaxRatio *resource.Quantity `json:"maxRatio,omitempty"`

	// maxIncrease is, for Errors, by how much the new version's share of failed requests may exceed the old one's: "0.01".
	// Within either margin is allowed. Default 0.01.
	//
	// +optional
	MaxIncrease *resource.Quantity `json:"maxIncrease,omitempty"`

	// min and max are limits of a Gauge.
	//
	// +optional
	Min *resource.Quantity `json:"min,omitempty"`
	// +optional
	Max *resource.Quantity `json:"max,omitempty"`

	// optional lets the metric be absent. Default false: without it nothing is passed.
	//
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// RolloutDeadlines are for how long new pods may be in a state before a step has failed.
type RolloutDeadlines struct {
	// noGPU is for pods that no node can take, beyond the delay of the sources in use. Default 2m.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s')",message="must be a duration above 0s, for example 2m"
	NoGPU *metav1.Duration `json:"noGPU,omitempty"`

	// loading is for pods that run and are not Ready. Default: three times the start-up time, at least 5m.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s')",message="must be a duration above 0s, for example 10m"
	Loading *metav1.Duration `json:"loading,omitempty"`

	// broken is for containers that exit again and again, or cannot be started. Default 1m.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s')",message="must be a duration above 0s, for example 1m"
	Broken *metav1.Duration `json:"broken,omitempty"`

	// inconclusive is for how long a step may go unjudged before the update goes back. Default: until a person decides.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s')",message="must be a duration above 0s, for example 30m"
	Inconclusive *metav1.Duration `json:"inconclusive,omitempty"`
}
