package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ResourceRecommendationStatus is the recommendation. It is written when a recommendation has changed, else hourly. Percentages
// and money are quantities, since the API has no floats.
type ResourceRecommendationStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions hold Ready: True with the reason Recommended; False with NoHistory (the message says when there will be one),
	// Invalid, TargetNotFound, Duplicate or Checkpoint; Unknown with Pending. And CheckpointSaved: False with the reason why what
	// was learnt is not kept.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// replicas is the number of the workload's pods now.
	//
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// total is what all containers of one pod request now, recommended what they should: cpu and memory as far as there is a
	// recommendation, and extended resources of GPUs.
	//
	// +optional
	Total corev1.ResourceList `json:"total,omitempty"`
	// +optional
	Recommended corev1.ResourceList `json:"recommended,omitempty"`

	// containers are the recommendations.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	Containers []ContainerRecommendation `json:"containers,omitempty"`

	// autoscaler is the HPA of the workload, where one scales on a resource that is recommended.
	//
	// +optional
	Autoscaler *AutoscalerRecommendation `json:"autoscaler,omitempty"`

	// checkpoint names the ConfigMap in this namespace that keeps the usage behind this.
	//
	// +optional
	Checkpoint string `json:"checkpoint,omitempty"`

	// changed is when a recommendation last changed.
	//
	// +optional
	Changed *metav1.Time `json:"changed,omitempty"`
}

// ContainerType says when a container runs.
//
// +kubebuilder:validation:Enum=Container;Init;Sidecar
type ContainerType string

// The types. A sidecar is an init container with restartPolicy Always.
const (
	TypeContainer ContainerType = "Container"
	TypeInit      ContainerType = "Init"
	TypeSidecar   ContainerType = "Sidecar"
)

// ContainerRecommendation is about a container.
type ContainerRecommendation struct {
	Name string        `json:"name"`
	Type ContainerType `json:"type"`
	// nodeClass is the class of nodes that this is about, for DaemonSets: the value of node.kubernetes.io/instance-type.
	//
	// +optional
	NodeClass string `json:"nodeClass,omitempty"`

	// resources are cpu and memory.
	//
	// +optional
	// +listType=atomic
	Resources []ResourceAdvice `json:"resources,omitempty"`

	// +optional
	GPU *GPUAdvice `json:"gpu,omitempty"`
}

// ResourceAdvice is about cpu or memory of a container.
type ResourceAdvice struct {
	Resource corev1.ResourceName `json:"resource"`

	// request and limit are what the workload's template says now.
	//
	// +optional
	Request *resource.Quantity `json:"request,omitempty"`
	// +optional
	Limit *resource.Quantity `json:"limit,omitempty"`

	// recommended is what should be requested; missing if there is no recommendation.
	//
	// +optional
	Recommended *resource.Quantity `json:"recommended,omitempty"`
	// recommendedLimit keeps the proportion of limit to request, or is the request, for memory.
	//
	// +optional
	RecommendedLimit *resource.Quantity `json:"recommendedLimit,omitempty"`
	// lower and upper hold the need over the time that the recommendation is meant to stand.
	//
	// +optional
	Lower *resource.Quantity `json:"lower,omitempty"`
	// +optional
	Upper *resource.Quantity `json:"upper,omitempty"`
	// startup is the most that was used while starting: what a start-up boost or an in-place resize should allow.
	//
	// +optional
	Startup *resource.Quantity `json:"startup,omitempty"`

	// reason is one word, message a sentence.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// readyAt is when there will be a recommendation, where there is none yet.
	//
	// +optional
	ReadyAt *metav1.Time `json:"readyAt,omitempty"`

	// now and then are what the last days would have been like at the present and at the recommended request.
	//
	// +optional
	Now *ReplayStatus `json:"now,omitempty"`
	// +optional
	Then *ReplayStatus `json:"then,omitempty"`

	// +optional
	Evidence *EvidenceStatus `json:"evidence,omitempty"`
}

// ReplayStatus is what the last days would have been like at some size.
type ReplayStatus struct {
	Since metav1.Time `json:"since"`
	// hours is how many of them something is known of.
	Hours int32 `json:"hours"`
	// overPercent is the share of time in which more was wanted, excessPercent the share of the use that lay above.
	OverPercent   resource.Quantity `json:"overPercent"`
	ExcessPercent resource.Quantity `json:"excessPercent"`
	// kills is in how many of the hours a memory limit of that size would have killed containers.
	Kills int32 `json:"kills"`
}

