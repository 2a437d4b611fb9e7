// Package kubelet is the lab's kubelet: one for all of the lab's nodes. KWOK pretends that pods run; this one really runs
// two kinds of them, so that what the project ships is what is tested:
//
//   - our own pods, whose containers' images stand for binaries of this machine, as processes;
//   - simulated inference pods, which carry SimulateAnnotation, as HTTP servers in this process.
//
// For both it does what a kubelet does, with the API server as the only other party: addresses, probes, restarts with
// back-off, conditions and container states, graceful termination. For all pods of its nodes it allocates GPUs, serves
// the pod-resources API at each node's kubelet socket, and keeps each node's machine file for the fake NVML library.
//
// It guarantees: no process outlives Run; an address and a GPU have one pod at a time; a pod's object goes only after
// its containers and its GPUs' ownership have.
//
// It deviates from the real kubelet where a laboratory on one machine must, or had better: restart back-off is 1 s to 10 s
// instead of 10 s to 5 min; a pod that lacks free GPUs waits instead of failing; a terminating pod is not Ready whatever
// its probe says; there are no namespaces, so mounted paths are rewritten in args and environment, and KUBECONFIG stands
// in for the in-cluster configuration, in args as $(KUBECONFIG); a container's last log lines are its termination message. Init containers, exec
// and gRPC probes, lifecycle hooks other than preStop sleep, and service environment variables are not supported; all
// but the last are reported in the container's state.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"headroom.dev/headroom/lab/kubelet/devices"
	"headroom.dev/headroom/lab/process"
)

// SimulateAnnotation makes a pod a simulated inference pod; its value is what inference.ParseSpec reads.
const SimulateAnnotation = "headroom.dev/simulate"

// Config says which nodes, and how pods reach the API server and our binaries.
type Config struct {
	Client    kubernetes.Interface // may do anything; should not be throttled below some 50 requests/s
	APIServer string               // URL for our own pods: "https://127.1.0.1:41234"
	CA        []byte               // PEM, of APIServer
	Nodes     []Node
	Images    map[string]string // image repository ("headroom.dev/agent", no tag) → path of the binary
	PodCIDR   netip.Prefix      // loopback; the first two addresses and the last are left alone
	Dir       string            // state: nodes/, machines/, pods/, logs/; short, as sockets lie in it
	// NVMLLibraryDir is the folder of the fake libnvidia-ml.so.1, for containers with NVIDIA_VISIBLE_DEVICES=all.
	NVMLLibraryDir string
	Registry       *process.Registry
	Log            *slog.Logger
}

// Node is a node of the lab.
type Node struct {
	Name    string
	Address netip.Addr // the host IP of its pods; 127.0.0.1 when unset
	GPUs    []GPU
}

// GPU is a device of a node.
type GPU struct {
	UUID        string
	MemoryBytes uint64
	Model       string // product, "NVIDIA H100 80GB HBM3"
}

// Handles tells whether this kubelet runs the pod: one that is simulated, or has a container with one of our images. A
// container with another image beside ours stays waiting and says why.
func Handles(pod *corev1.Pod, images map[string]string) bool {
	if isSimulated(pod) {
		return true
	}
	for i := range pod.Spec.Containers {
		if images[repository(pod.Spec.Containers[i].Image)] != "" {
			return true
		}
	}
	return false
}

func isSimulated(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[SimulateAnnotation]
	return ok
}

// repository returns an image without tag and digest.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndexByte(image, ':'); colon > strings.LastIndexByte(image, '/') {
		image = image[:colon]
	}
	return image
}

// Kubelet runs pods of the lab's nodes.
type Kubelet struct {
	config    Config
	apiHost   string
	apiPort   string
	nodes     map[string]*node
	addresses *addresses
	events    record.EventRecorder // set by Run

	mu      sync.Mutex
	workers map[types.UID]*worker
	running sync.WaitGroup // the workers
}

type node struct {
	Node

	root    string // stands for the node's root folder
	machine string // the fake NVML library's file
	devices *devices.Manager
}

