package capacity

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"headroom.dev/headroom/api/v1alpha1"
)

const (
	autoscalingGroup = "autoscaling.x-k8s.io"
	defaultDelay     = 5 * time.Minute
	// cluster-autoscaler makes no nodes for pods below its --expendable-pods-priority-cutoff.
	expendable = -10
)

// missingError is of a kind that the cluster does not have.
type missingError struct{ kind string }

func (e missingError) Error() string {
	return fmt.Sprintf("%s of %s is not installed", e.kind, autoscalingGroup)
}

// provisioningRequest and capacityBuffer find the API by which a source asks. CapacityBuffers of v1 are something else: they belong to
// no namespace.
func (c *Client) provisioningRequest() (schema.GroupVersionKind, error) {
	return c.served(requestName, "v1")
}

func (c *Client) capacityBuffer() (schema.GroupVersionKind, error) {
	return c.served(bufferName, "v1beta1", "v1alpha1")
}

func (c *Client) served(kind string, versions ...string) (schema.GroupVersionKind, error) {
	gk := schema.GroupKind{Group: autoscalingGroup, Kind: kind}
	for _, version := range versions {
		_, err := c.Client.RESTMapper().RESTMapping(gk, version)
		switch {
		case err == nil:
			return gk.WithVersion(version), nil
		case !meta.IsNoMatchError(err):
			return schema.GroupVersionKind{}, fmt.Errorf("cannot find out whether the cluster has %s of %s: %w", kind, autoscalingGroup, err)
		}
	}
	return schema.GroupVersionKind{}, missingError{kind}
}

// provision says what nodes could be asked for.
func (l *look) provision(source *v1alpha1.ProvisionSource) (replicas int, delay time.Duration, message string) {
	if source == nil {
		return 0, 0, "provision is missing: nobody says how nodes are asked for"
	}
	if l.classErr != nil {
		return 0, 0, l.classErr.Error()
	}
	if l.need.Most < 1 {
		return 0, 0, enough
	}
	var err error
	switch {
	case source.ProvisioningRequest != nil:
		_, err = l.c.provisioningRequest()
	case source.CapacityBuffer != nil:
		_, err = l.c.capacityBuffer()
	case source.Placeholder != nil:
		var p *priority
		if p, err = l.c.placeholderPriority(l.ctx, source.Placeholder, l.class); err == nil {
			message = p.asPlaceholder()
		}
	default:
		return 0, 0, "provision: none of provisioningRequest, capacityBuffer and placeholder is set"
	}
	if err != nil {
		return 0, 0, err.Error()
	}
	delay = defaultDelay
	if source.Delay != nil {
		delay = source.Delay.Duration
	}
	return min(int(source.MaxReplicas), l.need.Most), delay, message
}

// placeholderPriority is that of placeholder pods, which must be below the service's.
func (c *Client) placeholderPriority(ctx context.Context, s *v1alpha1.PlaceholderSource, service *priority) (*priority, error) {
	const field = "placeholder.priorityClassName"
	p, err := c.classNamed(ctx, s.PriorityClassName)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", field, err)
	case p.value >= service.value:
		return nil, fmt.Errorf("%s: its value must be below the service's, %s, and is %s", field, service, p)
	case service.never:
		return nil, fmt.Errorf("%s: the service's pods preempt nobody (preemptionPolicy: Never), and would never get the placeholders' nodes", field)
	}
	return p, nil
}

// asPlaceholder is what a reader might not expect of placeholder pods of a class.
func (p *priority) asPlaceholder() string {
	text := ""
	if p.value < expendable {
		text = fmt.Sprintf("cluster-autoscaler by default makes no nodes for pods of a priority below %d, and placeholders have %s", expendable, p)
	}
	if !p.never {
		text = join(text, fmt.Sprintf("placeholders preempt pods below %s: preemptionPolicy Never of the class forbids that", p))
	}
	return text
}
