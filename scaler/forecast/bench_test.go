package forecast

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// month is 28 days at 1m: a day's wave, a dip at weekends, hourly bursts, noise.
func month() []float64 {
	random := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, 28*1440)
	for i := range values {
		v := 60 - 45*math.Cos(2*math.Pi*float64(i)/1440)
		if i/1440%7 >= 5 {
			v *= 0.5
		}
		if i%60 < 3 {
			v *= 1.5
		}
		values[i] = v * math.Exp(0.1*random.NormFloat64())
	}
	return values
}

var start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// BenchmarkObserve replays a month for each iteration.
func BenchmarkObserve(b *testing.B) {
	values := month()
	for b.Loop() {
		m, err := New(Options{})
		require.NoError(b, err)
		for i, v := range values {
			if err := m.Observe(start.Add(time.Duration(i)*time.Minute), v); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(values)), "ns/step")
}

// BenchmarkForecast asks every 15 s for one of the horizons, as a scaler does; an observation comes each minute.
func BenchmarkForecast(b *testing.B) {
	values := month()[:10080]
	m, err := New(Options{})
	require.NoError(b, err)
	for i, v := range values {
		require.NoError(b, m.Observe(start.Add(time.Duration(i)*time.Minute), v))
	}
	last := start.Add(10079 * time.Minute)
	b.ReportAllocs()
	sum, i := 0.0, 0
	for b.Loop() {
		m.cache.valid = m.cache.valid && i%4 != 0
		f := m.Forecast(last.Add(time.Duration(i%4)*15*time.Second), 5*time.Minute)
		sum += f.Quantile(0.95)
		i++
	}
	require.Positive(b, sum)
}
