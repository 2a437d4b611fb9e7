package apiserver

import (
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"headroom.dev/headroom/api/query"
)

func TestRules(t *testing.T) {
	c := serve(t)
	list := read[query.RuleList](t, c.url+q1+"/rules", "application/json")
	assert.Equal(t, query.RuleList{APIVersion: "query.headroom.dev/v1alpha1", Kind: "RuleList", At: now, Items: c.provider.opts.Rules(now)}, list)
	_, kind, plain := get(t, c.url+q1+"/rules", "*/*")
	assert.Equal(t, "application/json", kind)
	assert.Equal(t, 1, strings.Count(string(plain), "\n"))
	_, _, pretty := get(t, c.url+q1+"/rules?pretty=true", "*/*")
	assert.Contains(t, string(pretty), "\n  \"kind\": \"RuleList\",\n")
	assert.JSONEq(t, string(plain), string(pretty))
}

func explained(t *testing.T, c *cluster, path string) (*query.Explanation, map[string]query.Object) {
	t.Helper()
	x := read[query.Explanation](t, c.url+q1+path, "application/json")
	assert.Equal(t, []any{"Explanation", query.APIVersion, now}, []any{x.Kind, x.APIVersion, x.At})
	objects := map[string]query.Object{}
	for _, o := range x.Objects {
		objects[o.Name] = o
	}
	require.Len(t, objects, len(x.Objects))
	return &x, objects
}

func TestExplainPods(t *testing.T) {
	c := serve(t)
	x, all := explained(t, c, "/namespaces/demo/explanations/requests_per_second?resource=pods")
	assert.Equal(t, []string{"requests_per_second", "pods", "demo"}, []string{x.Metric, x.Resource, x.Namespace})
	assert.Equal(t, c.provider.opts.Rules(now)[:2], x.Rules)
	require.Len(t, all, len(c.pods.List()), "every pod that matches")

	value := query.Value{Value: 12.3456, Time: now.Add(-1500e6), Age: 1.5, Window: 30, Rule: "http"}
	assert.Equal(t, query.Object{Name: "chat-1", Value: &value, Rules: []query.Candidate{
		{Rule: "first", Reason: "no series"}, {Rule: "second", Value: &value},
	}}, all["chat-1"])
	f := func(name string, leftOut bool, reason string, value any) {
		t.Helper()
		o := all[name]
		assert.Equal(t, reason, o.Reason)
		assert.Equal(t, leftOut, o.LeftOut)
		if value == nil {
			assert.Nil(t, o.Value)
		} else {
			assert.EqualValues(t, value, o.Value.Value)
		}
	}
	f("chat-3", false, scraped+": connection refused", nil)
	f("chat-4", true, "the pod is terminating", 99)
	f("chat-5", true, "the pod has ended", 99)
	f("going-1", false, "the pod is terminating", nil)
	f("slow-1", true, "the pod is loading: container main has not been ready", 1)
	f("slow-2", false, "", 2)
	f("slow-3", false, "the pod is loading: container main has not been ready", nil)
	f("held-1", false, "", 3)
	assert.Equal(t, "held", all["held-1"].Value.Fallback)

	_, some := explained(t, c, "/namespaces/demo/explanations/requests_per_second?resource=pods&labelSelector=app%3Dslow")
	assert.Equal(t, []string{"slow-1", "slow-2", "slow-3"}, slices.Sorted(maps.Keys(some)))
	assert.Equal(t, all["slow-1"], some["slow-1"])
	_, one := explained(t, c, "/namespaces/demo/explanations/requests_per_second?resource=pods&name=chat-4")
	assert.Equal(t, map[string]query.Object{"chat-4": all["chat-4"]}, one)
	_, one = explained(t, c, "/namespaces/demo/explanations/requests_per_second?resource=pods&name=nope")
	assert.Equal(t, "there is no such pod", one["nope"].Reason)
	none, _ := explained(t, c, "/namespaces/demo/explanations/requests_per_second?resource=pods&labelSelector=app%3Dx")
	assert.Equal(t, `no pods in demo: nothing matches the selector "app=x"`, none.Reason)

	_, gpu := explained(t, c, "/namespaces/demo/explanations/gpu_utilization_percent?resource=pods&name=nan-1")
	assert.True(t, math.IsNaN(float64(gpu["nan-1"].Value.Value)))
	assert.True(t, gpu["nan-1"].LeftOut)
	assert.Equal(t, "the value is not a number", gpu["nan-1"].Reason)
}

