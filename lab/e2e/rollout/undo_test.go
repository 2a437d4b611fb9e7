package rollout

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab/kubelet"
)

// light makes a template's pods need no GPU, so that tests that are not about GPUs can run beside each other, and load at once.
func light(t *corev1.PodTemplateSpec) {
	t.Annotations[kubelet.SimulateAnnotation] = "{startup: 0s}"
	t.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
}

// deployLight is deploy for pods that need no GPU.
func deployLight(t *testing.T, replicas int32, change func(*appsv1.DeploymentSpec)) *service {
	t.Helper()
	return deploy(t, replicas, func(d *appsv1.DeploymentSpec) {
		light(&d.Template)
		if change != nil {
			change(d)
		}
	})
}

// updateLight is update for pods that need no GPU.
func (s *service) updateLight(name string) {
	s.t.Helper()
	template := s.template(version{name: name})
	light(&template)
	s.write(template)
}

// write writes another template.
func (s *service) write(template corev1.PodTemplateSpec) {
	s.t.Helper()
	raw, err := json.Marshal(map[string]any{"spec": map[string]any{"template": template}})
	require.NoError(s.t, err)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	require.NoError(s.t, s.api.Patch(s.t.Context(), d, client.RawPatch(types.MergePatchType, raw), client.FieldOwner("a-person")))
}

// handled waits until a command has been obeyed.
func (s *service) handled(id string) *v1alpha1.RolloutPolicy {
	s.t.Helper()
	return s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, id, p.Status.HandledCommand, "%s", told(p))
	})
}

// Undo at rest is an update of its own, to the version before; asked again, it goes forward again.
func TestRolloutUndoAtRest(t *testing.T) {
	t.Parallel()
	s := deployLight(t, 2, nil)
	s.controlled()
	s.policy("strategy: Rolling")
	s.inForce()
	s.command("0", "Undo")
	p := s.handled("0")
	require.Contains(t, p.Status.Message, "no version before", "%s", told(p))
	s.updateLight("v2")
	s.completed("v2")
	s.inForce()
	for i, version := range []string{"v1", "v2"} {
		s.command(string(rune('1'+i)), "Undo")
		s.completed(version)
		s.serves(version, 2)
		s.inForce()
	}
	s.outcome(s.seen(t.Context(), t), "Completed", "Completed", "Completed")
	s.remove()
}

// A version whose ReplicaSet was pruned cannot be gone back to: that is said once, in an event and in the status, and nothing is
// tried again and again.
func TestRolloutUndoOfPrunedVersion(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := deployLight(t, 2, func(d *appsv1.DeploymentSpec) { d.RevisionHistoryLimit = new(int32(0)) })
	c := newController(t, s.setup())
	stop := run(t, always(c))
	s.policy("{strategy: Canary, canary: {steps: [{replicas: 1, unjudged: true, gates: [{manual: true}]}]}}")
	s.inForce()
	s.updateLight("v2")
	s.settled()
	s.command("0", "Promote")
	s.completed("v2")
	s.inForce()
	s.replicaSets(1)
	s.command("1", "Undo")
	p := s.handled("1")
	require.Contains(t, p.Status.Message, "revisionHistoryLimit", "%s", told(p))
	require.True(t, meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionCompleted), "%s", told(p))
	// One that was aborted is pruned as well: it can be retried once its template is there again.
	s.updateLight("v3")
	s.settled()
	s.command("2", "Abort")
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "WentBack", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionCompleted).Reason, "%s", told(p))
	})
	s.replicaSets(1)
	s.command("3", "Retry")
	p = s.handled("3")
	require.Contains(t, p.Status.Message, "apply its template, and retry", "%s", told(p))
	require.Equal(t, "WentBack", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionCompleted).Reason, "%s", told(p))
	stop()
	for range 3 {
		require.NoError(t, c.look(t.Context()))
	}
	require.Equal(t, 2, count(c.events, "VersionLost"))
	run(t, always(c))
	s.updateLight("v3")
	s.command("4", "Retry")
	s.settled()
	s.command("5", "Promote")
	s.outcome(s.completed("v3"), "Completed", "Aborted", "Completed")
	s.serves("v3", 2)
	s.remove()
}

// A template that waits for its turn is put off while the Deployment is paused, when no ReplicaSet has it: it is not lost.
func TestRolloutQueuedTemplateIsKept(t *testing.T) {
	t.Parallel()
	s := deployLight(t, 2, nil)
	s.controlled()
	s.policy("{strategy: Canary, onNewTemplate: Queue, canary: {steps: [{replicas: 1, unjudged: true, gates: [{manual: true}]}]}}")
	s.inForce()
	s.updateLight("v2")
	s.settled()
	s.updateLight("v3")
	ctx := t.Context()
	eventually(t, func(t require.TestingT) {
		var d appsv1.Deployment
		require.NoError(t, s.api.Get(ctx, key(s.namespace, name), &d))
		require.Equal(t, "registry.example/chat:v2", d.Spec.Template.Spec.Containers[0].Image)
		require.Len(t, s.kept(ctx, t), 1)
	})
	s.replicaSets(2)
	s.command("1", "Promote")
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.NotNil(t, p.Status.Update, "%s", told(p))
		require.Equal(t, "registry.example/chat:v3", p.Status.Update.Images["server"], "%s", told(p))
		require.Equal(t, "Settled", p.Status.Phase, "%s", told(p))
	})
	s.command("2", "Promote")
	s.outcome(s.completed("v3"), "Completed", "Completed")
	s.serves("v3", 2)
	require.Empty(t, s.kept(ctx, t))
	s.remove()
}

// kept are the templates that are kept for the Deployment.
func (s *service) kept(ctx context.Context, t require.TestingT) []appsv1.ControllerRevision {
	var list appsv1.ControllerRevisionList
	require.NoError(t, s.api.List(ctx, &list, client.InNamespace(s.namespace)))
	return list.Items
}

// replicaSets waits until the Deployment has so many.
func (s *service) replicaSets(n int) {
	s.t.Helper()
	ctx := s.t.Context()
	eventually(s.t, func(t require.TestingT) {
		var list appsv1.ReplicaSetList
		require.NoError(t, s.api.List(ctx, &list, client.InNamespace(s.namespace)))
		require.Len(t, list.Items, n)
	})
}

// count takes the events that were published, and tells how many have a reason. They are "Warning REASON note".
func count(events <-chan string, reason string) int {
	n := 0
	for {
		select {
		case e := <-events:
			if strings.Contains(e, " "+reason+" ") {
				n++
			}
		default:
			return n
		}
	}
}
