package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// errKilled is what a controller that has died gets from the API server.
var errKilled = errors.New("the controller was killed")

// mortal lets so many writes of a controller through, and then nothing any more: the controller has died. A dry run writes nothing.
type mortal struct {
	next http.RoundTripper
	left *atomic.Int64
	// silent says that the last write arrives and its answer does not.
	silent bool
}

func (m *mortal) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.left.Load() <= 0 {
		return nil, errKilled
	}
	if r.Method == http.MethodGet || r.URL.Query().Has("dryRun") {
		return m.next.RoundTrip(r)
	}
	left := m.left.Add(-1)
	if left < 0 {
		return nil, errKilled
	}
	answer, err := m.next.RoundTrip(r)
	if left == 0 && m.silent && err == nil {
		return nil, errors.Join(errKilled, answer.Body.Close())
	}
	return answer, err
}

// crashes is how controllers die: the first after so many writes, all others after so many.
type crashes struct {
	first, each int64
	silent      bool
}

func (c crashes) String() string {
	kind := "answered"
	if c.silent {
		kind = "unanswered"
	}
	return fmt.Sprintf("after %d then each %d writes, the last %s", c.first, c.each, kind)
}

// lives runs one controller after the other, each until it dies, until the test ends.
func (s *service) lives(c crashes) (deaths *atomic.Int64) {
	s.t.Helper()
	deaths = &atomic.Int64{}
	var now *controller
	var left *atomic.Int64
	run(s.t, func() *controller {
		if now == nil || left.Load() <= 0 {
			writes := c.each
			if now == nil {
				writes = c.first
			} else {
				deaths.Add(1)
			}
			left = &atomic.Int64{}
			left.Store(writes)
			mine, set := left, s.setup()
			set.log = nil
			set.wrap = func(next http.RoundTripper) http.RoundTripper { return &mortal{next, mine, c.silent} }
			now = newController(s.t, set)
		}
		return now
	})
	return deaths
}

// watched is what was seen of the pods all along.
type watched struct {
	mu    sync.Mutex
	least int            // Ready pods in all
	most  map[string]int // Ready pods of each version
}