// New checks the configuration and makes the state folders.
func New(config Config) (*Kubelet, error) {
	server, err := url.Parse(config.APIServer)
	if err != nil || server.Host == "" {
		return nil, fmt.Errorf("cannot make a kubelet: API server %q is no URL", config.APIServer)
	}
	if config.PodCIDR.Bits() < 8 || config.PodCIDR.Bits() > 29 || !config.PodCIDR.Addr().Is4() {
		return nil, fmt.Errorf("cannot make a kubelet: no IPv4 block of /8 to /29 for pods in %q", config.PodCIDR)
	}
	if config.Dir, err = filepath.Abs(config.Dir); err != nil {
		return nil, fmt.Errorf("cannot make a kubelet: %w", err)
	}
	k := &Kubelet{
		config:    config,
		apiHost:   server.Hostname(),
		apiPort:   server.Port(),
		nodes:     map[string]*node{},
		addresses: newAddresses(config.PodCIDR),
		workers:   map[types.UID]*worker{},
	}
	if k.apiPort == "" {
		k.apiPort = "443"
	}
	for _, n := range config.Nodes {
		if !n.Address.IsValid() {
			n.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		uuids := make([]string, 0, len(n.GPUs))
		for _, g := range n.GPUs {
			uuids = append(uuids, g.UUID)
		}
		k.nodes[n.Name] = &node{
			Node: n, devices: devices.New(uuids),
			root: filepath.Join(config.Dir, "nodes", n.Name), machine: filepath.Join(config.Dir, "machines", n.Name),
		}
	}
	for _, folder := range []string{"nodes", "machines", "pods", "logs"} {
		if err := os.MkdirAll(filepath.Join(config.Dir, folder), 0o750); err != nil {
			return nil, fmt.Errorf("cannot make a kubelet: %w", err)
		}
	}
	return k, nil
}

// PodResourcesSocket returns where a node's pod-resources API is served.
func (k *Kubelet) PodResourcesSocket(node string) string {
	return filepath.Join(k.config.Dir, "nodes", node, "var/lib/kubelet/pod-resources/kubelet.sock")
}

// MachineFile returns the file that the fake NVML library serves on a node.
func (k *Kubelet) MachineFile(node string) string {
	return filepath.Join(k.config.Dir, "machines", node)
}

// Run runs pods until ctx ends, then stops their processes, each with its pod's grace period, and returns nil. It returns
// an error where it cannot start, or where a socket or a machine file cannot be kept up.
func (k *Kubelet) Run(ctx context.Context) error {
	// It ends after the workers, which have events to tell when they stop their containers.
	broadcaster := record.NewBroadcaster(record.WithContext(context.WithoutCancel(ctx)))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: k.config.Client.CoreV1().Events("")})
	k.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "lab-kubelet"})

	group, ctx := errgroup.WithContext(ctx)
	for name, n := range k.nodes {
		group.Go(func() error { return devices.Serve(ctx, k.PodResourcesSocket(name), n.devices) })
	}
	group.Go(func() error { return k.feed(ctx) })
	group.Go(func() error { return k.watch(ctx) })
	err := group.Wait()
	k.running.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// watch starts, updates and ends workers as pods come, change and go.
func (k *Kubelet) watch(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(k.config.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermNotEqualSelector("spec.nodeName", "").String()
	}))
	pods := factory.Core().V1().Pods().Informer()
	_, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { k.see(ctx, object) },
		UpdateFunc: func(before, after any) {
			if uid(before) != uid(after) { // the watch has missed the end of one and the beginning of the other
				k.lose(before)
			}
			k.see(ctx, after)
		},
		DeleteFunc: k.lose,
	})
	if err != nil {
		return fmt.Errorf("cannot watch pods: %w", err)
	}
	pods.RunWithContext(ctx)
	return nil
}

func uid(object any) types.UID {
	if pod, ok := object.(*corev1.Pod); ok {
		return pod.UID
	}
	return ""
}

func (k *Kubelet) see(ctx context.Context, object any) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	n := k.nodes[pod.Spec.NodeName]
	if n == nil || ctx.Err() != nil {
		return
	}
	n.devices.Track(pod)
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.workers[pod.UID]; w != nil {
		w.update(pod)
		return
	}
	if !Handles(pod, k.config.Images) {
		return
	}
	w := newWorker(k, n, pod)
	k.workers[pod.UID] = w
	k.running.Go(func() { w.run(ctx) })
}

func (k *Kubelet) lose(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	n := k.nodes[pod.Spec.NodeName]
	if n == nil {
		return
	}
	n.devices.Forget(pod.UID)
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.workers[pod.UID]; w != nil {
		w.lose()
		delete(k.workers, pod.UID)
	}
}

// worker returns the worker of a pod, nil where there is none.
func (k *Kubelet) worker(pod types.UID) *worker {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.workers[pod]
}
