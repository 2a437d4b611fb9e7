// Package evidence brings what the metric plane knows about a service and its versions: demand, and what the judge compares.
package evidence

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// Sample is one result of an instant query.
type Sample struct {
	Labels map[string]string
	Value  float64
	At     time.Time
}

// Plane answers PromQL about a namespace.
type Plane interface {
	Query(ctx context.Context, namespace, expr string) ([]Sample, error)
}

// Client asks the metric plane.
type Client struct {
	Plane  Plane
	Reader client.Reader // of ScalePolicies; may be a cache
	Now    func() time.Time
}

// Demand is what a service must serve.
type Demand struct {
	Forecast rollout.Forecast
	// Capacity is the demand that one replica serves, NaN where unknown; StartUp is what the ScalePolicy states or has learnt, zero
	// where nobody says.
	Capacity float64
	StartUp  time.Duration
	// From says where it comes from: ScalePolicy "chat", or the metric.
	From string
}

// Demand tells what the policy's service must serve from now on. What is not known is in Forecast.Missing, not an error.
func (c *Client) Demand(ctx context.Context, p *v1alpha1.RolloutPolicy, pods []*corev1.Pod) (Demand, error) {
	return Demand{}, errors.ErrUnsupported
}

// Look is one look of the judge.
type Look struct {
	Key      string // what the verdict is about: rollout.State.Key
	New, Old []*corev1.Pod
}

// Judged is the judge's state after a look.
type Judged struct {
	// State is to be stored, and given to the next look.
	State   []byte
	Verdict rollout.Verdict
	Status  v1alpha1.RolloutVerdict
	// Next is when the next look is due.
	Next time.Time
}

// Judge takes a look, if one is due, at the versions' pods. State is what the last look returned, nil at the first; it begins anew
// where it is about another rollout (the part of the key before the first slash).
func (c *Client) Judge(ctx context.Context, p *v1alpha1.RolloutPolicy, state []byte, l Look) (Judged, error) {
	return Judged{}, errors.ErrUnsupported
}

// Question is what a webhook is asked about, as the JSON body of a POST.
type Question struct {
	Namespace string      `json:"namespace"`
	Policy    string      `json:"policy"`
	Kind      string      `json:"kind"`
	Name      string      `json:"name"`
	Gate      string      `json:"gate"`
	Step      string      `json:"step"`
	Key       string      `json:"key"` // the same for each request about one settling of a step
	Old       ToldVersion `json:"old"`
	New       ToldVersion `json:"new"`
}

// ToldVersion is a version as a webhook is told of it.
type ToldVersion struct {
	Hash     string            `json:"hash"`
	Revision int64             `json:"revision"`
	Images   map[string]string `json:"images,omitempty"`
	Model    string            `json:"model,omitempty"`
	Replicas int               `json:"replicas"`
}

// Ask asks a webhook once, as v1alpha1.GateWebhook says. A webhook that cannot be asked has no result yet, and a message.
func (c *Client) Ask(ctx context.Context, w v1alpha1.GateWebhook, q Question) rollout.Verdict {
	return rollout.Verdict{}
}