// watch counts the Ready pods again and again until the test ends.
func (s *service) watch() *watched {
	w := &watched{least: 1 << 20, most: map[string]int{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			var pods corev1.PodList
			if s.api.List(ctx, &pods, client.InNamespace(s.namespace)) == nil {
				w.add(&pods)
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	s.t.Cleanup(func() { cancel(); done.Wait() })
	return w
}

func (w *watched) add(pods *corev1.PodList) {
	ready, all := map[string]int{}, 0
	for i := range pods.Items {
		for _, c := range pods.Items[i].Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				ready[pods.Items[i].Labels["version"]]++
				all++
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.least = min(w.least, all)
	for v, n := range ready {
		w.most[v] = max(w.most[v], n)
	}
}

func (w *watched) check(t *testing.T, least int, most map[string]int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.GreaterOrEqual(t, w.least, least, "Ready pods at the worst moment")
	for v, n := range most {
		require.LessOrEqual(t, w.most[v], n, "Ready pods of %s", v)
	}
}

// scaled gives the service an HPA, which the controller guards while it updates.
func (s *service) scaled() *autoscalingv2.HorizontalPodAutoscaler {
	s.t.Helper()
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name},
		MinReplicas:    new(int32(1)), MaxReplicas: 8,
	}}
	require.NoError(s.t, s.api.Create(s.t.Context(), h))
	return h
}

// traceless checks that nothing of ours is left in the namespace.
func (s *service) traceless() {
	s.t.Helper()
	ctx := s.t.Context()
	lists := []client.ObjectList{
		&corev1.ConfigMapList{}, &corev1.ServiceList{}, &autoscalingv2.HorizontalPodAutoscalerList{},
		&appsv1.DeploymentList{}, &appsv1.StatefulSetList{}, &appsv1.DaemonSetList{},
	}
	for _, list := range lists {
		require.NoError(s.t, s.api.List(ctx, list, client.InNamespace(s.namespace)))
		raw, err := json.Marshal(list)
		require.NoError(s.t, err)
		var found struct {
			Items []metav1.PartialObjectMetadata
		}
		require.NoError(s.t, json.Unmarshal(raw, &found))
		for i := range found.Items {
			o := &found.Items[i]
			require.NotContains(s.t, o.Name, "headroom", "%T is left", list)
			require.Empty(s.t, o.Finalizers, "%T %s", list, o.Name)
			for key := range o.Annotations {
				require.NotContains(s.t, key, "headroom.dev/", "%T %s", list, o.Name)
			}
			for key := range o.Labels {
				require.NotContains(s.t, key, "headroom.dev/", "%T %s", list, o.Name)
			}
		}
	}
}

// plight is an update that controllers die in.
type plight struct {
	name string
	kind rollout.Kind
	play func(s *service, w *watched)
}

func plights() []plight {
	const replicas = 4
	update := func(spec, to string) func(*service, *watched) {
		return func(s *service, w *watched) {
			s.policy(spec)
			s.inForce()
			s.update(version{name: to})
			s.outcome(s.completed(to), "Completed")
			s.serves(to, replicas)
			w.check(s.t, replicas, nil)
		}
	}
	return []plight{
		{"rolling", rollout.Deployment, update("strategy: Rolling", "v2")},
		{"canary that passes", rollout.Deployment, func(s *service, w *watched) {
			h := s.scaled()
			update("strategy: Canary\ncanary: {steps: [{replicas: 1}, {percent: 50}]}"+judged, "v2")(s, w)
			require.NoError(s.t, s.api.Get(s.t.Context(), client.ObjectKeyFromObject(h), h))
			require.Equal(s.t, int32(1), *h.Spec.MinReplicas)
		}},
		{"canary that fails", rollout.Deployment, func(s *service, w *watched) {
			s.policy("strategy: Canary\ncanary: {steps: [{replicas: 1}]}" + judged)
			s.inForce()
			s.update(version{name: "v2", score: "bad"})
			s.outcome(s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
				require.Len(t, p.Status.History, 1, "%s", told(p))
				require.Equal(t, "Resting", p.Status.Phase, "%s", told(p))
			}), "Failed")
			s.serves("v1", replicas)
			w.check(s.t, replicas, map[string]int{"v2": 1})
		}},
		{"blue-green", rollout.Deployment, func(s *service, w *watched) {
			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Spec: corev1.ServiceSpec{
				Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(port)}},
			}}
			require.NoError(s.t, s.api.Create(s.t.Context(), service))
			update("strategy: BlueGreen\nblueGreen: {keepOld: 1s}\ntraffic: {service: chat, switch: true}"+judged, "v2")(s, w)
			require.NoError(s.t, s.api.Get(s.t.Context(), client.ObjectKeyFromObject(service), service))
			require.Equal(s.t, map[string]string{"app": name}, service.Spec.Selector)
		}},
		{"recreate", rollout.Deployment, func(s *service, _ *watched) {
			s.policy("strategy: Recreate\nacceptDowntime: true")
			s.inForce()
			s.update(version{name: "v2"})
			s.outcome(s.completed("v2"), "Completed")
			s.serves("v2", replicas)
		}},
		{"policy deleted", rollout.Deployment, func(s *service, w *watched) {
			s.policy("strategy: Canary\ncanary: {steps: [{replicas: 1, gates: [{manual: true}]}]}" + judged)
			s.inForce()
			s.update(version{name: "v2"})
			s.settled()
			s.remove()
			s.serves("v1", replicas)
			w.check(s.t, replicas, map[string]int{"v2": 1})
		}},
		{"statefulset", rollout.StatefulSet, func(s *service, w *watched) { s.ofKind(rollout.StatefulSet, w, replicas-1) }},
		{"daemonset", rollout.DaemonSet, func(s *service, w *watched) { s.ofKind(rollout.DaemonSet, w, nodes-1) }},
	}
}

