// Package capacity finds where an update's pods could run, and asks for room: free GPUs as the scheduler would place pods on them,
// pods that may be preempted, and nodes still to be made.
//
// # Guarantees
//
// What Look counts as Free the scheduler does place, and what it counts as Preempt fits once pods of a lower priority are gone
// that the policy lets go (rollout/placement has the rules). A source about which something is not known has no replicas, and
// says why. Nothing is deleted here but what Ensure made: preempting is the scheduler's.
//
// Ensure's objects belong to the policy (owner reference, label headroom.dev/rollout-policy-uid), are named by what they ask for, and
// are made again or deleted until they are as they should be, whatever was interrupted.
//
// # Limits
//
// The scheduler chooses its victims itself: the pods that a policy names are what is counted, not a fence around all others.
// Where others of a lower priority are on the nodes in question, the message says so. Pods that wait in the scheduler's queue may
// take what is free first; they are counted in the message. Devices of DRA are not counted. Disruption budgets are not read: the
// scheduler preempts against them where it has no other choice.
package capacity

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/placement"
)

// Need is the room that an update could use.
type Need struct {
	Namespace string
	// Template is that of the new version.
	Template *corev1.PodTemplateSpec
	// Labels are those that controllers add to its pods.
	Labels map[string]string
	// Most is how many more pods could be used: no more is looked for.
	Most int
}

// Report is what the sources have.
type Report struct {
	// Sources are in the policy's order; Spare and Degrade are passed through.
	Sources []rollout.Source
	// Messages say, by index in Sources, why no more fit, or why it is not known.
	Messages []string
	// GPUs are those of one pod; Resource is what it asks for: nvidia.com/gpu, or "" where it asks for none.
	GPUs     int
	Resource string
	// Free are units of Resource that nobody uses, on all nodes that the pod could go to: what updates share.
	Free int
}

// Client finds and asks for room. It is safe for concurrent use, and not to be copied.
type Client struct {
	Client client.Client // reads of nodes, pods, namespaces and PriorityClasses may come from a cache
	Now    func() time.Time
	// Unfit are units of resources, by node and resource, that no pod is to get; nil where nobody says.
	Unfit func(ctx context.Context) (map[string]map[string]int64, error)

	mu    sync.Mutex
	known map[types.UID]*reading // pods as they were read last
	looks uint64
	clean map[types.UID]struct{} // policies that are known to have no objects
}

// Look says what the policy's sources have now. A source that cannot be read has no replicas, and a message. The error is about the
// call itself: no template, or a context that is done.
func (c *Client) Look(ctx context.Context, spec *v1alpha1.RolloutPolicySpec, n Need) (*Report, error) {
	if n.Template == nil {
		return nil, errors.New("cannot look for capacity: no pod template")
	}
	l := c.newLook(ctx, spec, n)
	r := &Report{GPUs: int(l.shape.Requests[l.resource]), Resource: l.resource}
	if l.view != nil && l.resource != "" {
		r.Free = int(l.snapshot.Unrequested(l.shape, l.resource))
	}
	for _, s := range sourcesOf(spec) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("cannot look for capacity: %w", err)
		}
		out, message := rollout.Source{Kind: rollout.SourceKind(s.Kind), Name: s.Name}, ""
		switch out.Kind {
		case rollout.Free:
			out.Replicas, message = l.free()
		case rollout.Preempt:
			out.Replicas, out.Delay, message = l.preempt(s.Preempt)
		case rollout.Provision:
			out.Replicas, out.Delay, message = l.provision(s.Provision)
		case rollout.Spare, rollout.Degrade: // their numbers come from the demand
		}
		r.Sources, r.Messages = append(r.Sources, out), append(r.Messages, message)
	}
	return r, nil
}

func sourcesOf(spec *v1alpha1.RolloutPolicySpec) []v1alpha1.CapacitySource {
	if len(spec.Sources) > 0 {
		return spec.Sources
	}
	return []v1alpha1.CapacitySource{{Kind: string(rollout.Free)}, {Kind: string(rollout.Spare)}}
}

