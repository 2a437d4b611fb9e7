package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/api/v1alpha1"
)

// A pod serves far more than scaled is told that it can: what scales is the policy, and no queue forms.
const (
	scaledSpec = "{startup: 1s, slots: 32, serviceTime: 20ms, queue: 256, metricNames: http}"
	// Requests/s, of which a replica is planned to serve 24: three replicas. Within 10 s Poisson arrivals stray by 2.5 of them, and
	// it takes 12 to want a replica more or less.
	scaledRate = 60.0
	scaledMost = 4
	wished     = "/" + v1alpha1.MetricDesiredReplicas
)

// scaled is a policy for a Deployment of its name, of one to four replicas that serve 30 requests/s each. The small step has it
// looked at every second.
func scaled(mode v1alpha1.ScaleMode) v1alpha1.ScalePolicySpec {
	return v1alpha1.ScalePolicySpec{
		TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat"},
		Mode:      mode, MaxReplicas: scaledMost, CapacityPerReplica: new(resource.MustParse("30")),
		UtilizationPercent: 80, ScaleDownWindow: &metav1.Duration{Duration: time.Second},
		Forecast: v1alpha1.ForecastOptions{Step: &metav1.Duration{Duration: time.Second}, Disabled: true},
	}
}

func (c *cluster) policies(namespace string) dynamic.ResourceInterface {
	config := rest.CopyConfig(c.Config)
	config.ContentType, config.AcceptContentTypes = "", "" // custom resources have no protobuf
	return dynamic.NewForConfigOrDie(config).Resource(v1alpha1.GroupVersion().WithResource(v1alpha1.ResourceScalePolicies)).Namespace(namespace)
}

func (c *cluster) policy(t *testing.T, namespace string, spec v1alpha1.ScalePolicySpec) {
	t.Helper()
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&v1alpha1.ScalePolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: v1alpha1.KindScalePolicy},
		ObjectMeta: metav1.ObjectMeta{Name: "chat"}, Spec: spec,
	})
	require.NoError(t, err)
	_, err = c.policies(namespace).Create(t.Context(), &unstructured.Unstructured{Object: raw}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// changePolicy merges JSON into the policy.
func (c *cluster) changePolicy(ctx context.Context, t *testing.T, namespace, patch string) {
	t.Helper()
	_, err := c.policies(namespace).Patch(ctx, "chat", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
}

func (c *cluster) policyOf(ctx context.Context, t require.TestingT, namespace string) *v1alpha1.ScalePolicy {
	found, err := c.policies(namespace).Get(ctx, "chat", metav1.GetOptions{})
	require.NoError(t, err)
	var p v1alpha1.ScalePolicy
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(found.Object, &p))
	return &p
}

// decided waits until the policy has decided on so many replicas.
func (c *cluster) decided(t *testing.T, namespace string, replicas int32) *v1alpha1.ScalePolicy {
	t.Helper()
	var p *v1alpha1.ScalePolicy
	ctx := t.Context()
	eventually(t, time.Minute, func(t require.TestingT) {
		p = c.policyOf(ctx, t, namespace)
		require.NotNil(t, p.Status.DesiredReplicas, "%+v", p.Status.Conditions)
		require.Equal(t, replicas, *p.Status.DesiredReplicas, "%+v", p.Status.Conditions)
	})
	return p
}

// because waits until the policy's condition has a reason, and returns it.
func (c *cluster) because(t *testing.T, namespace, reason string) metav1.Condition {
	t.Helper()
	var found *metav1.Condition
	ctx := t.Context()
	eventually(t, time.Minute, func(t require.TestingT) {
		found = meta.FindStatusCondition(c.policyOf(ctx, t, namespace).Status.Conditions, v1alpha1.ConditionReady)
		require.NotNil(t, found)
		require.Equal(t, reason, found.Reason, found.Message)
	})
	return *found
}

func (c *cluster) hpaOf(ctx context.Context, t require.TestingT, namespace string) *autoscalingv2.HorizontalPodAutoscaler {
	h, err := c.Client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(ctx, "chat", metav1.GetOptions{})
	require.NoError(t, err)
	return h
}

func (c *cluster) noHPA(t *testing.T, namespace string) {
	t.Helper()
	list, err := c.Client.AutoscalingV2().HorizontalPodAutoscalers(namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Empty(t, list.Items)
}

func (c *cluster) chat(t *testing.T, namespace string) *appsv1.Deployment {
	t.Helper()
	d, err := c.Client.AppsV1().Deployments(namespace).Get(t.Context(), "chat", metav1.GetOptions{})
	require.NoError(t, err)
	return d
}

// everyPod returns the addresses of the service's Ready pods, asked again for each request.
func (c *cluster) everyPod(t *testing.T, namespace string) func() []string {
	t.Helper()
	ctx := t.Context()
	return func() []string {
		pods, err := c.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "name=chat"})
		if err != nil {
			return nil
		}
		var list []string
		for i := range pods.Items {
			for _, condition := range pods.Items[i].Status.Conditions {
				if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue && pods.Items[i].DeletionTimestamp == nil {
					list = append(list, addressOf(pods.Items[i]))
				}
			}
		}
		return list
	}
}

