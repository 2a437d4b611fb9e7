package forecast

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"
)

// weightedQuantile is the smallest value with a share p of the weight at or below it.
func weightedQuantile(values, weights []float64, p float64) float64 {
	order := make([]int, len(values))
	total := 0.0
	for i := range order {
		order[i] = i
		total += weights[i]
	}
	slices.SortFunc(order, func(a, b int) int {
		if values[a] < values[b] {
			return -1
		}
		return 1
	})
	below := 0.0
	for _, i := range order {
		if below += weights[i]; below >= p*total {
			return values[i]
		}
	}
	return values[order[len(order)-1]]
}

func TestHistogramAgreesWithSorting(t *testing.T) {
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 2))
		edges := binEdges()
		const memory, n = 300, 3000
		h := newHistogram(memory, &edges)
		var values, weights []float64
		for range n {
			u := random.NormFloat64() * math.Exp(0.5*random.NormFloat64())
			h.add(u)
			for i := range weights {
				weights[i] *= 1 - 1.0/memory
			}
			values, weights = append(values, u), append(weights, 1)
		}
		h.tabulate()
		for i, p := range grid[:gridSize-1] { // beyond 1 − 1/memory there is no quantile to speak of
			want := weightedQuantile(values, weights, p)
			require.InDelta(t, want, h.table[i], 0.03+0.12*math.Abs(want), "seed %d, p %v", seed, p)
		}
		require.True(t, slices.IsSorted(h.table[:]))
	}
}

func TestHistogramForgetsItsPriorAndSurvivesExtremes(t *testing.T) {
	edges := binEdges()
	h := newHistogram(100, &edges)
	for range 100000 { // the weight of the next error grows until it is taken back
		h.add(2)
	}
	for _, q := range h.table {
		require.InDelta(t, 2, q, 0.2)
	}
	h.add(math.MaxFloat64)
	h.add(-math.MaxFloat64)
	h.add(0)
	h.tabulate()
	require.False(t, math.IsNaN(h.total) || math.IsInf(h.total, 0))
	require.True(t, slices.IsSorted(h.table[:]))
}

func TestRidgeSolvesWeightedLeastSquares(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 2))
	const n, rows, memory = 4, 200, 80.0
	r := newRidge(n, memory, 1e-9, nil)
	a, b := mat.NewDense(rows, n, nil), mat.NewVecDense(rows, nil)
	for i := range rows {
		x := make([]float64, n)
		y, weight := random.NormFloat64(), 0.5+random.Float64()
		for j := range x {
			x[j] = random.NormFloat64()
			y += float64(j) * x[j]
		}
		r.add(x, y, weight)
		root := math.Sqrt(weight * math.Pow(1-1/memory, float64(rows-1-i)))
		for j := range x {
			a.Set(i, j, root*x[j])
		}
		b.SetVec(i, root*y)
	}
	r.solve(n)
	var want mat.VecDense
	require.NoError(t, want.SolveVec(a, b)) // by QR
	for j := range n {
		require.InDelta(t, want.AtVec(j), r.beta[j], 1e-6)
	}
}

// withGaps makes a series of a daily shape with gaps and zeros.
func withGaps(seed uint64, n int) []float64 {
	random := rand.New(rand.NewPCG(seed, 3))
	values := noisy(seed, n, 0.2, wave)
	for i := range values {
		switch random.IntN(30) {
		case 0:
			values[i] = math.NaN()
		case 1:
			values[i] = 0
		}
	}
	return values
}

// bruteSeasonal looks at the past cycles of a slice of z, by the text of seasonalAt.
func bruteSeasonal(z, middleLevel, slowLevel, slowerLevel []float64, t, lead, period, half int) (sharp, smooth, drift float64) {
	box := func(k int) float64 {
		sum, n := 0.0, 0
		for i := max(0, k-half); i <= k+half; i++ {
			if !math.IsNaN(z[i]) {
				sum += z[i]
				n++
			}
		}
		if 2*n < 2*half+1 {
			return math.NaN()
		}
		return sum / float64(n)
	}
	middleOf := func(v []float64) float64 {
		v = slices.DeleteFunc(v, math.IsNaN)
		if len(v) == 0 {
			return math.NaN()
		}
		slices.Sort(v)
		return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
	}
	var sharps, smooths, drifts []float64
	for used, j := 0, 1; used < cycles; j++ {
		then := t - j*period
		if then < 0 {
			break
		}
		if then+lead+half > t {
			continue // not known yet
		}
		used++
		relative := gain(slowLevel[t]) / gain(slowLevel[then])
		sharps = append(sharps, (z[then+lead]-middleLevel[then])*relative)
		smooths = append(smooths, (box(then+lead)-middleLevel[then])*relative)
		drifts = append(drifts, (box(then+lead)-slowerLevel[then])*relative)
	}
	return middleOf(sharps), middleOf(smooths), middleOf(drifts)
}

