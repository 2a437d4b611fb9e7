package app

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/cmd/kubectl-headroom/explain"
)

func TestExplainHPA(t *testing.T) {
	c := newCube(t, chat(), adapter())
	out := c.ok(t, "explain", "hpa", "chat", "-n", "demo")
	assert.Contains(t, out, "Deployment chat, 2 replicas (2 pods: 1 ready, 0 pending, 0 going)")
	assert.Contains(t, out, "chat-2   -         -      -        -      missing as 0/s   the pod is loading")
	assert.Contains(t, out, "no proposal: no sample in 5s")
	assert.Contains(t, out, "the HPA read 52% / target 50%")
	assert.Contains(t, lastLine(out), "chat wants 6 of now 2 because queue of external is 55 against a target of 10 a replica (⌈55 / 10⌉ = 6); "+
		"held back by maxReplicas (at most 3), so it goes to 3; waiting: no value,")

	var report explain.HPA
	require.NoError(t, json.Unmarshal([]byte(c.ok(t, "explain", "hpa", "chat", "-n", "demo", "-o", "json")), &report))
	assert.Equal(t, int32(6), *report.Verdict.Wanted)
	assert.Equal(t, int32(3), *report.Verdict.Allowed)
	require.Len(t, report.Metrics, 4)
	assert.Equal(t, []string{"rps", "waiting", "queue", "cpu"}, []string{report.Metrics[0].Name, report.Metrics[1].Name, report.Metrics[2].Name, report.Metrics[3].Name})
	require.NoError(t, yaml.UnmarshalStrict([]byte(c.ok(t, "explain", "hpa", "chat", "-n", "demo", "-o", "yaml")), &explain.HPA{}))
}

// TestExplainHPAWithoutQueries: the values come from the metrics APIs, and what these do not tell is named.
func TestExplainHPAWithoutQueries(t *testing.T) {
	f := func(why string, answers ...map[string]string) {
		t.Helper()
		out := newCube(t, append(answers, chat(), served())...).ok(t, "explain", "hpa", "chat", "-n", "demo")
		assert.Contains(t, out, "Rules and reasons are not known: "+why)
		assert.Contains(t, out, "chat-1   14.25   2s    10s      -      measured")
		assert.Contains(t, out, "no proposal: no waiting of services demo/chat: no sample in 5s")
		assert.Contains(t, lastLine(out), "wants 6 of now 2")
	}
	f("query.headroom.dev is not registered: is Headroom's adapter installed? (APIService v1alpha1.query.headroom.dev not found)")
	down, forbidden := map[string]string{}, map[string]string{}
	for path := range adapter() {
		if strings.HasPrefix(path, queryPath) {
			down[path], forbidden[path] = "503", "403 explanations.query.headroom.dev is forbidden"
		}
	}
	f("query.headroom.dev does not answer: see 'kubectl describe apiservice v1alpha1.query.headroom.dev'", down)
	f("explanations.query.headroom.dev is forbidden: the ClusterRoles headroom-view", forbidden)
}

// TestExplainHPAFailures: what this user may not read is not taken for what the HPA has not.
func TestExplainHPAFailures(t *testing.T) {
	out := newCube(t, chat()).ok(t, "explain", "hpa", "chat", "-n", "demo")
	assert.Contains(t, lastLine(out), "wants about 2, as now, because cpu was 52% at the HPA's last look, within the tolerance of its target 50%; rps and waiting and queue: no value,")

	denied := map[string]string{
		"/apis/apps/v1/namespaces/demo/deployments/chat/scale":                          "403 no",
		customPath + "/namespaces/demo/services/chat/waiting":                           "403 no waiting for you",
		externalPath + "/namespaces/demo/queue?labelSelector=q%3Da":                     "403 no queue for you",
		queryPath + "/namespaces/demo/explanations/queue?metricLabelSelector=q%3Da":     "403 no",
		queryPath + "/namespaces/demo/explanations/waiting?name=chat&resource=services": "403 no",
	}
	out = newCube(t, chat(), denied).ok(t, "explain", "hpa", "chat", "-n", "demo")
	assert.Contains(t, out, "Note: the replicas are those of the HPA's last look: cannot read the scale of its target: no\n")
	assert.Contains(t, out, "not known: the selector of the pods is not known")
	assert.Contains(t, out, "not known: no queue for you")
	assert.Contains(t, lastLine(out), "rps and waiting and queue could not be read and may ask for more")
}

