package discovery

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"headroom.dev/headroom/adapter/metric"
)

// TestAnyOrderOfEvents holds the incremental cluster, after random events, against one that looks at everything anew.
func TestAnyOrderOfEvents(t *testing.T) {
	targets := 0
	for range 30 {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		p := newPlay(t, rand.New(rand.NewPCG(seed, 0)))
		startAt := p.r.IntN(60)
		for i := range 400 {
			if i == startAt {
				p.cluster.start()
			}
			before, version := p.views(), p.cluster.version.Load()
			p.event()
			if !maps.EqualFunc(before, p.views(), func(a, b metric.Pod) bool { return assert.ObjectsAreEqual(a, b) }) {
				require.NotEqual(t, version, p.cluster.version.Load(), "the version after a change, event %d of seed %d", i, seed)
			}
			if i >= startAt && i%10 == 0 {
				p.check(seed)
			}
		}
		p.check(seed)
		targets += len(p.sink.targets)
		for len(p.pods) > 0 {
			p.removePod()
		}
		require.Empty(t, p.sink.targets, "targets of no pod, seed %d", seed)
	}
	require.Greater(t, targets, 30)
}

// play makes random events, and knows what the world is after them.
type play struct {
	t        *testing.T
	r        *rand.Rand
	cluster  *cluster
	sink     *recorder
	pods     map[string]*corev1.Pod
	services map[string]*corev1.Service
	monitors map[monitorID]func() *monitor
	objects  map[objectID]content
}

func newPlay(t *testing.T, r *rand.Rand) *play {
	t.Helper()
	sink := newRecorder(t)
	return &play{
		t: t, r: r, sink: sink, cluster: newCluster([]string{"a"}, sink, slog.New(slog.DiscardHandler)),
		pods: map[string]*corev1.Pod{}, services: map[string]*corev1.Service{}, monitors: map[monitorID]func() *monitor{}, objects: map[objectID]content{},
	}
}

func (p *play) pick(from ...string) string { return from[p.r.IntN(len(from))] }

func (p *play) event() {
	switch n := p.r.IntN(20); {
	case n < 8:
		p.setPod()
	case n < 11 && len(p.pods) > 0:
		p.removePod()
	case n < 13:
		p.setService()
	case n == 13 && len(p.services) > 0:
		key := p.pick(slices.Sorted(maps.Keys(p.services))...)
		s := p.services[key]
		delete(p.services, key)
		p.cluster.deleteService(s.Namespace, s.Name)
	case n < 17:
		p.setMonitor()
	case n == 17 && len(p.monitors) > 0:
		id := slices.SortedFunc(maps.Keys(p.monitors), monitorID.compare)[p.r.IntN(len(p.monitors))]
		delete(p.monitors, id)
		p.cluster.setMonitor(id, nil)
	default:
		id := objectID{"secret", p.pick("a", "b"), "token"}
		c := content{data: map[string]string{p.pick("t", "other"): p.pick("1", "2")}}
		if p.cluster.references()[id] {
			p.objects[id] = c
			p.cluster.setObject(id, c)
		}
	}
	maps.DeleteFunc(p.objects, func(id objectID, _ content) bool { return !p.cluster.references()[id] })
}

func (p *play) setPod() {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.pick("a", "b", "c"), Name: p.pick("p1", "p2", "p3", "p4"), UID: "u",
			Labels: map[string]string{"app": p.pick("chat", "embed"), "team": p.pick("red", "blue")}, Annotations: map[string]string{},
		},
		Spec: corev1.PodSpec{NodeName: p.pick("n1", "n2"), Containers: []corev1.Container{
			{Name: "main", Ports: []corev1.ContainerPort{{Name: p.pick("http", "metrics"), ContainerPort: 8000}, {ContainerPort: 9000}}},
		}},
		Status: corev1.PodStatus{Phase: corev1.PodPhase(p.pick("Running", "Running", "Failed")), PodIP: p.pick("10.0.0.1", "10.0.0.2", "")},
	}
	if p.r.IntN(3) == 0 {
		pod.Annotations[AnnotationScrape], pod.Annotations[AnnotationPort] = "true", p.pick("8000", "9000", "x")
	}
	if p.r.IntN(8) == 0 {
		pod.DeletionTimestamp = &metav1.Time{}
	}
	if p.r.IntN(2) == 0 {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	p.pods[pod.Namespace+"/"+pod.Name] = pod
	p.cluster.setPod(pod)
}

func (p *play) removePod() {
	key := p.pick(slices.Sorted(maps.Keys(p.pods))...)
	pod := p.pods[key]
	delete(p.pods, key)
	p.cluster.deletePod(pod.Namespace, pod.Name)
}

func (p *play) setService() {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.pick("a", "b"), Name: p.pick("s1", "s2", "s3"), Labels: map[string]string{"team": p.pick("red", "blue")}},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: p.pick("web", "metrics"), Port: 80, TargetPort: intstr.FromString(p.pick("http", "metrics"))}}},
	}
	if p.r.IntN(4) > 0 {
		s.Spec.Selector = map[string]string{p.pick("app", "team"): p.pick("chat", "red")}
	}
	p.services[s.Namespace+"/"+s.Name] = s
	p.cluster.setService(s)
}

