package recommender

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGridRoundsUpAndBack(t *testing.T) {
	for level := 1; level <= topLevel; level++ {
		value := levelValue(float64(level))
		assert.InDelta(t, level, levelAt(value), 1e-6)
		assert.LessOrEqual(t, int(levelOf(value*0.9999)), level)
		if level < topLevel {
			assert.Equal(t, uint8(level+1), levelOf(value*1.0001))
		}
	}
	for _, mark := range []uint16{1, 2, 1000, 40000, topMark} {
		assert.Equal(t, mark, markOf(markValue(mark)))
		assert.InDelta(t, markValue(mark), levelValue(markLevel(mark)), 1e-9*markValue(mark))
	}
	assert.Equal(t, uint8(1), levelOf(0))
	assert.Equal(t, uint8(topLevel), levelOf(1e9))
	assert.Equal(t, uint16(topMark), markOf(1e9))
}

// TestOpenHourAgainstSorting holds an hour's quantiles to those of its sorted samples.
func TestOpenHourAgainstSorting(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		var o openHour
		samples := make([]float64, 1+r.IntN(200))
		scale := math.Exp(4 * r.NormFloat64())
		for i := range samples {
			samples[i] = scale * math.Exp(r.NormFloat64())
			o.add(samples[i], 1)
		}
		slices.Sort(samples)
		top := samples[len(samples)-1]
		for _, memory := range []bool{false, true} {
			h := o.summary(memory)
			s := h.shape(memory)
			for i, over := range overs() {
				if memory && i == 2 {
					continue // has no 98th percentile
				}
				want := samples[len(samples)-1-int(over*float64(len(samples)))]
				width := levelWidth
				if memory && i == 3 {
					width = markWidth
				}
				if want <= gridLow || want > 1000 {
					continue
				}
				assert.GreaterOrEqual(t, levelValue(s[i]), want*(1-1e-9), "share above %v of %d", over, len(samples))
				assert.LessOrEqual(t, levelValue(s[i]), want*math.Exp(width)*(1+1e-9))
			}
			for range 5 {
				level := float64(levelOf(top)) - 30*r.Float64()
				n := 0
				for _, v := range samples {
					if levelOf(v) > uint8(max(level+0.5, 0)) {
						n++
					}
				}
				assert.InDelta(t, float64(n)/float64(len(samples)), o.over(level), 1e-9)
			}
		}
	}
}

func TestFullCountersKeepTheirShares(t *testing.T) {
	var o openHour
	for i := range 200_000 {
		value := 1.0
		if i%20 == 0 {
			value = 10 // 5 %
		}
		o.add(value, 1)
	}
	assert.InDelta(t, 0.05, o.over(float64(levelOf(2))), 0.002)
	assert.EqualValues(t, 200_000, o.n)
}

func TestUncertainSamplesWeighLess(t *testing.T) {
	var o openHour
	for i := range 100 {
		o.add(1, 1)
		if i < 50 {
			o.add(10, 0.125)
		}
	}
	assert.InDelta(t, 50.0/(800+50), o.over(float64(levelOf(2))), 1e-9)
}

// TestShapeIsMonotone: over falls with the level, and quantile is its inverse where it is strict.
func TestShapeIsMonotone(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 1000 {
		a := []float64{1 + 200*r.Float64(), 1 + 200*r.Float64(), 1 + 200*r.Float64(), 1 + 200*r.Float64()}
		slices.Sort(a)
		s := shape(a)
		last := 1.0
		for level := 0.0; level < 260; level += 0.37 {
			over := s.over(level)
			require.LessOrEqual(t, over, last+1e-12)
			require.GreaterOrEqual(t, over, 0.0)
			last = over
		}
		for _, over := range []float64{0.4, 0.1, 0.05, 0.01, 0.001} {
			assert.InDelta(t, over, s.over(s.quantile(over)), 1e-6)
		}
	}
}

func TestExcessAgainstSampling(t *testing.T) {
	s := shape{100, 110, 118, 121}
	r := rand.New(rand.NewPCG(5, 5))
	var samples []float64 // evenly between the quantiles' values, as excess assumes
	o := overs()
	low, share := levelValue(s[0]-s.tail()), below
	for i := range s {
		high := levelValue(s[i])
		for range int(share * 400_000) {
			samples = append(samples, low+(high-low)*r.Float64())
		}
		if low = high; i < 3 {
			share = o[i] - o[i+1]
		}
	}
	for _, request := range []float64{0.01, 0.3, levelValue(105), levelValue(115), levelValue(120), 10} {
		var above, all float64
		for _, v := range samples {
			all += v
			above += max(0, v-request)
		}
		gotAbove, gotAll := s.excess(request)
		assert.InDelta(t, above/all, gotAbove/gotAll, 0.005, "request %v", request)
	}
}

// TestMarginAgainstTrying holds the margin of a rule to a search that asks each hour.
func TestMarginAgainstTrying(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		var c counts
		c.reset()
		var shapes []shape
		var said []int
		for range 20 + r.IntN(100) {
			base := 60 + r.IntN(80)
			s := shape{float64(base), float64(base + r.IntN(10)), 0, 0}
			s[2] = s[1] + float64(r.IntN(8))
			s[3] = s[2] + float64(r.IntN(8))
			shapes, said = append(shapes, s), append(said, base+r.IntN(30)-15)
			m := s.mass()
			c.add(&m, said[len(said)-1], base)
		}
		for _, risk := range []float64{0.005, 0.02, 0.1, 0.3} {
			over := func(margin float64) float64 {
				sum := 0.0
				for i := range shapes {
					sum += shapes[i].over(float64(said[i]) + margin)
				}
				return sum / float64(len(shapes))
			}
			got := c.margin(risk * float64(len(shapes)))
			// Levels that coincide are spread over one level: the answer is right to one.
			assert.LessOrEqual(t, over(got+1), risk+1e-9, "margin %v", got)
			assert.GreaterOrEqual(t, over(got-1.01), risk-1e-9, "margin %v", got)
		}
	}
}

func TestMaximaAgainstLooking(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	for _, n := range []int{1, 2, 24, 72, week} {
		var values [week]float64
		for i := range values {
			values[i] = float64(r.IntN(50))
		}
		before, ahead := maxima(values[:], n), reversedMaxima(values[:], n)
		for k := range values {
			assert.InDelta(t, slices.Max(values[max(0, k-n+1):k+1]), before[k], 0)
			assert.InDelta(t, slices.Max(values[k:min(week, k+n)]), ahead[k], 0)
		}
	}
}

func TestSpacing(t *testing.T) {
	assert.InDelta(t, 0, spacing([]float64{5}), 0)
	assert.InDelta(t, 0, spacing([]float64{5, 5, 5, 5, 5}), 0)
	assert.InDelta(t, (1+2+3)/3.0, spacing([]float64{0, 1, 2, 3, 4, 5, 6, 7}), 1e-9)
	// Of exponential values the highest lie apart by their scale.
	r := rand.New(rand.NewPCG(2, 2))
	var values []float64
	for range 5000 {
		values = append(values, 4*r.ExpFloat64())
	}
	slices.Sort(values)
	assert.InDelta(t, 4, spacing(values), 0.6)
}
