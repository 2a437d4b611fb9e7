package vpa_test

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender/vpa"
)

// feed gives a container days of CPU and memory samples, one a minute, of a load that doubles and halves over the day.
func feed(m *vpa.Model, r *rand.Rand, days int) (*vpa.Aggregate, *vpa.Instance) {
	a, in := m.NewAggregate(), &vpa.Instance{}
	cores, bytes := 50+r.Float64()*2000, 1e8*(1+r.Float64()*20)
	for i := range days * 24 * 60 {
		at := t0.Add(time.Duration(i) * time.Minute)
		daily := 1 + float64(i%1440)/1440
		in.AddCPU(a, at, int64(cores*daily*(1+0.2*r.NormFloat64())))
		in.AddMemory(a, at, int64(bytes*daily*(1+0.05*r.NormFloat64())))
	}
	return a, in
}

// BenchmarkAggregate reports the bytes of an aggregate after eight days, with its containers' instances apart.
func BenchmarkAggregate(b *testing.B) {
	m := model(b)
	const n = 200
	kept := make([]*vpa.Aggregate, n)
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	for range b.N {
		clear(kept)
		r := rand.New(rand.NewPCG(1, 1))
		before := heap()
		for i := range kept {
			kept[i], _ = feed(m, r, 8)
		}
		b.ReportMetric(float64(heap()-before)/n, "bytes/aggregate")
	}
	runtime.KeepAlive(kept)
	b.ReportMetric(0, "ns/op")
}

func BenchmarkAddCPU(b *testing.B) {
	m := model(b)
	// One container has a new time with every sample, and pays for its power of two.
	b.Run("one container", func(b *testing.B) {
		a, in := feed(m, rand.New(rand.NewPCG(1, 1)), 8)
		at := t0.AddDate(0, 0, 8)
		b.ReportAllocs()
		for i := range b.N {
			at = at.Add(time.Second)
			in.AddCPU(a, at, int64(500+i%1000))
		}
	})
	// A round over a cluster has samples of a minute's 60 seconds.
	b.Run("rounds over 1000 containers", func(b *testing.B) {
		r := rand.New(rand.NewPCG(1, 1))
		var a [1000]*vpa.Aggregate
		var in [1000]*vpa.Instance
		for i := range a {
			a[i], in[i] = feed(m, r, 1)
		}
		round := t0.AddDate(0, 0, 8)
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			k := i % len(a)
			if k == 0 {
				round = round.Add(time.Minute)
			}
			in[k].AddCPU(a[k], round.Add(time.Duration(k%60)*time.Second), int64(500+i%1000))
		}
	})
}

func BenchmarkAddMemory(b *testing.B) {
	a, in := feed(model(b), rand.New(rand.NewPCG(1, 1)), 8)
	at := t0.AddDate(0, 0, 8)
	b.ReportAllocs()
	for i := range b.N {
		at = at.Add(time.Minute)
		in.AddMemory(a, at, int64(500+i%1000)<<20)
	}
}

func BenchmarkEstimate(b *testing.B) {
	m := model(b)
	a, _ := feed(m, rand.New(rand.NewPCG(1, 1)), 8)
	b.ReportAllocs()
	for b.Loop() {
		m.Recommend(m.Estimate(a, 1), vpa.Rules{})
	}
}

func BenchmarkMerge(b *testing.B) {
	m := model(b)
	r := rand.New(rand.NewPCG(1, 1))
	x, _ := feed(m, r, 8)
	y, _ := feed(m, r, 8)
	b.Run("same buckets", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, x.Merge(y))
		}
	})
	b.Run("into a fresh one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fresh := m.NewAggregate()
			if fresh.Merge(x) != nil || fresh.Merge(y) != nil {
				b.Fail()
			}
		}
	})
}

func BenchmarkCheckpoint(b *testing.B) {
	a, in := feed(model(b), rand.New(rand.NewPCG(1, 1)), 8)
	now := t0.AddDate(0, 0, 8)
	one := slices.Values([]*vpa.Instance{in})
	b.Run("save", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a.Checkpoint(now, one)
		}
	})
	b.Run("save as JSON", func(b *testing.B) {
		b.ReportAllocs()
		var buffer []byte
		for b.Loop() {
			c := a.Checkpoint(now, one)
			buffer = c.AppendJSON(buffer[:0])
		}
	})
	b.Run("load from JSON", func(b *testing.B) {
		c := a.Checkpoint(now, one)
		text := c.AppendJSON(nil)
		b.ReportAllocs()
		for b.Loop() {
			c, err := vpa.ParseCheckpoint(text)
			require.NoError(b, err)
			_, err = a.Model().Load(c)
			require.NoError(b, err)
		}
	})
}