func TestExplainMetric(t *testing.T) {
	c := newCube(t, chat(), adapter(), served())
	out := c.ok(t, "explain", "metric", "rps", "-n", "demo", "-o", "wide")
	assert.Contains(t, out, "http   built-in   Embedded   5s        1 value   OK       sum by (namespace, pod)")
	assert.Contains(t, out, "chat-1     14.25/s   0.8s   10s      http\n  asked:   14.25/s   0.8s   10s      http\n")
	assert.Contains(t, out, `http_requests_total{code="200",namespace="demo",pod="chat-1"}   4012            0.8s`)
	assert.NotContains(t, out, "other-1")

	out = c.ok(t, "explain", "metric", "waiting", "-n", "demo", "--resource", "svc", "--series")
	assert.Contains(t, out, "no sample in 5s")
	assert.Contains(t, out, `pod="chat-1"`, "the series of the Service's pods")
	assert.NotContains(t, out, "other-1")

	out = c.ok(t, "explain", "metric", "queue", "-n", "demo", "--resource", "external", "-l", "q=a")
	assert.Contains(t, out, "Metric queue of external in demo\n")
	assert.Contains(t, out, `{q="a"}   55      2s`)

	out = newCube(t, served()).ok(t, "explain", "metric", "rps", "-n", "demo", "-l", "app=chat", "-o", "wide")
	assert.Contains(t, out, "chat-1   14.25   2s    10s      -")
	assert.Contains(t, out, "Note: rules, reasons and series are not known: query.headroom.dev is not registered")

	var values explain.Values
	require.NoError(t, json.Unmarshal([]byte(c.ok(t, "explain", "metric", "rps", "-n", "demo", "-o", "json", "--series")), &values))
	require.Len(t, values.Series, 1)
	assert.InDelta(t, 0.8, *values.Series[0].Age, 1e-9)

	for text, want := range map[string]string{"deploy": "deployments.apps", "po": pods, "Service": "services", "ns": namespaces, "pv": "persistentvolumes", "widgets.acme.io": "widgets.acme.io"} {
		_, _, err := c.run(t, "explain", "metric", "x", "-n", "demo", "--resource", text)
		require.Error(t, err)
		prefix := queryPath + "/namespaces/demo/explanations/x?resource="
		if want == "persistentvolumes" {
			prefix = queryPath + "/explanations/x?resource="
		}
		assert.Contains(t, c.requests(queryPath), prefix+want, text)
	}
}

func TestRules(t *testing.T) {
	c := newCube(t, adapter())
	out, hint, err := c.run(t, "rules")
	require.NoError(t, err)
	assert.Equal(t, `NAME   METRIC   FOR        SOURCE       OBJECTS   SERIES   EVAL   AGE    STATUS
http   rps      pods       Embedded     1         4        13µs   0.3s   OK
mine   queue    external   Prometheus   0         0        -      -      expr: 1:8: parse error
`, out)
	assert.Equal(t, "1 built-in rules that found no series are not shown: --all shows them\n", hint)
	assert.Contains(t, c.ok(t, "rules", "--all", "-o", "wide"), "idle   rps      services,external   Embedded     0         0        200µs   1s     OK                       built-in     -      5s        x\n")
	out = c.ok(t, "rules", "idle", "-o", "json")
	assert.Contains(t, out, `"name": "idle"`)
	assert.NotContains(t, out, `"name": "http"`)
}

func TestTop(t *testing.T) {
	list := func(items string) string { return "kind: MetricValueList\nitems: [" + items + "]" }
	c := newCube(t, notFound("demo", "prod", "empty", ""), map[string]string{
		"/api/v1/pods": `{kind: PodList, apiVersion: v1, items: [{metadata: {name: a, namespace: demo}}, {metadata: {name: b, namespace: demo}}, {metadata: {name: c, namespace: prod}}]}`,
		customPath + "/namespaces/demo/pods/*/requests_per_second": list(
			`{describedObject: {name: a}, timestamp: "2026-11-23T11:59:58Z", value: 12340m}, {describedObject: {name: b}, timestamp: "2026-11-23T11:59:57Z", value: "20"}`),
		customPath + "/namespaces/demo/pods/*/gpu_memory_used_bytes": list(`{describedObject: {name: a}, timestamp: "2026-11-23T11:59:48Z", value: 16Gi}`),
		customPath + "/namespaces/prod/pods/*/requests_per_second": list(
			`{describedObject: {name: c}, metric: {selector: {matchLabels: {headroom.dev/fallback: held}}}, timestamp: "2026-11-23T11:59:00Z", value: "0"}`),
		customPath + "/nodes/*/gpu_utilization_percent": list(`{describedObject: {name: n1}, timestamp: "2026-11-23T11:59:59Z", value: "63"}`),
	})
	assert.Equal(t, `NAME   REQ/S   GPU MEM   AGE
b      20      -         3s
a      12.3    16Gi      12s
`, c.ok(t, "top", "pods", "-n", "demo", "--sort-by", "requests"))
	assert.Equal(t, `NAMESPACE   NAME   REQ/S      GPU MEM   AGE
demo        a      12.3       16Gi      12s
demo        b      20         -         3s
prod        c      0 (held)   -         60s
`, c.ok(t, "top", "pods", "-A"))
	assert.Equal(t, "NAME   GPU %   AGE\nn1     63      1s\n", c.ok(t, "top", "nodes"))
	assert.Contains(t, c.ok(t, "top", "pods", "-n", "demo", "-o", "json"), `"gpu_memory_used_bytes": {`)

	out, hint, err := c.run(t, "top", "pods", "-n", "empty")
	require.NoError(t, err)
	assert.Empty(t, out)
	assert.Contains(t, hint, "No metrics of pods found in namespace empty.")
}

