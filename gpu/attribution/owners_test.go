package attribution

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"headroom.dev/headroom/gpu"
)

func pod(namespace, name string, containers ...*podresources.ContainerResources) *podresources.PodResources {
	return &podresources.PodResources{Namespace: namespace, Name: name, Containers: containers}
}

func container(name, resource string, ids ...string) *podresources.ContainerResources {
	return &podresources.ContainerResources{Name: name, Devices: []*podresources.ContainerDevices{{ResourceName: resource, DeviceIds: ids}}}
}

// claimant is a container with one claim for the devices, each as "driver/pool/device".
func claimant(name string, devices ...string) *podresources.ContainerResources {
	claim := &podresources.DynamicResource{ClaimName: "claim", ClaimNamespace: "a"}
	for _, device := range devices {
		part := strings.Split(device, "/")
		claim.ClaimResources = append(claim.ClaimResources, &podresources.ClaimResource{
			DriverName: part[0], PoolName: part[1], DeviceName: part[2], ShareId: new("b8d3"),
		})
	}
	return &podresources.ContainerResources{Name: name, DynamicResources: []*podresources.DynamicResource{claim}}
}

func response(pods ...*podresources.PodResources) *podresources.ListPodResourcesResponse {
	return &podresources.ListPodResourcesResponse{PodResources: pods}
}

// owners makes owners of "namespace/pod/container".
func owners(names ...string) []gpu.Owner {
	list := make([]gpu.Owner, len(names))
	for i, n := range names {
		part := strings.Split(n, "/")
		list[i] = gpu.Owner{Namespace: part[0], Pod: part[1], Container: part[2]}
	}
	return list
}

func TestOwners(t *testing.T) {
	holders, err := Owners(response(
		pod("b", "two", container("main", "nvidia.com/gpu.shared", "GPU-s::1", "GPU-s::2")),
		pod("b", "ended", container("main", "nvidia.com/gpu.shared", "GPU-s::1")),
		pod("a", "one", container("main", "nvidia.com/gpu", "GPU-x", "GPU-y"), container("side", "nvidia.com/gpu.shared", "GPU-s::0")),
		pod("a", "nic", container("main", "rdma/hca", "GPU-x")),
		pod("a", "none", &podresources.ContainerResources{Name: "main"}),
		pod("a", "gke", container("main", "nvidia.com/gpu", "nvidia0/gi1/vgpu2", "nvidia0/gi1/vgpu0")),
		pod("a", "hami", container("main", "nvidia.com/gpu", gpuUUID+"-3")),
		pod("a", "odd", container("main", "nvidia.com/gpu", "::3", "GPU-z::many", "GPU-z")),
	), Options{})
	require.EqualError(t, err, `a/odd main: device ID "::3" has no UUID`+"\n"+
		`a/odd main: device ID "GPU-z::many": replica is no number: strconv.ParseUint: parsing "many": invalid syntax`)
	assert.Equal(t, map[string]gpu.Holders{
		"GPU-x":       {Owners: owners("a/one/main")},
		"GPU-y":       {Owners: owners("a/one/main")},
		"GPU-z":       {Owners: owners("a/odd/main")},
		"GPU-s":       {Owners: owners("a/one/side", "b/ended/main", "b/two/main"), Replicas: 3},
		"nvidia0/gi1": {Owners: owners("a/gke/main"), Replicas: 2},
		gpuUUID:       {Owners: owners("a/hami/main"), Replicas: 1},
	}, holders)
}

