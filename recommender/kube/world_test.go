package kube

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
)

// noon is when tests begin.
var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// world is a cluster in virtual time, with a source of usage that a test sets.
type world struct {
	t *testing.T
	client.Client
	now      time.Time
	opts     Options
	registry *prometheus.Registry
	recorder *events.FakeRecorder
	*Controller

	mu      sync.Mutex
	samples map[recommender.ContainerID]map[recommender.Resource]float64
	past    []recommender.Sample
	asked   []recommender.Past
	failing error
	pastErr map[recommender.Resource]error
	facts   map[recommender.ContainerID]accelerator.Facts
	reads   map[string]int // of objects by name, uncached
	written map[string]int // by kind
	refuse  func(key client.ObjectKey, object client.Object) error
}

func newScheme(tb testing.TB, vpa bool) *runtime.Scheme {
	tb.Helper()
	known := runtime.NewScheme()
	require.NoError(tb, scheme.AddToScheme(known))
	require.NoError(tb, v1alpha1.AddToScheme(known))
	if vpa {
		require.NoError(tb, vpav1.AddToScheme(known))
	}
	return known
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	known := newScheme(t, true)
	w := &world{
		t: t, now: noon, samples: map[recommender.ContainerID]map[recommender.Resource]float64{}, reads: map[string]int{}, written: map[string]int{},
	}
	w.Client = fake.NewClientBuilder().WithScheme(known).WithTypeConverters(plain{managedfields.NewDeducedTypeConverter()}).
		WithStatusSubresource(&v1alpha1.ResourceRecommendation{}, &vpav1.VerticalPodAutoscaler{}).WithObjects(objects...).
		WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
				w.mu.Lock()
				w.reads[key.Name]++
				refuse := w.refuse
				w.mu.Unlock()
				if refuse != nil {
					if err := refuse(key, object); err != nil {
						return err
					}
				}
				return c.Get(ctx, key, object, opts...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, object client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
				w.wrote(object)
				return c.SubResource(sub).Patch(ctx, object, patch, opts...)
			},
			Create: func(ctx context.Context, c client.WithWatch, object client.Object, opts ...client.CreateOption) error {
				w.wrote(object)
				return c.Create(ctx, object, opts...)
			},
			Update: func(ctx context.Context, c client.WithWatch, object client.Object, opts ...client.UpdateOption) error {
				w.wrote(object)
				return c.Update(ctx, object, opts...)
			},
		}).Build()
	w.opts = Options{
		Client: w.Client, Reader: w.Client, Mapper: testrestmapper.TestOnlyStaticRESTMapper(known), Source: w, Engines: w, Interval: time.Minute,
		Checkpoints: 10 * time.Minute, WritesPerSecond: 1e6, Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
	}
	w.restart()
	return w
}

// plain turns objects into maps before fields are tracked: the tracker cannot compare maps by int, as checkpoints have.
type plain struct{ managedfields.TypeConverter }

func (p plain) ObjectToTyped(o runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &u.Object); err != nil {
		return nil, err
	}
	return p.TypeConverter.ObjectToTyped(u, opts...)
}

func (w *world) wrote(object client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch object.(type) {
	case *v1alpha1.ResourceRecommendation:
		w.written["ResourceRecommendation"]++
	case *vpav1.VerticalPodAutoscaler:
		w.written["VerticalPodAutoscaler"]++
	case *vpav1.VerticalPodAutoscalerCheckpoint:
		w.written["VerticalPodAutoscalerCheckpoint"]++
	case *corev1.ConfigMap:
		w.written["ConfigMap"]++
	}
}

// restart makes another process of the controller.
func (w *world) restart() {
	if w.Controller != nil {
		w.jobs.ShutDown()
		w.fills.ShutDown()
	}
	w.registry, w.recorder = prometheus.NewRegistry(), events.NewFakeRecorder(1000)
	w.opts.Registerer, w.opts.Recorder = w.registry, w.recorder
	c, err := New(w.opts)
	require.NoError(w.t, err)
	w.Controller = c
}

// stop ends the process as SIGTERM does.
func (w *world) stop() { require.NoError(w.t, w.saveAll(w.t.Context())) }

