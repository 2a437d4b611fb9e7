package app

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/report"
)

// lived is six days of a container's samples, one a minute, as they came and as the recommender keeps them: a daily wave, and
// half a day without any.
type lived struct {
	at     []time.Time
	values map[recommender.Resource][]float64
	kept   map[recommender.Key]*recommender.Usage
}

func live(seed uint64) *lived {
	r := rand.New(rand.NewPCG(seed, 9))
	l := &lived{values: map[recommender.Resource][]float64{}, kept: map[recommender.Key]*recommender.Usage{}}
	scale := map[recommender.Resource]float64{recommender.CPU: 0.6, recommender.Memory: 1.2e9}
	for resource := range scale {
		l.kept[recommender.Key{Container: "main", Resource: resource}] = recommender.NewUsage(resource, recommender.DefaultPolicy(resource))
	}
	for at := noon.Add(-6 * 24 * time.Hour); at.Before(noon); at = at.Add(time.Minute) {
		if gap := noon.Sub(at); gap > 30*time.Hour && gap < 42*time.Hour {
			continue
		}
		l.at = append(l.at, at)
		wave := 0.6 - 0.3*math.Cos(2*math.Pi*float64(at.Unix())/86400)
		for _, resource := range []recommender.Resource{recommender.CPU, recommender.Memory} {
			v := scale[resource] * wave * (0.85 + 0.3*r.Float64())
			l.values[resource] = append(l.values[resource], v)
			l.kept[recommender.Key{Container: "main", Resource: resource}].Add(at, v, 1, at)
		}
	}
	return l
}

// replay counts the samples of the closed hours since a time one by one.
func (l *lived) replay(resource recommender.Resource, request, limit float64, since time.Time) (over float64, kills int) {
	n, above := 0, 0
	killed := map[time.Time]bool{}
	for i, at := range l.at {
		if at.Before(since) || !at.Before(noon.Add(-time.Hour)) {
			continue
		}
		n++
		v := l.values[resource][i]
		if v > request {
			above++
		}
		if v > limit {
			killed[at.Truncate(time.Hour)] = true
		}
	}
	return 100 * float64(above) / float64(n), len(killed)
}

// TestRecommendReplaysCheckpoints: what is said of the last days is what happened in them, by a count of the samples.
func TestRecommendReplaysCheckpoints(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		l := live(seed)
		encoded, err := (&recommender.Checkpoint{At: noon, Usages: l.kept}).Encode()
		require.NoError(t, err)
		c := newCube(t, recommended(), map[string]string{
			recommendationsPath: `
kind: ResourceRecommendationList
items:
- metadata: {name: chat, namespace: demo}
  spec: {targetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}}
  status:
    conditions: [{type: Ready, status: "True", reason: Recommended, message: "", lastTransitionTime: null}]
    replicas: 1
    checkpoint: usage
    containers:
    - name: main
      type: Container
      resources:
      - {resource: cpu, request: 400m, recommended: 500m, reason: Daily, message: x}
      - {resource: memory, request: "800000000", limit: "1000000000", recommended: "1100000000", recommendedLimit: "1100000000", reason: Peak, message: x}`,
			"/api/v1/namespaces/demo/configmaps/usage": "{kind: ConfigMap, binaryData: {usage: " + base64.StdEncoding.EncodeToString(encoded) + "}}",
		})
		for _, days := range []string{"1", "3", "90"} {
			var r report.Report
			require.NoError(t, json.Unmarshal([]byte(c.ok(t, "recommend", "-n", "demo", "-o", "json", "--days", days)), &r))
			require.Empty(t, r.Notes)
			length, err := time.ParseDuration(days + "h")
			require.NoError(t, err)
			since := noon.Add(-24 * length)
			for _, a := range r.Workloads[0].Containers[0].Resources {
				for _, one := range []struct {
					got            *report.Replay
					request, limit *float64
				}{{a.Now, a.Request, a.Limit}, {a.Then, a.Recommended, a.RecommendedLimit}} {
					limit := math.Inf(1)
					if one.limit != nil {
						limit = *one.limit
					}
					over, kills := l.replay(recommender.Resource(a.Resource), *one.request, limit, since)
					// Hours are kept as quantiles on a grid: shares within some percent of the time, peaks within a thousandth.
					assert.InDelta(t, over, one.got.Over, 6, "seed %d: %s over %v in %s days", seed, a.Resource, *one.request, days)
					assert.InDelta(t, kills, one.got.Kills, 1, "seed %d: %s above %v in %s days", seed, a.Resource, limit, days)
				}
				require.NotNil(t, a.Usage)
				assert.False(t, a.Usage.Start.Before(since))
				assert.Equal(t, 3600.0, a.Usage.Step)
				l.sameHours(t, recommender.Resource(a.Resource), a.Usage)
			}
		}
		assert.Contains(t, c.ok(t, "recommend", "-n", "demo", "-o", "html"), "<svg")
	}
}

