package rightsizing

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/binaries"
)

const (
	namespace  = "shop"
	system     = "headroom-system"
	controller = "headroom-controller"
	ours       = "headroom"             // in spec.recommenders
	owner      = "headroom-recommender" // of the fields that it writes
	estimator  = "headroom.dev/estimator"

	// scaleVariable is that of lab/e2e.
	scaleVariable = "HEADROOM_E2E_SCALE"
)

// The services. over and under have a VerticalPodAutoscaler of ours, stock one that asks for the stock recommender's numbers, and
// byHand one that names another recommender, which is this test.
func over() service   { return service{"over", sizes{"2", "4Gi"}, sizes{"200m", "300Mi"}} }
func under() service  { return service{"under", sizes{"100m", "128Mi"}, sizes{"600m", "700Mi"}} }
func stock() service  { return service{"stock", sizes{"100m", "128Mi"}, sizes{"50m", "100Mi"}} }
func byHand() service { return service{"by-hand", sizes{"1", "1Gi"}, sizes{"100m", "100Mi"}} }

// TestRightsizing goes the whole way once. Its parts build on each other.
func TestRightsizing(t *testing.T) {
	if os.Getenv(scaleVariable) != "full" {
		t.Skipf("builds metrics-server and the Vertical Pod Autoscaler, and takes minutes; %s=full, or make test-recommender-lab, runs it", scaleVariable)
	}
	c := bringUp(t)
	require.NoError(t, c.api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	history := c.newPast(t, over(), under())
	for _, s := range []service{over(), under(), stock(), byHand()} {
		c.deploy(t, s)
	}
	for _, part := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"metrics-server has what KWOK simulates", c.metricsOfAll},
		{"updater and admission controller follow a status written by hand", c.followsByHand},
		{"the controller recommends", func(t *testing.T) { c.recommends(t, history) }},
		{"the stock estimator goes on from the stock checkpoint", c.stockEstimator},
		{"updater and admission controller follow ours", c.followsOurs},
		{"a killed controller has forgotten nothing", func(t *testing.T) { c.remembers(t, history) }},
		{"kubectl headroom recommend shows both", c.reports},
		{"what is not ours was left alone", c.leavesAlone},
	} {
		if !t.Run(part.name, part.f) {
			return
		}
	}
}

// metricsOfAll reads metrics.k8s.io as kubectl does.
func (c *cluster) metricsOfAll(t *testing.T) {
	eventually(t, time.Minute, func(ct require.TestingT) {
		out, err := c.Cluster().Run(t.Context(), "top", "pods", "-n", namespace, "--no-headers")
		require.NoError(ct, err)
		seen := map[string]int{}
		for line := range strings.Lines(out) {
			fields := strings.Fields(line)
			require.Len(ct, fields, 3)
			for _, s := range []service{over(), under(), stock(), byHand()} {
				if !strings.HasPrefix(fields[0], s.name+"-") {
					continue
				}
				// metrics-server dates a counter by its request, which KWOK answers some milliseconds later.
				require.InEpsilon(ct, amount(t, s.uses.cpu), amount(t, fields[1]), 0.05, line)
				require.Equal(ct, s.uses.memory, fields[2], line)
				seen[s.name]++
			}
		}
		require.Equal(ct, map[string]int{over().name: 2, under().name: 2, stock().name: 2, byHand().name: 2}, seen, out)
	})
}

