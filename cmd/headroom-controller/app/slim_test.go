package app

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/recommender/kube"
)

// TestSlim keeps what the scaler and the recommender read.
func TestSlim(t *testing.T) {
	killed := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled"}}
	requests := corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"app": "chat"}, Annotations: map[string]string{"big": "x", corev1.PodDeletionCost: "3", kube.AnnotationWeights: "15Gi", kube.AnnotationPerToken: "128Ki"}},
		Spec: corev1.PodSpec{
			NodeName: "n", Volumes: make([]corev1.Volume, 3),
			Containers:     []corev1.Container{{Name: "c", Image: "i", Args: []string{"--gpu-memory-utilization=0.9"}, Resources: requests, Env: make([]corev1.EnvVar, 9)}},
			InitContainers: []corev1.Container{{Name: "s", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, Reason: "Evicted", Message: "low", PodIP: "1.2.3.4",
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c", LastTerminationState: killed, ImageID: "sha"}},
		},
	}
	got, err := slim(pod)
	require.NoError(t, err)
	assert.Equal(t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"app": "chat"}, Annotations: map[string]string{corev1.PodDeletionCost: "3", kube.AnnotationWeights: "15Gi", kube.AnnotationPerToken: "128Ki"}},
		Spec: corev1.PodSpec{
			NodeName:       "n",
			Containers:     []corev1.Container{{Name: "c", Image: "i", Args: []string{"--gpu-memory-utilization=0.9"}, Resources: requests}},
			InitContainers: []corev1.Container{{Name: "s", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, Reason: "Evicted", Message: "low",
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c", LastTerminationState: killed}},
		},
	}, got)
	other := &corev1.Node{}
	got, err = slim(other)
	require.NoError(t, err)
	assert.Same(t, other, got)
}
