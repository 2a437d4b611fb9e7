package capacity

import (
	"context"
	"errors"
	"fmt"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// Ensure makes the objects by which the nodes of a schedule's uses are asked for, and deletes those of this policy that are not among
// them; with no uses it deletes all. It can be repeated. Message says what is waited for, "" where nothing is.
func (c *Client) Ensure(ctx context.Context, p *v1alpha1.RolloutPolicy, n Need, uses []rollout.Use) (message string, err error) {
	return "", errors.ErrUnsupported
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
		return nil, errors.New("placeholder: the service's pods preempt nobody (preemptionPolicy: Never), and would never get the placeholders' nodes")
	}
	return p, nil
}