// followsByHand is the lab without us: what the updater and the admission controller do with a recommendation.
func (c *cluster) followsByHand(t *testing.T) {
	name := byHand().name
	c.autoscale(t, name, name, vpav1.UpdateModeRecreate, nil)
	v := c.vpa(t.Context(), t, name)
	before := v.DeepCopy()
	bounds := func(s sizes) corev1.ResourceList { return s.list() }
	v.Status.Recommendation = &vpav1.RecommendedPodResources{ContainerRecommendations: []vpav1.RecommendedContainerResources{{
		ContainerName: container, Target: bounds(sizes{"150m", "200Mi"}), LowerBound: bounds(sizes{"100m", "150Mi"}),
		UpperBound: bounds(sizes{"300m", "400Mi"}), UncappedTarget: bounds(sizes{"150m", "200Mi"}),
	}}}
	v.Status.Conditions = []vpav1.VerticalPodAutoscalerCondition{{Type: vpav1.RecommendationProvided, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	require.NoError(t, c.api.Status().Patch(t.Context(), v, client.MergeFrom(before), client.FieldOwner("this-test")))
	began := time.Now()
	c.resized(t, name, 2*time.Minute)
	t.Logf("both pods have what was recommended after %s", time.Since(began).Round(time.Second))
}

// recommends installs Headroom, has it sample quickly, and waits for recommendations that stand on a week's past.
func (c *cluster) recommends(t *testing.T, history past) {
	require.NoError(t, c.Cluster().Install(t.Context(), c.Progress))
	c.configure(t, "--recommend-interval=5s", "--recommend-checkpoint-interval=10s", fmt.Sprintf("--recommend-history=%dh", 24*pastDays),
		"--prometheus-url="+history.url)
	// Now: a workload that is known already is not filled from the past.
	c.autoscale(t, over().name, ours, vpav1.UpdateModeOff, nil)
	c.autoscale(t, under().name, ours, vpav1.UpdateModeOff, nil)
	_, err := c.Cluster().Run(t.Context(), "label", "namespace", namespace, v1alpha1.LabelRecommend+"=true")
	require.NoError(t, err)
	began := time.Now()
	for _, s := range []service{over(), under()} {
		target := c.recommended(t, s.name, 2*time.Minute)
		t.Logf("%s uses %+v and requests %+v: recommended %s after %s", s.name, s.uses, s.requests, text(target), time.Since(began).Round(time.Second))
		// What is used, of which levels are within 2.8 % and CPU may lack some for 2 % of the time, and less than twice as much, as
		// usage is so even.
		uses := s.uses.list()
		for name, q := range target {
			used := uses[name]
			assert.Greater(t, q.AsApproximateFloat64(), 0.97*used.AsApproximateFloat64(), "%s of %s", name, s.name)
			assert.Less(t, q.AsApproximateFloat64(), 2*used.AsApproximateFloat64(), "%s of %s", name, s.name)
		}
		assert.Equal(t, []string{owner}, c.statusWriters(t, s.name))
	}
}

// configure gives the controller more flags and leaves one replica, so that killing it leaves none.
func (c *cluster) configure(t *testing.T, flags ...string) {
	t.Helper()
	var patch []map[string]any
	for _, flag := range flags {
		patch = append(patch, map[string]any{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": flag})
	}
	patch = append(patch, map[string]any{"op": "replace", "path": "/spec/replicas", "value": 1})
	raw, err := json.Marshal(patch)
	require.NoError(t, err)
	for _, args := range [][]string{
		{"patch", "deployment", controller, "-n", system, "--type=json", "-p", string(raw)},
		{"rollout", "status", "deployment/" + controller, "-n", system, "--timeout=2m"},
	} {
		_, err := c.Cluster().Run(t.Context(), args...)
		require.NoError(t, err)
	}
}

// stockEstimator hands a VerticalPodAutoscaler over from the stock recommender: a checkpoint as that writes it says that a week's
// samples were at 0.9 cores and 1 GiB, of which the samples of now know nothing.
func (c *cluster) stockEstimator(t *testing.T) {
	ctx, name, now := t.Context(), stock().name, metav1.Now()
	// In a single bucket: 34 of the CPU's ends at 0.2·(1.05³⁵-1) = 0.903 cores, 37 of memory's at 1.077e9 bytes.
	histogram := func(bucket int) vpav1.HistogramCheckpoint {
		return vpav1.HistogramCheckpoint{ReferenceTimestamp: metav1.NewTime(now.Truncate(24 * time.Hour)), BucketWeights: map[int]uint32{bucket: 10000}, TotalWeight: 1e4}
	}
	point := &vpav1.VerticalPodAutoscalerCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name + "-" + container},
		Spec:       vpav1.VerticalPodAutoscalerCheckpointSpec{VPAObjectName: name, ContainerName: container},
		Status: vpav1.VerticalPodAutoscalerCheckpointStatus{
			LastUpdateTime: now, Version: "v3", CPUHistogram: histogram(34), MemoryHistogram: histogram(37),
			FirstSampleStart: metav1.NewTime(now.Add(-7 * 24 * time.Hour)), LastSampleStart: metav1.NewTime(now.Add(-time.Minute)), TotalSamplesCount: 10080,
		},
	}
	status := point.Status
	require.NoError(t, c.api.Create(ctx, point))
	if point.Status.Version == "" { // a cluster whose definition has the status as a subresource
		point.Status = status
		require.NoError(t, c.api.Status().Update(ctx, point))
	}
	c.autoscale(t, name, ours, vpav1.UpdateModeOff, map[string]string{estimator: "vpa"})
	target := c.recommended(t, name, 2*time.Minute)
	t.Logf("with the stock recommender's checkpoint: %s", text(target))
	// The bucket's end, and 15 % on top.
	assert.InDelta(t, 1038, target.Cpu().MilliValue(), 15)
	assert.InEpsilon(t, 1.15*1.077e9, target.Memory().Value(), 0.02)
	eventually(t, time.Minute, func(t require.TestingT) {
		var read vpav1.VerticalPodAutoscalerCheckpoint
		require.NoError(t, c.api.Get(ctx, client.ObjectKeyFromObject(point), &read))
		require.Greater(t, read.Status.TotalSamplesCount, 10080, "the samples of now are added")
		require.Equal(t, "v3", read.Status.Version)
		require.True(t, read.Status.LastSampleStart.After(now.Time.Add(-time.Minute)))
	})
}

// followsOurs lets the updater act.
func (c *cluster) followsOurs(t *testing.T) {
	for _, s := range []service{over(), under()} {
		for _, p := range c.pods(t.Context(), t, s.name) {
			requests := s.requests.list()
			require.Equal(t, text(requests), text(p.Spec.Containers[0].Resources.Requests), "mode Off: nobody acts yet")
		}
		v := c.vpa(t.Context(), t, s.name)
		before := v.DeepCopy()
		v.Spec.UpdatePolicy.UpdateMode = new(vpav1.UpdateModeRecreate)
		require.NoError(t, c.api.Patch(t.Context(), v, client.MergeFrom(before)))
	}
	began := time.Now()
	for _, s := range []service{over(), under()} {
		c.resized(t, s.name, 2*time.Minute)
		t.Logf("both pods of %s have what is recommended after %s", s.name, time.Since(began).Round(time.Second))
		require.Equal(t, 2, c.evictions(t, s.name), "one for each pod")
	}
}

// remembers kills the controller with SIGKILL, sees what it wrote apply meanwhile, takes away the past and the recommendations, and
// waits for them to come back out of the checkpoints alone. The updater finds nothing to do afterwards.
func (c *cluster) remembers(t *testing.T, history past) {
	ctx := t.Context()
	before := map[string]corev1.ResourceList{}
	for _, s := range []service{over(), under()} {
		before[s.name] = c.recommended(t, s.name, time.Second)
		eventually(t, time.Minute, func(t require.TestingT) {
			var m corev1.ConfigMapList
			require.NoError(t, c.api.List(ctx, &m, client.InNamespace(namespace)))
			found := 0
			for i := range m.Items {
				if strings.HasSuffix(m.Items[i].Name, "deployment-"+s.name) {
					found = len(m.Items[i].BinaryData)
				}
			}
			require.NotZero(t, found, "the checkpoint of %s", s.name)
		})
	}
	history.stop()
	pid := c.controllerPID(ctx, t)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	gone := c.pods(ctx, t, under().name)[0]
	require.NoError(t, c.api.Delete(ctx, &gone))
	c.resized(t, under().name, time.Minute)
	eventually(t, time.Minute, func(t require.TestingT) { require.NotEqual(t, pid, c.controllerPID(ctx, t)) })
	began := time.Now()
	for name := range before {
		v := c.vpa(ctx, t, name)
		base := v.DeepCopy()
		v.Status.Recommendation = nil
		require.NoError(t, c.api.Status().Patch(ctx, v, client.MergeFrom(base), client.FieldOwner("this-test")))
	}
	for name, old := range before {
		fresh := c.recommended(t, name, 2*time.Minute)
		t.Logf("%s: %s before the kill, %s %s after", name, text(old), text(fresh), time.Since(began).Round(time.Second))
		for resource, q := range fresh {
			was := old[resource]
			assert.Less(t, math.Abs(q.AsApproximateFloat64()/was.AsApproximateFloat64()-1), 0.05, "%s of %s", resource, name)
		}
		assert.Equal(t, 2, c.evictions(t, name), "as before the kill")
	}
}

// controllerPID is the id of the controller's process.
func (c *cluster) controllerPID(ctx context.Context, t require.TestingT) int {
	_, processes, err := lab.ReadState(c.Dir)
	require.NoError(t, err)
	var pids []int
	for _, p := range processes {
		if strings.HasPrefix(p.Name, system+"/"+controller) {
			pids = append(pids, p.PID)
		}
	}
	require.Len(t, pids, 1)
	require.NoError(t, ctx.Err())
	return pids[0]
}

// reports runs the kubectl plugin.
func (c *cluster) reports(t *testing.T) {
	own, err := binaries.Own(t.Context(), c.Source, filepath.Join(t.TempDir(), "bin"), "kubectl-headroom")
	require.NoError(t, err)
	run := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), own["kubectl-headroom"], append([]string{"recommend", "-n", namespace}, args...)...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	table := run()
	t.Logf("\n%s", table)
	for _, s := range []service{over(), under()} {
		require.Contains(t, table, s.name)
	}
	require.True(t, json.Valid([]byte(run("-o", "json"))))
	require.Contains(t, run("-o", "html"), "<html")
}

// leavesAlone looks at the VerticalPodAutoscaler that names another recommender.
func (c *cluster) leavesAlone(t *testing.T) {
	require.Equal(t, []string{"this-test"}, c.statusWriters(t, byHand().name))
	target := c.recommended(t, byHand().name, time.Second)
	require.Equal(t, text(sizes{"150m", "200Mi"}.list()), text(target))
}
