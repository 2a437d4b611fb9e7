package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"

	"headroom.dev/headroom/adapter/apiserver"
	"headroom.dev/headroom/adapter/direct"
	"headroom.dev/headroom/adapter/discovery"
	"headroom.dev/headroom/adapter/promapi"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/adapter/rulewatch"
	"headroom.dev/headroom/adapter/scrape"
	"headroom.dev/headroom/adapter/store"
)

// clients are the ways to ask the API server.
type clients struct {
	kube     kubernetes.Interface
	dynamic  dynamic.Interface
	metadata metadata.Interface
	mapper   meta.RESTMapper
}

func newClients(config *rest.Config) (*clients, error) {
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client: %w", err)
	}
	plain := rest.CopyConfig(config)
	plain.AcceptContentTypes, plain.ContentType = "", "" // custom resources have no protobuf
	dyn, err := dynamic.NewForConfig(plain)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for custom resources: %w", err)
	}
	metadataOnly, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for metadata: %w", err)
	}
	return &clients{
		kube: kube, dynamic: dyn, metadata: metadataOnly,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(kube.Discovery())),
	}, nil
}

// plane is what measures: all but certificates and serving.
type plane struct {
	watcher     *discovery.Watcher
	known       atomic.Pointer[time.Time] // when all pods of the first list had become targets
	warmUp      time.Duration             // from then to the first values that rest on two scrapes
	manager     *scrape.Manager
	ruleset     *ruleset
	metricRules *rulewatch.Watcher
	evaluator   *rules.Evaluator
	evaluation  *evaluation
	provider    *apiserver.Provider
	registry    *prometheus.Registry
}

// newPlane builds everything in memory; nothing is asked of the cluster yet.
func newPlane(o *Options, c *clients, logger *slog.Logger) (*plane, error) {
	p := &plane{warmUp: 2 * o.ScrapeInterval, registry: prometheus.NewRegistry()}
	now := steadyClock()
	st := store.New(store.Options{MaxSeries: o.MaxSeries})
	p.manager = scrape.NewManager(sink{st}, scrape.Options{
		Interval: o.ScrapeInterval, Timeout: o.ScrapeTimeout, BodyLimit: o.BodyLimit,
		Now: now, Logger: logger, Registerer: p.registry,
	})
	var err error
	p.watcher, err = discovery.NewWatcher(discovery.Options{
		Client: c.kube, Dynamic: c.dynamic, Sink: targets{p.manager}, Trusted: o.Trusted, PodIndexers: apiserver.PodIndexers(), Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	remote, err := newRemote(o)
	if err != nil {
		return nil, err
	}
	p.evaluator = rules.NewEvaluator(rules.Options{
		Store: st, Direct: func() *direct.Evaluator { return direct.New(st) }, Directory: p.watcher, Remote: remote, Clock: now,
		RemoteInterval: o.Prometheus.Interval, RemoteTimeout: o.Prometheus.Timeout,
	})
	if p.ruleset, err = newRuleset(o, p.evaluator, st, logger); err != nil {
		return nil, fmt.Errorf("cannot use the built-in rules: %w", err)
	}
	p.evaluation = newEvaluation(p.evaluator, now, o.EvaluationInterval, p.warmUp, logger, p.registry)
	p.metricRules = rulewatch.New(rulewatch.Options{Dynamic: c.dynamic, Client: c.kube, Logger: logger, Changed: func(users []rules.Rule) {
		p.ruleset.set(users)
		p.evaluation.hurry()
	}})
	if err := errors.Join(p.registry.Register(newStoreCollector(st)), p.registry.Register(newRuleCollector(p.evaluation.Statuses))); err != nil {
		return nil, fmt.Errorf("cannot expose the adapter's own metrics: %w", err)
	}
	queries := promapi.NewServer(st, promapi.ServerOptions{Clock: now, Registry: p.registry})
	kinds := apiserver.NewKinds(c.mapper)
	explainer := &explainer{pods: p.watcher.Pods(), notScraped: p.watcher.Why, manager: p.manager, trusted: o.Trusted, rules: p.ruleset}
	p.provider = apiserver.NewProvider(apiserver.Options{
		Reader: p.evaluation, Pods: p.watcher.PodIndexer(), Directory: p.watcher,
		Kinds: kinds, Names: apiserver.MetadataLister{Client: c.metadata, Kinds: kinds},
		Why: explainer.why, Rules: p.ruleset.describe(p.evaluation), Prometheus: queries.Handler,
		Now: now, Registerer: p.registry,
	})
	return p, nil
}

// newRemote returns nil where no server is named.
func newRemote(o *Options) (rules.Remote, error) {
	if o.Prometheus.URL == "" {
		return nil, nil //nolint:nilnil // no server and no fault
	}
	client, err := promapi.NewClient(o.Prometheus.ClientOptions)
	if err != nil {
		return nil, fmt.Errorf("cannot use --prometheus-url: %w", err)
	}
	return client, nil
}

// start makes it measure until the context ends.
func (p *plane) start(ctx context.Context, wg *sync.WaitGroup, o *Options, logger *slog.Logger) {
	wg.Go(func() { p.evaluation.run(ctx) })
	wg.Go(func() { p.watcher.Run(ctx) })
	wg.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), p.watcher.HasSynced) {
			p.known.Store(new(p.evaluation.now()))
		}
	})
	wg.Go(func() { p.metricRules.Run(ctx) })
	wg.Go(func() {
		err := p.metricRules.Report(ctx, rulewatch.ReportOptions{
			Namespace: o.Namespace, Lease: o.Lease, Identity: o.Identity, Statuses: p.evaluation.Statuses,
		})
		if err != nil {
			logger.Error("the status of MetricRules is not written", "err", err)
		}
	})
}

// close ends what newPlane began.
func (p *plane) close() {
	p.manager.Close()
	p.evaluator.Close()
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
