package exact

import (
	"context"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	v1core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/scale"
	customv1beta2 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalv1beta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	resourceclient "k8s.io/metrics/pkg/client/clientset/versioned/typed/metrics/v1beta1"
	customclient "k8s.io/metrics/pkg/client/custom_metrics"
	externalclient "k8s.io/metrics/pkg/client/external_metrics"
)

// scales is the scale client. A look of the controller begins with Get and ends, where it rescales, with Update.
type scales struct {
	scale.ScaleInterface

	w *world
}

func (s scales) Scales(string) scale.ScaleInterface { return s }

func (s scales) Get(_ context.Context, _ schema.GroupResource, name string, _ metav1.GetOptions) (*autoscalingv1.Scale, error) {
	if name == other {
		return s.w.lookOfOther(), nil
	}
	p := s.w.p
	if s.w.refreshes { // after an update that failed, the controller asks for a newer scale
		s.w.refreshes = false
	} else {
		s.w.look()
	}
	if p.scaleErr != nil {
		return nil, p.scaleErr
	}
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       autoscalingv1.ScaleSpec{Replicas: p.spec},
		Status:     autoscalingv1.ScaleStatus{Replicas: p.status, Selector: p.selector},
	}, nil
}

func (s scales) Update(_ context.Context, _ schema.GroupResource, sc *autoscalingv1.Scale, _ metav1.UpdateOptions) (*autoscalingv1.Scale, error) {
	return sc, s.w.update(sc.Spec.Replicas)
}

// metricsAPIs are the three APIs, under the controller's own client of them.
type metricsAPIs struct{ p *plant }

type (
	resourceAPI struct {
		resourceclient.PodMetricsInterface

		p *plant
	}
	customAPI struct {
		customclient.MetricsInterface

		p *plant
	}
	externalAPI struct{ p *plant }
)

func (a metricsAPIs) PodMetricses(string) resourceclient.PodMetricsInterface {
	return resourceAPI{p: a.p}
}

func (a metricsAPIs) NamespacedMetrics(string) customclient.MetricsInterface {
	return customAPI{p: a.p}
}

func (a metricsAPIs) RootScopedMetrics() customclient.MetricsInterface { return customAPI{p: a.p} }

type external struct{ p *plant }

func (a external) NamespacedMetrics(string) externalclient.MetricsInterface { return externalAPI(a) }

func (a resourceAPI) List(context.Context, metav1.ListOptions) (*metricsv1beta1.PodMetricsList, error) {
	if a.p.resource != nil {
		return nil, a.p.resource
	}
	return &metricsv1beta1.PodMetricsList{Items: a.p.metrics}, nil
}

func (a customAPI) GetForObject(_ schema.GroupKind, _, metric string, _ labels.Selector) (*customv1beta2.MetricValue, error) {
	if err := a.p.failing[metric]; err != nil {
		return nil, err
	}
	return &customv1beta2.MetricValue{Value: *resource.NewMilliQuantity(a.p.values[metric][0], resource.DecimalSI)}, nil
}

func (a customAPI) GetForObjects(_ schema.GroupKind, _ labels.Selector, metric string, _ labels.Selector) (*customv1beta2.MetricValueList, error) {
	if err := a.p.failing[metric]; err != nil {
		return nil, err
	}
	list := &customv1beta2.MetricValueList{}
	for pod, milli := range a.p.custom[metric] {
		list.Items = append(list.Items, customv1beta2.MetricValue{
			DescribedObject: corev1.ObjectReference{Kind: "Pod", Name: pod}, Value: *resource.NewMilliQuantity(milli, resource.DecimalSI),
		})
	}
	return list, nil
}

func (a externalAPI) List(metric string, _ labels.Selector) (*externalv1beta1.ExternalMetricValueList, error) {
	if err := a.p.failing[metric]; err != nil {
		return nil, err
	}
	list := &externalv1beta1.ExternalMetricValueList{}
	for _, milli := range a.p.values[metric] {
		list.Items = append(list.Items, externalv1beta1.ExternalMetricValue{Value: *resource.NewMilliQuantity(milli, resource.DecimalSI)})
	}
	return list, nil
}

// noEvents throws events away: a fake clientset would keep a week of them.
type noEvents struct{ v1core.EventInterface }

func (e noEvents) Events(string) v1core.EventInterface { return e }

func (noEvents) CreateWithEventNamespace(e *corev1.Event) (*corev1.Event, error) { return e, nil }

func (noEvents) UpdateWithEventNamespace(e *corev1.Event) (*corev1.Event, error) { return e, nil }

func (noEvents) PatchWithEventNamespace(e *corev1.Event, _ []byte) (*corev1.Event, error) {
	return e, nil
}

func (e noEvents) CreateWithEventNamespaceWithContext(_ context.Context, ev *corev1.Event) (*corev1.Event, error) {
	return ev, nil
}

func (e noEvents) UpdateWithEventNamespaceWithContext(_ context.Context, ev *corev1.Event) (*corev1.Event, error) {
	return ev, nil
}

func (e noEvents) PatchWithEventNamespaceWithContext(_ context.Context, ev *corev1.Event, _ []byte) (*corev1.Event, error) {
	return ev, nil
}
