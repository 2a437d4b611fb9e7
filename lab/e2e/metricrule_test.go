package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"

	"headroom.dev/headroom/api/v1alpha1"
)

// effect is how soon a change of a MetricRule is to be felt.
const effect = 2 * time.Second

func (c *cluster) rules() dynamic.ResourceInterface {
	config := rest.CopyConfig(c.Config)
	config.ContentType, config.AcceptContentTypes = "", "" // custom resources have no protobuf
	return dynamic.NewForConfigOrDie(config).Resource(v1alpha1.GroupVersion().WithResource(v1alpha1.ResourceMetricRules))
}

// rule creates a MetricRule, which goes with the test.
func (c *cluster) rule(t *testing.T, name string, spec v1alpha1.MetricRuleSpec) {
	t.Helper()
	api := c.rules()
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&v1alpha1.MetricRule{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: v1alpha1.KindMetricRule},
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec,
	})
	require.NoError(t, err)
	_, err = api.Create(t.Context(), &unstructured.Unstructured{Object: raw}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = api.Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{}) // or the test has done it
	})
}

func (c *cluster) dropRule(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, c.rules().Delete(t.Context(), name, metav1.DeleteOptions{}))
}

// changeRule merges JSON into a MetricRule.
func (c *cluster) changeRule(t *testing.T, name, patch string) {
	t.Helper()
	_, err := c.rules().Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
}

// ruleStatus returns a MetricRule's status and its condition Ready, once they are about its present spec.
func (c *cluster) ruleStatus(ctx context.Context, t require.TestingT, name string) (v1alpha1.MetricRuleStatus, metav1.Condition) {
	raw, err := c.rules().Get(ctx, name, metav1.GetOptions{})
	require.NoError(t, err)
	var rule v1alpha1.MetricRule
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(raw.Object, &rule))
	require.Equal(t, rule.Generation, rule.Status.ObservedGeneration, "%+v", rule.Status)
	ready := meta.FindStatusCondition(rule.Status.Conditions, v1alpha1.ConditionReady)
	require.NotNil(t, ready)
	return rule.Status, *ready
}

// awaitRule waits until the condition Ready of a MetricRule is so.
func (c *cluster) awaitRule(t *testing.T, name string, status metav1.ConditionStatus, reason, message string) v1alpha1.MetricRuleStatus {
	t.Helper()
	ctx := t.Context()
	var out v1alpha1.MetricRuleStatus
	eventually(t, 20*time.Second, func(t require.TestingT) {
		s, ready := c.ruleStatus(ctx, t, name)
		require.Equal(t, status, ready.Status, "%+v", ready)
		require.Equal(t, reason, ready.Reason, "%+v", ready)
		require.Contains(t, ready.Message, message)
		out = s
	})
	return out
}

// ofPodsWith is a rule for pods.
func ofPodsWith(metric, expr string) v1alpha1.MetricRuleSpec {
	return v1alpha1.MetricRuleSpec{Metric: metric, Expr: expr, Object: &v1alpha1.ObjectTarget{Resource: "pods"}}
}

// served is what each replica of the adapter says of one metric of one pod, asked directly with admin rights; nil stands
// for a 404.
func (c *cluster) served(ctx context.Context, t require.TestingT, namespace, pod, metric string) []*v1beta2.MetricValue {
	var out []*v1beta2.MetricValue
	for _, base := range c.replicas(ctx, t) {
		a, err := fetch(ctx, c.straight, base+ofPod(custom2, namespace, pod, metric))
		require.NoError(t, err)
		values, err := a.values()
		require.NoError(t, err)
		if v, ok := values[pod]; ok {
			out = append(out, &v)
		} else {
			out = append(out, nil)
		}
	}
	return out
}

// replicas are the addresses of the adapter's Ready replicas.
func (c *cluster) replicas(ctx context.Context, t require.TestingT) []string {
	var out []string
	for _, pod := range c.adapters(ctx, t) {
		out = append(out, "https://"+net.JoinHostPort(pod.Status.PodIP, "6443"))
	}
	return out
}