// TestScalePolicyActs scales a Deployment up and down through the HPA that the policy owns, and lets go of it.
func TestScalePolicyActs(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.deploy(t, namespace, inference("chat", scaledSpec, 0))
	shared.ready(t, namespace, "name=chat", 1)
	shared.policy(t, namespace, scaled(v1alpha1.ModeAct))
	stop := send(t, shared.everyPod(t, namespace), scaledRate, 100)
	began := time.Now()
	shared.ready(t, namespace, "name=chat", 3)
	t.Logf("three pods Ready after %s", time.Since(began).Round(tick))
	var p *v1alpha1.ScalePolicy
	eventually(t, time.Minute, func(t require.TestingT) {
		// While requests move from one pod to three, what the old one served within the rate's window counts beside what the new ones
		// serve already, and a fourth may be decided for some seconds.
		p = shared.policyOf(ctx, t, namespace)
		require.NotNil(t, p.Status.DesiredReplicas)
		require.EqualValues(t, 3, *p.Status.DesiredReplicas)
		require.True(t, slices.ContainsFunc(p.Status.Decisions, func(d v1alpha1.DecisionRecord) bool {
			return d.To == 3 && (d.Limit == "Demand" || d.Limit == "WithinTolerance") && strings.Contains(d.Message, "at 24 per replica needs ")
		}), "%+v", p.Status.Decisions)
	})
	h := shared.hpaOf(ctx, t, namespace)
	assert.True(t, metav1.IsControlledBy(h, p))
	assert.Equal(t, resource.MustParse("0"), *h.Spec.Behavior.ScaleDown.Tolerance)
	eventually(t, 30*time.Second, func(t require.TestingT) { // on a busy machine a queue may ask for a fourth, for a moment
		items := externalValues(t, shared.get(ctx, t, external+"/namespaces/"+namespace+wished+"?labelSelector=scalepolicy%3Dchat"))
		require.Len(t, items, 1)
		require.EqualValues(t, 3, items[0].Value.Value())
	})

	stop()
	left := shared.ready(t, namespace, "name=chat", 1)
	assert.Contains(t, left[0].Annotations, corev1.PodDeletionCost, "busy pods were to be spared")
	shared.decided(t, namespace, 1)

	shared.changePolicy(ctx, t, namespace, `{"spec":{"mode":"Observe"}}`)
	eventually(t, 30*time.Second, func(t require.TestingT) {
		_, err := shared.Client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(ctx, "chat", metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err), "the policy's HPA goes with the mode")
		require.Equal(t, http.StatusNotFound, shared.get(ctx, t, external+"/namespaces/"+namespace+wished).code, "and its wish")
	})
}

