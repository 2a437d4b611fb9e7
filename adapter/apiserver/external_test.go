package apiserver

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	externalmetrics "k8s.io/metrics/pkg/client/external_metrics"
)

func TestExternal(t *testing.T) {
	c := serve(t)
	code, _, body := get(t, c.url+ext+"/namespaces/demo/queue_length?labelSelector=queue%3Da", "application/json")
	require.Equal(t, http.StatusOK, code, string(body))
	assert.JSONEq(t, `{"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {}, "items": [
		{"metricName": "queue_length", "metricLabels": {"queue": "a"}, "timestamp": "2026-11-23T11:59:59Z", "window": 30, "value": "4"}]}`, string(body))

	problems, err := testutil.GatherAndLint(c.registry)
	require.NoError(t, err)
	assert.Equal(t, []promlint.Problem(nil), problems)

	for _, content := range []string{"application/vnd.kubernetes.protobuf", "application/json"} {
		client, err := externalmetrics.NewForConfig(&rest.Config{Host: c.url, ContentConfig: rest.ContentConfig{ContentType: content, AcceptContentTypes: content}})
		require.NoError(t, err)
		f := func(name, selector, want string) {
			t.Helper()
			s, err := labels.Parse(selector)
			require.NoError(t, err)
			list, err := client.NamespacedMetrics("demo").List(name, s)
			got := ""
			if err != nil {
				assert.True(t, apierrors.IsNotFound(err) || apierrors.IsBadRequest(err), "%v", err)
				got = err.Error()
			} else {
				for _, item := range list.Items {
					got += labels.Set(item.MetricLabels).String() + " " + item.Value.String() + "; "
				}
			}
			assert.Equal(t, want, got, selector)
		}
		f("queue_length", "", "queue=a 4; queue=b 6500m; headroom.dev/fallback=stated,queue=c 1; ")
		f("queue_length", "queue in (b,c)", "queue=b 6500m; headroom.dev/fallback=stated,queue=c 1; ")
		f("queue_length", "!headroom.dev/fallback", "queue=a 4; queue=b 6500m; ")
		f("queue_length", "headroom.dev/fallback=stated", "headroom.dev/fallback=stated,queue=c 1; ")
		f("queue_length", "headroom.dev/fallback=forged", "no external metric queue_length in demo: the value is not a number")
		f("queue_length", "queue=c,!headroom.dev/fallback", `no external metric queue_length in demo: no value matches the selector "!headroom.dev/fallback,queue=c"`)
		f("queue_length", "queue=z", "no external metric queue_length in demo: no series matches")
		f("unheard_of", "", "no rule defines unheard_of as an external metric")
		f("requests_per_second", "service=chat", "service=chat 12346m; ")
		f("requests_per_second", "", "requests_per_second is ambiguous: it is there per Service and per Deployment: select by service or by deployment")
	}
	assert.InDelta(t, 6, testutil.ToFloat64(c.provider.fallbacks.WithLabelValues("stated")), 0)

	g := func(path, want string) {
		t.Helper()
		assert.Contains(t, refusal(t, c.url+ext+path), want)
	}
	g("/namespaces/demo/queue_length?labelSelector=%3D%3D%3D", "400 ")
	g("/namespaces/demo/queue_length?watch=true", "405 ")
	g("/namespaces/demo/queue_length?fieldSelector=a%3Db", "400 ")
}
