package kube

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
)

// of makes a pod another controller's.
func of(apiVersion, kind, name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences, p.Labels = owner(apiVersion, kind, name), nil
	}
}

// TestDaemonSet keeps the classes of nodes apart.
func TestDaemonSet(t *testing.T) {
	on := func(node string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.NodeName = node }
	}
	large := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "l", Labels: map[string]string{instanceType: "large"}}}
	small := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "s", Labels: map[string]string{instanceType: "small"}}}
	w := newWorld(t, large, small, &appsv1.DaemonSet{ObjectMeta: named("DaemonSet", "log", nil)},
		podOf("", "log-a", of("apps/v1", "DaemonSet", "log"), on("l")), podOf("", "log-b", of("apps/v1", "DaemonSet", "log"), on("s")),
		recommendationFor("log", "DaemonSet", "log"))
	w.use("log-a", "web", 2, 2<<30)
	w.use("log-b", "web", 0.1, 100<<20)
	w.passes(hours)
	got := w.rr("log").Status
	require.Len(t, got.Containers, 2)
	assert.Equal(t, []string{"large", "small"}, []string{got.Containers[0].NodeClass, got.Containers[1].NodeClass})
	assert.Greater(t, got.Containers[0].Resources[0].Recommended.AsApproximateFloat64(), 2.0)
	assert.Less(t, got.Containers[1].Resources[0].Recommended.AsApproximateFloat64(), 0.5)
	assert.Equal(t, *got.Containers[0].Resources[0].Recommended, *got.Recommended.Cpu(), "the totals are of the larger class")
}

// TestCronJob keeps what its runs used, when their pods and Jobs are gone.
func TestCronJob(t *testing.T) {
	r := recommendationFor("nightly", "CronJob", "nightly")
	r.Spec.TargetRef.APIVersion = "batch/v1"
	w := newWorld(t, &batchv1.CronJob{ObjectMeta: named("CronJob", "nightly", nil)}, r)
	w.passes(1)
	assert.Equal(t, v1alpha1.ReasonNoHistory, readyOf(t, w.rr("nightly")).Reason)
	for run := range 6 {
		name := fmt.Sprintf("nightly-%d", run)
		job := &batchv1.Job{ObjectMeta: named("Job", name, owner("batch/v1", "CronJob", "nightly"))}
		pod := podOf("", name+"-x", of("batch/v1", "Job", name), func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(w.now) })
		w.create(job, pod)
		w.samples = map[recommender.ContainerID]map[recommender.Resource]float64{}
		w.use(name+"-x", "web", 1+float64(run)/10, 1<<30)
		w.passes(20)
		w.samples = map[recommender.ContainerID]map[recommender.Resource]float64{}
		require.NoError(t, w.Delete(t.Context(), pod))
		require.NoError(t, w.Delete(t.Context(), job))
		w.passes(40)
	}
	got := w.rr("nightly")
	require.Equal(t, v1alpha1.ReasonRecommended, readyOf(t, got).Reason, readyOf(t, got).Message)
	assert.GreaterOrEqual(t, got.Status.Containers[0].Resources[0].Recommended.AsApproximateFloat64(), 1.5, "the highest run counts")
	assert.Zero(t, *got.Status.Replicas)
	assert.Empty(t, w.owners.known, "what is gone is forgotten")
	before := got.Status.Containers[0].Resources[0].Recommended
	w.stop()
	w.restart() // between two runs: no pod tells of containers
	w.passes(1)
	got = w.rr("nightly")
	require.Len(t, got.Status.Containers, 1)
	assert.Equal(t, before, got.Status.Containers[0].Resources[0].Recommended)
}

// TestContainerTypes tells init containers and sidecars from others, in the totals, too.
func TestContainerTypes(t *testing.T) {
	cpu := func(q string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(q)}}
	}
	pod := podOf("web", "web-v1-a", func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{
			{Name: "load", Resources: cpu("3")}, {Name: "proxy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Resources: cpu("500m")},
		}
	})
	w := newWorld(t, deployment("web"), pod, recommendationFor("web", "Deployment", "web"))
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.use("web-v1-a", "proxy", 0.1, 100<<20)
	w.passes(hours)
	got := w.rr("web").Status
	var types []v1alpha1.ContainerType
	for _, c := range got.Containers {
		types = append(types, c.Type)
	}
	assert.Equal(t, []v1alpha1.ContainerType{v1alpha1.TypeInit, v1alpha1.TypeSidecar, v1alpha1.TypeContainer}, types)
	assert.Equal(t, "3", got.Total.Cpu().String(), "an init container requests more than all that run side by side")
	assert.Equal(t, "3", got.Recommended.Cpu().String(), "and keeps that, for want of samples")
	assert.Contains(t, readyOf(t, w.rr("web")).Message, "2 of 6 recommendations are still to come")
}

