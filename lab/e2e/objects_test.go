package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"headroom.dev/headroom/api/v1alpha1"
)

// TestObjectAndExternalMetrics lets the HPA scale on the requests of a Service, a Deployment, a namespace and by external
// metrics of them, against a target for all and one for each pod.
func TestObjectAndExternalMetrics(t *testing.T) {
	t.Parallel()
	const each = 20.0 // requests per second that the source counts, of two pods
	ctx, namespace := t.Context(), shared.namespace(t)
	counting := map[string]*exporter{"a": {}, "b": {}}
	for _, e := range counting {
		e.count("http_requests_total", each)
	}
	shared.export(t, namespace, counting)
	shared.service(t, namespace, "front", map[string]string{"app": "service"}) // both pods: 40
	shared.service(t, namespace, "only-a", map[string]string{"name": "a"})     // 20
	shared.rule(t, "namespace-rps", v1alpha1.MetricRuleSpec{
		Metric: "namespace_requests_per_second", Expr: "sum by (namespace) (rate(http_requests_total[10s]))",
		Object: &v1alpha1.ObjectTarget{Resource: "namespaces"},
	})

	object := func(kind, apiVersion, name, metric string, target autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{
			DescribedObject: autoscalingv2.CrossVersionObjectReference{Kind: kind, APIVersion: apiVersion, Name: name},
			Metric:          autoscalingv2.MetricIdentifier{Name: metric}, Target: target,
		}}
	}
	ofExternal := func(label, name string, target autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: rps, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{label: name}}}, Target: target,
		}}
	}
	all := func(target string) autoscalingv2.MetricTarget {
		return autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: new(resource.MustParse(target))}
	}
	perPod := func(target string) autoscalingv2.MetricTarget {
		return autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse(target))}
	}
	cases := []struct {
		name   string
		metric autoscalingv2.MetricSpec
		wants  int // with one pod and a maximum of three
	}{
		{"service-value", object("Service", "v1", "front", rps, all("20")), 3},             // doubles and doubles again
		{"service-average", object("Service", "v1", "front", rps, perPod("22")), 2},        // 40 over 22
		{"deployment-average", object("Deployment", "apps/v1", "a", rps, perPod("12")), 2}, // 20 over 12
		{"deployment-value", object("Deployment", "apps/v1", "a", rps, all("40")), 1},      // half of what is wanted
		{"namespace-average", object("Namespace", "v1", namespace, "namespace_requests_per_second", perPod("22")), 2},
		{"external-service", ofExternal("service", "only-a", perPod("12")), 2}, // 20 over 12
		{"external-deployment", ofExternal("deployment", "b", all("9")), 3},    // twice too much
	}
	for _, c := range cases {
		worker := inference(c.name, "{startup: 0s}", 0)
		worker.Spec.Template.Labels["app"] = "worker"
		worker.Spec.Template.Annotations["prometheus.io/scrape"] = "false"
		shared.deploy(t, namespace, worker)
		shared.autoscaleOn(t, namespace, c.name, c.metric)
	}
	for _, c := range cases {
		eventually(t, 40*time.Second, func(t require.TestingT) {
			hpa, err := shared.Client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(ctx, c.name, metav1.GetOptions{})
			require.NoError(t, err)
			require.Equal(t, int32(c.wants), hpa.Status.CurrentReplicas, "%s: %+v", c.name, hpa.Status.Conditions)
			require.Equal(t, corev1.ConditionTrue, shared.scalingActive(ctx, t, namespace, c.name).Status)
		})
	}

	// What the HPA does not look at: times and windows are the data's own.
	a := shared.get(ctx, t, custom2+"/namespaces/"+namespace+"/services/front/"+rps)
	values, err := a.values()
	require.NoError(t, err)
	v := values["front"]
	assert.InDelta(t, 2*each, number(v), 2)
	assert.Equal(t, "v1", v.DescribedObject.APIVersion)
	assert.Equal(t, new(int64(10)), v.WindowSeconds)
	assert.LessOrEqual(t, a.began.Sub(v.Timestamp.Time), freshest+wholeSecond)
	// Both Services at once are the same requests twice: the sum would be wrong, and is refused.
	why := shared.get(ctx, t, external+"/namespaces/"+namespace+"/"+rps).refusal(t, http.StatusBadRequest)
	assert.Contains(t, why, "ambiguous")
	t.Log(why)
}

// service makes a Service without ports of note.
func (c *cluster) service(t *testing.T, namespace, name string, selector map[string]string) {
	t.Helper()
	_, err := c.Client.CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}},
		Spec: corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{
			{Name: "exporter", Port: 80, TargetPort: intstr.FromInt32(exporterPort)},
		}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// TestLoadingPodsAreMissing: a pod whose exporter speaks while its weights load has no value, unless the rule wants it, and
