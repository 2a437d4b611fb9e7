// Package capacity finds where an update's pods could run, and asks for room: free GPUs as the scheduler would place pods on them,
// pods that may be preempted, and nodes still to be made.
package capacity

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
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

// Client finds and asks for room.
type Client struct {
	Client client.Client // reads of nodes, pods, namespaces and PriorityClasses may come from a cache
	Now    func() time.Time
	// Unfit are units of resources, by node and resource, that no pod is to get; nil where nobody says.
	Unfit func(ctx context.Context) (map[string]map[string]int64, error)
}

// Look says what the policy's sources have now. A source that cannot be read has no replicas, and a message.
func (c *Client) Look(ctx context.Context, spec *v1alpha1.RolloutPolicySpec, n Need) (*Report, error) {
	return nil, errors.ErrUnsupported
}

// Ensure makes the objects by which the nodes of a schedule's uses are asked for, and deletes those of this policy that are not among
// them; with no uses it deletes all. It can be repeated. Message says what is waited for, "" where nothing is.
func (c *Client) Ensure(ctx context.Context, p *v1alpha1.RolloutPolicy, n Need, uses []rollout.Use) (message string, err error) {
	return "", errors.ErrUnsupported
}