// EvidenceStatus is what a recommendation rests on.
type EvidenceStatus struct {
	Since   metav1.Time `json:"since"`
	Samples int64       `json:"samples"`
	Hours   int32       `json:"hours"`
	// certaintyPercent says how far the samples are known to be this container's.
	CertaintyPercent int32 `json:"certaintyPercent"`
	// coveredPercent is the share of past intervals that held what was needed then, overPercent the share of time in which use
	// was above what was recommended then.
	//
	// +optional
	CoveredPercent *int32 `json:"coveredPercent,omitempty"`
	// +optional
	OverPercent *resource.Quantity `json:"overPercent,omitempty"`
}

// GPUAdvice is about the GPU of a container.
type GPUAdvice struct {
	// model is the GPU's, as its driver says.
	Model string `json:"model"`
	// now and recommended are what is and what should be requested.
	//
	// +optional
	Now *GPURequest `json:"now,omitempty"`
	// +optional
	Recommended *GPURequest `json:"recommended,omitempty"`

	// memory is what is needed, with the interval; peak the most that was used.
	//
	// +optional
	Memory *resource.Quantity `json:"memory,omitempty"`
	// +optional
	MemoryLower *resource.Quantity `json:"memoryLower,omitempty"`
	// +optional
	MemoryUpper *resource.Quantity `json:"memoryUpper,omitempty"`
	// +optional
	MemoryPeak *resource.Quantity `json:"memoryPeak,omitempty"`
	// computePercent is the share of a whole GPU's SMs that is needed.
	//
	// +optional
	ComputePercent *resource.Quantity `json:"computePercent,omitempty"`
	// riskPercent is the probability, for a day, that the need exceeds what is recommended.
	//
	// +optional
	RiskPercent *resource.Quantity `json:"riskPercent,omitempty"`

	// settings are the engine's that must change along with the size: gpu_memory_utilization of vLLM.
	//
	// +optional
	// +listType=atomic
	Settings []EngineSetting `json:"settings,omitempty"`

	// resourceClaim is the spec of a ResourceClaim for the recommendation (resource.k8s.io/v1), as YAML.
	//
	// +optional
	ResourceClaim string `json:"resourceClaim,omitempty"`
	// placement says which nodes can hold the recommendation for all replicas, or why none can.
	//
	// +optional
	Placement string `json:"placement,omitempty"`

	Reason  string `json:"reason"`
	Message string `json:"message"`
	// +optional
	ReadyAt *metav1.Time `json:"readyAt,omitempty"`
	// +optional
	Evidence *EvidenceStatus `json:"evidence,omitempty"`
}

// GPURequest is a request of GPUs.
type GPURequest struct {
	// resource is the extended resource, nvidia.com/gpu or nvidia.com/mig-2g.35gb, or the claim's device class.
	Resource string `json:"resource"`
	Count    int32  `json:"count"`
	// sharing is how a GPU is given.
	Sharing GPUSharing `json:"sharing"`
	// share is how much of the GPUs that is, in GPUs: 1, 0.25, 2.
	Share resource.Quantity `json:"share"`
	// memory is what it has.
	Memory resource.Quantity `json:"memory"`
}

// EngineSetting is a setting of an inference engine.
type EngineSetting struct {
	Engine string `json:"engine"`
	Name   string `json:"name"`
	// +optional
	Now         string `json:"now,omitempty"`
	Recommended string `json:"recommended"`
}

// AutoscalerRecommendation keeps the number of replicas when requests change under an HPA.
type AutoscalerRecommendation struct {
	Name string `json:"name"`
	// +listType=atomic
	Metrics []AutoscalerMetric `json:"metrics"`
	Message string             `json:"message"`
}

// AutoscalerMetric is one of an HPA's metrics of type Resource or ContainerResource.
type AutoscalerMetric struct {
	Resource corev1.ResourceName `json:"resource"`
	// +optional
	Container string `json:"container,omitempty"`
	// averageUtilization now, and what it must be with the recommended requests.
	Now         int32 `json:"now"`
	Recommended int32 `json:"recommended"`
}
