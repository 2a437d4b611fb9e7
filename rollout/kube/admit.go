package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// claim is what an update takes, or waits for, of the GPUs that all updates share.
type claim struct {
	rollout.Claim

	resource string
	// held are the GPUs beyond the service's own that its pods had when it was last looked at.
	held int
}

// settledFor is how long a pod must have been bound before its GPU counts as one that free ones do not include: what is free may
// come from a cache that has not seen it.
const settledFor = 5 * time.Second

// admit decides whether an update that can be planned may start now, and with which sources. The admission lock is held.
func (l *look) admit(ctx context.Context, s *rollout.State, o *rollout.Observation) error {
	if problem := l.problem; problem != nil {
		l.wait = problem.Error()
		o.Wait = l.wait
		return nil
	}
	plans, sources := l.plans(s, o)
	if len(plans) > 0 && l.e.gathered != nil && l.e.gathered.at != l.now {
		// What was found a short while ago is good enough to say no, not to say yes: others may have taken it meanwhile.
		if err := l.gatherAfresh(ctx, true); err != nil {
			return err
		}
		plans, sources = l.plans(s, o)
	}
	if len(plans) == 0 {
		return nil // Next refuses, and says why
	}
	if err := l.c.learnClaims(ctx); err != nil {
		return err
	}
	name := client.ObjectKeyFromObject(l.p)
	l.candidate = &plans[0]
	l.record.Notes.Resource = l.basis.Report.Resource
	mine := claim{Claim: rollout.Claim{Name: name.String(), Priority: int(l.p.Spec.Priority), Since: l.waitingSince(s), Plans: plans}, resource: l.basis.Report.Resource}
	l.c.claims[name] = mine
	budget, all := l.c.budget(&mine, l.basis), []rollout.Claim{}
	for _, other := range l.c.claims {
		if other.resource == mine.resource && len(other.Plans) > 0 {
			all = append(all, other.Claim)
		}
	}
	for _, a := range rollout.Admit(budget, all) {
		switch {
		case a.Name != mine.Name:
		case a.Admitted:
			l.basis.Request.Sources = sources[a.Plan]
		default:
			l.wait = "the update waits for GPUs: " + a.Reason
			o.Wait = l.wait
		}
	}
	return nil
}

// waitingSince is when the update began to wait.
func (l *look) waitingSince(s *rollout.State) time.Time {
	if s.Phase == rollout.Planning {
		return s.Since
	}
	return l.now
}

// plans are the schedules that an update could take, the best first, each with the sources that it was made from: all that there
// are, half of those beyond the service's own, none of them.
func (l *look) plans(s *rollout.State, o *rollout.Observation) (plans []rollout.Schedule, sources [][]rollout.Source) {
	r := l.basis.Request
	extra := 0
	for _, from := range r.Sources {
		extra += from.Replicas
	}
	if g := r.Service.GPUs; l.c.opts.Budget > 0 && g > 0 {
		extra = min(extra, l.c.opts.Budget/g)
	}
	for _, most := range slices.Compact([]int{extra, extra / 2, 0}) {
		r.Sources = capped(l.basis.Request.Sources, most)
		plan, refusal := rollout.Plan(rollout.Untried(s, r, o))
		if refusal != nil {
			if len(plans) == 0 && most == extra {
				l.refusal = refusal
			}
			continue
		}
		plans, sources = append(plans, plan), append(sources, r.Sources)
	}
	return plans, sources
}

// capped are sources with at most so many replicas beyond the service's own.
func capped(sources []rollout.Source, most int) []rollout.Source {
	out := slices.Clone(sources)
	for i := range out {
		out[i].Replicas = min(out[i].Replicas, most)
		most -= out[i].Replicas
	}
	return out
}

