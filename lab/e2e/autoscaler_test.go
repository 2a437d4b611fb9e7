package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/autoscaler"
	"headroom.dev/headroom/rollout/workload"
)

// asController returns a client with the rights of the controller's own ServiceAccount, and no more.
func (c *cluster) asController(t *testing.T) client.Client {
	t.Helper()
	config := rest.CopyConfig(c.Config)
	config.ContentType, config.AcceptContentTypes = "", ""
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:headroom-system:headroom-controller",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:headroom-system", "system:authenticated"},
	}
	known := runtime.NewScheme()
	require.NoError(t, scheme.AddToScheme(known))
	require.NoError(t, v1alpha1.AddToScheme(known))
	made, err := client.New(config, client.Options{Scheme: known})
	require.NoError(t, err)
	return made
}

func (c *cluster) guard(t *testing.T) *autoscaler.Client {
	t.Helper()
	as := c.asController(t)
	return &autoscaler.Client{Reader: as, Writer: as}
}

// holdHPA holds an HPA, as often as it takes: its controller writes its status at any time, and what that crosses is tried again.
func holdHPA(t *testing.T, guard *autoscaler.Client, namespace string, floor int) autoscaler.Guard {
	t.Helper()
	for {
		g, err := guard.Hold(t.Context(), chatRef(namespace), floor)
		if apierrors.IsConflict(err) {
			continue
		}
		require.NoError(t, err)
		return g
	}
}

func releaseHPA(t *testing.T, guard *autoscaler.Client, namespace string) {
	t.Helper()
	for {
		err := guard.Release(t.Context(), chatRef(namespace))
		if apierrors.IsConflict(err) {
			continue
		}
		require.NoError(t, err)
		return
	}
}

func chatRef(namespace string) workload.Ref {
	return workload.Ref{NamespacedName: types.NamespacedName{Namespace: namespace, Name: "chat"}, Kind: rollout.Deployment}
}

// hpaSpec is the spec of an HPA to the byte, and its annotations.
func (c *cluster) hpaSpec(t *testing.T, namespace, name string) (string, map[string]string) {
	t.Helper()
	raw, err := c.Client.AutoscalingV2().RESTClient().Get().SetHeader("Accept", "application/json").
		Namespace(namespace).Resource("horizontalpodautoscalers").Name(name).DoRaw(t.Context())
	require.NoError(t, err)
	var h struct {
		Metadata struct{ Annotations map[string]string }
		Spec     json.RawMessage
	}
	require.NoError(t, json.Unmarshal(raw, &h))
	return string(h.Spec), h.Metadata.Annotations
}

// bystandersOf is a Deployment of pods that run nothing, which KWOK has Ready at once.
func bystandersOf(replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "chat"}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"name": "chat"}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"name": "chat"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "nginx", Image: "nginx:1.29"}}, TerminationGracePeriodSeconds: new(int64(0))},
		},
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType},
	}}
}

// heldMetric is what the HPA of TestAutoscalerHold goes by.
type heldMetric struct {
	c         *cluster
	namespace string
}

func (m heldMetric) expr(value int) string {
	return fmt.Sprintf("sum by (namespace) (vllm:num_requests_waiting{namespace=%q}) * 0 + %d", m.namespace, value)
}

// set sets it, and waits until the HPA has seen it. Its status tells the average.
func (m heldMetric) set(t *testing.T, value int) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"expr": m.expr(value)}})
	require.NoError(t, err)
	m.c.changeRule(t, "e2e-autoscaler-hold", string(patch))
	ctx := t.Context()
	eventually(t, time.Minute, func(t require.TestingT) {
		h := m.c.hpaOf(ctx, t, m.namespace)
		require.NotEmpty(t, h.Status.CurrentMetrics)
		require.NotNil(t, h.Status.CurrentMetrics[0].External, "not seen yet")
		seen := h.Status.CurrentMetrics[0].External.Current.AverageValue
		require.NotNil(t, seen)
		replicas := float64(h.Status.CurrentReplicas)
		require.InDelta(t, float64(value), seen.AsApproximateFloat64()*replicas, 0.01*replicas, "%+v", h.Status)
	})
}

