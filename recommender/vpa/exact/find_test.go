package exact

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/util"

	"headroom.dev/headroom/recommender/histogram"
)

// TestFind wants the library's bucket for every value: next to each edge, to the last bit, and anywhere.
func TestFind(t *testing.T) {
	r := rand.New(rand.NewPCG(*seedFlag, 0))
	values, off := 0, 0
	f := func(o histogram.Options) {
		t.Helper()
		o.Epsilon, o.HalfLife = 1e-4, time.Hour
		theirs, err := util.NewExponentialHistogramOptions(o.Max, o.First, o.Ratio, o.Epsilon)
		require.NoError(t, err)
		ours, err := histogram.NewShape(o)
		require.NoError(t, err)
		require.Equal(t, theirs.NumBuckets(), ours.Buckets())
		check := func(v float64) {
			values++
			if got, want := ours.Find(v), theirs.FindBucket(v); got != want {
				assert.Equal(t, want, got, "%v in %+v", v, o)
			}
			if b := ours.Find(v); b > 0 && v < ours.Start(b) {
				off++ // the logarithm's error, which ours must have too
			}
		}
		for b := range ours.Buckets() {
			require.Equal(t, theirs.GetBucketStart(b), ours.Start(b))
			edge := ours.Start(b)
			up, down := edge, edge
			for range 200 {
				check(up)
				check(down)
				up, down = math.Nextafter(up, math.Inf(1)), max(math.Nextafter(down, 0), 0)
			}
			for i := range 40 { // where the table stops being believed
				step := math.Pow(10, -float64(i)/2) * edge
				check(edge + step)
				check(max(edge-step, 0))
			}
		}
		for range 200_000 {
			check(o.First * math.Exp(r.NormFloat64()*6))
			check(r.Float64() * o.Max * 1.1)
		}
		check(1e280) // above about 1e307 the library overflows, and panics
	}
	f(histogram.Options{First: 0.01, Ratio: 1.05, Max: 1000})
	f(histogram.Options{First: 1e7, Ratio: 1.05, Max: 1e12})
	f(histogram.Options{First: 1, Ratio: 2, Max: 1e9})
	f(histogram.Options{First: 0.3, Ratio: 1.01, Max: 1})
	f(histogram.Options{First: 5, Ratio: 17.3, Max: 1e9})
	for range 50 {
		f(histogram.Options{First: math.Exp(r.NormFloat64() * 10), Ratio: 1.04 + r.Float64(), Max: math.Exp(r.NormFloat64() * 5)})
	}
	t.Logf("%d values; of %d the library's bucket begins above them", values, off)
	assert.NotZero(t, off, "no value at which the logarithm is a bucket off")
}
