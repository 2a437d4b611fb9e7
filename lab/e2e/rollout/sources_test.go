package rollout

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab/kubelet/devices"
	"headroom.dev/headroom/rollout/capacity"
)

// lowClass is the PriorityClass of placeholders and of batch pods.
const lowClass = "rollout-low"

// small makes the cluster one node of four GPUs, and returns what brings the other node back, as an autoscaler would bring a new one.
func small(t *testing.T) (grow func()) {
	t.Helper()
	api := newClient(t, shared.Config, nil)
	low := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: lowClass}, Value: -5, PreemptionPolicy: new(corev1.PreemptNever)}
	if err := api.Create(t.Context(), low); !apierrors.IsAlreadyExists(err) {
		require.NoError(t, err)
	}
	node := &corev1.Node{}
	require.NoError(t, api.Get(t.Context(), client.ObjectKey{Name: "gpu-1"}, node))
	fresh := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: node.Labels, Annotations: node.Annotations},
		Status:     corev1.NodeStatus{Capacity: node.Status.Capacity, Allocatable: node.Status.Allocatable, NodeInfo: node.Status.NodeInfo},
	}
	require.NoError(t, api.Delete(t.Context(), node))
	eventually(t, func(tt require.TestingT) { // pods that are bound meanwhile would be lost
		require.True(tt, apierrors.IsNotFound(api.Get(t.Context(), client.ObjectKeyFromObject(node), &corev1.Node{})))
	})
	grow = func() {
		ctx, cancel := detached(t)
		defer cancel()
		if err := api.Create(ctx, fresh.DeepCopy()); !apierrors.IsAlreadyExists(err) {
			require.NoError(t, err)
		}
		eventually(t, func(t require.TestingT) {
			var is corev1.Node
			require.NoError(t, api.Get(ctx, client.ObjectKeyFromObject(fresh), &is))
			require.Empty(t, is.Spec.Taints)
			require.Contains(t, is.Status.Allocatable, corev1.ResourceName(devices.Resource))
		})
	}
	t.Cleanup(grow)
	return grow
}

// made are the objects that were made for the policy, by kind.
func (s *service) made(t require.TestingT, kinds ...schema.GroupVersionKind) []unstructured.Unstructured {
	var out []unstructured.Unstructured
	for _, kind := range kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		require.NoError(t, s.api.List(s.t.Context(), list, client.InNamespace(s.namespace), client.HasLabels{capacity.LabelPolicy}))
		out = append(out, list.Items...)
	}
	return out
}

// unmade waits until none of them is left.
func (s *service) unmade(kinds ...schema.GroupVersionKind) {
	s.t.Helper()
	eventually(s.t, func(t require.TestingT) { require.Empty(t, s.made(t, kinds...)) })
}

// from wants a plan's GPUs beyond the service's own to come from a source.
func from(t require.TestingT, p *v1alpha1.RolloutPolicy, source string, gpus int32) {
	require.NotNil(t, p.Status.Plan, "%s", told(p))
	require.Contains(t, p.Status.Plan.Uses, v1alpha1.RolloutUse{Source: source, Replicas: 1, GPUs: gpus}, "%s", told(p))
}

// On a full cluster a placeholder asks for the GPU that the update needs, the autoscaler makes a node, and the placeholder goes.
func TestRolloutProvisionsByPlaceholder(t *testing.T) {
	heavy(t)
	grow := small(t)
	s := deploy(t, 4, nil)
	s.controlled()
	s.policy("{strategy: Rolling, sources: [{kind: Free}, {kind: Provision, provision: {maxReplicas: 1, delay: 5s, placeholder: {priorityClassName: " + lowClass + "}}}]}")
	s.inForce()
	s.update(version{name: "v2"})
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "Moving", p.Status.Phase, "%s", told(p))
		from(t, p, "Provision", 1)
		require.Contains(t, p.Status.Message, "placeholder", "%s", told(p))
	})
	ctx := t.Context()
	eventually(t, func(t require.TestingT) { // what an autoscaler goes by
		var pods corev1.PodList
		require.NoError(t, s.api.List(ctx, &pods, client.InNamespace(s.namespace), client.HasLabels{capacity.LabelPolicy}))
		require.Len(t, pods.Items, 1)
		require.Empty(t, pods.Items[0].Spec.NodeName)
		require.Equal(t, "1", pods.Items[0].Spec.Containers[0].Resources.Requests.Name(devices.Resource, resource.DecimalSI).String())
	})
	require.Equal(t, 4, s.counts(ctx, t)["v1"])
	grow()
	s.outcome(s.completed("v2"), "Completed")
	s.serves("v2", 4)
	s.unmade(appsv1.SchemeGroupVersion.WithKind("DeploymentList"))
	s.remove()
}

