package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/evidence"
)

// metricPlane is the adapter's APIs as rollout/evidence asks them.
type metricPlane struct{ *cluster }

func (p metricPlane) Query(ctx context.Context, namespace, expr string) ([]evidence.Sample, error) {
	path := "/apis/" + query.APIVersion + "/namespaces/" + namespace + "/prometheus/api/v1/query?query=" + url.QueryEscape(expr)
	a, err := fetch(ctx, p.http, p.Config.Host+path)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Result model.Vector `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil || a.code != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d, %w: %s", a.code, err, a.body)
	}
	var list []evidence.Sample
	for _, s := range answer.Data.Result {
		of := map[string]string{}
		for name, value := range s.Metric {
			of[string(name)] = string(value)
		}
		list = append(list, evidence.Sample{Labels: of, Value: float64(s.Value), At: s.Timestamp.Time()})
	}
	return list, nil
}

func (p metricPlane) Pods(ctx context.Context, namespace string, selector labels.Selector, metric string) (map[string]evidence.Sample, error) {
	a, err := fetch(ctx, p.http, p.Config.Host+ofPods(custom2, namespace, metric, selector.String()))
	if err != nil {
		return nil, err
	}
	values, err := a.values()
	found := map[string]evidence.Sample{}
	for pod, v := range values {
		found[pod] = evidence.Sample{Value: number(v), At: v.Timestamp.Time}
	}
	return found, err
}

// trial is a judge's way to a verdict about two versions.
type trial struct {
	client *evidence.Client
	policy *v1alpha1.RolloutPolicy
	look   evidence.Look
	state  []byte
	last   evidence.Judged
}

func (c *cluster) trial(namespace, key string, analysis v1alpha1.Analysis, fresh, old []corev1.Pod) *trial {
	analysis.Interval = &metav1.Duration{Duration: 5 * time.Second} // five scrapes
	tr := &trial{
		client: &evidence.Client{Plane: metricPlane{c}, Pods: metricPlane{c}, Now: time.Now}, look: evidence.Look{Key: key},
		policy: &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: key}, Spec: v1alpha1.RolloutPolicySpec{Analysis: analysis}},
	}
	for i := range fresh {
		tr.look.New = append(tr.look.New, &fresh[i])
	}
	for i := range old {
		tr.look.Old = append(tr.look.Old, &old[i])
	}
	return tr
}

func (tr *trial) judge(t *testing.T) rollout.Verdict {
	t.Helper()
	var err error
	tr.last, err = tr.client.Judge(t.Context(), tr.policy, tr.state, tr.look)
	require.NoError(t, err)
	tr.state = tr.last.State
	return tr.last.Verdict
}

// TestEvidence judges simulated engines under load by what the adapter has scraped of them: a version with 3 % errors and one that
// is 1.6 times as slow fail, the same version again does not, and an engine that counts no failures passes by nothing.
func TestEvidence(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	specs := map[string]struct {
		spec     string
		replicas int32
	}{
		"old":  {"{startup: 0s, metricNames: http, serviceTime: 20ms}", 4},
		"same": {"{startup: 0s, metricNames: http, serviceTime: 20ms}", 2},
		"bad":  {"{startup: 0s, metricNames: http, serviceTime: 20ms, errorRate: 0.03}", 2},
		"slow": {"{startup: 0s, metricNames: http, serviceTime: 32ms}", 2},
		"mute": {"{startup: 0s, metricNames: vllm, serviceTime: 20ms}", 2},
	}
	var targets []string
	pods := map[string][]corev1.Pod{}
	for name, s := range specs {
		d := inference(name, s.spec, 0)
		d.Spec.Replicas = &s.replicas
		shared.deploy(t, namespace, d)
	}
	for name, s := range specs {
		pods[name] = shared.ready(t, namespace, "name="+name, int(s.replicas))
		for _, p := range pods[name] {
			targets = append(targets, addressOf(p))
		}
	}
	send(t, func() []string { return targets }, 20*float64(len(targets)), 100)

	errorsOnly := v1alpha1.Analysis{Metrics: []v1alpha1.AnalysisMetric{{Name: "errors", Kind: "Errors"}}}
	both := v1alpha1.Analysis{}
	bad := shared.trial(namespace, "bad/0/0", both, pods["bad"], pods["old"])
	slow := shared.trial(namespace, "slow/0/0", both, pods["slow"], pods["old"])
	same := shared.trial(namespace, "same/0/0", errorsOnly, pods["same"], pods["old"])
	mute := shared.trial(namespace, "mute/0/0", both, pods["mute"][:1], pods["mute"][1:])
	began := time.Now()
	ticker := time.NewTicker(5 * tick) // looks are due by the clock
	defer ticker.Stop()
	open := map[string]*trial{"bad": bad, "slow": slow, "same": same, "mute": mute}
	wanted := map[string]rollout.Result{"bad": rollout.Fail, "slow": rollout.Fail, "same": rollout.Pass, "mute": rollout.Inconclusive}
	for len(open) > 0 && time.Since(began) < 3*time.Minute {
		<-ticker.C
		for name, tr := range open {
			v := tr.judge(t)
			if v.Result == rollout.Inconclusive && name != "mute" {
				t.Logf("%s: %s", name, v.Message) // a scrape that was late on a busy machine
				continue
			}
			if v.Result != rollout.NoResult {
				assert.Equal(t, wanted[name], v.Result, "%s: %s", name, v.Message)
				t.Logf("%s: %s after %s, %d looks, state of %d bytes: %s", name, v.Result, time.Since(began).Round(time.Second), tr.last.Status.Looks, len(tr.state), v.Message)
				delete(open, name)
			}
		}
	}
	for name, tr := range open {
		t.Errorf("%s is undecided: %s", name, tr.last.Verdict.Message)
	}
	assert.Contains(t, mute.last.Verdict.Message, `vllm:request_success_total is there, but does not tell failures`)
	assert.Contains(t, bad.last.Status.Metrics[0].New, " %")

	demand, err := bad.client.Demand(t.Context(), bad.policy, append(bad.look.New, bad.look.Old...))
	require.NoError(t, err)
	require.Empty(t, demand.Forecast.Missing)
	assert.InDelta(t, 20*6, demand.Forecast.Points[0].Value, 40)
}
