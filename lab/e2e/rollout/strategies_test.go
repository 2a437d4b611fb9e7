package rollout

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
)

// judged is an analysis that sees a version's score in a few looks.
const judged = `
analysis: {interval: 1s, metrics: [{name: score, kind: Gauge, query: score, max: "5"}]}
`

// inForce waits until the policy holds its workload.
func (s *service) inForce() {
	s.t.Helper()
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.True(t, meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionReady), "%s", told(p))
		require.Equal(t, "Resting", p.Status.Phase, "%s", told(p))
	})
}

func (s *service) setup() setup {
	return setup{config: shared.Config, namespace: s.namespace, plane: s.plane, log: logger(s.t)}
}

// controlled runs a controller for the service's policies until the test ends.
func (s *service) controlled() { run(s.t, always(newController(s.t, s.setup()))) }

func (s *service) outcome(p *v1alpha1.RolloutPolicy, outcomes ...string) {
	s.t.Helper()
	var got []string
	for _, r := range p.Status.History {
		got = append(got, r.Outcome)
	}
	require.Equal(s.t, outcomes, got, "%s", told(p))
}

func TestRolloutRolling(t *testing.T) {
	s := deploy(t, 4, func(d *appsv1.DeploymentSpec) {
		d.MinReadySeconds, d.ProgressDeadlineSeconds = 2, new(int32(77))
		d.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: new(intstr.FromString("30%")), MaxUnavailable: new(intstr.FromInt32(1))}
	})
	s.controlled()
	s.policy("strategy: Rolling")
	s.inForce()
	s.update(version{name: "v2"})
	s.outcome(s.completed("v2"), "Completed")
	s.serves("v2", 4)
	s.remove()
}

func TestRolloutCanaryPasses(t *testing.T) {
	s := deploy(t, 4, nil)
	s.controlled()
	s.policy("strategy: Canary\ncanary: {steps: [{replicas: 1}, {percent: 50}]}" + judged)
	s.inForce()
	s.update(version{name: "v2"})
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "Settled", p.Status.Phase, "%s", told(p))
		require.NotNil(t, p.Status.Verdict, "%s", told(p))
	})
	s.outcome(s.completed("v2"), "Completed")
	s.serves("v2", 4)
	s.remove()
}

func TestRolloutCanaryFails(t *testing.T) {
	heavy(t)
	s := deploy(t, 4, nil)
	s.controlled()
	s.policy("strategy: Canary\ncanary: {steps: [{replicas: 1}]}" + judged)
	s.inForce()
	s.update(version{name: "v2", score: "bad"})
	p := s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Len(t, p.Status.History, 1, "%s", told(p))
		require.Equal(t, "Resting", p.Status.Phase, "%s", told(p))
	})
	s.outcome(p, "Failed")
	require.Equal(t, "WentBack", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionCompleted).Reason, "%s", told(p))
	s.serves("v1", 4)
	// The next version is tried.
	s.update(version{name: "v3"})
	s.outcome(s.completed("v3"), "Completed", "Failed")
	s.remove()
}

func TestRolloutBlueGreenSwitches(t *testing.T) {
	s := deploy(t, 3, nil)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(port)}},
	}}
	require.NoError(t, s.api.Create(t.Context(), service))
	s.controlled()
	s.policy("strategy: BlueGreen\nblueGreen: {gates: [{manual: true}]}\ntraffic: {service: chat, switch: true}" + judged)
	s.inForce()
	s.update(version{name: "v2"})
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "WaitsForPerson", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionCompleted).Reason, "%s", told(p))
		require.Equal(t, "0", p.Status.Traffic.WeightPercent, "%s", told(p))
	})
	require.Equal(t, map[string]int{"v1": 3, "v2": 3}, s.counts(t.Context(), t))
	s.command("1", "Promote")
	s.outcome(s.completed("v2"), "Completed")
	s.serves("v2", 3)
	require.NoError(t, s.api.Get(t.Context(), client.ObjectKeyFromObject(service), service))
	require.Equal(t, map[string]string{"app": name}, service.Spec.Selector)
	s.remove()
}

// command asks for something by the annotation.
func (s *service) command(id, kind string) {
	s.t.Helper()
	patch := `{"metadata":{"annotations":{"headroom.dev/rollout-command":"{\"id\":\"` + id + `\",\"kind\":\"` + kind + `\",\"by\":\"a-person\"}"}}}`
	p := &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	require.NoError(s.t, s.api.Patch(s.t.Context(), p, client.RawPatch("application/merge-patch+json", []byte(patch))))
}

