package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"headroom.dev/headroom/adapter/apiserver"
	"headroom.dev/headroom/adapter/certs"
	"headroom.dev/headroom/api/query"
)

const (
	// certInterval is how often the Secret and the caBundles are looked at: what someone overwrote heals in a minute.
	certInterval = time.Minute
	certRetry    = 2 * time.Second
)

// Run serves until the context ends, which is no error. The options are complete and valid.
func Run(ctx context.Context, o *Options, logger *slog.Logger) error {
	config, err := o.restConfig()
	if err != nil {
		return err
	}
	c, err := newClients(config)
	if err != nil {
		return err
	}
	p, err := newPlane(o, c, logger) //nolint:contextcheck // its evaluator ends with close
	if err != nil {
		return err
	}
	defer p.close()
	keeper, err := newKeeper(o, config, c.kube, logger)
	if err != nil {
		return err
	}
	server, err := boot(ctx, o, c.kube, keeper, p, logger)
	if ctx.Err() != nil {
		return nil // asked to stop while waiting
	}
	if err != nil {
		return err
	}

	// What measures outlives ctx: the server goes on answering for a while after it was told to stop, and what it says must
	// not grow old meanwhile.
	measuring, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	p.start(measuring, &wg, o, logger)
	if keeper != nil {
		wg.Go(func() { keeper.Run(measuring, certInterval, certRetry) })
	}
	err = server.PrepareRun().RunWithContext(ctx)
	if err == nil && ctx.Err() == nil {
		err = errors.New("the API server ended by itself")
	}
	return err
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
		APIServices: apiServices(),
		Logger:      logger,
	})
	o.Serving.ServerCert.GeneratedCert = keeper
	return keeper, nil
}

// apiServices are the APIs that this server answers, each of which must trust its certificate.
func apiServices() []string {
	return []string{
		"v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io", "v1beta1.external.metrics.k8s.io",
		query.Version + "." + query.Group,
	}
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
	c.ShutdownDelayDuration = o.ShutdownDelay
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
	// Nothing in the library watches anything here.
	none := informers.NewSharedInformerFactory(nil, 0)
	c.SharedInformerFactory = none
	server, err := apiserver.New(&c.Config, none, p.provider)
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
