package e2e

import (
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
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
	path := ofPods(custom2, namespace, rps, "")

	adapter := shared.adapter(t)
	direct := insecure()
	base := "https://" + net.JoinHostPort(adapter.Status.PodIP, "6443")
	a, err := fetch(ctx, direct, base+path)
	require.NoError(t, err)
	a.refusal(t, http.StatusForbidden)
	a, err = fetch(ctx, direct, base+"/metrics")
	require.NoError(t, err)
	a.refusal(t, http.StatusForbidden)

	accounts := shared.Client.CoreV1().ServiceAccounts(namespace)
	_, err = accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "nobody"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	token, err := accounts.CreateToken(ctx, "nobody", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)
	config := rest.AnonymousClientConfig(shared.Config)
	config.BearerToken = token.Status.Token
	client, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	a, err = fetch(ctx, client, shared.Config.Host+path)
	require.NoError(t, err)
	assert.Contains(t, a.refusal(t, http.StatusForbidden), "system:serviceaccount:"+namespace+":nobody")

	// A token that the API server vouches for gets the same answer from the adapter itself, which asks it.
	a, err = fetchAs(ctx, direct, base+path, token.Status.Token)
	require.NoError(t, err)
	assert.Contains(t, a.refusal(t, http.StatusForbidden), "system:serviceaccount:"+namespace+":nobody")
}

// TestDiscovery sees both versions and every metric, as kubectl and the HPA controller do.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	client := discovery.NewDiscoveryClientForConfigOrDie(shared.Config)
	for _, version := range []string{"custom.metrics.k8s.io/v1beta1", "custom.metrics.k8s.io/v1beta2"} {
		list, err := client.ServerResourcesForGroupVersion(version)
		require.NoError(t, err)
		var names []string
		for _, r := range list.APIResources {
			names = append(names, r.Name)
			assert.True(t, r.Namespaced)
			assert.Equal(t, metav1.Verbs{"get"}, r.Verbs)
		}
		assert.ElementsMatch(t, []string{"pods/" + gpu, "pods/" + p95, "pods/" + rps}, names)
	}
	groups, _, failures, err := client.GroupsAndMaybeResources()
	require.NoError(t, err)
	require.Empty(t, failures)
	for _, group := range groups.Groups {
		if group.Name == "custom.metrics.k8s.io" {
			assert.Equal(t, "v1beta2", group.PreferredVersion.Version)
			return
		}
	}
	t.Fatal("the group custom.metrics.k8s.io is not discovered")
}

// adapter returns the one pod of the adapter.
func (c *cluster) adapter(t *testing.T) corev1.Pod {
	t.Helper()
	return c.ready(t, "headroom-system", "app.kubernetes.io/name=headroom-adapter", 1)[0]
}
