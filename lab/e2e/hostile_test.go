package e2e

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
)

// TestHostileExpositions: pods say what they should not, beside good ones that say the same metric as they should.
func TestHostileExpositions(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	future := time.Now().Add(100 * time.Hour).UnixMilli()
	cases := []struct {
		name, text string
		value      float64
		why        string // where there is no value
	}{
		{"good-1", "hostile_level 1\n", 1, ""},
		{"good-2", "hostile_level 2\n", 2, ""},
		{"nan", "hostile_level NaN\n", 0, "NaN"},
		{"inf", "hostile_level +Inf\n", 0, "infinite"},
		{"minus-inf", "hostile_level -Inf\n", 0, "infinite"},
		{"too-large", "hostile_level 1e300\n", 0, "too large for the API"},
		{"negative", "hostile_level -5\n", -5, ""},
		{"twice", "hostile_level 3\nhostile_level 4\n", 3, ""}, // as in Prometheus, the first stands
		{"parted", "hostile_level{a=\"1\"} 3\nhostile_level{a=\"2\"} 4\n", 7, ""},
		{"past", "hostile_level 6 1000\n", 6, ""},
		{"future", fmt.Sprintf("hostile_level 7 %d\n", future), 7, ""},
		{"malformed", "hostile_level 1\nhostile_level{a=\"\xff\xfe\"} 1\n", 0, "line 2"},
		{"truncated", "hostile_level 1\nhostile_level{a=", 0, "line 2"},
		{"html", "<!DOCTYPE html><html>", 0, "line 1"},
		{"forged", "hostile_level{namespace=\"" + namespace + "\",pod=\"good-1\"} 8\n", 8, ""},
		{"empty", "", 0, "no sample in 15s"},
	}
	shared.rule(t, "hostile-level", ofPodsWith("hostile_level", "sum by (namespace, pod) (hostile_level)"))
	exporters := map[string]*exporter{"lines": {}, "cut": {}}
	exporters["lines"].lines("hostile_level", 100_000)
	exporters["cut"].use(func(w io.Writer) error { // a body that ends before its time
		w.(http.ResponseWriter).Header().Set("Content-Length", "1000")
		_, err := io.WriteString(w, "hostile_level 1\n")
		return errors.Join(err, http.ErrAbortHandler)
	})
	for _, c := range cases {
		exporters[c.name] = says(c.text)
	}
	pods := shared.export(t, namespace, exporters)
	began := time.Now()
	watch := shared.newWatch(t, namespace, pods, map[string]time.Duration{"hostile_level": mostP95})
	var with []string
	for _, c := range cases {
		if c.why == "" {
			with = append(with, c.name)
		}
	}
	watch.await(t, "hostile_level", slices.Sorted(slices.Values(with)), 15*time.Second)
	settled := time.Now()
	values := shared.values(ctx, t, namespace, "hostile_level")
	reasons := map[string]string{"lines": "more than the limit of 10000 samples", "cut": "unexpected EOF"}
	for _, c := range cases {
		if c.why != "" {
			reasons[c.name] = c.why
			continue
		}
		assert.InDelta(t, c.value, number(values[pods[c.name].Name]), 1e-9, c.name)
	}
	for name, reason := range reasons {
		why := shared.get(ctx, t, ofPod(custom2, namespace, pods[name].Name, "hostile_level")).refusal(t, http.StatusNotFound)
		assert.Contains(t, why, reason, name)
		t.Logf("%s: %s", name, why)
	}
	eventually(t, 10*time.Second, func(t require.TestingT) { require.Greater(t, watch.since(settled), 4*time.Second) })
	for name, e := range exporters { // all are as they should be
		e.say("hostile_level 9\n")
		assert.Positive(t, e.asked.Load(), name)
	}
	watch.await(t, "hostile_level", slices.Sorted(maps.Keys(pods)), 10*time.Second)
	t.Logf("all are well %s after they mended their ways", time.Since(settled).Round(tick))
	watch.end(t)
	watch.assertFresh(t, "hostile_level", []string{"good-1", "good-2", "future", "past"}, settled, 3*time.Second)
	assert.Less(t, settled.Sub(began), 15*time.Second)
}

