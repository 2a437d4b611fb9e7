//go:build linux && cgo

package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"headroom.dev/headroom/gpu/nvmltest"
)

// world is a node: its driver, kubelet, processes and API server.
type world struct {
	t       *testing.T
	dir     string
	o       Options
	kubelet *kubelet
	machine nvmltest.Machine
	client  client

	mu   sync.Mutex
	pods []corev1.Pod
	mig  string // the node's nvidia.com/mig.config.state
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "hr") //nolint:usetesting // t.TempDir is too long for a unix socket's 107 bytes
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	library, err := nvmltest.Build(t.Context(), filepath.Join(os.TempDir(), "headroom-nvmltest-"+strconv.Itoa(os.Getuid())))
	require.NoError(t, err)
	w := &world{t: t, dir: dir, o: validOptions(), kubelet: &kubelet{}, machine: nvmltest.Machine{Driver: "580.95.05", Devices: []nvmltest.Device{
		{UUID: "GPU-a", Name: "NVIDIA H100 80GB HBM3", MemoryTotalBytes: 80 << 30},
	}}}
	w.kubelet.answer.Store(&podresources.ListPodResourcesResponse{})
	api := httptest.NewServer(w)
	t.Cleanup(func() { api.CloseClientConnections(); api.Close() })
	w.o.Kubeconfig = filepath.Join(dir, "kubeconfig")
	require.NoError(t, os.WriteFile(w.o.Kubeconfig, fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"a",
"contexts":[{"name":"a","context":{"cluster":"a"}}],"clusters":[{"name":"a","cluster":{"server":%q}}]}`, api.URL), 0o600))
	w.o.KubernetesAPI, w.o.Processes, w.o.ProcRoot = on, on, filepath.Join(dir, "proc")
	w.o.PodResourcesSocket, w.o.NVMLLibrary, w.o.PCIRoot = filepath.Join(dir, "k.sock"), library, gpuOnBus(t)
	t.Setenv(nvmltest.FileVariable, filepath.Join(dir, "machine"))
	return w
}

// run starts the agent, which ends with the test.
func (w *world) run() {
	w.t.Helper()
	a, err := New(w.t.Context(), w.o, slog.New(slog.NewTextHandler(w.t.Output(), nil)))
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); assert.NoError(w.t, <-ended) })
	w.client = client{t: w.t, base: "http://" + a.Addr().String()}
}

func (w *world) write() {
	w.t.Helper()
	require.NoError(w.t, w.machine.WriteFile(filepath.Join(w.dir, "machine")))
}

// use gives the GPU another second of history: samples of processes, in turn.
func (w *world) use(percent uint, pids ...uint32) {
	d := &w.machine.Devices[0]
	d.UtilizationPercent, d.Ring, d.ProcessSamples = percent, nil, nil
	now := uint64(time.Now().UnixMicro())
	for i := range 7 {
		stamp := now + uint64(i)
		d.Ring = append(d.Ring, nvmltest.RingSample{Stamp: stamp, Percent: percent})
		if len(pids) > 0 {
			d.ProcessSamples = append(d.ProcessSamples, nvmltest.ProcessSample{PID: pids[i%len(pids)], Stamp: stamp, SMPercent: percent})
		}
	}
	w.write()
}

// used gives the GPU history until path's answer contains text.
func (w *world) used(percent uint, text string, pids ...uint32) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		w.use(percent, pids...)
		_, body := w.client.get("/metrics")
		return strings.Contains(body, text)
	}, 15*time.Second, 50*time.Millisecond, text)
}

func podUID(i int) string      { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }
func containerID(i int) string { return fmt.Sprintf("%064x", i) }

// process makes a process in the pod with a number, or outside of all pods if it is negative.
func (w *world) process(pid uint32, pod int, start int) {
	w.t.Helper()
	dir := filepath.Join(w.o.ProcRoot, strconv.Itoa(int(pid)))
	require.NoError(w.t, os.MkdirAll(dir, 0o750))
	cgroup := "0::/system.slice/x.service\n"
	if pod >= 0 {
		cgroup = "0::/kubepods.slice/kubepods-pod" + strings.ReplaceAll(podUID(pod), "-", "_") + ".slice/cri-containerd-" + containerID(pod) + ".scope\n"
	}
	require.NoError(w.t, os.WriteFile(filepath.Join(dir, "cgroup"), []byte(cgroup), 0o600))
	stat := fmt.Sprintf("%d (python3) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", pid, start)
	require.NoError(w.t, os.WriteFile(filepath.Join(dir, "stat"), []byte(stat), 0o600))
}

// share makes pods 0 to n-1, each with a replica of the GPU and a process of 1 GiB, PID 100 + number.
func (w *world) share(namespace string, n int) {
	w.t.Helper()
	response := &podresources.ListPodResourcesResponse{}
	d := &w.machine.Devices[0]
	for i := range n {
		name := "pod-" + strconv.Itoa(i)
		w.mu.Lock()
		w.pods = append(w.pods, corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(podUID(i)), ResourceVersion: "1"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "server"}, {Name: "sidecar"}}},
			Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "server", ContainerID: "containerd://" + containerID(i)}}},
		})
		w.mu.Unlock()
		holder := name
		if namespace != "shop" {
			holder = "gpu-reservation-" + strconv.Itoa(i)
		}
		response.PodResources = append(response.PodResources, &podresources.PodResources{
			Namespace: namespace, Name: holder, Containers: []*podresources.ContainerResources{{Name: "server", Devices: []*podresources.ContainerDevices{{
				ResourceName: "nvidia.com/gpu", DeviceIds: []string{"GPU-a::" + strconv.Itoa(i)},
			}}}},
		})
		pid := uint32(100 + i)
		w.process(pid, i, 1000+i)
		d.Processes = append(d.Processes, nvmltest.Process{PID: pid, MemoryBytes: 1 << 30})
	}
	d.MemoryUsedBytes = uint64(n)<<30 + 1<<29
	w.kubelet.answer.Store(response)
	w.kubelet.serve(w.t, w.o.PodResourcesSocket)
}

// ServeHTTP is the API server: it lists, holds watches open, and reviews the token "good" as that of prometheus.
func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	out.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost {
		review(out, r)
		return
	}
	if r.URL.Query().Get("sendInitialEvents") != "" {
		out.WriteHeader(http.StatusUnprocessableEntity) // as servers do that cannot stream lists
		_ = json.NewEncoder(out).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Code: 422, Reason: metav1.StatusReasonInvalid})
		return
	}
	if r.URL.Query().Get("watch") != "" {
		w.watch(out, r)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	meta := metav1.ListMeta{ResourceVersion: "1"}
	switch r.URL.Path {
	case "/api/v1/pods":
		_ = json.NewEncoder(out).Encode(corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: meta, Items: w.pods})
	case "/api/v1/nodes":
		_ = json.NewEncoder(out).Encode(corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}, ListMeta: meta, Items: []corev1.Node{w.node("1")}})
	default:
		http.NotFound(out, r)
	}
}

func (w *world) node(version string) corev1.Node {
	return corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "n", ResourceVersion: version, Labels: map[string]string{"nvidia.com/mig.config.state": w.mig}},
	}
}

// watch tells of the node's label every 20 ms.
func (w *world) watch(out http.ResponseWriter, r *http.Request) {
	flush := http.NewResponseController(out)
	_ = flush.Flush()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for version := 2; ; version++ {
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
		if r.URL.Path != "/api/v1/nodes" {
			continue
		}
		w.mu.Lock()
		node := w.node(strconv.Itoa(version))
		w.mu.Unlock()
		_ = json.NewEncoder(out).Encode(map[string]any{"type": "MODIFIED", "object": node})
		_ = flush.Flush()
	}
}

func review(out http.ResponseWriter, r *http.Request) {
	out.WriteHeader(http.StatusCreated)
	if strings.HasSuffix(r.URL.Path, "tokenreviews") {
		var t authenticationv1.TokenReview
		_ = json.NewDecoder(r.Body).Decode(&t)
		t.Status = authenticationv1.TokenReviewStatus{Authenticated: t.Spec.Token == "good", User: authenticationv1.UserInfo{Username: "prometheus"}}
		_ = json.NewEncoder(out).Encode(t)
		return
	}
	var s authorizationv1.SubjectAccessReview
	_ = json.NewDecoder(r.Body).Decode(&s)
	s.Status.Allowed = s.Spec.User == "prometheus" && s.Spec.NonResourceAttributes.Path == "/metrics"
	_ = json.NewEncoder(out).Encode(s)
}

func series(name, pod string) string {
	return fmt.Sprintf(`%s{container="server",namespace="shop",pod=%q,uuid="GPU-a"} `, name, pod)
}

// Two pods on a time-sliced GPU, one of them idle: the whole agent, from NVML's rings, /proc and the API to /metrics.
func TestSharedGPU(t *testing.T) {
	w := newWorld(t)
	w.share("shop", 2)
	w.write()
	w.run()
	w.client.shows("/metrics", series("gpu_pod_memory_used_bytes", "pod-1")+"1.073741824e+09")
	w.used(60, series("gpu_pod_utilization_ratio", "pod-0")+"0.6\n", 100)
	_, body := w.client.get("/metrics")
	assert.Contains(t, body, series("gpu_pod_utilization_ratio", "pod-1")+"0\n", "idle is known to be idle")
	assert.Contains(t, body, `gpu_pod_share_info{container="server",method="process-samples",namespace="shop",pod="pod-1",uuid="GPU-a"} 1`)
	assert.Contains(t, body, `gpu_unattributed_memory_used_bytes{gpu="0",uuid="GPU-a"} 5.36870912e+08`)

	// A process of the host joins; a PID that is in no /proc has ended.
	w.process(500, -1, 5)
	w.machine.Devices[0].Processes = append(w.machine.Devices[0].Processes, nvmltest.Process{PID: 500, MemoryBytes: 1 << 28}, nvmltest.Process{PID: 501, MemoryBytes: 1 << 28})
	w.use(60, 100, 500)
	w.client.shows("/metrics", `gpu_agent_processes{kind="foreign"} 1`)
	w.client.shows("/metrics", `gpu_agent_processes{kind="gone"} 1`)

	// PID 100 is another process now, of pod 1.
	w.process(100, 1, 9999)
	w.client.shows("/metrics", series("gpu_pod_memory_used_bytes", "pod-1")+"2.147483648e+09")
}

func TestSixtyFourProcesses(t *testing.T) {
	w := newWorld(t)
	w.share("shop", 64)
	w.write()
	w.run()
	w.client.shows("/metrics", `gpu_agent_processes{kind="owned"} 64`)
	w.used(64, `gpu_utilization_ratio{gpu="0",uuid="GPU-a"} 0.64`, 100, 101, 102, 103, 104, 105, 106)
	_, body := w.client.get("/metrics")
	assert.Contains(t, body, series("gpu_pod_utilization_ratio", "pod-63")+"0\n")
	assert.NotContains(t, body, series("gpu_pod_utilization_ratio", "pod-6")+"0\n")
	assert.Equal(t, 64, strings.Count(body, "\ngpu_pod_memory_used_bytes{"))
	assert.Equal(t, 64, strings.Count(body, "\ngpu_pod_utilization_ratio{"))
}

// KAI's reservation pod is in the kubelet's answer, the workloads' processes are on the GPU.
func TestReservationPod(t *testing.T) {
	w := newWorld(t)
	w.o.Reservations = []string{"kai-resource-reservation"}
	w.share("kai-resource-reservation", 2)
	w.write()
	w.run()
	w.client.shows("/metrics", series("gpu_pod_memory_used_bytes", "pod-0")+"1.073741824e+09")
	w.used(50, series("gpu_pod_utilization_ratio", "pod-1")+"0.5\n", 101)
	_, body := w.client.get("/metrics")
	assert.NotContains(t, body, "reservation")
}

// While MIG is reconfigured the agent holds nothing of the driver's.
func TestPauseForMIG(t *testing.T) {
	w := newWorld(t)
	w.share("shop", 1)
	w.write()
	w.run()
	w.client.shows("/metrics", series("gpu_pod_memory_used_bytes", "pod-0"))
	w.mu.Lock()
	w.mig = "pending"
	w.mu.Unlock()
	w.client.shows("/readyz", "GPUs: paused: MIG is being reconfigured: the node's nvidia.com/mig.config.state is pending")
	_, body := w.client.get("/metrics")
	assert.NotContains(t, body, "gpu_pod_memory_used_bytes")
	assert.Contains(t, body, `gpu_agent_nvml_call_duration_seconds_count{call="nvmlShutdown"} 1`)
	code, _ := w.client.get("/healthz")
	assert.Equal(t, http.StatusOK, code)
	w.mu.Lock()
	w.mig = "success"
	w.mu.Unlock()
	w.client.shows("/metrics", series("gpu_pod_memory_used_bytes", "pod-0"))
}

// A node without GPUs: no driver, and ready all the same.
func TestNodeWithoutGPUs(t *testing.T) {
	w := newWorld(t)
	w.o.PCIRoot = t.TempDir()
	w.o.NVMLLibrary = filepath.Join(w.dir, "none.so")
	w.kubelet.serve(t, w.o.PodResourcesSocket)
	w.run()
	w.client.shows("/readyz", "ok\n")
	_, body := w.client.get("/gpus")
	assert.Contains(t, body, `"devices": []`)
}

func writeCertificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
}

func TestAuthenticated(t *testing.T) {
	w := newWorld(t)
	writeCertificate(t, w.dir, "first")
	w.o.TLSCertFile, w.o.TLSKeyFile, w.o.Authenticate, w.o.DCGM = filepath.Join(w.dir, "tls.crt"), filepath.Join(w.dir, "tls.key"), true, true
	w.write()
	w.run()
	base := strings.Replace(w.client.base, "http://", "https://", 1)
	name := ""
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection:   func(s tls.ConnectionState) error { name = s.PeerCertificates[0].DNSNames[0]; return nil },
	}}
	get := func(path, token string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		require.NoError(t, err)
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := transport.RoundTrip(request)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	for path, want := range map[string][3]int{ // without, with a bad, with a good token
		"/metrics": {401, 403, 200}, "/gpus": {401, 403, 403}, "/metrics/dcgm": {401, 403, 403}, "/healthz": {200, 200, 200},
	} {
		for i, token := range []string{"", "bad", "good"} {
			code, body := get(path, token)
			assert.Equal(t, want[i], code, "%s %q: %s", path, token, body)
		}
	}
	assert.Equal(t, "first", name)
	writeCertificate(t, w.dir, "second")
	require.Eventually(t, func() bool { get("/healthz", ""); return name == "second" }, 10*time.Second, 20*time.Millisecond, "read again")
	require.NoError(t, os.WriteFile(w.o.TLSKeyFile, []byte("half"), 0o600))
	get("/healthz", "")
	assert.Equal(t, "second", name, "while the files do not fit, the last pair serves")
}
