package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const chatManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat, namespace: demo, labels: {app: chat}}
spec:
  replicas: 4
  selector: {matchLabels: {app: chat}}
  template:
    metadata: {labels: {app: chat}}
    spec:
      initContainers:
      - {name: migrate, image: g}
      - {name: warm, image: w, resources: {requests: {cpu: "1", memory: 1Gi}}}
      containers:
      - {name: other, image: o, resources: {requests: {cpu: 10m}}}
      - name: main
        image: m
        env: [{name: A, value: b}]
        resources:
          requests: {cpu: "2", memory: 1Gi, nvidia.com/gpu: "1", ephemeral-storage: 1Gi}
          limits: {cpu: "4", memory: 1Gi, nvidia.com/gpu: "1"}
`

// TestPatchApplies applies what --patch prints as the API server does, and as kustomize does: what is recommended changes, and
// nothing else.
func TestPatchApplies(t *testing.T) {
	c := newCube(t, recommended(), map[string]string{"/apis/apps/v1/namespaces/demo/deployments/chat": chatManifest})
	text := c.ok(t, "recommend", "deployment/chat", "-n", "demo", "--patch")
	documents := strings.Split(text, "---\n")
	require.Len(t, documents, 2, text)
	assert.Contains(t, documents[0], "# Container main: set gpu_memory_utilization of vLLM to 0.88 (now 0.92) along with it.")

	var before, want appsv1.Deployment
	require.NoError(t, yaml.UnmarshalStrict([]byte(chatManifest), &before))
	want = *before.DeepCopy()
	pod := &want.Spec.Template.Spec
	pod.InitContainers[1].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("300m")
	main := &pod.Containers[1].Resources
	main.Requests[corev1.ResourceCPU], main.Limits[corev1.ResourceCPU] = resource.MustParse("620m"), resource.MustParse("1240m")
	for _, list := range []corev1.ResourceList{main.Requests, main.Limits} {
		list[corev1.ResourceMemory] = resource.MustParse("1536Mi")
		delete(list, "nvidia.com/gpu")
		list["nvidia.com/mig-3g.40gb"] = resource.MustParse("1")
	}
	assert.JSONEq(t, asJSON(t, &want), asJSON(t, applied(t, documents[0], &before, &appsv1.Deployment{})))

	var hpa, wantHPA autoscalingv2.HorizontalPodAutoscaler
	require.NoError(t, yaml.Unmarshal([]byte(recommended()["/apis/autoscaling/v2/namespaces/demo/horizontalpodautoscalers/chat"]), &hpa))
	wantHPA = *hpa.DeepCopy()
	wantHPA.Spec.Metrics[1].Resource.Target.AverageUtilization = new(int32(193))
	assert.JSONEq(t, asJSON(t, &wantHPA), asJSON(t, applied(t, documents[1], &hpa, &autoscalingv2.HorizontalPodAutoscaler{})))

	dir := t.TempDir()
	for name, content := range map[string]string{
		"chat.yaml": chatManifest, "hpa.yaml": asJSON(t, &hpa), "patch.yaml": text,
		"kustomization.yaml": "resources: [chat.yaml, hpa.yaml]\npatches: [{path: patch.yaml}]\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	require.NoError(t, err)
	for _, made := range built.Resources() {
		b, err := made.MarshalJSON()
		require.NoError(t, err)
		if made.GetKind() == "Deployment" {
			var got appsv1.Deployment
			require.NoError(t, json.Unmarshal(b, &got))
			assert.JSONEq(t, asJSON(t, &want), asJSON(t, &got))
			continue
		}
		var got autoscalingv2.HorizontalPodAutoscaler
		require.NoError(t, json.Unmarshal(b, &got))
		assert.JSONEq(t, asJSON(t, &wantHPA), asJSON(t, &got))
	}
}

// applied is what kubectl patch --patch-file makes of an object.
func applied(t *testing.T, patch string, before, after any) any {
	t.Helper()
	change, err := yaml.YAMLToJSON([]byte(patch))
	require.NoError(t, err)
	merged, err := strategicpatch.StrategicMergePatch([]byte(asJSON(t, before)), change, after)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(merged, after))
	return after
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// TestPatchWithoutAutoscaler: where the HPA cannot be read, or was changed since, its patch is missed out loud.
func TestPatchWithoutAutoscaler(t *testing.T) {
	const path = "/apis/autoscaling/v2/namespaces/demo/horizontalpodautoscalers/chat"
	for answer, want := range map[string]string{
		"403 horizontalpodautoscalers is forbidden": "# Its patch is missing: horizontalpodautoscalers is forbidden",
		"{kind: HorizontalPodAutoscaler, spec: {metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 61}}}]}}": "# Its patch is missing: the HorizontalPodAutoscaler has no metric of cpu with an averageUtilization of 60 any more",
	} {
		c := newCube(t, recommended(), map[string]string{path: answer})
		text := c.ok(t, "recommend", "-n", "demo", "--patch")
		assert.Contains(t, text, want)
		assert.Contains(t, text, "# The averageUtilization of cpu must go from 60 to 193.")
		assert.NotContains(t, text, "kind: HorizontalPodAutoscaler")
		assert.Contains(t, text, "# The workload could not be read: ")
	}
}

// TestPatchOfNothing says so.
func TestPatchOfNothing(t *testing.T) {
	c := newCube(t, recommended())
	assert.Equal(t, "# Nothing is recommended yet: kubectl headroom recommend says when it will be.\n", c.ok(t, "recommend", "deployment/fresh", "-n", "demo", "--patch"))
}
