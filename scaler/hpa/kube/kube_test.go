package kube

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/scaler/hpa"
)

func read[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), out))
	return out
}

func TestAutoscaler(t *testing.T) {
	got := Autoscaler(read[autoscalingv2.HorizontalPodAutoscalerSpec](t, `
scaleTargetRef: {kind: Deployment, name: chat, apiVersion: apps/v1}
maxReplicas: 9
metrics:
- {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}
- {type: ContainerResource, containerResource: {name: memory, container: server, target: {type: AverageValue, averageValue: 1Gi}}}
- {type: Pods, pods: {metric: {name: busy}, target: {type: AverageValue, averageValue: "1.5"}}}
- {type: External, external: {metric: {name: queue}, target: {type: Value, value: "30"}}}
- {type: Object, object: {describedObject: {kind: Service, name: chat, apiVersion: v1}, metric: {name: waiting}, target: {type: AverageValue, averageValue: "2"}}}
- {type: Object, object: {describedObject: {kind: Service, name: chat, apiVersion: v1}, metric: {name: waiting}, target: {type: Value, averageValue: "2"}}}
behavior:
  scaleUp: {stabilizationWindowSeconds: 0, selectPolicy: Min, tolerance: 50m, policies: [{type: Percent, value: 10, periodSeconds: 30}, {type: Pods, value: 4, periodSeconds: 15}]}
`))
	assert.Equal(t, hpa.Autoscaler{
		Max: 9,
		Metrics: []hpa.Metric{
			{Source: hpa.Resource, Name: "cpu", Kind: hpa.Utilization, Target: 70},
			{Source: hpa.ContainerResource, Name: "memory", Kind: hpa.AverageValue, Target: 1 << 30 * 1000},
			{Source: hpa.Pods, Name: "busy", Kind: hpa.AverageValue, Target: 1500},
			{Source: hpa.External, Name: "queue", Kind: hpa.Value, Target: 30_000},
			{Source: hpa.Object, Name: "waiting", Kind: hpa.AverageValue, Target: 2000},
			{Source: hpa.Object, Name: "waiting"},
		},
		Behavior: &hpa.Behavior{Up: hpa.Rules{
			Window: new(time.Duration), Select: hpa.MinChange, Tolerance: new(0.05),
			Policies: []hpa.Policy{{Percent: true, Value: 10, Period: 30 * time.Second}, {Value: 4, Period: 15 * time.Second}},
		}},
	}, got)
	assert.Nil(t, Autoscaler(&autoscalingv2.HorizontalPodAutoscalerSpec{}).Behavior)
}

func TestPod(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", DeletionTimestamp: &metav1.Time{Time: at}}}
	assert.Equal(t, hpa.Pod{Name: "a", Phase: hpa.UnknownPhase, Deleted: true}, Pod(p))
	p.DeletionTimestamp, p.Status.StartTime = nil, &metav1.Time{Time: at}
	for phase, want := range map[corev1.PodPhase]hpa.Phase{"Running": hpa.Running, "Pending": hpa.Pending, "Succeeded": hpa.Succeeded, "Failed": hpa.Failed, "Unknown": hpa.UnknownPhase} {
		p.Status.Phase = phase
		for status, ready := range map[corev1.ConditionStatus]hpa.Readiness{"True": hpa.Ready, "False": hpa.NotReady, "Unknown": hpa.UnknownReadiness} {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.ContainersReady}, {Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Time{Time: at}}}
			assert.Equal(t, hpa.Pod{Name: "a", Phase: want, Ready: ready, ReadySince: at, Started: at}, Pod(p))
		}
	}
}

