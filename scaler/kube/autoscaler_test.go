package kube

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler/policy"
)

func policyWith(change func(p *v1alpha1.ScalePolicy)) *v1alpha1.ScalePolicy {
	p := &v1alpha1.ScalePolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: v1alpha1.KindScalePolicy},
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "chat", UID: "uid-chat", Generation: 1, CreationTimestamp: metav1.NewTime(noon)},
		Spec:       *spec(nil),
	}
	if change != nil {
		change(p)
	}
	return p
}

// TestAutoscalerFollows checks that nothing in the spec keeps the stock HPA from any count between the bounds in one step.
func TestAutoscalerFollows(t *testing.T) {
	s := autoscalerSpec(policyWith(nil), 0)
	assert.EqualValues(t, 2, *s.MinReplicas)
	assert.EqualValues(t, 9, s.MaxReplicas)
	require.Len(t, s.Metrics, 1)
	external := s.Metrics[0].External
	assert.Equal(t, map[string]string{"scalepolicy": "chat"}, external.Metric.Selector.MatchLabels)
	assert.EqualValues(t, 1000, external.Target.AverageValue.MilliValue(), "the wish divided by 1, rounded up")
	for _, rules := range []*autoscalingv2.HPAScalingRules{s.Behavior.ScaleUp, s.Behavior.ScaleDown} {
		assert.True(t, rules.Tolerance.IsZero())
		assert.Zero(t, *rules.StabilizationWindowSeconds)
		assert.Equal(t, autoscalingv2.MaxChangePolicySelect, *rules.SelectPolicy)
		require.Len(t, rules.Policies, 1)
		assert.Equal(t, autoscalingv2.PodsScalingPolicy, rules.Policies[0].Type)
		assert.GreaterOrEqual(t, rules.Policies[0].Value, s.MaxReplicas, "a step of as many pods as there can be")
	}
}

// TestAutoscalerKeepsAnUpdatesFloor: the minimum is the policy's, raised as far as the maximum lets it.
func TestAutoscalerKeepsAnUpdatesFloor(t *testing.T) {
	for annotation, want := range map[string]int32{"": 2, "1": 2, "7": 7, "9": 9, "12": 9, "-3": 2, "many": 2, "7.5": 2, "9999999999": 2} {
		h := hpaTo("chat", "chat", func(h *autoscalingv2.HorizontalPodAutoscaler) {
			h.Annotations = map[string]string{v1alpha1.AnnotationRolloutFloor: annotation}
		})
		assert.Equal(t, want, *autoscalerSpec(policyWith(nil), floorOf(&h)).MinReplicas, annotation)
	}
	assert.Zero(t, floorOf(nil))
}

func hpaTo(name, target string, change func(h *autoscalingv2.HorizontalPodAutoscaler)) autoscalingv2.HorizontalPodAutoscaler {
	h := autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, UID: types.UID("uid-" + name)},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1beta1", Kind: "Deployment", Name: target}, MaxReplicas: 3,
		},
	}
	if change != nil {
		change(&h)
	}
	return h
}

func ownedBy(kind, name string, uid types.UID) func(h *autoscalingv2.HorizontalPodAutoscaler) {
	return func(h *autoscalingv2.HorizontalPodAutoscaler) {
		h.OwnerReferences = []metav1.OwnerReference{{APIVersion: "x/v1", Kind: kind, Name: name, UID: uid, Controller: new(true)}}
	}
}

