package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab/kubelet"
	"headroom.dev/headroom/lab/kubelet/devices"
)

const (
	name = "chat" // of every Deployment and policy
	port = 8000
	// enough is what an update of a few pods that load for a second takes at most on a busy machine.
	enough = 2 * time.Minute
)

// service is a Deployment in a namespace of its own, with what its owner wrote.
type service struct {
	t         *testing.T
	api       client.Client
	plane     *plane
	namespace string
	wrote     map[string]any // the spec before the policy
}

// version is a template. Score is "bad" where the judge is to fail it.
type version struct {
	name, score string
	faultHealth bool
}

// deploy makes a Deployment of one-GPU pods and waits until all of them are Ready.
func deploy(t *testing.T, replicas int32, change func(*appsv1.DeploymentSpec)) *service {
	t.Helper()
	s := &service{t: t, api: newClient(t, shared.Config, nil)}
	s.plane = &plane{api: s.api, demand: 10 * float64(replicas)}
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "rollout-"}}
	require.NoError(t, s.api.Create(t.Context(), space))
	s.namespace = space.Name
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		Template: s.template(version{name: "v1"}),
	}}
	if change != nil {
		change(&d.Spec)
	}
	require.NoError(t, s.api.Create(t.Context(), d))
	t.Cleanup(s.leave)
	s.serves("v1", int(replicas))
	s.wrote = s.spec()
	return s
}

// leave removes the namespace's pods, so that their GPUs are free. Policies are left to whoever still reconciles them.
func (s *service) leave() {
	ctx, cancel := detached(s.t)
	defer cancel()
	var policies v1alpha1.RolloutPolicyList
	require.NoError(s.t, s.api.List(ctx, &policies, client.InNamespace(s.namespace)))
	for i := range policies.Items {
		p := &policies.Items[i]
		p.Finalizers = nil
		assert.NoError(s.t, ignoreGone(s.api.Update(ctx, p)))
		assert.NoError(s.t, ignoreGone(s.api.Delete(ctx, p)))
	}
	for _, kind := range []client.Object{&appsv1.Deployment{}, &appsv1.StatefulSet{}, &appsv1.DaemonSet{}} {
		require.NoError(s.t, s.api.DeleteAllOf(ctx, kind, client.InNamespace(s.namespace), client.PropagationPolicy(metav1.DeletePropagationBackground)))
	}
	require.Eventually(s.t, func() bool {
		var pods corev1.PodList
		return s.api.List(ctx, &pods, client.InNamespace(s.namespace)) == nil && len(pods.Items) == 0
	}, time.Minute, 100*time.Millisecond)
}

func (s *service) template(v version) corev1.PodTemplateSpec {
	labels := map[string]string{"app": name, "version": v.name}
	if v.score != "" {
		labels["score"] = v.score
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{
			kubelet.SimulateAnnotation: fmt.Sprintf("{startup: 1s, version: %s, faultHealth: %t}", v.name, v.faultHealth),
		}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(1)),
			Containers: []corev1.Container{{
				Name: "server", Image: "registry.example/chat:" + v.name,
				Ports:     []corev1.ContainerPort{{Name: "http", ContainerPort: port}},
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{devices.Resource: resource.MustParse("1")}},
				ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
					HTTPGet: &corev1.HTTPGetAction{Path: "/health", Port: intstr.FromString("http")},
				}},
			}},
		},
	}
}

// policy makes the service's policy, with so much as the YAML of its spec says.
func (s *service) policy(spec string) {
	s.t.Helper()
	p := &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	base := `
targetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
startupTime: 3s
drainTime: 2s
capacityPerReplica: "10"
demand: {query: demand}
`
	require.NoError(s.t, yaml.UnmarshalStrict([]byte(base), &p.Spec))
	require.NoError(s.t, yaml.UnmarshalStrict([]byte(spec), &p.Spec))
	require.NoError(s.t, s.api.Create(s.t.Context(), p))
}