// Samples implements Source: what use says, now.
func (w *world) Samples(_ context.Context, namespace string) ([]recommender.Sample, error) {
	var list []recommender.Sample
	for id, of := range w.samples {
		if id.Namespace != namespace {
			continue
		}
		for _, r := range slices.Sorted(maps.Keys(of)) {
			list = append(list, recommender.Sample{Container: id, Resource: r, At: w.now, Value: of[r], Certainty: 1})
		}
	}
	return list, w.failing
}

// Engines implements Engines.
func (w *world) Engines(_ context.Context, namespace string) (map[recommender.ContainerID]accelerator.Facts, error) {
	found := map[recommender.ContainerID]accelerator.Facts{}
	for id, f := range w.facts {
		if namespace == "" || id.Namespace == namespace {
			found[id] = f
		}
	}
	return found, w.failing
}

// Past implements Source.
func (w *world) Past(_ context.Context, of recommender.Past, yield func([]recommender.Sample) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, of)
	if err := w.pastErr[of.Resource]; err != nil {
		return err
	}
	var list []recommender.Sample
	for _, s := range w.past {
		if s.Resource == of.Resource && s.Container.Namespace == of.Namespace && !s.At.Before(of.Start) && !s.At.After(of.End) {
			list = append(list, s)
		}
	}
	return yield(list)
}

// use sets what a container uses from now on.
func (w *world) use(pod, container string, cpu, memory float64) {
	w.samples[recommender.ContainerID{Namespace: "prod", Pod: pod, Container: container}] = map[recommender.Resource]float64{
		recommender.CPU: cpu, recommender.Memory: memory,
	}
}

// passes goes on by so many minutes, a pass each.
func (w *world) passes(n int) {
	w.t.Helper()
	for range n {
		w.now = w.now.Add(time.Minute)
		require.NoError(w.t, w.pass(w.t.Context(), true))
		w.drain()
	}
}

// drain does the jobs that are due.
func (w *world) drain() {
	for w.fills.Len() > 0 {
		w.fillNext(w.t.Context())
	}
	for w.jobs.Len() > 0 {
		w.work(w.t.Context())
	}
}

func (w *world) create(objects ...client.Object) {
	w.t.Helper()
	for _, o := range objects {
		pod, isPod := o.DeepCopyObject().(*corev1.Pod)
		require.NoError(w.t, w.Client.Create(w.t.Context(), o))
		if isPod {
			w.status(pod.Name, func(s *corev1.PodStatus) { *s = pod.Status })
		}
	}
}

// status changes a pod's.
func (w *world) status(name string, change func(s *corev1.PodStatus)) {
	w.t.Helper()
	var p corev1.Pod
	require.NoError(w.t, w.Get(w.t.Context(), client.ObjectKey{Namespace: "prod", Name: name}, &p))
	change(&p.Status)
	require.NoError(w.t, w.Status().Update(w.t.Context(), &p))
}

func (w *world) rr(name string) *v1alpha1.ResourceRecommendation {
	w.t.Helper()
	r := &v1alpha1.ResourceRecommendation{}
	require.NoError(w.t, w.Get(w.t.Context(), client.ObjectKey{Namespace: "prod", Name: name}, r))
	return r
}

func (w *world) vpa(name string) *vpav1.VerticalPodAutoscaler {
	w.t.Helper()
	v := &vpav1.VerticalPodAutoscaler{}
	require.NoError(w.t, w.Get(w.t.Context(), client.ObjectKey{Namespace: "prod", Name: name}, v))
	return v
}

func readyOf(t *testing.T, r *v1alpha1.ResourceRecommendation) metav1.Condition {
	t.Helper()
	c := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionReady)
	require.NotNil(t, c)
	return *c
}

// owner is a controller reference.
func owner(apiVersion, kind, name string) []metav1.OwnerReference {
	return []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID(kind + "/" + name), Controller: new(true)}}
}

// named is the metadata of an object with the UID that owner gives it.
func named(kind, name string, owners []metav1.OwnerReference) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "prod", Name: name, UID: types.UID(kind + "/" + name), OwnerReferences: owners}
}