func TestClaim(t *testing.T) {
	f := func(adopt bool, name, mine, adopted, conflict string, hpas ...autoscalingv2.HorizontalPodAutoscaler) {
		t.Helper()
		p := policyWith(func(p *v1alpha1.ScalePolicy) {
			p.Spec.Autoscaler = v1alpha1.AutoscalerOptions{Name: name, Adopt: adopt}
		})
		c, err := claimOf(p, hpas)
		if conflict != "" {
			require.EqualError(t, err, "spec.autoscaler: "+conflict)
			assert.Equal(t, v1alpha1.ReasonAutoscalerConflict, policy.ErrorOf(err).Reason)
			return
		}
		require.NoError(t, err)
		nameOf := func(h *autoscalingv2.HorizontalPodAutoscaler) string {
			if h == nil {
				return ""
			}
			return h.Name
		}
		assert.Equal(t, mine, nameOf(c.mine))
		assert.Equal(t, adopted, nameOf(c.adopt))
	}
	own := ownedBy("ScalePolicy", "chat", "uid-chat")
	f(false, "", "", "", "")
	f(false, "", "chat", "", "", hpaTo("chat", "chat", own), hpaTo("other", "other", nil))
	f(false, "new", "old", "", "", hpaTo("old", "chat", own)) // renamed by act
	f(false, "", "", "", `HorizontalPodAutoscaler "theirs" scales chat already: delete it, or set adopt to take it over`, hpaTo("theirs", "chat", nil))
	f(true, "", "", "theirs", "", hpaTo("theirs", "chat", nil))
	f(true, "", "", "", `HorizontalPodAutoscaler "keda" belongs to ScaledObject "chat": it cannot be taken over`, hpaTo("keda", "chat", ownedBy("ScaledObject", "chat", "k")))
	f(true, "", "", "", `HorizontalPodAutoscaler "chat" scales Deployment "else": set another name`, hpaTo("chat", "else", nil))
	f(true, "", "", "", `HorizontalPodAutoscaler "a", "b" scales chat, too`, hpaTo("a", "chat", nil), hpaTo("b", "chat", nil))
	f(true, "", "", "", `HorizontalPodAutoscaler "b" scales chat, too`, hpaTo("chat", "chat", own), hpaTo("b", "chat", nil))
	f(false, "", "", "", "", hpaTo("statefulset", "chat", func(h *autoscalingv2.HorizontalPodAutoscaler) { h.Spec.ScaleTargetRef.Kind = "StatefulSet" }))
	f(false, "", "", "", "", hpaTo("elsewhere", "chat", func(h *autoscalingv2.HorizontalPodAutoscaler) { h.Spec.ScaleTargetRef.APIVersion = "example.com/v1" }))
	f(false, "", "", "", "", hpaTo("going", "chat", func(h *autoscalingv2.HorizontalPodAutoscaler) { h.DeletionTimestamp = new(metav1.NewTime(noon)) }))
}

func TestRival(t *testing.T) {
	p := policyWith(nil)
	f := func(want string, change func(o *v1alpha1.ScalePolicy)) {
		t.Helper()
		other := policyWith(func(o *v1alpha1.ScalePolicy) {
			o.Name, o.UID, o.CreationTimestamp = "older", "uid-older", metav1.NewTime(noon.Add(-time.Hour))
			change(o)
		})
		got := ""
		if r := rival(p, []v1alpha1.ScalePolicy{*p, *other}); r != nil {
			got = r.Name
		}
		assert.Equal(t, want, got)
	}
	f("older", func(*v1alpha1.ScalePolicy) {})
	f("", func(o *v1alpha1.ScalePolicy) { o.Spec.Mode = v1alpha1.ModeObserve })
	f("", func(o *v1alpha1.ScalePolicy) { o.CreationTimestamp = metav1.NewTime(noon.Add(time.Hour)) })
	f("", func(o *v1alpha1.ScalePolicy) { o.CreationTimestamp = p.CreationTimestamp }) // "chat" comes before "older"
	f("", func(o *v1alpha1.ScalePolicy) { o.Spec.TargetRef.Name = "embed" })
	f("", func(o *v1alpha1.ScalePolicy) { o.DeletionTimestamp = new(metav1.NewTime(noon)) })
	f("older", func(o *v1alpha1.ScalePolicy) { o.Spec.TargetRef.APIVersion = "apps/v1beta2" }) // the same object
}

func TestFollows(t *testing.T) {
	want := autoscalerSpec(policyWith(nil), 0)
	assert.True(t, follows(want.DeepCopy(), &want, false))
	dropped := want.DeepCopy()
	dropped.Behavior.ScaleUp.Tolerance, dropped.Behavior.ScaleDown.Tolerance = nil, nil
	assert.False(t, follows(dropped, &want, false))
	assert.True(t, droppedTolerance(dropped))
	assert.True(t, follows(dropped, &want, true), "to write it again would not help")
	dropped.MaxReplicas++
	assert.False(t, follows(dropped, &want, true))
}
