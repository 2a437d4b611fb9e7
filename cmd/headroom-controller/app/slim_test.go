package app

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/recommender/kube"
	placement "headroom.dev/headroom/rollout/placement/kube"
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

// randomPod makes a pod with what a scheduler counts: some is absent, some contradicts.
func randomPod(random *rand.Rand) *corev1.Pod {
	some := func() bool { return random.IntN(2) == 0 }
	list := func() corev1.ResourceList {
		l := corev1.ResourceList{}
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, "nvidia.com/gpu"} {
			if some() {
				l[name] = *resource.NewQuantity(random.Int64N(4), resource.DecimalSI)
			}
		}
		return l
	}
	requirements := func() corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: list(), Limits: list()}
	}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "a", Labels: map[string]string{"app": "chat"}, Annotations: map[string]string{"x": "y"}},
		Status:     corev1.PodStatus{Phase: []corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded}[random.IntN(3)]},
	}
	if some() {
		p.Spec.NodeName = "n"
	} else if some() {
		p.Status.NominatedNodeName = "m"
	}
	if some() {
		p.Spec.Priority, p.Spec.Overhead = new(random.Int32N(9)-4), list()
	}
	if some() {
		p.Spec.Resources, p.Status.Resources, p.Status.AllocatedResources = new(requirements()), new(requirements()), list()
	}
	if some() {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Reason: corev1.PodReasonInfeasible}}
	}
	if some() {
		term := []corev1.PodAffinityTerm{{TopologyKey: "kubernetes.io/hostname", LabelSelector: &metav1.LabelSelector{MatchLabels: p.Labels}}}
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term}, PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term}}
	}
	for i := range 1 + random.IntN(3) {
		c := corev1.Container{Name: fmt.Sprint("c", i), Resources: requirements(), Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: random.Int32N(2) * 8080}}}
		status := corev1.ContainerStatus{Name: c.Name, Resources: new(*c.Resources.DeepCopy()), AllocatedResources: c.Resources.Requests}
		if some() {
			status.Resources, status.AllocatedResources = new(requirements()), list()
		}
		if some() {
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
		if i == 0 || some() {
			p.Spec.Containers, p.Status.ContainerStatuses = append(p.Spec.Containers, c), append(p.Status.ContainerStatuses, status)
		} else {
			p.Spec.InitContainers, p.Status.InitContainerStatuses = append(p.Spec.InitContainers, c), append(p.Status.InitContainerStatuses, status)
		}
	}
	return p
}

// TestSlimKeepsWhatPlacementReads compares what placement makes of whole pods and of those in the cache.
func TestSlimKeepsWhatPlacementReads(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	kept := 0
	for range 5000 {
		pod := randomPod(random)
		small, err := slim(pod.DeepCopy())
		require.NoError(t, err)
		slimmed, ok := small.(*corev1.Pod)
		require.True(t, ok)
		want, holds, err := placement.Pod(pod)
		require.NoError(t, err)
		got, holdsToo, err := placement.Pod(slimmed)
		require.NoError(t, err)
		require.Equal(t, holds, holdsToo)
		require.Equal(t, want, got)
		if slimmed.Status.ContainerStatuses[0].Resources != nil {
			kept++
		}
	}
	assert.Positive(t, kept)
}

// TestSlimIsSmall bounds what a pod costs in the cache: of a GPU service's pod, as an API server returns it.
func TestSlimIsSmall(t *testing.T) {
	before := held(bigPod)
	after := held(func() any {
		small, err := slim(bigPod())
		require.NoError(t, err)
		return small
	})
	t.Logf("%d bytes whole, %d slim", before, after)
	assert.Less(t, after, before/2)
}

func TestSlimNode(t *testing.T) {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"a": "b"}, ManagedFields: make([]metav1.ManagedFieldsEntry, 2)},
		Status:     corev1.NodeStatus{Images: make([]corev1.ContainerImage, 50), DeclaredFeatures: []string{"x"}},
	}
	got, err := slimNode(node)
	require.NoError(t, err)
	assert.Equal(t, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"a": "b"}}, Status: corev1.NodeStatus{DeclaredFeatures: []string{"x"}},
	}, got)
}

// held returns the bytes that one of many objects keeps.
func held(decode func() any) int {
	const n = 2000
	objects := [n]any{}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range objects {
		objects[i] = decode()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(objects)
	return int(after.HeapAlloc-before.HeapAlloc) / n
}

// bigPod decodes a pod as a GPU service's is, as a watch does.
func bigPod() any {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "prod", Name: "chat-6f7b9c-x2x4q", UID: "6b1c7d4e", Labels: map[string]string{"app": "chat", "pod-template-hash": "6f7b9c"},
			Annotations:     map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "8000"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "chat-6f7b9c", UID: "1c7d", Controller: new(true)}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(strings.Repeat("x", 2000))}},
		},
		Spec:   corev1.PodSpec{NodeName: "gpu-1", Priority: new(int32(0)), TerminationGracePeriodSeconds: new(int64(30)), Tolerations: make([]corev1.Toleration, 3), Volumes: make([]corev1.Volume, 2)},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: make([]corev1.PodCondition, 5), PodIP: "10.0.0.1"},
	}
	for _, name := range []string{"server", "proxy"} {
		requirements := corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("32Gi"), "nvidia.com/gpu": resource.MustParse("1")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("32Gi"), "nvidia.com/gpu": resource.MustParse("1")},
		}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: name, Image: "vllm/vllm-openai:v0.11.0", Args: []string{"--model=meta-llama/Llama-3.1-8B", "--gpu-memory-utilization=0.9"}, Resources: requirements,
			Env: make([]corev1.EnvVar, 8), VolumeMounts: make([]corev1.VolumeMount, 3), Ports: []corev1.ContainerPort{{ContainerPort: 8000}},
		})
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: name, Image: "vllm/vllm-openai:v0.11.0", ImageID: "sha256:0123456789", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			Resources: requirements.DeepCopy(), AllocatedResources: requirements.Requests.DeepCopy(),
		})
	}
	return p.DeepCopy() // shares nothing
}
