package apiserver

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/informers"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/metrics/pkg/apis/custom_metrics"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	cma "sigs.k8s.io/custom-metrics-apiserver/pkg/apiserver"
	openapicore "sigs.k8s.io/custom-metrics-apiserver/pkg/generated/openapi/core"
	openapicustom "sigs.k8s.io/custom-metrics-apiserver/pkg/generated/openapi/custommetrics"
	openapiexternal "sigs.k8s.io/custom-metrics-apiserver/pkg/generated/openapi/externalmetrics"

	"headroom.dev/headroom/api/query"
)

const serverName = "headroom-adapter"

// NewConfig returns a configuration that knows the API's types and has neither serving nor authentication yet.
func NewConfig() *genericapiserver.RecommendedConfig {
	c := genericapiserver.NewRecommendedConfig(cma.Codecs)
	c.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, openapi.NewDefinitionNamer(cma.Scheme))
	c.OpenAPIConfig.Info.Title = serverName
	c.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, openapi.NewDefinitionNamer(cma.Scheme))
	c.OpenAPIV3Config.Info.Title = serverName
	// There is no core group here: /api/v1/query is Prometheus' and not a list of the core resource "query".
	c.LegacyAPIGroupPrefixes = sets.NewString()
	c.RequestInfoResolver = &directPaths{genericapiserver.NewRequestInfoResolver(&c.Config)}
	return c
}

// directPaths has /api/v1/… authorized as the same request of query.headroom.dev over all series. As the mere path that it
// is, every ServiceAccount might read it: the ClusterRole system:discovery grants GET of /api/* to all who are authenticated.
type directPaths struct{ request.RequestInfoResolver }

// NewRequestInfo implements request.RequestInfoResolver.
func (d *directPaths) NewRequestInfo(r *http.Request) (*request.RequestInfo, error) {
	if !strings.HasPrefix(r.URL.Path, prometheusRoot) {
		return d.RequestInfoResolver.NewRequestInfo(r)
	}
	meant := *r
	meant.URL = &url.URL{Path: genericapiserver.APIGroupPrefix + "/" + query.APIVersion + "/" + prometheusResource + r.URL.Path, RawQuery: r.URL.RawQuery}
	info, err := d.RequestInfoResolver.NewRequestInfo(&meant)
	if info != nil {
		info.Path = r.URL.Path
	}
	return info, err
}

func definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := openapicore.GetOpenAPIDefinitions(ref)
	maps.Copy(all, openapicustom.GetOpenAPIDefinitions(ref))
	maps.Copy(all, openapiexternal.GetOpenAPIDefinitions(ref))
	return all
}

// New returns the server of the provider's metrics. The configuration, from NewConfig, is used up.
func New(c *genericapiserver.Config, shared informers.SharedInformerFactory, p *Provider) (*genericapiserver.GenericAPIServer, error) {
	c.BuildHandlerChainFunc = func(api http.Handler, c *genericapiserver.Config) http.Handler {
		return genericapiserver.DefaultBuildHandlerChain(refuseBadMetricSelector(api), c)
	}
	s, err := (&cma.Config{GenericConfig: c}).Complete(shared).New(serverName, p, p)
	if err != nil {
		return nil, fmt.Errorf("cannot build the API server: %w", err)
	}
	p.serveQueries(s.GenericAPIServer)
	if err := p.publish(s.GenericAPIServer); err != nil {
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
