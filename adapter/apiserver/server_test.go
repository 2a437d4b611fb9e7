package apiserver

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta1"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	custommetrics "k8s.io/metrics/pkg/client/custom_metrics"

	"headroom.dev/headroom/adapter/metric"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// reader has the values of the map, by "metric pod".
type reader map[string]metric.Value

func (reader) Metrics() []metric.Descriptor {
	return []metric.Descriptor{
		{Name: "requests_per_second", Resource: "pods", Unit: "1/s"},
		{Name: "gpu_utilization_percent", Resource: "pods", Unit: "percent"},
	}
}

func (r reader) Lookup(name string, o metric.Object, _ time.Time) (metric.Value, error) {
	v, ok := r[name+" "+o.Name]
	if !ok {
		return v, &metric.AbsentError{Metric: name, Object: o, Reason: "scraped 42s ago, at most 15s"}
	}
	return v, nil
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	app, _, _ := strings.Cut(name, "-")
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: name, Labels: map[string]string{"app": app}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func terminating(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }
func failed(p *corev1.Pod)      { p.Status.Phase = corev1.PodFailed }

// serve starts the real API server, less TLS and authentication, and returns its address.
func serve(t *testing.T) (string, *prometheus.Registry) {
	t.Helper()
	values := reader{
		"requests_per_second chat-1":     {Value: 12.3456, Time: now.Add(-1500 * time.Millisecond), Window: 30 * time.Second},
		"requests_per_second chat-2":     {Value: 0, Time: now.Add(-time.Second), Window: 30 * time.Second},
		"requests_per_second chat-4":     {Value: 99, Time: now},
		"requests_per_second chat-5":     {Value: 99, Time: now},
		"gpu_utilization_percent chat-1": {Value: 87.5, Time: now},
		"gpu_utilization_percent nan-1":  {Value: math.NaN(), Time: now},
	}
	index := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, p := range []*corev1.Pod{
		pod("chat-2"), pod("chat-1"), pod("chat-3"), pod("chat-4", terminating), pod("chat-5", failed),
		pod("lone-1"), pod("many-1"), pod("many-2"), pod("many-3"), pod("many-4"), pod("many-5"), pod("going-1", terminating), pod("nan-1"),
	} {
		require.NoError(t, index.Add(p))
	}
	reg := prometheus.NewRegistry()
	p := NewProvider(Options{
		Reader: values,
		Pods:   corelisters.NewPodLister(index),
		Now:    func() time.Time { return now },
		Why: func(_ string, o metric.Object) string {
			if o.Name == "many-2" {
				return ""
			}
			return "connection refused"
		},
		Registerer: reg,
	})
	c := NewConfig()
	c.ExternalAddress = "127.0.0.1:443"
	c.LoopbackClientConfig = &rest.Config{}
	c.Authorization.Authorizer = authorizerfactory.NewAlwaysAllowAuthorizer()
	s, err := New(&c.Config, informers.NewSharedInformerFactory(fake.NewClientset(), 0), p)
	require.NoError(t, err)
	s.PrepareRun()
	srv := httptest.NewServer(s.Handler)
	t.Cleanup(srv.Close)
	return srv.URL, reg
}

func get(t *testing.T, address, accept string) (int, string, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header.Get("Content-Type"), body
}

const v2, v1 = "/apis/custom.metrics.k8s.io/v1beta2", "/apis/custom.metrics.k8s.io/v1beta1"

func TestPodsBySelector(t *testing.T) {
	base, _ := serve(t)
	// As the HPA controller asks.
	code, _, body := get(t, base+v2+"/namespaces/demo/pods/%2A/requests_per_second?labelSelector=app%3Dchat&metricLabelSelector=", "application/json")
	require.Equal(t, http.StatusOK, code, string(body))
	assert.JSONEq(t, `{
		"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": {},
		"items": [
			{"describedObject": {"kind": "Pod", "namespace": "demo", "name": "chat-1", "apiVersion": "v1"},
			 "metric": {"name": "requests_per_second", "selector": null}, "timestamp": "2026-11-23T11:59:58Z", "windowSeconds": 30, "value": "12346m"},
			{"describedObject": {"kind": "Pod", "namespace": "demo", "name": "chat-2", "apiVersion": "v1"},
			 "metric": {"name": "requests_per_second", "selector": null}, "timestamp": "2026-11-23T11:59:59Z", "windowSeconds": 30, "value": "0"}
		]}`, string(body), "chat-3 has no value, chat-4 terminates, chat-5 has failed")

	code, _, body = get(t, base+v1+"/namespaces/demo/pods/*/requests_per_second?labelSelector=app%3Dchat", "application/json")
	require.Equal(t, http.StatusOK, code, string(body))
	var old v1beta1.MetricValueList
	require.NoError(t, json.Unmarshal(body, &old))
	require.Len(t, old.Items, 2)
	assert.Equal(t, "custom.metrics.k8s.io/v1beta1", old.APIVersion)
	assert.Equal(t, "requests_per_second", old.Items[0].MetricName)
	assert.Equal(t, int64(30), *old.Items[0].WindowSeconds)
}

func TestOnePod(t *testing.T) {
	base, _ := serve(t)
	for _, version := range []string{v1, v2} {
		code, _, body := get(t, base+version+"/namespaces/demo/pods/chat-1/gpu_utilization_percent", "application/json")
		require.Equal(t, http.StatusOK, code, string(body))
		assert.Contains(t, string(body), `"value":"87500m"`)
		assert.NotContains(t, string(body), "30", "an instantaneous value has no window")
	}
}

func TestProtobuf(t *testing.T) {
	base, _ := serve(t)
	code, kind, body := get(t, base+v2+"/namespaces/demo/pods/%2A/requests_per_second?labelSelector=app%3Dchat", "application/vnd.kubernetes.protobuf,application/json")
	require.Equal(t, http.StatusOK, code)
	assert.Equal(t, "application/vnd.kubernetes.protobuf", kind)
	assert.True(t, strings.HasPrefix(string(body), "k8s\x00"))
	code, kind, _ = get(t, base+v2+"/namespaces/demo/pods/nope/requests_per_second", "application/vnd.kubernetes.protobuf")
	assert.Equal(t, http.StatusNotFound, code)
	assert.Equal(t, "application/vnd.kubernetes.protobuf", kind)

	// The client that the HPA controller uses, with its own choice of version and format.
	config := &rest.Config{Host: base, ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"}}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion})
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	client := custommetrics.NewForConfig(config, mapper, custommetrics.NewAvailableAPIsGetter(discovery.NewDiscoveryClientForConfigOrDie(config)))
	chat, err := labels.Parse("app=chat")
	require.NoError(t, err)
	list, err := client.NamespacedMetrics("demo").GetForObjects(schema.GroupKind{Kind: "Pod"}, chat, "requests_per_second", labels.Everything())
	require.NoError(t, err)
	require.Len(t, list.Items, 2)
	assert.Equal(t, "chat-1", list.Items[0].DescribedObject.Name)
	assert.Equal(t, int64(12346), list.Items[0].Value.MilliValue())
	lone, err := labels.Parse("app=lone")
	require.NoError(t, err)
	_, err = client.NamespacedMetrics("demo").GetForObjects(schema.GroupKind{Kind: "Pod"}, lone, "requests_per_second", labels.Everything())
	assert.True(t, apierrors.IsNotFound(err))
	assert.EqualError(t, err, "no requests_per_second of pods demo/lone-1: scraped 42s ago, at most 15s: connection refused")
}

func TestRefusals(t *testing.T) {
	base, _ := serve(t)
	f := func(path string, code int, message string) {
		t.Helper()
		for _, version := range []string{v1, v2} {
			got, kind, body := get(t, base+version+path, "application/json")
			var status metav1.Status
			require.NoError(t, json.Unmarshal(body, &status), string(body))
			assert.Equal(t, code, got, path)
			assert.Equal(t, "application/json", kind)
			assert.Equal(t, "Status", status.Kind, string(body))
			assert.Equal(t, metav1.StatusFailure, status.Status)
			assert.Equal(t, int32(code), status.Code)
			assert.Contains(t, status.Message, message)
		}
	}
	const missing, bad = http.StatusNotFound, http.StatusBadRequest
	selector := func(s string) string { return "?labelSelector=" + url.QueryEscape(s) }
	f("/namespaces/demo/pods/%2A/requests_per_second"+selector("app=lone"), missing,
		"no requests_per_second of pods demo/lone-1: scraped 42s ago, at most 15s: connection refused")
	f("/namespaces/demo/pods/%2A/requests_per_second"+selector("app=many"), missing,
		"no requests_per_second of 5 pods in demo: many-1: scraped 42s ago, at most 15s: connection refused; many-2: scraped 42s ago, at most 15s; "+
			"many-3: scraped 42s ago, at most 15s: connection refused; and 2 more")
	f("/namespaces/demo/pods/%2A/requests_per_second"+selector("app=nobody"), missing,
		`no requests_per_second of pods in demo: no running pod matches the selector "app=nobody"`)
	f("/namespaces/demo/pods/%2A/requests_per_second"+selector("app=going"), missing, "no running pod matches")
	f("/namespaces/nowhere/pods/%2A/requests_per_second", missing, "no requests_per_second of pods in nowhere: no running pod matches an empty selector")
	f("/namespaces/demo/pods/%2A/unheard_of"+selector("app=chat"), missing, "no rule defines unheard_of for pods")
	f("/namespaces/demo/pods/chat-1/unheard_of", missing, "no rule defines unheard_of for pods")
	f("/namespaces/demo/pods/chat-3/requests_per_second", missing, "no requests_per_second of pods demo/chat-3: scraped 42s ago, at most 15s: connection refused")
	f("/namespaces/demo/pods/chat-4/requests_per_second", missing, "pods demo/chat-4: the pod is terminating")
	f("/namespaces/demo/pods/chat-5/requests_per_second", missing, "pods demo/chat-5: the pod has ended")
	f("/namespaces/demo/pods/nope/requests_per_second", missing, "pods demo/nope: there is no such pod")
	f("/namespaces/demo/pods/nan-1/gpu_utilization_percent", missing, "the value is not a number")
	f("/namespaces/demo/deployments.apps/d/requests_per_second", missing, "no rule defines requests_per_second for deployments.apps")
	f("/namespaces/demo/metrics/requests_per_second", missing, "no rule defines requests_per_second for namespaces")
	f("/nodes/n1/requests_per_second", missing, "no rule defines requests_per_second for nodes")
	f("/namespaces/demo/pods/chat-1/requests_per_second?metricLabelSelector=model%3Dx", missing, `the metric has no labels, so the metric selector "model=x" matches nothing`)
	f("/namespaces/demo/pods/%2A/requests_per_second?metricLabelSelector=model%3Dx", missing, `the metric selector "model=x" matches nothing`)
	f("/namespaces/demo/pods/%2A/requests_per_second"+selector("app in"), bad, "unable to parse requirement")
	f("/namespaces/demo/pods/%2A/requests_per_second"+selector("==="), bad, "")
	f("/namespaces/demo/pods/%2A/requests_per_second?metricLabelSelector=%3D%3D%3D", bad, "metricLabelSelector: ")
	f("/namespaces/demo/pods/%2A/requests_per_second?fieldSelector=spec.x%3Dy", bad, "")
}

func TestDiscovery(t *testing.T) {
	base, _ := serve(t)
	for _, version := range []string{v1, v2} {
		code, _, body := get(t, base+version, "application/json")
		require.Equal(t, http.StatusOK, code)
		var list metav1.APIResourceList
		require.NoError(t, json.Unmarshal(body, &list))
		require.Len(t, list.APIResources, 2)
		assert.Equal(t, "pods/gpu_utilization_percent", list.APIResources[0].Name)
		assert.Equal(t, "pods/requests_per_second", list.APIResources[1].Name)
		assert.True(t, list.APIResources[1].Namespaced)
	}
	_, _, body := get(t, base+"/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	var aggregated apidiscoveryv2.APIGroupDiscoveryList
	require.NoError(t, json.Unmarshal(body, &aggregated))
	require.Len(t, aggregated.Items, 1)
	require.Len(t, aggregated.Items[0].Versions, 2)
	for i, version := range []string{"v1beta2", "v1beta1"} {
		got := aggregated.Items[0].Versions[i]
		assert.Equal(t, version, got.Version)
		require.Len(t, got.Resources, 1)
		assert.Equal(t, "pods", got.Resources[0].Resource)
		require.Len(t, got.Resources[0].Subresources, 2)
		assert.Equal(t, "requests_per_second", got.Resources[0].Subresources[1].Subresource)
	}
	_, _, body = get(t, base+"/apis", "application/json")
	var groups metav1.APIGroupList
	require.NoError(t, json.Unmarshal(body, &groups))
	require.Len(t, groups.Groups, 1)
	assert.Equal(t, "v1beta2", groups.Groups[0].PreferredVersion.Version)
	assert.Len(t, groups.Groups[0].Versions, 2)
	for _, path := range []string{"/openapi/v2", "/openapi/v3", "/openapi/v3/apis/custom.metrics.k8s.io/v1beta2"} {
		code, _, _ := get(t, base+path, "application/json")
		assert.Equal(t, http.StatusOK, code, path)
	}
	// Both clients' views of it, aggregated and not.
	client := discovery.NewDiscoveryClientForConfigOrDie(&rest.Config{Host: base})
	list, err := client.ServerResourcesForGroupVersion(v1beta2.SchemeGroupVersion.String())
	require.NoError(t, err)
	assert.Len(t, list.APIResources, 2)
	_, _, failures, err := client.GroupsAndMaybeResources()
	require.NoError(t, err)
	assert.Empty(t, failures)
}

func TestQuantity(t *testing.T) {
	f := func(v float64, want, reason string) {
		t.Helper()
		q, why := quantity(v)
		assert.Equal(t, reason, why)
		assert.Equal(t, want, q.String())
	}
	f(0, "0", "")
	f(1, "1", "")
	f(0.0005, "1m", "")
	f(0.0004, "0", "")
	f(-1.5, "-1500m", "")
	f(85899345920, "85899345920", "") // 80 GiB
	f(9e15, "9P", "")
	f(1e16, "0", "the value 1e+16 is too large for the API")
	f(math.Inf(-1), "0", "the value -Inf is too large for the API")
	f(math.NaN(), "0", "the value is not a number")
}

func TestServedAge(t *testing.T) {
	base, reg := serve(t)
	get(t, base+v2+"/namespaces/demo/pods/%2A/requests_per_second?labelSelector=app%3Dchat", "application/json")
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	assert.Equal(t, []promlint.Problem(nil), problems)
	families, err := reg.Gather()
	require.NoError(t, err)
	h := families[0].GetMetric()[0].GetHistogram()
	assert.Equal(t, uint64(2), h.GetSampleCount())
	assert.InDelta(t, 2.5, h.GetSampleSum(), 1e-9)
}