// sameHours holds the peaks of the hours, and which of them are known, to the samples.
func (l *lived) sameHours(t *testing.T, resource recommender.Resource, u *report.Usage) {
	t.Helper()
	most := map[time.Time]float64{}
	for i, at := range l.at {
		hour := at.Truncate(time.Hour)
		most[hour] = max(most[hour], l.values[resource][i])
	}
	for i, n := range u.Max {
		hour := u.Start.Add(time.Duration(i) * time.Hour)
		want, known := most[hour]
		require.Equal(t, known, !math.IsNaN(float64(n)), "%s", hour)
		if known {
			assert.InEpsilon(t, want, float64(n), 0.06, "%s of %s", resource, hour) // the grid of levels is 5.7 % wide
			assert.LessOrEqual(t, u.P50[i], u.P90[i])
			assert.LessOrEqual(t, float64(u.P90[i]), 1.06*float64(n))
		}
	}
}

// TestRecommendBadCheckpoint: one that cannot be read costs the plots, and is said.
func TestRecommendBadCheckpoint(t *testing.T) {
	c := newCube(t, recommended(), map[string]string{
		"/api/v1/namespaces/demo/configmaps/headroom-usage-chat": "{kind: ConfigMap, binaryData: {usage: " + base64.StdEncoding.EncodeToString([]byte("HRUSAGE\xff")) + "}}",
	})
	assert.Contains(t, c.ok(t, "recommend", "-n", "demo", "--days", "2"),
		"Note: what is kept of the past is missing for 1 of 3 workloads: cannot read ConfigMap demo/headroom-usage-chat: the checkpoint is of a newer version")
}

// TestRecommendStock: VerticalPodAutoscalers that name our recommender are shown beside what the template says, others are not,
// and a workload that has a ResourceRecommendation is shown once.
func TestRecommendStock(t *testing.T) {
	const template = `{kind: Deployment, spec: {replicas: 3, template: {spec: {
  initContainers: [{name: side, restartPolicy: Always, resources: {requests: {cpu: 100m}}}],
  containers: [{name: main, resources: {requests: {cpu: "1", memory: 1Gi}, limits: {memory: 2Gi}}}]}}}}`
	vpa := func(name, target, by string) string {
		return `
- metadata: {name: ` + name + `, namespace: demo}
  spec: {targetRef: {apiVersion: apps/v1, kind: Deployment, name: ` + target + `}, recommenders: [{name: ` + by + `}]}
  status:
    conditions: [{type: RecommendationProvided, status: "True", lastTransitionTime: "2026-11-23T11:00:00Z"}]
    recommendation:
      containerRecommendations:
      - {containerName: main, target: {cpu: 250m, memory: 512Mi}, lowerBound: {cpu: 200m, memory: 400Mi}, upperBound: {cpu: 300m, memory: 600Mi}}
      - {containerName: side, target: {cpu: 200m}}`
	}
	c := newCube(t, recommended(), map[string]string{
		"/apis/autoscaling.k8s.io/v1/namespaces/demo/verticalpodautoscalers": "kind: VerticalPodAutoscalerList\nitems:" +
			vpa("api", "api", "headroom") + vpa("stock", "other", "default") + vpa("chat", "chat", "headroom") + vpa("gone", "gone", "headroom"),
		"/apis/apps/v1/namespaces/demo/deployments/api": template,
	})
	var r report.Report
	require.NoError(t, json.Unmarshal([]byte(c.ok(t, "recommend", "-n", "demo", "-o", "json")), &r))
	names := map[string]*report.Workload{}
	for i := range r.Workloads {
		names[r.Workloads[i].Name+" by "+r.Workloads[i].Source] = &r.Workloads[i]
	}
	require.Len(t, names, 5)
	api := names["api by VerticalPodAutoscaler/api"]
	require.NotNil(t, api)
	assert.Equal(t, int32(3), *api.Replicas)
	assert.InDelta(t, 3*(1.1-0.45), api.Saving.Cores, 1e-9)
	assert.Equal(t, report.TypeSidecar, api.Containers[1].Type)
	assert.Equal(t, report.Short, api.Containers[1].Resources[0].Verdict)
	assert.InDelta(t, 2<<30, *api.Containers[0].Resources[1].Limit, 1)
	require.NotNil(t, names["gone by VerticalPodAutoscaler/gone"])
	assert.Nil(t, names["gone by VerticalPodAutoscaler/gone"].Saving)
	assert.Contains(t, r.Notes[len(r.Notes)-1], "what Deployment demo/gone requests now is not known")
	assert.Contains(t, c.ok(t, "recommend", "deploy/api", "-n", "demo"), "as in the status of VerticalPodAutoscaler api")
}