// ofKind takes a StatefulSet or a DaemonSet to another version.
func (s *service) ofKind(kind rollout.Kind, w *watched, least int) {
	s.t.Helper()
	s.plane.demand = 10 * float64(least)
	s.policy("{strategy: Rolling, targetRef: {apiVersion: apps/v1, kind: " + string(kind) + ", name: chat}}")
	s.inForce()
	raw, err := json.Marshal(map[string]any{"spec": map[string]any{"template": s.template(version{name: "v2"})}})
	require.NoError(s.t, err)
	require.NoError(s.t, s.api.Patch(s.t.Context(), s.object(kind), client.RawPatch("application/merge-patch+json", raw)))
	s.outcome(s.completed("v2"), "Completed")
	s.serves("v2", least+1)
	w.check(s.t, least, nil)
}

// object is an empty one of the kind, with the service's name.
func (s *service) object(kind rollout.Kind) client.Object {
	at := metav1.ObjectMeta{Namespace: s.namespace, Name: name}
	switch kind {
	case rollout.StatefulSet:
		return &appsv1.StatefulSet{ObjectMeta: at}
	case rollout.DaemonSet:
		return &appsv1.DaemonSet{ObjectMeta: at}
	default:
		return &appsv1.Deployment{ObjectMeta: at}
	}
}

// deployKind makes a workload of four one-GPU pods, or of one on each node.
func deployKind(t *testing.T, kind rollout.Kind) *service {
	t.Helper()
	if kind == rollout.Deployment {
		return deploy(t, 4, func(d *appsv1.DeploymentSpec) {
			d.MinReadySeconds, d.ProgressDeadlineSeconds = 1, new(int32(77))
			d.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: new(intstr.FromString("30%")), MaxUnavailable: new(intstr.FromInt32(1))}
		})
	}
	s := &service{t: t, api: newClient(t, shared.Config, nil)}
	s.plane = &plane{api: s.api}
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "rollout-"}}
	require.NoError(t, s.api.Create(t.Context(), space))
	s.namespace = space.Name
	t.Cleanup(s.leave)
	selector, template, n := &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}, s.template(version{name: "v1"}), 4
	o := s.object(kind)
	switch o := o.(type) {
	case *appsv1.StatefulSet:
		o.Spec = appsv1.StatefulSetSpec{Replicas: new(int32(4)), Selector: selector, ServiceName: name, Template: template}
	case *appsv1.DaemonSet:
		o.Spec, n = appsv1.DaemonSetSpec{Selector: selector, Template: template}, nodes
	}
	require.NoError(t, s.api.Create(t.Context(), o))
	s.serves("v1", n)
	return s
}

// survive plays an update in which controllers die, and ends the policy: the workload is as its owner wrote it, and no trace is left.
func (p plight) survive(t *testing.T, c crashes) {
	s := deployKind(t, p.kind)
	before := specOf(t.Context(), t, s.api, s.object(p.kind))
	w := s.watch()
	deaths := s.lives(c)
	p.play(s, w)
	ctx, policy := t.Context(), &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	require.NoError(t, ignoreGone(s.api.Delete(ctx, policy)))
	eventually(t, func(t require.TestingT) {
		err := s.api.Get(ctx, client.ObjectKeyFromObject(policy), policy)
		require.Error(t, err, "%s", told(policy))
		require.NoError(t, ignoreGone(err))
	})
	require.Equal(t, before, specOf(ctx, t, s.api, s.object(p.kind)))
	s.traceless()
	require.Positive(t, deaths.Load())
	t.Logf("%s: %d controllers died", c, deaths.Load())
}

// A controller that dies after any of its writes, with or without having had the answer, is followed by one that ends the update as
// it should end. Each of some has its first write as its last; with HEADROOM_E2E_SCALE=full (make test-rollout-crashes) there are all
// kinds of updates, and all places within three writes.
func TestRolloutControllerDies(t *testing.T) {
	all := []crashes{{1, 1, true}}
	full := os.Getenv(scaleVariable) == "full"
	if full {
		all = []crashes{{1, 1, false}, {1, 1, true}, {1, 2, false}, {2, 2, true}, {1, 3, false}, {2, 3, true}, {3, 3, false}}
	}
	for _, p := range plights() {
		if !full && p.name != "canary that fails" {
			continue
		}
		for _, c := range all {
			t.Run(strings.ReplaceAll(p.name, " ", "-")+"/"+fmt.Sprintf("%d-%d-%v", c.first, c.each, c.silent), func(t *testing.T) { p.survive(t, c) })
		}
	}
}