// A ProvisioningRequest is made, waited for and deleted.
func TestRolloutProvisionsByRequest(t *testing.T) {
	heavy(t)
	crds := filepath.Join(shared.source, "rollout", "capacity", "testdata", "crds.yaml")
	install(t, crds)
	t.Cleanup(func() { // other tests' clusters have none
		ctx, cancel := detached(t)
		defer cancel()
		_, err := shared.Cluster().Run(ctx, "delete", "-f", crds)
		assert.NoError(t, err)
	})
	grow := small(t)
	s := deploy(t, 4, nil)
	s.controlled()
	s.policy("{strategy: Rolling, sources: [{kind: Provision, name: ca, provision: {maxReplicas: 1, delay: 5s, provisioningRequest: {}}}]}")
	s.inForce()
	s.update(version{name: "v2"})
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		from(t, p, "Provision (ca)", 1)
		require.Contains(t, p.Status.Message, "is not accepted yet", "%s", told(p))
	})
	kind := schema.GroupVersionKind{Group: "autoscaling.x-k8s.io", Version: "v1", Kind: "ProvisioningRequestList"}
	requests := s.made(t, kind)
	require.Len(t, requests, 1)
	sets, _, err := unstructured.NestedSlice(requests[0].Object, "spec", "podSets")
	require.NoError(t, err)
	require.Equal(t, int64(1), sets[0].(map[string]any)["count"])
	grow()
	requests[0].Object["status"] = map[string]any{"conditions": []any{map[string]any{
		"type": "Provisioned", "status": "True", "reason": "Provisioned", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
	}}}
	require.NoError(t, s.api.Status().Update(t.Context(), &requests[0], client.FieldOwner("cluster-autoscaler")))
	s.outcome(s.completed("v2"), "Completed")
	s.serves("v2", 4)
	s.unmade(kind, corev1.SchemeGroupVersion.WithKind("PodTemplateList"))
	s.remove()
}

// Pods of a negative priority give way to an update, and come back after it. The service asks for two GPUs by limits alone, which
// count as two everywhere.
func TestRolloutPreempts(t *testing.T) {
	small(t)
	two := func(t *corev1.PodTemplateSpec) {
		t.Spec.Containers[0].Resources.Limits = corev1.ResourceList{devices.Resource: resource.MustParse("2")}
	}
	s := deploy(t, 1, func(d *appsv1.DeploymentSpec) { two(&d.Template) })
	batch := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "batch"}, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "batch"}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "batch", "version": "batch"}}, Spec: s.template(version{name: "v1"}).Spec},
	}}
	batch.Spec.Template.Spec.PriorityClassName = lowClass
	require.NoError(t, s.api.Create(t.Context(), batch))
	ctx := t.Context()
	running := func(t require.TestingT) map[string]bool {
		var pods corev1.PodList
		require.NoError(t, s.api.List(ctx, &pods, client.InNamespace(s.namespace), client.MatchingLabels{"app": "batch"}))
		out := map[string]bool{}
		for i := range pods.Items {
			if pods.Items[i].Spec.NodeName != "" && pods.Items[i].DeletionTimestamp == nil {
				out[string(pods.Items[i].UID)] = true
			}
		}
		require.Len(t, out, 2)
		return out
	}
	var before map[string]bool
	eventually(t, func(t require.TestingT) { before = running(t) })

	s.controlled()
	s.policy("{strategy: Rolling, sources: [{kind: Free}, {kind: Preempt}]}")
	s.inForce()
	v2 := s.template(version{name: "v2"})
	two(&v2)
	s.write(v2)
	p := s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) { from(t, p, "Preempt", 2) })
	require.Equal(t, []int32{4, 2}, []int32{p.Status.Plan.GPUs, p.Status.Plan.ExtraGPUs}, "%s", told(p))
	require.Equal(t, int32(2), p.Status.Basis.GPUs, "%s", told(p))
	s.outcome(s.completed("v2"), "Completed")
	eventually(t, func(t require.TestingT) {
		for uid := range running(t) {
			require.NotContains(t, before, uid)
		}
	})
	s.remove()
}

// A node that never comes is given up after the deadline, for the next source, and what asked for it goes.
func TestRolloutFallsBack(t *testing.T) {
	heavy(t)
	small(t)
	s := deploy(t, 4, nil)
	s.plane.demand = 30
	c := newController(t, s.setup())
	run(t, always(c))
	s.policy("{strategy: Rolling, reserve: 1, deadlines: {noGPU: 2s}, sources: [{kind: Provision, name: spot, provision: {maxReplicas: 1, delay: 1s, placeholder: {priorityClassName: " + lowClass + "}}}, {kind: Degrade}]}")
	s.inForce()
	s.update(version{name: "v2"})
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) { from(t, p, "Provision (spot)", 1) })
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "FellBack", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionProgressing).Reason, "%s", told(p))
		require.Contains(t, p.Status.Message, "without Provision (spot): surge 0, unavailable 1", "%s", told(p))
	})
	s.outcome(s.completed("v2"), "Completed")
	s.serves("v2", 4)
	require.Equal(t, 1, count(c.events, "FellBack"))
	s.unmade(appsv1.SchemeGroupVersion.WithKind("DeploymentList"))
	s.remove()
}
