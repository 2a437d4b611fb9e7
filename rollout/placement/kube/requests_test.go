package kube

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelpers "k8s.io/component-helpers/resource"
)

// TestRequestsAreTheSchedulers holds requests to Kubernetes' own helper on random pods, and wants the quick way to be taken and left.
func TestRequestsAreTheSchedulers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const pods = 20000
	quick := 0
	for range pods {
		p := randomPod(r)
		want := resources(resourcehelpers.PodRequests(p.DeepCopy(), resourcehelpers.PodResourcesOptions{
			UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true,
		}))
		got := requests(p)
		require.Len(t, got, len(want), "%v\n%v\n%+v", want, got, p)
		require.True(t, maps.Equal(want, got), "%v\n%v\n%+v", want, got, p)
		if _, ok := plain(p); ok {
			quick++
		}
	}
	require.Greater(t, quick, pods/10)
	require.Less(t, quick, pods*9/10)
}

func randomPod(r *rand.Rand) *corev1.Pod {
	one := func(n int) bool { return r.IntN(n) == 0 }
	list := func() corev1.ResourceList {
		if one(8) {
			return nil
		}
		out := corev1.ResourceList{}
		for _, name := range []corev1.ResourceName{"cpu", "memory", "nvidia.com/gpu", "hugepages-2Mi", "storage", "requests.example.com/x"} {
			if one(2) {
				values := []string{"1", "2", "250m", "1500m", "0", "1Gi", "3e3"}
				if one(20) {
					values = []string{"1u", "0.0005", "100Ei", "9223372036854775807", "1e30", "2.0001"}
				}
				out[name] = resource.MustParse(values[r.IntN(len(values))])
			}
		}
		return out
	}
	p := &corev1.Pod{}
	containers := func(n int, prefix string) (out []corev1.Container) {
		for i := range n {
			c := corev1.Container{Name: prefix + string('a'+rune(i))}
			c.Resources.Requests = list()
			out = append(out, c)
		}
		return out
	}
	status := func(c *corev1.Container) corev1.ContainerStatus {
		s := corev1.ContainerStatus{Name: c.Name, AllocatedResources: c.Resources.Requests}
		if one(2) {
			s.Resources = &corev1.ResourceRequirements{Requests: c.Resources.Requests.DeepCopy()}
		}
		if one(15) {
			s.AllocatedResources = list()
		}
		if one(15) {
			s.Resources = &corev1.ResourceRequirements{Requests: list()}
		}
		return s
	}
	p.Spec.Containers = containers(r.IntN(4), "c")
	if one(10) {
		p.Spec.InitContainers = containers(1+r.IntN(2), "i")
		if one(2) {
			p.Spec.InitContainers[0].RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
	}
	if one(2) {
		for i := range p.Spec.Containers {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, status(&p.Spec.Containers[i]))
		}
	}
	if one(20) {
		p.Spec.Overhead = list()
	}
	if one(20) {
		p.Spec.Resources = &corev1.ResourceRequirements{Requests: list()}
	}
	if one(15) {
		reason := []string{corev1.PodReasonInfeasible, corev1.PodReasonDeferred}[r.IntN(2)]
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Reason: reason}}
	}
	if one(4) {
		sum := resourcehelpers.PodRequests(p, resourcehelpers.PodResourcesOptions{})
		p.Status.AllocatedResources, p.Status.Resources = sum, &corev1.ResourceRequirements{Requests: sum.DeepCopy()}
		if one(5) {
			p.Status.AllocatedResources = list()
		}
		if one(5) {
			p.Status.Resources = &corev1.ResourceRequirements{Requests: list()}
		}
		if one(5) {
			p.Status.Resources = nil
		}
	}
	return p
}
