package kube

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/api/v1alpha1"
)

// gpuAdvice is about the GPU of a container, nil for one that has none. Caller holds the workload's lock.
func (c *Controller) gpuAdvice(*workload, *template, string, *wishes, time.Time) *v1alpha1.GPUAdvice {
	return nil
}

// gpuTotals adds the extended resources of GPUs to a pod's totals.
func gpuTotals([]template, []v1alpha1.ContainerRecommendation, corev1.ResourceList, corev1.ResourceList) {
}
