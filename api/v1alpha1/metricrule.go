package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MetricRule defines a metric for the HorizontalPodAutoscaler: a PromQL expression, and the Kubernetes objects that its
// results describe, or an external metric. The adapter evaluates it once a second and serves what it yields.
//
// A rule takes effect within two seconds of its creation, change or deletion; a bad one harms no other. Several rules may
// define one metric for one kind of object: per object the first rule that has a value wins, users' rules before built-in
// ones, by name. A rule with the name of a built-in rule, such as vllm.requests-per-second.pods, replaces that rule.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=mr,categories=headroom
// +kubebuilder:printcolumn:name="Metric",type=string,JSONPath=`.spec.metric`
// +kubebuilder:printcolumn:name="For",type=string,JSONPath=`.status.servedFor`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Series",type=integer,JSONPath=`.status.series`
// +kubebuilder:printcolumn:name="Objects",type=integer,JSONPath=`.status.objects`
// +kubebuilder:printcolumn:name="Evaluated",type=date,JSONPath=`.status.lastEvaluationTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Unit",type=string,JSONPath=`.spec.unit`,priority=1
// +kubebuilder:printcolumn:name="Took",type=string,JSONPath=`.status.lastEvaluationDuration`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
type MetricRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec MetricRuleSpec `json:"spec"`
	// +optional
	Status MetricRuleStatus `json:"status,omitzero"`
}

// MetricRuleSpec is what the metric means and where it comes from.
//
// +kubebuilder:validation:XValidation:rule="has(self.object) != has(self.external)",message="exactly one of object and external must be set: the objects that the results describe, or an external metric"
// +kubebuilder:validation:XValidation:rule="!has(self.namespaceSelector) || !has(self.object) || self.object.resource == 'namespaces' || !(self.object.resource == 'nodes' || has(self.object.rootScoped) && self.object.rootScoped)",message="namespaceSelector has no meaning for objects that are in no namespace"
type MetricRuleSpec struct {
	// metric is the metric's name as users write it in an HPA: letters, digits, "_", "-", "." and ":", for example
	// requests_per_second. State the unit in the name where it is not obvious (_ms, _percent): the metrics API carries numbers
	// to a thousandth and knows no units.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_]([-A-Za-z0-9_.:]*[A-Za-z0-9_])?$')",message="may hold letters, digits, '_', and inside '-', '.' and ':'"
	Metric string `json:"metric"`

	// expr is a PromQL expression that yields one result for each object (see object) or for each series of the external metric
	// (see external), for example: sum by (namespace, pod) (rate(http_requests_total[10s])).
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	Expr string `json:"expr"`

	// object says which Kubernetes objects the results describe. The metric is served for them by custom.metrics.k8s.io: to
	// HPA metrics of type Pods where they are pods, else of type Object.
	//
	// +optional
	Object *ObjectTarget `json:"object,omitempty"`

	// external serves the results as an external metric with labels, by external.metrics.k8s.io, to HPA metrics of type
	// External: "external: {}" with all labels that the expression yields. A result with a label namespace is served in that
	// namespace alone, one without in every namespace (or in those that namespaceSelector matches).
	//
	// +optional
	External *ExternalTarget `json:"external,omitempty"`

	// unit is the unit of the values, for people: "1/s", "ms", "percent", "bytes".
	//
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Unit string `json:"unit,omitempty"`

	// maxAge is how old the oldest sample behind a value may be, for example 500ms, 15s or 1m30s; at most 24h. Older values are
	// withheld, and the HPA then treats the object as one without a metric. It is also how far back selectors without a range
	// look. Default 15s, the time between two looks of the HPA; with the source Prometheus 1m, because servers scrape less often.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s') && duration(self) <= duration('24h')",message="must be a duration above 0s and up to 24h, for example 500ms, 15s or 1m30s"
	MaxAge *metav1.Duration `json:"maxAge,omitempty"`

	// source is where the expression's series are: Embedded, the series that the adapter scrapes itself, or Prometheus, the
	// server of the adapter's --prometheus-url, which is asked once per interval for all objects together. Default Embedded.
	//
	// +optional
	Source Source `json:"source,omitempty"`

	// includeLoading serves values of pods whose containers have not become ready yet, too. By default such pods have no
	// value, and the HPA counts them as missing; that keeps a server that still loads its weights from pulling the mean down. In
	// rules about services and deployments it counts the series of such pods. Default false.
	//
	// +optional
	IncludeLoading bool `json:"includeLoading,omitempty"`

	// namespaceSelector narrows the rule to the namespaces whose labels it matches: only their objects get values, and only
	// there an external metric is served. So two teams can define one metric differently. Default: all namespaces.
	//
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// fallback says what stands in for a value that is missing. Default: nothing, the value is withheld.
	//
	// +optional
	Fallback *Fallback `json:"fallback,omitempty"`
}

// Source names where series come from.
//
// +kubebuilder:validation:Enum=Embedded;Prometheus
type Source string

// The sources.
const (
	SourceEmbedded   Source = "Embedded"
	SourcePrometheus Source = "Prometheus"
)

