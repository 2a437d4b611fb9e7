package apiserver

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/adapter/metric"
)

const ext, q1 = "/apis/external.metrics.k8s.io/v1beta1", "/apis/query.headroom.dev/v1alpha1"

func read[T any](t *testing.T, address, accept string) T {
	t.Helper()
	code, _, body := get(t, address, accept)
	require.Equal(t, http.StatusOK, code, "%s: %s", address, body)
	var out T
	require.NoError(t, json.Unmarshal(body, &out))
	return out
}

// listed returns the names in a version's own list.
func listed(t *testing.T, address string) []string {
	t.Helper()
	var out []string
	for _, r := range read[metav1.APIResourceList](t, address, "application/json").APIResources {
		scope := ""
		if !r.Namespaced {
			scope = "*"
		}
		out = append(out, r.Name+scope)
	}
	return out
}

// aggregated returns the same out of the aggregated form, by group and version.
func aggregated(t *testing.T, base string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, g := range read[apidiscoveryv2.APIGroupDiscoveryList](t, base+"/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList").Items {
		for _, v := range g.Versions {
			assert.Equal(t, apidiscoveryv2.DiscoveryFreshnessCurrent, v.Freshness)
			var names []string
			for _, r := range v.Resources {
				scope := ""
				if r.Scope == apidiscoveryv2.ScopeCluster {
					scope = "*"
				}
				if len(r.Verbs) > 0 {
					names = append(names, r.Resource+scope)
				}
				for _, s := range r.Subresources {
					names = append(names, r.Resource+"/"+s.Subresource+scope)
				}
			}
			out["/apis/"+g.Name+"/"+v.Version] = names
		}
	}
	return out
}

func TestDiscovery(t *testing.T) {
	c := serve(t)
	custom := []string{
		"deployments.apps/requests_per_second", "namespaces/quota_used*", "nodes/gpus_free*", "pods/gpu_utilization_percent", "pods/requests_per_second",
		"services/requests_per_second", "widgets.example.com/spin",
	}
	want := map[string][]string{
		v1: custom, v2: custom, ext: {"queue_length", "requests_per_second"}, q1: {"explanations", "prometheus/v1", "rules*"},
	}
	all := aggregated(t, c.url)
	require.Len(t, all, len(want))
	for path, names := range want {
		assert.Equal(t, names, listed(t, c.url+path), path)
		assert.ElementsMatch(t, names, all[path], path)
	}

	groups := read[metav1.APIGroupList](t, c.url+"/apis", "application/json")
	require.Len(t, groups.Groups, 3)
	for _, g := range groups.Groups {
		one := read[metav1.APIGroup](t, c.url+"/apis/"+g.Name, "application/json")
		assert.Equal(t, g.Versions, one.Versions)
		assert.Equal(t, g.PreferredVersion, one.PreferredVersion)
		if g.Name == "custom.metrics.k8s.io" {
			assert.Equal(t, "v1beta2", g.PreferredVersion.Version)
			assert.Len(t, g.Versions, 2)
		}
	}
	for _, path := range []string{"/openapi/v2", "/openapi/v3", "/openapi/v3" + v2, "/openapi/v3" + ext} {
		code, _, _ := get(t, c.url+path, "application/json")
		assert.Equal(t, http.StatusOK, code, path)
	}

	// What kubectl and controllers make of it, by way of either form.
	for _, legacy := range []bool{false, true} {
		client := discovery.NewDiscoveryClientForConfigOrDie(&rest.Config{Host: c.url})
		client.UseLegacyDiscovery = legacy
		_, lists, err := client.ServerGroupsAndResources()
		require.NoError(t, err)
		var got []string
		for _, list := range lists {
			for _, r := range list.APIResources {
				if len(r.Verbs) > 0 {
					got = append(got, "/apis/"+list.GroupVersion+" "+r.Name)
				}
			}
		}
		var names []string
		for path, list := range want {
			for _, name := range list {
				names = append(names, path+" "+strings.TrimSuffix(name, "*"))
			}
		}
		assert.ElementsMatch(t, names, got, legacy)
	}
}

// TestDiscoveryFollowsRules has rules come and go while the server runs.
func TestDiscoveryFollowsRules(t *testing.T) {
	c := newCluster(t)
	c.define()
	c.start(t)
	c.server.RunPostStartHooks(t.Context())
	f := func(custom, external []string) {
		t.Helper()
		for _, path := range []string{v1, v2} {
			assert.Equal(t, custom, listed(t, c.url+path), "at once")
		}
		assert.Equal(t, external, listed(t, c.url+ext), "at once")
		assert.EventuallyWithT(t, func(collect *assert.CollectT) {
			all := aggregated(t, c.url)
			assert.ElementsMatch(collect, custom, all[v1])
			assert.ElementsMatch(collect, custom, all[v2])
			assert.ElementsMatch(collect, external, all[ext])
		}, 2*time.Second, 20*time.Millisecond)
	}
	f([]string{"pods/none"}, []string{"none"}) // nothing is served, and an empty list would break kubectl
	assert.Equal(t, "404 no rule defines none for pods", refusal(t, c.url+v2+"/namespaces/demo/pods/%2A/none"))
	c.define(metric.Descriptor{Name: "a", Resource: metric.Pods, Namespaced: true}, metric.Descriptor{Name: "b", Resource: metric.External, Namespaced: true})
	f([]string{"pods/a"}, []string{"b"})
	c.define(metric.Descriptor{Name: "c", Resource: "widgets.example.com", Namespaced: true})
	f([]string{"widgets.example.com/c"}, []string{"none"})
	assert.Eventually(t, func() bool { _, err := c.kinds.Of("widgets.example.com"); return err == nil }, 2*time.Second, 20*time.Millisecond)
}

// TestWrongScope has a rule contradict others about whether pods live in namespaces: it must not hide them.
func TestWrongScope(t *testing.T) {
	c := newCluster(t)
	c.define(metric.Descriptor{Name: "a", Resource: metric.Pods}, metric.Descriptor{Name: "b", Resource: metric.Pods, Namespaced: true},
		metric.Descriptor{Name: "c", Resource: metric.Pods, Namespaced: true}, metric.Descriptor{Name: "c", Resource: metric.Pods, Namespaced: true})
	c.start(t)
	assert.Equal(t, []string{"pods/a*", "pods/b", "pods/c"}, listed(t, c.url+v2))
	assert.Equal(t, []string{"pods/b", "pods/c"}, aggregated(t, c.url)[v2])
}

func TestBuiltInKinds(t *testing.T) {
	k := NewKinds(nil)
	f := func(resource, want string) {
		t.Helper()
		gvk, err := k.Of(resource)
		require.NoError(t, err)
		assert.Equal(t, want, gvk.GroupVersion().String()+" "+gvk.Kind)
	}
	f("pods", "v1 Pod")
	f("endpoints", "v1 Endpoints")
	f("deployments.apps", "apps/v1 Deployment")
	f("cronjobs.batch", "batch/v1 CronJob")
	f("ingresses.networking.k8s.io", "networking.k8s.io/v1 Ingress")
	k.learn(now, map[string]bool{"widgets.example.com": true}) // there is nobody to ask
	_, err := k.Of("widgets.example.com")
	require.EqualError(t, err, "the kind of widgets.example.com is not known yet")
}