// TestScalePolicyObserves decides and changes nothing.
func TestScalePolicyObserves(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.deploy(t, namespace, inference("chat", scaledSpec, 0))
	shared.ready(t, namespace, "name=chat", 1)
	shared.policy(t, namespace, scaled(v1alpha1.ModeObserve))
	before := shared.chat(t, namespace)
	send(t, shared.everyPod(t, namespace), scaledRate, 100)
	p := shared.decided(t, namespace, 3)
	assert.EqualValues(t, 1, *p.Status.CurrentReplicas)
	assert.InDelta(t, scaledRate, p.Status.Demand.Current.AsApproximateFloat64(), 24)
	eventually(t, time.Minute, func(t require.TestingT) { // the account is written with the numbers, every 30 s
		a := shared.policyOf(ctx, t, namespace).Status.Account
		require.NotNil(t, a)
		require.Greater(t, a.PolicyReplicaHours.AsApproximateFloat64(), a.UsedReplicaHours.AsApproximateFloat64())
		require.Greater(t, a.ShortReplicaHours.AsApproximateFloat64(), a.PolicyShortReplicaHours.AsApproximateFloat64())
	})
	shared.noHPA(t, namespace)
	after := shared.chat(t, namespace)
	assert.Equal(t, before.Generation, after.Generation, "nobody has written the Deployment")
	assert.Equal(t, http.StatusNotFound, shared.get(ctx, t, external+"/namespaces/"+namespace+wished).code)
}

// TestScalePolicyAdopts leaves another's HPA alone, takes it over when it is told to, and gives it back.
func TestScalePolicyAdopts(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.deploy(t, namespace, inference("chat", scaledSpec, 0))
	shared.ready(t, namespace, "name=chat", 1)
	shared.autoscale(t, namespace, "chat", rps, "100")
	theirs := shared.hpaOf(ctx, t, namespace)
	shared.policy(t, namespace, scaled(v1alpha1.ModeAct))
	refusal := shared.because(t, namespace, v1alpha1.ReasonAutoscalerConflict)
	assert.Equal(t, metav1.ConditionFalse, refusal.Status)
	assert.Equal(t, `spec.autoscaler: HorizontalPodAutoscaler "chat" scales chat already: delete it, or set adopt to take it over`, refusal.Message)
	now := shared.hpaOf(ctx, t, namespace)
	assert.Equal(t, theirs.Spec, now.Spec)
	assert.Equal(t, theirs.ObjectMeta.OwnerReferences, now.OwnerReferences)
	assert.Equal(t, http.StatusNotFound, shared.get(ctx, t, external+"/namespaces/"+namespace+wished).code)

	shared.changePolicy(ctx, t, namespace, `{"spec":{"autoscaler":{"adopt":true}}}`)
	shared.because(t, namespace, v1alpha1.ReasonDecided)
	eventually(t, 30*time.Second, func(t require.TestingT) {
		h := shared.hpaOf(ctx, t, namespace)
		require.True(t, metav1.IsControlledBy(h, shared.policyOf(ctx, t, namespace)))
		require.Equal(t, v1alpha1.MetricDesiredReplicas, h.Spec.Metrics[0].External.Metric.Name)
		require.Equal(t, theirs.UID, h.UID, "the same object, with what else it has")
		require.Equal(t, corev1.ConditionTrue, shared.scalingActive(ctx, t, namespace, "chat").Status)
	})

	shared.changePolicy(ctx, t, namespace, `{"spec":{"mode":"Observe"}}`)
	eventually(t, 30*time.Second, func(t require.TestingT) {
		h := shared.hpaOf(ctx, t, namespace)
		require.Empty(t, h.OwnerReferences)
		require.Equal(t, theirs.Spec, h.Spec)
	})
}

