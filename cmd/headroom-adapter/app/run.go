package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"headroom.dev/headroom/adapter/apiserver"
	"headroom.dev/headroom/adapter/certs"
	"headroom.dev/headroom/adapter/discovery"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/adapter/scrape"
	"headroom.dev/headroom/adapter/store"
)

const (
	// certInterval is how often the Secret and the caBundles are looked at: what someone overwrote heals in a minute.
	certInterval = time.Minute
	certRetry    = 2 * time.Second
)

// plane is what measures: all but certificates and serving.
type plane struct {
	factory    informers.SharedInformerFactory
	synced     cache.InformerSynced      // all pods of the first list have become targets
	known      atomic.Pointer[time.Time] // when synced became true
	warmUp     time.Duration             // from then to the first values that rest on two scrapes
	manager    *scrape.Manager
	evaluation *evaluation
	provider   *apiserver.Provider
	registry   *prometheus.Registry
}

// Run serves until the context ends, which is no error. The options are complete and valid.
func Run(ctx context.Context, o *Options, logger *slog.Logger) error {
	config, err := o.restConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("cannot make a client: %w", err)
	}
	p, err := newPlane(ctx, o, client, logger)
	if err != nil {
		return err
	}
	defer p.manager.Close()
	keeper, err := newKeeper(o, config, client, logger)
	if err != nil {
		return err
	}
	server, err := boot(ctx, o, client, keeper, p, logger)
	if ctx.Err() != nil {
		return nil // asked to stop while waiting
	}
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	if keeper != nil {
		group.Go(func() error { keeper.Run(ctx, certInterval, certRetry); return nil })
	}
	group.Go(func() error { p.evaluation.run(ctx); return nil })
	p.factory.Start(ctx.Done())
	defer p.factory.Shutdown()
	group.Go(func() error {
		if cache.WaitForCacheSync(ctx.Done(), p.synced) {
			p.known.Store(new(p.evaluation.now()))
		}
		return nil
	})
	group.Go(func() error {
		err := server.PrepareRun().RunWithContext(ctx)
		if err == nil && ctx.Err() == nil {
			err = errors.New("the API server ended by itself")
		}
		return err
	})
	return group.Wait()
}

// newPlane builds everything in memory; nothing is asked of the cluster yet.
func newPlane(ctx context.Context, o *Options, client kubernetes.Interface, logger *slog.Logger) (*plane, error) {
	set, err := rules.Compile(rules.Defaults())
	if err != nil {
		return nil, fmt.Errorf("cannot compile the built-in rules: %w", err)
	}
	now := steadyClock()
	registry := prometheus.NewRegistry()
	st := store.New(store.Options{Keep: set.Needs(), MaxSeries: o.MaxSeries})
	if err := registry.Register(newStoreCollector(st)); err != nil {
		return nil, fmt.Errorf("cannot expose the store's figures: %w", err)
	}
	trusted := map[string]bool{}
	for _, namespace := range o.HonorLabels {
		trusted[namespace] = true
	}
	manager := scrape.NewManager(sink{st}, scrape.Options{
		Interval: o.ScrapeInterval, Timeout: o.ScrapeTimeout, BodyLimit: o.BodyLimit,
		Now: now, Logger: logger, Registerer: registry,
	})
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(discovery.Trim))
	pods := factory.Core().V1().Pods()
	handled, err := pods.Informer().AddEventHandler(&targets{manager: manager, trusted: trusted, logger: logger})
	if err != nil {
		return nil, fmt.Errorf("cannot watch pods: %w", err)
	}
	e := newEvaluation(ctx, set, st, now, o.EvaluationInterval, logger, registry)
	return &plane{
		factory: factory, synced: handled.HasSynced, warmUp: 2 * o.ScrapeInterval, manager: manager, evaluation: e, registry: registry,
		provider: apiserver.NewProvider(apiserver.Options{
			Reader: e, Pods: pods.Lister(), Now: now, Registerer: registry,
			Why: newExplainer(pods.Lister(), manager, trusted, set).why,
		}),
	}, nil
}

