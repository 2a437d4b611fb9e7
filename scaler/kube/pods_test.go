package kube

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/scaler"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

func podWith(name string, change func(p *corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "prod", CreationTimestamp: metav1.NewTime(at(0)), Labels: map[string]string{templateHash: "abc"}},
		Spec:       corev1.PodSpec{Containers: make([]corev1.Container, 1)},
	}
	if change != nil {
		change(p)
	}
	return p
}

func running(p *corev1.Pod) {
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(at(2))},
		{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(at(60))},
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at(5))}}}}
}

func TestPodOf(t *testing.T) {
	unknown := scaler.Reading{Missing: "not asked for"}
	f := func(change func(p *corev1.Pod), want scaler.Pod) {
		t.Helper()
		got, ok := podOf(podWith("a", change))
		require.True(t, ok)
		want.Name, want.Created, want.InFlight = "a", at(0), unknown
		assert.Equal(t, want, got)
	}
	f(nil, scaler.Pod{Version: "abc"})
	f(running, scaler.Pod{Version: "abc", Scheduled: at(2), Started: at(5), Ready: at(60), Serving: true})
	f(func(p *corev1.Pod) { running(p); p.Status.Conditions[1].Status = corev1.ConditionFalse },
		scaler.Pod{Version: "abc", Scheduled: at(2), Started: at(5)})
	f(func(p *corev1.Pod) { running(p); p.Status.ContainerStatuses[0].State = corev1.ContainerState{} },
		scaler.Pod{Version: "abc", Scheduled: at(2), Ready: at(60), Serving: true})
	f(func(p *corev1.Pod) { running(p); p.Spec.Containers = make([]corev1.Container, 2) }, // one has no status yet
		scaler.Pod{Version: "abc", Scheduled: at(2), Ready: at(60), Serving: true})
	f(func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.NewTime(at(9))) }, scaler.Pod{Version: "abc", Deleting: true})
	f(func(p *corev1.Pod) { p.Labels = map[string]string{revisionHash: "chat-1"} }, scaler.Pod{Version: "chat-1"})
	for _, phase := range []corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded} {
		_, ok := podOf(podWith("a", func(p *corev1.Pod) { p.Status.Phase = phase }))
		assert.False(t, ok, "an evicted pod is no pod")
	}
}

// serving makes pods a, b, … that have been Ready for so many seconds; 0 is one that loads, below that one that goes.
func serving(seconds ...int) []scaler.Pod {
	pods := make([]scaler.Pod, len(seconds))
	for i, s := range seconds {
		pods[i] = scaler.Pod{Name: string(rune('a' + i)), Serving: s != 0, Deleting: s < 0, Ready: at(-s)}
	}
	return pods
}

// known are values by pod: "a=1 b=2", of one to so many seconds ago.
func known(text string) map[string]Value {
	values := map[string]Value{}
	for i, field := range strings.Fields(text) {
		var v float64
		name, number, _ := strings.Cut(field, "=")
		if _, err := fmt.Sscan(number, &v); err != nil {
			panic(err)
		}
		values[name] = Value{Value: v, At: at(-i - 1)}
	}
	return values
}

func TestSum(t *testing.T) {
	f := func(pods []scaler.Pod, values string, want float64, note, missing string) {
		t.Helper()
		got, said := sum(pods, known(values), noon)
		assert.InDelta(t, want, got.Value, 1e-9)
		assert.Equal(t, note, said)
		assert.Equal(t, missing, got.Missing)
		if missing == "" {
			assert.Equal(t, time.Duration(len(known(values)))*time.Second, got.Age, "that of the oldest")
		}
	}
	f(serving(90, 90, 90), "a=1 b=2 c=3", 6, "", "")
	f(serving(90, 90, 90, 90), "a=1 b=2 c=3", 8, "1 of 4 pods have no value and count as the mean of the others: d", "")
	f(serving(90, 90, 90, 10), "a=1 b=2 c=3", 6, "", "") // what it serves shows in the others' rates
	f(serving(90, 90, 90, 0, -90), "a=1 b=2 c=3", 6, "", "")
	f(serving(90, 90, 90, 90, 90, 90), "a=1 b=2", 0, "", "4 of 6 pods have no value: c, d, e, …")
	f(serving(90, 90), "", 0, "", "2 of 2 pods have no value: a, b")
	f(serving(0, -90, 5), "", 0, "", "no pod serves, or none for long enough")
	f(nil, "", 0, "", "no pod serves, or none for long enough")
	f(serving(90), "a=0", 0, "", "") // a zero that was measured is one
}

func TestMiddle(t *testing.T) {
	f := func(pods []scaler.Pod, values string, want scaler.Reading) {
		t.Helper()
		assert.Equal(t, want, middle(pods, known(values), noon))
	}
	f(serving(90, 90, 90), "a=1 b=900 c=3", scaler.Reading{Value: 3, Age: 3 * time.Second})
	f(serving(90, 90), "a=1 b=3", scaler.Reading{Value: 2, Age: 2 * time.Second})
	f(serving(90, 0, -90), "a=1 b=3 c=9", scaler.Reading{Value: 1, Age: time.Second})
	f(serving(90), "", scaler.Reading{Missing: "no pod that serves has a value"})
}

func TestFitness(t *testing.T) {
	pods := serving(90, 90, 90)
	fitness(pods, known("a=1 b=0"))
	assert.False(t, pods[0].Unhealthy)
	assert.True(t, pods[1].Unhealthy)
	assert.False(t, pods[2].Unhealthy, "of whom nothing is said nothing bad is said")
}

func TestSingle(t *testing.T) {
	assert.Equal(t, scaler.Reading{Value: 2, Age: time.Second}, single([]Value{{2, at(-1)}}, noon))
	assert.Equal(t, "spec.demand.query has no result", single(nil, noon).Missing)
	assert.Equal(t, "spec.demand.query has 2 results, where one was expected", single(make([]Value, 2), noon).Missing)
	assert.Equal(t, "spec.demand.query yields -1", single([]Value{{-1, noon}}, noon).Missing)
}

func TestStaleDeletionCosts(t *testing.T) {
	owned := func(kind, cost string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: "x", Controller: new(true)}}
			if cost != "" {
				p.Annotations = map[string]string{corev1.PodDeletionCost: cost}
			}
		}
	}
	pods := map[string]*corev1.Pod{
		"new":      podWith("new", owned("ReplicaSet", "")),
		"changed":  podWith("changed", owned("ReplicaSet", "2")),
		"same":     podWith("same", owned("ReplicaSet", "7")),
		"stateful": podWith("stateful", owned("StatefulSet", "")),
		"alone":    podWith("alone", nil),
	}
	costs := map[string]int{"new": 1, "changed": 3, "same": 7, "stateful": 1, "alone": 1, "gone": 1}
	assert.Equal(t, map[string]int{"new": 1, "changed": 3}, stale(costs, pods))
	assert.Len(t, costs, 6, "the argument stays as it is")
}