// TestScalePolicyHoldsWithoutData takes away the metric that a policy goes by.
func TestScalePolicyHoldsWithoutData(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.deploy(t, namespace, inference("chat", strings.Replace(scaledSpec, "metricNames: http", "metricNames: vllm", 1), 0))
	shared.ready(t, namespace, "name=chat", 1)
	// Each pod has a demand of 45: one pod asks for two, two for four.
	shared.rule(t, "e2e-hold", v1alpha1.MetricRuleSpec{
		Metric: "e2e_hold", Expr: "45 + 0 * sum by (namespace, pod) (vllm:num_requests_running)",
		Object: &v1alpha1.ObjectTarget{Resource: "pods"},
	})
	spec := scaled(v1alpha1.ModeAct)
	spec.Demand = v1alpha1.DemandSource{Metric: "e2e_hold"}
	shared.policy(t, namespace, spec)
	shared.ready(t, namespace, "name=chat", scaledMost)

	shared.dropRule(t, "e2e-hold")
	held := shared.because(t, namespace, v1alpha1.ReasonHeld)
	assert.Equal(t, metav1.ConditionTrue, held.Status)
	assert.Contains(t, held.Message, fmt.Sprintf("held at %d: demand is unknown", scaledMost))
	before := shared.policyOf(ctx, t, namespace).Status.Account.UsedReplicaHours
	eventually(t, time.Minute, func(t require.TestingT) { // written every 30 s, in which the HPA decides fifteen times
		now := shared.policyOf(ctx, t, namespace).Status.Account.UsedReplicaHours
		require.Positive(t, now.Cmp(before))
	})
	assert.Equal(t, corev1.ConditionTrue, shared.scalingActive(ctx, t, namespace, "chat").Status)
	items := externalValues(t, shared.get(ctx, t, external+"/namespaces/"+namespace+wished))
	require.Len(t, items, 1)
	assert.EqualValues(t, scaledMost, items[0].Value.Value())
	assert.EqualValues(t, scaledMost, *shared.chat(t, namespace).Spec.Replicas)
}

// TestScalePolicyRefusals tells what is wrong with a policy, by its field.
func TestScalePolicyRefusals(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	spec := scaled(v1alpha1.ModeAct)
	spec.TargetRef = v1alpha1.TargetReference{APIVersion: "v1", Kind: "ConfigMap", Name: "kube-root-ca.crt"}
	shared.policy(t, namespace, spec)
	f := func(patch, reason, message string) {
		t.Helper()
		shared.changePolicy(ctx, t, namespace, patch)
		eventually(t, 30*time.Second, func(t require.TestingT) {
			found := meta.FindStatusCondition(shared.policyOf(ctx, t, namespace).Status.Conditions, v1alpha1.ConditionReady)
			require.NotNil(t, found)
			require.Equal(t, reason+" "+message, found.Reason+" "+found.Message)
		})
	}
	f(`{}`, v1alpha1.ReasonInvalid, "spec.targetRef.kind: ConfigMap has no scale subresource")
	f(`{"spec":{"targetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"none"}}}`, v1alpha1.ReasonTargetNotFound,
		fmt.Sprintf("spec.targetRef.name: there is no Deployment %q in namespace %s", "none", namespace))
	f(`{"spec":{"targetRef":{"apiVersion":"apps/v1","kind":"Deploymint","name":"none"}}}`, v1alpha1.ReasonTargetNotFound,
		"spec.targetRef.kind: the cluster has no Deploymint in apps/v1")
	f(`{"spec":{"targetRef":{"apiVersion":"v1","kind":"Namespace","name":"default"}}}`, v1alpha1.ReasonInvalid,
		"spec.targetRef.kind: Namespace is in no namespace")
	f(`{"spec":{"schedule":[{"name":"a","start":"0 25 * * *","duration":"1h","minReplicas":1}]}}`, v1alpha1.ReasonInvalid,
		`spec.schedule[0].start: "0 25 * * *" is no cron expression: end of range (25) above maximum (23): 25`)
	shared.noHPA(t, namespace)

	_, err := shared.policies(namespace).Patch(ctx, "chat", types.MergePatchType, []byte(`{"spec":{"minReplicas":9}}`), metav1.PatchOptions{})
	require.ErrorContains(t, err, "minReplicas must not be above maxReplicas")
}

