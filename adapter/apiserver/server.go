package apiserver

import (
	"fmt"
	"maps"
	"net/http"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/informers"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/metrics/pkg/apis/custom_metrics"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta1"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	cma "sigs.k8s.io/custom-metrics-apiserver/pkg/apiserver"
	openapicore "sigs.k8s.io/custom-metrics-apiserver/pkg/generated/openapi/core"
	openapicustom "sigs.k8s.io/custom-metrics-apiserver/pkg/generated/openapi/custommetrics"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"
)

const serverName = "headroom-adapter"

// NewConfig returns a configuration that knows the API's types and has neither serving nor authentication yet.
func NewConfig() *genericapiserver.RecommendedConfig {
	c := genericapiserver.NewRecommendedConfig(cma.Codecs)
	c.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, openapi.NewDefinitionNamer(cma.Scheme))
	c.OpenAPIConfig.Info.Title = serverName
	c.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, openapi.NewDefinitionNamer(cma.Scheme))
	c.OpenAPIV3Config.Info.Title = serverName
	return c
}

func definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := openapicore.GetOpenAPIDefinitions(ref)
	maps.Copy(all, openapicustom.GetOpenAPIDefinitions(ref))
	return all
}

// New returns the server of the provider's metrics. The configuration is used up.
func New(c *genericapiserver.Config, shared informers.SharedInformerFactory, p provider.CustomMetricsProvider) (*genericapiserver.GenericAPIServer, error) {
	c.BuildHandlerChainFunc = func(api http.Handler, c *genericapiserver.Config) http.Handler {
		return genericapiserver.DefaultBuildHandlerChain(refuseBadMetricSelector(api), c)
	}
	s, err := (&cma.Config{GenericConfig: c}).Complete(shared).New(serverName, p, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot build the API server: %w", err)
	}
	if err := publish(s.GenericAPIServer, p); err != nil {
		return nil, err
	}
	return s.GenericAPIServer, nil
}

// refuseBadMetricSelector answers 400 where the library would make a 500 of a metricLabelSelector that does not parse.
// It stands after authorization, so it tells nothing to those who may not ask.
func refuseBadMetricSelector(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, genericapiserver.APIGroupPrefix+"/"+custom_metrics.GroupName+"/") {
			if _, err := labels.Parse(r.URL.Query().Get("metricLabelSelector")); err != nil {
				bad := apierrors.NewBadRequest(fmt.Sprintf("metricLabelSelector: %v", err))
				responsewriters.ErrorNegotiated(bad, cma.Codecs, v1beta2.SchemeGroupVersion, w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// publish tells discovery what the library leaves out: that the group has two versions, and, for the aggregated form
// that kube-aggregator and kubectl ask for first, which resources they have.
func publish(s *genericapiserver.GenericAPIServer, p provider.CustomMetricsProvider) error {
	resources, err := endpoints.ConvertGroupVersionIntoToDiscovery(provider.NewCustomMetricResourceLister(p).ListAPIResources())
	if err != nil {
		return fmt.Errorf("cannot describe the metrics for discovery: %w", err)
	}
	group := metav1.APIGroup{Name: custom_metrics.GroupName}
	for _, gv := range []metav1.GroupVersion{
		{Group: custom_metrics.GroupName, Version: v1beta2.SchemeGroupVersion.Version},
		{Group: custom_metrics.GroupName, Version: v1beta1.SchemeGroupVersion.Version},
	} {
		group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version})
		s.AggregatedDiscoveryGroupManager.AddGroupVersion(gv.Group, apidiscoveryv2.APIVersionDiscovery{
			Version: gv.Version, Resources: resources, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
		})
	}
	group.PreferredVersion = group.Versions[0]
	s.DiscoveryGroupManager.AddGroup(group) // replaces the library's, which has one version
	return nil
}
