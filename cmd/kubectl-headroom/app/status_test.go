package app

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const policiesPath = "/apis/headroom.dev/v1alpha1/namespaces/demo/scalepolicies"

func policies() map[string]string {
	const list = `
kind: ScalePolicyList
apiVersion: headroom.dev/v1alpha1
items:
- metadata: {name: chat, namespace: demo}
  spec: {mode: Act, maxReplicas: 9, targetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}}
  status:
    conditions: [{type: Ready, status: "True", reason: Decided, message: "20 is forecast in 3m15s and needs 3", lastTransitionTime: null}]
    currentReplicas: 2
    desiredReplicas: 3
    reactiveReplicas: 2
    limit: Forecast
    demand: {current: "12", predicted: 20500m, predictedFor: "2026-11-23T12:03:15Z", previouslyPredicted: "13"}
    forecasts:
    - {horizon: 1m0s, method: last value, samples: 50, inUse: false}
    - {horizon: 3m15s, method: seasonal, scorePercent: 31, samples: 40, inUse: true}
    capacity: [{version: a, gpu: H100, perReplica: "8.5", source: AtLeast, samples: 70}]
    startup: {source: Learnt, p50: 2m0s, p90: 3m0s, samples: 9}
    decisions:
    - {time: "2026-11-23T11:59:00Z", from: 2, to: 3, reactive: 2, limit: Forecast, message: "20 is forecast"}
    account: {since: "2026-11-22T12:00:00Z", usedReplicaHours: "48", policyReplicaHours: 40500m, shortReplicaHours: "3", policyShortReplicaHours: 500m}
- metadata: {name: new, namespace: demo}
  spec: {mode: Observe, maxReplicas: 2, targetRef: {apiVersion: apps/v1, kind: StatefulSet, name: embed}}
`
	return map[string]string{policiesPath: list, "/apis/headroom.dev/v1alpha1/scalepolicies": list}
}

func TestStatus(t *testing.T) {
	c := newCube(t, policies())
	assert.Equal(t, ""+
		"NAME   TARGET              MODE      CURRENT   DESIRED   REACTIVE   LIMIT      DEMAND   PREDICTED   SKILL   STATUS    MESSAGE\n"+
		"chat   Deployment/chat     Act       2         3         2          Forecast   12       20.5        31%     Decided   20 is forecast in 3m15s and needs 3\n"+
		"new    StatefulSet/embed   Observe   -         -         -          -          -        -           -       Pending   headroom-controller has not looked at it yet\n",
		c.ok(t, "status", "-n", "demo"))
	assert.Equal(t, ""+
		"NAME   TARGET            MODE   CURRENT   DESIRED   REACTIVE   LIMIT      DEMAND   PREDICTED   SKILL   CAPACITY   START-UP P90   USED H   POLICY H   SHORT H   POLICY SHORT H   STATUS    MESSAGE\n"+
		"chat   Deployment/chat   Act    2         3         2          Forecast   12       20.5        31%     ≥8.5       3m             48       40.5       3         0.5              Decided   20 is forecast in 3m15s and needs 3\n"+
		"\n"+
		"DECIDED   FROM   TO    LIMIT      BECAUSE\n"+
		"60s ago   2      3     Forecast   20 is forecast\n",
		c.ok(t, "status", "chat", "-n", "demo", "-o", "wide"))
	assert.Contains(t, c.ok(t, "status", "-A"), "NAMESPACE   NAME   TARGET")

	var report statusReport
	require.NoError(t, json.Unmarshal([]byte(c.ok(t, "status", "-n", "demo", "-o", "json")), &report))
	require.Len(t, report.Items, 2)
	assert.InDelta(t, 20.5, *report.Items[0].Predicted, 1e-9)
	assert.True(t, report.Items[0].Skill.InUse)
	assert.Nil(t, report.Items[1].Desired, "what is not known is no number")
}

func TestStatusOfNothing(t *testing.T) {
	c := newCube(t, policies(), map[string]string{"/apis/headroom.dev/v1alpha1/namespaces/empty/scalepolicies": "{kind: ScalePolicyList, items: []}"})
	out, errOut, err := c.run(t, "status", "-n", "empty")
	require.NoError(t, err)
	assert.Empty(t, out)
	assert.Equal(t, "No ScalePolicies found.\n", errOut)
	_, _, err = c.run(t, "status", "none", "-n", "demo")
	require.EqualError(t, err, `there is no ScalePolicy "none" in namespace demo`)
	_, _, err = c.run(t, "status", "-n", "elsewhere")
	require.EqualError(t, err, "the cluster knows no ScalePolicies: is Headroom installed? (CustomResourceDefinition scalepolicies.headroom.dev not found)")
	_, _, err = c.run(t, "status", "none", "-A")
	require.EqualError(t, err, "a name and --all-namespaces exclude each other")
}
