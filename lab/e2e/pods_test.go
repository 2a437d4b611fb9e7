package e2e

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/lab/pki"
)

// TestBadArgumentsAreToldByThePod starts an agent with a flag that it does not have.
func TestBadArgumentsAreToldByThePod(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	_, err := shared.Client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "agent", Image: "headroom.dev/headroom-agent:v0.1.0", Args: []string{"--no-such-flag"},
		}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	eventually(t, 20*time.Second, func(t require.TestingT) {
		pod, err := shared.Client.CoreV1().Pods(namespace).Get(ctx, "agent", metav1.GetOptions{})
		require.NoError(t, err)
		require.Len(t, pod.Status.ContainerStatuses, 1)
		status := pod.Status.ContainerStatuses[0]
		require.NotNil(t, status.State.Waiting)
		require.Equal(t, "CrashLoopBackOff", status.State.Waiting.Reason)
		require.NotNil(t, status.LastTerminationState.Terminated)
		require.Contains(t, status.LastTerminationState.Terminated.Message, "unknown flag: --no-such-flag")
		require.NotZero(t, status.LastTerminationState.Terminated.ExitCode)
		require.Positive(t, status.RestartCount)
	})
	out, err := shared.kubectl(t, "describe", "pod", "-n", namespace, "agent")
	require.NoError(t, err)
	assert.Contains(t, out, "unknown flag: --no-such-flag")
}

// TestPodSpecReachesTheProcess runs an adapter whose certificate is mounted from a Secret, as cert-manager would have it,
// whose port comes from a ConfigMap, whose address from the downward API, and whose rights from a token.
func TestPodSpecReachesTheProcess(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	authority, err := pki.NewAuthority(t.TempDir(), "ca")
	require.NoError(t, err)
	pair, err := authority.Server("adapter", nil, "adapter.test")
	require.NoError(t, err)
	certificate, err := os.ReadFile(pair.CertFile)
	require.NoError(t, err)
	key, err := os.ReadFile(pair.KeyFile)
	require.NoError(t, err)
	core, rights := shared.Client.CoreV1(), shared.Client.RbacV1()
	_, err = core.Secrets(namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "certificate"}, Data: map[string][]byte{"tls.crt": certificate, "tls.key": key},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = core.ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"port": "7443"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	subject := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "default", Namespace: namespace}}
	for _, role := range []string{"headroom-adapter", "system:auth-delegator"} {
		_, err = rights.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: namespace + "-" + role}, Subjects: subject,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	_, err = rights.RoleBindings(metav1.NamespaceSystem).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace}, Subjects: subject,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "extension-apiserver-authentication-reader"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = core.Pods(namespace).Create(ctx, adapterPod(), metav1.CreateOptions{})
	require.NoError(t, err)

	eventually(t, 30*time.Second, func(t require.TestingT) {
		pod, err := core.Pods(namespace).Get(ctx, "adapter", metav1.GetOptions{})
		require.NoError(t, err)
		require.NotEmpty(t, pod.Status.PodIP)
		require.True(t, netip.MustParsePrefix(shared.PodAddresses()).Contains(netip.MustParseAddr(pod.Status.PodIP)))
		var subject string
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true,
			VerifyConnection: func(c tls.ConnectionState) error {
				subject = c.PeerCertificates[0].DNSNames[0]
				return nil
			},
		}}}
		a, err := fetch(ctx, client, "https://"+net.JoinHostPort(pod.Status.PodIP, "7443")+"/readyz")
		require.NoError(t, err)
		require.Equal(t, "adapter.test", subject)
		require.Equal(t, http.StatusOK, a.code, a.body) // it has listed the pods, with its token
	})
}

func adapterPod() *corev1.Pod {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "adapter"},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(2)),
			Containers: []corev1.Container{{
				Name: "adapter", Image: "headroom.dev/headroom-adapter:v0.1.0",
				Args: []string{
					"--bind-address=$(ADDRESS)", "--secure-port=$(PORT)",
					"--tls-cert-file=/certificate/tls.crt", "--tls-private-key-file=/certificate/tls.key",
				},
				Env: []corev1.EnvVar{
					field("ADDRESS", "status.podIP"), field("POD_NAMESPACE", "metadata.namespace"),
					{Name: "PORT", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
						LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Key: "port",
					}}},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "certificate", MountPath: "/certificate", ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "certificate", VolumeSource: corev1.VolumeSource{
				Secret: &corev1.SecretVolumeSource{SecretName: "certificate"},
			}}},
		},
	}
}
