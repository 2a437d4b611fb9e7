package apiserver

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta1"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	custommetrics "k8s.io/metrics/pkg/client/custom_metrics"

	"headroom.dev/headroom/adapter/metric"
)

// ask returns the items of an answer of 200.
func ask(t *testing.T, address string) []v1beta2.MetricValue {
	t.Helper()
	code, _, body := get(t, address, "application/json")
	require.Equal(t, http.StatusOK, code, "%s: %s", address, body)
	var list v1beta2.MetricValueList
	require.NoError(t, json.Unmarshal(body, &list))
	return list.Items
}

// refusal returns the code and message of a Status.
func refusal(t *testing.T, address string) string {
	t.Helper()
	code, _, body := get(t, address, "application/json")
	var status metav1.Status
	require.NoError(t, json.Unmarshal(body, &status), string(body))
	require.Equal(t, "Status", status.Kind, "%s: %s", address, body)
	require.Equal(t, int32(code), status.Code)
	return strconv.Itoa(code) + " " + status.Message
}

func selecting(s string) string { return "?labelSelector=" + url.QueryEscape(s) }

func TestObjects(t *testing.T) {
	c := serve(t)
	f := func(path, apiVersion, kind, namespace string, want map[string]string) {
		t.Helper()
		got := map[string]string{}
		items := ask(t, c.url+v2+path)
		for _, item := range items {
			o := item.DescribedObject
			assert.Equal(t, []string{apiVersion, kind, namespace}, []string{o.APIVersion, o.Kind, o.Namespace})
			got[o.Name] = item.Value.String()
		}
		assert.Equal(t, want, got, path)
		assert.Len(t, items, len(want), "an object twice: %s", path)
	}
	both := map[string]string{"chat": "12346m", "embed": "7"}
	f("/namespaces/demo/services/chat/requests_per_second", "v1", "Service", "demo", map[string]string{"chat": "12346m"})
	f("/namespaces/demo/services/%2A/requests_per_second", "v1", "Service", "demo", both)
	f("/namespaces/demo/services/%2A/requests_per_second"+selecting("tier=front"), "v1", "Service", "demo", map[string]string{"chat": "12346m"})
	f("/namespaces/demo/services/%2A/requests_per_second"+selecting("tier"), "v1", "Service", "demo", both)
	f("/namespaces/demo/deployments.apps/cd/requests_per_second", "apps/v1", "Deployment", "demo", map[string]string{"cd": "12346m"})
	f("/namespaces/demo/deployments.apps/%2A/requests_per_second", "apps/v1", "Deployment", "demo", map[string]string{"cd": "12346m"})
	f("/namespaces/demo/widgets.example.com/w/spin", "example.com/v1alpha7", "Widget", "demo", map[string]string{"w": "500m"})
	f("/nodes/n1/gpus_free", "v1", "Node", "", map[string]string{"n1": "3"})
	f("/nodes/%2A/gpus_free", "v1", "Node", "", map[string]string{"n1": "3", "n2": "0"})
	f("/namespaces/demo/metrics/quota_used", "v1", "Namespace", "", map[string]string{"demo": "5"})
	f("/namespaces/%2A/metrics/quota_used", "v1", "Namespace", "", map[string]string{"demo": "5"})

	g := func(path, want string) {
		t.Helper()
		assert.Equal(t, want, refusal(t, c.url+v2+path))
	}
	g("/namespaces/demo/services/idle/requests_per_second", "404 no requests_per_second of services demo/idle: "+scraped)
	g("/namespaces/demo/services/%2A/requests_per_second"+selecting("tier=none"), "404 no requests_per_second of services demo/idle: "+scraped)
	g("/namespaces/demo/services/%2A/requests_per_second"+selecting("tier=x"), `404 no requests_per_second of services in demo: nothing matches the selector "tier=x"`)
	g("/namespaces/none/services/%2A/requests_per_second", "404 no requests_per_second of services in none: nothing matches an empty selector")
	g("/namespaces/demo/deployments.apps/nan/requests_per_second", "404 no requests_per_second of deployments.apps demo/nan: the value is not a number")
	g("/nodes/%2A/gpus_free"+selecting("gpu"), `503 cannot tell which nodes match the selector "gpu": forbidden`)
	g("/namespaces/none/metrics/quota_used", "404 no quota_used of namespaces none: "+scraped)
}