// newKeeper returns nil where the certificate comes from files.
func newKeeper(o *Options, config *rest.Config, client kubernetes.Interface, logger *slog.Logger) (*certs.Keeper, error) {
	if o.ownFiles() {
		return nil, nil //nolint:nilnil // no keeper and no fault
	}
	registrations, err := aggregator.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for APIServices: %w", err)
	}
	keeper := certs.NewKeeper(certs.Options{
		Client: client, Aggregator: registrations, Namespace: o.Namespace, Secret: o.TLSSecret,
		Names:       certs.Names(o.ServiceName, o.Namespace),
		APIServices: []string{"v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"},
		Logger:      logger,
	})
	o.Serving.ServerCert.GeneratedCert = keeper
	return keeper, nil
}

// boot waits for what the server needs from the cluster, answering probes meanwhile, and builds it.
func boot(ctx context.Context, o *Options, client kubernetes.Interface, keeper *certs.Keeper, p *plane, logger *slog.Logger) (*genericapiserver.GenericAPIServer, error) {
	w := &waiting{logger: logger}
	stopProbes, err := serveProbes(ctx, net.JoinHostPort(o.Serving.BindAddress.String(), strconv.Itoa(o.Serving.BindPort)), w)
	if err != nil {
		return nil, err
	}
	err = w.until(ctx, "the API server's authentication configuration", func(ctx context.Context) error {
		_, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
		return err
	})
	if err == nil && keeper != nil {
		err = w.until(ctx, "the serving certificate", func(ctx context.Context) error {
			err := keeper.Sync(ctx, time.Now())
			if _, ok := errors.AsType[*certs.TrustError](err); ok {
				return nil // there is a certificate; Run sees to the rest
			}
			return err
		})
	}
	stopProbes()
	if err != nil {
		return nil, err
	}
	if err := bind(o); err != nil {
		return nil, err
	}
	var server *genericapiserver.GenericAPIServer
	err = w.until(ctx, "delegated authentication", func(context.Context) (err error) {
		server, err = newServer(o, p)
		return err
	})
	return server, err
}

// bind takes the port before anything that is worth repeating: a port that is taken is not.
func bind(o *Options) error {
	address := net.JoinHostPort(o.Serving.BindAddress.String(), strconv.Itoa(o.Serving.BindPort))
	listener, port, err := genericoptions.CreateListener(o.Serving.BindNetwork, address, net.ListenConfig{})
	if err != nil {
		return fmt.Errorf("cannot listen on --bind-address and --secure-port: %w", err)
	}
	o.Serving.Listener, o.Serving.BindPort = listener, port
	return nil
}

func newServer(o *Options, p *plane) (*genericapiserver.GenericAPIServer, error) {
	c := apiserver.NewConfig()
	c.SharedInformerFactory = p.factory
	c.EnableMetrics = false // metricsHandler serves ours besides
	if err := o.Serving.ApplyTo(&c.SecureServing, &c.LoopbackClientConfig); err != nil {
		return nil, fmt.Errorf("cannot serve: %w", err)
	}
	if err := o.Authentication.ApplyTo(&c.Authentication, c.SecureServing, c.OpenAPIConfig); err != nil {
		return nil, fmt.Errorf("cannot authenticate: %w", err)
	}
	if err := o.Authorization.ApplyTo(&c.Authorization); err != nil {
		return nil, fmt.Errorf("cannot authorize: %w", err)
	}
	server, err := apiserver.New(&c.Config, p.factory, p.provider)
	if err != nil {
		return nil, err
	}
	server.Handler.NonGoRestfulMux.Handle("/metrics", metricsHandler(p.registry))
	if err := server.AddReadyzChecks(healthz.NamedCheck("evaluation", p.ready)); err != nil {
		return nil, fmt.Errorf("cannot add a readiness check: %w", err)
	}
	if err := server.AddLivezChecks(0, healthz.NamedCheck("evaluation", p.evaluation.alive)); err != nil {
		return nil, fmt.Errorf("cannot add a liveness check: %w", err)
	}
	return server, nil
}

// ready fails until there was time for values: a rate needs two scrapes. A roll-out of the adapter then leaves no gap in
// what the HPAs see. It does not ask whether there are values, which is up to the pods.
func (p *plane) ready(*http.Request) error {
	known := p.known.Load()
	switch {
	case known == nil:
		return errors.New("the list of pods is not here yet")
	case p.evaluation.snapshot.Load().At().Before(known.Add(p.warmUp)):
		return errors.New("the first values are being measured")
	}
	return nil
}