// ObjectTarget says which objects results describe.
//
// +kubebuilder:validation:XValidation:rule="has(self.nameLabel) || self.resource in ['pods', 'services', 'deployments', 'deployments.apps', 'namespaces', 'nodes']",message="nameLabel must be set: only pods, services, deployments.apps, namespaces and nodes have a default (pod, service, deployment, namespace, node)"
// +kubebuilder:validation:XValidation:rule="!has(self.namespaceLabel) || !(self.resource in ['namespaces', 'nodes'] || has(self.rootScoped) && self.rootScoped)",message="namespaceLabel has no meaning for objects that are in no namespace"
type ObjectTarget struct {
	// resource is the plural resource of the objects, with its group where it has one: pods, services, deployments.apps,
	// namespaces, nodes, ingresses.networking.k8s.io.
	//
	// Rules about services and deployments.apps see every pod's series once for each Service that selects the pod (once for the
	// Deployment that owns it), with the label service (deployment) added.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be a plural resource in lower case, with its group where it has one: pods, services, deployments.apps"
	// +kubebuilder:validation:XValidation:rule="!(self in ['deployments', 'statefulsets', 'daemonsets', 'replicasets', 'jobs', 'cronjobs', 'ingresses'])",message="must end in its group: deployments.apps, statefulsets.apps, jobs.batch, ingresses.networking.k8s.io"
	Resource string `json:"resource"`

	// nameLabel is the label of a result that names its object. Default: pod, service, deployment, namespace or node, for these
	// resources; it must be set for all others.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[a-zA-Z_][a-zA-Z0-9_]*$`
	NameLabel string `json:"nameLabel,omitempty"`

	// namespaceLabel is the label of a result that names its object's namespace. Default namespace.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[a-zA-Z_][a-zA-Z0-9_]*$`
	NamespaceLabel string `json:"namespaceLabel,omitempty"`

	// rootScoped says that the objects are in no namespace. Nodes and namespaces are known to be. Default false.
	//
	// +optional
	RootScoped bool `json:"rootScoped,omitempty"`

	// alsoExternal serves the results as an external metric, too, with the one label nameLabel, which names the object. An HPA
	// then chooses by selector, and may add several objects up. Default false.
	//
	// +optional
	AlsoExternal bool `json:"alsoExternal,omitempty"`
}

// ExternalTarget says how results become an external metric.
type ExternalTarget struct {
	// labels are the labels that the metric keeps of each result, for an HPA's selector to choose by. Default: all.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=128
	// +kubebuilder:validation:items:Pattern=`^[a-zA-Z_][a-zA-Z0-9_]*$`
	Labels []string `json:"labels,omitempty"`

	// namespaceLabel is the label of a result that names the one namespace in which it is served. Default namespace.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[a-zA-Z_][a-zA-Z0-9_]*$`
	NamespaceLabel string `json:"namespaceLabel,omitempty"`
}

// Fallback says what stands in for a value that is missing, and after how long. Such values are marked in the answer and
// counted in headroom_adapter_served_fallback_values_total.
//
// +kubebuilder:validation:XValidation:rule="has(self.value) != has(self.holdFor)",message="exactly one of value and holdFor must be set: a stated value, or the last one held"
type Fallback struct {
	// after is how long an object must have been without a value of any rule before the fallback is served, for example 30s; at
	// most 24h. It counts from the last value or, where there never was one, from the rule's first evaluation.
	//
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('24h')",message="must be a duration up to 24h, for example 0s, 30s or 2m"
	After metav1.Duration `json:"after"`

	// value is served in place of a missing one: a quantity as in an HPA's target, 12, "0.5" or 500m.
	//
	// +optional
	Value *resource.Quantity `json:"value,omitempty"`

	// holdFor serves the last measured value, for at most this long after the fallback set in, for example 5m; at most 24h.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s') && duration(self) <= duration('24h')",message="must be a duration above 0s and up to 24h, for example 30s or 5m"
	HoldFor *metav1.Duration `json:"holdFor,omitempty"`
}

// MetricRuleStatus tells how the rule fares. The adapter writes it when something of note changes, else every 30 s.
type MetricRuleStatus struct {
	// observedGeneration is the metadata.generation of the spec that the rest is about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions hold Ready. It is True with the reason Evaluated; the message then says which results are served for nothing, if
	// any are. It is False with the reason Invalid (the message names the field, or line and column of the expression), or
	// EvaluationFailed (a timeout, too many samples, a source that is down…; values that are young enough are still served).
	// It is Unknown with the reason Pending while the adapter still has to learn what the rule is about.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// servedFor is the resource that the metric is served for ("pods"), "external", or both ("services, external").
	//
	// +optional
	ServedFor string `json:"servedFor,omitempty"`

	// series is how many series the last good evaluation read; with the source Prometheus, how many objects had any.
	//
	// +optional
	Series *int64 `json:"series,omitempty"`

	// objects is how many objects, or series of the external metric, had a value in the last good evaluation.
	//
	// +optional
	Objects *int64 `json:"objects,omitempty"`

	// lastEvaluationTime is when the values that are served were computed, as of the last time that this status was written.
	//
	// +optional
	LastEvaluationTime *metav1.Time `json:"lastEvaluationTime,omitempty"`

	// lastEvaluationDuration is how long the last evaluation took.
	//
	// +optional
	LastEvaluationDuration *metav1.Duration `json:"lastEvaluationDuration,omitempty"`
}

// The condition type, and its reasons.
const (
	ConditionReady = "Ready"

	ReasonEvaluated        = "Evaluated"        // True: the last evaluation succeeded
	ReasonInvalid          = "Invalid"          // False: the adapter cannot follow the spec; the rule serves nothing
	ReasonEvaluationFailed = "EvaluationFailed" // False: values that are young enough are still served
	ReasonPending          = "Pending"          // Unknown: the adapter does not know the cluster's namespaces yet
)

// MetricRuleList is a list of MetricRules.
//
// +kubebuilder:object:root=true
type MetricRuleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []MetricRule `json:"items"`
}
