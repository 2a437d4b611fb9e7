package hold

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/network"
)

// serviceDirectives are those about what stands around the workload.
func serviceDirectives() map[string]directive {
	return map[string]directive{
		"begin-hold":     {false, hold},
		"endpoints":      {false, endpoints},
		"disruptions":    {false, disruptions},
		"evict":          {true, evict},
		"gates":          {true, gates},
		"close-gates":    {true, gates},
		"autoscale":      {true, autoscale},
		"metric":         {false, metric},
		"await-replicas": {true, awaitReplicas},
	}
}

// poll asks until there is an answer.
func poll(t *testing.T, within time.Duration, ask func() (string, bool)) string {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		answer, ok := ask()
		if ok {
			return answer
		}
		require.True(t, time.Now().Before(deadline), "after %s: %s", within, answer)
		time.Sleep(pollEvery)
	}
}

// endpoints counts what the Service leads to, by version, in the slices of the real controller for bystanders' pods. Those of the
// lab's kubelet have loopback addresses, which EndpointSlices refuse: for them it is lab/network that writes slices by Ready.
func endpoints(t *testing.T, p *player, _ *datadriven.TestData) string {
	t.Helper()
	ctx, services := t.Context(), p.c.Client.CoreV1().Services(p.namespace)
	_, err := services.Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"name": name}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(port)}},
	}}, metav1.CreateOptions{})
	require.True(t, err == nil || apierrors.IsAlreadyExists(err), "%v", err)
	by := "headroom-lab"
	if p.bystander {
		by = "endpointslice-controller.k8s.io"
		p.c.runEndpointSlices(t)
		for i, pod := range p.pods(t, "") {
			address := fmt.Sprintf("10.9.%d.%d", p.marks%250, i+1)
			patch := fmt.Appendf(nil, `{"status":{"podIP":%q,"podIPs":[{"ip":%q}]}}`, address, address)
			if strings.HasPrefix(pod.Status.PodIP, "127.") {
				_, err := p.c.Client.CoreV1().Pods(p.namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
				require.NoError(t, err)
			}
		}
		p.marks++ // other addresses next time
	}
	return poll(t, time.Minute, func() (string, bool) { return p.slices(t, by) })
}

// slices reads the Service's endpoints; ok when every pod is in them as it is.
func (p *player) slices(t *testing.T, by string) (said string, ok bool) {
	t.Helper()
	list, err := p.c.Client.DiscoveryV1().EndpointSlices(p.namespace).List(t.Context(), metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + name + "," + discoveryv1.LabelManagedBy + "=" + by,
	})
	require.NoError(t, err)
	pods := map[string]corev1.Pod{}
	for _, pod := range p.pods(t, "") {
		pods[pod.Name] = pod
	}
	counts, seen := map[string]int{}, 0
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			pod, known := pods[e.TargetRef.Name]
			if !known || *e.Conditions.Ready != network.Ready(&pod) {
				return "an endpoint is old", false
			}
			seen++
			if *e.Conditions.Ready {
				counts[version(pod.Labels)+" ready"]++
			} else {
				counts[version(pod.Labels)+" not ready"]++
			}
		}
	}
	var parts []string
	for what, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, what))
	}
	slices.SortFunc(parts, func(a, b string) int { return strings.Compare(a[1:], b[1:]) })
	return "endpoints: " + strings.Join(parts, ", ") + "\n", seen == len(pods)
}

// runEndpointSlices runs the real controller, which the lab's controller-manager leaves out. It goes with the test.
func (c *cluster) runEndpointSlices(t *testing.T) {
	t.Helper()
	if c.endpoints != nil {
		return
	}
	components, err := binaries.Ensure(t.Context(), c.Source, c.Progress)
	require.NoError(t, err)
	log, err := os.Create(filepath.Join(c.Dir, "logs", "endpointslice-controller.log"))
	require.NoError(t, err)
	c.endpoints = exec.CommandContext(context.WithoutCancel(t.Context()), components.ControllerManager, "--kubeconfig="+c.Kubeconfig,
		"--controllers=endpointslice-controller", "--leader-elect=false", "--secure-port=0")
	c.endpoints.Stdout, c.endpoints.Stderr = log, log
	require.NoError(t, c.endpoints.Start())
	t.Cleanup(func() {
		assert.NoError(t, c.endpoints.Process.Kill())
		_ = c.endpoints.Wait() // it was killed, which is an error
		assert.NoError(t, log.Close())
		c.endpoints = nil
	})
}

