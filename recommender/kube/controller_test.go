package kube

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/api/v1alpha1"
)

// deployment is a Deployment of the namespace prod.
func deployment(name string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: named("Deployment", name, nil)}
}

// podOf is a Ready pod of a Deployment, with one container that requests a core and a GiB.
func podOf(deployment, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "prod", Name: name, UID: types.UID("pod-" + name), Labels: map[string]string{templateHash: "v1"},
			CreationTimestamp: metav1.NewTime(noon.Add(-time.Hour)), OwnerReferences: owner("apps/v1", "ReplicaSet", deployment+"-v1"),
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web:1", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("2Gi")},
		}}}},
		Status: corev1.PodStatus{
			Phase:             corev1.PodRunning,
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon.Add(-50 * time.Minute))}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(noon.Add(-time.Hour))}}}},
		},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

// recommendationFor is one that a person wrote.
func recommendationFor(name, kind, target string) *v1alpha1.ResourceRecommendation {
	return &v1alpha1.ResourceRecommendation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, UID: types.UID("rr-" + name), Generation: 1, CreationTimestamp: metav1.NewTime(noon)},
		Spec:       v1alpha1.ResourceRecommendationSpec{TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: kind, Name: target}},
	}
}

// TestRecommendation goes from no history to a recommendation.
func TestRecommendation(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), podOf("web", "web-v1-b"), recommendationFor("web", "Deployment", "web"))
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.use("web-v1-b", "web", 0.1, 200<<20)
	w.passes(1)
	r := w.rr("web")
	ready := readyOf(t, r)
	assert.Equal(t, v1alpha1.ReasonNoHistory, ready.Reason, ready.Message)
	assert.Equal(t, metav1.ConditionFalse, ready.Status)
	t.Log(ready.Message)
	require.Len(t, r.Status.Containers, 1)
	cpu := r.Status.Containers[0].Resources[0]
	require.NotNil(t, cpu.ReadyAt, "it says when there will be one")
	assert.Nil(t, cpu.Recommended)
	assert.EqualValues(t, 2, *r.Status.Replicas)

	for w.now.Before(cpu.ReadyAt.Time) {
		w.passes(1)
	}
	w.passes(2 * lookEvery)
	r = w.rr("web")
	ready = readyOf(t, r)
	require.Equal(t, v1alpha1.ReasonRecommended, ready.Reason, ready.Message)
	t.Log(ready.Message)
	cpu, memory := r.Status.Containers[0].Resources[0], r.Status.Containers[0].Resources[1]
	t.Log(cpu.Message, memory.Message)
	got := cpu.Recommended.AsApproximateFloat64()
	assert.Greater(t, got, 0.2)
	assert.Less(t, got, 0.6)
	assert.Equal(t, "1", cpu.Request.String())
	require.NotNil(t, memory.Recommended)
	limit, request := memory.RecommendedLimit.AsApproximateFloat64(), memory.Recommended.AsApproximateFloat64()
	assert.InEpsilon(t, 2, limit/request, 0.02, "the limit keeps its proportion")
	assert.Positive(t, memory.Evidence.Samples)
	require.NotNil(t, memory.Now)
	assert.Zero(t, memory.Now.Kills)
	assert.Equal(t, *cpu.Recommended, r.Status.Recommended[corev1.ResourceCPU])
	assert.Equal(t, "1", r.Status.Total.Cpu().String())
	require.NotNil(t, r.Status.Changed)
}
