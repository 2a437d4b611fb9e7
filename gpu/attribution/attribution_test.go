package attribution

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"headroom.dev/headroom/gpu"
)

// kubelet is a fake that answers List with what is stored in it.
type kubelet struct {
	podresources.UnimplementedPodResourcesListerServer
	answer atomic.Pointer[podresources.ListPodResourcesResponse]
	hang   atomic.Bool
}

func (k *kubelet) List(ctx context.Context, _ *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	if k.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return k.answer.Load(), nil
}

// serve listens on socket until the returned function is called.
func (k *kubelet) serve(t *testing.T, socket string) (stop func()) {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	server := grpc.NewServer()
	podresources.RegisterPodResourcesListerServer(server, k)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	return func() { server.Stop(); <-done }
}

func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hr") //nolint:usetesting // t.TempDir is too long for a unix socket's 107 bytes
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "k.sock")
}

func TestClientFollowsKubelet(t *testing.T) {
	socket := socketPath(t)
	client, err := New(Options{Socket: socket})
	require.NoError(t, err)
	holders, err := client.Owners(t.Context())
	require.ErrorContains(t, err, "cannot list pod resources on "+socket)
	require.ErrorContains(t, err, "no such file")
	assert.Nil(t, holders)

	k := &kubelet{}
	one := map[string]gpu.Holders{"GPU-x": {Owners: []gpu.Owner{{Namespace: "a", Pod: "one", Container: "main"}}}}
	for range 2 { // the kubelet comes, and comes again after a restart
		k.answer.Store(response(pod("a", "one", container("main", "nvidia.com/gpu", "GPU-x"))))
		stop := k.serve(t, socket)
		require.Eventually(t, func() bool {
			holders, err = client.Owners(t.Context())
			return err == nil
		}, 3*maxReconnect, 20*time.Millisecond)
		assert.Equal(t, one, holders)
		k.answer.Store(response())
		holders, err = client.Owners(t.Context())
		require.NoError(t, err)
		assert.Empty(t, holders)
		assert.NotNil(t, holders, "nobody owns a device: an answer, unlike no answer")
		stop()
		_, err = client.Owners(t.Context())
		require.Error(t, err)
	}
	require.NoError(t, client.Close())
	_, err = client.Owners(t.Context())
	require.Error(t, err)
}

func TestClientBounds(t *testing.T) {
	socket := socketPath(t)
	k := &kubelet{}
	defer k.serve(t, socket)()
	client, err := New(Options{Socket: socket})
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()

	k.answer.Store(response(pod("a", string(make([]byte, maxResponse)))))
	_, err = client.Owners(t.Context())
	require.ErrorContains(t, err, "larger than max")

	k.hang.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	began := time.Now()
	holders, err := client.Owners(ctx)
	require.Error(t, err) // in the client's words or the server's, whose timer runs beside it
	assert.Nil(t, holders)
	assert.Less(t, time.Since(began), 5*time.Second)
}

func TestClientIgnoresKubeletsRemains(t *testing.T) {
	socket := socketPath(t)
	k := &kubelet{}
	k.answer.Store(response(pod("a", "one", container("main", "nvidia.com/gpu", "GPU-x"))))
	client, err := New(Options{Socket: socket})
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()

	// A kubelet that was killed leaves a socket on which nobody listens; the next one removes it and makes its own.
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, listener.Close())
	_, err = client.Owners(t.Context())
	require.ErrorContains(t, err, "cannot list pod resources on "+socket)
	require.ErrorContains(t, err, "connection refused")
	require.NoError(t, os.Remove(socket))

	defer k.serve(t, socket)()
	require.Eventually(t, func() bool {
		holders, err := client.Owners(t.Context())
		return err == nil && len(holders) == 1
	}, 3*maxReconnect, 20*time.Millisecond)
}

func TestClientAsksAsOptionsSay(t *testing.T) {
	socket := socketPath(t)
	k := &kubelet{}
	defer k.serve(t, socket)()
	client, err := New(Options{
		Socket: socket, Prefix: "amd.com/", DRADriver: "gpu.amd.com", Reservations: []string{"held"},
		Resolve: func(d ClaimedDevice) (string, bool) { return "AMD-" + d.Device, d.Device != "gpu-9" },
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()

	pods := []*podresources.PodResources{
		pod("a", "other", container("main", "nvidia.com/gpu", "GPU-x"), claimant("side", "gpu.nvidia.com/n/gpu-0")),
		pod("a", "garbage", container("main", "amd.com/gpu", "::", "AMD-gpu-1")),
		pod("a", "claims", claimant("main", "gpu.amd.com/n/gpu-0", "gpu.amd.com/n/gpu-9")),
		pod("held", "reservation", container("main", "amd.com/gpu", "AMD-gpu-2")),
	}
	many := gpu.Holders{Replicas: 64}
	for i := range 64 {
		name := fmt.Sprintf("pod-%02d", i)
		pods = append(pods, pod("many", name, container("main", "amd.com/gpu.shared", fmt.Sprintf("AMD-gpu-3::%d", 63-i))))
		many.Owners = append(many.Owners, gpu.Owner{Namespace: "many", Pod: name, Container: "main"})
	}
	slices.Reverse(pods)
	k.answer.Store(response(pods...))
	holders, err := client.Owners(t.Context())
	require.EqualError(t, err, "ignored devices on "+socket+": claim device gpu.amd.com/n/gpu-9 of a/claims main: in no ResourceSlice\n"+
		`a/garbage main: device ID "::" has no UUID`)
	assert.Equal(t, map[string]gpu.Holders{
		"AMD-gpu-0": {Owners: owners("a/claims/main")},
		"AMD-gpu-1": {Owners: owners("a/garbage/main")},
		"AMD-gpu-2": {Reserved: true},
		"AMD-gpu-3": many,
	}, holders)
}

func TestOptionsDefaults(t *testing.T) {
	o := Options{}.withDefaults()
	assert.Equal(t, Options{
		Socket: "/var/lib/kubelet/pod-resources/kubelet.sock", Prefix: "nvidia.com/", DRADriver: "gpu.nvidia.com",
		Reservations: []string{"kai-resource-reservation"},
	}, o)
}
