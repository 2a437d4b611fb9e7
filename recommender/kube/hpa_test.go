package kube

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
)

func utilization(percent int32) autoscalingv2.MetricTarget {
	return autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}
}

func ofResource(name corev1.ResourceName, t autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: name, Target: t}}
}

func ofContainer(name corev1.ResourceName, container string, t autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{Name: name, Container: container, Target: t}}
}

func hpaFor(target string, metrics ...autoscalingv2.MetricSpec) *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "hpa"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: target}, Metrics: metrics,
		},
	}
}

// sized is a container with a CPU request, limit and recommendation; "" for none.
func sized(name, request, limit, recommended string) (template, v1alpha1.ContainerRecommendation) {
	t := template{name: name, kind: v1alpha1.TypeContainer, resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}}
	a := v1alpha1.ResourceAdvice{Resource: corev1.ResourceCPU}
	if request != "" {
		t.resources.Requests[corev1.ResourceCPU] = resource.MustParse(request)
	}
	if limit != "" {
		t.resources.Limits[corev1.ResourceCPU] = resource.MustParse(limit)
	}
	if recommended != "" {
		a.Recommended = new(resource.MustParse(recommended))
	}
	return t, v1alpha1.ContainerRecommendation{Name: name, Type: v1alpha1.TypeContainer, Resources: []v1alpha1.ResourceAdvice{a}}
}

func TestAutoscaler(t *testing.T) {
	f := func(metric autoscalingv2.MetricSpec, web, side [3]string, want int32, says string) {
		t.Helper()
		t1, a1 := sized("web", web[0], web[1], web[2])
		t2, a2 := sized("side", side[0], side[1], side[2])
		got := autoscaler(hpaFor("web", metric), []template{t1, t2}, []v1alpha1.ContainerRecommendation{a1, a2})
		if want == 0 && says == "" {
			require.Nil(t, got)
			return
		}
		require.NotNil(t, got)
		assert.Contains(t, got.Message, says)
		if want == 0 {
			assert.Empty(t, got.Metrics)
			return
		}
		require.Len(t, got.Metrics, 1, got.Message)
		assert.Equal(t, want, got.Metrics[0].Recommended, got.Message)
	}
	cpu := corev1.ResourceCPU
	half := [3]string{"1", "", "500m"}
	same := [3]string{"1", "", "1"}
	// 50 % of 2 cores is 1 core for a replica, and 1 core of 1.5 is 67 %.
	f(ofResource(cpu, utilization(50)), half, same, 67, "from 50% to 67%")
	f(ofResource(cpu, utilization(80)), half, half, 160, "above 100%")
	f(ofContainer(cpu, "web", utilization(30)), half, same, 60, "")
	f(ofContainer(cpu, "side", utilization(30)), half, same, 30, "")
	f(ofResource(cpu, utilization(80)), [3]string{"1", "", "4"}, [3]string{"1", "", "4"}, 20, "")
	f(ofResource(cpu, utilization(2)), [3]string{"100m", "", "10"}, [3]string{"100m", "", "10"}, 1, "too coarse")
	// With a limit of 60 % of the old request nothing above 120 % of the new one can be used.
	f(ofContainer(cpu, "web", utilization(80)), [3]string{"1", "600m", "500m"}, same, 120, "more than containers can use at their limit, 120%")
	f(ofResource(cpu, utilization(50)), half, [3]string{"", "", ""}, 0, "not all containers request it")
	f(ofResource(cpu, utilization(50)), [3]string{"1", "", ""}, [3]string{"1", "", ""}, 0, "")
	f(ofResource(corev1.ResourceMemory, utilization(50)), half, same, 0, "")
	f(ofResource(cpu, autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("1"))}), half, same, 0, "")
	f(autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Target: utilization(5)}}, half, same, 0, "")
	require.Nil(t, autoscaler(nil, nil, nil))
}

// TestTargetKeepsReplicas holds the new target to the HPA's own rule: replicas = ceil(replicas × utilization / target).
func TestTargetKeepsReplicas(t *testing.T) {
	for _, request := range []float64{0.1, 0.25, 1, 3} {
		for _, then := range []float64{0.05, 0.2, 1, 4} {
			for _, target := range []int32{40, 60, 85} {
				t1, a1 := sized("web", resource.NewMilliQuantity(int64(request*1000), resource.DecimalSI).String(), "",
					resource.NewMilliQuantity(int64(then*1000), resource.DecimalSI).String())
				got := autoscaler(hpaFor("web", ofResource(corev1.ResourceCPU, utilization(target))), []template{t1}, []v1alpha1.ContainerRecommendation{a1})
				load := 10 * request * float64(target) / 100 // cores that ask for ten replicas now
				assert.InDelta(t, 10, load/(then*float64(got.Metrics[0].Recommended)/100), 10*0.5/float64(got.Metrics[0].Recommended)*1.01,
					"request %v then %v target %d", request, then, target)
			}
		}
	}
}
