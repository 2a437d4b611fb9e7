package histogram_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender/histogram"
)

func cpu() histogram.Options {
	return histogram.Options{First: 0.01, Ratio: 1.05, Max: 1000, Epsilon: 1e-4, HalfLife: 24 * time.Hour}
}

func shape(tb testing.TB, o histogram.Options) *histogram.Shape {
	tb.Helper()
	s, err := histogram.NewShape(o)
	require.NoError(tb, err)
	return s
}

// dense is the same histogram without any cunning: all buckets, and a logarithm for each value.
type dense struct {
	o           histogram.Options
	weights     []float64
	total       float64
	first, last int
	reference   time.Time
}

func newDense(o histogram.Options) *dense {
	n := int(math.Ceil(math.Log(o.Max*(o.Ratio-1)/o.First+1)/math.Log(o.Ratio))) + 1
	return &dense{o: o, weights: make([]float64, n), first: n - 1}
}

func (d *dense) bucket(v float64) int {
	if v < d.o.First {
		return 0
	}
	return min(int(math.Log(v*(d.o.Ratio-1)/d.o.First+1)/math.Log(d.o.Ratio)), len(d.weights)-1)
}

func (d *dense) start(b int) float64 {
	if b == 0 {
		return 0
	}
	return d.o.First * (math.Pow(d.o.Ratio, float64(b)) - 1) / (d.o.Ratio - 1)
}

func (d *dense) decayed(w float64, at time.Time) float64 {
	if at.After(d.reference.Add(100 * d.o.HalfLife)) {
		d.shift(at)
	}
	return w * math.Exp2(float64(at.Sub(d.reference))/float64(d.o.HalfLife))
}

func (d *dense) shift(to time.Time) {
	to = to.Round(d.o.HalfLife)
	factor := math.Ldexp(1, int(math.Floor(float64(d.reference.Sub(to))/float64(d.o.HalfLife)+0.5)))
	for b := d.first; b <= d.last; b++ {
		d.weights[b] *= factor
	}
	d.total *= factor
	d.tighten()
	d.reference = to
}

func (d *dense) tighten() {
	for d.weights[d.first] < d.o.Epsilon && d.first < len(d.weights)-1 {
		d.first++
	}
	for d.weights[d.last] < d.o.Epsilon && d.last > 0 {
		d.last--
	}
}

func (d *dense) add(v, w float64, at time.Time) {
	b, w := d.bucket(v), d.decayed(w, at)
	d.weights[b] += w
	d.total += w
	if d.weights[b] >= d.o.Epsilon {
		d.first, d.last = min(d.first, b), max(d.last, b)
	}
}

func (d *dense) subtract(v, w float64, at time.Time) {
	b, w := d.bucket(v), d.decayed(w, at)
	less := func(x float64) float64 {
		if x -= w; x < d.o.Epsilon {
			return 0
		}
		return x
	}
	d.total = less(d.total)
	d.weights[b] = less(d.weights[b])
	d.tighten()
}

func (d *dense) merge(o *dense) {
	if d.reference.Before(o.reference) {
		d.shift(o.reference)
	} else if o.reference.Before(d.reference) {
		o.shift(d.reference)
	}
	for b := o.first; b <= o.last; b++ {
		d.weights[b] += o.weights[b]
	}
	d.total += o.total
	d.first, d.last = min(d.first, o.first), max(d.last, o.last)
}

func (d *dense) percentile(p float64) float64 {
	if d.weights[d.first] < d.o.Epsilon {
		return 0
	}
	b, sum := d.first, 0.0
	for ; b < d.last; b++ {
		if sum += d.weights[b]; sum >= p*d.total {
			break
		}
	}
	return d.start(min(b+1, len(d.weights)-1))
}

func compare(t *testing.T, h *histogram.Histogram, d *dense) {
	t.Helper()
	for b, w := range d.weights {
		if got := h.Weight(b); math.Float64bits(got) != math.Float64bits(w) {
			t.Fatalf("bucket %d: %v, not %v", b, got, w)
		}
	}
	first, last := h.Span()
	require.Equal(t, []any{d.first, d.last, d.total, d.reference.UTC()}, []any{first, last, h.Total(), h.Reference()})
	for i := range 21 {
		p := float64(i) / 20
		if got, want := h.Percentile(p), d.percentile(p); got != want {
			t.Fatalf("percentile %v: %v, not %v", p, got, want)
		}
	}
}

