package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CapacitySource is where capacity for an update may come from.
//
// +kubebuilder:validation:XValidation:rule="!has(self.preempt) || self.kind == 'Preempt'",message="preempt belongs to the kind Preempt"
// +kubebuilder:validation:XValidation:rule="!has(self.provision) || self.kind == 'Provision'",message="provision belongs to the kind Provision"
// +kubebuilder:validation:XValidation:rule="self.kind != 'Provision' || has(self.provision)",message="the kind Provision needs provision"
type CapacitySource struct {
	// kind is Free (GPUs that nobody uses, where the scheduler would place a pod), Spare (replicas of the service itself that
	// neither demand nor the reserve needs), Preempt (pods of a lower priority), Provision (nodes still to be made) or Degrade
	// (the reserve).
	//
	// +required
	// +kubebuilder:validation:Enum=Free;Spare;Preempt;Provision;Degrade
	Kind string `json:"kind"`

	// name is for messages.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// preempt says which pods may go. Default: those of a negative priority.
	//
	// +optional
	Preempt *PreemptSource `json:"preempt,omitempty"`

	// provision says how nodes are asked for.
	//
	// +optional
	Provision *ProvisionSource `json:"provision,omitempty"`
}

// PreemptSource says which pods the scheduler may preempt for an update. All of them need a lower priority than the service's.
type PreemptSource struct {
	// selector are the pods' labels, in all namespaces or in those of namespaces. Default: every pod of a negative priority.
	//
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Namespaces []string `json:"namespaces,omitempty"`
}

// ProvisionSource says how nodes are asked for.
//
// +kubebuilder:validation:XValidation:rule="[has(self.provisioningRequest), has(self.capacityBuffer), has(self.placeholder)].filter(x, x).size() == 1",message="exactly one of provisioningRequest, capacityBuffer and placeholder must be set"
type ProvisionSource struct {
	// provisioningRequest makes a ProvisioningRequest of autoscaling.x-k8s.io.
	//
	// +optional
	ProvisioningRequest *ProvisioningRequestSource `json:"provisioningRequest,omitempty"`

	// capacityBuffer makes a CapacityBuffer of autoscaling.x-k8s.io.
	//
	// +optional
	CapacityBuffer *CapacityBufferSource `json:"capacityBuffer,omitempty"`

	// placeholder makes pods that wait, for which cluster-autoscaler or Karpenter makes nodes, and that the update's pods preempt.
	//
	// +optional
	Placeholder *PlaceholderSource `json:"placeholder,omitempty"`

	// maxReplicas is how many replicas more may be asked for.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	MaxReplicas int32 `json:"maxReplicas"`

	// delay is how long a node is expected to take: 5m. Default 5m.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('24h')",message="must be a duration up to 24h, for example 5m"
	Delay *metav1.Duration `json:"delay,omitempty"`
}

// ProvisioningRequestSource says which class of ProvisioningRequest is made.
type ProvisioningRequestSource struct {
	// className is its provisioningClassName. Default best-effort-atomic-scale-up.autoscaling.x-k8s.io.
	//
	// +optional
	// +kubebuilder:default="best-effort-atomic-scale-up.autoscaling.x-k8s.io"
	// +kubebuilder:validation:MaxLength=253
	ClassName string `json:"className,omitempty"`

	// parameters are the class's.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Parameters map[string]string `json:"parameters,omitempty"`
}

// CapacityBufferSource says which CapacityBuffer is made.
type CapacityBufferSource struct {
	// provisioningStrategy is its own. Default buffer.x-k8s.io/active-capacity.
	//
	// +optional
	// +kubebuilder:default="buffer.x-k8s.io/active-capacity"
	// +kubebuilder:validation:MaxLength=253
	ProvisioningStrategy string `json:"provisioningStrategy,omitempty"`
}

// PlaceholderSource says which pods wait for nodes.
type PlaceholderSource struct {
	// priorityClassName is of the waiting pods; its value must be below the service's.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PriorityClassName string `json:"priorityClassName"`

	// image is what they run. Default registry.k8s.io/pause:3.10.
	//
	// +optional
	// +kubebuilder:default="registry.k8s.io/pause:3.10"
	// +kubebuilder:validation:MaxLength=1024
	Image string `json:"image,omitempty"`
}