// TestUnknownKind shows that a kind which discovery has not told yet costs nobody a wait.
func TestUnknownKind(t *testing.T) {
	c := newCluster(t)
	c.define(metric.Descriptor{Name: "spin", Resource: "widgets.example.com", Namespaced: true}, metric.Descriptor{Name: "spin", Resource: "gadgets.example.com", Namespaced: true})
	c.start(t)
	f := func(want string, resource string) {
		t.Helper()
		assert.Equal(t, want, refusal(t, c.url+v2+"/namespaces/demo/"+resource+"/g/spin"))
	}
	f("503 the kind of widgets.example.com is not known yet", "widgets.example.com")
	f("404 no rule defines spin for dingbats.example.com", "dingbats.example.com")
	c.provider.learnKinds(now)
	f("404 no spin of widgets.example.com demo/g: "+scraped, "widgets.example.com")
	f(`503 the kind of gadgets.example.com is not known: no matches for example.com/, Resource=gadgets`, "gadgets.example.com")
	assert.Empty(t, c.kinds.missing(now.Add(kindRetry/2), map[string]bool{"gadgets.example.com": true, "widgets.example.com": true}))
	assert.Equal(t, []string{"gadgets.example.com"}, c.kinds.missing(now.Add(kindRetry), map[string]bool{"gadgets.example.com": true, "widgets.example.com": true}))
}

func TestLoadingPods(t *testing.T) {
	c := serve(t)
	const list = "/namespaces/demo/pods/%2A/requests_per_second"
	items := ask(t, c.url+v2+list+selecting("app=slow"))
	require.Len(t, items, 1)
	assert.Equal(t, "slow-2", items[0].DescribedObject.Name, "its rule includes loading pods")
	const loading = "the pod is loading: container main has not been ready"
	assert.Equal(t, "404 no requests_per_second of pods demo/slow-1: "+loading, refusal(t, c.url+v2+"/namespaces/demo/pods/slow-1/requests_per_second"))
	assert.Equal(t, "404 no requests_per_second of pods demo/slow-3: "+loading, refusal(t, c.url+v2+"/namespaces/demo/pods/slow-3/requests_per_second"))
	assert.Equal(t, "404 no requests_per_second of pods demo/new-1: the pod is too new to be known", refusal(t, c.url+v2+list+selecting("app=new")))
	assert.Equal(t, "404 no requests_per_second of pods demo/over-1: the pod is terminating", refusal(t, c.url+v2+list+selecting("app=over")))
}

func TestFallback(t *testing.T) {
	c := serve(t)
	const list = "/namespaces/demo/pods/%2A/requests_per_second?labelSelector=app%3Dheld"
	mark := &metav1.LabelSelector{MatchLabels: map[string]string{FallbackLabel: "held"}}
	items := ask(t, c.url+v2+list)
	require.Len(t, items, 2)
	assert.Equal(t, mark, items[0].Metric.Selector)
	assert.Nil(t, items[1].Metric.Selector)
	code, _, body := get(t, c.url+v1+list, "application/json")
	require.Equal(t, http.StatusOK, code)
	var old v1beta1.MetricValueList
	require.NoError(t, json.Unmarshal(body, &old))
	assert.Equal(t, mark, old.Items[0].Selector)
	assert.InDelta(t, 2, testutil.ToFloat64(c.provider.fallbacks.WithLabelValues("held")), 0)

	f := func(selector string, want ...string) {
		t.Helper()
		var got []string
		for _, item := range ask(t, c.url+v2+list+"&metricLabelSelector="+url.QueryEscape(selector)) {
			got = append(got, item.DescribedObject.Name)
		}
		assert.Equal(t, want, got)
	}
	f("!"+FallbackLabel, "held-2")
	f(FallbackLabel, "held-1")
	f(FallbackLabel+"!=stated", "held-1", "held-2")
	assert.Equal(t, `404 no requests_per_second of pods demo/held-1: the metric selector "!headroom.dev/fallback" does not match its only label headroom.dev/fallback=held`,
		refusal(t, c.url+v2+"/namespaces/demo/pods/held-1/requests_per_second?metricLabelSelector=%21headroom.dev%2Ffallback"))
}

// TestListIsSingles holds lists and single answers against each other for every object of every metric.
func TestListIsSingles(t *testing.T) {
	c := serve(t)
	all := map[string][]string{
		"/nodes/":                            {"n1", "n2", "n3"},
		"/namespaces/demo/pods/":             c.pods.ListKeys(),
		"/namespaces/demo/services/":         {"chat", "embed", "idle"},
		"/namespaces/demo/deployments.apps/": {"cd", "nan", "none"},
	}
	for prefix, objects := range all {
		for _, name := range []string{"requests_per_second", "gpu_utilization_percent", "gpus_free"} {
			for _, version := range []string{v1, v2} {
				singles := map[string]any{}
				for _, o := range objects {
					items(t, c.url+version+prefix+strings.TrimPrefix(o, "demo/")+"/"+name, singles)
				}
				list := map[string]any{}
				items(t, c.url+version+prefix+"%2A/"+name, list)
				assert.Equal(t, singles, list, prefix+name)
			}
		}
	}
}

