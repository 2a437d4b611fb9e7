package exact

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	autoscalinglisters "k8s.io/client-go/listers/autoscaling/v2"
	clienttesting "k8s.io/client-go/testing"
	defaults "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"

	"headroom.dev/headroom/scaler/hpa"
	"headroom.dev/headroom/scaler/hpa/kube"
)

const (
	name   = "chat"
	other  = "other" // an HPA whose selector may mean the same pods
	resync = 15 * time.Second
)

// world joins the controller, the plant and ours.
type world struct {
	s      *scenario
	p      *plant
	cfg    hpa.Config
	spec   hpa.Autoscaler
	mem    hpa.Memory
	lister autoscalinglisters.HorizontalPodAutoscalerLister
	client *fake.Clientset

	otherSelects bool
	refreshes    bool
	now          *look // that is under way
	want         status
	out          outcome
}

// look is one reconcile: what ours came to, and what the controller wrote.
type look struct {
	obs     hpa.Observation
	d       hpa.Decision
	written *int32
}

// status is what ours expects the controller to have written.
type status struct {
	able, active, limited, zero string // reason and status
	current, desired            int32
	created                     int32 // at the look that wrote the metrics
	metrics                     []string
}

// outcome of a scenario.
type outcome struct {
	looks, rescales, mismatches int
	first                       []string // mismatches, a few
	branches                    map[string]int
}

// run drives one scenario inside a bubble of synctest.
func run(t *testing.T, s *scenario, seed uint64, length time.Duration) outcome {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(len(s.name))))
	raw := s.build(r)
	w := &world{s: s, cfg: s.cfg, client: fake.NewSimpleClientset()} //nolint:staticcheck // the tracker with field managers is ten times slower
	w.out.branches = map[string]int{}
	w.setSpec(raw)
	if s.mutate != nil {
		s.mutate(&w.cfg, &w.spec)
	}
	h := object(name, raw)
	if s.zeroAtFirst {
		w.mem.ScaledToZero, w.want.zero = true, "ScaledToZero=True"
		h.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScaledToZero, Status: corev1.ConditionTrue, Reason: "ScaledToZero"}}
	}
	version := 1
	w.client.PrependReactor("*", "horizontalpodautoscalers", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if u, ok := a.(clienttesting.UpdateAction); ok {
			version++
			u.GetObject().(*autoscalingv2.HorizontalPodAutoscaler).ResourceVersion = strconv.Itoa(version)
		}
		return false, nil, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	create(ctx, t, w.client, h)
	if s.second {
		create(ctx, t, w.client, object(other, rival()))
	}
	factory := informers.NewSharedInformerFactory(w.client, 0)
	hpas, pods := factory.Autoscaling().V2().HorizontalPodAutoscalers(), factory.Core().V1().Pods()
	w.lister = hpas.Lister()
	w.p = &plant{
		r: r, s: s, indexer: pods.Informer().GetIndexer(), spec: s.replicas, begun: time.Now(), ailing: map[string]time.Time{},
	}
	mapper := apimeta.NewDefaultRESTMapper([]schema.GroupVersion{{Group: "apps", Version: "v1"}})
	mapper.Add(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, apimeta.RESTScopeNamespace)
	controller := podautoscaler.NewHorizontalController(
		ctx, noEvents{}, scales{w: w}, w.client.AutoscalingV2(), mapper,
		metrics.NewRESTMetricsClient(metricsAPIs{w.p}, metricsAPIs{w.p}, external{w.p}), hpas, pods, resync,
		s.cfg.DownscaleStabilization, s.cfg.Tolerance, s.cfg.CPUInitialization, s.cfg.InitialReadinessDelay,
	)
	factory.Start(ctx.Done())
	done := make(chan struct{})
	go func() { controller.Run(ctx, 1); close(done) }()
	w.drive(ctx, t, r, length)
	cancel()
	<-done
	factory.Shutdown()
	return w.out
}

func object(name string, spec autoscalingv2.HorizontalPodAutoscalerSpec) *autoscalingv2.HorizontalPodAutoscaler {
	h := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, UID: "u-" + "1", Generation: 1, ResourceVersion: "1"}, Spec: *spec.DeepCopy(),
	}
	h.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name}
	defaults.SetDefaults_HorizontalPodAutoscaler(h)
	return h
}

