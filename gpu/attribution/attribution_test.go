package attribution

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
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

func pod(namespace, name string, containers ...*podresources.ContainerResources) *podresources.PodResources {
	return &podresources.PodResources{Namespace: namespace, Name: name, Containers: containers}
}

func container(name, resource string, ids ...string) *podresources.ContainerResources {
	return &podresources.ContainerResources{Name: name, Devices: []*podresources.ContainerDevices{{ResourceName: resource, DeviceIds: ids}}}
}

func response(pods ...*podresources.PodResources) *podresources.ListPodResourcesResponse {
	return &podresources.ListPodResourcesResponse{PodResources: pods}
}

func TestOwners(t *testing.T) {
	owners, err := Owners(response(
		pod("b", "two", container("main", "nvidia.com/gpu.shared", "GPU-s::1", "GPU-s::2")),
		pod("a", "one", container("main", "nvidia.com/gpu", "GPU-x", "GPU-y"), container("side", "nvidia.com/gpu.shared", "GPU-s::0")),
		pod("a", "nic", container("main", "rdma/hca", "GPU-x")),
		pod("a", "none", &podresources.ContainerResources{Name: "main"}),
		pod("a", "odd", container("main", "nvidia.com/gpu", "::3", "GPU-z::many", "GPU-z")),
	), DefaultPrefix)
	require.EqualError(t, err, `a/odd main: device ID "::3" has no UUID`+"\n"+
		`a/odd main: device ID "GPU-z::many": replica is no number: strconv.ParseUint: parsing "many": invalid syntax`)
	assert.Equal(t, map[string][]gpu.Owner{
		"GPU-x": {{Namespace: "a", Pod: "one", Container: "main"}},
		"GPU-y": {{Namespace: "a", Pod: "one", Container: "main"}},
		"GPU-z": {{Namespace: "a", Pod: "odd", Container: "main"}},
		"GPU-s": {{Namespace: "a", Pod: "one", Container: "side"}, {Namespace: "b", Pod: "two", Container: "main"}},
	}, owners)
}

func TestClientFollowsKubelet(t *testing.T) {
	socket := socketPath(t)
	client, err := New(socket, DefaultPrefix)
	require.NoError(t, err)
	owners, err := client.Owners(t.Context())
	require.ErrorContains(t, err, "cannot list pod resources on "+socket)
	require.ErrorContains(t, err, "no such file")
	assert.Nil(t, owners)

	k := &kubelet{}
	one := map[string][]gpu.Owner{"GPU-x": {{Namespace: "a", Pod: "one", Container: "main"}}}
	for range 2 { // the kubelet comes, and comes again after a restart
		k.answer.Store(response(pod("a", "one", container("main", "nvidia.com/gpu", "GPU-x"))))
		stop := k.serve(t, socket)
		require.Eventually(t, func() bool {
			owners, err = client.Owners(t.Context())
			return err == nil
		}, 3*maxReconnect, 20*time.Millisecond)
		assert.Equal(t, one, owners)
		k.answer.Store(response())
		owners, err = client.Owners(t.Context())
		require.NoError(t, err)
		assert.Empty(t, owners)
		assert.NotNil(t, owners, "nobody owns a device: an answer, unlike no answer")
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
	client, err := New(socket, DefaultPrefix)
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()

	k.answer.Store(response(pod("a", string(make([]byte, maxResponse)))))
	_, err = client.Owners(t.Context())
	require.ErrorContains(t, err, "larger than max")

	k.hang.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	began := time.Now()
	owners, err := client.Owners(ctx)
	require.Error(t, err) // in the client's words or the server's, whose timer runs beside it
	assert.Nil(t, owners)
	assert.Less(t, time.Since(began), 5*time.Second)
}

func FuzzParseDeviceID(f *testing.F) {
	for _, id := range []string{"", "GPU-x", "GPU-x::0", "GPU-x::2147483648", "GPU-x::-1", "::", "a::b::c", "nvidia0/gi1/vgpu2", "GPU-x::+1", "GPU-x::01"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseDeviceID(text)
		if err != nil {
			require.Equal(t, DeviceID{}, id)
			return
		}
		require.NotEmpty(t, id.UUID)
		require.NotContains(t, id.UUID, "::")
		again, err := ParseDeviceID(id.String())
		require.NoError(t, err)
		require.Equal(t, id, again)
	})
}

// FuzzOwners feeds whatever protobuf can decode.
func FuzzOwners(f *testing.F) {
	for _, r := range []*podresources.ListPodResourcesResponse{
		response(),
		response(pod("a", "one", container("main", "nvidia.com/gpu", "GPU-x", "GPU-x", "GPU-y::1", "::"))),
		response(pod("", "", container("", "nvidia.com/", "")), pod("a", "one", container("main", "other/x", "GPU-x"))),
	} {
		bytes, err := proto.Marshal(r)
		require.NoError(f, err)
		f.Add(bytes)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		r := &podresources.ListPodResourcesResponse{}
		if proto.Unmarshal(bytes, r) != nil {
			return
		}
		owners, _ := Owners(r, DefaultPrefix)
		require.NotNil(t, owners)
		for uuid, list := range owners {
			require.NotEmpty(t, uuid)
			require.NotEmpty(t, list)
			seen := map[gpu.Owner]bool{}
			for _, o := range list {
				require.False(t, seen[o], "owner twice")
				seen[o] = true
			}
		}
	})
}