// look is one look at the cluster for one service.
type look struct {
	c    *Client
	ctx  context.Context //nolint:containedctx // of one call
	spec *v1alpha1.RolloutPolicySpec
	need Need

	class    *priority // of the service's pods
	classErr error
	shape    placement.Shape
	resource string

	*view // nil where the cluster could not be read

	err     error // why there is no snapshot, or no shape
	counted bool  // Free has been counted
	now     placement.Answer
	fitErr  error
	fitted  bool
	pods    map[placement.Key]*corev1.Pod // that hold something
	may     []func(*corev1.Pod) bool      // which pods the sources counted so far let go
	made    int                           // replicas that these make room for
}

func (c *Client) newLook(ctx context.Context, spec *v1alpha1.RolloutPolicySpec, n Need) *look {
	l := &look{c: c, ctx: ctx, spec: spec, need: n}
	l.class, l.classErr = c.priorityOf(ctx, &n.Template.Spec)
	l.shape, l.err = shapeOf(n)
	l.resource = deviceOf(l.shape.Requests)
	if l.err == nil {
		l.err = l.classErr
	}
	if l.class != nil {
		l.shape.Priority = l.class.value
	}
	if l.err == nil {
		l.view, l.err = c.read(ctx)
	}
	return l
}

// fit is how many fit as it is, counted once.
func (l *look) fit() (placement.Answer, error) {
	if !l.fitted {
		l.fitted = true
		l.now, l.fitErr = l.snapshot.Fit(l.shape, l.need.Most)
	}
	return l.now, l.fitErr
}

const enough = "no more is needed"

// free counts what fits as it is.
func (l *look) free() (replicas int, message string) {
	switch {
	case l.err != nil:
		return 0, l.err.Error()
	case l.counted:
		return 0, "counted already: Free is listed twice"
	case l.need.Most < 1:
		return 0, enough
	}
	l.counted = true
	a, err := l.fit()
	if err != nil {
		return 0, fmt.Sprintf("cannot count what fits: %v", err)
	}
	if !a.Known {
		return 0, a.Why()
	}
	replicas = min(a.Count, l.need.Most)
	message = a.Why()
	switch {
	case a.AtLeast && replicas < l.need.Most:
		message = join(message, "more may fit: too many orders of placing are possible to be sure")
	case a.Most > replicas && replicas < l.need.Most:
		message = join(message, fmt.Sprintf("up to %d fit if the scheduler chooses well", a.Most))
	}
	if a.AfterTerminating > replicas {
		message = join(message, fmt.Sprintf("%d once %s gone", a.AfterTerminating, ends(a.Terminating)))
	}
	if replicas > 0 {
		message = join(message, l.rivals())
	}
	return replicas, message
}

// ends names pods that terminate.
func ends(pods []placement.Occupant) string {
	if len(pods) == 0 {
		return "the pods that terminate are"
	}
	names := make([]string, len(pods))
	for i := range pods {
		names[i] = pods[i].Key.String()
	}
	if len(pods) == 1 {
		return names[0] + " is"
	}
	return some(names) + " are"
}

// rivals are pods that wait, and may take what is free first.
func (l *look) rivals() string {
	var others, own int
	for _, w := range l.waiting {
		if w.priority < l.shape.Priority || l.resource != "" && w.requests[l.resource] == 0 {
			continue
		}
		if l.owns(w.pod) {
			own++
		} else {
			others++
		}
	}
	switch {
	case others == 0 && own == 0:
		return ""
	case others == 0:
		return "waiting for a node: " + pods(own) + " of the service itself"
	}
	text := "waiting for a node, and may take what is free first: " + pods(others) + " of the same or a higher priority"
	if own > 0 {
		text += ", and " + pods(own) + " of the service itself"
	}
	return text
}
