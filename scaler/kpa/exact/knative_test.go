package exact

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/embedded"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	netv1alpha1 "knative.dev/networking/pkg/apis/networking/v1alpha1"
	"knative.dev/pkg/logging"
	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	asconfig "knative.dev/serving/pkg/autoscaler/config"
	"knative.dev/serving/pkg/autoscaler/config/autoscalerconfig"
	"knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/scaling"
	"knative.dev/serving/pkg/deployment"
	"knative.dev/serving/pkg/reconciler/autoscaling/config"
	_ "knative.dev/serving/pkg/reconciler/autoscaling/kpa" // holds the functions below
	kparesources "knative.dev/serving/pkg/reconciler/autoscaling/kpa/resources"
	"knative.dev/serving/pkg/reconciler/autoscaling/resources"

	"headroom.dev/headroom/scaler/kpa"
)

// kpaScaler is laid out as the struct scaler of pkg/reconciler/autoscaling/kpa/scaler.go.
type kpaScaler struct {
	listerFactory  func(schema.GroupVersionResource) (cache.GenericLister, error)
	dynamicClient  dynamic.Interface
	transport      http.RoundTripper
	activatorProbe func(*v1alpha1.PodAutoscaler, http.RoundTripper) (bool, error)
	probeManager   interface {
		Offer(context.Context, string, any, time.Duration, time.Duration, ...any) bool
	}
	enqueueCB func(any, time.Duration)
}

// kpaPodCounts is laid out as the struct podCounts of pkg/reconciler/autoscaling/kpa/kpa.go.
type kpaPodCounts struct{ want, ready, notReady, pending, terminating int }

//go:linkname kpaScale knative.dev/serving/pkg/reconciler/autoscaling/kpa.(*scaler).scale
func kpaScale(*kpaScaler, context.Context, *v1alpha1.PodAutoscaler, *netv1alpha1.ServerlessService, int32) (int32, error)

//go:linkname computeActiveCondition knative.dev/serving/pkg/reconciler/autoscaling/kpa.computeActiveCondition
func computeActiveCondition(context.Context, *v1alpha1.PodAutoscaler, kpaPodCounts)

//go:linkname resolveScrapeTarget knative.dev/serving/pkg/reconciler/autoscaling/kpa.resolveScrapeTarget
func resolveScrapeTarget(context.Context, *v1alpha1.PodAutoscaler) string

// annotations are those that say what c says.
func annotations(c kpa.Config) map[string]string {
	float := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	a := map[string]string{
		autoscaling.ClassAnnotationKey:                    autoscaling.KPA,
		autoscaling.MetricAnnotationKey:                   string(c.Metric),
		autoscaling.MetricAggregationAlgorithmKey:         string(c.Aggregation),
		autoscaling.TargetUtilizationPercentageKey:        float(c.TargetUtilizationPercentage),
		autoscaling.WindowAnnotationKey:                   c.StableWindow.String(),
		autoscaling.PanicWindowPercentageAnnotationKey:    float(c.PanicWindowPercentage),
		autoscaling.PanicThresholdPercentageAnnotationKey: float(c.PanicThresholdPercentage),
		autoscaling.ScaleDownDelayAnnotationKey:           c.ScaleDownDelay.String(),
		autoscaling.TargetBurstCapacityKey:                float(c.TargetBurstCapacity),
		autoscaling.MinScaleAnnotationKey:                 strconv.Itoa(c.MinScale),
		autoscaling.MaxScaleAnnotationKey:                 strconv.Itoa(c.MaxScale),
		autoscaling.InitialScaleAnnotationKey:             strconv.Itoa(c.InitialScale),
		autoscaling.ScaleToZeroPodRetentionPeriodKey:      c.ScaleToZeroPodRetentionPeriod.String(),
		"serving.knative.dev/progress-deadline":           c.ProgressDeadline.String(),
	}
	if c.Target != 0 {
		a[autoscaling.TargetAnnotationKey] = float(c.Target)
	}
	if c.ActivationScale != 0 {
		a[autoscaling.ActivationScaleKey] = strconv.Itoa(c.ActivationScale)
	}
	return a
}

// clusterConfig reads what no annotation says from the form of config-autoscaler.
func clusterConfig(c kpa.Config) (*autoscalerconfig.Config, error) {
	float := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	return asconfig.NewConfigFromMap(map[string]string{
		"max-scale-up-rate":          float(c.MaxScaleUpRate),
		"max-scale-down-rate":        float(c.MaxScaleDownRate),
		"enable-scale-to-zero":       strconv.FormatBool(c.EnableScaleToZero),
		"allow-zero-initial-scale":   strconv.FormatBool(c.AllowZeroInitialScale),
		"scale-to-zero-grace-period": c.ScaleToZeroGracePeriod.String(),
	})
}