func (p *play) setMonitor() {
	meta := metav1.ObjectMeta{Namespace: p.pick("a", "b"), Name: p.pick("m1", "m2", "m3")}
	namespaces := monitoringv1.NamespaceSelector{Any: p.r.IntN(4) == 0}
	if p.r.IntN(3) == 0 {
		namespaces.MatchNames = []string{p.pick("a", "b"), p.pick("b", "c")}
	}
	selector := metav1.LabelSelector{MatchLabels: map[string]string{"team": p.pick("red", "blue")}}
	var relabelings []monitoringv1.RelabelConfig
	if p.r.IntN(2) == 0 {
		relabelings = []monitoringv1.RelabelConfig{setLabel("extra", p.pick("1", "2"))}
	}
	var bearer *corev1.SecretKeySelector
	if p.r.IntN(3) == 0 {
		bearer = &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "token"}, Key: "t"}
	}
	var compile func() *monitor
	if p.r.IntN(2) == 0 {
		m := &monitoringv1.PodMonitor{ObjectMeta: meta, Spec: monitoringv1.PodMonitorSpec{Selector: selector, NamespaceSelector: namespaces}}
		for range 1 + p.r.IntN(2) {
			ep := monitoringv1.PodMetricsEndpoint{Port: new(p.pick("http", "metrics")), HonorLabels: p.r.IntN(2) == 0, RelabelConfigs: relabelings}
			ep.BearerTokenSecret = bearer //nolint:staticcheck // deprecated, and still in use
			m.Spec.PodMetricsEndpoints = append(m.Spec.PodMetricsEndpoints, ep)
		}
		compile = func() *monitor { return compilePodMonitor(m) }
	} else {
		m := &monitoringv1.ServiceMonitor{ObjectMeta: meta, Spec: monitoringv1.ServiceMonitorSpec{Selector: selector, NamespaceSelector: namespaces}}
		m.Spec.Endpoints = []monitoringv1.Endpoint{{Port: p.pick("web", "metrics"), MetricRelabelConfigs: relabelings}}
		compile = func() *monitor { return compileServiceMonitor(m) }
	}
	compiled := compile()
	p.monitors[compiled.monitorID] = compile
	p.cluster.setMonitor(compiled.monitorID, compiled)
}

func (p *play) views() map[string]metric.Pod {
	out := map[string]metric.Pod{}
	for key, pod := range p.pods {
		v, _ := p.cluster.look(pod.Namespace, pod.Name)
		out[key] = v.Pod
	}
	return out
}

// check computes everything from nothing.
func (p *play) check(seed uint64) {
	t := p.t
	t.Helper()
	var monitors []*monitor
	for _, id := range slices.SortedFunc(maps.Keys(p.monitors), monitorID.compare) {
		m := p.monitors[id]()
		m.resolve(p.objects)
		monitors = append(monitors, m)
	}
	want := map[string]Target{}
	for _, pod := range p.pods {
		around := surroundings{trusted: map[string]bool{"a": true}, annotated: annotated()}
		view := view{Pod: metric.Pod{Node: pod.Spec.NodeName, Loading: Loading(pod), Over: over(pod)}}
		for _, m := range monitors {
			if m.inNamespace(pod.Namespace) {
				around.monitors = append(around.monitors, m)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(p.services)) {
			s := p.services[key]
			if s.Namespace == pod.Namespace && len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				around.services = append(around.services, newService(s))
				view.Services = append(view.Services, s.Name)
			}
		}
		targets, reasons := around.targets(pod)
		for _, target := range targets {
			want[target.ID] = target
		}
		if len(targets) == 0 {
			view.why = because(reasons)
			require.NotEmpty(t, view.why)
		}
		got, ok := p.cluster.look(pod.Namespace, pod.Name)
		require.True(t, ok)
		require.Equal(t, view, got, "%s/%s, seed %d", pod.Namespace, pod.Name, seed)
	}
	require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(p.sink.targets)), "seed %d", seed)
	for id, target := range want {
		require.True(t, target.Equal(p.sink.targets[id]), "%s, seed %d:\n%+v\n%+v", id, seed, target, p.sink.targets[id])
	}
}

// nobody is a Sink.
type nobody struct{}

func (nobody) Add(Target)    {}
func (nobody) Remove(string) {}

