package sources

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/recommender"
)

// QueryAPI reads GPUs and engines from the adapter's embedded store, through query.headroom.dev: the expressions of forms, over
// the last minute as far as the store keeps it (GPU memory and pre-emptions a minute, else some 15 s). CPU and memory of
// containers are not in that store.
//
// It asks for all namespaces at once, also where one is wanted: what a MIG instance is says the agent's own namespace. The
// right is that of the ClusterRole headroom-reader.
type QueryAPI struct {
	api rest.Interface
	counts
}

// NewQueryAPI makes a source of any REST client of the cluster.
func NewQueryAPI(api rest.Interface) *QueryAPI { return &QueryAPI{api: api} }

// queryWindow is what a reading looks back over.
const queryWindow = time.Minute

// Samples implements Source.
func (q *QueryAPI) Samples(ctx context.Context, namespace string) ([]recommender.Sample, error) {
	s := scope{namespace: namespace, window: queryWindow, sums: time.Second} // the adapter scrapes every second
	return gather(gpuResources(), func(r recommender.Resource) ([]recommender.Sample, error) {
		return instant(ctx, r, s, q.query, &q.counts)
	})
}

// Past implements Source: the store keeps minutes.
func (*QueryAPI) Past(context.Context, recommender.Past, func([]recommender.Sample) error) error {
	return ErrNoHistory
}

// maxAnswer bounds an answer of the query API, which itself bounds them to 16 MiB.
const maxAnswer = 32 << 20

// query asks for an instant vector at the adapter's own time.
func (q *QueryAPI) query(ctx context.Context, expr string) (promql.Vector, error) {
	path := "/apis/" + query.APIVersion + "/prometheus/api/v1/query"
	body, err := q.api.Get().AbsPath(path).Param("query", expr).SetHeader("Accept", "application/json").Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot query query.headroom.dev: %w", err)
	}
	defer body.Close()
	v, err := decodeVector(body, maxAnswer)
	if err != nil {
		return nil, fmt.Errorf("cannot read the answer of query.headroom.dev: %w", err)
	}
	return v, nil
}

// gather asks for several resources. What came is returned with a *PartialError that says what did not. A server that fails
// twice and has not answered once is down: it need not be waited for eight times.
func gather(rs []recommender.Resource, ask func(recommender.Resource) ([]recommender.Sample, error)) ([]recommender.Sample, error) {
	var all []recommender.Sample
	var errs []error
	for i, r := range rs {
		samples, err := ask(r)
		all = append(all, samples...)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r, err))
			if len(errs) == min(2, len(rs)) && i == len(errs)-1 {
				return nil, errors.Join(errs...)
			}
		}
	}
	if len(errs) > 0 {
		return all, &PartialError{Errs: errs}
	}
	return all, nil
}

// PartialError says what could not be asked for where the rest was returned.
type PartialError struct{ Errs []error }

func (e *PartialError) Error() string { return errors.Join(e.Errs...).Error() }

// Unwrap returns the errors.
func (e *PartialError) Unwrap() []error { return e.Errs }
