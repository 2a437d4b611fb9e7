package judge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Question asks what a test could see before it is run.
type Question struct {
	// PerLook is the number of requests of both versions between two looks, Split new's share of them.
	PerLook, Split float64
	// Rate is the share of requests that are marked in old: its error rate, or 1−q where quantile q is judged.
	Rate float64
	// Effect is how many times as often new is marked. For a latency that is its whole distribution times m, and a tail that falls with
	// the power s at the quantile, m^s.
	Effect float64
	// Margin is the largest allowed ratio, on the same scale as Effect.
	Margin float64
	// Looks is how many there will be; Dispersion by how much counts vary more than independent requests [1].
	Looks      int
	Dispersion float64
	// Alpha and Beta are of this metric: Spec.Alpha over the number of statistical metrics, Spec.Beta.
	Alpha, Beta float64
	// Seed of the simulation.
	Seed uint64
}

// Power is the answer to a Question. Medians are of the runs that got there; NaN where none did.
type Power struct {
	Fail          float64 // the chance that new fails
	FailLooks     float64 // median number of looks
	Pass          float64 // the chance that new passes
	PassLooks     float64
	Marked        float64 // marked requests of new for each look, on average
	Simulated     int
	StandardError float64 // of the chances, at most
}

const powerRuns = 400

// PowerOf simulates the test 400 times, in milliseconds. MinRequests, MinLooks and the way to pass by the difference of rates are left out.
func PowerOf(q Question) (Power, error) {
	orDefault(&q.Dispersion, 1)
	switch {
	case !within(q.PerLook, 0, 1e12) || !within(q.Split, 1e-9, 1-1e-9) || !within(q.Rate, 0, 1):
		return Power{}, fmt.Errorf("cannot tell the power: %v requests a look, split %v, rate %v", q.PerLook, q.Split, q.Rate)
	case !within(q.Effect, 0, 1e6) || !within(q.Margin, 1, 1e6) || !within(q.Dispersion, 1, 1e6) || q.Looks < 1 || q.Looks > 10000:
		return Power{}, fmt.Errorf("cannot tell the power: effect %v, margin %v, dispersion %v, %d looks", q.Effect, q.Margin, q.Dispersion, q.Looks)
	case !within(q.Alpha, 1e-12, 1) || !within(q.Beta, 1e-12, 1):
		return Power{}, fmt.Errorf("cannot tell the power: alpha %v, beta %v", q.Alpha, q.Beta)
	}
	source := rand.NewPCG(q.Seed, 1)
	g := newGrids()
	fails, passes := make([]float64, 0, powerRuns), make([]float64, 0, powerRuns)
	for range powerRuns {
		fail, pass := q.run(g, source)
		if fail > 0 {
			fails = append(fails, float64(fail))
		}
		if pass > 0 {
			passes = append(passes, float64(pass))
		}
	}
	return Power{
		Fail: float64(len(fails)) / powerRuns, FailLooks: median(fails), Pass: float64(len(passes)) / powerRuns, PassLooks: median(passes),
		Marked: q.PerLook * q.Split * min(1, q.Rate*q.Effect), Simulated: powerRuns, StandardError: 0.5 / math.Sqrt(powerRuns),
	}, nil
}

// run returns the look that failed or passed, 0 for none. Counts come in clusters as large as the dispersion.
func (q Question) run(g *grids, source rand.Source) (fail, pass int) {
	draw := func(mean float64) float64 {
		if mean <= 0 {
			return 0
		}
		return q.Dispersion * distuv.Poisson{Lambda: mean / q.Dispersion, Src: source}.Rand()
	}
	var c contrast
	for look := 1; look <= q.Looks; look++ {
		newAll, oldAll := q.PerLook*q.Split, q.PerLook*(1-q.Split)
		c.add(g, interval{
			new: min(newAll, draw(newAll*min(1, q.Rate*q.Effect))), newAll: newAll,
			old: min(oldAll, draw(oldAll*q.Rate)), oldAll: oldAll, margin: q.Margin,
		})
		switch {
		case c.worse() >= -math.Log(q.Alpha) && c.estimate() > q.Margin:
			return look, 0
		case c.within() >= -math.Log(q.Beta):
			return 0, look
		}
	}
	return 0, 0
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	return values[len(values)/2]
}