func create(ctx context.Context, t *testing.T, client *fake.Clientset, h *autoscalingv2.HorizontalPodAutoscaler) {
	t.Helper()
	if _, err := client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Create(ctx, h, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// setSpec gives ours the spec without defaults: those of the API server are part of what is compared.
func (w *world) setSpec(raw autoscalingv2.HorizontalPodAutoscalerSpec) {
	w.spec = kube.Autoscaler(raw.DeepCopy())
	w.spec.Default()
	if err := w.spec.Validate(&w.cfg); err != nil && !w.s.invalid {
		panic(fmt.Sprintf("%s: the scenario's spec would be refused: %v", w.s.name, err))
	}
}

// drive lets the time pass, and edits the spec now and then.
func (w *world) drive(ctx context.Context, t *testing.T, r *rand.Rand, length time.Duration) {
	t.Helper()
	client := w.client.AutoscalingV2().HorizontalPodAutoscalers(namespace)
	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(time.Hour + 7*time.Second + time.Duration(r.Int64N(int64(time.Minute))))
		w.client.ClearActions()
		if w.s.steady {
			continue
		}
		h, err := client.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		raw := w.s.build(r)
		w.setSpec(raw)
		edited := object(name, raw)
		h = h.DeepCopy()
		h.Spec, h.Generation = edited.Spec, h.Generation+1
		if _, err := client.Update(ctx, h, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// look begins a reconcile.
func (w *world) look() {
	seen, err := w.lister.HorizontalPodAutoscalers(namespace).Get(name)
	if err != nil {
		panic(err)
	}
	w.compare(seen)
	w.p.advance(time.Now(), &seen.Spec)
	w.out.looks++
	w.now = &look{obs: w.observe(&seen.Spec)}
	if w.p.updateErr != nil {
		w.now.d = hpa.Decide(&w.cfg, &w.spec, &w.mem, &w.now.obs)
	} else {
		w.now.d = hpa.Reconcile(&w.cfg, &w.spec, &w.mem, &w.now.obs)
	}
}

func (w *world) observe(spec *autoscalingv2.HorizontalPodAutoscalerSpec) hpa.Observation {
	p := w.p
	obs := hpa.Observation{Now: time.Now(), Replicas: p.spec, Created: p.status, ScaleErr: p.scaleErr}
	pods := make([]*corev1.Pod, len(p.pods))
	for i := range p.pods {
		pods[i] = p.pods[i].obj
		obs.Pods = append(obs.Pods, kube.Pod(pods[i]))
	}
	switch {
	case p.selector != selector:
		obs.Selector = hpa.InvalidSelector
	case w.otherSelects && len(pods) > 0:
		obs.Selector = hpa.AmbiguousSelector
	}
	for i := range spec.Metrics {
		obs.Readings = append(obs.Readings, p.reading(&spec.Metrics[i], pods))
	}
	return obs
}

func (p *plant) reading(spec *autoscalingv2.MetricSpec, pods []*corev1.Pod) hpa.Reading {
	m := kube.Metric(spec)
	switch {
	case m.Source == hpa.Resource || m.Source == hpa.ContainerResource:
		if p.resource != nil {
			return hpa.Reading{Err: p.resource}
		}
		container := ""
		if spec.ContainerResource != nil {
			container = spec.ContainerResource.Container
		}
		return kube.Resource(corev1.ResourceName(m.Name), container, pods, p.metrics)
	case p.failing[m.Name] != nil:
		return hpa.Reading{Err: p.failing[m.Name]}
	case m.Source != hpa.Pods:
		return hpa.Reading{Values: p.values[m.Name]}
	}
	values := p.custom[m.Name]
	if len(values) == 0 {
		return hpa.Reading{Err: hpa.ErrNoReading}
	}
	r := hpa.Reading{Samples: make([]hpa.Sample, len(pods))}
	known := 0
	for i, pod := range pods {
		if v, ok := values[pod.Name]; ok {
			r.Samples[i] = hpa.Sample{Measured: true, Milli: v}
			known++
		}
	}
	if v, ok := values["stranger"]; ok {
		r.Strangers = []int64{v}
		known++
	}
	if known != len(values) {
		panic("a pod with a value is neither listed nor a stranger")
	}
	return r
}

// update ends a look that rescales.
func (w *world) update(replicas int32) error {
	w.now.written = &replicas
	if w.p.updateErr != nil {
		w.refreshes = true
		return w.p.updateErr
	}
	w.out.rescales++
	w.p.spec = replicas
	return nil
}

// lookOfOther is a look at the rival, whose selector means our pods for half an hour of every five.
func (w *world) lookOfOther() *autoscalingv1.Scale {
	sc := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 1}, Status: autoscalingv1.ScaleStatus{Replicas: 1, Selector: "app=none"}}
	w.otherSelects = time.Since(w.p.begun)%(5*time.Hour) > 270*time.Minute
	if w.otherSelects {
		sc.Status.Selector = selector
	}
	return sc
}
