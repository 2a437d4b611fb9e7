package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/kube"
)

// addRecommender lets a manager recommend.
func addRecommender(m manager.Manager, o *Options, source kube.Source, logger *slog.Logger) error {
	floors, err := o.Recommend.floors()
	if err != nil {
		return err
	}
	c, err := kube.New(kube.Options{
		Client: m.GetClient(), Reader: m.GetAPIReader(), Mapper: m.GetRESTMapper(), Source: source,
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

// silent is a source without samples.
type silent struct{}

func (silent) Samples(context.Context, string) ([]recommender.Sample, error) {
	return nil, errors.New("there is no source of usage")
}

func (silent) Past(context.Context, recommender.Past, func([]recommender.Sample) error) error {
	return errors.ErrUnsupported
}
