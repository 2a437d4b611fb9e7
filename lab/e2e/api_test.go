package e2e

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/lab/network"
)

// TestRefusals asks for what is not there and for what is no question, through the API server, in both versions.
func TestRefusals(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	shared.deploy(t, namespace, inference("one", "{startup: 0s}", 0))
	pod := shared.ready(t, namespace, "app=service", 1)[0].Name
	for _, version := range []string{custom1, custom2} {
		f := func(path string, code int, message string) {
			t.Helper()
			assert.Contains(t, shared.get(t.Context(), t, path).refusal(t, code), message, path)
		}
		f(ofPods(version, namespace, "unheard_of", "app=service"), http.StatusNotFound, "no rule defines unheard_of for pods")
		f(ofPod(version, namespace, pod, "unheard_of"), http.StatusNotFound, "no rule defines unheard_of for pods")
		f(ofPods(version, "nowhere", rps, ""), http.StatusNotFound, "no "+rps+" of pods in nowhere: no running pod matches")
		f(ofPod(version, "nowhere", pod, rps), http.StatusNotFound, "pods nowhere/"+pod+": there is no such pod")
		f(ofPod(version, namespace, "nobody", rps), http.StatusNotFound, "there is no such pod")
		f(ofPods(version, namespace, rps, "app=nobody"), http.StatusNotFound, `no running pod matches the selector "app=nobody"`)
		f(ofPods(version, namespace, rps, "app in"), http.StatusBadRequest, "unable to parse requirement")
		f(ofPods(version, namespace, rps, "app=service")+"&metricLabelSelector=%3D%3D%3D", http.StatusBadRequest, "metricLabelSelector: ")
		f(version+"/nodes/gpu-0/"+rps, http.StatusNotFound, "no rule defines "+rps+" for nodes")
	}
	_, err := shared.kubectl(t, "get", "--raw", ofPods(custom2, namespace, "unheard_of", "app=service"))
	require.ErrorContains(t, err, "(NotFound): no rule defines unheard_of for pods")
}

// TestRights: who may not read metrics gets none, past the API server and through it.
func TestRights(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	paths := map[string]string{
		"custom":       ofPods(custom2, namespace, rps, ""),
		"external":     external + "/namespaces/" + namespace + "/" + rps,
		"explanations": queryGroup + "/namespaces/" + namespace + "/explanations/" + rps + "?resource=pods",
		"prometheus":   queryGroup + "/namespaces/" + namespace + "/prometheus/api/v1/query?query=up",
		"everything":   queryGroup + "/prometheus/api/v1/query?query=up",
		"rules":        queryGroup + "/rules",
	}
	token := shared.account(t, namespace, "nobody")
	who := "system:serviceaccount:" + namespace + ":nobody"
	for name, path := range paths {
		a, err := fetchAs(ctx, shared.anonymous(t), shared.Config.Host+path, token)
		require.NoError(t, err)
		assert.Contains(t, a.refusal(t, http.StatusForbidden), who, name)
	}
	// The same from each replica, which asks the API server who that is and what it may.
	for _, base := range shared.replicas(ctx, t) {
		paths["metrics"], paths["grafana"] = "/metrics", "/api/v1/query?query=up"
		for name, path := range paths {
			for code, token := range map[int]string{http.StatusForbidden: token, http.StatusUnauthorized: "no token of this cluster"} {
				a, err := fetchAs(ctx, insecure(), base+path, token)
				require.NoError(t, err)
				assert.Equal(t, code, a.code, "%s: %s", name, a.body)
			}
			a, err := fetch(ctx, insecure(), base+path)
			require.NoError(t, err)
			assert.Contains(t, a.refusal(t, http.StatusForbidden), "system:anonymous", name)
		}
	}
}

// TestReaderReachesTheAdapterDirectly: what Grafana does, with the ClusterRole headroom-reader and the Service's address.
func TestReaderReachesTheAdapterDirectly(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.deploy(t, namespace, inference("one", "{startup: 0s}", 0))
	pod := shared.ready(t, namespace, "app=service", 1)[0]
	token := shared.account(t, namespace, "grafana")
	_, err := shared.Client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "headroom-reader"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "grafana", Namespace: namespace}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	expr := url.QueryEscape(`http_requests_total{namespace="` + namespace + `"}`)
	for _, base := range shared.replicas(ctx, t) {
		eventually(t, 15*time.Second, func(t require.TestingT) {
			a, err := fetchAs(ctx, insecure(), base+"/api/v1/query?query="+expr, token)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, a.code, a.body)
			require.Contains(t, a.body, pod.Name)
		})
	}
}

