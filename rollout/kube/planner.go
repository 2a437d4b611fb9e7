package kube

import (
	"context"
	"errors"
	"time"

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
	Report  *capacity.Report
	Demand  evidence.Demand
}

// Gather reads what a plan for the policy's workload rests on. The errors are Problems where the policy is to blame.
func (p *Planner) Gather(ctx context.Context, policy *v1alpha1.RolloutPolicy) (*Basis, error) {
	return nil, errors.ErrUnsupported
}

// Problem is what is wrong with a policy.
type Problem struct {
	Reason string // of the condition Ready
	Field  string // spec.…
	Err    error
}

func (p *Problem) Error() string { return p.Field + ": " + p.Err.Error() }

func (p *Problem) Unwrap() error { return p.Err }

// PolicyOf returns the spec as rollout takes it. The error is a Problem.
func PolicyOf(spec *v1alpha1.RolloutPolicySpec) (rollout.Policy, error) {
	return rollout.Policy{}, errors.ErrUnsupported
}

// Status returns what the status of a policy says of the basis.
func (b *Basis) Status() *v1alpha1.RolloutBasis { return nil }

// PlanStatus returns a schedule as the status of a policy says it, RefusalStatus a refusal.
func PlanStatus(s *rollout.Schedule) *v1alpha1.RolloutPlan { return nil }

// RefusalStatus returns a refusal as the status of a policy says it.
func RefusalStatus(f *rollout.Refusal) *v1alpha1.RolloutRefusal { return nil }
