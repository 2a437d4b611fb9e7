package simulate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/scaler"
	"headroom.dev/headroom/scaler/hpa"
)

// BenchmarkMonth is a month in steps of a second, for each policy: the time of one run is ns/op.
func BenchmarkMonth(b *testing.B) {
	trace, err := Synthetic("weekly", 30*24*time.Hour, 1)
	require.NoError(b, err)
	load, err := NewLoad(trace.Scaled(40), Plant{StartUp: 3 * time.Minute})
	require.NoError(b, err)
	policy := scaler.Policy{Max: 1000, Capacity: load.Capacity(), StartUp: 3 * time.Minute}
	metric := func(s hpa.Source) hpa.Autoscaler {
		a := hpa.Autoscaler{Max: 1000, Metrics: []hpa.Metric{{Source: s, Name: "requests_per_second", Kind: hpa.AverageValue, Target: 1400}}}
		a.Default()
		return a
	}
	for name, policy := range map[string]func() Policy{
		"hpa":         func() Policy { return &StockHPA{Autoscaler: metric(hpa.Pods)} },
		"keda":        func() Policy { return &StockHPA{Autoscaler: metric(hpa.External), Poll: 30 * time.Second} },
		"kpa":         func() Policy { return &KPA{Utilization: 0.7} },
		"last-value":  func() Policy { return &Headroom{Config: scaler.Config{Policy: policy, NoForecast: true}} },
		"headroom":    func() Policy { return &Headroom{Config: scaler.Config{Policy: policy}} },
		"clairvoyant": func() Policy { return &Clairvoyant{Utilization: 1} },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				results, err := Run(load, policy(), RunOptions{})
				require.NoError(b, err)
				require.Greater(b, results[0].Attainment, 0.5)
			}
		})
	}
}
