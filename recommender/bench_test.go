package recommender_test

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"headroom.dev/headroom/recommender"
)

// cpuAt is a day's curve with noise, in cores.
func cpuAt(at time.Time, r *rand.Rand) float64 {
	day := 2 * math.Pi * float64(at.Unix()%86400) / 86400
	return (0.5 - 0.35*math.Cos(day)) * math.Exp(0.2*r.NormFloat64())
}

func memoryAt(at time.Time, r *rand.Rand) float64 {
	day := 2 * math.Pi * float64(at.Unix()%86400) / 86400
	return 4e8 * (1 - 0.1*math.Cos(day)) * math.Exp(0.03*r.NormFloat64())
}

func fill(u *recommender.Usage, days int, seed uint64) time.Time {
	r := rand.New(rand.NewPCG(seed, 1))
	at := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	value := cpuAt
	if u.Resource() == recommender.Memory {
		value = memoryAt
	}
	for range days * 1440 {
		at = at.Add(time.Minute)
		u.Add(at, value(at, r), 1, at)
	}
	return at
}

func BenchmarkSample(b *testing.B) {
	for _, resource := range []recommender.Resource{recommender.CPU, recommender.Memory} {
		b.Run(string(resource), func(b *testing.B) {
			u := recommender.NewUsage(resource, recommender.DefaultPolicy(resource))
			at := fill(u, 8, 1)
			r := rand.New(rand.NewPCG(1, 2))
			values := make([]float64, 1440)
			for i := range values {
				values[i] = cpuAt(at.Add(time.Duration(i)*time.Minute), r)
				if resource == recommender.Memory {
					values[i] = memoryAt(at, r)
				}
			}
			i := 0
			for b.Loop() {
				at = at.Add(time.Minute)
				u.Add(at, values[i%1440], 1, at)
				i++
			}
		})
	}
}

func BenchmarkEstimate(b *testing.B) {
	u := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
	at := fill(u, 8, 1)
	b.ReportAllocs()
	for b.Loop() {
		recommender.Estimate(u, at)
	}
}

func BenchmarkCheckpoint(b *testing.B) {
	c := recommender.Checkpoint{Usages: map[recommender.Key]*recommender.Usage{}}
	for _, resource := range []recommender.Resource{recommender.CPU, recommender.Memory} {
		u := recommender.NewUsage(resource, recommender.DefaultPolicy(resource))
		c.At = fill(u, 8, 1)
		c.Usages[recommender.Key{Container: "server", Resource: resource}] = u
	}
	size := 0
	for b.Loop() {
		out, err := c.Encode()
		if err != nil {
			b.Fatal(err)
		}
		size = len(out)
	}
	b.ReportMetric(float64(size), "bytes")
}

func BenchmarkMemory(b *testing.B) {
	const n = 200
	var before, after runtime.MemStats
	usages := make([]*recommender.Usage, 0, 2*n)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		for _, resource := range []recommender.Resource{recommender.CPU, recommender.Memory} {
			u := recommender.NewUsage(resource, recommender.DefaultPolicy(resource))
			fill(u, 1, uint64(i))
			usages = append(usages, u)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(usages)
	for b.Loop() { // measured once
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "bytes/container")
}
