// Package evidence brings what the metric plane knows about a service and its versions: demand, and what the judge compares.
//
// # The judge
//
// A look is one PromQL query for the newest counters and buckets of the pods of both versions; rollout/judge takes the
// differences. Names are those of the engines (engines.go), the first that both versions have, and then the same ones for the whole
// rollout. It may be relied on that
//
//   - nothing passes without data: a metric that is missing, or that does not count failures, a plane that does not answer and a
//     state that cannot be read are Inconclusive with the reason; by latency alone nothing is judged unless the policy lists errors
//     as optional, because a version that fails at once is fast;
//   - a Pass was said by a look at the present key, the second at least that saw half of the new pods; evidence about the same version
//     from earlier steps counts;
//   - between two looks nothing changes, and a look that finds no new requests of a version waits for them up to a minute.
//
// The adapter's own store has only what its rules read, which the names of engines.go are; for others there must be a MetricRule
// that reads them, or the controller asks a Prometheus-compatible server.
package evidence

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// PodMetrics answers with metrics of pods, as custom.metrics.k8s.io has them: requests_per_second.
type PodMetrics interface {
	// Pods returns a metric of the pods that a selector means, by pod; only of those that have a value.
	Pods(ctx context.Context, namespace string, selector labels.Selector, metric string) (map[string]Sample, error)
}

// Client asks the metric plane.
type Client struct {
	Plane  Plane
	Pods   PodMetrics    // nil: metrics of pods are not known
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

// Look is one look of the judge.
type Look struct {
	Key      string // what the verdict is about: rollout.State.Key
	New, Old []*corev1.Pod
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
