package simulate

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/scaler/hpa"
)

// steady is an hour of a constant rate, and another of a lower one.
func steady(t *testing.T, first, second float64, p Plant) *Load {
	t.Helper()
	trace := &Trace{Name: "steady", Start: time.Unix(1767571200, 0).UTC(), Step: time.Minute, Rate: make([]float64, 120)}
	for i := range trace.Rate {
		trace.Rate[i] = first
		if i >= 60 {
			trace.Rate[i] = second
		}
	}
	l, err := NewLoad(trace, p)
	require.NoError(t, err)
	return l
}

// wanted are the replicas asked for, minute by minute.
func wanted(t *testing.T, l *Load, p Policy) []float64 {
	t.Helper()
	results, err := Run(l, p, RunOptions{Points: 120})
	require.NoError(t, err)
	require.Len(t, results[0].Series, 120)
	list := make([]float64, 120)
	for i, point := range results[0].Series {
		list[i] = point.Wanted
	}
	return list
}

// TestStockHPASettles: whatever the metric, a steady load ends with as many replicas as bring it to its target, and a fall is
// followed only when the stabilization window has passed. All targets here stand for one request per second and replica. The
// number of requests in flight, 4 for each of those on average, is Poisson, and stabilization keeps the largest of some 20
// looks at it: up to 2.5 standard deviations more. Tolerance leaves a tenth either way.
func TestStockHPASettles(t *testing.T) {
	plant := Plant{StartUp: 30 * time.Second, Slots: 8, ServiceTime: 4 * time.Second, Seed: 3}
	const high, low = 40.0, 10.0
	f := func(source hpa.Source, name string, kind hpa.Kind, target int64) {
		t.Helper()
		a := hpa.Autoscaler{Max: 200, Metrics: []hpa.Metric{{Source: source, Name: name, Kind: kind, Target: target}}}
		a.Default()
		list := wanted(t, steady(t, high, low, plant), &StockHPA{Autoscaler: a})
		within := func(rate, replicas float64) {
			t.Helper()
			assert.GreaterOrEqual(t, replicas, 0.9*rate, "%s of %s", name, source)
			assert.LessOrEqual(t, replicas, 1.1*rate*(1+2.5/math.Sqrt(4*rate))+1, "%s of %s", name, source)
		}
		within(high, list[59])
		assert.GreaterOrEqual(t, list[63], 0.9*high, "%s of %s: within the window nothing is given away", name, source)
		within(low, list[119])
	}
	f(hpa.Pods, "requests_per_second", hpa.AverageValue, 1000)
	f(hpa.External, "requests_per_second", hpa.AverageValue, 1000)
	f(hpa.Pods, "requests_in_flight", hpa.AverageValue, 4000)
	f(hpa.Object, "requests_in_flight", hpa.AverageValue, 4000)
	f(hpa.Pods, "kv_cache_usage_percent", hpa.AverageValue, 50_000)
	f(hpa.Object, "kv_cache_usage_percent", hpa.Value, 50_000)
}

// TestMetricOf holds the busy share of a GPU to its definition, and the rest to sums.
func TestMetricOf(t *testing.T) {
	p := PodView{Rate: 1.5, Running: 4, Waiting: 3}
	for name, want := range map[string]float64{
		"requests_per_second": 1.5, "requests_in_flight": 4, "requests_waiting": 3, "kv_cache_usage_percent": 50, "gpu_utilization_percent": 100 * (1 - math.Exp(-4)),
	} {
		assert.InDelta(t, want, metricOf(name, &p, 8), 1e-12, name)
		assert.Contains(t, Measured(), name)
	}
	assert.True(t, math.IsNaN(metricOf("other", &p, 8)))
}

// TestStockHPARefuses: what the plant does not have is no zero.
func TestStockHPARefuses(t *testing.T) {
	a := hpa.Autoscaler{Max: 10}
	a.Default()
	_, err := Run(steady(t, 1, 1, Plant{}), &StockHPA{Autoscaler: a}, RunOptions{})
	require.ErrorContains(t, err, "metric cpu is a resource, and the plant has none")
}

// TestKPASettles: Knative keeps a steady load at its target.
func TestKPASettles(t *testing.T) {
	plant := Plant{StartUp: 30 * time.Second, Slots: 8, ServiceTime: 4 * time.Second, Seed: 3}
	list := wanted(t, steady(t, 40, 10, plant), &KPA{Utilization: 0.5})
	assert.InEpsilon(t, 40, list[59], 0.15)
	assert.InEpsilon(t, 10, list[119], 0.25)
	_, err := Run(steady(t, 1, 1, plant), &KPA{Utilization: 7}, RunOptions{})
	require.ErrorContains(t, err, "cannot simulate kpa")
}
