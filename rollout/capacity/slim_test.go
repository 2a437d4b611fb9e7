package capacity

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"

	"headroom.dev/headroom/rollout/placement/kube"
)

// anyPod is a pod with every field filled by chance, as far as an API server would let it in.
func anyPod(seed int64, r *rand.Rand) *corev1.Pod {
	names := []corev1.ResourceName{"cpu", "memory", "nvidia.com/gpu", "hugepages-2Mi", "pods", "nvidia.com/mig-1g.10gb"}
	f := randfill.NewWithSeed(seed).NilChance(0.3).NumElements(1, 3).MaxDepth(12).Funcs(
		func(l *corev1.ResourceList, _ randfill.Continue) {
			*l = corev1.ResourceList{}
			for range r.IntN(4) {
				(*l)[names[r.IntN(len(names))]] = *resource.NewQuantity(int64(r.IntN(9)), resource.DecimalSI)
			}
		},
		func(q *resource.Quantity, _ randfill.Continue) {
			*q = *resource.NewQuantity(int64(r.IntN(9)), resource.DecimalSI)
		},
		func(p *corev1.PodPhase, _ randfill.Continue) {
			*p = []corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed}[r.IntN(4)]
		},
		func(p *corev1.PodConditionType, _ randfill.Continue) {
			*p = []corev1.PodConditionType{corev1.PodResizePending, corev1.PodScheduled, corev1.PodReady}[r.IntN(3)]
		},
		func(p *corev1.ContainerRestartPolicy, _ randfill.Continue) {
			*p = []corev1.ContainerRestartPolicy{corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever}[r.IntN(2)]
		},
		func(m *metav1.ManagedFieldsEntry, _ randfill.Continue) { *m = metav1.ManagedFieldsEntry{} },
	)
	p := &corev1.Pod{}
	f.Fill(p)
	name := func(i int) string { return string(rune('a' + i)) }
	for i := range p.Spec.Containers {
		p.Spec.Containers[i].Name = name(i)
	}
	for i := range p.Spec.InitContainers {
		p.Spec.InitContainers[i].Name = name(10 + i)
	}
	for i := range p.Status.ContainerStatuses {
		p.Status.ContainerStatuses[i].Name = name(i)
	}
	for i := range p.Status.InitContainerStatuses {
		p.Status.InitContainerStatuses[i].Name = name(10 + i)
	}
	for i := range p.Status.Conditions {
		if r.IntN(2) == 0 {
			p.Status.Conditions[i].Reason = corev1.PodReasonInfeasible
		}
	}
	return p
}

// TestSlim: a pod of which only what Slim keeps is left is read as the whole one is. A field that is read one day and not kept is
// found here, as every field is filled.
func TestSlim(t *testing.T) {
	seed := rand.Int64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	var there, waiting int
	for i := range int64(600) {
		p := anyPod(seed+i, r)
		s := Slim(p)
		want, holds, wantErr := kube.Pod(p)
		got, still, err := kube.Pod(s)
		require.Equal(t, wantErr == nil, err == nil)
		require.Equal(t, holds, still)
		require.Equal(t, want, got, "pod %d", i)
		require.Equal(t, waits(p), waits(s))
		require.Equal(t, priorityIn(p), priorityIn(s))
		require.Equal(t, graceOf(p), graceOf(s))
		require.Equal(t, unschedulable(p), unschedulable(s))
		require.Equal(t, requestsOf(p), requestsOf(s))
		require.Equal(t, p.OwnerReferences, s.OwnerReferences)
		if holds {
			there++
		}
		if waits(p) {
			waiting++
		}
	}
	require.Positive(t, there)
	require.Positive(t, waiting)
}
