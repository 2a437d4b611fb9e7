// Package attribution says whose the use of a GPU is. Two sources answer: the kubelet's pod-resources API says which
// containers were given which devices (Client), and a node's /proc says which container a process on a device runs in
// (Processes).
//
// # Devices
//
// The API is a gRPC service on a unix socket of the node; it needs the socket's folder mounted and no access to the
// Kubernetes API. The client guarantees: a socket that is absent, or a kubelet that restarts, is an error of that call
// alone, and is found again within maxReconnect of its return; what the kubelet says is bounded in size and may be
// anything without harm; each owner of a device is named once, however many replicas of it the container was given.
//
// Devices come from device plugins, whose IDs ParseDeviceID reads, and from DRA claims, which name a device by driver,
// pool and device: Options.Resolve turns that into a UUID. What the API does not tell, and what follows from it:
//
//   - It names pods by namespace and name, not by UID. Kubelets before 1.34 can list pods that have ended, and so name two
//     owners of a device that only one holds; such a device counts as shared, never as the wrong pod's.
//   - It does not tell a claim with admin access, which a monitor makes, from one that owns the device: the device counts
//     as shared.
//   - Where a scheduler places several pods on one device by itself, the kubelet knows only the pod that holds the device
//     for them (KAI: in Options.Reservations, marked Reserved), or the devices that the plugin did not heed (HAMi chooses
//     by an annotation, not by the IDs that the kubelet picked: with more than one GPU in a node they can differ).
//
// # Processes
//
// A process belongs to the pod and container that its cgroup names. The PIDs have to be those of the /proc that is read,
// which InInitPIDNamespace makes sure of for NVML's. A process is known by its PID and start time, so one that is given
// the PID of another that ended is never taken for it.
package attribution

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"headroom.dev/headroom/gpu"
)

// DefaultSocket is where the kubelet serves the API.
const DefaultSocket = "/var/lib/kubelet/pod-resources/kubelet.sock"

// DefaultPrefix is what the names of NVIDIA's extended resources begin with: nvidia.com/gpu, nvidia.com/gpu.shared,
// nvidia.com/mig-1g.10gb.
const DefaultPrefix = "nvidia.com/"

// DefaultDRADriver is the name of NVIDIA's DRA driver for GPUs; its compute-domain.nvidia.com hands out none.
const DefaultDRADriver = "gpu.nvidia.com"

// DefaultReservations is the namespace in which the KAI scheduler runs the pods that hold a GPU for several others.
const DefaultReservations = "kai-resource-reservation"

// maxResponse bounds a List. A pod takes about 200 bytes, so this is room for thousands of times the pods of a node.
const maxResponse = 16 << 20

// maxReconnect bounds the pause between attempts to connect; gRPC's own limit of 2 minutes would leave pods without
// metrics that long after a kubelet's restart.
const maxReconnect = 2 * time.Second

// Options say which kubelet is asked and which of its answers are GPUs. The zero Options are NVIDIA's defaults.
type Options struct {
	Socket    string // file name of the kubelet's socket; empty: DefaultSocket
	Prefix    string // what the names of the extended resources that are GPUs begin with; empty: DefaultPrefix
	DRADriver string // the DRA driver whose devices are GPUs; empty: DefaultDRADriver
	// Resolve returns the UUID of a device of DRADriver, from the ResourceSlices; known is false where none has the device,
	// and the UUID is empty where it names none. It has to be safe for concurrent use where the Client is used so. With a
	// nil Resolve each such device is an error.
	Resolve func(ClaimedDevice) (uuid string, known bool)
	// Reservations are the namespaces whose pods hold devices in place of others; nil: DefaultReservations alone.
	Reservations []string
}

func (o Options) withDefaults() Options {
	o.Socket = cmp.Or(o.Socket, DefaultSocket)
	o.Prefix = cmp.Or(o.Prefix, DefaultPrefix)
	o.DRADriver = cmp.Or(o.DRADriver, DefaultDRADriver)
	if o.Reservations == nil {
		o.Reservations = []string{DefaultReservations}
	}
	return o
}

// Client asks one kubelet. It is safe for concurrent use.
type Client struct {
	options Options // with defaults
	conn    *grpc.ClientConn
	lister  podresources.PodResourcesListerClient
}

// New returns a client for the kubelet behind the options' socket. It connects when it is first asked, so the socket need
// not exist.
func New(options Options) (*Client, error) {
	options = options.withDefaults()
	conn, err := grpc.NewClient("passthrough:///kubelet",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the socket's file permissions guard it
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", options.Socket)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxReconnect},
			MinConnectTimeout: maxReconnect,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for %s: %w", options.Socket, err)
	}
	return &Client{options: options, conn: conn, lister: podresources.NewPodResourcesListerClient(conn)}, nil
}

// Owners asks the kubelet which containers hold which devices now, and returns the holders by the devices' UUIDs. When the
// error is about single devices the holders of the others are returned beside it; when the kubelet gave no answer they are
// nil.
func (c *Client) Owners(ctx context.Context) (map[string]gpu.Holders, error) {
	response, err := c.lister.List(ctx, &podresources.ListPodResourcesRequest{})
	if err != nil {
		return nil, fmt.Errorf("cannot list pod resources on %s: %s", c.options.Socket, status.Convert(err).Message())
	}
	holders, err := Owners(response, c.options)
	if err != nil {
		return holders, fmt.Errorf("ignored devices on %s: %w", c.options.Socket, err)
	}
	return holders, nil
}

// Close ends the connection; later calls of Owners err.
func (c *Client) Close() error {
	if err := c.conn.Close(); err != nil {
		return fmt.Errorf("cannot close connection to %s: %w", c.options.Socket, err)
	}
	return nil
}