func TestProfileAgreesWithBruteForce(t *testing.T) {
	const n = 3000
	values := withGaps(8, n)
	m := replay(t, Options{}, values, nil)
	scale := m.series.scale
	z := make([]float64, n)
	var level [levelCount][]float64
	var now [levelCount]float64
	seen := 0.0
	for i, v := range values {
		z[i] = math.Log1p(v / scale)
		if !math.IsNaN(v) {
			seen++
		}
		for k := range now {
			if !math.IsNaN(v) {
				rate := max(1/seen, 1/(10*levels[k]))
				now[k] = (1-rate)*now[k] + rate*z[i]
			}
			level[k] = append(level[k], now[k])
		}
	}
	for k := range level {
		require.InDelta(t, now[k], m.series.now[k], 1e-9)
	}
	same := func(want, got float64, what string, at ...int) {
		t.Helper()
		if math.IsNaN(want) {
			require.True(t, math.IsNaN(got), "%s %v", what, at)
			return
		}
		require.InDelta(t, want, got, 1e-9, "%s %v", what, at)
	}
	random := rand.New(rand.NewPCG(9, 3))
	for range 2000 {
		at, lead, period := 100+random.IntN(n-100), 1+random.IntN(20), 8+random.IntN(700)
		sharp, smooth, drift := bruteSeasonal(z, level[middle], level[slow], level[slower], at, lead, period, m.series.half)
		got := m.series.seasonalAt(at, lead, period)
		same(sharp, got.sharp, "sharp", at, lead, period)
		same(smooth, got.smooth, "smooth", at, lead, period)
		same(drift, got.drift, "drift", at, lead, period)
	}
}

func TestScoreAgreesWithBruteForce(t *testing.T) {
	random := rand.New(rand.NewPCG(10, 3))
	var r record
	var losses, bases []float64
	for range 5000 {
		loss, base := random.ExpFloat64(), 1.2*random.ExpFloat64()
		r.add(loss, base, 30)
		losses, bases = append(losses, loss), append(bases, base)
	}
	sum, baseSum := 0.0, 0.0
	for i := range losses {
		weight := math.Pow(1-1.0/scoreMemory, float64(len(losses)-1-i))
		sum, baseSum = sum+weight*losses[i], baseSum+weight*bases[i]
	}
	require.InDelta(t, 1-sum/baseSum, r.score(), 1e-9)
	// Blocks: recompute the mean of the faded blocks' gains.
	weights, gains, squares := 0.0, 0.0, 0.0
	blocks := len(losses) / 30
	for b := range blocks {
		gain := 0.0
		for i := b * 30; i < (b+1)*30; i++ {
			gain += (bases[i] - losses[i]) / 30
		}
		w := math.Pow(1-1.0/scoreMemory, float64(30*(blocks-1-b)))
		weights, gains, squares = weights+w, gains+w*gain, squares+w*gain*gain
	}
	mean := gains / weights
	require.InDelta(t, mean/math.Sqrt((squares/weights-mean*mean)/(weights-1)), r.certainty(), 1e-6)
}

func TestPinball(t *testing.T) {
	require.InDelta(t, 0.9*3, pinball(0.9, 7, 10), 1e-12)
	require.InDelta(t, 0.1*3, pinball(0.9, 10, 7), 1e-12)
	require.Zero(t, pinball(0.5, 1, 1))
}

// What Skill counts must be what an onlooker counts who writes down last value's and the served quantiles himself.
func TestLossesAreThoseOfWhatWasServed(t *testing.T) {
	values := noisy(11, 4*day, 0.1, func(i int) float64 { // a walk has no skill, so what is served is last value
		random := rand.New(rand.NewPCG(uint64(i), 4))
		return 50 + random.Float64()
	})
	walk := 0.0
	for i := range values {
		walk += math.Log(values[i]/50) * 0.2
		values[i] = 50 * math.Exp(walk)
	}
	var asked [][len(scored)]float64
	lossSum, n := 0.0, 0
	m := replay(t, Options{}, values, func(m *Model, i int, now time.Time) {
		if i >= 3 && !math.IsNaN(asked[i-3][0]) {
			for k, g := range scored {
				lossSum += pinball(grid[g], asked[i-3][k], values[i]) / float64(len(scored))
			}
			n++
		}
		var q [len(scored)]float64
		f := m.Forecast(now, 3*time.Minute)
		require.False(t, f.Skilful)
		for k, g := range scored {
			q[k] = f.Quantile(grid[g])
		}
		asked = append(asked, q)
	})
	for _, s := range m.Skill() {
		if s.Horizon == 3*time.Minute && s.Method == "last value" {
			require.InEpsilon(t, lossSum/float64(n), s.LossSum/float64(s.Scored), 0.02)
			return
		}
	}
	t.Fatal("no last value among the forecasters")
}