// TestRequest has the cases of TestCalculateRequests in replica_calculator_test.go.
func TestRequest(t *testing.T) {
	f := func(name, spec, container string, want int64, problem string) {
		t.Helper()
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "test-pod"}, Spec: *read[corev1.PodSpec](t, spec)}
		got, err := Request(p, corev1.ResourceCPU, container)
		if problem != "" {
			require.EqualError(t, err, problem, name)
			return
		}
		require.NoError(t, err, name)
		assert.Equal(t, want, got, name)
	}
	const two = `
containers: [{name: container1, resources: {requests: {cpu: 100m}}}, {name: container2, resources: {requests: {cpu: 50m}}}]
`
	f("sum container requests", two, "", 150, "")
	f("one container", two, "container2", 50, "")
	f("pod-level resources override container requests", two+"resources: {requests: {cpu: 800m}}", "", 800, "")
	f("a container takes precedence over the pod level", two+"resources: {requests: {cpu: 800m}}", "container1", 100, "")
	f("overhead is added at the pod level alone", two+"overhead: {cpu: 7m}\nresources: {requests: {cpu: 800m}}", "", 807, "")
	f("and not to containers", two+"overhead: {cpu: 7m}", "", 150, "")
	f("a limit at the pod level is no request", two+"resources: {limits: {cpu: 800m}}", "", 150, "")
	f("a pod-level request of another resource: the containers' sum", two+"resources: {requests: {memory: 1Gi}}", "", 150, "")
	f("none at either level", "containers: [{name: a}]\nresources: {requests: {memory: 1Gi}}", "", 0, "missing pod-level request for cpu in Pod test-pod")
	f("container not found", two, "container3", 0, "container container3 not found in Pod test-pod")
	f("missing request", "containers: [{name: a}]", "", 0, "missing request for cpu in container a of Pod test-pod")
	f("missing request of the container", "containers: [{name: a}]", "a", 0, "missing request for cpu in container a of Pod test-pod")
	const sidecar = two + `
initContainers: [{name: fetch, resources: {requests: {cpu: 9}}}, {name: proxy, restartPolicy: Always, resources: {requests: {cpu: 20m}}}]
`
	f("restartable init containers count", sidecar, "", 170, "")
	f("a restartable init container", sidecar, "proxy", 20, "")
	f("an init container that ends", sidecar, "fetch", 0, "container fetch not found in Pod test-pod")
	f("a restartable init container without request", two+"initContainers: [{name: proxy, restartPolicy: Always}]", "", 0,
		"missing request for cpu in container proxy of Pod test-pod")
}

func TestResource(t *testing.T) {
	pods := []*corev1.Pod{
		{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: *read[corev1.PodSpec](t, "containers: [{name: x, resources: {requests: {cpu: 1}}}, {name: y, resources: {requests: {cpu: 500m}}}]")},
		{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: *read[corev1.PodSpec](t, "containers: [{name: x}]")},
	}
	list := read[metricsv1beta1.PodMetricsList](t, `
items:
- metadata: {name: b}
  timestamp: "2026-11-23T12:00:00Z"
  window: 30s
  containers: [{name: x, usage: {cpu: 250m}}, {name: y, usage: {memory: 1Gi}}]
- metadata: {name: a}
  timestamp: "2026-11-23T12:00:00Z"
  window: 30s
  containers: [{name: x, usage: {cpu: 200m}}, {name: y, usage: {cpu: 7m}}]
- metadata: {name: gone}
  containers: [{name: x, usage: {cpu: 1}}]
- metadata: {name: empty}
`).Items
	at := list[0].Timestamp.Time
	got := Resource("cpu", "", pods, list)
	require.EqualError(t, got.RequestErr, "missing request for cpu in container x of Pod b")
	assert.Equal(t, []hpa.Sample{{Measured: true, Milli: 207, Request: 1500, At: at, Window: 30 * time.Second}, {}}, got.Samples)
	assert.Equal(t, []int64{1000}, got.Strangers)

	got = Resource("cpu", "x", pods[:1], list)
	assert.Equal(t, hpa.Reading{
		Samples:   []hpa.Sample{{Measured: true, Milli: 200, Request: 1000, At: at, Window: 30 * time.Second}},
		Strangers: []int64{250, 1000},
	}, got)
	assert.Equal(t, hpa.Reading{Err: hpa.ErrNoReading}, Resource("cpu", "", pods, nil))
}