// takesEffect measures how long it takes until both replicas serve a value, or none (nil), after a change.
func (c *cluster) takesEffect(t *testing.T, namespace, pod, metric string, want *float64, change func()) time.Duration {
	t.Helper()
	ctx, began := t.Context(), time.Now()
	change()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		for _, v := range c.served(ctx, t, namespace, pod, metric) {
			if want == nil {
				require.Nil(t, v)
				continue
			}
			require.NotNil(t, v)
			require.InDelta(t, *want, number(*v), 1e-9)
		}
	}, 10*time.Second, tick/4)
	return time.Since(began)
}

// TestMetricRuleTakesEffect creates, changes and deletes a rule, again and again, while another rule's values stay fresh.
func TestMetricRuleTakesEffect(t *testing.T) {
	namespace := shared.namespace(t)
	pods := shared.export(t, namespace, map[string]*exporter{"one": says("rule_depth 5\nother_depth 7\n")})
	pod := pods["one"].Name
	shared.rule(t, "other-depth", ofPodsWith("other_depth", "sum by (namespace, pod) (other_depth)"))
	watch := shared.newWatch(t, namespace, pods, map[string]time.Duration{"other_depth": mostP95})
	watch.await(t, "other_depth", []string{"one"}, 10*time.Second)
	began := time.Now()

	took := map[string][]time.Duration{}
	measure := func(what string, want *float64, change func()) {
		took[what] = append(took[what], shared.takesEffect(t, namespace, pod, "rule_depth", want, change))
	}
	for range 3 {
		measure("created", new(5.0), func() { shared.rule(t, "rule-depth", ofPodsWith("rule_depth", "sum by (namespace, pod) (rule_depth)")) })
		measure("changed", new(50.0), func() {
			shared.changeRule(t, "rule-depth", `{"spec":{"expr":"10 * max by (namespace, pod) (rule_depth)"}}`)
		})
		measure("broken", nil, func() { shared.changeRule(t, "rule-depth", `{"spec":{"expr":"sum by (rule_depth"}}`) })
		measure("mended", new(5.0), func() { shared.changeRule(t, "rule-depth", `{"spec":{"expr":"min by (namespace, pod) (rule_depth)"}}`) })
		measure("deleted", nil, func() { shared.dropRule(t, "rule-depth") })
	}
	for what, list := range took {
		slices.Sort(list)
		t.Logf("%s: felt by both replicas after %s (median), %s (longest)", what, list[1].Round(tick/10), list[2].Round(tick/10))
		assert.LessOrEqual(t, list[1], effect, what)
	}
	watch.end(t)
	watch.assertFresh(t, "other_depth", []string{"one"}, began, 3*time.Second)
}

