//go:build linux && cgo

package app

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"headroom.dev/headroom/gpu/nvmltest"
)

// kubelet is a fake that answers List with what is stored in it.
type kubelet struct {
	podresources.UnimplementedPodResourcesListerServer
	answer atomic.Pointer[podresources.ListPodResourcesResponse]
}

func (k *kubelet) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	return k.answer.Load(), nil
}

// give makes pod of namespace shop the holder of the device IDs.
func (k *kubelet) give(pod string, ids ...string) {
	k.answer.Store(&podresources.ListPodResourcesResponse{PodResources: []*podresources.PodResources{{
		Namespace: "shop", Name: pod, Containers: []*podresources.ContainerResources{{
			Name: "server", Devices: []*podresources.ContainerDevices{{ResourceName: "nvidia.com/gpu", DeviceIds: ids}},
		}},
	}}})
}

func (k *kubelet) serve(t *testing.T, socket string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	server := grpc.NewServer()
	podresources.RegisterPodResourcesListerServer(server, k)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
}

// client talks to the agent over HTTP.
type client struct {
	t    *testing.T
	base string
}

func (c client) get(path string) (int, string) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.base+path, nil)
	require.NoError(c.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(c.t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(c.t, err)
	return response.StatusCode, string(body)
}

// shows waits until path's answer contains text.
func (c client) shows(path, text string) {
	c.t.Helper()
	var body string
	assert.Eventually(c.t, func() bool {
		_, body = c.get(path)
		return strings.Contains(body, text)
	}, 15*time.Second, 20*time.Millisecond)
	if !strings.Contains(body, text) {
		c.t.Fatalf("%s does not show %q:\n%s", path, text, relevant(body))
	}
}

// relevant leaves Go's own and the calls' metrics out.
func relevant(body string) string {
	var out strings.Builder
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "go_") && !strings.HasPrefix(line, "gpu_agent_nvml") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// gpuOnBus is a PCI bus with a GPU, whose driver is thus missed.
func gpuOnBus(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	device := filepath.Join(root, "0000:17:00.0")
	require.NoError(t, os.Mkdir(device, 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(device, "vendor"), []byte("0x10de\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(device, "class"), []byte("0x030200\n"), 0o600))
	return root
}

// The whole agent in this process, with the real go-nvml, a library and a kubelet of ours, read over HTTP: it starts
// before both, follows both, names a wedged call, and ends when it is told to.
func TestEndToEnd(t *testing.T) {
	dir, err := os.MkdirTemp("", "hr") //nolint:usetesting // t.TempDir is too long for a unix socket's 107 bytes
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	library, err := nvmltest.Build(t.Context(), dir)
	require.NoError(t, err)
	file := filepath.Join(dir, "machine")
	t.Setenv(nvmltest.FileVariable, file)
	o := validOptions()
	o.PodResourcesSocket, o.NVMLLibrary, o.PCIRoot = filepath.Join(dir, "k.sock"), library, gpuOnBus(t)
	a, err := New(t.Context(), o, slog.New(slog.NewTextHandler(t.Output(), nil)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	c := client{t: t, base: "http://" + a.Addr().String()}

	c.shows("/readyz", "GPUs: cannot initialise NVML of "+library+": nvmlInit_v2: Driver Not Loaded (9)")
	c.shows("/readyz", "owners of the GPUs: cannot list pod resources on "+o.PodResourcesSocket)
	code, body := c.get("/healthz")
	assert.Equal(t, http.StatusOK, code, body)
	code, body = c.get("/metrics")
	assert.Equal(t, http.StatusOK, code)
	assert.NotContains(t, body, "gpu_utilization_ratio")

	machine := nvmltest.Machine{Driver: "570.124.06", Devices: []nvmltest.Device{
		{UUID: "GPU-a", Name: "NVIDIA H100 80GB HBM3", MemoryTotalBytes: 1 << 30, MemoryUsedBytes: 1 << 20, UtilizationPercent: 87},
		{UUID: "GPU-b", Name: "NVIDIA H100 80GB HBM3", MemoryTotalBytes: 1 << 30},
	}}
	require.NoError(t, machine.WriteFile(file))
	k := &kubelet{}
	k.give("chat-0", "GPU-a")
	k.serve(t, o.PodResourcesSocket)
	c.shows("/metrics", `gpu_pod_utilization_ratio{container="server",namespace="shop",pod="chat-0",uuid="GPU-a"} 0.87`)
	c.shows("/readyz", "ok")
	_, body = c.get("/metrics")
	assert.Contains(t, body, `gpu_pod_memory_used_bytes{container="server",namespace="shop",pod="chat-0",uuid="GPU-a"} 1.048576e+06`)
	assert.Contains(t, body, `gpu_info{driver="570.124.06",gpu="1",minor="1",model="NVIDIA H100 80GB HBM3",node="node-1",pci_bus_id="`)
	assert.Contains(t, body, `gpu_sharers{gpu="1",uuid="GPU-b"} 0`)

	machine.Devices[1].UtilizationPercent = 31
	require.NoError(t, machine.WriteFile(file))
	k.give("chat-1", "GPU-b::0", "GPU-b::1")
	c.shows("/metrics", `gpu_pod_utilization_ratio{container="server",namespace="shop",pod="chat-1",uuid="GPU-b"} 0.31`)
	_, body = c.get("/metrics")
	assert.NotContains(t, body, "chat-0")

	machine.Fault = "hang nvmlDeviceGetCount_v2 2500"
	require.NoError(t, machine.WriteFile(file))
	c.shows("/readyz", "GPUs: stopped waiting for the GPUs: nvmlDeviceGetCount_v2 was called at ")
	machine.Fault = ""
	require.NoError(t, machine.WriteFile(file))
	c.shows("/readyz", "ok")

	cancel()
	require.NoError(t, <-ended)
	_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", a.Addr().String())
	require.Error(t, err)
}
