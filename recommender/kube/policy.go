package kube

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
)

// wishes are what a ResourceRecommendation asks for, in the recommender's terms.
type wishes struct {
	spec       *v1alpha1.ResourceRecommendationSpec // nil for none
	floors     Floors
	containers int // of a pod, among which the floors are divided
	restarts   bool
}

// restartHold is for how long a recommendation is to stand where a change of it restarts pods and nothing else is said.
const restartHold = 24 * time.Hour

// nameOfResource is how Kubernetes names a resource that is recommended with a number; "" for others.
func nameOfResource(r recommender.Resource) corev1.ResourceName {
	switch r {
	case recommender.CPU:
		return corev1.ResourceCPU
	case recommender.Memory:
		return corev1.ResourceMemory
	default:
		return ""
	}
}

// container returns what is wished of a container; nothing for one that is not named.
func (w *wishes) container(name string) v1alpha1.ContainerRecommendationPolicy {
	var found v1alpha1.ContainerRecommendationPolicy
	if w.spec == nil {
		return found
	}
	for i := range w.spec.Containers {
		c := &w.spec.Containers[i]
		if c.Name == name {
			return *c
		}
		if c.Name == "*" {
			found = *c
		}
	}
	return found
}

// off says whether nothing is to be recommended for a container.
func (w *wishes) off(name string) bool { return w.container(name).Mode == "Off" }

// risk is the policy of a usage, without bounds.
func (w *wishes) risk(key recommender.Key) recommender.Policy {
	p := recommender.DefaultPolicy(key.Resource)
	if w.restarts {
		p.Hold = max(p.Hold, restartHold)
	}
	if w.spec == nil {
		return p
	}
	percent := w.spec.Risk.CPUPercent
	if key.Resource == recommender.Memory || key.Resource == recommender.GPUMemory {
		percent = w.spec.Risk.MemoryPercent
	}
	if percent != nil {
		p.Risk = percent.AsApproximateFloat64() / 100
	}
	if w.spec.Hold != nil {
		p.Hold = w.spec.Hold.Duration
	}
	return p
}

// policy is risk with the bounds of requests.
func (w *wishes) policy(key recommender.Key) recommender.Policy {
	p := w.risk(key)
	name := nameOfResource(key.Resource)
	if name == "" {
		return p
	}
	if w.containers > 0 {
		floor := w.floors.CPU
		if key.Resource == recommender.Memory {
			floor = w.floors.Memory
		}
		p.Min = floor / float64(w.containers)
	}
	wish := w.container(key.Container)
	p.Min = max(p.Min, amountOf(wish.MinAllowed, name))
	p.Max = amountOf(wish.MaxAllowed, name)
	return p
}

func amountOf(list corev1.ResourceList, name corev1.ResourceName) float64 {
	q, ok := list[name]
	if !ok {
		return 0
	}
	return q.AsApproximateFloat64()
}

// check says what of a spec cannot be followed. Most of it the API server refuses.
func check(spec *v1alpha1.ResourceRecommendationSpec) error {
	percents := map[string]*resource.Quantity{"cpuPercent": spec.Risk.CPUPercent, "memoryPercent": spec.Risk.MemoryPercent}
	for field, q := range percents {
		if q != nil && (q.AsApproximateFloat64() <= 0 || q.AsApproximateFloat64() >= 50) {
			return fmt.Errorf("spec.risk.%s: %s is not above 0 and below 50", field, q)
		}
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			least, most := amountOf(c.MinAllowed, name), amountOf(c.MaxAllowed, name)
			if most > 0 && least > most {
				return fmt.Errorf("spec.containers[%s]: minAllowed.%s is above maxAllowed.%s", c.Name, name, name)
			}
		}
	}
	return nil
}