func TestRolloutRecreate(t *testing.T) {
	heavy(t)
	s := deploy(t, 4, nil)
	s.controlled()
	s.policy("strategy: Recreate\nacceptDowntime: true")
	s.inForce()
	s.update(version{name: "v2"})
	s.outcome(s.completed("v2"), "Completed")
	s.serves("v2", 4)
	s.remove()
}

func TestRolloutPolicyIsDeletedUnderWay(t *testing.T) {
	s := deploy(t, 4, nil)
	s.controlled()
	s.policy("strategy: Canary\ncanary: {steps: [{replicas: 1, gates: [{manual: true}]}]}" + judged)
	s.inForce()
	s.update(version{name: "v2"})
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "Settled", p.Status.Phase, "%s", told(p))
	})
	s.remove()
	s.serves("v1", 4)
}

// A controller that is another one at each look loses nothing.
func TestRolloutControllerRestartsAtEachLook(t *testing.T) {
	heavy(t)
	s := deploy(t, 4, nil)
	run(t, func() *controller { return newController(t, s.setup()) })
	s.policy("strategy: Canary\ncanary: {steps: [{replicas: 1}, {percent: 50}]}" + judged)
	s.inForce()
	s.update(version{name: "v2"})
	s.outcome(s.completed("v2"), "Completed")
	s.update(version{name: "v3", score: "bad"})
	p := s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Len(t, p.Status.History, 2, "%s", told(p))
		require.Equal(t, "Resting", p.Status.Phase, "%s", told(p))
	})
	s.outcome(p, "Failed", "Completed")
	s.serves("v2", 4)
	s.remove()
}

// What cannot be followed says why, by the field, and nothing is written to the workload.
func TestRolloutPolicyThatCannotBeFollowed(t *testing.T) {
	s := deploy(t, 1, nil)
	s.controlled()
	refused := func(reason, field string, change func(p *v1alpha1.RolloutPolicy)) *v1alpha1.RolloutPolicy {
		t.Helper()
		p := &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: strings.ToLower(reason)}}
		p.Spec.TargetRef = v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name}
		change(p)
		require.NoError(t, s.api.Create(t.Context(), p))
		ctx := t.Context()
		eventually(t, func(t require.TestingT) {
			require.NoError(t, s.api.Get(ctx, client.ObjectKeyFromObject(p), p))
			c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
			require.NotNil(t, c)
			require.Equal(t, metav1.ConditionFalse, c.Status)
			require.Equal(t, reason, c.Reason, c.Message)
			require.Contains(t, c.Message, field)
		})
		return p
	}
	gone := refused("TargetNotFound", "spec.targetRef.name", func(p *v1alpha1.RolloutPolicy) { p.Spec.TargetRef.Name = "nobody" })
	require.Empty(t, gone.Finalizers)
	wrong := refused("Invalid", "spec.canary.steps[1]: is not above", func(p *v1alpha1.RolloutPolicy) {
		p.Spec.Strategy = v1alpha1.StrategyCanary
		p.Spec.Canary = &v1alpha1.CanaryStrategy{Steps: []v1alpha1.CanaryStep{{Replicas: new(int32(2))}, {Replicas: new(int32(1))}}}
	})
	require.NoError(t, s.api.Delete(t.Context(), wrong))
	require.Equal(t, s.wrote, s.spec())
	s.policy("strategy: Rolling")
	s.inForce()
	second := refused("Duplicate", `RolloutPolicy "chat" has Deployment "chat"`, func(*v1alpha1.RolloutPolicy) {})
	require.Empty(t, second.Finalizers)
	s.inForce()
	require.NoError(t, s.api.Delete(t.Context(), second))
	s.remove()
}

// A router that does not exist lets no update start, and is named.
func TestRolloutRouterIsMissing(t *testing.T) {
	s := deploy(t, 1, nil)
	s.controlled()
	s.policy("strategy: BlueGreen\ntraffic: {service: nobody, switch: true}")
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
		require.NotNil(t, c)
		require.Equal(t, "Resting", p.Status.Phase, "%s", told(p)) // the Deployment is held from then on
		require.Equal(t, "RouterNotFound", c.Reason, "%s", told(p))
		require.Contains(t, c.Message, "spec.traffic.service")
	})
	s.update(version{name: "v2"})
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "Planning", p.Status.Phase, "%s", told(p))
		require.Equal(t, "Waiting", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionCompleted).Reason, "%s", told(p))
	})
	s.serves("v1", 1)
}