// notFound answers as the adapter does for metrics without a value.
func notFound(in ...string) map[string]string {
	answers := map[string]string{}
	for _, namespace := range in {
		for _, column := range podColumns() {
			prefix, resource := customPath+"/namespaces/"+namespace, pods
			if namespace == "" {
				prefix, resource = customPath, nodes
			}
			answers[prefix+"/"+resource+"/*/"+column.metric] = "404 no value"
		}
	}
	return answers
}

func TestErrors(t *testing.T) {
	c := newCube(t, adapter())
	f := func(want string, args ...string) {
		t.Helper()
		out, _, err := c.run(t, args...)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "\n")
		assert.Empty(t, out)
	}
	f(`there is no HPA "nope" in namespace demo`, "explain", "hpa", "nope", "-n", "demo")
	f("no rule defines nope for pods; 'kubectl headroom rules --all' lists what is defined", "explain", "metric", "nope", "-n", "demo")
	f(`there is no rule "nope"`, "rules", "nope")
	f(`--output: "xml" is none of wide, json and yaml`, "rules", "-o", "xml")
	f(`--sort-by: there is no column "size"`, "top", "pods", "--sort-by", "size")
	f(`NAME: "a/b" may not contain '/'`, "explain", "metric", "a/b")
	f("custom.metrics.k8s.io is not registered: is Headroom's adapter installed? (APIService v1beta2.custom.metrics.k8s.io not found)", "top", "pods")
	c = newCube(t)
	f("query.headroom.dev is not registered", "explain", "metric", "rps", "-n", "demo")
	f("query.headroom.dev is not registered: is Headroom's adapter installed? (APIService v1alpha1.query.headroom.dev not found)", "rules")
	c = newCube(t, map[string]string{queryPath + "/rules": "403 rules.query.headroom.dev is forbidden"})
	f("rules.query.headroom.dev is forbidden: the ClusterRoles headroom-view (a namespace) and headroom-reader (all) allow it", "rules")
	c.Close()
	f("cannot reach the API server: ", "rules")
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func TestExplainHPAReadsResources(t *testing.T) {
	c := newCube(t, chat(), adapter(), map[string]string{
		"/api/v1/namespaces/demo/pods?labelSelector=app%3Dchat": `
kind: PodList
apiVersion: v1
items:
- metadata: {name: chat-1, namespace: demo, labels: {app: chat}}
  spec: {containers: [{name: main, resources: {requests: {cpu: 500m}}}]}
  status: {phase: Running, startTime: "2026-11-23T11:00:00Z", conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-11-23T11:01:00Z"}]}`,
		"/apis/metrics.k8s.io/v1beta1/namespaces/demo/pods?labelSelector=app%3Dchat": `
kind: PodMetricsList
items: [{metadata: {name: chat-1}, timestamp: "2026-11-23T11:59:50Z", window: 15s, containers: [{name: main, usage: {cpu: 450m}}]}]`,
	})
	out := c.ok(t, "explain", "hpa", "chat", "-n", "demo")
	assert.Contains(t, out, "mean of 1 pod 90% / target 50% = ×1.8; ⌈1.8 × 1 pod⌉ = 2")

	c = newCube(t, chat(), adapter())
	out = c.ok(t, "explain", "hpa", "chat", "-n", "demo")
	assert.Contains(t, out, "Note: cpu is from the HPA's last look: metrics.k8s.io is not registered: is metrics-server installed? (APIService v1beta1.metrics.k8s.io not found)")
}
