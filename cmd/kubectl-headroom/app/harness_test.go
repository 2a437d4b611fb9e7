package app

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// cube is an API server of fixed answers. A path without one is answered as the real one answers for an API that is not
// registered: 404, in plain text.
type cube struct {
	*httptest.Server

	mu      sync.Mutex
	answers map[string]string // by path, or path?query in the order of the names; YAML, HTML, or "CODE message"
	asked   []string
}

func newCube(t *testing.T, answers ...map[string]string) *cube {
	t.Helper()
	c := &cube{answers: discovery()}
	for _, more := range answers {
		maps.Copy(c.answers, more)
	}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *cube) serve(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	values.Del("timeout")
	key := r.URL.Path
	if len(values) > 0 {
		key += "?" + values.Encode()
	}
	c.mu.Lock()
	answer, ok := c.answers[key]
	c.asked = append(c.asked, key)
	c.mu.Unlock()
	var code int
	var message string
	switch n, _ := fmt.Sscanf(answer, "%d", &code); {
	case !ok:
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	case n == 1:
		message = strings.TrimSpace(answer[3:])
		if code == http.StatusServiceUnavailable && message == "" {
			http.Error(w, "service unavailable", code) // what the aggregator says
			return
		}
		reasons := map[int]metav1.StatusReason{403: metav1.StatusReasonForbidden, 404: metav1.StatusReasonNotFound, 400: metav1.StatusReasonBadRequest}
		status := metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
			Code: int32(code), Reason: reasons[code], Message: message,
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(status)
		return
	}
	if strings.HasPrefix(answer, "<") {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(w, answer)
		return
	}
	body, err := yaml.YAMLToJSON([]byte(answer))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// requests returns the paths asked for that begin with a prefix, each once.
func (c *cube) requests(prefix string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(c.asked), func(path string) bool { return !strings.HasPrefix(path, prefix) })
	slices.Sort(list)
	return slices.Compact(list)
}

// run runs the command as a user does; out is what it wrote.
func (c *cube) run(t *testing.T, args ...string) (out, errOut string, err error) {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	var o, e strings.Builder
	cmd := newCommand(&o, &e, func() time.Time { return noon })
	cmd.SetArgs(append(args, "--server", c.URL, "--cache-dir", t.TempDir()))
	err = cmd.ExecuteContext(t.Context())
	return o.String(), e.String(), err
}

func (c *cube) ok(t *testing.T, args ...string) string {
	t.Helper()
	out, _, err := c.run(t, args...)
	require.NoError(t, err)
	return out
}

func discovery() map[string]string {
	return map[string]string{
		"/api":  `{kind: APIVersions, versions: [v1]}`,
		"/apis": `{kind: APIGroupList, apiVersion: v1, groups: [{name: apps, versions: [{groupVersion: apps/v1, version: v1}], preferredVersion: {groupVersion: apps/v1, version: v1}}]}`,
		"/api/v1": `{kind: APIResourceList, groupVersion: v1, resources: [
			{name: pods, singularName: pod, shortNames: [po], namespaced: true, kind: Pod, verbs: [list]},
			{name: services, singularName: service, shortNames: [svc], namespaced: true, kind: Service, verbs: [list]},
			{name: persistentvolumes, singularName: persistentvolume, shortNames: [pv], namespaced: false, kind: PersistentVolume, verbs: [list]},
			{name: namespaces, singularName: namespace, shortNames: [ns], namespaced: false, kind: Namespace, verbs: [list]}]}`,
		"/apis/apps/v1": `{kind: APIResourceList, groupVersion: apps/v1, resources: [
			{name: deployments, singularName: deployment, shortNames: [deploy], namespaced: true, kind: Deployment, verbs: [list]},
			{name: deployments/scale, namespaced: true, group: autoscaling, version: v1, kind: Scale, verbs: [get]}]}`,
	}
}

const (
	customPath   = "/apis/custom.metrics.k8s.io/v1beta2"
	externalPath = "/apis/external.metrics.k8s.io/v1beta1"
	queryPath    = "/apis/query.headroom.dev/v1alpha1"
)

// chat is an HPA on a Pods, an Object and an External metric, with two pods.
func chat() map[string]string {
	return map[string]string{
		"/apis/autoscaling/v2/namespaces/demo/horizontalpodautoscalers/chat": `
kind: HorizontalPodAutoscaler
apiVersion: autoscaling/v2
metadata: {name: chat, namespace: demo}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
  minReplicas: 1
  maxReplicas: 3
  metrics:
  - {type: Pods, pods: {metric: {name: rps}, target: {type: AverageValue, averageValue: "10"}}}
  - type: Object
    object: {metric: {name: waiting}, describedObject: {apiVersion: v1, kind: Service, name: chat}, target: {type: Value, value: "10"}}
  - type: External
    external: {metric: {name: queue, selector: {matchLabels: {q: a}}}, target: {type: AverageValue, averageValue: "10"}}
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}
status:
  currentReplicas: 2
  desiredReplicas: 2
  currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageUtilization: 52, averageValue: "1"}}}]`,
		"/apis/apps/v1/namespaces/demo/deployments/chat/scale": `
{kind: Scale, apiVersion: autoscaling/v1, metadata: {name: chat}, spec: {replicas: 2}, status: {replicas: 2, selector: "app=chat"}}`,
		"/api/v1/namespaces/demo/pods?labelSelector=app%3Dchat": podList,
		"/api/v1/namespaces/demo/pods":                          podList,
	}
}

