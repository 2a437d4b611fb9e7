package rollout

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// settled waits for a step's mix.
func (s *service) settled() {
	s.t.Helper()
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "Settled", p.Status.Phase, "%s", told(p))
	})
}

// gated is a canary that waits for a person.
const gated = "strategy: Canary\ncanary: {steps: [{replicas: 1, unjudged: true, gates: [{manual: true}]}]}"

// edit changes the policy's spec, as a person does.
func (s *service) edit(patch string) {
	s.t.Helper()
	p := &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	require.NoError(s.t, s.api.Patch(s.t.Context(), p, client.RawPatch("application/merge-patch+json", []byte(patch))))
}

// A policy that is made to contradict itself in mid-update holds where it is, even when a person resumes, and goes on once it is right.
func TestRolloutPolicyContradictsItselfUnderWay(t *testing.T) {
	s := deploy(t, 3, nil)
	s.controlled()
	s.policy("strategy: Canary\ncanary: {steps: [{replicas: 1, unjudged: true, gates: [{pause: 4s}]}]}")
	s.inForce()
	s.update(version{name: "v2"})
	s.settled()
	s.edit(`{"spec":{"canary":{"steps":[{"replicas":2},{"replicas":1}]}}}`)
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
		require.Equal(t, "Invalid", ready.Reason, "%s", told(p))
		require.Equal(t, "Paused", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionCompleted).Reason, "%s", told(p))
	})
	s.command("1", "Resume")
	p := s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "1", p.Status.HandledCommand)
	})
	require.Equal(t, "Settled", p.Status.Phase, "%s", told(p))
	s.edit(`{"spec":{"canary":{"steps":[{"replicas":1,"unjudged":true}]}}}`)
	s.outcome(s.completed("v2"), "Completed")
	s.remove()
}

// A record that is destroyed in mid-update loses no field, and promotes nothing: the update goes back.
func TestRolloutRecordIsLost(t *testing.T) {
	heavy(t)
	for _, how := range []string{"deleted", "garbled"} {
		t.Run(how, func(t *testing.T) {
			s := deploy(t, 3, nil)
			stop := run(t, always(newController(t, s.setup())))
			s.policy(gated)
			s.inForce()
			s.update(version{name: "v2"})
			s.settled()
			stop()
			var record corev1.ConfigMap
			require.NoError(t, s.api.Get(t.Context(), key(s.namespace, "headroom-rollout-"+name), &record))
			if how == "deleted" {
				record.Finalizers = nil
				require.NoError(t, s.api.Update(t.Context(), &record))
				require.NoError(t, s.api.Delete(t.Context(), &record))
			} else {
				record.Data["state"] = `{"phase":"Settled","step":7`
				require.NoError(t, s.api.Update(t.Context(), &record))
			}
			s.controlled()
			p := s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
				require.Equal(t, "Resting", p.Status.Phase, "%s", told(p))
				require.Equal(t, "WentBack", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionCompleted).Reason, "%s", told(p))
			})
			require.Contains(t, p.Status.Stable.Images["server"], ":v1")
			s.serves("v1", 3)
			s.remove()
		})
	}
}

// Two updates share the GPUs that there are: the second waits for the first, and no pod of either waits for a GPU.
func TestRolloutsShareGPUs(t *testing.T) {
	a, b := deploy(t, 4, nil), deploy(t, 3, nil) // of 8 GPUs, 1 is free
	a.plane.others = map[string]float64{b.namespace: b.plane.demand}
	first := newController(t, a.setup())
	run(t, always(first))
	second := *first
	second.namespace = b.namespace
	run(t, always(&second))
	a.policy("{strategy: Rolling, startupTime: 3s}")
	b.policy("{strategy: Rolling, startupTime: 3s}")
	a.inForce()
	b.inForce()
	a.update(version{name: "v2"})
	b.update(version{name: "v2"})
	pa, pb := a.completed("v2"), b.completed("v2")
	a.outcome(pa, "Completed")
	b.outcome(pb, "Completed")
	// Neither began before the other had ended: there was one GPU for both.
	first1, second1 := pa.Status.History[0], pb.Status.History[0]
	if second1.StartedAt.Before(first1.StartedAt) {
		first1, second1 = second1, first1
	}
	require.False(t, second1.StartedAt.Before(&first1.EndedAt), "%s\n%s", told(pa), told(pb))
	a.remove()
	b.remove()
}

