package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"headroom.dev/headroom/gpu/nvmltest"
)

// What the node has: every process is a pod of its own, and the pods of a GPU share it by time-slicing, which is what
// costs the agent most.
const (
	gpus      = 8
	processes = 16 // on each
)

// node is everything around the agent, in a folder.
type node struct {
	dir   string
	api   *httptest.Server
	stamp uint64 // of the newest sample in the rings
}

func newNode(ctx context.Context) (*node, error) {
	dir, err := os.MkdirTemp("", "bench-agent-") // short: a unix socket's path has 107 bytes
	if err != nil {
		return nil, fmt.Errorf("cannot make a folder: %w", err)
	}
	n := &node{dir: dir, stamp: uint64(time.Now().UnixMicro())}
	if err := n.writeProc(); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", n.socket())
	if err != nil {
		return nil, fmt.Errorf("cannot stand in for the kubelet: %w", err)
	}
	server := grpc.NewServer()
	podresources.RegisterPodResourcesListerServer(server, kubelet{})
	go func() { _ = server.Serve(listener) }()
	context.AfterFunc(ctx, server.Stop)
	n.api = httptest.NewServer(http.HandlerFunc(serveAPI))
	kubeconfig := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"a","contexts":[{"name":"a","context":{"cluster":"a"}}],"clusters":[{"name":"a","cluster":{"server":%q}}]}`, n.api.URL)
	if err := os.WriteFile(n.kubeconfig(), []byte(kubeconfig), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write the kubeconfig: %w", err)
	}
	return n, n.writeMachine()
}

func (n *node) socket() string     { return filepath.Join(n.dir, "k.sock") }
func (n *node) kubeconfig() string { return filepath.Join(n.dir, "kubeconfig") }
func (n *node) proc() string       { return filepath.Join(n.dir, "proc") }
func (n *node) machine() string    { return filepath.Join(n.dir, "machine") }

func (n *node) close() {
	n.api.CloseClientConnections()
	n.api.Close()
	_ = os.RemoveAll(n.dir)
}

// each calls f for every process: its PID and its place.
func each(f func(pid, gpu, i int)) {
	for gpu := range gpus {
		for i := range processes {
			f(1000+100*gpu+i, gpu, i)
		}
	}
}

func uid(pid int) string         { return fmt.Sprintf("00000000-0000-4000-8000-%012d", pid) }
func containerID(pid int) string { return fmt.Sprintf("%064x", pid) }
func podName(pid int) string     { return "pod-" + strconv.Itoa(pid) }
func uuid(gpu int) string        { return fmt.Sprintf("GPU-00000000-0000-4000-8000-%012d", gpu) }

// writeProc makes a /proc of the processes.
func (n *node) writeProc() error {
	var err error
	write := func(pid int, name, text string) {
		dir := filepath.Join(n.proc(), strconv.Itoa(pid))
		if e := os.MkdirAll(dir, 0o750); e != nil && err == nil {
			err = fmt.Errorf("cannot make /proc: %w", e)
		}
		if e := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); e != nil && err == nil {
			err = fmt.Errorf("cannot make /proc: %w", e)
		}
	}
	each(func(pid, _, _ int) {
		write(pid, "stat", fmt.Sprintf("%d (python3 -m vllm) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 9 0 %d 0 0\n", pid, 10000+pid))
		write(pid, "comm", "python3\n")
		write(pid, "cgroup", fmt.Sprintf("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod%s.slice/cri-containerd-%s.scope\n",
			underscored(uid(pid)), containerID(pid)))
	})
	return err
}

func underscored(uid string) string {
	out := []byte(uid)
	for i := range out {
		if out[i] == '-' {
			out[i] = '_'
		}
	}
	return string(out)
}

// writeMachine gives every GPU another second of history, as a driver would: 7 samples a second, each of them of one process.
func (n *node) writeMachine() error {
	n.stamp += 1e6
	m := nvmltest.Machine{Driver: "580.95.05"}
	for g := range gpus {
		d := nvmltest.Device{
			UUID: uuid(g), Name: "NVIDIA H100 80GB HBM3", MemoryTotalBytes: 80 << 30, MemoryUsedBytes: 64 << 30, UtilizationPercent: 70,
			PowerMilliwatts: 400_000, PowerLimitMilliwatts: 700_000, TemperatureCelsius: 60, SMClockMHz: 1980, MemoryClockMHz: 2619,
		}
		for i := range 7 {
			stamp := n.stamp + uint64(i)*142_857
			d.Ring = append(d.Ring, nvmltest.RingSample{Stamp: stamp, Percent: uint(60 + 5*i)})
			pid := 1000 + 100*g + (int(n.stamp/1e6)*7+i)%processes
			d.ProcessSamples = append(d.ProcessSamples, nvmltest.ProcessSample{PID: uint32(pid), Stamp: stamp, SMPercent: 70})
		}
		for _, id := range []uint32{1, 2, 3, 5, 10, 174, 20, 21, 60, 61} {
			d.GPM = append(d.GPM, nvmltest.GPMMetric{ID: id, Value: 40})
		}
		for _, id := range []uint32{83, 82, 94, 52, 59, 38, 45, 3, 4, 6, 142, 143, 144, 145, 230} {
			d.Fields = append(d.Fields, nvmltest.Field{ID: id})
		}
		for i := range processes {
			d.Processes = append(d.Processes, nvmltest.Process{PID: uint32(1000 + 100*g + i), MemoryBytes: 4 << 30})
		}
		m.Devices = append(m.Devices, d)
	}
	return m.WriteFile(n.machine()) //nolint:wrapcheck // names the file
}

// kubelet gives every pod a replica of its GPU.
type kubelet struct {
	podresources.UnimplementedPodResourcesListerServer
}

// List implements the pod-resources API.
func (kubelet) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	out := &podresources.ListPodResourcesResponse{}
	each(func(pid, gpu, i int) {
		out.PodResources = append(out.PodResources, &podresources.PodResources{
			Namespace: "shop", Name: podName(pid), Containers: []*podresources.ContainerResources{{
				Name: "server", Devices: []*podresources.ContainerDevices{{
					ResourceName: "nvidia.com/gpu.shared", DeviceIds: []string{fmt.Sprintf("%s::%d", uuid(gpu), i)},
				}},
			}},
		})
	})
	return out, nil
}

// serveAPI lists the pods of the node and nothing else, and holds watches open.
func serveAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Get("sendInitialEvents") != "" { // as servers do that cannot stream lists
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
		})
		return
	}
	if r.URL.Query().Get("watch") != "" {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return
	}
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}}
	switch r.URL.Path {
	case "/api/v1/pods":
		each(func(pid, _, _ int) {
			list.Items = append(list.Items, corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: podName(pid), UID: types.UID(uid(pid)), ResourceVersion: "1"},
				Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
					Name: "server", ContainerID: "containerd://" + containerID(pid),
				}}},
			})
		})
		_ = json.NewEncoder(w).Encode(list)
	case "/api/v1/nodes":
		_ = json.NewEncoder(w).Encode(corev1.NodeList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"},
		})
	default:
		http.NotFound(w, r)
	}
}
