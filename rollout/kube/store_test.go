package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

func TestRecordIsReadBack(t *testing.T) {
	r := record{
		State: rollout.State{
			Phase: rollout.Settled, UID: "u", From: "a", To: "b", Step: 0, Since: time.Unix(1e9, 0).UTC(),
			Schedule: &rollout.Schedule{Steps: []rollout.Step{{Name: "10%", Held: true, Judged: true}}},
		},
		Stable: "a", Judge: []byte{1, 0, 2},
		Notes: notes{Announced: 3, Held: true, Run: &v1alpha1.RolloutRecord{ID: "b"}, Target: &target{"Deployment", "chat"}, Rules: &rollout.Policy{Reserve: 2}},
	}
	var m corev1.ConfigMap
	require.NoError(t, r.encode(&m))
	got := decode(&m)
	require.NoError(t, got.unreadable)
	require.Equal(t, &r, got)
}

// FuzzDecode: whatever stands in the ConfigMap, what is read can be given to rollout.Next.
func FuzzDecode(f *testing.F) {
	f.Add(`{"phase":"Settled","from":"a","to":"b","schedule":{"steps":[{"name":"x","held":true}]}}`, `{"announced":1}`, "a")
	f.Add(`{"phase":"Moving","step":-1}`, `{`, "")
	f.Add(`{"phase":"Nonsense"}`, `[]`, "")
	f.Add(`{"phase":"GoingBack","from":"a","step":9,"schedule":{"steps":[]}}`, ``, "")
	f.Fuzz(func(t *testing.T, state, notes, stable string) {
		r := decode(&corev1.ConfigMap{Data: map[string]string{stateKey: state, notesKey: notes, stableKey: stable}})
		o := rollout.Observation{Workload: &rollout.Workload{UID: "u", Replicas: 2, Template: "a", Synced: true}, Versions: map[string]rollout.Version{"a": {Replicas: 2, Ready: 2}}, Stable: r.Stable}
		q := rollout.Request{Now: time.Unix(1e9, 0), Service: rollout.Service{Kind: rollout.Deployment, Replicas: 2, Capacity: 1}, Demand: rollout.Constant(1)}
		rollout.Next(r.State, q, o)
		o.Workload = nil
		rollout.Next(r.State, q, o)
	})
}

func TestNamesOfRecordsFitAndDiffer(t *testing.T) {
	long := strings.Repeat("a", 253)
	require.Len(t, recordOf(long), maxName)
	require.NotEqual(t, recordOf(long), recordOf(long[:252]+"b"))
	require.Equal(t, "headroom-rollout-chat", recordOf("chat"))
}

func TestMetricsAreWellFormedAndWithdrawn(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	p, err := newPublished(reg)
	require.NoError(t, err)
	of := types.NamespacedName{Namespace: "n", Name: "chat"}
	l := &look{
		p:        &v1alpha1.RolloutPolicy{},
		record:   &record{State: rollout.State{Phase: rollout.Settled, From: "a", To: "b", Schedule: &rollout.Schedule{Steps: []rollout.Step{{}}}}},
		versions: map[string]rollout.Version{"a": {Ready: 3}, "b": {Ready: 1, Loading: 1}}, weight: new(0.25),
		verdict: rollout.Verdict{Result: rollout.Pass},
	}
	p.show(of, l)
	policy := &v1alpha1.RolloutPolicy{}
	policy.Namespace, policy.Name = "n", "chat"
	p.refusals.WithLabelValues("n", "chat", "NoCapacity").Inc()
	p.finished(policy, &v1alpha1.RolloutRecord{Outcome: "Completed", StartedAt: new(timeOf(time.Unix(0, 0)))}, time.Unix(100, 0))
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP headroom_rollout_step The step that an update is at, from 1; 0 at rest.
# TYPE headroom_rollout_step gauge
headroom_rollout_step{namespace="n",rolloutpolicy="chat"} 1
# HELP headroom_rollout_weight_ratio The share of requests of the new version that the router has in force.
# TYPE headroom_rollout_weight_ratio gauge
headroom_rollout_weight_ratio{namespace="n",rolloutpolicy="chat"} 0.25
`), "headroom_rollout_step", "headroom_rollout_weight_ratio"))
	p.forget(of)
	left, err := reg.Gather()
	require.NoError(t, err)
	require.Empty(t, left)
}
