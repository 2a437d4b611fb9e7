package app

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/scaler/report"
)

const (
	hpaManifest = `apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: chat, namespace: demo}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
  minReplicas: 3
  maxReplicas: 12
  metrics:
  - type: Pods
    pods:
      metric: {name: requests_per_second}
      target: {type: AverageValue, averageValue: 1500m}
  - type: External
    external:
      metric: {name: requests_waiting, selector: {matchLabels: {deployment: chat}}}
      target: {type: Value, value: "40"}
  behavior:
    scaleDown: {stabilizationWindowSeconds: 60}
`
	policyManifest = `apiVersion: headroom.dev/v1alpha1
kind: ScalePolicy
metadata: {name: chat}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
  minReplicas: 2
  maxReplicas: 20
  capacityPerReplica: "1.8"
  utilizationPercent: 75
`
	others = "# only a comment\n---\napiVersion: v1\nkind: Service\nmetadata: {name: chat}\n---\napiVersion: acme.io/v1\nkind: Widget\n"
)

// TestManifests: both kinds are taken as they stand, from among others, and their numbers reach the policies.
func TestManifests(t *testing.T) {
	f := func(manifest string) *report.Report {
		t.Helper()
		out, err := try(t, "--synthetic", "flat", "--length", "1h", "--peak", "12", "--frontier=false", "--policies", "hpa,headroom", "-f", file(t, "all.yaml", manifest), "-o", "json")
		require.NoError(t, err)
		var r report.Report
		require.NoError(t, json.Unmarshal([]byte(out), &r))
		require.Len(t, r.Results, 2)
		return &r
	}
	bounds := func(r *report.Report) string {
		for _, s := range r.Plant {
			if s.Name == "replicas" {
				return s.Value
			}
		}
		return ""
	}
	r := f(others + "---\n" + hpaManifest)
	assert.Equal(t, "requests_per_second 1.5 a pod, requests_waiting 40 in all, window 1m0s", r.Results[0].Setting)
	assert.Equal(t, "3 to 12", bounds(r))

	r = f(policyManifest)
	assert.Contains(t, r.Results[1].Setting, "utilization 0.75")
	assert.Equal(t, "2 to 20", bounds(r))
	assert.Contains(t, strings.Join(r.Notes, "\n"), "no manifest says the HPA's target")

	r = f(hpaManifest + "---\n" + policyManifest)
	assert.Equal(t, "2 to 20", bounds(r), "the widest of both")

	r = f("apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(strings.TrimSpace(hpaManifest), "\n", "\n  "))
	assert.Equal(t, "3 to 12", bounds(r))
}

// TestManifestsRefused: errors name the file, the document and the field.
func TestManifestsRefused(t *testing.T) {
	f := func(want, manifest string) {
		t.Helper()
		path := file(t, "bad.yaml", manifest)
		page := filepath.Join(t.TempDir(), "page.html")
		out, err := try(t, "--synthetic", "flat", "--length", "1h", "-f", path, "--html", page)
		require.Error(t, err)
		assert.Equal(t, "-f: "+strings.ReplaceAll(want, "FILE", path), err.Error())
		assert.Empty(t, out)
		assert.NoFileExists(t, page)
	}
	change := func(manifest, from, to string) string {
		t.Helper()
		require.Contains(t, manifest, from)
		return strings.Replace(manifest, from, to, 1)
	}
	const has = "it has requests_per_second, requests_in_flight, requests_waiting, gpu_utilization_percent, kv_cache_usage_percent"
	f("FILE: there is neither a HorizontalPodAutoscaler nor a ScalePolicy", "")
	f("FILE: there is neither a HorizontalPodAutoscaler nor a ScalePolicy, only Service, Widget", others)
	f("FILE, document 1: has no apiVersion or no kind", "spec: {}\n")
	f(`FILE, document 1: unknown field "spec.maxReplica"`, "---\n"+change(hpaManifest, "maxReplicas", "maxReplica"))
	f(`FILE, document 2: unknown field "spec.metrics[0].pods.targets"`, policyManifest+"---\n"+change(hpaManifest, "      target: {type: Ave", "      targets: {type: Ave"))
	f("FILE, document 1: apiVersion: is autoscaling/v1, must be autoscaling/v2", change(hpaManifest, "autoscaling/v2", "autoscaling/v1"))
	f("FILE, document 1: apiVersion: is headroom.dev/v1, must be headroom.dev/v1alpha1", change(policyManifest, "v1alpha1", "v1"))
	f("FILE, document 2: a second HorizontalPodAutoscaler, chat, beside chat (FILE, document 1): one can be tried at a time", hpaManifest+"---\n"+hpaManifest)
	f("FILE, document 1: spec.maxReplicas: is 2, below minReplicas, which is 3", change(hpaManifest, "maxReplicas: 12", "maxReplicas: 2"))
	f("FILE, document 1: spec.metrics[0].pods.metric.name: the plant has no queue_length; "+has, change(hpaManifest, "requests_per_second", "queue_length"))
	f("FILE, document 1: spec.metrics[1].external.metric.name: the plant has no queue_length; "+has, change(hpaManifest, "requests_waiting", "queue_length"))
	f("FILE, document 1: spec.metrics[0].type: is \"Pod\", and there is no source of that type beside it", change(hpaManifest, "type: Pods", "type: Pod"))
	metrics := hpaManifest[strings.Index(hpaManifest, "  metrics:"):strings.Index(hpaManifest, "  behavior:")]
	f("FILE, document 1: spec.metrics: is empty, which the API server makes 80% of the CPU request; the plant has no CPU, but "+strings.TrimPrefix(has, "it has "), change(hpaManifest, metrics, ""))
	f("FILE, document 1: spec.metrics[0].resource.name: the plant has no cpu; "+has, change(hpaManifest, metrics, "  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]\n"))
	f("FILE, document 1: spec.behavior.scaleDown.stabilizationWindowSeconds: is 2h0m0s, must be from 0 to 1h0m0s", change(hpaManifest, "Seconds: 60", "Seconds: 7200"))
	f("FILE, document 1: spec.minReplicas: 30 is above maxReplicas, 20", change(policyManifest, "minReplicas: 2", "minReplicas: 30"))
	f("FILE, document 1: spec.slo: without it or capacityPerReplica nothing says how much a replica can serve", change(policyManifest, "  capacityPerReplica: \"1.8\"\n", ""))
	f("FILE, document 1: spec.capacityPerReplica: 0 is not positive", change(policyManifest, `"1.8"`, `"0"`))
	f("FILE, document 1: spec.demand.metric: the plant has no tokens_per_second that adds up; it has requests_per_second, requests_in_flight", policyManifest+"  demand: {metric: tokens_per_second}\n")
	f(`FILE, document 1: unknown field "spec.utilisation"`, policyManifest+"  utilisation: 3\n")
	_, err := try(t, "--synthetic", "flat", "-f", "/nope.yaml")
	require.EqualError(t, err, "-f: open /nope.yaml: no such file or directory")
}