// disruptions makes a PodDisruptionBudget, and says what it counts once it has counted all Ready pods.
func disruptions(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	api := p.c.Client.PolicyV1().PodDisruptionBudgets(p.namespace)
	most := intstr.FromInt32(1)
	_, err := api.Create(t.Context(), &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: policyv1.PodDisruptionBudgetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"name": name}}, MaxUnavailable: &most,
	}}, metav1.CreateOptions{})
	require.True(t, err == nil || apierrors.IsAlreadyExists(err), "%v", err)
	return poll(t, time.Minute, func() (string, bool) {
		b, err := api.Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		ready := 0
		for _, pod := range p.pods(t, "") {
			if network.Ready(&pod) {
				ready++
			}
		}
		s := b.Status
		said := fmt.Sprintf("maxUnavailable 1: expected %d, healthy %d of %d Ready, desired %d, allowed %d\n",
			s.ExpectedPods, s.CurrentHealthy, ready, s.DesiredHealthy, s.DisruptionsAllowed)
		return said, s.ObservedGeneration == b.Generation && int(s.CurrentHealthy) == ready && len(s.DisruptedPods) == 0
	})
}

// status prints what the Deployment reports, without times.
func status(t *testing.T, p *player, _ *datadriven.TestData) string {
	t.Helper()
	d, err := p.c.Client.AppsV1().Deployments(p.namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	s := d.Status
	out := fmt.Sprintf("spec.replicas %d; status: replicas %d, updated %d, ready %d, available %d, unavailable %d\n",
		*d.Spec.Replicas, s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas, s.UnavailableReplicas)
	for _, c := range s.Conditions {
		out += p.plain(fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason)) + "\n"
	}
	return out
}

// evict asks for the eviction of n pods of a version at once.
func evict(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	n, err := strconv.Atoi(d.CmdArgs[1].Key)
	require.NoError(t, err)
	done, refused := 0, ""
	for _, pod := range p.pods(t, d.CmdArgs[0].Key)[:n] {
		err := p.c.Client.PolicyV1().Evictions(p.namespace).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: p.namespace}})
		var status *apierrors.StatusError
		switch {
		case err == nil:
			done++
		case errors.As(err, &status) && status.Status().Code == 429:
			refused = "; then: " + status.Error()
		default:
			require.NoError(t, err)
		}
	}
	return fmt.Sprintf("evicted %d%s\n", done, refused)
}