// TestHangingPodsBesideGoodOnes: ten of fifty pods never answer.
func TestHangingPodsBesideGoodOnes(t *testing.T) {
	t.Parallel()
	const good, hanging = 40, 10
	namespace := shared.namespace(t)
	many := func(name, spec string, n int32) {
		d := inference(name, spec, 0)
		d.Spec.Replicas = &n
		shared.deploy(t, namespace, d)
	}
	many("good", "{"+wellSpec+"}", good)
	many("hanging", "{"+wellSpec+", fault: hang}", hanging)
	pods, names := map[string]corev1.Pod{}, []string(nil)
	for _, pod := range shared.ready(t, namespace, "app=service", good+hanging) {
		pods[pod.Name] = pod
		if pod.Labels["name"] == "good" {
			names = append(names, pod.Name)
		}
	}
	slices.Sort(names)
	watch := shared.newWatch(t, namespace, pods, map[string]time.Duration{rps: mostRPS})
	watch.await(t, rps, names, 20*time.Second)
	began := time.Now()
	eventually(t, 20*time.Second, func(t require.TestingT) { require.Greater(t, watch.since(began), 8*time.Second) })
	watch.end(t)
	watch.assertFresh(t, rps, names, began, 8*time.Second)
}

// TestSlowRules: rules that take all the time that they get leave a good one in peace, and are told so.
func TestSlowRules(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	var text strings.Builder
	text.WriteString("calm_level 1\n")
	for i := range 4_000 {
		fmt.Fprintf(&text, "slow_level{n=\"%d\"} %d\n", i, i)
	}
	pods := shared.export(t, namespace, map[string]*exporter{"one": says(text.String())})
	shared.rule(t, "calm-level", ofPodsWith("calm_level", "sum by (namespace, pod) (calm_level)"))
	watch := shared.newWatch(t, namespace, pods, map[string]time.Duration{"calm_level": mostP95})
	watch.await(t, "calm_level", []string{"one"}, 15*time.Second)

	began := time.Now()
	slow := []struct{ name, expr, why string }{
		// 4,000 series × 2,000 steps, at each of which 1,000 values are sorted: some ten minutes.
		{"slow-minutes", "quantile_over_time(0.9, quantile_over_time(0.9, slow_level[20s:20ms])[20s:20ms])", "timed out"},
		// 80 million samples: more than an evaluation may hold, if it comes so far within its time.
		{"slow-samples", "max_over_time(slow_level[20s:1ms])", "cannot evaluate: query"},
		{"slow-twin", "quantile_over_time(0.8, quantile_over_time(0.9, slow_level[20s:20ms])[20s:20ms])", "timed out"},
		{"slow-labels", "slow_level * on (pod) group_left () slow_level", "many-to-many"},
	}
	for _, rule := range slow {
		shared.rule(t, rule.name, ofPodsWith(strings.ReplaceAll(rule.name, "-", "_"), "sum by (namespace, pod) ("+rule.expr+")"))
	}
	for _, rule := range slow {
		status := shared.awaitRule(t, rule.name, metav1.ConditionFalse, v1alpha1.ReasonEvaluationFailed, rule.why)
		_, ready := shared.ruleStatus(t.Context(), t, rule.name)
		t.Logf("%s: %s, after %s", rule.name, ready.Message, status.LastEvaluationDuration.Duration)
	}
	eventually(t, 30*time.Second, func(t require.TestingT) { require.Greater(t, watch.since(began), 10*time.Second) })
	watch.end(t)
	watch.assertFresh(t, "calm_level", []string{"one"}, began, 10*time.Second)
}
