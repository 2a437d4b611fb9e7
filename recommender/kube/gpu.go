package kube

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
)

// device is what is known of the GPUs of the nodes that a workload's pods are on.
type device struct {
	model  string
	memory int64 // bytes; 0 if the nodes do not say
}

// gpuAdvice is about the GPU of a container, nil for one that has none. Caller holds the workload's lock.
func (c *Controller) gpuAdvice(w *workload, t *template, class string, wish *wishes, now time.Time) *v1alpha1.GPUAdvice {
	present := gpuRequest(t.resources)
	key := func(r recommender.Resource) recommender.Key {
		return recommender.Key{Container: t.name, Class: class, Resource: r}
	}
	if present.Resource == "" && w.usages[key(recommender.GPUMemory)] == nil {
		return nil
	}
	samples := 0
	history := func(r recommender.Resource) accelerator.History {
		u := w.usages[key(r)]
		if u == nil {
			return accelerator.History{}
		}
		evidence := recommender.Estimate(u, now).Evidence
		if r == recommender.GPUMemory {
			samples = evidence.Samples
		}
		return accelerator.HistoryOf(u, evidence.Certainty, wish.risk(key(r)).Step)
	}
	d := w.nodes[class]
	risk := wish.risk(key(recommender.GPUMemory))
	in := accelerator.Input{
		Now: now, Workload: w.id.Name, Model: d.model, Device: d.memory, Present: present, Replicas: int(max(w.replicas, 1)),
		Memory: history(recommender.GPUMemory), Compute: history(recommender.GPUCompute), Tensor: history(recommender.GPUTensor),
		Policy: accelerator.DefaultPolicy(), Nodes: c.room(w.id),
	}
	in.Policy.Risk, in.Policy.Hold, in.Policy.Confidence = risk.Risk, risk.Hold, risk.Confidence
	if wish.spec != nil && len(wish.spec.GPU.Sharing) > 0 {
		in.Policy.Sharing = nil
		for _, s := range wish.spec.GPU.Sharing {
			in.Policy.Sharing = append(in.Policy.Sharing, accelerator.Sharing(s))
		}
	}
	var notes []string
	if in.Engine, notes = w.engineOf(t, class); in.Engine != nil {
		in.Engine.KV, in.Engine.Queue, in.Engine.Preemptions = history(recommender.KVCache), history(recommender.Queue), history(recommender.Preemptions)
		for _, h := range in.Memory.Hours {
			if h.Known && !(in.Engine.Used >= h.Max) {
				in.Engine.Used = h.Max
			}
		}
	}
	a := accelerator.Recommend(in)
	notes = append(notes, caution(&a, in.Engine))
	return gpuStatus(a, samples, strings.Join(slices.DeleteFunc(notes, func(s string) bool { return s == "" }), "; "))
}

// gpuRequest is what a container requests of GPUs; its Resource is empty if it is nothing.
func gpuRequest(r corev1.ResourceRequirements) accelerator.Request {
	var names []string
	for name, q := range r.Limits {
		if strings.HasPrefix(string(name), gpuPrefix) && q.Value() > 0 {
			names = append(names, string(name))
		}
	}
	if len(names) == 0 {
		return accelerator.Request{}
	}
	slices.Sort(names) // gpu before mig-…
	q := r.Limits[corev1.ResourceName(names[0])]
	return accelerator.Request{Resource: names[0], Count: int(q.Value())}
}

// gpuStatus is an advice in the API's terms.
func gpuStatus(a accelerator.Advice, samples int, note string) *v1alpha1.GPUAdvice {
	bytes := func(v float64) *resource.Quantity { return known(recommender.GPUMemory, v) }
	out := &v1alpha1.GPUAdvice{
		Model: a.Model, Now: allocation(a.Present), Recommended: allocation(a.Recommended), Memory: bytes(a.Need), MemoryLower: bytes(a.Lower),
		MemoryUpper: bytes(a.Upper), MemoryPeak: bytes(a.Peak), ComputePercent: share(a.Compute), RiskPercent: share(a.Risk),
		ResourceClaim: a.Claim, Placement: a.Placement, Reason: string(a.Reason), Message: joined(a.Why, note),
	}
	for _, s := range a.Settings {
		setting := v1alpha1.EngineSetting{Engine: string(s.Engine), Name: s.Name, Recommended: fmt.Sprintf("%.2f", s.Recommended)}
		if !math.IsNaN(s.Now) {
			setting.Now = fmt.Sprintf("%.2f", s.Now)
		}
		out.Settings = append(out.Settings, setting)
	}
	if !a.ReadyAt.IsZero() {
		out.ReadyAt = new(timeOf(a.ReadyAt))
	}
	if samples > 0 && !a.Since.IsZero() {
		out.Evidence = &v1alpha1.EvidenceStatus{
			Since: timeOf(a.Since), Samples: int64(samples), Hours: int32(a.Hours), CertaintyPercent: int32(math.Round(100 * a.Certainty)),
		}
	}
	return out
}

// share is a percentage, nil for what is no number.
func share(v float64) *resource.Quantity {
	if math.IsNaN(v) {
		return nil
	}
	return new(percent(v))
}

func allocation(a *accelerator.Allocation) *v1alpha1.GPURequest {
	if a == nil {
		return nil
	}
	n := float64(a.Count)
	return &v1alpha1.GPURequest{
		Resource: a.Size.Resource, Count: int32(a.Count), Sharing: v1alpha1.GPUSharing(a.Size.Sharing),
		Share:  *resource.NewMilliQuantity(int64(math.Round(a.Size.Share*n*1000)), resource.DecimalSI),
		Memory: *resource.NewQuantity(a.Size.Bytes*int64(a.Count), resource.BinarySI),
	}
}

// gpuTotals adds the extended resources of GPUs to a pod's totals.
func gpuTotals(templates []template, advice []v1alpha1.ContainerRecommendation, now, then corev1.ResourceList) {
	add := func(list corev1.ResourceList, name string, count int64) {
		q := list[corev1.ResourceName(name)]
		q.Add(*resource.NewQuantity(count, resource.DecimalSI))
		list[corev1.ResourceName(name)] = q
	}
	seen := map[string]bool{} // of several node classes one
	for i := range templates {
		if r := gpuRequest(templates[i].resources); r.Resource != "" {
			add(now, r.Resource, int64(r.Count))
		}
	}
	for i := range advice {
		g := advice[i].GPU
		if g == nil || seen[advice[i].Name] {
			continue
		}
		seen[advice[i].Name] = true
		if g.Recommended != nil {
			add(then, g.Recommended.Resource, int64(g.Recommended.Count))
		}
	}
}
