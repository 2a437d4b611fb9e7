package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"headroom.dev/headroom/adapter/promapi"
	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler/kube"
)

// Run works until the context ends, which is no error, or until the Lease is lost. The options are complete and valid.
func Run(ctx context.Context, o *Options, logger *slog.Logger) error {
	config, err := o.restConfig()
	if err != nil {
		return err
	}
	m, err := newManager(config, o, logger)
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	p, err := newPlane(config, o)
	if err != nil {
		return err
	}
	c, err := newController(config, o, m, p, logger)
	if err != nil {
		return err
	}
	if err := register(m, c, o); err != nil {
		return err
	}
	if o.Recommend.Enabled {
		source, err := newUsage(p.api, p.server, metrics.Registry)
		if err != nil {
			return err
		}
		if err := addRecommender(m, o, source, logger); err != nil {
			return err
		}
	}
	if o.Rollouts {
		if err := addRollouts(m, o, p, logger); err != nil {
			return err
		}
	}
	return m.Start(ctx)
}

func newManager(config *rest.Config, o *Options, logger *slog.Logger) (manager.Manager, error) {
	known := runtime.NewScheme()
	if err := scheme.AddToScheme(known); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(known); err != nil {
		return nil, err
	}
	if err := vpav1.AddToScheme(known); err != nil {
		return nil, err
	}
	renew := o.LeaseDuration * 2 / 3
	retry := max(o.LeaseDuration/8, 500*time.Millisecond)
	return manager.New(config, manager.Options{
		Scheme: known, Logger: logr.FromSlogHandler(logger.Handler()),
		LeaderElection: true, LeaderElectionID: o.Lease, LeaderElectionNamespace: o.Namespace,
		// The histories are written by then, and the successor need not wait for the Lease to expire.
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &o.LeaseDuration, RenewDeadline: &renew, RetryPeriod: &retry,
		Metrics: metricsserver.Options{BindAddress: o.MetricsAddress}, HealthProbeBindAddress: o.HealthAddress,
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject:         map[client.Object]cache.ByObject{&corev1.Pod{}: {Transform: slim}, &corev1.Node{}: {Transform: slimNode}},
		},
		// Checkpoints are read once and written every some minutes: no reason to keep every ConfigMap of the cluster in memory.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.ConfigMap{}, &vpav1.VerticalPodAutoscalerCheckpoint{}}}},
	})
}

// newPlane makes the view of the metric plane.
func newPlane(config *rest.Config, o *Options) (*plane, error) {
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for metrics: %w", err)
	}
	p := &plane{api: clients.Discovery().RESTClient()}
	if o.Prometheus.URL != "" {
		if p.server, err = promapi.NewClient(o.Prometheus.ClientOptions); err != nil {
			return nil, fmt.Errorf("cannot use --prometheus-url: %w", err)
		}
	}
	return p, nil
}

func newController(config *rest.Config, o *Options, m manager.Manager, p *plane, logger *slog.Logger) (*kube.Controller, error) {
	targets, err := kube.NewScales(config, m.GetRESTMapper())
	if err != nil {
		return nil, err
	}
	opts := kube.Options{
		Client: m.GetClient(), Targets: targets, Metrics: p, Period: o.Period, Now: time.Now,
		Recorder: m.GetEventRecorder(kube.FieldOwner), Registerer: metrics.Registry, Log: logger,
	}
	if p.server != nil {
		opts.Historian = p
	}
	return kube.New(opts)
}

func register(m manager.Manager, c *kube.Controller, o *Options) error {
	err := builder.ControllerManagedBy(m).Named("scalepolicy").
		For(&v1alpha1.ScalePolicy{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&autoscalingv2.HorizontalPodAutoscaler{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))). // an update's floor is an annotation
		WithOptions(controller.Options{MaxConcurrentReconciles: o.Workers}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("cannot watch ScalePolicies: %w", err)
	}
	if err := m.Add(manager.RunnableFunc(c.Save)); err != nil {
		return fmt.Errorf("cannot save histories at the end: %w", err)
	}
	synced := func(ctx context.Context) bool { return m.GetCache().WaitForCacheSync(ctx) }
	if err := m.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("cannot serve /healthz: %w", err)
	}
	if err := m.AddReadyzCheck("caches", ready(synced)); err != nil {
		return fmt.Errorf("cannot serve /readyz: %w", err)
	}
	return nil
}
