// Package gpus is the wire form of what a node agent answers on /gpus: the GPUs of its node, what they do, for whom, and
// why a figure is missing. A figure that is not known is absent, never zero; Missing says why.
package gpus

import "time"

// List is the whole answer.
type List struct {
	Node     string    `json:"node,omitempty"`
	Driver   string    `json:"driver,omitempty"`   // version
	Time     time.Time `json:"time,omitzero"`      // of the last pass over the devices
	Window   float64   `json:"windowSeconds"`      // over which utilization is summed up
	Problems []string  `json:"problems,omitempty"` // what keeps the agent from knowing more
	Devices  []Device  `json:"devices"`
}

// Device is a GPU or a MIG instance.
type Device struct {
	UUID         string             `json:"uuid"`
	GPU          int                `json:"gpu"` // NVML's index of the GPU
	Model        string             `json:"model,omitempty"`
	BusID        string             `json:"busID,omitempty"`
	Parent       string             `json:"parent,omitempty"`  // UUID of the GPU that a MIG instance is a part of
	Profile      string             `json:"profile,omitempty"` // of a MIG instance
	Partitioned  bool               `json:"partitioned,omitempty"`
	Healthy      bool               `json:"healthy"`
	Findings     []Finding          `json:"findings,omitempty"`
	Figures      map[string]float64 `json:"figures"`           // by the name of the metric, without "gpu_" or "gpu_mig_"
	Missing      map[string]string  `json:"missing,omitempty"` // why a figure is not there
	Containers   []Container        `json:"containers,omitempty"`
	Attribution  string             `json:"attribution,omitempty"` // why nothing, or less than could be, was attributed
	Unattributed Usage              `json:"unattributed"`
}

// Finding is something that is wrong with a device.
type Finding struct {
	Code  string    `json:"code"`
	Text  string    `json:"text"`
	Unfit bool      `json:"unfit"` // it takes the GPU out of service
	Since time.Time `json:"since,omitzero"`
}

// Container is the part of a device that is a container's.
type Container struct {
	Namespace string   `json:"namespace"`
	Pod       string   `json:"pod"`
	Container string   `json:"container"`
	Method    string   `json:"method,omitempty"` // how it is known: exclusive, process-samples, memory-only; empty: it is not
	Samples   int      `json:"processSamples"`
	Processes int      `json:"processes"`
	Usage     Usage    `json:"usage"`
	Peak      *float64 `json:"memoryPeakBytes,omitempty"`
}

// Usage is a part of what a device does.
type Usage struct {
	Utilization *float64 `json:"utilizationRatio,omitempty"`
	SM          *float64 `json:"smActiveRatio,omitempty"`
	Tensor      *float64 `json:"tensorActiveRatio,omitempty"`
	DRAM        *float64 `json:"dramBandwidthRatio,omitempty"`
	Memory      *float64 `json:"memoryUsedBytes,omitempty"`
}
