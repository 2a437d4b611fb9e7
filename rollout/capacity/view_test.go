package capacity

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// GPUs are counted by limits, of whatever name, as a pod holds them: the larger of its containers together and each init container.
func TestGPUs(t *testing.T) {
	of := func(name corev1.ResourceName, n string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Limits: corev1.ResourceList{name: resource.MustParse(n)}}
	}
	pod := func(init corev1.ResourceRequirements, main ...corev1.ResourceRequirements) *corev1.PodTemplateSpec {
		p := &corev1.PodTemplateSpec{Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "init", Resources: init}}}}
		for _, r := range main {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Resources: r})
		}
		return p
	}
	none := of("memory", "1Gi")
	require.Equal(t, 0, GPUs(nil))
	require.Equal(t, 0, GPUs(pod(none, none)))
	require.Equal(t, 3, GPUs(pod(none, of("nvidia.com/gpu", "2"), none, of("nvidia.com/gpu", "1"))))
	require.Equal(t, 4, GPUs(pod(of("nvidia.com/gpu", "4"), of("nvidia.com/gpu", "2"))))
	require.Equal(t, 1, GPUs(pod(none, of("nvidia.com/mig-1g.10gb", "1"))))
	require.Equal(t, 8, GPUs(pod(none, of("amd.com/gpu", "8"))))
}
