package capacity

import (
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

// errMissing is of a kind that the cluster does not have.
type errMissing struct{ kind string }

func (e errMissing) Error() string {
	return fmt.Sprintf("%s of %s is not installed", e.kind, autoscalingGroup)
}

// provisioningRequest and capacityBuffer find the API by which a source asks. CapacityBuffers of v1 are something else: they belong to
// no namespace.
func (c *Client) provisioningRequest() (schema.GroupVersionKind, error) {
	return c.served("ProvisioningRequest", "v1")
}

func (c *Client) capacityBuffer() (schema.GroupVersionKind, error) {
	return c.served("CapacityBuffer", "v1beta1", "v1alpha1")
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
	return schema.GroupVersionKind{}, errMissing{kind}
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
		if p, err = l.c.placeholderPriority(l.ctx, source.Placeholder, l.class); err == nil && p.value < expendable {
			message = fmt.Sprintf("cluster-autoscaler by default makes no nodes for pods of a priority below %d, and placeholder.priorityClassName has %s", expendable, p)
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