// crowd makes 5,000 pods of 200 Deployments with a Service each, in 20 namespaces, and 100 monitors: half of either kind,
// a fifth of them for every namespace.
func crowd(start bool) (*cluster, []*corev1.Pod) {
	c := newCluster([]string{"ns-0"}, nobody{}, slog.New(slog.DiscardHandler))
	var pods []*corev1.Pod
	for i := range 5000 {
		pod := fullPod(i)
		pods = append(pods, trimPod(pod))
		c.setPod(pods[i])
	}
	for i := range 200 {
		app := fmt.Sprintf("app-%d", i)
		c.setService(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("ns-%d", i%20), Name: app, Labels: map[string]string{"app": app}},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Name: "web", Port: 80, TargetPort: intstr.FromString("http")}}},
		})
	}
	for i := range 100 {
		meta := metav1.ObjectMeta{Namespace: fmt.Sprintf("ns-%d", i%20), Name: fmt.Sprintf("m-%d", i)}
		namespaces := monitoringv1.NamespaceSelector{Any: i%5 == 0}
		selector := metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", i)}}
		var m *monitor
		if i%2 == 0 {
			m = compilePodMonitor(&monitoringv1.PodMonitor{ObjectMeta: meta, Spec: monitoringv1.PodMonitorSpec{
				Selector: selector, NamespaceSelector: namespaces, PodMetricsEndpoints: []monitoringv1.PodMetricsEndpoint{{Port: new("http")}},
			}})
		} else {
			m = compileServiceMonitor(&monitoringv1.ServiceMonitor{ObjectMeta: meta, Spec: monitoringv1.ServiceMonitorSpec{
				Selector: selector, NamespaceSelector: namespaces, Endpoints: []monitoringv1.Endpoint{{Port: "web"}},
			}})
		}
		c.setMonitor(m.monitorID, m)
	}
	if start {
		c.start()
	}
	return c, pods
}

// fullPod is a pod as the API server serves it, about as large as one of vLLM's with a proxy beside it.
func fullPod(i int) *corev1.Pod {
	app := i % 200
	pod := readyPod(corev1.ConditionTrue, 90, running("main", 5, true), running("proxy", 5, true))
	pod.Namespace, pod.Name, pod.UID = fmt.Sprintf("ns-%d", app%20), fmt.Sprintf("app-%d-5c9f7b8d6-%05d", app, i), "12345678-1234-1234-1234-123456789012"
	pod.Labels = map[string]string{"app": fmt.Sprintf("app-%d", app), "pod-template-hash": "5c9f7b8d6", "team": "red", "app.kubernetes.io/version": "1.2.3"}
	pod.Annotations = map[string]string{
		AnnotationScrape: "true", AnnotationPort: "8000", "cni.projectcalico.org/podIP": "10.1.2.3/32",
		"k8s.v1.cni.cncf.io/network-status": fmt.Sprintf("%0300d", i), "kubectl.kubernetes.io/restartedAt": "2026-01-02T12:00:00Z",
	}
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: fmt.Sprintf("app-%d-5c9f7b8d6", app), UID: "12345678-1234-1234-1234-123456789012", Controller: new(true)}}
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kube-controller-manager", FieldsV1: metav1.NewFieldsV1(strings.Repeat("x", 2000))}, {Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(strings.Repeat("x", 1500))}}
	pod.Spec.NodeName = fmt.Sprintf("node-%d", i%500)
	for j, name := range []string{"main", "proxy"} {
		c := corev1.Container{Name: name, Image: "registry.example.com/team/image:v1.2.3", Ports: []corev1.ContainerPort{{Name: []string{"http", "metrics"}[j], ContainerPort: int32(8000 + j), Protocol: corev1.ProtocolTCP}}}
		for k := range 10 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", k), Value: fmt.Sprintf("a value of it, %d", i)})
		}
		pod.Spec.Containers = append(pod.Spec.Containers, c)
	}
	pod.Status.PodIP, pod.Status.HostIP = fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), "192.168.1.1"
	return pod
}

// BenchmarkPodEvent is what one event of a pod costs among 5,000.
func BenchmarkPodEvent(b *testing.B) {
	c, pods := crowd(true)
	b.Run("same", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			c.setPod(pods[i%len(pods)])
		}
	})
	b.Run("replaced", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			pod := pods[i%len(pods)]
			c.deletePod(pod.Namespace, pod.Name)
			c.setPod(pod)
		}
	})
}

// BenchmarkStart is what the first computation costs for 5,000 pods.
func BenchmarkStart(b *testing.B) {
	for range b.N {
		b.StopTimer()
		c, _ := crowd(false)
		b.StartTimer()
		c.start()
	}
}

// BenchmarkTrim reports how many bytes 5,000 pods hold, as they come and trimmed.
func BenchmarkTrim(b *testing.B) {
	held := func(build func(i int) *corev1.Pod) float64 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		pods := [5000]*corev1.Pod{}
		for i := range pods {
			pods[i] = build(i)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(&pods)
		return float64(after.HeapAlloc-before.HeapAlloc) / float64(len(pods))
	}
	for range b.N {
		b.ReportMetric(held(fullPod), "full-B/pod")
		b.ReportMetric(held(func(i int) *corev1.Pod { return trimPod(fullPod(i)) }), "trimmed-B/pod")
		b.ReportMetric(held(func(i int) *corev1.Pod {
			pod := fullPod(i)
			pod.Status.Conditions[1].Status = corev1.ConditionFalse
			return trimPod(pod)
		}), "unready-B/pod")
	}
}