// gates opens (or closes) the readiness gate of n pods that have the other state.
func gates(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	n, err := strconv.Atoi(d.CmdArgs[0].Key)
	require.NoError(t, err)
	opening := d.Cmd == "gates"
	state := corev1.ConditionFalse
	if opening {
		state = corev1.ConditionTrue
	}
	for range n { // one by one: the next pod may come only when the one before is available
		var chosen corev1.Pod
		poll(t, time.Minute, func() (string, bool) {
			for _, pod := range p.pods(t, "") {
				if len(pod.Spec.ReadinessGates) > 0 && (opening && closed(&pod) || !opening && network.Ready(&pod)) {
					chosen = pod
					return "", true
				}
			}
			return "no pod has such a gate", false
		})
		patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":%q,"status":%q,"lastTransitionTime":%q}]}}`, gate, state, time.Now().UTC().Format(time.RFC3339))
		_, err := p.c.Client.CoreV1().Pods(p.namespace).Patch(t.Context(), chosen.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		require.NoError(t, err)
		poll(t, time.Minute, func() (string, bool) {
			now, err := p.c.Client.CoreV1().Pods(p.namespace).Get(t.Context(), chosen.Name, metav1.GetOptions{})
			return "the gate's pod has not changed", err == nil && network.Ready(now) == opening
		})
	}
	return ""
}

const (
	demand = "hold_demand"
	most   = 16 // of the HPA
)

// metric sets what the external metric says.
func metric(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	p.setMetric(t, d.CmdArgs[0].Key)
	return ""
}

func (p *player) setMetric(t *testing.T, value string) {
	t.Helper()
	rule := fmt.Sprintf(`apiVersion: headroom.dev/v1alpha1
kind: MetricRule
metadata: {name: hold-demand}
spec:
  metric: %s
  expr: sum by (namespace) (vllm:num_requests_waiting{namespace=%q}) * 0 + %s
  external: {}
`, demand, p.namespace, value)
	path := filepath.Join(t.TempDir(), "rule.yaml")
	require.NoError(t, os.WriteFile(path, []byte(rule), 0o600))
	_, err := p.c.Cluster().Run(t.Context(), "apply", "-f", path)
	require.NoError(t, err)
	poll(t, time.Minute, func() (string, bool) {
		out, err := p.c.Cluster().Run(t.Context(), "get", "--raw", "/apis/external.metrics.k8s.io/v1beta1/namespaces/"+p.namespace+"/"+demand)
		return fmt.Sprintf("%s %v", out, err), err == nil && strings.Contains(out, `"value":"`+value+`"`)
	})
}

// autoscale makes an HPA of 10 for each replica.
func autoscale(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	if !p.c.installed {
		require.NoError(t, p.c.Cluster().Install(t.Context(), p.c.Progress))
		p.c.installed = true
	}
	p.setMetric(t, text(t, d, "metric", "80"))
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name},
		MinReplicas:    new(int32(1)), MaxReplicas: most,
		Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: demand},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("10"))},
		}}},
		Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: new(int32(0))}},
	}}
	if d.HasArg("tolerance") {
		up, down := resource.MustParse(text(t, d, "tolerance", "")), resource.MustParse(text(t, d, "tolerance", ""))
		hpa.Spec.Behavior.ScaleDown.Tolerance = &down
		hpa.Spec.Behavior.ScaleUp = &autoscalingv2.HPAScalingRules{Tolerance: &up}
	}
	_, err := p.c.Client.AutoscalingV2().HorizontalPodAutoscalers(p.namespace).Create(t.Context(), hpa, metav1.CreateOptions{})
	require.NoError(t, err)
	return p.awaitHPA(t)
}

// awaitHPA waits until the HPA has decided three times with the same result: it decides each second, and a metric or a pod that it
// has not seen would come with the next. It has no generation that it tells, so its decisions are counted by looks at the target.
func (p *player) awaitHPA(t *testing.T) string {
	t.Helper()
	last, same := "", 0
	next := time.Now()
	return poll(t, settleDeadline, func() (string, bool) {
		h, err := p.c.Client.AutoscalingV2().HorizontalPodAutoscalers(p.namespace).Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		d, err := p.c.Client.AppsV1().Deployments(p.namespace).Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		said := fmt.Sprintf("spec.replicas %d; HPA: current %d, desired %d", *d.Spec.Replicas, h.Status.CurrentReplicas, h.Status.DesiredReplicas)
		for _, c := range h.Status.Conditions {
			if c.Type == autoscalingv2.ScalingActive && c.Status != corev1.ConditionTrue {
				return said + ", " + c.Message, false
			}
		}
		switch {
		case said != last || h.Status.ObservedGeneration == nil:
			last, same, next = said, 0, time.Now().Add(hpaSync)
		case time.Now().After(next):
			same, next = same+1, time.Now().Add(hpaSync)
		}
		return said + "\n", same >= 3
	})
}

// awaitReplicas waits until the HPA rests.
func awaitReplicas(t *testing.T, p *player, _ *datadriven.TestData) string {
	t.Helper()
	p.settle(t)
	return p.awaitHPA(t)
}
