package network_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"headroom.dev/headroom/lab/network"
)

func TestTwoLabsGetDifferentBlocks(t *testing.T) {
	first, err := network.Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = first.Release() })
	second, err := network.Acquire(t.Context())
	require.NoError(t, err)
	require.False(t, first.Pods.Overlaps(second.Pods), "%s and %s", first.Pods, second.Pods)
	require.NoError(t, second.Release())
	third, err := network.Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = third.Release() })
	require.Equal(t, second.Pods, third.Pods, "a released block is free again")
}

// connect asks the proxy for a way to address and returns the status and the connection after it.
func connect(t *testing.T, socket, address string) (int, net.Conn) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", address)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode, conn
}

func TestProxyConnectsClusterIPsToReadyPodsAlone(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer backend.Close()
	at := netip.MustParseAddrPort(backend.Listener.Addr().String())

	pod := func(name string, ready corev1.ConditionStatus, port int32) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n", Labels: map[string]string{"app": "a"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{Name: "https", ContainerPort: port}}}}},
			Status: corev1.PodStatus{
				PodIP: at.Addr().String(), Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}},
			},
		}
	}
	service := func(name, ip string, selector map[string]string) *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n"},
			Spec: corev1.ServiceSpec{
				ClusterIP: ip, Selector: selector,
				Ports: []corev1.ServicePort{{Port: 443, TargetPort: intstr.FromString("https")}},
			},
		}
	}
	client := fake.NewClientset(
		pod("ready", corev1.ConditionTrue, int32(at.Port())), pod("loading", corev1.ConditionFalse, 1),
		service("good", "10.96.0.10", map[string]string{"app": "a"}), service("empty", "10.96.0.11", map[string]string{"app": "b"}),
		service("none", "10.96.0.12", nil),
	)
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() {
		served <- network.NewProxy(func() kubernetes.Interface { return client }, slog.New(slog.DiscardHandler)).Serve(ctx, listener)
	}()

	for range 20 { // a pod that is not Ready is never picked
		status, conn := connect(t, socket, "10.96.0.10:443")
		require.Equal(t, http.StatusOK, status)
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Contains(t, string(answer), "hello")
	}
	for _, refused := range []string{"10.96.0.10:80", "10.96.0.11:443", "10.96.0.12:443", "10.96.9.9:443", "192.0.2.1:443", "example.invalid:443", "nonsense"} {
		status, _ := connect(t, socket, refused)
		require.Equal(t, http.StatusBadGateway, status, refused)
	}
	status, _ := connect(t, socket, at.String())
	require.Equal(t, http.StatusOK, status, "loopback addresses are let through")

	cancel()
	require.NoError(t, <-served)
}

func TestProxyRefusesBeforeThereIsAnAPIServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	go func() {
		_ = network.NewProxy(func() kubernetes.Interface { return nil }, slog.New(slog.DiscardHandler)).Serve(t.Context(), listener)
	}()
	status, _ := connect(t, socket, "10.96.0.10:443")
	require.Equal(t, http.StatusBadGateway, status)
}

func TestEndpointsFollowTheSelector(t *testing.T) {
	pod := func(name, version, address string, ready corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n", Labels: map[string]string{"app": "a", "version": version}},
			Status:     corev1.PodStatus{PodIP: address, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
		}
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "n"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "a", "version": "1"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8000)}},
	}}
	client := fake.NewClientset(service, pod("old", "1", "127.1.0.1", corev1.ConditionTrue), pod("new", "2", "127.1.0.2", corev1.ConditionTrue),
		pod("loading", "2", "127.1.0.3", corev1.ConditionFalse))
	targets, err := network.Endpoints(t.Context(), client, "n", "a")
	require.NoError(t, err)
	require.Equal(t, []string{"127.1.0.1:8000"}, targets())
	becomes := func(want ...string) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) { assert.ElementsMatch(c, want, targets()) }, 10*time.Second, time.Millisecond)
	}
	service.Spec.Selector["version"] = "2"
	_, err = client.CoreV1().Services("n").Update(t.Context(), service, metav1.UpdateOptions{})
	require.NoError(t, err)
	becomes("127.1.0.2:8000")
	service.Spec.Selector = map[string]string{"app": "a"}
	_, err = client.CoreV1().Services("n").Update(t.Context(), service, metav1.UpdateOptions{})
	require.NoError(t, err)
	becomes("127.1.0.1:8000", "127.1.0.2:8000")
	require.NoError(t, client.CoreV1().Services("n").Delete(t.Context(), "a", metav1.DeleteOptions{}))
	becomes()
}
