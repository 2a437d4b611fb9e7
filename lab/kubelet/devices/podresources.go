package devices

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// maxSocketPath is what sockaddr_un holds besides the final NUL.
const maxSocketPath = 107

// Serve answers the kubelet's pod-resources API, v1, on a unix socket until ctx ends. A socket that a former run left at
// that path is replaced.
func Serve(ctx context.Context, socket string, m *Manager) error {
	listener, err := listen(ctx, socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	podresources.RegisterPodResourcesListerServer(server, api{manager: m})
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot serve pod resources on %s: %w", socket, err)
	}
	return nil
}

func listen(ctx context.Context, socket string) (net.Listener, error) {
	if len(socket) > maxSocketPath {
		return nil, fmt.Errorf("cannot serve pod resources on %s: the path has %d bytes, a unix socket's may have %d: use a shorter state directory",
			socket, len(socket), maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return nil, fmt.Errorf("cannot serve pod resources: %w", err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot replace the pod resources socket: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("cannot serve pod resources: %w", err)
	}
	return listener, nil
}

type api struct {
	podresources.UnimplementedPodResourcesListerServer

	manager *Manager
}

// List returns the node's active pods with their containers and each container's devices.
func (a api) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	m := a.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &podresources.ListPodResourcesResponse{}
	for _, e := range m.byArrival() {
		if !e.finished {
			out.PodResources = append(out.PodResources, e.resources())
		}
	}
	return out, nil
}

// GetAllocatableResources returns all devices of the node, owned or not.
func (a api) GetAllocatableResources(context.Context, *podresources.AllocatableResourcesRequest) (*podresources.AllocatableResourcesResponse, error) {
	return &podresources.AllocatableResourcesResponse{Devices: containerDevices(a.manager.uuids)}, nil
}

// Get returns one active pod as List does.
func (a api) Get(_ context.Context, req *podresources.GetPodResourcesRequest) (*podresources.GetPodResourcesResponse, error) {
	m := a.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.byArrival() {
		if !e.finished && e.namespace == req.GetPodNamespace() && e.name == req.GetPodName() {
			return &podresources.GetPodResourcesResponse{PodResources: e.resources()}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "pod %s in namespace %s not found", req.GetPodName(), req.GetPodNamespace())
}

func (e *entry) resources() *podresources.PodResources {
	out := &podresources.PodResources{Namespace: e.namespace, Name: e.name}
	for _, c := range e.containers {
		out.Containers = append(out.Containers, &podresources.ContainerResources{Name: c.name, Devices: containerDevices(c.has)})
	}
	return out
}

// containerDevices makes an entry of its own for each device, as the kubelet does.
func containerDevices(uuids []string) []*podresources.ContainerDevices {
	out := make([]*podresources.ContainerDevices, 0, len(uuids))
	for _, uuid := range uuids {
		out = append(out, &podresources.ContainerDevices{ResourceName: Resource, DeviceIds: []string{uuid}})
	}
	return out
}
