package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/lab/pki"
)

const monitors = `
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: by-token}
spec:
  selector: {matchLabels: {name: by-token}}
  podMetricsEndpoints:
  - port: exporter
    authorization: {credentials: {name: scraping, key: token}}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: by-tls}
spec:
  selector: {matchLabels: {name: by-tls}}
  endpoints:
  - port: exporter
    scheme: https
    tlsConfig: {serverName: exporter.test, ca: {secret: {name: scraping, key: ca}}}
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: by-nobody}
spec:
  selector: {matchLabels: {name: by-nobody}}
  podMetricsEndpoints:
  - port: exporter
    authorization: {credentials: {name: scraping, key: token}}
    tlsConfig: {insecureSkipVerify: true}
    scheme: https
`

// TestMonitors scrapes what monitors select, with the credentials that they name: a bearer token, and TLS with an authority
// of one's own. The operator's kinds come when the adapter runs already.
func TestMonitors(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.knowMonitors(t)
	authority, err := pki.NewAuthority(t.TempDir(), "ca")
	require.NoError(t, err)
	pair, err := authority.Server("exporter", nil, "exporter.test")
	require.NoError(t, err)
	certificate, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	require.NoError(t, err)
	const token = "let me in"
	_, err = shared.Client.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "scraping"}, Data: map[string][]byte{"token": []byte(token), "ca": authority.CertPEM},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	shared.mayRead(t, namespace, "scraping")

	bearing, speaking, neither := says("sglang:num_queue_reqs 1\n"), says("sglang:num_queue_reqs 2\n"), says("sglang:num_queue_reqs 3\n")
	bearing.token, neither.token = token, "another"
	for _, name := range []string{"by-token", "by-tls", "by-nobody"} {
		shared.deploy(t, namespace, unannotated(name))
	}
	pods := map[string]corev1.Pod{}
	for _, pod := range shared.ready(t, namespace, "app=service", 3) {
		pods[pod.Labels["name"]] = pod
	}
	bearing.serve(t, pods["by-token"], nil)
	speaking.serve(t, pods["by-tls"], &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
	neither.serve(t, pods["by-nobody"], &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
	shared.service(t, namespace, "by-tls", map[string]string{"name": "by-tls"})
	why := shared.get(ctx, t, ofPod(custom2, namespace, pods["by-tls"].Name, "requests_waiting")).refusal(t, http.StatusNotFound)
	assert.Contains(t, why, "no annotation prometheus.io/scrape")

	file := filepath.Join(t.TempDir(), "monitors.yaml")
	require.NoError(t, os.WriteFile(file, []byte(monitors), 0o600))
	began := time.Now()
	eventually(t, 20*time.Second, func(c require.TestingT) { // the definitions are served after a moment
		_, err := shared.kubectl(t, "apply", "-n", namespace, "-f", file)
		require.NoError(c, err)
	})
	eventually(t, 45*time.Second, func(t require.TestingT) {
		values := shared.values(ctx, t, namespace, "requests_waiting")
		require.Len(t, values, 2)
		require.InDelta(t, 1, number(values[pods["by-token"].Name]), 1e-9)
		require.InDelta(t, 2, number(values[pods["by-tls"].Name]), 1e-9)
	})
	t.Logf("scraped %s after the monitors were made, whose kinds were new", time.Since(began).Round(tick))
	eventually(t, 10*time.Second, func(t require.TestingT) {
		why = shared.get(ctx, t, ofPod(custom2, namespace, pods["by-nobody"].Name, "requests_waiting")).refusal(t, http.StatusNotFound)
		require.Contains(t, why, "HTTP 401 Unauthorized")
	})
	assert.NotContains(t, why, token)
}

// TestMonitorWithoutRights: a Secret that the adapter may not read costs the monitor that names it, and the reason is told.
func TestMonitorWithoutRights(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.knowMonitors(t)
	shared.deploy(t, namespace, unannotated("by-token"))
	pod := shared.ready(t, namespace, "app=service", 1)[0]
	file := filepath.Join(t.TempDir(), "monitors.yaml")
	require.NoError(t, os.WriteFile(file, []byte(monitors), 0o600))
	eventually(t, 20*time.Second, func(c require.TestingT) {
		_, err := shared.kubectl(t, "apply", "-n", namespace, "-f", file)
		require.NoError(c, err)
	})
	eventually(t, 45*time.Second, func(t require.TestingT) {
		why := shared.get(ctx, t, ofPod(custom2, namespace, pod.Name, "requests_waiting")).refusal(t, http.StatusNotFound)
		require.Contains(t, why, fmt.Sprintf("PodMonitor %s/by-token", namespace))
		require.Contains(t, why, fmt.Sprintf("cannot read secret %s/scraping: forbidden", namespace))
	})
}

// knowMonitors makes the kinds. Of two tests that do so at the same time kubectl tells one that they exist already.
func (c *cluster) knowMonitors(t *testing.T) {
	t.Helper()
	eventually(t, 20*time.Second, func(r require.TestingT) {
		_, err := c.kubectl(t, "apply", "-f", "testdata/monitors.yaml")
		require.NoError(r, err)
	})
}

// unannotated is exporting for those that a monitor finds by the name of the port.
func unannotated(name string) *appsv1.Deployment {
	d := exporting(name)
	d.Spec.Template.Annotations["prometheus.io/scrape"] = "false"
	server := &d.Spec.Template.Spec.Containers[0]
	server.Ports = append(server.Ports, corev1.ContainerPort{Name: "exporter", ContainerPort: exporterPort})
	return d
}

// mayRead lets the adapter read one Secret, as whoever makes monitors with credentials has to.
func (c *cluster) mayRead(t *testing.T, namespace, secret string) {
	t.Helper()
	rights := c.Client.RbacV1()
	_, err := rights.Roles(namespace).Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "scraping"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{secret}, Verbs: []string{"get"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = rights.RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "scraping"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "scraping"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "headroom-adapter", Namespace: "headroom-system"}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}