// TestDense holds the histogram to the dense one through samples, subtractions, merges and jumps of time.
func TestDense(t *testing.T) {
	wide := histogram.Options{First: 3, Ratio: 1.07, Max: 1e6, Epsilon: 0.01, HalfLife: 31*time.Hour + 17*time.Second}
	for seed := range uint64(40) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			o := cpu()
			if seed%3 == 0 {
				o = wide
			}
			s := shape(t, o)
			h := [2]histogram.Histogram{histogram.New(s), histogram.New(s)}
			d := [2]*dense{newDense(o), newDense(o)}
			now := time.Unix(1_700_000_000, 0)
			for range 400 {
				i := r.IntN(2)
				v, w := o.First*math.Exp(3+r.NormFloat64()*3), r.Float64()
				switch n := r.IntN(100); {
				case n < 60:
					now = now.Add(time.Duration(r.Int64N(int64(time.Hour))))
				case n < 62:
					now = now.Add(time.Duration(r.Int64N(int64(200 * o.HalfLife))))
				case n < 70:
					now = now.Add(-time.Duration(r.Int64N(int64(20 * o.HalfLife))))
				}
				switch n := r.IntN(100); {
				case n < 75:
					require.True(t, h[i].Add(v, w, now.UnixNano()))
					d[i].add(v, w, now)
				case n < 95:
					require.True(t, h[i].Subtract(v, w, now.UnixNano()))
					d[i].subtract(v, w, now)
				default:
					require.NoError(t, h[i].Merge(&h[1-i]))
					d[i].merge(d[1-i])
				}
				compare(t, &h[0], d[0])
				compare(t, &h[1], d[1])
			}
		})
	}
}

func TestFind(t *testing.T) {
	s := shape(t, cpu())
	assert.Equal(t, 176, s.Buckets())
	assert.Equal(t, 1021.1094089048601, s.Start(175))
	assert.Equal(t, 0.020499999999999987, s.Start(2))
	assert.Equal(t, 1, s.Find(0.0205), "as the logarithm says, although bucket 2 begins below")
	assert.Equal(t, 0, s.Find(0))
	assert.Equal(t, 175, s.Find(math.MaxFloat64))
	assert.True(t, math.IsNaN(s.Start(-1)) && math.IsNaN(s.Start(176)))
	d, r := newDense(cpu()), rand.New(rand.NewPCG(1, 1))
	for b := range s.Buckets() {
		up, down := s.Start(b), s.Start(b)
		for range 50 {
			require.Equal(t, d.bucket(up), s.Find(up), "%v", up)
			require.Equal(t, d.bucket(down), s.Find(down), "%v", down)
			up, down = math.Nextafter(up, math.Inf(1)), max(math.Nextafter(down, 0), 0)
		}
	}
	for range 100_000 {
		v := math.Exp(r.NormFloat64() * 5)
		require.Equal(t, d.bucket(v), s.Find(v), "%v", v)
	}
}

func TestRefused(t *testing.T) {
	h := histogram.New(shape(t, cpu()))
	at := time.Unix(1_700_000_000, 0).UnixNano()
	require.True(t, h.Add(1, 1, at))
	before := h.Checkpoint()
	f := func(value, weight float64, at int64) {
		t.Helper()
		assert.False(t, h.Add(value, weight, at))
		assert.False(t, h.Subtract(value, weight, at))
		assert.Equal(t, before, h.Checkpoint())
	}
	for _, bad := range []float64{-1, math.NaN(), math.Inf(1), math.Inf(-1)} {
		f(bad, 1, at)
		f(1, bad, at)
	}
	f(1, 1, -1)
	f(1, 1, time.Date(2250, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	f(1, 1, math.MaxInt64)

	other := cpu()
	other.HalfLife++
	o := histogram.New(shape(t, other))
	require.ErrorIs(t, h.Merge(&o), histogram.ErrShape)
	assert.Equal(t, before, h.Checkpoint())
}

func TestShapeRefused(t *testing.T) {
	f := func(want string, change func(*histogram.Options)) {
		t.Helper()
		o := cpu()
		change(&o)
		_, err := histogram.NewShape(o)
		assert.ErrorContains(t, err, want)
	}
	f("must be positive", func(o *histogram.Options) { o.First = 0 })
	f("must be positive", func(o *histogram.Options) { o.Max = math.NaN() })
	f("must be positive", func(o *histogram.Options) { o.Epsilon = -1 })
	f("must be positive", func(o *histogram.Options) { o.Ratio = 1 })
	f("must be positive", func(o *histogram.Options) { o.Ratio = math.Inf(1) })
	f("buckets", func(o *histogram.Options) { o.Ratio = 1.01 })
	f("buckets", func(o *histogram.Options) { o.First = 1e-300; o.Max = 1e300 })
	f("half-life", func(o *histogram.Options) { o.HalfLife = 0 })
	f("half-life", func(o *histogram.Options) { o.HalfLife = 30000 * time.Hour })
}

// TestShared uses a shape from several goroutines: what one computes, and another finds, is the same power of two.
func TestShared(t *testing.T) {
	s := shape(t, cpu())
	var group sync.WaitGroup
	for g := range uint64(4) {
		group.Go(func() {
			r := rand.New(rand.NewPCG(g, 0))
			at := time.Unix(1_700_000_000, 0)
			for range 20_000 {
				h, d := histogram.New(s), newDense(cpu())
				now := at.Add(time.Duration(r.IntN(5000)) * time.Second)
				h.Add(1, 1, now.UnixNano())
				d.add(1, 1, now)
				if h.Total() != d.total {
					t.Errorf("%v: %v, not %v", now, h.Total(), d.total)
					return
				}
			}
		})
	}
	group.Wait()
}