// TestWishes are followed: modes, bounds, floors and risk.
func TestWishes(t *testing.T) {
	r := recommendationFor("web", "Deployment", "web")
	r.Spec.Containers = []v1alpha1.ContainerRecommendationPolicy{
		{Name: "web", MaxAllowed: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Mi")}}, {Name: "*", Mode: "Off"},
	}
	r.Spec.Risk.CPUPercent, r.Spec.Hold = new(resource.MustParse("0.5")), &metav1.Duration{Duration: 48 * time.Hour}
	pod := podOf("web", "web-v1-a", func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side"}) })
	w := newWorld(t, deployment("web"), pod, r)
	w.opts.Floors = Floors{CPU: 4}
	w.restart()
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.passes(hours)
	got := w.rr("web").Status.Containers
	require.Len(t, got, 1)
	assert.Equal(t, "2", got[0].Resources[0].Recommended.String(), "half of the pod's floor")
	assert.Equal(t, "Minimum", got[0].Resources[0].Reason)
	assert.Equal(t, "100Mi", got[0].Resources[1].Recommended.String())
	assert.Equal(t, "Maximum", got[0].Resources[1].Reason)
	wish := wishes{spec: &r.Spec}
	p := wish.risk(recommender.Key{Container: "web", Resource: recommender.CPU})
	assert.InDelta(t, 0.005, p.Risk, 1e-12)
	assert.Equal(t, 48*time.Hour, p.Hold)
}

// TestGPU sizes the GPU of an engine that does not allocate ahead.
func TestGPU(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "g", Labels: map[string]string{gpuProduct: "NVIDIA-H200", gpuCount: "2", gpuMemory: "143771"}}}
	withGPU := func(p *corev1.Pod) {
		p.Spec.NodeName = "g"
		p.Spec.Containers[0].Resources.Limits["nvidia.com/gpu"] = resource.MustParse("1")
	}
	w := newWorld(t, node, deployment("web"), podOf("web", "web-v1-a", withGPU), podOf("", "other", of("apps/v1", "StatefulSet", "other"), withGPU), recommendationFor("web", "Deployment", "web"))
	for n := range 60 * 8 {
		w.use("web-v1-a", "", 0, 0) // an engine's figures do not name the container
		w.samples = map[recommender.ContainerID]map[recommender.Resource]float64{
			{Namespace: "prod", Pod: "web-v1-a", Container: "web"}: {recommender.GPUMemory: float64((9 + n/60%3) << 30), recommender.GPUCompute: 0.1},
			{Namespace: "prod", Pod: "web-v1-a"}:                   {recommender.Queue: 3},
		}
		w.passes(1)
	}
	r := w.rr("web")
	require.Len(t, r.Status.Containers, 1)
	g := r.Status.Containers[0].GPU
	require.NotNil(t, g)
	t.Logf("%s: %s; %s", g.Reason, g.Message, g.Placement)
	assert.Equal(t, "NVIDIA-H200", g.Model)
	assert.Equal(t, &v1alpha1.GPURequest{Resource: "nvidia.com/gpu", Count: 1, Sharing: v1alpha1.SharingWhole, Share: *resource.NewMilliQuantity(1000, resource.DecimalSI), Memory: *resource.NewQuantity(143771<<20, resource.BinarySI)}, normal(g.Now))
	require.NotNil(t, g.Recommended, g.Message)
	assert.Equal(t, v1alpha1.SharingMIG, g.Recommended.Sharing)
	assert.Contains(t, g.ResourceClaim, "mig.nvidia.com")
	assert.NotEmpty(t, g.Placement)
	assert.Equal(t, int64(1), resource.NewQuantity(1, "").Value())
	assert.Contains(t, r.Status.Recommended, corev1.ResourceName(g.Recommended.Resource))
	assert.NotNil(t, w.workload(workloadID{"prod", "apps", "Deployment", "web"}).usages[recommender.Key{Container: "web", Resource: recommender.Queue}])
	assert.Equal(t, v1alpha1.ReasonRecommended, readyOf(t, r).Reason, "CPU and memory are not measured, the GPU is")

	busy := w.room(workloadID{"prod", "apps", "Deployment", "web"})
	require.Len(t, busy, 1)
	n := 0
	for _, gpu := range busy[0].GPUs {
		if gpu.Busy {
			n++
		}
	}
	assert.Equal(t, 1, n, "the other's, not its own")
}

// normal is a request as it is before it went through JSON.
func normal(g *v1alpha1.GPURequest) *v1alpha1.GPURequest {
	return &v1alpha1.GPURequest{
		Resource: g.Resource, Count: g.Count, Sharing: g.Sharing, Share: *resource.NewMilliQuantity(g.Share.MilliValue(), resource.DecimalSI),
		Memory: *resource.NewQuantity(g.Memory.Value(), resource.BinarySI),
	}
}

// TestOthersAreLeftOut adds up nothing for workloads that nobody asks about.
func TestOthersAreLeftOut(t *testing.T) {
	w := newWorld(t, deployment("web"), deployment("other"), podOf("web", "web-v1-a"), podOf("other", "other-v1-a"), recommendationFor("web", "Deployment", "web"))
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.use("other-v1-a", "web", 0.2, 300<<20)
	w.passes(2)
	assert.Len(t, w.workloads, 1)
	require.NoError(t, client.IgnoreNotFound(w.Delete(t.Context(), w.rr("web"))))
	w.passes(1)
	assert.Empty(t, w.workloads)
	assert.Empty(t, slices.Collect(func(yield func(string) bool) {
		for name := range w.spaces {
			yield(name)
		}
	}))
}
