package kube

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelpers "k8s.io/component-helpers/resource"

	"headroom.dev/headroom/rollout/placement"
)

// requests is what the scheduler says that a pod holds: the most of what its spec asks for, what the kubelet has allocated and what
// is in force.
func requests(p *corev1.Pod) placement.Resources {
	if sum, ok := plain(p); ok {
		return sum
	}
	return resources(resourcehelpers.PodRequests(p, resourcehelpers.PodResourcesOptions{
		UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true,
	}))
}

// plain adds up the requests of a pod in whose status nothing differs from its spec, and that has but containers: nearly every pod.
// Kubernetes' helper takes three sums of quantities and the most of them, with a map for each, and half of a plan for 50,000 pods.
// False where the helper is needed.
func plain(p *corev1.Pod) (placement.Resources, bool) {
	if len(p.Spec.Containers) == 0 || len(p.Spec.InitContainers) > 0 || len(p.Spec.Overhead) > 0 || p.Spec.Resources != nil || resizing(p) {
		return nil, false
	}
	sum := make(placement.Resources, len(p.Spec.Containers[0].Resources.Requests))
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; !add(sum, c.Resources.Requests) || !unchanged(p, c) {
			return nil, false
		}
	}
	if !agrees(p, sum) {
		return nil, false
	}
	if len(sum) == 0 {
		return nil, true
	}
	return sum, true
}

// agrees says that what the status tells of the whole pod, if anything, is the sum.
func agrees(p *corev1.Pod, sum placement.Resources) bool {
	r := p.Status.Resources
	if p.Status.AllocatedResources == nil && (r == nil || r.Requests == nil) {
		return true
	}
	return r != nil && adds(p.Status.AllocatedResources, sum) && adds(r.Requests, sum)
}

func add(sum placement.Resources, list corev1.ResourceList) bool {
	for name, q := range list {
		v, ok := units(name, &q)
		if !ok {
			return false
		}
		if counted(name) {
			sum[string(name)] += v
		}
	}
	return true
}

func resizing(p *corev1.Pod) bool {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodResizePending {
			return true
		}
	}
	return false
}

// unchanged says that what the kubelet tells of a container is what its spec asks for.
func unchanged(p *corev1.Pod, c *corev1.Container) bool {
	for i := range p.Status.ContainerStatuses {
		s := &p.Status.ContainerStatuses[i]
		if s.Name != c.Name {
			continue
		}
		return (s.AllocatedResources == nil || equal(s.AllocatedResources, c.Resources.Requests)) &&
			(s.Resources == nil || s.Resources.Requests == nil || equal(s.Resources.Requests, c.Resources.Requests))
	}
	return true
}

func equal(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, x := range a {
		if y, ok := b[name]; !ok || x.Cmp(y) != 0 {
			return false
		}
	}
	return true
}

// adds says that a list has what a sum has, and nothing else that counts.
func adds(list corev1.ResourceList, sum placement.Resources) bool {
	n := 0
	for name, q := range list {
		if !counted(name) {
			continue
		}
		n++
		v, ok := units(name, &q)
		if w, there := sum[string(name)]; !ok || !there || v != w {
			return false
		}
	}
	return n == len(sum)
}

// mostUnits is so low that the sums of any pod's containers are exact.
const mostUnits = 1 << 50

// units is a quantity in the scheduler's units; false where it is no whole number of them, since sums are rounded and not their parts.
func units(name corev1.ResourceName, q *resource.Quantity) (int64, bool) {
	v, whole := q.AsInt64()
	switch {
	case name != corev1.ResourceCPU:
	case whole && v < mostUnits/1000:
		v *= 1000
	default:
		v = q.MilliValue()
		whole = resource.NewMilliQuantity(v, resource.DecimalSI).Cmp(*q) == 0
	}
	return v, whole && v >= 0 && v < mostUnits
}