// knative is one revision in the hands of Knative's code.
type knative struct {
	t         *testing.T
	ctx       context.Context
	cluster   *autoscalerconfig.Config
	collector *metrics.MetricCollector
	scalers   *scaling.MultiScaler
	stop      chan struct{}
	scaler    *kpaScaler
	pa        *v1alpha1.PodAutoscaler
	sks       *netv1alpha1.ServerlessService
	target    *v1alpha1.PodScalable
	key       types.NamespacedName
	gauges    gauges

	mu     sync.Mutex
	scales []scaled // since the last look
	ready  int      // what EndpointsCounter answers
	scrape func() (metrics.Stat, error)
}

// scaled is one call of Scale.
type scaled struct {
	now    time.Time
	result scaling.ScaleResult
}

// newKnative makes the revision's objects; its tickers start with start.
func newKnative(t *testing.T, c kpa.Config, readyPods int) *knative {
	t.Helper()
	cluster, err := clusterConfig(c)
	require.NoError(t, err)
	k := &knative{t: t, cluster: cluster, stop: make(chan struct{}), ready: readyPods, key: types.NamespacedName{Namespace: "ns", Name: "rev"}}
	k.ctx = config.ToContext(logging.WithLogger(context.Background(), zap.NewNop().Sugar()), &config.Config{
		Autoscaler: cluster,
		Deployment: &deployment.Config{ProgressDeadline: deployment.ProgressDeadlineDefault},
	})
	k.pa = &v1alpha1.PodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: k.key.Namespace, Name: k.key.Name, Annotations: annotations(c)},
		Spec: v1alpha1.PodAutoscalerSpec{
			ContainerConcurrency: int64(c.ContainerConcurrency),
			ScaleTargetRef:       corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "rev"},
		},
	}
	require.Nil(t, autoscaling.ValidateAnnotations(k.ctx, cluster, k.pa.Annotations))
	k.setReachability(c.Reachable)
	k.pa.Status.ServiceName, k.pa.Status.MetricsServiceName = "rev", "rev-private"
	k.scaler = &kpaScaler{
		listerFactory:  func(schema.GroupVersionResource) (cache.GenericLister, error) { return lister{k: k}, nil },
		dynamicClient:  client{k: k},
		activatorProbe: func(*v1alpha1.PodAutoscaler, http.RoundTripper) (bool, error) { return true, nil },
		enqueueCB:      func(any, time.Duration) {}, // every step reconciles
	}
	replicas := int32(c.InitialScale)
	k.sks = &netv1alpha1.ServerlessService{}
	k.pa.Status.InitializeConditions()
	if readyPods > 0 {
		replicas = int32(readyPods)
		k.pa.Status.MarkActive()
		k.pa.Status.MarkScaleTargetInitialized()
		k.sks.Status.MarkActivatorEndpointsRemoved()
	} else {
		k.sks.Status.MarkActivatorEndpointsPopulated()
	}
	k.target = &v1alpha1.PodScalable{Spec: v1alpha1.PodScalableSpec{Replicas: &replicas}}
	return k
}

// startScaling starts the ticker of 2 s.
func (k *knative) startScaling() {
	logger := zap.NewNop().Sugar()
	k.collector = metrics.NewMetricCollector(func(*v1alpha1.Metric, *zap.SugaredLogger) (metrics.StatsScraper, error) { return k, nil }, logger)
	k.scalers = scaling.NewMultiScaler(k.stop, func(d *scaling.Decider) (scaling.UniScaler, error) {
		return uniScaler{scaling.New(attribute.NewSet(), &k.gauges, d.Namespace, d.Name, k.collector, k, &d.Spec), k}, nil
	}, logger)
	_, err := k.scalers.Create(k.ctx, kparesources.MakeDecider(k.pa, k.cluster))
	require.NoError(k.t, err)
}

// startScraping starts the ticker of 1 s.
func (k *knative) startScraping() {
	m := resources.MakeMetric(k.pa, resolveScrapeTarget(k.ctx, k.pa), k.cluster)
	require.NoError(k.t, k.collector.CreateOrUpdate(m))
}

func (k *knative) close() {
	close(k.stop)
	k.collector.Delete(k.key.Namespace, k.key.Name)
}

func (k *knative) setReachability(reachable bool) {
	k.pa.Spec.Reachability = v1alpha1.ReachabilityUnreachable
	if reachable {
		k.pa.Spec.Reachability = v1alpha1.ReachabilityReachable
	}
}

// updateReachability does what a reconcile after the change of the PodAutoscaler does to the decider.
func (k *knative) updateReachability(reachable bool) {
	k.setReachability(reachable)
	now, err := k.scalers.Get(k.ctx, k.key.Namespace, k.key.Name)
	require.NoError(k.t, err)
	next := kparesources.MakeDecider(k.pa, k.cluster)
	next.Status = now.Status
	_, err = k.scalers.Update(k.ctx, next)
	require.NoError(k.t, err)
}

