package lab

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"headroom.dev/headroom/lab/kubelet/devices"
)

func TestOptionsNameTheFlagThatIsWrong(t *testing.T) {
	require.NoError(t, DefaultOptions().Validate())
	for _, c := range []struct {
		change func(*Options)
		flag   string
	}{
		{func(o *Options) { o.Nodes = 0 }, "--nodes"},
		{func(o *Options) { o.GPUs = 17 }, "--gpus"},
		{func(o *Options) { o.Product = "NVIDIA-H100" }, "NVIDIA-H100-80GB-HBM3"}, // says what is known
		{func(o *Options) { o.HPASyncPeriod = time.Millisecond }, "--hpa-sync-period"},
		{func(o *Options) { o.Dir = "/" + strings.Repeat("x", 60) }, "--state-dir"},
	} {
		o := DefaultOptions()
		c.change(&o)
		require.ErrorContains(t, o.Validate(), c.flag)
	}
	o := DefaultOptions()
	o.Nodes, o.GPUs = 0, -1
	require.ErrorContains(t, o.Validate(), "--nodes")
	require.ErrorContains(t, o.Validate(), "--gpus", "all that is wrong is said at once")
}

func TestNodesAreLabelledAsFeatureDiscoveryDoes(t *testing.T) {
	for _, p := range products() {
		n := node(3, Options{GPUs: 8}, p)
		require.Equal(t, "gpu-3", n.Name)
		require.Equal(t, p.name, n.Labels["nvidia.com/gpu.product"])
		require.Equal(t, "8", n.Labels["nvidia.com/gpu.count"])
		require.Equal(t, "true", n.Labels["nvidia.com/gpu.present"])
		gpus := n.Status.Allocatable[devices.Resource]
		require.Equal(t, 0, gpus.Cmp(resource.MustParse("8")))
		for key, value := range n.Labels {
			require.Empty(t, validation.IsQualifiedName(key))
			require.Empty(t, validation.IsValidLabelValue(value), key)
		}
	}
	p, err := productOf("NVIDIA-H100-80GB-HBM3")
	require.NoError(t, err)
	require.Equal(t, "81559", node(0, Options{GPUs: 8}, p).Labels["nvidia.com/gpu.memory"], "MiB, as nvidia-smi shows")
	plain := node(0, Options{}, p)
	require.NotContains(t, plain.Labels, "nvidia.com/gpu.present", "a node without GPUs gets no agent")
	require.NotContains(t, plain.Status.Capacity, devices.Resource)
	const path = "metrics.k8s.io/resource-metrics-path" // of metrics-server
	require.NotContains(t, plain.Annotations, path)
	require.Equal(t, "/metrics/nodes/gpu-1/metrics/resource", node(1, Options{Rightsizing: true}, p).Annotations[path])
}

func TestEveryGPUHasAUUIDOfItsOwn(t *testing.T) {
	o := DefaultOptions()
	nodes, err := kubeletNodes(o)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, n := range nodes {
		for _, g := range n.GPUs {
			require.Regexp(t, `^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, g.UUID)
			require.False(t, seen[g.UUID])
			seen[g.UUID] = true
		}
	}
	require.Len(t, seen, o.Nodes*o.GPUs)
}

func TestStateOfNoLab(t *testing.T) {
	_, _, err := ReadState(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, ErrNoLab)
}
