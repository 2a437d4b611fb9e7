package rightsizing

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const manifests = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: vpa-updater, namespace: kube-system}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: vpa-recommender, namespace: kube-system}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: metrics-server, namespace: kube-system}
spec:
  template:
    spec:
      containers:
      - name: metrics-server
        image: registry.k8s.io/metrics-server/metrics-server:v0.9.0
        args: [--cert-dir=/tmp, --metric-resolution=15s, --kubelet-use-node-status-port]
        readinessProbe: {initialDelaySeconds: 20, periodSeconds: 10}
---
apiVersion: v1
kind: Service
metadata: {name: vpa-webhook, namespace: kube-system}
spec: {ports: [{port: 443, targetPort: 8000}]}
`

func TestManifestsAreFitted(t *testing.T) {
	raw, err := fit(manifests, 12345)
	require.NoError(t, err)
	found := map[string]string{}
	for document := range strings.SplitSeq(string(raw), "---\n") {
		var head struct {
			Kind     string
			Metadata struct{ Name string }
		}
		require.NoError(t, yaml.Unmarshal([]byte(document), &head))
		found[head.Kind+"/"+head.Metadata.Name] = document
	}
	require.NotContains(t, found, "Deployment/vpa-recommender", "its place is ours")
	require.Contains(t, found, "ServiceAccount/vpa-updater")

	var d appsv1.Deployment
	require.NoError(t, yaml.UnmarshalStrict([]byte(found["Deployment/metrics-server"]), &d))
	c := d.Spec.Template.Spec.Containers[0]
	require.Equal(t, []string{"--cert-dir=/tmp", "--kubelet-use-node-status-port"}, c.Args[:2], "what is not replaced stays, in order")
	require.Contains(t, c.Args, "--metric-resolution=10s")
	require.NotContains(t, c.Args, "--metric-resolution=15s")
	require.Equal(t, "POD_IP", c.Env[0].Name)
	require.EqualValues(t, 0, c.ReadinessProbe.InitialDelaySeconds)

	var s corev1.Service
	require.NoError(t, yaml.UnmarshalStrict([]byte(found["Service/vpa-webhook"]), &s))
	require.Equal(t, 12345, s.Spec.Ports[0].TargetPort.IntValue())

	_, err = fit("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: another}\n", 1)
	require.ErrorContains(t, err, "cannot fit Deployment/another")
	_, err = fit("a: [", 1)
	require.ErrorContains(t, err, "cannot read a manifest")
}

func TestTheWebhookHasAnAuthorityOfItsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	raw, err := webhookSecret(dir)
	require.NoError(t, err)
	var s corev1.Secret
	require.NoError(t, yaml.UnmarshalStrict([]byte(strings.TrimPrefix(string(raw), "---\n")), &s))
	ca, err := os.ReadFile(filepath.Join(dir, "vpa-webhook-ca.crt"))
	require.NoError(t, err)
	require.Equal(t, string(ca), s.StringData["caCert.pem"])
	require.Contains(t, s.StringData["serverCert.pem"], "BEGIN CERTIFICATE")
	require.Contains(t, s.StringData["serverKey.pem"], "PRIVATE KEY")
}
