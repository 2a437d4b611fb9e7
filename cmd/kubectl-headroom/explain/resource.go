package explain

import (
	"math"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/scaler/hpa"
	"headroom.dev/headroom/scaler/hpa/kube"
)

func (m *Metric) ofResources() bool {
	return m.Type == string(hpa.Resource) || m.Type == string(hpa.ContainerResource)
}

// ofResource is for Resource and ContainerResource metrics, by what metrics.k8s.io says now.
func (c *composer) ofResource(m *Metric, spec *autoscalingv2.MetricSpec, plain *hpa.Metric, metrics []metricsv1beta1.PodMetrics) {
	container := ""
	if spec.ContainerResource != nil {
		container = spec.ContainerResource.Container
	}
	obs := hpa.Observation{Now: c.in.Now, Replicas: c.out.Target.Replicas}
	pods := make([]*corev1.Pod, len(c.in.Pods))
	for i := range c.in.Pods {
		pods[i] = &c.in.Pods[i]
		obs.Pods = append(obs.Pods, kube.Pod(pods[i]))
	}
	r := kube.Resource(corev1.ResourceName(plain.Name), container, pods, metrics)
	p := hpa.Propose(&c.cfg, plain, &obs, &r, c.tol)
	scale := int64(1) // of what is shown, in thousandths of its unit
	if plain.Kind == hpa.Utilization {
		scale, p.Usage = 1000, int64(p.Percent)*1000
	}
	p.Assumed *= scale
	if r.Err == nil {
		for i := range obs.Pods {
			m.Objects = append(m.Objects, c.resourceOf(plain, &obs.Pods[i], &r.Samples[i], &p))
		}
	}
	if p.Err != nil {
		m.Error = p.Err.Error()
		return
	}
	m.Proposal = c.proposalOfPods(m, &p, plain.Target*scale)
}

// resourceOf is what one pod has, and how it counts.
func (c *composer) resourceOf(m *hpa.Metric, pod *hpa.Pod, s *hpa.Sample, p *hpa.Proposal) Object {
	o := Object{Object: query.Object{Name: pod.Name}}
	if s.Measured && (m.Kind != hpa.Utilization || s.Request > 0) {
		value := float64(s.Milli) / 1000
		if m.Kind == hpa.Utilization {
			value = 100 * float64(s.Milli) / float64(s.Request)
		}
		o.Value = &query.Value{
			Value: query.Number(value), Time: s.At.UTC(), Age: math.Max(0, c.in.Now.Sub(s.At).Seconds()), Window: s.Window.Seconds(),
		}
	}
	switch c.cfg.Group(c.in.Now, m, pod, s) {
	case hpa.Measured:
		o.Counted = measured
	case hpa.Missing:
		o.Counted, o.Reason = missing, "metrics.k8s.io has no value of the pod"
		if assumed(p) {
			o.As = new(query.Number(float64(p.Assumed) / 1000))
		}
	case hpa.Unready:
		o.Counted, o.Reason = unready, "the pod has not been ready for a whole window"
		if pod.Phase == hpa.Pending {
			o.Counted, o.Reason = pending, "the pod is Pending"
		}
		if p.Ratio > 1 {
			o.As = new(query.Number(0))
		}
	case hpa.Ignored:
		o.Counted, o.Reason = dropped, "the pod is being deleted or has failed"
	}
	return o
}