// budget is what updates may share of the GPUs that a claim is about: what is stated, or what the sources have and updates that
// run hold.
func (c *Controller) budget(mine *claim, b *Basis) int {
	if c.opts.Budget > 0 {
		return c.opts.Budget
	}
	n := b.Report.Free
	for _, s := range b.Report.Sources {
		if s.Kind == rollout.Preempt || s.Kind == rollout.Provision {
			n += s.Replicas * b.Report.GPUs
		}
	}
	for _, other := range c.claims {
		if other.resource == mine.resource && other.Running {
			n += other.held
		}
	}
	return n
}

// claim is what the policy takes or waits for after a decision.
func (l *look) claim() claim {
	out := claimOf(l.p, l.record)
	switch s := &l.record.State; {
	case out.Running:
		out.held = l.held()
	case s.Phase == rollout.GoingBack: // from a plan that was dropped
		out.held = l.held()
		out.Running, out.Plans = true, []rollout.Schedule{{Extra: out.held}}
	case s.Phase == rollout.Planning && l.wait != "" && !s.Frozen && l.problem == nil:
		out.Plans = l.c.claims[client.ObjectKeyFromObject(l.p)].Plans
		out.Since = s.Since
	}
	return out
}

// held are the GPUs of pods beyond the service's own replicas.
func (l *look) held() int {
	if l.seen.Workload == nil {
		return 0
	}
	n := -l.seen.Workload.Replicas
	for id := range l.seen.Versions {
		for _, p := range l.seen.Versions[id].Pods {
			if i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled }); i >= 0 {
				if at := p.Status.Conditions[i]; at.Status == corev1.ConditionTrue && l.now.Sub(at.LastTransitionTime.Time) >= settledFor {
					n++
				}
			}
		}
	}
	return max(0, n) * l.basis.Request.Service.GPUs
}

// claimOf is a claim as far as the record tells it.
func claimOf(p *v1alpha1.RolloutPolicy, r *record) claim {
	out := claim{Claim: rollout.Claim{Name: p.Namespace + "/" + p.Name, Priority: int(p.Spec.Priority), Since: r.State.Since}, resource: r.Notes.Resource}
	switch r.State.Phase {
	case rollout.Moving, rollout.Settled, rollout.GoingBack:
		if r.State.Schedule != nil {
			out.Running, out.Plans = true, []rollout.Schedule{*r.State.Schedule}
		}
	case rollout.Adopting, rollout.Resting, rollout.Planning, rollout.Restoring, rollout.Released, rollout.Gone:
	}
	return out
}

// learnClaims reads those of policies that this process has not looked at yet, so that none is admitted past one that runs. The
// admission lock is held.
func (c *Controller) learnClaims(ctx context.Context) error {
	var all v1alpha1.RolloutPolicyList
	if err := c.opts.Client.List(ctx, &all); err != nil {
		return fmt.Errorf("cannot list the policies: %w", err)
	}
	there := map[string]bool{}
	for i := range all.Items {
		p := &all.Items[i]
		name := client.ObjectKeyFromObject(p)
		there[name.String()] = true
		if _, known := c.claims[name]; known {
			continue
		}
		r, err := c.load(ctx, p)
		if err != nil {
			return fmt.Errorf("policy %s: %w", name, err)
		}
		next := claimOf(p, r)
		if next.Running {
			next.held = next.Plans[0].Extra
		}
		c.claims[name] = next
	}
	for name := range c.claims {
		if !there[name.String()] && !c.looksAt(name) {
			delete(c.claims, name)
		}
	}
	return nil
}

// looksAt says that this process has looked at a policy, which a cache may not know yet.
func (c *Controller) looksAt(name types.NamespacedName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[name] != nil
}

// named replaces the ids of versions in a message by what people know them by.
func (l *look) named(message string) string {
	if l.seen == nil {
		return message
	}
	var pairs []string
	for id := range l.seen.Versions {
		v := l.seen.Versions[id]
		pairs = append(pairs, id, v.Name())
	}
	return strings.NewReplacer(pairs...).Replace(message)
}
