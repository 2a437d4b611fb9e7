package kube

import (
	"context"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/capacity"
	"headroom.dev/headroom/rollout/evidence"
	"headroom.dev/headroom/rollout/workload"
)

// Planner gathers what a plan rests on. The controller and kubectl headroom rollout plan share it.
type Planner struct {
	Workloads *workload.Client
	Capacity  *capacity.Client
	Evidence  *evidence.Client
	Now       func() time.Time
}

// Basis is what a plan rests on.
type Basis struct {
	Request rollout.Request
	Seen    *workload.Seen
	Report  *capacity.Report // nil where capacity was not looked for
	Demand  evidence.Demand
}

// unknownStartUp is taken where nobody knows how long pods take: a model of some tens of gigabytes from a warm disk at the median.
func unknownStartUp() rollout.Span { return rollout.Span{P50: 2 * time.Minute, P90: 5 * time.Minute} }

// RefOf names a policy's workload.
func RefOf(p *v1alpha1.RolloutPolicy) workload.Ref {
	return workload.Ref{
		NamespacedName: types.NamespacedName{Namespace: p.Namespace, Name: p.Spec.TargetRef.Name},
		Kind:           rollout.Kind(p.Spec.TargetRef.Kind),
	}
}

// Gather reads what a plan for the policy's workload rests on. The policy need not exist in the cluster. The plan is for the
// template that the workload has; for another one, set it in the Seen of Read, and use GatherFor. The errors are Problems where
// the policy is to blame.
func (p *Planner) Gather(ctx context.Context, policy *v1alpha1.RolloutPolicy) (*Basis, error) {
	seen, err := p.Workloads.Read(ctx, RefOf(policy))
	if err != nil {
		return nil, err
	}
	return p.GatherFor(ctx, policy, seen)
}

// GatherFor is Gather for a workload that was read already, for the template in seen.Template.
func (p *Planner) GatherFor(ctx context.Context, policy *v1alpha1.RolloutPolicy, seen *workload.Seen) (*Basis, error) {
	if seen.Workload == nil {
		return nil, missing(policy)
	}
	now := p.Now()
	rules, err := PolicyOf(&policy.Spec, now)
	if err != nil {
		return nil, err
	}
	b := p.outline(policy, rules, seen, now)
	if err := p.demand(ctx, policy, b); err != nil {
		return nil, err
	}
	if err := p.capacity(ctx, policy, b); err != nil {
		return nil, err
	}
	return b, nil
}

// missing is the Problem of a policy whose workload does not exist.
func missing(p *v1alpha1.RolloutPolicy) *Problem {
	return &Problem{Reason: v1alpha1.ReasonTargetNotFound, Field: "spec.targetRef.name", Err: fmt.Errorf("there is no %s %q in namespace %s", p.Spec.TargetRef.Kind, p.Spec.TargetRef.Name, p.Namespace)}
}

// outline is the basis without what must be asked for: demand counts as unknown, and only the service's own replicas are sources.
func (p *Planner) outline(policy *v1alpha1.RolloutPolicy, rules rollout.Policy, seen *workload.Seen, now time.Time) *Basis {
	b := &Basis{Seen: seen, Demand: evidence.Demand{Capacity: math.NaN()}}
	b.Request = rollout.Request{
		Now: now, Policy: rules, Demand: rollout.Forecast{Missing: "it was not asked for"},
		Service: rollout.Service{
			Kind: seen.Kind, Replicas: seen.Workload.Replicas, GPUs: capacity.GPUs(seen.Template), Capacity: 1,
			Drain: seen.Drain(), Serial: seen.Serial(), Router: policy.Spec.Traffic != nil,
		},
	}
	for _, s := range sourcesOf(&policy.Spec) {
		if s.Kind == string(rollout.Spare) || s.Kind == string(rollout.Degrade) {
			b.Request.Sources = append(b.Request.Sources, rollout.Source{Kind: rollout.SourceKind(s.Kind), Name: s.Name})
		}
	}
	b.spans(policy)
	return b
}

// sourcesOf are those of a spec, or what the CRD documents as their default.
func sourcesOf(spec *v1alpha1.RolloutPolicySpec) []v1alpha1.CapacitySource {
	if len(spec.Sources) == 0 {
		return []v1alpha1.CapacitySource{{Kind: string(rollout.Free)}, {Kind: string(rollout.Spare)}}
	}
	return spec.Sources
}

// spans are how long pods take: as the policy says, as the pods that there are did, as the ScalePolicy has learnt.
func (b *Basis) spans(policy *v1alpha1.RolloutPolicy) {
	s := &b.Request.Service
	stated := func(d time.Duration) rollout.Span { return rollout.Span{P50: d, P90: d} }
	seen, known := b.Seen.StartUp()
	switch {
	case policy.Spec.StartupTime != nil:
		s.StartUp = stated(policy.Spec.StartupTime.Duration)
	case known:
		s.StartUp = seen
	case b.Demand.StartUp > 0:
		s.StartUp = stated(b.Demand.StartUp)
	default:
		s.StartUp = unknownStartUp()
	}
	if d := policy.Spec.DrainTime; d != nil {
		s.Drain = stated(d.Duration)
	}
}

// demand asks for demand and for what one replica serves of it. Where either is unknown, every replica counts as needed.
func (p *Planner) demand(ctx context.Context, policy *v1alpha1.RolloutPolicy, b *Basis) error {
	var pods []*corev1.Pod
	for id := range b.Seen.Versions {
		pods = append(pods, b.Seen.Versions[id].Pods...)
	}
	d, err := p.Evidence.Demand(ctx, policy, pods)
	if err != nil {
		return fmt.Errorf("cannot tell the demand: %w", err)
	}
	return b.demands(policy, d)
}

// demands takes over what was found of the demand.
func (b *Basis) demands(policy *v1alpha1.RolloutPolicy, d evidence.Demand) error {
	b.Demand = d
	if q := policy.Spec.CapacityPerReplica; q != nil {
		b.Demand.Capacity = q.AsApproximateFloat64()
	}
	b.spans(policy)
	r := &b.Request
	r.Demand, r.Service.Capacity = d.Forecast, b.Demand.Capacity
	c := r.Service.Capacity
	if c > 0 && !math.IsInf(c, 0) {
		return nil
	}
	r.Service.Capacity = 1
	if q := policy.Spec.CapacityPerReplica; q != nil {
		return invalid("spec.capacityPerReplica", fmt.Errorf("is %s: it must be above 0", q))
	}
	if r.Demand.Missing == "" {
		r.Demand.Missing = "nobody knows what one replica serves: set spec.capacityPerReplica, or let a ScalePolicy learn it"
	}
	return nil
}

// capacity asks what the policy's sources have.
func (p *Planner) capacity(ctx context.Context, policy *v1alpha1.RolloutPolicy, b *Basis) error {
	report, err := p.Capacity.Look(ctx, &policy.Spec, b.need())
	if err != nil {
		return fmt.Errorf("cannot tell what the sources of capacity have: %w", err)
	}
	b.reports(report)
	return nil
}

// reports takes over what was found of the sources.
func (b *Basis) reports(r *capacity.Report) {
	b.Report, b.Request.Sources, b.Request.Service.GPUs = r, r.Sources, r.GPUs
}

// need is the room that an update of the basis' workload could use: as much again as it has.
func (b *Basis) need() capacity.Need {
	return capacity.Need{Namespace: b.Seen.Namespace, Template: b.Seen.Template, Most: b.Request.Service.Replicas}
}