// the HPA counts it as missing instead of as idle.
func TestLoadingPodsAreMissing(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	pods := shared.export(t, namespace, map[string]*exporter{"ready": says("sglang:num_queue_reqs 10\nload_level 10\n")})
	spec := ofPodsWith("load_level", "sum by (namespace, pod) (load_level)")
	spec.IncludeLoading = true
	shared.rule(t, "load-level", spec)

	loading := exporting("loading")
	loading.Spec.Template.Annotations["headroom.dev/simulate"] = "{startup: 12s}"
	shared.deploy(t, namespace, loading)
	var pod corev1.Pod
	eventually(t, 20*time.Second, func(t require.TestingT) {
		list, err := shared.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "name=loading"})
		require.NoError(t, err)
		require.Len(t, list.Items, 1)
		require.NotEmpty(t, list.Items[0].Status.PodIP)
		pod = list.Items[0]
	})
	began := time.Now()
	says("sglang:num_queue_reqs 0\nload_level 0\n").serve(t, pod, nil)
	pods["loading"] = pod
	watch := shared.newWatch(t, namespace, pods, map[string]time.Duration{"requests_waiting": mostP95, "load_level": mostP95})
	watch.await(t, "load_level", []string{"loading", "ready"}, 8*time.Second)
	watch.await(t, "requests_waiting", []string{"ready"}, 5*time.Second)
	settled := time.Now()
	why := shared.get(ctx, t, ofPod(custom2, namespace, pod.Name, "requests_waiting")).refusal(t, http.StatusNotFound)
	assert.Contains(t, why, "the pod is loading: ")
	shared.service(t, namespace, "both", map[string]string{"app": "service"})
	watch.await(t, "requests_waiting", []string{"loading", "ready"}, 30*time.Second)
	t.Logf("%s; its value is served %s after its exporter spoke", why, time.Since(began).Round(tick))
	for _, r := range watch.of("requests_waiting", settled) {
		if _, ok := r.values["loading"]; ok {
			break
		}
		assert.Contains(t, r.values, "ready")
	}
}

// TestTerminatingPodsHaveNoValue deletes pods that go on answering for a while, and looks how long their values stay.
func TestTerminatingPodsHaveNoValue(t *testing.T) {
	ctx, namespace := t.Context(), shared.namespace(t)
	pods := shared.export(t, namespace, map[string]*exporter{"stays": says("sglang:num_queue_reqs 1\n"), "leaves": says("sglang:num_queue_reqs 2\n")})
	shared.service(t, namespace, "both", map[string]string{"app": "service"})
	sum := custom2 + "/namespaces/" + namespace + "/services/both/requests_waiting"
	of := func(t require.TestingT) float64 {
		values, err := shared.get(ctx, t, sum).values()
		require.NoError(t, err)
		require.Contains(t, values, "both")
		return number(values["both"])
	}
	eventually(t, 15*time.Second, func(t require.TestingT) { require.InDelta(t, 3, of(t), 1e-9) })
	watch := shared.newWatch(t, namespace, pods, map[string]time.Duration{"requests_waiting": mostP95})
	watch.await(t, "requests_waiting", []string{"leaves", "stays"}, 5*time.Second)
	zero := int32(0)
	_, err := shared.Client.AppsV1().Deployments(namespace).Patch(ctx, "leaves", "application/merge-patch+json",
		fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, zero), metav1.PatchOptions{})
	require.NoError(t, err)
	began := time.Now()
	eventually(t, 10*time.Second, func(t require.TestingT) {
		pod, err := shared.Client.CoreV1().Pods(namespace).Get(ctx, pods["leaves"].Name, metav1.GetOptions{})
		require.True(t, err != nil || pod.DeletionTimestamp != nil)
	})
	terminating := time.Now()
	watch.await(t, "requests_waiting", []string{"stays"}, 2*time.Second)
	gone := time.Since(terminating)
	eventually(t, 10*time.Second, func(t require.TestingT) { require.InDelta(t, 1, of(t), 1e-9) })
	t.Logf("terminating after %s; without a value %s later; out of the Service's sum %s later",
		terminating.Sub(began).Round(tick/10), gone.Round(tick/10), time.Since(terminating).Round(tick/10))
}

// TestAPIVersionsAgree reads one value in both versions and both encodings.
func TestAPIVersionsAgree(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	pod := shared.export(t, namespace, map[string]*exporter{"one": says("sglang:num_queue_reqs 1234.5678\n")})["one"].Name
	eventually(t, 15*time.Second, func(t require.TestingT) {
		require.Contains(t, shared.values(ctx, t, namespace, "requests_waiting"), pod)
	})
	var old struct {
		Items []struct {
			MetricName string `json:"metricName"`
			Value      string `json:"value"`
			Object     struct {
				Kind, APIVersion, Name, Namespace string
			} `json:"describedObject"`
		} `json:"items"`
	}
	require.NoError(t, json.Unmarshal([]byte(shared.get(ctx, t, ofPod(custom1, namespace, pod, "requests_waiting")).body), &old))
	require.Len(t, old.Items, 1)
	assert.Equal(t, "requests_waiting", old.Items[0].MetricName)
	assert.Equal(t, "1234568m", old.Items[0].Value, "thousandths, rounded")
	assert.Equal(t, "Pod", old.Items[0].Object.Kind)
	assert.Equal(t, "v1", old.Items[0].Object.APIVersion)
	now := shared.values(ctx, t, namespace, "requests_waiting")[pod]
	assert.Equal(t, "1234568m", now.Value.String())
}