const podList = `
kind: PodList
apiVersion: v1
items:
- {metadata: {name: chat-1, namespace: demo, labels: {app: chat}}, status: {phase: Running, conditions: [{type: Ready, status: "True"}]}}
- {metadata: {name: chat-2, namespace: demo, labels: {app: chat}}, status: {phase: Running, conditions: [{type: Ready, status: "False"}]}}`

// adapter is what the adapter says of it.
func adapter() map[string]string {
	const rule = `{name: http, origin: built-in, metric: rps, resource: pods, expr: "sum by (namespace, pod) (rate(http_requests_total[10s]))", unit: 1/s,
  maxAgeSeconds: 5, source: Embedded, objects: 1, series: 4, evaluationSeconds: 0.000013, evaluated: "2026-11-23T11:59:59.7Z", selectors: ['http_requests_total{code!=""}']}`
	return map[string]string{
		queryPath + "/namespaces/demo/explanations/rps?labelSelector=app%3Dchat&resource=pods": explanation(rule),
		queryPath + "/namespaces/demo/explanations/rps?resource=pods":                          explanation(rule),
		queryPath + "/namespaces/demo/explanations/waiting?name=chat&resource=services": `
{kind: Explanation, at: "2026-11-23T12:00:00Z", metric: waiting, resource: services, rules: [], objects: [{name: chat, reason: no sample in 5s}]}`,
		queryPath + "/namespaces/demo/explanations/waiting?resource=services": `
{kind: Explanation, at: "2026-11-23T12:00:00Z", metric: waiting, resource: services, namespace: demo, rules: [` + rule + `], objects: [{name: chat, reason: no sample in 5s}]}`,
		queryPath + "/namespaces/demo/explanations/queue?metricLabelSelector=q%3Da": `
{kind: Explanation, at: "2026-11-23T12:00:00Z", metric: queue, namespace: demo, rules: [],
 objects: [{labels: {q: a}, value: {value: 55, time: "2026-11-23T11:59:58Z", ageSeconds: 2, rule: queues}}]}`,
		queryPath + "/rules": `
kind: RuleList
at: "2026-11-23T12:00:00Z"
items:
- ` + strings.ReplaceAll(rule, "\n", " ") + `
- {name: idle, origin: built-in, metric: rps, resource: services, external: true, expr: x, maxAgeSeconds: 5, source: Embedded, objects: 0, series: 0, evaluationSeconds: 0.0002, evaluated: "2026-11-23T11:59:59Z"}
- {name: mine, origin: MetricRule, metric: queue, external: true, expr: "broken(", maxAgeSeconds: 15, source: Prometheus, objects: 0, series: 0, evaluationSeconds: 0, error: "expr: 1:8: parse error"}`,
		queryPath + "/namespaces/demo/prometheus/api/v1/query?query=http_requests_total%7Bcode%21%3D%22%22%7D": `
{status: success, data: {resultType: vector, result: [
  {metric: {__name__: http_requests_total, code: "200", namespace: demo, pod: chat-1}, value: [1795435200, "4012"]},
  {metric: {__name__: http_requests_total, code: "200", namespace: demo, pod: other-1}, value: [1795435200, "1"]}]}}`,
		queryPath + "/namespaces/demo/prometheus/api/v1/query?query=timestamp%28http_requests_total%7Bcode%21%3D%22%22%7D%29": `
{status: success, data: {resultType: vector, result: [{metric: {code: "200", namespace: demo, pod: chat-1}, value: [1795435200, "1795435199.2"]}]}}`,
		"/api/v1/namespaces/demo/services": `
{kind: ServiceList, apiVersion: v1, items: [{metadata: {name: chat}, spec: {selector: {app: chat}}}, {metadata: {name: all}}]}`,
		queryPath + "/namespaces/demo/explanations/nope?resource=pods": "404 no rule defines nope for pods",
	}
}

func explanation(rule string) string {
	return `
kind: Explanation
at: "2026-11-23T12:00:00Z"
metric: rps
resource: pods
namespace: demo
rules: [` + rule + `]
objects:
- name: chat-1
  value: {value: 14.25, time: "2026-11-23T11:59:59.2Z", ageSeconds: 0.8, windowSeconds: 10, rule: http}
  rules: [{rule: http, value: {value: 14.25, time: "2026-11-23T11:59:59.2Z", ageSeconds: 0.8, windowSeconds: 10, rule: http}}]
- name: chat-2
  reason: "the pod is loading: container main has not been ready"
  rules: [{rule: http, reason: no sample in 5s}]`
}

// served is the metrics APIs alone.
func served() map[string]string {
	return map[string]string{
		customPath + "/namespaces/demo/pods/*/rps?labelSelector=app%3Dchat": `
kind: MetricValueList
items: [{describedObject: {kind: Pod, name: chat-1}, metric: {name: rps}, timestamp: "2026-11-23T11:59:58Z", windowSeconds: 10, value: 14250m}]`,
		customPath + "/namespaces/demo/services/chat/waiting": "404 no waiting of services demo/chat: no sample in 5s",
		externalPath + "/namespaces/demo/queue?labelSelector=q%3Da": `
kind: ExternalMetricValueList
items: [{metricName: queue, metricLabels: {q: a, headroom.dev/fallback: held}, timestamp: "2026-11-23T11:59:00Z", value: "55"}]`,
	}
}
