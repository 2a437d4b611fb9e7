package main

import (
	"time"

	"headroom.dev/headroom/scaler"
	"headroom.dev/headroom/scaler/hpa"
	"headroom.dev/headroom/scaler/simulate"
)

// The families, in the order of the table.
const (
	limit     = "clairvoyant"
	stock     = "hpa"
	keda      = "keda"
	knative   = "kpa"
	lastValue = "last-value"
	ours      = "headroom"
)

// most replicas that a policy may ask for: far more than any trace needs, so that it limits none.
const most = 1000

// families are the policies with what an operator would tune. Who does not know the future is not asked to plan for more than
// a replica can do.
func families(startUp time.Duration) []simulate.Family {
	atMost := func(f func(u, capacity float64) simulate.Policy) func(u, capacity float64) simulate.Policy {
		return func(u, capacity float64) simulate.Policy {
			if u > 1 {
				return nil
			}
			return f(u, capacity)
		}
	}
	list := []simulate.Family{
		{Name: limit, Variants: []func(u, c float64) simulate.Policy{
			func(u, _ float64) simulate.Policy { return &simulate.Clairvoyant{Utilization: u} },
		}},
		{Name: stock},
		{Name: keda},
		{Name: knative},
		{Name: lastValue},
		{Name: ours},
	}
	add := func(name string, f func(u, capacity float64) simulate.Policy) {
		for i := range list {
			if list[i].Name == name {
				list[i].Variants = append(list[i].Variants, atMost(f))
			}
		}
	}
	for _, window := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute} {
		add(stock, func(u, c float64) simulate.Policy {
			return &simulate.StockHPA{Autoscaler: autoscaler(hpa.Pods, u*c, window)}
		})
	}
	for _, window := range []time.Duration{time.Minute, 5 * time.Minute} {
		add(lastValue, func(u, c float64) simulate.Policy {
			config := scaler.Config{NoForecast: true, Policy: policy(u, c, startUp)}
			config.Policy.Window = window
			return &simulate.Headroom{Label: lastValue, Config: config}
		})
	}
	add(keda, func(u, c float64) simulate.Policy {
		return &simulate.StockHPA{Label: keda, Poll: 30 * time.Second, Autoscaler: autoscaler(hpa.External, u*c, 5*time.Minute)}
	})
	add(knative, func(u, _ float64) simulate.Policy { return &simulate.KPA{Utilization: u} })
	for _, quantile := range []float64{0.8, 0.95, 0.99} {
		add(ours, func(u, c float64) simulate.Policy {
			config := scaler.Config{Policy: policy(u, c, startUp)}
			config.Policy.Quantile = quantile
			return &simulate.Headroom{Config: config}
		})
	}
	return list
}

func policy(utilization, capacity float64, startUp time.Duration) scaler.Policy {
	return scaler.Policy{
		Min: 1, Max: most, Capacity: capacity, Utilization: utilization,
		StartUp: max(startUp, time.Second), // 0 would be learnt
	}
}

// autoscaler is the usual HPA on requests per second and pod, with a window for scaling down.
func autoscaler(source hpa.Source, target float64, window time.Duration) hpa.Autoscaler {
	a := hpa.Autoscaler{
		Max:      most,
		Metrics:  []hpa.Metric{{Source: source, Name: "requests_per_second", Kind: hpa.AverageValue, Target: max(int64(target*1000), 1)}},
		Behavior: &hpa.Behavior{Down: hpa.Rules{Window: &window}},
	}
	a.Default()
	return a
}
