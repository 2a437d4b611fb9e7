package devices_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"headroom.dev/headroom/lab/kubelet/devices"
)

func pod(uid string, gpus ...int) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: uid, Namespace: "ns", UID: types.UID(uid)}}
	for i, n := range gpus {
		c := corev1.Container{Name: fmt.Sprintf("c%d", i)}
		if n > 0 {
			c.Resources.Limits = corev1.ResourceList{devices.Resource: *resource.NewQuantity(int64(n), resource.DecimalSI)}
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}

func granted(m *devices.Manager, uid types.UID) bool {
	select {
	case <-m.Granted(uid):
		return true
	default:
		return false
	}
}

// TestManagerAgainstCounting drives a manager at random and compares it with mere counting: who was granted owns exactly
// what it asked for, nobody else owns anything, and nobody who fits is left waiting.
func TestManagerAgainstCounting(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	uuids := []string{"g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7"}
	m := devices.New(uuids)
	type state struct {
		pod  *corev1.Pod
		asks int
		done bool
	}
	pods := map[types.UID]*state{}
	for step := range 5000 {
		uids := slices.Sorted(maps.Keys(pods))
		switch op := r.IntN(10); {
		case len(uids) == 0 || op < 5 && len(uids) < 12:
			a, b := r.IntN(5), r.IntN(3)
			p := pod(fmt.Sprintf("p%d", step), a, b)
			pods[p.UID] = &state{pod: p, asks: a + b}
			m.Track(p)
		case op < 6:
			m.Track(pods[uids[r.IntN(len(uids))]].pod) // seen again
		case op < 7:
			s := pods[uids[r.IntN(len(uids))]]
			s.done = true
			m.Finish(s.pod.UID)
		case op < 8:
			s := pods[uids[r.IntN(len(uids))]]
			s.done = true
			s.pod.Status.Phase = corev1.PodFailed
			m.Track(s.pod)
		default:
			uid := uids[r.IntN(len(uids))]
			delete(pods, uid)
			m.Forget(uid)
		}
		owned := map[types.UID]int{}
		for uuid, uid := range m.Owners() {
			require.Contains(t, uuids, uuid)
			owned[uid]++
		}
		free := len(uuids) - len(m.Owners())
		for uid, s := range pods {
			switch {
			case s.done:
				require.Zero(t, owned[uid], "step %d: %s is finished", step, uid)
			case granted(m, uid):
				require.Equal(t, s.asks, owned[uid], "step %d: %s", step, uid)
			default:
				require.Zero(t, owned[uid], "step %d: %s has a part", step, uid)
				require.Greater(t, s.asks, free, "step %d: %s waits for nothing", step, uid)
			}
			delete(owned, uid)
		}
		require.Empty(t, owned, "step %d: owners that are not there", step)
	}
}

func serve(t *testing.T, m *devices.Manager) podresources.PodResourcesListerClient {
	t.Helper()
	dir, err := os.MkdirTemp("", "pr") //nolint:usetesting // t.TempDir is too long for a socket
	require.NoError(t, err)
	socket := filepath.Join(dir, "sub", "kubelet.sock")
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- devices.Serve(ctx, socket, m) }()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		require.NoError(t, <-served)
		_ = os.RemoveAll(dir)
	})
	return podresources.NewPodResourcesListerClient(conn)
}

func TestPodResourcesAPI(t *testing.T) {
	m := devices.New([]string{"GPU-a", "GPU-b", "GPU-c"})
	client := serve(t, m)
	list := func() string {
		out, err := client.List(t.Context(), &podresources.ListPodResourcesRequest{}, grpc.WaitForReady(true))
		require.NoError(t, err)
		var b strings.Builder
		for _, p := range out.GetPodResources() {
			fmt.Fprintf(&b, "%s/%s:", p.GetNamespace(), p.GetName())
			for _, c := range p.GetContainers() {
				fmt.Fprintf(&b, " %s", c.GetName())
				for _, d := range c.GetDevices() {
					fmt.Fprintf(&b, " %s=%s", d.GetResourceName(), strings.Join(d.GetDeviceIds(), ","))
				}
			}
			b.WriteString("; ")
		}
		return b.String()
	}
	require.Empty(t, list())
	m.Track(pod("one", 0, 2))
	m.Track(pod("none", 0))
	m.Track(pod("waits", 2))
	require.Equal(t, "ns/one: c0 c1 nvidia.com/gpu=GPU-a nvidia.com/gpu=GPU-b; ns/none: c0; ns/waits: c0; ", list())
	m.Finish("one")
	require.Equal(t, "ns/none: c0; ns/waits: c0 nvidia.com/gpu=GPU-a nvidia.com/gpu=GPU-b; ", list())
	m.Track(pod("one", 0, 2)) // a late event does not bring it back
	require.NotContains(t, list(), "ns/one")

	got, err := client.Get(t.Context(), &podresources.GetPodResourcesRequest{PodName: "waits", PodNamespace: "ns"})
	require.NoError(t, err)
	require.Len(t, got.GetPodResources().GetContainers()[0].GetDevices(), 2)
	_, err = client.Get(t.Context(), &podresources.GetPodResourcesRequest{PodName: "one", PodNamespace: "ns"})
	require.Equal(t, codes.NotFound, status.Code(err))
	all, err := client.GetAllocatableResources(t.Context(), &podresources.AllocatableResourcesRequest{})
	require.NoError(t, err)
	require.Len(t, all.GetDevices(), 3)
}

func TestServeRefusesAPathThatNoSocketCanHave(t *testing.T) {
	err := devices.Serve(t.Context(), "/tmp/"+strings.Repeat("x", 120), devices.New(nil))
	require.ErrorContains(t, err, "a unix socket's may have 107")
}