// replicas waits until there have been so many replicas, and the HPA wanted them, for three of its rounds.
func (m heldMetric) replicas(t *testing.T, want int32) {
	t.Helper()
	ctx := t.Context()
	var since time.Time
	eventually(t, time.Minute, func(t require.TestingT) {
		d, err := m.c.Client.AppsV1().Deployments(m.namespace).Get(ctx, "chat", metav1.GetOptions{})
		require.NoError(t, err)
		if *d.Spec.Replicas != want || m.c.hpaOf(ctx, t, m.namespace).Status.DesiredReplicas != want {
			since = time.Time{}
			require.Equal(t, want, *d.Spec.Replicas)
		}
		if since.IsZero() {
			since = time.Now()
		}
		require.GreaterOrEqual(t, time.Since(since), 3*hpaSync)
	})
}

// TestAutoscalerHold has a real HPA held by a client with the controller's own rights: its floor stands against a metric of 0, it
// still scales up and back to the floor, surge pods do not count for wanted ones, and at the end its spec is what it was.
func TestAutoscalerHold(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	m := heldMetric{shared, namespace}
	shared.deploy(t, namespace, inference("source", "{startup: 0s, metricNames: vllm}", 0), bystandersOf(10))
	shared.ready(t, namespace, "name=source", 1)
	shared.rule(t, "e2e-autoscaler-hold", v1alpha1.MetricRuleSpec{Metric: "e2e_autoscaler_hold", Expr: m.expr(100), External: &v1alpha1.ExternalTarget{}})
	spec := autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat"}, MaxReplicas: 16,
		Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: "e2e_autoscaler_hold"},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("10"))},
		}}},
		Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: new(int32(0))}},
	}
	_, err := shared.Client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Create(t.Context(),
		&autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "chat"}, Spec: spec}, metav1.CreateOptions{})
	require.NoError(t, err)
	m.set(t, 100)
	m.replicas(t, 10)
	before, annotations := shared.hpaSpec(t, namespace, "chat")
	require.Empty(t, annotations)

	guard := shared.guard(t)
	for range 2 {
		require.Equal(t, autoscaler.Guard{Name: "chat", Min: 1, Max: 16}, holdHPA(t, guard, namespace, 10))
	}
	m.set(t, 0)
	m.replicas(t, 10)
	m.set(t, 130)
	m.replicas(t, 13)
	m.set(t, 100)
	m.replicas(t, 10)

	// A surge pod that finds no node: 100 is within a tenth of 11 × 10, for which an HPA with the usual tolerance wants 11.
	_, err = shared.Client.AppsV1().Deployments(namespace).Patch(t.Context(), "chat", types.StrategicMergePatchType, []byte(
		`{"spec":{"strategy":{"rollingUpdate":{"maxSurge":1,"maxUnavailable":0}},"template":{"spec":{"nodeSelector":{"e2e.headroom.dev/node":"none"}}}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	ctx := t.Context()
	surged := func(t require.TestingT) { // the HPA has seen it: its status divides by status.replicas, and tells spec.replicas
		seen := shared.hpaOf(ctx, t, namespace).Status.CurrentMetrics[0].External.Current.AverageValue
		require.InDelta(t, 100.0/11, seen.AsApproximateFloat64(), 0.01)
	}
	eventually(t, time.Minute, surged)
	m.replicas(t, 10)
	surged(t)

	for range 2 {
		releaseHPA(t, guard, namespace)
	}
	after, annotations := shared.hpaSpec(t, namespace, "chat")
	assert.Equal(t, before, after)
	assert.Empty(t, annotations)
	// What was held off, kubernetes#138505, now comes: 11. It does not stay, as 100 is not within a tenth of 12 × 10.
	eventually(t, time.Minute, func(t require.TestingT) {
		d, err := shared.Client.AppsV1().Deployments(namespace).Get(ctx, "chat", metav1.GetOptions{})
		require.NoError(t, err)
		require.EqualValues(t, 11, *d.Spec.Replicas)
	})
}

// TestAutoscalerHoldOfAnySpec holds and releases HPAs as the API server serves them, whatever their owners left out.
func TestAutoscalerHoldOfAnySpec(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	guard := shared.guard(t)
	hpas := shared.Client.AutoscalingV2().HorizontalPodAutoscalers(namespace)
	rules := autoscalingv2.HPAScalingRules{SelectPolicy: new(autoscalingv2.MinChangePolicySelect), Tolerance: new(resource.MustParse("0.05"))}
	for i, behavior := range []*autoscalingv2.HorizontalPodAutoscalerBehavior{
		nil,
		{},
		{ScaleUp: &rules},
		{ScaleDown: &rules},
		{ScaleUp: &rules, ScaleDown: &rules},
		{ScaleDown: &autoscalingv2.HPAScalingRules{Policies: []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 1, PeriodSeconds: 60}}}},
		{ScaleUp: &autoscalingv2.HPAScalingRules{Tolerance: new(resource.MustParse("0"))}},
	} {
		h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("h", i)}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat"}, MaxReplicas: 5, Behavior: behavior.DeepCopy(),
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(80))},
			}}},
		}}
		drifts := i%3 != 0 // counts surge pods for wanted ones, so that its tolerances go
		if drifts {
			h.Spec.Metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
				Metric: autoscalingv2.MetricIdentifier{Name: "none"},
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("10"))},
			}}}
		}
		if i%2 == 1 {
			h.Spec.MinReplicas = new(int32(2))
		}
		made, err := hpas.Create(t.Context(), h, metav1.CreateOptions{})
		require.NoError(t, err)
		before, _ := shared.hpaSpec(t, namespace, h.Name)
		var version string
		for round := range 3 {
			require.Equal(t, autoscaler.Guard{Name: h.Name, Min: int(*made.Spec.MinReplicas), Max: 5}, holdHPA(t, guard, namespace, 9))
			held, err := hpas.Get(t.Context(), h.Name, metav1.GetOptions{})
			require.NoError(t, err)
			assert.EqualValues(t, 5, *held.Spec.MinReplicas)
			if drifts {
				assert.True(t, held.Spec.Behavior.ScaleUp.Tolerance.IsZero())
				assert.True(t, held.Spec.Behavior.ScaleDown.Tolerance.IsZero())
			} else {
				assert.Equal(t, made.Spec.Behavior, held.Spec.Behavior)
			}
			annotation := held.Annotations[autoscaler.Annotation]
			if round > 0 {
				assert.Equal(t, version, annotation+fmt.Sprint(held.Generation), "it was written again")
			}
			version = annotation + fmt.Sprint(held.Generation)
		}
		releaseHPA(t, guard, namespace)
		after, annotations := shared.hpaSpec(t, namespace, h.Name)
		assert.Equal(t, before, after)
		assert.Empty(t, annotations)
		require.NoError(t, hpas.Delete(t.Context(), h.Name, metav1.DeleteOptions{}))
	}
}

// TestAutoscalerHoldOfAScalePolicy: the controller raises the HPA that it owns to an update's floor, and lowers it afterwards.
func TestAutoscalerHoldOfAScalePolicy(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.deploy(t, namespace, inference("chat", scaledSpec, 0))
	shared.ready(t, namespace, "name=chat", 1)
	shared.policy(t, namespace, scaled(v1alpha1.ModeAct))
	shared.decided(t, namespace, 1)
	lowest := func(want int32) {
		t.Helper()
		eventually(t, time.Minute, func(t require.TestingT) {
			h := shared.hpaOf(ctx, t, namespace)
			require.Equal(t, want, *h.Spec.MinReplicas)
			require.Equal(t, want, h.Status.DesiredReplicas)
		})
	}
	lowest(1)
	before, _ := shared.hpaSpec(t, namespace, "chat")
	guard := shared.guard(t)
	assert.Equal(t, autoscaler.Guard{Name: "chat", Min: 1, Max: scaledMost}, holdHPA(t, guard, namespace, 3))
	lowest(3)
	shared.ready(t, namespace, "name=chat", 3)
	releaseHPA(t, guard, namespace)
	lowest(1)
	after, annotations := shared.hpaSpec(t, namespace, "chat")
	assert.Equal(t, before, after)
	assert.NotContains(t, annotations, v1alpha1.AnnotationRolloutFloor)
	assert.NotContains(t, annotations, autoscaler.Annotation)
}
