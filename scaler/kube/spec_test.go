package kube

import (
	"k8s.io/apimachinery/pkg/api/resource"

	"headroom.dev/headroom/api/v1alpha1"
)

// spec is a valid one, as the API server completes it.
func spec(change func(s *v1alpha1.ScalePolicySpec)) *v1alpha1.ScalePolicySpec {
	s := &v1alpha1.ScalePolicySpec{
		TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat"}, Mode: v1alpha1.ModeAct,
		MinReplicas: new(int32(2)), MaxReplicas: 9, Demand: v1alpha1.DemandSource{Metric: "requests_per_second"},
		SLO:                &v1alpha1.ServiceLevel{Metric: "request_latency_p95_ms", Target: resource.MustParse("500")},
		UtilizationPercent: 80, Forecast: v1alpha1.ForecastOptions{QuantilePercent: 95},
	}
	if change != nil {
		change(s)
	}
	return s
}
