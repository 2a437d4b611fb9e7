package apiserver

import (
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta1"
)

const v2, v1 = "/apis/custom.metrics.k8s.io/v1beta2", "/apis/custom.metrics.k8s.io/v1beta1"

func TestPodsBySelector(t *testing.T) {
	base := serve(t).url
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
	base := serve(t).url
	for _, version := range []string{v1, v2} {
		code, _, body := get(t, base+version+"/namespaces/demo/pods/chat-1/gpu_utilization_percent", "application/json")
		require.Equal(t, http.StatusOK, code, string(body))
		assert.Contains(t, string(body), `"value":"87500m"`)
		assert.NotContains(t, string(body), "30", "an instantaneous value has no window")
	}
}

func TestProtobuf(t *testing.T) {
	base := serve(t).url
	code, kind, body := get(t, base+v2+"/namespaces/demo/pods/%2A/requests_per_second?labelSelector=app%3Dchat", "application/vnd.kubernetes.protobuf,application/json")
	require.Equal(t, http.StatusOK, code)
	assert.Equal(t, "application/vnd.kubernetes.protobuf", kind)
	assert.True(t, strings.HasPrefix(string(body), "k8s\x00"))
	code, kind, _ = get(t, base+v2+"/namespaces/demo/pods/nope/requests_per_second", "application/vnd.kubernetes.protobuf")
	assert.Equal(t, http.StatusNotFound, code)
	assert.Equal(t, "application/vnd.kubernetes.protobuf", kind)
}

func TestRefusals(t *testing.T) {
	base := serve(t).url
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
	f("/namespaces/demo/pods/%2A/requests_per_second"+selecting("app=lone"), missing,
		"no requests_per_second of pods demo/lone-1: scraped 42s ago, at most 15s: connection refused")
	f("/namespaces/demo/pods/%2A/requests_per_second"+selecting("app=many"), missing,
		"no requests_per_second of 5 pods in demo: many-1: scraped 42s ago, at most 15s: connection refused; many-2: scraped 42s ago, at most 15s; "+
			"many-3: scraped 42s ago, at most 15s: connection refused; and 2 more")
	f("/namespaces/demo/pods/%2A/requests_per_second"+selecting("app=nobody"), missing,
		`no requests_per_second of pods in demo: no running pod matches the selector "app=nobody"`)
	f("/namespaces/demo/pods/%2A/requests_per_second"+selecting("app=going"), missing, "no running pod matches")
	f("/namespaces/nowhere/pods/%2A/requests_per_second", missing, "no requests_per_second of pods in nowhere: no running pod matches an empty selector")
	f("/namespaces/demo/pods/%2A/unheard_of"+selecting("app=chat"), missing, "no rule defines unheard_of for pods")
	f("/namespaces/demo/pods/chat-1/unheard_of", missing, "no rule defines unheard_of for pods")
	f("/namespaces/demo/pods/chat-3/requests_per_second", missing, "no requests_per_second of pods demo/chat-3: scraped 42s ago, at most 15s: connection refused")
	f("/namespaces/demo/pods/chat-4/requests_per_second", missing, "pods demo/chat-4: the pod is terminating")
	f("/namespaces/demo/pods/chat-5/requests_per_second", missing, "pods demo/chat-5: the pod has ended")
	f("/namespaces/demo/pods/nope/requests_per_second", missing, "pods demo/nope: there is no such pod")
	f("/namespaces/demo/pods/nan-1/gpu_utilization_percent", missing, "the value is not a number")
	f("/namespaces/demo/statefulsets.apps/d/requests_per_second", missing, "no rule defines requests_per_second for statefulsets.apps")
	f("/namespaces/demo/statefulsets.apps/%2A/requests_per_second", missing, "no rule defines requests_per_second for statefulsets.apps")
	f("/namespaces/demo/unheard.of/d/requests_per_second", missing, "no rule defines requests_per_second for unheard.of")
	f("/namespaces/demo/metrics/requests_per_second", missing, "no rule defines requests_per_second for namespaces")
	f("/namespaces/demo/requests_per_second", bad, "invalid request path")
	f("/pods/chat-1/requests_per_second", missing, "no requests_per_second of pods chat-1: there is no such pod")
	f("/services/%2A/requests_per_second", missing, "no rule defines requests_per_second for services")
	f("/namespaces/demo/nodes/%2A/gpus_free", missing, "no rule defines gpus_free for nodes")
	f("/nodes/n1/requests_per_second", missing, "no rule defines requests_per_second for nodes")
	f("/namespaces/demo/pods/chat-1/requests_per_second?metricLabelSelector=model%3Dx", missing, `the metric has no labels, so the metric selector "model=x" matches nothing`)
	f("/namespaces/demo/pods/%2A/requests_per_second?metricLabelSelector=model%3Dx", missing, `the metric selector "model=x" matches nothing`)
	f("/namespaces/demo/pods/%2A/requests_per_second"+selecting("app in"), bad, "unable to parse requirement")
	f("/namespaces/demo/pods/%2A/requests_per_second"+selecting("==="), bad, "")
	f("/namespaces/demo/pods/%2A/requests_per_second?metricLabelSelector=%3D%3D%3D", bad, "metricLabelSelector: ")
	f("/namespaces/demo/pods/%2A/requests_per_second?fieldSelector=spec.x%3Dy", bad, "")
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
	c := serve(t)
	base, reg := c.url, c.registry
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