func TestExplainOthers(t *testing.T) {
	c := serve(t)
	names := func(path string) []string {
		t.Helper()
		_, objects := explained(t, c, path)
		return slices.Sorted(maps.Keys(objects))
	}
	assert.Equal(t, []string{"chat", "embed"}, names("/namespaces/demo/explanations/requests_per_second?resource=services"))
	assert.Equal(t, []string{"chat", "embed", "idle"}, names("/namespaces/demo/explanations/requests_per_second?resource=services&labelSelector=tier"))
	assert.Equal(t, []string{"cd"}, names("/namespaces/demo/explanations/requests_per_second?resource=deployments.apps&name=cd"))
	assert.Equal(t, []string{"n1", "n2"}, names("/explanations/gpus_free?resource=nodes"))
	assert.Equal(t, []string{"demo"}, names("/explanations/quota_used?resource=namespaces"))
	assert.Equal(t, []string{"demo"}, names("/namespaces/demo/explanations/quota_used?resource=namespaces"), "with a namespace's rights alone")

	x, _ := explained(t, c, "/namespaces/demo/explanations/queue_length?metricLabelSelector=queue%3Dc")
	assert.Equal(t, []query.Rule{{Name: "queues", Metric: "queue_length", External: true}}, x.Rules)
	require.Len(t, x.Objects, 1)
	assert.Equal(t, map[string]string{"queue": "c", FallbackLabel: "stated"}, x.Objects[0].Labels)
	assert.InDelta(t, 60, x.Objects[0].Value.Age, 0)
	out := read[query.Explanation](t, c.url+q1+"/namespaces/demo/explanations/queue_length", "application/json")
	require.Len(t, out.Objects, 4)
	assert.True(t, out.Objects[3].LeftOut)
	x, _ = explained(t, c, "/namespaces/demo/explanations/queue_length?metricLabelSelector=queue%3Dz")
	assert.Equal(t, "no series matches", x.Reason)
	x, _ = explained(t, c, "/namespaces/demo/explanations/requests_per_second")
	assert.Contains(t, x.Reason, "is ambiguous")
}

func TestQueryRefusals(t *testing.T) {
	c := serve(t)
	f := func(method, path string, code int, message string) {
		t.Helper()
		got, kind, body := do(t, method, c.url+q1+path, "", nil)
		var status metav1.Status
		require.NoError(t, json.Unmarshal(body, &status), string(body))
		assert.Equal(t, []any{"Status", "v1", "Failure", int32(got)}, []any{status.Kind, status.APIVersion, status.Status, status.Code})
		assert.Equal(t, code, got, path)
		assert.Equal(t, "application/json", kind)
		assert.Contains(t, status.Message, message, path)
	}
	const get, post, missing, bad, method = http.MethodGet, http.MethodPost, http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed
	f(get, "/unheard", missing, "there is nothing at /apis/query.headroom.dev/v1alpha1/unheard")
	f(get, "/", missing, "there is nothing at")
	f(get, "/rules/x", missing, "there is nothing at")
	f(get, "/namespaces/demo/rules", missing, "there is nothing at")
	f(post, "/rules", method, "create")
	f(get, "/watch/rules", method, "watch")
	f(get, "/rules?watch=1", method, "watch")
	f(get, "/rules?labelSelector=a%3Db", bad, "cannot be selected")
	f(get, "/rules?fieldSelector=metadata.name%3Db", bad, "cannot be selected")
	f(get, "/explanations", missing, "there is nothing at")
	f(post, "/namespaces/demo/explanations/x", method, "create")
	f(get, "/namespaces/demo/explanations/unheard_of?resource=pods", missing, "no rule defines unheard_of for pods")
	f(get, "/namespaces/demo/explanations/unheard_of", missing, "no rule defines unheard_of as an external metric")
	f(get, "/explanations/queue_length", bad, "external metrics are asked for in a namespace")
	f(get, "/explanations/requests_per_second?resource=pods", missing, "no rule defines requests_per_second for pods outside of namespaces")
	f(get, "/namespaces/demo/explanations/gpus_free?resource=nodes", missing, "no rule defines gpus_free for nodes inside of namespaces")
	f(get, "/namespaces/demo/explanations/requests_per_second?resource=pods&labelSelector=%3D%3D", bad, "labelSelector: ")
	f(get, "/namespaces/demo/explanations/requests_per_second?metricLabelSelector=%3D%3D", bad, "metricLabelSelector: ")
	f(get, "/namespaces/demo/explanations/requests_per_second?resource=pods&name=a&labelSelector=b", bad, "exclude each other")
	f(get, "/namespaces/demo/explanations/quota_used?resource=namespaces&name=other", bad, "only that namespace")
	f(get, "/explanations/gpus_free?resource=nodes&labelSelector=gpu", http.StatusServiceUnavailable, "forbidden")
	f(get, "/prometheus/api/v1", missing, "there is nothing at")
	f(get, "/prometheus/metrics/v1/query", missing, "there is nothing at")
	f(http.MethodDelete, "/prometheus/api/v1/query", method, "delete")
}

