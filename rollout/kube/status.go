package kube

import (
	"math"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/workload"
)

// Status returns what the status of a policy says of the basis.
func (b *Basis) Status() *v1alpha1.RolloutBasis {
	r := &b.Request
	out := &v1alpha1.RolloutBasis{
		Replicas: int32(r.Service.Replicas), GPUs: int32(r.Service.GPUs), Missing: r.Demand.Missing,
		Startup: rounded(r.Service.StartUp.P90), Drain: rounded(r.Service.Drain.P90),
	}
	if math.IsInf(b.Demand.Capacity, 0) || b.Demand.Capacity > 0 {
		out.Capacity = quantity(b.Demand.Capacity)
	}
	if r.Demand.Missing == "" {
		out.Demand = quantity(r.Demand.At(r.Now))
		if points := r.Demand.Points; len(points) > 0 {
			out.Peak = quantity(r.Demand.Peak(r.Now, points[len(points)-1].At))
		}
	}
	for i, s := range r.Sources {
		source := v1alpha1.RolloutSource{Kind: string(s.Kind), Name: s.Name, Replicas: int32(min(s.Replicas, math.MaxInt32))}
		if b.Report != nil && i < len(b.Report.Messages) && len(b.Report.Sources) == len(r.Sources) {
			source.Message = b.Report.Messages[i]
		}
		out.Sources = append(out.Sources, source)
	}
	return out
}

// PlanStatus returns a schedule as the status of a policy says it, nil for nil.
func PlanStatus(s *rollout.Schedule) *v1alpha1.RolloutPlan {
	if s == nil {
		return nil
	}
	out := &v1alpha1.RolloutPlan{
		Strategy: string(s.Strategy), Makespan: rounded(s.Makespan), Typical: rounded(s.Typical),
		LeastReplicas: int32(s.Least.Replicas), LeastCapacity: finite(s.Least.Capacity), LeastDemand: finite(s.Least.Demand),
		GPUs: int32(s.Peak), ExtraGPUs: int32(s.Extra), GPUHours: finite(s.GPUHours), Notes: s.Notes,
	}
	if s.Downtime > 0 {
		out.Downtime = new(rounded(s.Downtime))
	}
	for i := range s.Steps {
		out.Steps = append(out.Steps, *stepStatus(&s.Steps[i], i))
	}
	for _, u := range s.Uses {
		name := string(u.Source.Kind)
		if u.Source.Name != "" {
			name += " (" + u.Source.Name + ")"
		}
		out.Uses = append(out.Uses, v1alpha1.RolloutUse{Source: name, Replicas: int32(u.Replicas), GPUs: int32(u.GPUs)})
	}
	return out
}

func stepStatus(s *rollout.Step, index int) *v1alpha1.RolloutStep {
	out := &v1alpha1.RolloutStep{
		Name: s.Name, Index: int32(index + 1), MaxSurge: int32(s.Surge), MaxUnavailable: int32(s.Unavailable),
		Old: int32(s.Old), New: int32(s.New), WeightPercent: percent(s.Weight), Match: s.Match, Judged: s.Judged,
		Starts: new(rounded(s.Starts)), Settles: new(rounded(s.Settles)), Least: int32(s.Least), Return: new(rounded(s.Return)),
	}
	for i := range s.Gates {
		out.Gates = append(out.Gates, s.Gates[i].Name)
	}
	return out
}

// RefusalStatus returns a refusal as the status of a policy says it, nil for nil.
func RefusalStatus(f *rollout.Refusal) *v1alpha1.RolloutRefusal {
	if f == nil {
		return nil
	}
	out := &v1alpha1.RolloutRefusal{Reason: string(f.Reason), Message: f.Message}
	for i := range f.Remedies {
		out.Remedies = append(out.Remedies, f.Remedies[i].Message)
	}
	return out
}

// versionStatus returns a version as the status of a policy says it, nil where there is none.
func versionStatus(seen *workload.Seen, id string) *v1alpha1.RolloutVersion {
	if id == "" {
		return nil
	}
	v, ok := seen.Versions[id]
	if !ok {
		return &v1alpha1.RolloutVersion{ID: id}
	}
	d := v.Describe()
	return &v1alpha1.RolloutVersion{
		ID: id, Hash: v.Hash, Revision: v.Revision, Images: d.Images, Model: d.Model, Reason: d.Reason,
		Replicas: int32(v.Counts.Replicas), ReadyReplicas: int32(v.Counts.Ready),
		NoGPU: int32(v.Counts.NoGPU), Loading: int32(v.Counts.Loading), Broken: int32(v.Counts.Broken),
	}
}

// percent is a share as people write it: 11.1.
func percent(share float64) string {
	if math.IsNaN(share) {
		return ""
	}
	return strconv.FormatFloat(math.Round(share*1000)/10, 'f', -1, 64)
}

// rounded is to a tenth of a second: what is planned is no more exact.
func rounded(d time.Duration) metav1.Duration {
	return metav1.Duration{Duration: d.Round(100 * time.Millisecond)}
}

// finite is a quantity to a thousandth, nil for what is no number or without end.
func finite(f float64) *resource.Quantity {
	if math.IsInf(f, 0) {
		return nil
	}
	return quantity(f)
}

// quantity is to a thousandth, the finest that the metrics API has as well; nil for what is no number.
func quantity(f float64) *resource.Quantity {
	const most = math.MaxInt64 / 2048
	if math.IsNaN(f) {
		return nil
	}
	f = min(max(f, -most), most)
	return resource.NewMilliQuantity(int64(math.Round(f*1000)), resource.DecimalSI)
}
