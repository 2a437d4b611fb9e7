package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcehelpers "k8s.io/component-helpers/resource"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"headroom.dev/headroom/scaler/hpa"
)

// Resource is the reading of a resource of pods, as metrics.k8s.io has it: of the whole pod, or of one container where that
// is not "". The samples are in the order of the pods.
func Resource(name corev1.ResourceName, container string, pods []*corev1.Pod, metrics []metricsv1beta1.PodMetrics) hpa.Reading {
	if len(metrics) == 0 {
		return hpa.Reading{Err: hpa.ErrNoReading}
	}
	r := hpa.Reading{Samples: make([]hpa.Sample, len(pods))}
	at := make(map[string]int, len(pods))
	for i, p := range pods {
		at[p.Name] = i
		request, err := Request(p, name, container)
		if err != nil && r.RequestErr == nil {
			r.RequestErr = err
		}
		r.Samples[i].Request = request
	}
	for i := range metrics {
		m := &metrics[i]
		milli, ok := usage(m, name, container)
		if !ok {
			continue
		}
		j, known := at[m.Name]
		if !known {
			r.Strangers = append(r.Strangers, milli)
			continue
		}
		s := &r.Samples[j]
		s.Measured, s.Milli, s.At, s.Window = true, milli, m.Timestamp.Time, m.Window.Duration
	}
	return r
}

// usage is getPodMetrics and getContainerMetrics: a pod of which one container is not measured is not.
func usage(m *metricsv1beta1.PodMetrics, name corev1.ResourceName, container string) (int64, bool) {
	var sum int64
	for i := range m.Containers {
		c := &m.Containers[i]
		if container != "" && c.Name != container {
			continue
		}
		value, ok := c.Usage[name]
		if !ok {
			return 0, false
		}
		sum += value.MilliValue()
		if container != "" {
			return sum, true
		}
	}
	return sum, container == "" && len(m.Containers) > 0
}

// Request is what a pod requests of a resource, or one container where that is not "", in thousandths: calculateRequests.
func Request(p *corev1.Pod, name corev1.ResourceName, container string) (int64, error) {
	if container == "" && resourcehelpers.IsPodLevelRequestsSet(p) {
		q, ok := resourcehelpers.PodRequests(p, resourcehelpers.PodResourcesOptions{})[name]
		if !ok {
			return 0, fmt.Errorf("missing pod-level request for %s in Pod %s", name, p.Name)
		}
		return q.MilliValue(), nil
	}
	var sum int64
	add := func(c *corev1.Container) error {
		q, ok := c.Resources.Requests[name]
		if !ok {
			return fmt.Errorf("missing request for %s in container %s of Pod %s", name, c.Name, p.Name)
		}
		sum += q.MilliValue()
		return nil
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		if container != "" && c.Name != container {
			continue
		}
		if err := add(c); err != nil || container != "" {
			return sum, err
		}
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		sidecar := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		if !sidecar || container != "" && c.Name != container {
			continue
		}
		if err := add(c); err != nil || container != "" {
			return sum, err
		}
	}
	if container != "" {
		return 0, fmt.Errorf("container %s not found in Pod %s", container, p.Name)
	}
	return sum, nil
}