// TestRightsOfOneNamespace: a viewer of one namespace reads its metrics, explanations and series, and nobody else's.
func TestRightsOfOneNamespace(t *testing.T) {
	t.Parallel()
	ctx, mine, other := t.Context(), shared.namespace(t), shared.namespace(t)
	pods := map[string]string{}
	for _, namespace := range []string{mine, other} {
		shared.deploy(t, namespace, inference("one", "{startup: 0s}", 0))
		pod := shared.ready(t, namespace, "app=service", 1)[0]
		pods[namespace] = pod.Name
		shared.serves(t, pod, 15*time.Second)
		_, err := shared.Client.CoreV1().Services(namespace).Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "one"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"name": "one"}, Ports: []corev1.ServicePort{{Port: 80}}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	token := shared.account(t, mine, "viewer")
	_, err := shared.Client.RbacV1().RoleBindings(mine).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "viewer"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "viewer", Namespace: mine}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	client := shared.anonymous(t)
	ask := func(t require.TestingT, path string) answer {
		a, err := fetchAs(ctx, client, shared.Config.Host+path, token)
		require.NoError(t, err)
		return a
	}
	of := func(namespace string) map[string]string {
		return map[string]string{
			"a list":           ofPods(custom2, namespace, rps, "app=service"),
			"a pod":            ofPod(custom2, namespace, pods[namespace], rps),
			"a service":        custom2 + "/namespaces/" + namespace + "/services/one/" + rps,
			"external metrics": external + "/namespaces/" + namespace + "/" + rps + "?labelSelector=service%3Done",
			"an explanation":   queryGroup + "/namespaces/" + namespace + "/explanations/" + rps + "?resource=pods",
			"a query":          queryGroup + "/namespaces/" + namespace + "/prometheus/api/v1/query?query=http_requests_total",
		}
	}
	for name, path := range of(mine) {
		eventually(t, 10*time.Second, func(t require.TestingT) { // a Role is felt after a moment
			a := ask(t, path)
			require.Equal(t, http.StatusOK, a.code, "%s: %s", name, a.body)
			require.NotContains(t, a.body, other, name)
		})
	}
	a := ask(t, of(mine)["a query"])
	assert.Contains(t, a.body, pods[mine])
	// A query cannot leave the namespace, however it asks.
	a = ask(t, queryGroup+"/namespaces/"+mine+"/prometheus/api/v1/query?query="+url.QueryEscape(`http_requests_total{namespace="`+other+`"}`))
	assert.Equal(t, http.StatusOK, a.code)
	assert.NotContains(t, a.body, pods[other])
	a = ask(t, queryGroup+"/namespaces/"+mine+"/prometheus/api/v1/label/pod/values")
	assert.Contains(t, a.body, pods[mine])
	assert.NotContains(t, a.body, pods[other])
	for name, path := range of(other) {
		assert.NotEmpty(t, ask(t, path).refusal(t, http.StatusForbidden), name)
	}
	for _, path := range []string{
		queryGroup + "/rules", queryGroup + "/explanations/" + rps + "?resource=nodes", queryGroup + "/prometheus/api/v1/query?query=up",
		custom2 + "/nodes/gpu-0/" + gpu, custom2 + "/nodes/*/" + gpu,
	} {
		assert.NotEmpty(t, ask(t, path).refusal(t, http.StatusForbidden), path)
	}
}

// account makes a ServiceAccount and returns a token of it.
func (c *cluster) account(t *testing.T, namespace, name string) string {
	t.Helper()
	accounts := c.Client.CoreV1().ServiceAccounts(namespace)
	_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	token, err := accounts.CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)
	return token.Status.Token
}

// anonymous is a client without rights, for the API server.
func (c *cluster) anonymous(t *testing.T) *http.Client {
	t.Helper()
	client, err := rest.HTTPClientFor(rest.AnonymousClientConfig(c.Config))
	require.NoError(t, err)
	return client
}

// TestDiscovery sees every version and metric, as kubectl and the HPA controller do.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	client := discovery.NewDiscoveryClientForConfigOrDie(shared.Config)
	for _, version := range []string{"custom.metrics.k8s.io/v1beta1", "custom.metrics.k8s.io/v1beta2"} {
		list, err := client.ServerResourcesForGroupVersion(version)
		require.NoError(t, err)
		names := map[string]bool{}
		for _, r := range list.APIResources {
			assert.False(t, names[r.Name], "%s is listed twice", r.Name)
			names[r.Name] = true
			assert.Equal(t, !strings.HasPrefix(r.Name, "nodes/") && !strings.HasPrefix(r.Name, "namespaces/"), r.Namespaced, r.Name)
			assert.Equal(t, metav1.Verbs{"get"}, r.Verbs)
		}
		for _, name := range []string{
			"pods/" + gpu, "pods/" + p95, "pods/" + rps, "services/" + rps, "deployments.apps/" + rps, "services/" + p95, "nodes/" + gpu,
		} {
			assert.True(t, names[name], name)
		}
	}
	external, err := client.ServerResourcesForGroupVersion("external.metrics.k8s.io/v1beta1")
	require.NoError(t, err)
	assert.True(t, slices.ContainsFunc(external.APIResources, func(r metav1.APIResource) bool { return r.Name == rps }))

	groups, resources, failures, err := client.GroupsAndMaybeResources()
	require.NoError(t, err)
	require.Empty(t, failures)
	preferred := map[string]string{}
	for _, group := range groups.Groups {
		preferred[group.Name] = group.PreferredVersion.Version
	}
	assert.Equal(t, "v1beta2", preferred["custom.metrics.k8s.io"])
	assert.Equal(t, "v1beta1", preferred["external.metrics.k8s.io"])
	assert.Equal(t, "v1alpha1", preferred["query.headroom.dev"])
	for version, list := range resources { // aggregated discovery, which the library itself leaves empty
		assert.NotEmpty(t, list.APIResources, version)
	}
	// kubectl leaves out subresources, and so all custom metrics.
	out, err := shared.kubectl(t, "api-resources", "--api-group=external.metrics.k8s.io", "-o", "name")
	require.NoError(t, err)
	assert.Contains(t, out, rps+".external.metrics.k8s.io\n")
}

// adapters returns the Ready pods of the adapter.
func (c *cluster) adapters(ctx context.Context, t require.TestingT) []corev1.Pod {
	pods, err := c.Client.CoreV1().Pods("headroom-system").List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=headroom-adapter"})
	require.NoError(t, err)
	return slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return !network.Ready(&p) })
}