// TestScalePolicyOutlivesItsLeader deletes the controller that leads. It is not parallel: other tests would wait for the next.
func TestScalePolicyOutlivesItsLeader(t *testing.T) {
	ctx, namespace := t.Context(), shared.namespace(t)
	shared.deploy(t, namespace, inference("chat", scaledSpec, 0))
	shared.ready(t, namespace, "name=chat", 1)
	spec := scaled(v1alpha1.ModeAct)
	spec.ScaleDownWindow = &metav1.Duration{Duration: time.Minute}
	shared.policy(t, namespace, spec)
	send(t, shared.everyPod(t, namespace), scaledRate, 100)
	shared.ready(t, namespace, "name=chat", 3)
	var before *v1alpha1.ScalePolicy
	eventually(t, time.Minute, func(t require.TestingT) { // written every 30 s
		before = shared.policyOf(ctx, t, namespace)
		require.NotNil(t, before.Status.History)
		require.Greater(t, before.Status.History.Samples, int32(10))
		require.Equal(t, "Observed", before.Status.History.Source)
	})
	leader := shared.leader(ctx, t)
	require.NoError(t, shared.Client.CoreV1().Pods("headroom-system").Delete(ctx, leader, metav1.DeleteOptions{}))
	var after *v1alpha1.ScalePolicy
	began := time.Now()
	eventually(t, 90*time.Second, func(t require.TestingT) {
		require.NotEqual(t, leader, shared.leader(ctx, t))
		after = shared.policyOf(ctx, t, namespace)
		require.NotNil(t, after.Status.History)
		require.Equal(t, "Checkpoint", after.Status.History.Source)
	})
	t.Logf("the successor had decided after %s", time.Since(began).Round(tick))
	assert.GreaterOrEqual(t, after.Status.History.Samples, before.Status.History.Samples)
	assert.Equal(t, before.Status.History.Since, after.Status.History.Since)
	assert.Equal(t, before.Status.Account.Since, after.Status.Account.Since)
	assert.GreaterOrEqual(t, after.Status.Account.UsedReplicaHours.AsApproximateFloat64(), before.Status.Account.UsedReplicaHours.AsApproximateFloat64())
	for _, d := range after.Status.Decisions { // noise may add a replica, the change of leaders takes none away
		if d.Time.After(before.Status.Decisions[0].Time.Time) {
			assert.GreaterOrEqual(t, d.To, d.From, d.Message)
		}
	}
	eventually(t, 90*time.Second, func(t require.TestingT) { // a successor that is new is to be found and scraped first; a fourth replica stays for a minute
		items := externalValues(t, shared.get(ctx, t, external+"/namespaces/"+namespace+wished))
		require.Len(t, items, 1)
		require.EqualValues(t, 3, items[0].Value.Value())
	})
	eventually(t, 15*time.Second, func(t require.TestingT) {
		d, err := shared.Client.AppsV1().Deployments(namespace).Get(ctx, "chat", metav1.GetOptions{})
		require.NoError(t, err)
		require.EqualValues(t, 3, *d.Spec.Replicas)
	})
}

// leader returns the pod that holds the controller's Lease. Pods are processes of one host here, so the identity tells none
// apart: the one with series of policies leads.
func (c *cluster) leader(ctx context.Context, t require.TestingT) string {
	pods, err := c.Client.CoreV1().Pods("headroom-system").List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=headroom-controller"})
	require.NoError(t, err)
	var leaders []string
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.DeletionTimestamp != nil {
			continue
		}
		a, err := fetch(ctx, http.DefaultClient, "http://"+p.Status.PodIP+":9402/metrics")
		require.NoError(t, err)
		if leads(a.body) {
			leaders = append(leaders, p.Name)
		}
	}
	require.Len(t, leaders, 1)
	return leaders[0]
}

// leads reads client-go's own metric.
func leads(exposition string) bool {
	return strings.Contains(exposition, `leader_election_master_status{name="headroom-controller"} 1`)
}