// A Deployment that is deleted in mid-update leaves nothing behind, and the policy serves its successor.
func TestRolloutDeploymentIsDeletedUnderWay(t *testing.T) {
	s := deploy(t, 3, nil)
	s.controlled()
	s.policy(gated)
	s.inForce()
	s.update(version{name: "v2"})
	s.settled()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	require.NoError(t, s.api.Delete(t.Context(), d, client.PropagationPolicy(metav1.DeletePropagationForeground)))
	p := s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "Gone", p.Status.Phase, "%s", told(p))
		require.Equal(t, "TargetNotFound", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady).Reason, "%s", told(p))
	})
	s.outcome(p, "Deleted")
	s.empty()
	again := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}, Template: s.template(version{name: "v3"}),
	}}
	ctx := t.Context()
	eventually(t, func(t require.TestingT) { // the old one waits for its pods to be gone
		require.NoError(t, s.api.Create(ctx, again.DeepCopy()))
	})
	s.serves("v3", 2)
	s.inForce()
	s.update(version{name: "v4"})
	s.settled()
	s.command("1", "Promote")
	s.completed("v4")
}

// A policy that is pointed at another workload gives the first one back before it holds the second.
func TestRolloutPolicyChangesItsTarget(t *testing.T) {
	s := deploy(t, 2, nil)
	other := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "other"}, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(1)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "other"}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "other"}}, Spec: s.template(version{name: "v1"}).Spec},
	}}
	require.NoError(t, s.api.Create(t.Context(), other))
	s.controlled()
	s.policy(gated)
	s.inForce()
	s.edit(`{"spec":{"targetRef":{"name":"other"}}}`)
	ctx := t.Context()
	eventually(t, func(t require.TestingT) {
		require.NoError(t, s.api.Get(ctx, client.ObjectKeyFromObject(other), other))
		require.True(t, other.Spec.Paused)
	})
	require.Equal(t, s.wrote, s.spec())
	s.inForce()
}

func TestRolloutOfOtherKinds(t *testing.T) {
	heavy(t)
	for _, kind := range []rollout.Kind{rollout.StatefulSet, rollout.DaemonSet} {
		t.Run(string(kind), func(t *testing.T) {
			s := &service{t: t, api: newClient(t, shared.Config, nil)}
			s.plane = &plane{api: s.api, demand: 5}
			space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "rollout-"}}
			require.NoError(t, s.api.Create(t.Context(), space))
			s.namespace = space.Name
			t.Cleanup(s.leave)
			selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
			at := metav1.ObjectMeta{Namespace: s.namespace, Name: name}
			var o client.Object = &appsv1.StatefulSet{ObjectMeta: at, Spec: appsv1.StatefulSetSpec{
				Replicas: new(int32(2)), Selector: selector, ServiceName: name, PodManagementPolicy: appsv1.ParallelPodManagement, Template: s.template(version{name: "v1"}),
			}}
			if kind == rollout.DaemonSet {
				o = &appsv1.DaemonSet{ObjectMeta: at, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: s.template(version{name: "v1"})}}
			}
			require.NoError(t, s.api.Create(t.Context(), o))
			s.serves("v1", 2)
			before := specOf(t.Context(), t, s.api, o)
			s.controlled()
			s.policy("{strategy: Rolling, targetRef: {apiVersion: apps/v1, kind: " + string(kind) + ", name: chat}}")
			s.inForce()
			raw, err := json.Marshal(map[string]any{"spec": map[string]any{"template": s.template(version{name: "v2"})}})
			require.NoError(t, err)
			require.NoError(t, s.api.Patch(t.Context(), o, client.RawPatch("application/merge-patch+json", raw)))
			s.outcome(s.completed("v2"), "Completed")
			s.serves("v2", 2)
			s.wrote = nil
			require.NoError(t, s.api.Delete(t.Context(), s.seen(t.Context(), t)))
			ctx := t.Context()
			eventually(t, func(t require.TestingT) {
				require.Equal(t, before, specOf(ctx, t, s.api, o))
			})
		})
	}
}

// specOf is a workload's spec without its template.
func specOf(ctx context.Context, t require.TestingT, api client.Client, o client.Object) map[string]any {
	require.NoError(t, api.Get(ctx, client.ObjectKeyFromObject(o), o))
	raw, err := json.Marshal(o)
	require.NoError(t, err)
	var all struct {
		Spec map[string]any `json:"spec"`
	}
	require.NoError(t, json.Unmarshal(raw, &all))
	delete(all.Spec, "template")
	return all.Spec
}
