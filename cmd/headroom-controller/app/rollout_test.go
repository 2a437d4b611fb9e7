package app

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/evidence"
	"headroom.dev/headroom/rollout/traffic"
)

func rolloutPolicy(namespace, name, kind, target string) *v1alpha1.RolloutPolicy {
	return &v1alpha1.RolloutPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.RolloutPolicySpec{TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: kind, Name: target}},
	}
}

// TestWatches finds the policies that a change of something else concerns, and no others.
func TestWatches(t *testing.T) {
	known := runtime.NewScheme()
	require.NoError(t, scheme.AddToScheme(known))
	require.NoError(t, v1alpha1.AddToScheme(known))
	w := watches{fake.NewClientBuilder().WithScheme(known).WithObjects(
		rolloutPolicy("prod", "d", "Deployment", "chat"), rolloutPolicy("prod", "d2", "Deployment", "chat-5d8c"), rolloutPolicy("prod", "s", "StatefulSet", "chat"),
		rolloutPolicy("test", "d", "Deployment", "chat"),
	).Build(), slog.New(slog.DiscardHandler)}
	meta := metav1.ObjectMeta{Namespace: "prod", Name: "chat"}
	names := func(list []reconcile.Request) []string {
		var out []string
		for _, r := range list {
			out = append(out, r.String())
		}
		return out
	}
	assert.Equal(t, []string{"prod/d"}, names(w.workload(rollout.Deployment)(t.Context(), &appsv1.Deployment{ObjectMeta: meta})))
	assert.Equal(t, []string{"prod/s"}, names(w.workload(rollout.StatefulSet)(t.Context(), &appsv1.StatefulSet{ObjectMeta: meta})))
	assert.Empty(t, w.workload(rollout.DaemonSet)(t.Context(), &appsv1.DaemonSet{ObjectMeta: meta}))

	pod := func(kind, owner, hash string) client.Object {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "x", Labels: map[string]string{traffic.HashLabel: hash}}}
		if kind != "" {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: owner, Controller: new(true)}}
		}
		return p
	}
	assert.Equal(t, []string{"prod/d"}, names(w.pod(t.Context(), pod("ReplicaSet", "chat-5d8c", "5d8c"))))
	assert.Equal(t, []string{"prod/d2"}, names(w.pod(t.Context(), pod("ReplicaSet", "chat-5d8c-7f9b", "7f9b"))))
	assert.Equal(t, []string{"prod/s"}, names(w.pod(t.Context(), pod("StatefulSet", "chat", ""))))
	assert.Empty(t, w.pod(t.Context(), pod("ReplicaSet", "chat", "")))
	assert.Empty(t, w.pod(t.Context(), pod("Job", "chat", "")))
	assert.Empty(t, w.pod(t.Context(), pod("", "", "5d8c")))

	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "h"}}
	h.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "chat"}
	assert.Equal(t, []string{"prod/d"}, names(w.autoscaler(t.Context(), h)))
}

func TestRouterOf(t *testing.T) {
	f := func(r *v1alpha1.TrafficRouting, want any) {
		t.Helper()
		p := rolloutPolicy("prod", "d", "Deployment", "chat")
		p.Spec.Traffic = r
		got, err := routerOf(nil, time.Now, p)
		if want == nil {
			require.ErrorContains(t, err, "spec.traffic: ")
			return
		}
		require.NoError(t, err)
		assert.IsType(t, want, got)
	}
	route := &v1alpha1.RouteReference{Name: "chat"}
	f(&v1alpha1.TrafficRouting{Service: "chat", Switch: true}, &traffic.Selector{})
	f(&v1alpha1.TrafficRouting{Service: "chat", HTTPRoute: route}, &traffic.Rules{})
	f(&v1alpha1.TrafficRouting{Service: "chat", GRPCRoute: route}, &traffic.Rules{})
	f(&v1alpha1.TrafficRouting{Service: "chat", VirtualService: route}, &traffic.Rules{})
	f(&v1alpha1.TrafficRouting{Service: "chat", Ingress: &v1alpha1.IngressReference{Name: "chat"}}, &traffic.Ingress{})
	f(&v1alpha1.TrafficRouting{Service: "chat"}, nil)
	f(nil, nil)
}

// TestPlaneTellsLabels of the adapter's answers and of a server's.
func TestPlaneTellsLabels(t *testing.T) {
	const answer = `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1795867200.5,"7"]}]}}`
	p, _ := server(t, map[string]string{
		"/apis/query.headroom.dev/v1alpha1/namespaces/prod/prometheus/api/v1/query": answer, "/prometheus/api/v1/query": answer,
	})
	want := []evidence.Sample{{Labels: map[string]string{"pod": "a"}, Value: 7, At: time.UnixMilli(1795867200500)}}
	got, err := labelled{p}.Query(t.Context(), "prod", "x")
	require.NoError(t, err)
	assert.Equal(t, want, got)
	p.server = nil
	got, err = labelled{p}.Query(t.Context(), "prod", "x")
	require.NoError(t, err)
	assert.Equal(t, want, got)
}
