// Package cluster knows what the Kubernetes API says about one node: which container a cgroup belongs to, what NVIDIA's MIG
// manager is about to do, and which GPU a claimed device is. It also asks the API server who may read the metrics.
//
// Guarantees: nothing of it is needed for exclusive GPUs, and each of the watches works without the others. What cannot be
// watched is a line of Problems and one in the log; it is tried again after at most 45 s, for ever. What was known when the
// API server went away stays. Lookups are answered from memory, without allocating, and never wait for the API server.
//
// It decodes the few fields that it reads into types of its own and does without the clientset and k8s.io/api: the agent
// runs on every node, and is to take 40 MiB of it at most.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/gpu"
)

// DefaultDRADriver is the name of NVIDIA's driver for dynamic resource allocation.
const DefaultDRADriver = "gpu.nvidia.com"

const (
	// retryFirst and retryLongest bound the pause after a failure, which doubles, and to which up to half is added so that
	// the agents of a cluster do not come back at once.
	retryFirst   = time.Second
	retryLongest = 30 * time.Second
	// qps and burst bound what a Node asks of the API server; three watches need far less.
	qps, burst = 5, 10
)

// Options of New and NewAuthenticator.
type Options struct {
	Config    *rest.Config // how the API server is reached; required
	Node      string       // the name of the Node object; required by New
	Log       *slog.Logger // nil for none
	DRADriver string       // whose ResourceSlices count; empty for DefaultDRADriver
}

// Node is what is known of one node. Its methods are safe for concurrent use.
type Node struct {
	pods    *podIndex
	state   *migState
	devices *deviceIndex
	watches []*watcher
}

// New returns a Node that knows nothing until it runs. It errs on options that are missing, and on a Config that cannot be
// used, such as one with a CA that cannot be read.
func New(o Options) (*Node, error) {
	if o.Node == "" {
		return nil, errors.New("cannot watch the node: Options.Node, the node's name, is empty")
	}
	client, err := newClient(o.Config, qps, burst)
	if err != nil {
		return nil, fmt.Errorf("cannot watch the node: %w", err)
	}
	if o.DRADriver == "" {
		o.DRADriver = DefaultDRADriver
	}
	n := &Node{pods: newPodIndex(), state: &migState{}, devices: newDeviceIndex(o.DRADriver)}
	n.watches = []*watcher{
		{
			what: "pods", path: "/api/v1/pods",
			selector: fields.OneTermEqualSelector("spec.nodeName", o.Node),
			example:  &pod{}, list: func() runtime.Object { return &list[pod]{} }, index: n.pods,
		},
		{
			what: "the node", path: "/api/v1/nodes",
			selector: fields.OneTermEqualSelector("metadata.name", o.Node),
			example:  &node{}, list: func() runtime.Object { return &list[node]{} }, index: n.state,
		},
		{
			what: "ResourceSlices", path: "/apis/resource.k8s.io/v1/resourceslices",
			selector: fields.AndSelectors(
				fields.OneTermEqualSelector("spec.nodeName", o.Node),
				fields.OneTermEqualSelector("spec.driver", o.DRADriver),
			),
			example: &resourceSlice{}, list: func() runtime.Object { return &list[resourceSlice]{} }, index: n.devices,
		},
	}
	for _, w := range n.watches {
		w.client, w.log, w.first, w.longest = client, logger(o.Log), retryFirst, retryLongest
		w.problem = "cannot watch " + w.what + ": not listed yet"
	}
	return n, nil
}

// Run watches until the context ends, and ends all that it began. It is called once.
func (n *Node) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, w := range n.watches {
		wg.Go(func() { w.follow(ctx) })
	}
	wg.Wait()
}

// Container returns the owner of a container's processes. podUID is as in the API, "8-4-4-4-12", or for a static pod the hash
// that its cgroup bears; containerID is the runtime's, without its scheme, and empty where only the pod is known (Kata,
// gVisor).
//
// Where only the pod is known, Container of the result is empty unless the pod has one container alone. A container that is
// not known of a known pod, as one that has just been started, is the pod's only one or not known: ask again.
func (n *Node) Container(podUID, containerID string) (gpu.Owner, bool) {
	return n.pods.find(podUID, containerID)
}

// MIGState returns the node's label nvidia.com/mig.config.state, "pending", "rebooting", "success" or "failed" as NVIDIA's MIG
// manager writes it; empty where there is none or it is not known.
func (n *Node) MIGState() string {
	if s := n.state.label.Load(); s != nil {
		return *s
	}
	return ""
}

// ClaimedDevice returns the UUID of a device that a claim was given, as the kubelet names it: "GPU-…" or "MIG-…". Only the
// newest generation of a pool counts.
func (n *Node) ClaimedDevice(driver, pool, device string) (uuid string, ok bool) {
	return n.devices.find(deviceID{driver: driver, pool: pool, device: device})
}

// Problems says of each watch that does not work now why: "cannot watch pods: …". It is empty when all work.
func (n *Node) Problems() []string {
	var problems []string
	for _, w := range n.watches {
		if p := w.trouble(); p != "" {
			problems = append(problems, p)
		}
	}
	return problems
}

// newClient returns a client of the API server that speaks JSON, and decodes the types that the watches read.
func newClient(config *rest.Config, qps float32, burst int) (rest.Interface, error) {
	if config == nil {
		return nil, errors.New("Options.Config is nil")
	}
	c := rest.CopyConfig(config)
	c.APIPath, c.GroupVersion, c.NegotiatedSerializer = "", nil, codecs()
	c.AcceptContentTypes, c.ContentType = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	c.QPS, c.Burst, c.RateLimiter = qps, burst, nil
	c.Timeout = 0 // it would end watches, too; all else has its own
	return rest.UnversionedRESTClientFor(c)
}

func logger(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// migState is the index of one Node.
type migState struct {
	label atomic.Pointer[string]
}

func (s *migState) put(obj any) { s.label.Store(&obj.(*node).Metadata.Labels.MIGState) }
func (s *migState) remove(any)  { s.label.Store(nil) }

func (s *migState) replace(objects []any) {
	s.label.Store(nil)
	for _, obj := range objects {
		s.put(obj)
	}
}