// reconcile is ReconcileKind less the API server: the count, the ServerlessService's mode and endpoints, the status.
func (k *knative) reconcile() (want int) {
	d, err := k.scalers.Get(k.ctx, k.key.Namespace, k.key.Name)
	require.NoError(k.t, err)
	w, err := kpaScale(k.scaler, k.ctx, k.pa, k.sks, d.Status.DesiredScale)
	require.NoError(k.t, err)
	k.sks.Spec.Mode = netv1alpha1.SKSOperationModeProxy
	if w > 0 && d.Status.ExcessBurstCapacity >= 0 {
		k.sks.Spec.Mode = netv1alpha1.SKSOperationModeServe
	}
	// reconcilePublicEndpoints of pkg/reconciler/serverlessservice.
	if k.ready == 0 || k.sks.Spec.Mode == netv1alpha1.SKSOperationModeProxy {
		k.sks.Status.MarkActivatorEndpointsPopulated()
	} else {
		k.sks.Status.MarkActivatorEndpointsRemoved()
	}
	computeActiveCondition(k.ctx, k.pa, kpaPodCounts{want: int(w), ready: k.ready})
	return int(w)
}

func (k *knative) phase() kpa.Phase {
	switch {
	case k.pa.Status.IsActive():
		return kpa.Active
	case k.pa.Status.IsInactive():
		return kpa.Inactive
	}
	return kpa.Activating
}

// take returns the calls of Scale since the last take.
func (k *knative) take() []scaled {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.scales
	k.scales = k.scales[len(k.scales):]
	return s
}

// uniScaler notes what the autoscaler answers to the MultiScaler.
type uniScaler struct {
	scaling.UniScaler
	k *knative
}

func (u uniScaler) Scale(l *zap.SugaredLogger, now time.Time) scaling.ScaleResult {
	r := u.UniScaler.Scale(l, now)
	u.k.mu.Lock()
	defer u.k.mu.Unlock()
	u.k.scales = append(u.k.scales, scaled{now, r})
	return r
}

// ReadyCount is part of resources.EndpointsCounter.
func (k *knative) ReadyCount() (int, error) { return k.ready, nil }

// NotReadyCount is part of resources.EndpointsCounter.
func (k *knative) NotReadyCount() (int, error) { return 0, nil }

// Scrape is metrics.StatsScraper.
func (k *knative) Scrape(time.Duration) (metrics.Stat, error) { return k.scrape() }

// lister serves the Deployment.
type lister struct {
	cache.GenericLister
	k *knative
}

func (l lister) ByNamespace(string) cache.GenericNamespaceLister { return namespaced{k: l.k} }

type namespaced struct {
	cache.GenericNamespaceLister
	k *knative
}

func (n namespaced) Get(string) (runtime.Object, error) { return n.k.target, nil }

// client takes the patch of spec.replicas.
type client struct {
	dynamic.NamespaceableResourceInterface
	k *knative
}

func (c client) Resource(schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return c
}

func (c client) Namespace(string) dynamic.ResourceInterface { return c }

func (c client) Patch(_ context.Context, _ string, _ types.PatchType, data []byte, _ metav1.PatchOptions, _ ...string) (*unstructured.Unstructured, error) {
	var ops []struct {
		Path  string
		Value int32
	}
	require.NoError(c.k.t, json.Unmarshal(data, &ops))
	require.Len(c.k.t, ops, 1)
	require.Equal(c.k.t, "/spec/replicas", ops[0].Path)
	c.k.target.Spec.Replicas = &ops[0].Value
	return nil, nil
}

// gauges is the MeterProvider through which the autoscaler tells its averages and whether it is in panic.
type gauges struct {
	noop.MeterProvider
	callback metric.Callback
	values   map[string]float64
}

type meter struct {
	noop.Meter
	g *gauges
}

type namedInt struct {
	noop.Int64ObservableGauge
	name string
}

type namedFloat struct {
	noop.Float64ObservableGauge
	name string
}

func (g *gauges) Meter(string, ...metric.MeterOption) metric.Meter { return meter{g: g} }

func (m meter) Int64ObservableGauge(name string, _ ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	return &namedInt{name: name}, nil
}

func (m meter) Float64ObservableGauge(name string, _ ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	return &namedFloat{name: name}, nil
}

func (m meter) RegisterCallback(f metric.Callback, _ ...metric.Observable) (metric.Registration, error) {
	m.g.callback, m.g.values = f, map[string]float64{}
	return noop.Registration{}, nil
}

type observer struct {
	embedded.Observer
	values map[string]float64
}

func (o observer) ObserveInt64(i metric.Int64Observable, v int64, _ ...metric.ObserveOption) {
	o.values[i.(*namedInt).name] = float64(v)
}

func (o observer) ObserveFloat64(f metric.Float64Observable, v float64, _ ...metric.ObserveOption) {
	o.values[f.(*namedFloat).name] = v
}

// read returns the gauges as of now.
func (g *gauges) read(ctx context.Context) (map[string]float64, error) {
	return g.values, g.callback(ctx, observer{values: g.values})
}