func TestPrometheus(t *testing.T) {
	c := serve(t)
	f := func(method, path, body, want string) {
		t.Helper()
		code, _, got := do(t, method, c.url+path, body, nil)
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, want, string(got))
	}
	f(http.MethodGet, q1+"/prometheus/api/v1/query?query=up", "", "GET  /api/v1/query query=up ")
	f(http.MethodGet, q1+"/namespaces/demo/prometheus/api/v1/query?query=up", "", "GET demo /api/v1/query query=up ")
	f(http.MethodPost, q1+"/namespaces/demo/prometheus/api/v1/query_range", "query=up", "POST demo /api/v1/query_range  query=up")
	f(http.MethodGet, q1+"/namespaces/demo/prometheus/api/v1/label/a%2Fb/values", "", "GET demo /api/v1/label/a/b/values  ")
	f(http.MethodGet, "/api/v1/label/pod/values", "", "GET  /api/v1/label/pod/values  ")
	f(http.MethodPost, "/api/v1/query", "query=up", "POST  /api/v1/query  query=up")
}

// TestAuthorization shows what each request needs, and that who has the rights of a namespace is served that alone.
func TestAuthorization(t *testing.T) {
	inDemo := &recorder{allow: func(a authorizer.Attributes) bool {
		return a.GetUser().GetName() == "admin" || a.GetNamespace() == "demo"
	}}
	c := newCluster(t).start(t, func(config *genericapiserver.Config) {
		config.Authentication.Authenticator = tokens("alice", "admin")
		config.Authorization.Authorizer = authorizer.AuthorizerFunc(inDemo.Authorize)
	})
	f := func(method, path, want string) {
		t.Helper()
		for user, code := range map[string]int{"": http.StatusUnauthorized, "eve": http.StatusUnauthorized, "alice": http.StatusForbidden, "admin": http.StatusOK} {
			if user == "alice" && strings.HasPrefix(want, "demo ") {
				code = http.StatusOK
			}
			got, _, body := do(t, method, c.url+path, "", http.Header{"Authorization": {"Bearer " + user}})
			assert.Equal(t, code, got, "%s for %q: %s", path, user, body)
			if code != http.StatusUnauthorized {
				a := inDemo.last()
				asked := strings.Join([]string{a.Namespace, a.Verb, a.APIGroup, a.Resource, a.Subresource, a.Name}, " ")
				if !a.ResourceRequest {
					asked = a.Verb + " " + a.Path
				}
				assert.Equal(t, want, asked, path)
			}
		}
	}
	const get, post = http.MethodGet, http.MethodPost
	f(get, q1+"/rules", " list query.headroom.dev rules  ")
	f(get, q1+"/explanations/gpus_free?resource=nodes", " get query.headroom.dev explanations  gpus_free")
	f(get, q1+"/namespaces/demo/explanations/requests_per_second?resource=pods", "demo get query.headroom.dev explanations  requests_per_second")
	f(get, q1+"/namespaces/other/explanations/requests_per_second?resource=pods", "other get query.headroom.dev explanations  requests_per_second")
	f(get, q1+"/namespaces/demo/prometheus/api/v1/query", "demo get query.headroom.dev prometheus v1 api")
	f(post, q1+"/namespaces/demo/prometheus/api/v1/query", "demo create query.headroom.dev prometheus v1 api")
	f(get, q1+"/namespaces/other/prometheus/api/v1/query", "other get query.headroom.dev prometheus v1 api")
	f(get, q1+"/prometheus/api/v1/label/pod/values", " get query.headroom.dev prometheus v1 api")
	f(get, q1+"/namespaces//prometheus/api/v1/series", " get query.headroom.dev prometheus v1 api")
	f(post, q1+"/prometheus/api/v1/query", " create query.headroom.dev prometheus v1 api")
	// Not as paths: whoever is authenticated may GET /api/*.
	f(get, "/api/v1/query", " get query.headroom.dev prometheus v1 api")
	f(post, "/api/v1/query", " create query.headroom.dev prometheus v1 api")
	f(get, "/api/v1/namespaces/demo/query", " get query.headroom.dev prometheus v1 api")
	f(get, "/api/v1/label/pod/values", " get query.headroom.dev prometheus v1 api")
	f(get, v2+"/namespaces/demo/pods/%2A/requests_per_second?labelSelector=app%3Dchat", "demo get custom.metrics.k8s.io pods requests_per_second *")
	f(get, v2+"/namespaces/demo/deployments.apps/cd/requests_per_second", "demo get custom.metrics.k8s.io deployments.apps requests_per_second cd")
	f(get, v2+"/namespaces/demo/metrics/quota_used", "demo get custom.metrics.k8s.io metrics  quota_used")
	f(get, v2+"/nodes/n1/gpus_free", " get custom.metrics.k8s.io nodes gpus_free n1")
	f(get, ext+"/namespaces/demo/queue_length", "demo list external.metrics.k8s.io queue_length  ")
	f(get, v2, "get "+v2)
	f(get, q1, "get "+q1)
}
