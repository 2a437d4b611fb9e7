package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender/report"
)

const recommendationsPath = "/apis/headroom.dev/v1alpha1/namespaces/demo/resourcerecommendations"

func recommended() map[string]string {
	const list = `
kind: ResourceRecommendationList
apiVersion: headroom.dev/v1alpha1
items:
- metadata: {name: chat, namespace: demo}
  spec: {targetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}}
  status:
    conditions: [{type: Ready, status: "True", reason: Recommended, message: "1 container", lastTransitionTime: null}]
    replicas: 4
    checkpoint: headroom-usage-chat
    containers:
    - name: warm
      type: Init
      resources: [{resource: cpu, request: "1", recommended: 300m, reason: Peak, message: "the highest of 8 days' peaks"}]
    - name: main
      type: Container
      resources:
      - {resource: cpu, request: "2", limit: "4", recommended: 620m, recommendedLimit: 1240m, lower: 480m, upper: 700m, reason: Daily, message: "the same hours of 7 days",
         now: {since: "2026-11-15T12:00:00Z", hours: 190, overPercent: "0", excessPercent: "0", kills: 0},
         then: {since: "2026-11-15T12:00:00Z", hours: 190, overPercent: 1600m, excessPercent: 200m, kills: 0},
         evidence: {since: "2026-11-15T12:00:00Z", samples: 11400, hours: 190, certaintyPercent: 100, coveredPercent: 92}}
      - {resource: memory, request: 1Gi, limit: 1Gi, recommended: 1536Mi, recommendedLimit: 1536Mi, lower: 1400Mi, upper: 1600Mi, reason: OOM, message: "killed once at 1Gi"}
      gpu:
        model: NVIDIA H100 80GB HBM3
        now: {resource: nvidia.com/gpu, count: 1, sharing: Whole, share: "1", memory: 80Gi}
        recommended: {resource: nvidia.com/mig-3g.40gb, count: 1, sharing: MIG, share: 500m, memory: 40Gi}
        riskPercent: 300m
        settings: [{engine: vLLM, name: gpu_memory_utilization, now: "0.92", recommended: "0.88"}]
        reason: Peak
        message: 31Gi are needed
    autoscaler: {name: chat, message: "the number of replicas stays", metrics: [{resource: cpu, now: 60, recommended: 193}]}
- metadata: {name: new, namespace: demo}
  spec: {targetRef: {apiVersion: apps/v1, kind: StatefulSet, name: embed}}
  status:
    conditions: [{type: Ready, status: "False", reason: NoHistory, message: "2 of 24 hours are known", lastTransitionTime: null}]
    containers: [{name: main, type: Container, resources: [{resource: cpu, request: "1", reason: NoHistory, message: "2 of 24 hours are known", readyAt: "2026-11-24T10:00:00Z"}]}]
- metadata: {name: fresh, namespace: demo}
  spec: {targetRef: {apiVersion: apps/v1, kind: Deployment, name: fresh}}
`
	return map[string]string{
		recommendationsPath: list, "/apis/headroom.dev/v1alpha1/resourcerecommendations": list,
		recommendationsPath + "?labelSelector=team%3Da":                        "{kind: ResourceRecommendationList, items: []}",
		"/apis/headroom.dev/v1alpha1/namespaces/empty/resourcerecommendations": "{kind: ResourceRecommendationList, items: []}",
		"/apis/autoscaling/v2/namespaces/demo/horizontalpodautoscalers/chat": `
kind: HorizontalPodAutoscaler
apiVersion: autoscaling/v2
metadata: {name: chat, namespace: demo}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
  maxReplicas: 9
  metrics:
  - {type: Pods, pods: {metric: {name: rps}, target: {type: AverageValue, averageValue: "10"}}}
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}`,
	}
}

func TestRecommend(t *testing.T) {
	c := newCube(t, recommended())
	assert.Equal(t, `WORKLOAD            CONTAINER     RESOURCE                NOW                RECOMMENDED           RANGE   VERDICT   RISK NOW    RISK THEN   SAVES   WHY
deployment/chat     warm (init)   cpu                       1                       300m               -   Over             -            -       -   the highest of 8 days' peaks
deployment/chat     main          cpu                       2                       620m       480m–700m   Over       0% over    1.6% over    5.52   the same hours of 7 days
deployment/chat     main          memory                  1Gi                      1.5Gi   1.37Gi–1.56Gi   Short            -            -    -2Gi   killed once at 1Gi
deployment/chat     main          gpu        1 nvidia.com/gpu   1 nvidia.com/mig-3g.40gb               -   Over             -   0.3% a day   2 GPU   31Gi are needed; set gpu_memory_utilization of vLLM to 0.88
deployment/fresh    -             -                         -                          -               -   Waiting          -            -       -   headroom-controller has not looked at it yet
statefulset/embed   main          cpu                       1                          -               -   Waiting          -            -       -   2 of 24 hours are known; there will be one at 2026-11-24 10:00 UTC

3 workloads with 3 containers: 1 with a recommendation, 2 without yet.
The recommendations save 5.52 cores, -2Gi of memory and 2 GPUs (1,460 GPU-hours a month).
That is 5.52 cores, 0 of memory and 2 GPUs (1,460 GPU-hours a month) given back, less 0 cores and 2Gi of memory where more is needed.
1 container is at risk: it requests less than it needs, or nothing.
HorizontalPodAutoscaler demo/chat scales on cpu: its target must go from 60% to 193% with the new requests: the number of replicas stays
`, c.ok(t, "recommend", "-n", "demo"))
	assert.Empty(t, c.requests("/api/v1/namespaces/demo/configmaps"), "a table needs no checkpoints")
	assert.Contains(t, c.ok(t, "recommend", "-A"), "NAMESPACE   WORKLOAD")
	one := c.ok(t, "recommend", "deploy/chat", "-n", "demo", "-o", "wide")
	assert.Contains(t, one, "190h at 100%")
	assert.NotContains(t, one, "statefulset/embed")
}

