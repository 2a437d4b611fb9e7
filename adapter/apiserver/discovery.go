package apiserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/metrics/pkg/apis/custom_metrics"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta1"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	"k8s.io/metrics/pkg/apis/external_metrics"
	externalv1beta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	cma "sigs.k8s.io/custom-metrics-apiserver/pkg/apiserver"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/api/query"
)

// placeholder is listed for a group without metrics: kubectl and helm call a group with an empty list broken.
const placeholder = "none"

// discoveryInterval is how long discovery may lag behind the rules.
const discoveryInterval = 500 * time.Millisecond

// group is an API group with its versions, the preferred one first.
type group struct {
	name     string
	versions []string
	lister   discovery.APIResourceLister // of each version
}

// publish tells discovery what the library leaves out: that custom.metrics.k8s.io has two versions, the group of queries
// and, for the aggregated form that kube-aggregator and kubectl ask for first, which resources they all have. It keeps
// the aggregated form up to date while the server runs; the other lists are made for each request.
func (p *Provider) publish(s *genericapiserver.GenericAPIServer) error {
	queries := group{query.Group, []string{query.Version}, discovery.APIResourceListerFunc(queryResources)}
	metrics := []group{
		{custom_metrics.GroupName, []string{v1beta2.SchemeGroupVersion.Version, v1beta1.SchemeGroupVersion.Version}, provider.NewCustomMetricResourceLister(p)},
		{external_metrics.GroupName, []string{externalv1beta1.SchemeGroupVersion.Version}, provider.NewExternalMetricResourceLister(p)},
	}
	for _, g := range metrics {
		s.DiscoveryGroupManager.AddGroup(g.legacy()) // replaces the library's, which has one version
		if err := replaceGroup(s, g.legacy()); err != nil {
			return err
		}
	}
	s.DiscoveryGroupManager.AddGroup(queries.legacy())
	mux, path := s.Handler.NonGoRestfulMux, genericapiserver.APIGroupPrefix+"/"
	mux.Handle(path+query.Group, discovery.NewAPIGroupHandler(cma.Codecs, queries.legacy()))
	mux.Handle(path+query.APIVersion, discovery.NewAPIVersionHandler(cma.Codecs, schema.GroupVersion{Group: query.Group, Version: query.Version}, queries.lister))

	aggregate(s, append(metrics, queries))
	if err := s.AddPostStartHook("headroom-discovery", upkeep{p, s, metrics}.start); err != nil {
		return fmt.Errorf("cannot keep discovery up to date: %w", err)
	}
	return nil
}

// upkeep keeps what changes in discovery up to date.
type upkeep struct {
	provider *Provider
	server   *genericapiserver.GenericAPIServer
	metrics  []group
}

// start returns at once; the work goes on until the server ends.
func (u upkeep) start(hook genericapiserver.PostStartHookContext) error {
	go follow(hook, func() { aggregate(u.server, u.metrics) })
	go follow(hook, func() { u.provider.learnKinds(time.Now()) }) // by itself, as it may wait for the API server
	return nil
}

func (g *group) legacy() metav1.APIGroup {
	out := metav1.APIGroup{Name: g.name}
	for _, v := range g.versions {
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: g.name + "/" + v, Version: v})
	}
	out.PreferredVersion = out.Versions[0]
	return out
}

// replaceGroup answers for /apis/GROUP in place of the library.
func replaceGroup(s *genericapiserver.GenericAPIServer, g metav1.APIGroup) error {
	ws := discovery.NewAPIGroupHandler(s.Serializer, g).WebService()
	container := s.Handler.GoRestfulContainer
	for _, old := range container.RegisteredWebServices() {
		if old.RootPath() == ws.RootPath() {
			if err := container.Remove(old); err != nil {
				return fmt.Errorf("cannot replace the discovery of %s: %w", g.Name, err)
			}
		}
	}
	container.Add(ws)
	return nil
}

// aggregate puts what the groups have now into the aggregated discovery; what has not changed costs nothing there.
func aggregate(s *genericapiserver.GenericAPIServer, groups []group) {
	for _, g := range groups {
		resources, err := endpoints.ConvertGroupVersionIntoToDiscovery(oneScope(g.lister.ListAPIResources()))
		if err != nil {
			utilruntime.HandleError(fmt.Errorf("cannot describe %s for discovery: %w", g.name, err))
			continue
		}
		for _, v := range g.versions {
			s.AggregatedDiscoveryGroupManager.AddGroupVersion(g.name, apidiscoveryv2.APIVersionDiscovery{
				Version: v, Resources: resources, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
			})
		}
	}
}

// oneScope leaves out what contradicts most of a resource's metrics: the aggregated form has one scope for them all, and
// one wrong rule must not hide the others' metrics.
func oneScope(list []metav1.APIResource) []metav1.APIResource {
	balance := map[string]int{} // by resource, namespaced metrics less root-scoped ones
	for _, r := range list {
		parent, _, _ := strings.Cut(r.Name, "/")
		if r.Namespaced {
			balance[parent]++
		} else {
			balance[parent]--
		}
	}
	return slices.DeleteFunc(list, func(r metav1.APIResource) bool {
		parent, _, _ := strings.Cut(r.Name, "/")
		return r.Namespaced != (balance[parent] >= 0)
	})
}

// follow calls update again and again until the context ends.
func follow(ctx context.Context, update func()) {
	tick := time.NewTicker(discoveryInterval)
	defer tick.Stop()
	for {
		update()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// learnKinds asks for the kinds of the objects that the rules are about.
func (p *Provider) learnKinds(now time.Time) {
	resources := map[string]bool{}
	for _, d := range p.opts.Reader.Metrics() {
		if d.Resource != metric.External {
			resources[d.Resource] = true
		}
	}
	p.opts.Kinds.learn(now, resources)
}