// update applies another template, as a person does.
func (s *service) update(v version) {
	s.t.Helper()
	raw, err := json.Marshal(map[string]any{"spec": map[string]any{"template": s.template(v)}})
	require.NoError(s.t, err)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	require.NoError(s.t, s.api.Patch(s.t.Context(), d, client.RawPatch(types.MergePatchType, raw), client.FieldOwner("a-person")))
}

// spec is the Deployment's without its template and replicas, as the API server has it.
func (s *service) spec() map[string]any {
	s.t.Helper()
	var d appsv1.Deployment
	require.NoError(s.t, s.api.Get(s.t.Context(), key(s.namespace, name), &d))
	raw, err := json.Marshal(d.Spec)
	require.NoError(s.t, err)
	var out map[string]any
	require.NoError(s.t, json.Unmarshal(raw, &out))
	delete(out, "template")
	return out
}

func (s *service) counts(ctx context.Context, t require.TestingT) map[string]int {
	var pods corev1.PodList
	require.NoError(t, s.api.List(ctx, &pods, client.InNamespace(s.namespace)))
	ready := map[string]int{}
	for i := range pods.Items {
		p := &pods.Items[i]
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
				ready[p.Labels["version"]]++
			}
		}
	}
	return ready
}

// serves waits until exactly so many pods, all of one version, are Ready.
func (s *service) serves(version string, n int) {
	s.t.Helper()
	ctx := s.t.Context()
	eventually(s.t, func(t require.TestingT) { require.Equal(t, map[string]int{version: n}, s.counts(ctx, t)) })
}

// seen is the policy as it is now.
func (s *service) seen(ctx context.Context, t require.TestingT) *v1alpha1.RolloutPolicy {
	var p v1alpha1.RolloutPolicy
	require.NoError(t, s.api.Get(ctx, key(s.namespace, name), &p))
	return &p
}

// awaitPolicy waits until the policy's status is as a check wants it.
func (s *service) awaitPolicy(check func(require.TestingT, *v1alpha1.RolloutPolicy)) *v1alpha1.RolloutPolicy {
	s.t.Helper()
	ctx := s.t.Context()
	var p *v1alpha1.RolloutPolicy
	eventually(s.t, func(t require.TestingT) {
		p = s.seen(ctx, t)
		check(t, p)
	})
	return p
}

// completed waits until the newest template, which is the version's, runs everywhere, and says so.
func (s *service) completed(version string) *v1alpha1.RolloutPolicy {
	s.t.Helper()
	return s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.True(t, meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionCompleted), "%s", told(p))
		require.NotNil(t, p.Status.Stable, "%s", told(p))
		require.Equal(t, "registry.example/chat:"+version, p.Status.Stable.Images["server"], "%s", told(p))
	})
}

func told(p *v1alpha1.RolloutPolicy) string {
	raw, err := json.MarshalIndent(p.Status, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// remove deletes the policy and waits until it is gone, and then compares the spec with what its owner wrote.
func (s *service) remove() {
	s.t.Helper()
	ctx := s.t.Context()
	require.NoError(s.t, s.api.Delete(ctx, &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}))
	eventually(s.t, func(t require.TestingT) {
		var p v1alpha1.RolloutPolicy
		err := s.api.Get(ctx, key(s.namespace, name), &p)
		require.Error(t, err, "%s", told(&p))
		require.NoError(t, ignoreGone(err))
	})
	require.Equal(s.t, s.wrote, s.spec())
	var left corev1.ConfigMap
	require.Error(s.t, s.api.Get(ctx, key(s.namespace, "headroom-rollout-"+name), &left), "the record is left")
}

// empty waits until no pod is Ready.
func (s *service) empty() {
	s.t.Helper()
	ctx := s.t.Context()
	eventually(s.t, func(t require.TestingT) { require.Empty(t, s.counts(ctx, t)) })
}
