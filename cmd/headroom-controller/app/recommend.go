package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"headroom.dev/headroom/adapter/promapi"
	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/kube"
	"headroom.dev/headroom/recommender/sources"
)

// addRecommender lets a manager recommend.
func addRecommender(m manager.Manager, o *Options, source *usage, logger *slog.Logger) error {
	floors, err := o.Recommend.floors()
	if err != nil {
		return err
	}
	c, err := kube.New(kube.Options{
		Client: m.GetClient(), Reader: m.GetAPIReader(), Mapper: m.GetRESTMapper(), Source: source, Engines: source,
		Interval: o.Recommend.Interval, Checkpoints: o.Recommend.Checkpoints, WritesPerSecond: o.Recommend.WritesPerSecond,
		Floors: floors, History: o.Recommend.History, Now: time.Now,
		Recorder: m.GetEventRecorder(kube.FieldOwner), Registerer: metrics.Registry, Log: logger,
	})
	if err != nil {
		return err
	}
	err = builder.ControllerManagedBy(m).Named("resourcerecommendation").
		For(&v1alpha1.ResourceRecommendation{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("cannot watch ResourceRecommendations: %w", err)
	}
	if err := m.Add(c); err != nil {
		return fmt.Errorf("cannot recommend: %w", err)
	}
	return nil
}

// usage is what containers use, from all that can be asked.
type usage struct{ *sources.Joined }

// newUsage asks the metrics API for CPU and memory, the adapter for GPUs and engines, and a Prometheus-compatible server, where
// there is one, for what those two do not have, and for the past.
//
// Of memory the server comes first where it knows a container: it tells the most of all scrapes of the last two minutes, the metrics
// API what there was at one moment in each minute, and a peak that is missed is a kill that is not foreseen.
// (A peak from before a pod was Ready may so count for two minutes after: to the safe side.) Of CPU the metrics API comes
// first: its windows of some 15 s show bursts that a rate over two minutes levels out, and that is what the share of time above a
// request is about. GPUs and engines come from the adapter, which reads them every second.
func newUsage(api rest.Interface, server *promapi.Client, reg prometheus.Registerer) (*usage, error) {
	metricsAPI, queryAPI := sources.NewMetricsAPI(api), sources.NewQueryAPI(api)
	list := []sources.Named{{Name: "metrics.k8s.io", Source: metricsAPI}, {Name: "query.headroom.dev", Source: queryAPI}}
	dropped := map[string]func() sources.Dropped{"metrics.k8s.io": metricsAPI.Dropped, "query.headroom.dev": queryAPI.Dropped}
	if server != nil {
		p := sources.NewPrometheus(server, sources.Options{})
		list = append(list, sources.Named{Name: "prometheus", Source: p})
		dropped["prometheus"] = p.Dropped
	}
	for name, of := range dropped {
		for reason, count := range map[string]func(sources.Dropped) uint64{
			"nan":        func(d sources.Dropped) uint64 { return d.NotANumber },
			"negative":   func(d sources.Dropped) uint64 { return d.Negative },
			"unreadable": func(d sources.Dropped) uint64 { return d.Unreadable },
		} {
			err := reg.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "headroom_recommender_readings_dropped_total", Help: "Readings of usage that make no sense.",
				ConstLabels: prometheus.Labels{"source": name, "reason": reason},
			}, func() float64 { return float64(count(of())) }))
			if err != nil {
				return nil, fmt.Errorf("cannot expose what sources drop: %w", err)
			}
		}
	}
	return &usage{sources.Join(list...).Prefer("prometheus", recommender.Memory)}, nil
}

// Samples implements kube.Source. What is wrong with one source does not hold up the samples of the others.
func (u *usage) Samples(ctx context.Context, namespace string) ([]recommender.Sample, error) {
	samples, err := u.Joined.Samples(ctx, namespace)
	if err != nil {
		return samples, err
	}
	var errs []error
	for _, e := range u.Errors() {
		errs = append(errs, e)
	}
	return samples, errors.Join(errs...)
}

// Past implements kube.Source.
func (u *usage) Past(ctx context.Context, of recommender.Past, yield func([]recommender.Sample) error) error {
	err := u.Joined.Past(ctx, of, yield)
	if errors.Is(err, sources.ErrNoHistory) {
		return errors.ErrUnsupported
	}
	if gaps, ok := errors.AsType[*sources.GapError](err); ok {
		return fmt.Errorf("%w: %w", kube.ErrPartial, gaps)
	}
	return err
}