// items adds an answer's items to a map; a 404 has none.
func items(t *testing.T, address string, into map[string]any) {
	t.Helper()
	code, _, body := get(t, address, "application/json")
	if code == http.StatusNotFound {
		return
	}
	require.Equal(t, http.StatusOK, code, string(body))
	var list struct {
		Items []map[string]any `json:"items"`
	}
	require.NoError(t, json.Unmarshal(body, &list))
	for _, item := range list.Items {
		name := item["describedObject"].(map[string]any)["name"].(string)
		assert.NotContains(t, into, name, "an object twice")
		into[name] = item
	}
}

// TestHPAClients asks as the HPA controller does: with the version that discovery prefers and with protobuf.
func TestHPAClients(t *testing.T) {
	c := serve(t)
	for _, content := range []string{"application/vnd.kubernetes.protobuf", "application/json"} {
		config := &rest.Config{Host: c.url, ContentConfig: rest.ContentConfig{ContentType: content, AcceptContentTypes: content}}
		mapper := meta.NewDefaultRESTMapper(scheme.Scheme.PrioritizedVersionsAllGroups())
		for gvk := range scheme.Scheme.AllKnownTypes() {
			mapper.Add(gvk, meta.RESTScopeNamespace)
		}
		versions := map[string]func() custommetrics.CustomMetricsClient{
			"discovered": func() custommetrics.CustomMetricsClient {
				return custommetrics.NewForConfig(config, mapper, custommetrics.NewAvailableAPIsGetter(discovery.NewDiscoveryClientForConfigOrDie(config)))
			},
			"v1beta1": func() custommetrics.CustomMetricsClient { return fixed(t, config, mapper, v1beta1.SchemeGroupVersion) },
			"v1beta2": func() custommetrics.CustomMetricsClient { return fixed(t, config, mapper, v1beta2.SchemeGroupVersion) },
		}
		for name, version := range versions {
			client := version()
			all := labels.Everything()
			list, err := client.NamespacedMetrics("demo").GetForObjects(schema.GroupKind{Kind: "Pod"}, labels.SelectorFromSet(labels.Set{"app": "chat"}), "requests_per_second", all)
			require.NoError(t, err, name)
			require.Len(t, list.Items, 2)
			assert.Equal(t, int64(12346), list.Items[0].Value.MilliValue())
			assert.Equal(t, now.Unix()-2, list.Items[0].Timestamp.Unix(), "whole seconds")
			assert.Equal(t, int64(30), *list.Items[0].WindowSeconds)

			one, err := client.NamespacedMetrics("demo").GetForObject(schema.GroupKind{Group: "apps", Kind: "Deployment"}, "cd", "requests_per_second", all)
			require.NoError(t, err, name)
			assert.Equal(t, "Deployment", one.DescribedObject.Kind)
			one, err = client.RootScopedMetrics().GetForObject(schema.GroupKind{Kind: "Namespace"}, "demo", "quota_used", all)
			require.NoError(t, err, name)
			assert.Equal(t, int64(5000), one.Value.MilliValue())

			_, err = client.NamespacedMetrics("demo").GetForObjects(schema.GroupKind{Kind: "Pod"}, labels.SelectorFromSet(labels.Set{"app": "lone"}), "requests_per_second", all)
			assert.True(t, apierrors.IsNotFound(err))
			require.EqualError(t, err, "no requests_per_second of pods demo/lone-1: scraped 42s ago, at most 15s: connection refused")
			held, err := client.NamespacedMetrics("demo").GetForObjects(schema.GroupKind{Kind: "Pod"}, labels.SelectorFromSet(labels.Set{"app": "held"}), "requests_per_second", all)
			require.NoError(t, err, name)
			assert.Len(t, held.Items, 2, "a fallback is a value to the HPA")
		}
	}
}

func fixed(t *testing.T, config *rest.Config, mapper meta.RESTMapper, gv schema.GroupVersion) custommetrics.CustomMetricsClient {
	t.Helper()
	client, err := custommetrics.NewForVersionForConfig(rest.CopyConfig(config), mapper, gv)
	require.NoError(t, err)
	return client
}