func TestOwnersOfClaims(t *testing.T) {
	pods := response(
		pod("a", "one", claimant("main", "gpu.nvidia.com/node-1/gpu-0", "gpu.nvidia.com/node-1/gpu-0", "nic.example.com/node-1/gpu-0")),
		pod("a", "two", claimant("main", "gpu.nvidia.com/node-1/gpu-0"), container("side", "nvidia.com/gpu", "GPU-1")),
		pod("a", "imex", claimant("main", "compute-domain.nvidia.com/node-1/channel-0")),
		pod("a", "new", claimant("main", "gpu.nvidia.com/node-1/gpu-9", "gpu.nvidia.com/node-1/gpu-8", "gpu.nvidia.com/node-1/gpu-1")),
		pod(DefaultReservations, "hold", claimant("main", "gpu.nvidia.com/node-1/gpu-1")),
	)
	resolve := func(d ClaimedDevice) (string, bool) {
		assert.Equal(t, DefaultDRADriver, d.Driver)
		uuid, known := map[ClaimedDevice]string{
			{DefaultDRADriver, "node-1", "gpu-0"}: "GPU-0",
			{DefaultDRADriver, "node-1", "gpu-1"}: "GPU-1",
			{DefaultDRADriver, "node-1", "gpu-8"}: "",
		}[d]
		return uuid, known
	}
	holders, err := Owners(pods, Options{Resolve: resolve})
	require.EqualError(t, err, "claim device gpu.nvidia.com/node-1/gpu-9 of a/new main: in no ResourceSlice\n"+
		"claim device gpu.nvidia.com/node-1/gpu-8 of a/new main: its ResourceSlice names no UUID")
	assert.Equal(t, map[string]gpu.Holders{
		"GPU-0": {Owners: owners("a/one/main", "a/two/main")},
		"GPU-1": {Owners: owners("a/new/main", "a/two/side"), Reserved: true},
	}, holders)

	holders, err = Owners(response(pod("a", "one", claimant("main", "gpu.nvidia.com/n/gpu-0")), pod("a", "two", container("main", "nvidia.com/gpu", "GPU-1"))), Options{})
	require.EqualError(t, err, "claim device gpu.nvidia.com/n/gpu-0 of a/one main: ResourceSlices are not read")
	assert.Equal(t, map[string]gpu.Holders{"GPU-1": {Owners: owners("a/two/main")}}, holders)

	holders, err = Owners(response(pod("a", "one", claimant("main", "gpu.example.com/n/gpu-0", "gpu.nvidia.com/n/gpu-0"))), Options{
		DRADriver: "gpu.example.com",
		Resolve:   func(d ClaimedDevice) (string, bool) { return d.String(), true },
	})
	require.NoError(t, err)
	assert.Equal(t, map[string]gpu.Holders{"gpu.example.com/n/gpu-0": {Owners: owners("a/one/main")}}, holders)
}

func TestOwnersOfReservations(t *testing.T) {
	pods := response(
		pod(DefaultReservations, "gpu-reservation-node-1-x7k2p", container("reservation", "nvidia.com/gpu", "GPU-r", "GPU-t::1")),
		pod("a", "one", container("main", "nvidia.com/gpu", "GPU-x", "GPU-t::0")),
	)
	holders, err := Owners(pods, Options{})
	require.NoError(t, err)
	assert.Equal(t, map[string]gpu.Holders{
		"GPU-r": {Reserved: true},
		"GPU-t": {Owners: owners("a/one/main"), Replicas: 1, Reserved: true},
		"GPU-x": {Owners: owners("a/one/main")},
	}, holders)

	holders, err = Owners(pods, Options{Reservations: []string{"a"}, Prefix: "nvidia.com/gpu"})
	require.NoError(t, err)
	assert.Equal(t, map[string]gpu.Holders{
		"GPU-r": {Owners: owners(DefaultReservations + "/gpu-reservation-node-1-x7k2p/reservation")},
		"GPU-t": {Owners: owners(DefaultReservations + "/gpu-reservation-node-1-x7k2p/reservation"), Replicas: 1, Reserved: true},
		"GPU-x": {Reserved: true},
	}, holders)

	holders, err = Owners(pods, Options{Reservations: []string{}})
	require.NoError(t, err)
	for uuid, h := range holders {
		assert.False(t, h.Reserved, uuid)
		assert.NotEmpty(t, h.Owners, uuid)
	}
}

func TestOwnersBoundsErrors(t *testing.T) {
	ids := []string{"GPU-x"}
	for i := range 1000 {
		ids = append(ids, fmt.Sprintf("::%d", i))
	}
	holders, err := Owners(response(pod("a", "one", container("main", "nvidia.com/gpu", ids...))), Options{})
	assert.Equal(t, map[string]gpu.Holders{"GPU-x": {Owners: owners("a/one/main")}}, holders)
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	assert.Len(t, lines, maxErrors+1)
	assert.Equal(t, `a/one main: device ID "::15" has no UUID`, lines[maxErrors-1])
	assert.Equal(t, "and 984 more", lines[maxErrors])
}

// FuzzOwners feeds whatever protobuf can decode.
func FuzzOwners(f *testing.F) {
	for _, r := range []*podresources.ListPodResourcesResponse{
		response(),
		response(pod("a", "one", container("main", "nvidia.com/gpu", "GPU-x", "GPU-x", "GPU-y::1", "::"))),
		response(pod("a", "one", claimant("main", "gpu.nvidia.com/node-1/gpu-0", "gpu.nvidia.com//", "//"))),
		response(pod(DefaultReservations, "r", container("main", "nvidia.com/gpu", "GPU-x", "nvidia0/vgpu1"))),
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
		holders, _ := Owners(r, Options{Resolve: func(d ClaimedDevice) (string, bool) { return d.Device, d.Pool != "" }})
		require.NotNil(t, holders)
		for uuid, h := range holders {
			require.NotEmpty(t, uuid)
			require.True(t, h.Reserved || len(h.Owners) > 0)
			require.GreaterOrEqual(t, h.Replicas, 0)
			seen := map[gpu.Owner]bool{}
			for _, o := range h.Owners {
				require.False(t, seen[o], "owner twice")
				require.NotEqual(t, DefaultReservations, o.Namespace)
				seen[o] = true
			}
		}
	})
}
