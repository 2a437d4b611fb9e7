package hpa

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// looker looks at a queue that goes up and down, every 15 s.
func looker(pods int, behavior bool, metrics ...Metric) func() Decision {
	cfg := DefaultConfig()
	a := Autoscaler{Max: 50, Metrics: metrics}
	if behavior {
		a.Behavior = &Behavior{}
	}
	a.Default()
	var m Memory
	obs := Observation{Now: noon, Replicas: 3, Pods: make([]Pod, pods)}
	for i := range obs.Pods {
		obs.Pods[i].Ready = Ready
	}
	for _, metric := range metrics {
		r := Reading{Values: make([]int64, 1)}
		if metric.Source == Pods {
			r = Reading{Samples: make([]Sample, pods)}
		}
		obs.Readings = append(obs.Readings, r)
	}
	tick := int64(0)
	return func() Decision {
		tick++
		value := 1000 * (10 + (tick*7919)%40)
		for i := range obs.Readings {
			for j := range obs.Readings[i].Values {
				obs.Readings[i].Values[j] = value
			}
			for j := range obs.Readings[i].Samples {
				obs.Readings[i].Samples[j] = Sample{Measured: j%8 != 7, Milli: value / int64(pods)}
			}
		}
		obs.Now = obs.Now.Add(15 * time.Second)
		obs.Created = obs.Replicas
		d := Reconcile(&cfg, &a, &m, &obs)
		obs.Replicas = d.Replicas
		return d
	}
}

func queue() Metric { return Metric{Source: External, Name: "queue", Kind: AverageValue, Target: 1000} }

func busy() Metric { return Metric{Source: Pods, Name: "busy", Kind: AverageValue, Target: 1000} }

func BenchmarkReconcile(b *testing.B) {
	f := func(name string, look func() Decision) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				look()
			}
		})
	}
	f("external", looker(0, false, queue()))
	f("external/behavior", looker(0, true, queue()))
	f("pods=16", looker(16, true, busy()))
	f("external+pods=16", looker(16, true, queue(), busy()))
}

// TestReconcileAllocatesNothing: once the memory has its size.
func TestReconcileAllocatesNothing(t *testing.T) {
	for _, behavior := range []bool{false, true} {
		look := looker(16, behavior, queue(), busy())
		for range 500 {
			look()
		}
		assert.Zero(t, testing.AllocsPerRun(500, func() { look() }))
	}
}
