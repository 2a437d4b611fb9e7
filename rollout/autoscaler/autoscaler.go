// Package autoscaler keeps the HorizontalPodAutoscaler of a workload from undoing an update, and puts it back.
package autoscaler

import (
	"context"
	"errors"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout/workload"
)

// Guard is what was found and done.
type Guard struct {
	// Name is the HPA's, "" where none scales the workload. Min and Max are as its owner wrote them.
	Name     string
	Min, Max int
	// Message says what a person should know: two HPAs, one whose minimum does not fit.
	Message string
}

// Client guards autoscalers.
type Client struct {
	Reader client.Reader // not from a cache
	Writer client.Writer
}

// Hold raises the floor of the workload's HPA, so that it cannot take the service below it in the middle of an update, and takes away
// the tolerance by which it would count surge pods for wanted ones (kubernetes#138505). What was there is kept in an annotation
// of the same write. It can be repeated; scaling up, and down to the floor, stays the HPA's.
func (c *Client) Hold(ctx context.Context, ref workload.Ref, floor int) (Guard, error) {
	return Guard{}, errors.ErrUnsupported
}

// Release puts the HPA back as its owner wrote it. What others wrote in the meantime stays.
func (c *Client) Release(ctx context.Context, ref workload.Ref) error { return errors.ErrUnsupported }