func TestRecommendOutputs(t *testing.T) {
	c := newCube(t, recommended(), map[string]string{"/api/v1/namespaces/demo/configmaps/headroom-usage-chat": "403 configmaps is forbidden"})
	prices := filepath.Join(t.TempDir(), "prices.yaml")
	require.NoError(t, os.WriteFile(prices, []byte("currency: EUR\ncpuCoreHour: 0.031611\nmemoryGiBHour: 0.004237\ngpuHour: {H100: 2.99}\n"), 0o600))
	var r report.Report
	text := c.ok(t, "recommend", "-n", "demo", "-o", "json", "--price-file", prices)
	require.NoError(t, json.Unmarshal([]byte(text), &r))
	require.Len(t, r.Workloads, 3)
	assert.InDelta(t, 2, r.Total.Saving.GPUs, 1e-9)
	assert.Equal(t, "EUR", r.Prices.Currency)
	assert.InDelta(t, 730*(5.52*0.031611-2*0.004237+2*2.99), *r.Total.Saving.Money, 1e-6)
	require.Len(t, r.Notes, 1)
	assert.Contains(t, r.Notes[0], "what is kept of the past is missing for 1 of 3 workloads")

	assert.Contains(t, c.ok(t, "recommend", "-n", "demo", "-o", "yaml"), "kind: RecommendationReport")
	assert.True(t, strings.HasPrefix(c.ok(t, "recommend", "-n", "demo", "-o", "csv"), "namespace,kind,name,"))
	assert.Contains(t, c.ok(t, "recommend", "-n", "demo", "-o", "markdown"), "| demo | deployment/chat | main | memory | 1Gi | 1.5Gi |")
	page := c.ok(t, "recommend", "-A", "-o", "html")
	assert.True(t, strings.HasPrefix(page, "<!DOCTYPE html>"))
	assert.Contains(t, page, "configmaps is forbidden")
}

func TestRecommendNothing(t *testing.T) {
	c := newCube(t, recommended())
	out, errOut, err := c.run(t, "recommend", "-n", "empty")
	require.NoError(t, err)
	assert.Empty(t, out)
	assert.Equal(t, "No recommendations found in namespace empty. To have them made for its workloads: kubectl label namespace empty headroom.dev/recommend=true\n", errOut)
	_, errOut, err = c.run(t, "recommend", "-n", "demo", "-l", "team=a")
	require.NoError(t, err)
	assert.Equal(t, "No recommendations found in namespace demo for the selector team=a.\n", errOut)
	for _, bad := range []struct{ args, want string }{
		{"deployment/other -n demo", "there is no recommendation for Deployment/other in namespace demo, but for 3 others"},
		{"deployment/other -n empty", "there is no recommendation for Deployment/other in namespace empty; to have them made: kubectl label namespace empty headroom.dev/recommend=true"},
		{"chat", `"chat" is not KIND/NAME, for example deployment/chat`},
		{"deployment/chat -A", "a name and --all-namespaces exclude each other"},
		{"-o xml", `--output: "xml" is none of table, wide, json, yaml, csv, html, markdown`},
		{"--days 91", "--days: 91 is not from 0 to 90"},
		{"-l =a", `--selector: found '=', expected: !, identifier, or 'end of string'`},
		{"-n elsewhere", "the cluster knows no ResourceRecommendations: install Headroom with kubectl apply -k manifests (CustomResourceDefinition resourcerecommendations.headroom.dev not found)"},
	} {
		_, _, err := c.run(t, append([]string{"recommend"}, strings.Fields(bad.args)...)...)
		require.EqualError(t, err, bad.want)
	}
}

// TestPriceFiles: the one that docs/recommender.md shows is read, a bad one refused with its name and the field.
func TestPriceFiles(t *testing.T) {
	b, err := os.ReadFile("../../../docs/recommender.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(b), "```yaml\ncurrency:")
	require.True(t, ok, "the docs show a price file")
	example, _, _ := strings.Cut(rest, "```")
	path := filepath.Join(t.TempDir(), "prices.yaml")
	require.NoError(t, os.WriteFile(path, []byte("currency:"+example), 0o600))
	p, err := readPrices(path)
	require.NoError(t, err)
	assert.NotEmpty(t, p.GPU)
	for text, want := range map[string]string{
		"currency: EUR\ncpuCoreHour: free":  "cpuCoreHour: a JSON string is not what belongs there",
		"currency: EUR\ncpu: 1":             `"cpu" is none of currency, cpuCoreHour, memoryGiBHour and gpuHour`,
		"currency: [":                       "did not find expected node content",
		"currency: EUR\ncurrency: USD":      "already set in map",
		strings.Repeat("#", maxPriceFile+1): "larger than 1 MiB",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := readPrices(path)
		require.ErrorContains(t, err, "--price-file: ")
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, want)
	}
	_, err = readPrices(filepath.Join(t.TempDir(), "none"))
	require.ErrorContains(t, err, "--price-file: open")
}
