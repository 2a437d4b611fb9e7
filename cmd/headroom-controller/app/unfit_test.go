package app

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// TestUnfitGPUsAreCounted has nodes of every kind: a GPU that failed, one of which the device plugin took back, shared GPUs, no agent.
func TestUnfitGPUsAreCounted(t *testing.T) {
	node := func(name, units string, labels map[string]string) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
			Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{gpuResource: resource.MustParse(units)}},
		}
	}
	value := func(name, v string) string {
		return `{"describedObject":{"kind":"Node","name":"` + name + `"},"value":"` + v + `"}`
	}
	p, _ := server(t, map[string]string{
		"/apis/custom.metrics.k8s.io/v1beta2/nodes/*/gpus_healthy": `{"items":[` + value("fit", "8") + `,` + value("failed", "7") + `,` + value("taken-back", "7") + `,` + value("shared", "3") + `,` + value("gone", "0") + `]}`,
		"/apis/custom.metrics.k8s.io/v1beta2/nodes/*/gpu_healthy":  `{"items":[` + value("fit", "1") + `,` + value("failed", "0") + `,` + value("taken-back", "0") + `,` + value("shared", "0") + `,` + value("gone", "0") + `]}`,
	})
	reader := fake.NewClientBuilder().WithObjects(
		node("fit", "8", nil), node("failed", "8", nil), node("taken-back", "7", nil), node("shared", "16", map[string]string{gpuCount: "4"}),
		node("unread", "8", nil)).Build()
	unfit, err := p.unfit(t.Context(), reader)
	require.NoError(t, err)
	assert.Equal(t, map[string]map[string]int64{"failed": {"nvidia.com/gpu": 1}, "shared": {"nvidia.com/gpu": 4}}, unfit)

	none, _ := server(t, nil)
	unfit, err = none.unfit(t.Context(), reader)
	require.NoError(t, err)
	assert.Empty(t, unfit, "nobody says")
}
