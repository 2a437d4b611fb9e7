// Package attribution says which containers were given which GPUs, from the kubelet's pod-resources API.
//
// The API is a gRPC service on a unix socket of the node; it needs the socket's folder mounted and no access to the
// Kubernetes API. The client guarantees: a socket that is absent, or a kubelet that restarts, is an error of that call
// alone, and is found again within maxReconnect of its return; what the kubelet says is bounded in size and may be
// anything without harm; each owner of a device is named once, however many replicas of it the container was given.
//
// The API names pods by namespace and name, not by UID. Kubelets whose List still includes pods that have ended can name
// two owners of a device that only one holds; such a device counts as shared, never as the wrong pod's.
package attribution

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
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

// maxResponse bounds a List. A pod takes about 200 bytes, so this is room for thousands of times the pods of a node.
const maxResponse = 16 << 20

// maxReconnect bounds the pause between attempts to connect; gRPC's own limit of 2 minutes would leave pods without
// metrics that long after a kubelet's restart.
const maxReconnect = 2 * time.Second

// DeviceID is an ID that a device plugin gave the kubelet.
type DeviceID struct {
	UUID string // "GPU-…", "MIG-…", or what another plugin uses instead ("nvidia0")
	// Replica counts from 0 where the plugin advertises a device several times (time-slicing, MPS); -1 where it does not.
	Replica int
}

// ParseDeviceID reads "UUID" and "UUID::REPLICA". It errs on an empty UUID and on a replica that is no decimal number.
func ParseDeviceID(id string) (DeviceID, error) {
	uuid, replica, replicated := strings.Cut(id, "::")
	if uuid == "" {
		return DeviceID{}, fmt.Errorf("device ID %q has no UUID", id)
	}
	if !replicated {
		return DeviceID{UUID: uuid, Replica: -1}, nil
	}
	n, err := strconv.ParseUint(replica, 10, 31)
	if err != nil {
		return DeviceID{}, fmt.Errorf("device ID %q: replica is no number: %w", id, err)
	}
	return DeviceID{UUID: uuid, Replica: int(n)}, nil
}

// String returns the ID as the kubelet gives it.
func (id DeviceID) String() string {
	if id.Replica < 0 {
		return id.UUID
	}
	return id.UUID + "::" + strconv.Itoa(id.Replica)
}

// Owners returns the owners of each device of the response by the device's UUID, sorted and each once, for the resources
// whose names begin with prefix. The error joins what is wrong with single device IDs; the other devices are valid beside it.
func Owners(response *podresources.ListPodResourcesResponse, prefix string) (map[string][]gpu.Owner, error) {
	owners := map[string][]gpu.Owner{}
	var errs []error
	for _, pod := range response.GetPodResources() {
		for _, container := range pod.GetContainers() {
			owner := gpu.Owner{Namespace: pod.GetNamespace(), Pod: pod.GetName(), Container: container.GetName()}
			for _, devices := range container.GetDevices() {
				if !strings.HasPrefix(devices.GetResourceName(), prefix) {
					continue
				}
				for _, text := range devices.GetDeviceIds() {
					id, err := ParseDeviceID(text)
					if err != nil {
						errs = append(errs, fmt.Errorf("%s/%s %s: %w", owner.Namespace, owner.Pod, owner.Container, err))
						continue
					}
					owners[id.UUID] = append(owners[id.UUID], owner)
				}
			}
		}
	}
	for uuid, list := range owners {
		slices.SortFunc(list, func(a, b gpu.Owner) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Container, b.Container))
		})
		owners[uuid] = slices.Compact(list)
	}
	return owners, errors.Join(errs...)
}

// Client asks one kubelet. It is safe for concurrent use.
type Client struct {
	socket, prefix string
	conn           *grpc.ClientConn
	lister         podresources.PodResourcesListerClient
}

// New returns a client for the kubelet behind socket, a file name, and the resources whose names begin with prefix. It
// connects when it is first asked, so the socket need not exist.
func New(socket, prefix string) (*Client, error) {
	conn, err := grpc.NewClient("passthrough:///kubelet",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the socket's file permissions guard it
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxReconnect},
			MinConnectTimeout: maxReconnect,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for %s: %w", socket, err)
	}
	return &Client{socket: socket, prefix: prefix, conn: conn, lister: podresources.NewPodResourcesListerClient(conn)}, nil
}

// Owners asks the kubelet which containers hold which devices now. When the error is about single device IDs the
// owners of the others are returned beside it; when the kubelet gave no answer they are nil.
func (c *Client) Owners(ctx context.Context) (map[string][]gpu.Owner, error) {
	response, err := c.lister.List(ctx, &podresources.ListPodResourcesRequest{})
	if err != nil {
		return nil, fmt.Errorf("cannot list pod resources on %s: %s", c.socket, status.Convert(err).Message())
	}
	owners, err := Owners(response, c.prefix)
	if err != nil {
		return owners, fmt.Errorf("ignored device IDs on %s: %w", c.socket, err)
	}
	return owners, nil
}

// Close ends the connection; later calls of Owners err.
func (c *Client) Close() error {
	if err := c.conn.Close(); err != nil {
		return fmt.Errorf("cannot close connection to %s: %w", c.socket, err)
	}
	return nil
}