// TestMetricRuleStatus reads what people are told of good and bad rules. None of them harms the good one.
func TestMetricRuleStatus(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	pods := shared.export(t, namespace, map[string]*exporter{"one": says("good_level 1\nparted_level{part=\"a\"} 1\nparted_level{part=\"b\"} 2\n")})
	watch := shared.newWatch(t, namespace, pods, map[string]time.Duration{"good_level": mostP95})
	shared.rule(t, "good-level", ofPodsWith("good_level", "sum by (namespace, pod) (good_level)"))
	watch.await(t, "good_level", []string{"one"}, 10*time.Second)
	began := time.Now()

	for _, bad := range []struct {
		name, expr string
		status     metav1.ConditionStatus
		reason     string
		message    string
	}{
		{"bad-syntax", "sum by (pod) (good_level", metav1.ConditionFalse, v1alpha1.ReasonInvalid, "1:25: "},
		{"bad-type", `"good_level"`, metav1.ConditionFalse, v1alpha1.ReasonInvalid, "1:1: "},
		{"bad-bounds", "max_over_time(vector(1)[1h:1ms])", metav1.ConditionFalse, v1alpha1.ReasonInvalid, "subqueries"},
		{"bad-labels", "sum(good_level)", metav1.ConditionTrue, v1alpha1.ReasonEvaluated, "namespace"},
		{"bad-twice", "parted_level", metav1.ConditionTrue, v1alpha1.ReasonEvaluated, "2 results for one object"},
		{"bad-nothing", "sum by (namespace, pod) (no_such_series)", metav1.ConditionTrue, v1alpha1.ReasonEvaluated, "no series match the expression"},
	} {
		shared.rule(t, bad.name, ofPodsWith(strings.ReplaceAll(bad.name, "-", "_"), bad.expr))
		status := shared.awaitRule(t, bad.name, bad.status, bad.reason, bad.message)
		_, ready := shared.ruleStatus(ctx, t, bad.name)
		t.Logf("%s: %s", bad.name, ready.Message)
		if bad.reason == v1alpha1.ReasonEvaluated {
			require.NotNil(t, status.Objects)
			assert.Zero(t, *status.Objects, bad.name)
		}
	}
	shared.rule(t, "remote-level", v1alpha1.MetricRuleSpec{
		Metric: "remote_level", Expr: "sum by (namespace, pod) (x)", Object: &v1alpha1.ObjectTarget{Resource: "pods"}, Source: v1alpha1.SourcePrometheus,
	})
	shared.awaitRule(t, "remote-level", metav1.ConditionFalse, v1alpha1.ReasonEvaluationFailed, "no Prometheus server is configured")

	good := shared.awaitRule(t, "good-level", metav1.ConditionTrue, v1alpha1.ReasonEvaluated, "")
	assert.Equal(t, "pods", good.ServedFor)
	assert.Equal(t, new(int64(1)), good.Series)
	assert.Equal(t, new(int64(1)), good.Objects)
	assert.NotNil(t, good.LastEvaluationDuration)
	assert.WithinDuration(t, time.Now(), good.LastEvaluationTime.Time, time.Minute)
	out, err := shared.kubectl(t, "get", "metricrules", "good-level", "bad-syntax")
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^good-level +good_level +pods +True +Evaluated +1 +1 `, out)
	assert.Regexp(t, `(?m)^bad-syntax +bad_syntax +pods +False +Invalid `, out)

	// What the CustomResourceDefinition refuses never reaches the adapter.
	_, err = shared.rules().Patch(ctx, "good-level", types.MergePatchType, []byte(`{"spec":{"external":{}}}`), metav1.PatchOptions{})
	require.ErrorContains(t, err, "exactly one of object and external must be set")
	why := shared.get(ctx, t, ofPod(custom2, namespace, pods["one"].Name, "bad_twice")).refusal(t, http.StatusNotFound)
	t.Log(why)
	assert.Contains(t, why, "2 results for one object")
	watch.end(t)
	watch.assertFresh(t, "good_level", []string{"one"}, began, 3*time.Second)
}

// TestMetricRuleReplacesBuiltIn puts a rule in the place of a built-in one, which is back when it goes. It replaces it for the
// whole cluster, so no other test's pods speak as TGI does.
func TestMetricRuleReplacesBuiltIn(t *testing.T) {
	t.Parallel()
	const waiting = "requests_waiting"
	namespace := shared.namespace(t)
	pod := shared.export(t, namespace, map[string]*exporter{"one": says("tgi_queue_size 4\n")})["one"].Name
	shared.takesEffect(t, namespace, pod, waiting, new(4.0), func() {})
	const name = "tgi.requests-waiting.pods"
	replaced := shared.takesEffect(t, namespace, pod, waiting, new(400.0), func() {
		shared.rule(t, name, ofPodsWith(waiting, "100 * sum by (namespace, pod) (tgi_queue_size)"))
	})
	broken := shared.takesEffect(t, namespace, pod, waiting, nil, func() { shared.changeRule(t, name, `{"spec":{"expr":"100 *"}}`) })
	back := shared.takesEffect(t, namespace, pod, waiting, new(4.0), func() { shared.dropRule(t, name) })
	t.Logf("replaced after %s, without a value while the replacement is broken after %s, the built-in rule back after %s",
		replaced.Round(tick/10), broken.Round(tick/10), back.Round(tick/10))
}

// TestMetricRuleOfNamespaces: two teams define one metric differently, for the namespaces that a selector means, also when
// these come to be so later.
func TestMetricRuleOfNamespaces(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	type team struct{ namespace, pod string }
	var teams []team
	for i := range 2 {
		namespace := shared.namespace(t)
		pod := shared.export(t, namespace, map[string]*exporter{"one": says("team_level 2\n")})["one"].Name
		teams = append(teams, team{namespace, pod})
		spec := ofPodsWith("team_level", fmt.Sprintf("%d * sum by (namespace, pod) (team_level)", 10*(i+1)))
		spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": strconv.Itoa(i)}}
		shared.rule(t, fmt.Sprintf("team-%d", i), spec)
	}
	for i, team := range teams {
		why := shared.get(ctx, t, ofPod(custom2, team.namespace, team.pod, "team_level")).refusal(t, http.StatusNotFound)
		assert.Contains(t, why, "team_level")
		took := shared.takesEffect(t, team.namespace, team.pod, "team_level", new(20.0*float64(i+1)), func() {
			_, err := shared.Client.CoreV1().Namespaces().Patch(ctx, team.namespace, types.MergePatchType,
				fmt.Appendf(nil, `{"metadata":{"labels":{"team":"%d"}}}`, i), metav1.PatchOptions{})
			require.NoError(t, err)
		})
		t.Logf("served %s after the namespace had the label", took.Round(tick/10))
	}
}

// TestFallback holds one value and states another when the pods' exporters fail, and says so.
func TestFallback(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	one := says("held_level 5\nstated_level 6\n")
	pod := shared.export(t, namespace, map[string]*exporter{"one": one})["one"].Name
	rule := func(metric string, f v1alpha1.Fallback) {
		spec := ofPodsWith(metric, fmt.Sprintf("sum by (namespace, pod) (%s)", metric))
		spec.MaxAge, spec.Fallback = &metav1.Duration{Duration: 3 * time.Second}, &f
		shared.rule(t, "fallback-"+metric[:4], spec)
	}
	after := metav1.Duration{Duration: time.Second}
	rule("held_level", v1alpha1.Fallback{After: after, HoldFor: &metav1.Duration{Duration: 6 * time.Second}})
	rule("stated_level", v1alpha1.Fallback{After: after, Value: new(resource.MustParse("2500m"))})
	measured := func(metric string, want float64) {
		t.Helper()
		eventually(t, 15*time.Second, func(t require.TestingT) {
			v := shared.values(ctx, t, namespace, metric)[pod]
			require.InDelta(t, want, number(v), 1e-9)
			require.Nil(t, v.Metric.Selector, "nothing marks what is measured")
		})
	}
	measured("held_level", 5)
	measured("stated_level", 6)

	one.say("held_level is broken\n")
	marked := func(metric, mark string, want float64) {
		t.Helper()
		eventually(t, 15*time.Second, func(t require.TestingT) {
			v := shared.values(ctx, t, namespace, metric)[pod]
			require.InDelta(t, want, number(v), 1e-9)
			require.NotNil(t, v.Metric.Selector)
			require.Equal(t, map[string]string{"headroom.dev/fallback": mark}, v.Metric.Selector.MatchLabels)
		})
	}
	began := time.Now()
	marked("held_level", "held", 5)
	marked("stated_level", "stated", 2.5)
	t.Logf("both fallbacks serve %s after the exporter broke", time.Since(began).Round(tick))
	a := shared.get(ctx, t, ofPods(custom2, namespace, "stated_level", "app=service")+"&metricLabelSelector=%21headroom.dev%2Ffallback")
	assert.Contains(t, a.refusal(t, http.StatusNotFound), "headroom.dev/fallback", "who wants measured values alone can say so")
	eventually(t, 20*time.Second, func(t require.TestingT) {
		require.NotContains(t, shared.values(ctx, t, namespace, "held_level"), pod, "held for at most six seconds")
	})
	marked("stated_level", "stated", 2.5)
	one.say("held_level 7\nstated_level 8\n")
	measured("held_level", 7)
	measured("stated_level", 8)
}
