package direct

import (
	"math"

	"github.com/prometheus/prometheus/util/kahansum"

	"headroom.dev/headroom/adapter/store"
)

// window is the range of a selector in ms, open at its start.
type window struct{ start, end int64 }

// rangeFunc computes a value, or none, from one series' points in a window: at least one, no stale marker. even says that
// none is less than the one before it. The code follows promql/functions.go, so that results are the same to the bit.
type rangeFunc func(points []store.Point, even bool, w *window) (float64, bool)

// rangeFuncs returns the functions of a range that are evaluated here, by name.
func rangeFuncs() map[string]rangeFunc {
	return map[string]rangeFunc{
		"rate": func(points []store.Point, even bool, w *window) (float64, bool) {
			return extrapolated(points, even, w, true, float64(w.end-w.start)/1000)
		},
		"increase": func(points []store.Point, even bool, w *window) (float64, bool) {
			return extrapolated(points, even, w, true, 1)
		},
		"delta": func(points []store.Point, even bool, w *window) (float64, bool) {
			return extrapolated(points, even, w, false, 1)
		},
		"irate":             irate,
		"idelta":            idelta,
		"sum_over_time":     sumOverTime,
		"avg_over_time":     avgOverTime,
		"max_over_time":     maxOverTime,
		"min_over_time":     minOverTime,
		"count_over_time":   func(points []store.Point, _ bool, _ *window) (float64, bool) { return float64(len(points)), true },
		"last_over_time":    func(points []store.Point, _ bool, _ *window) (float64, bool) { return points[len(points)-1].V, true },
		"present_over_time": func([]store.Point, bool, *window) (float64, bool) { return 1, true },
		"changes":           changes,
		"resets":            resets,
	}
}

// irate is the speed between the last two points.
func irate(points []store.Point, _ bool, _ *window) (float64, bool) {
	a, b, ok := lastTwo(points)
	v := b.V
	if !(b.V < a.V) { // NaN is no reset
		v = b.V - a.V
	}
	return v / (float64(b.T-a.T) / 1000), ok
}

func idelta(points []store.Point, _ bool, _ *window) (float64, bool) {
	a, b, ok := lastTwo(points)
	return b.V - a.V, ok
}

func lastTwo(points []store.Point) (a, b store.Point, ok bool) {
	n := len(points)
	if n < 2 {
		return a, b, false
	}
	return points[n-2], points[n-1], true
}

func maxOverTime(points []store.Point, _ bool, _ *window) (float64, bool) {
	most := points[0].V
	for i := range points {
		if points[i].V > most || math.IsNaN(most) {
			most = points[i].V
		}
	}
	return most, true
}

func minOverTime(points []store.Point, _ bool, _ *window) (float64, bool) {
	least := points[0].V
	for i := range points {
		if points[i].V < least || math.IsNaN(least) {
			least = points[i].V
		}
	}
	return least, true
}

func changes(points []store.Point, _ bool, _ *window) (float64, bool) {
	n := 0
	for i := 1; i < len(points); i++ {
		before, now := points[i-1].V, points[i].V
		if now != before && !(math.IsNaN(now) && math.IsNaN(before)) {
			n++
		}
	}
	return float64(n), true
}

func resets(points []store.Point, even bool, _ *window) (float64, bool) {
	n := 0
	for i := 1; i < len(points) && !even; i++ {
		if points[i].V < points[i-1].V {
			n++
		}
	}
	return float64(n), true
}

// extrapolated is the engine's extrapolatedRate: the increase or difference over the window, divided by per.
func extrapolated(points []store.Point, even bool, w *window, counter bool, per float64) (float64, bool) {
	n := len(points)
	if n < 2 {
		return 0, false
	}
	first, last := points[0], points[n-1]
	result := last.V - first.V
	if counter && !even {
		for i := 1; i < n; i++ {
			if points[i].V < points[i-1].V {
				result += points[i-1].V
			}
		}
	}
	toStart, toEnd := float64(first.T-w.start)/1000, float64(w.end-last.T)/1000
	sampled := float64(last.T-first.T) / 1000
	mean := sampled / float64(n-1)
	threshold := mean * 1.1
	if toStart >= threshold {
		toStart = mean / 2
	}
	if counter {
		// A counter was not below zero before the window.
		toZero := toStart
		if result > 0 && first.V >= 0 {
			toZero = sampled * (first.V / result)
		}
		if toZero < toStart {
			toStart = toZero
		}
	}
	if toEnd >= threshold {
		toEnd = mean / 2
	}
	return result * ((sampled + toStart + toEnd) / sampled / per), true
}

func sumOverTime(points []store.Point, _ bool, _ *window) (float64, bool) {
	var sum, c float64
	for i := range points {
		sum, c = kahansum.Inc(points[i].V, sum, c)
	}
	if math.IsInf(sum, 0) {
		return sum, true
	}
	return sum + c, true
}

func avgOverTime(points []store.Point, _ bool, _ *window) (float64, bool) {
	var m mean
	m.first(points[0].V)
	for i := 1; i < len(points); i++ {
		m.add(points[i].V)
	}
	return m.value(), true
}

// mean is the engine's: of the sum while that does not overflow, incremental from there.
type mean struct {
	sum, c, count, mean float64
	incremental         bool
}

func (m *mean) first(v float64) { *m = mean{sum: v, count: 1} }

func (m *mean) add(v float64) {
	m.count++
	if !m.incremental {
		sum, c := kahansum.Inc(v, m.sum, m.c)
		if !math.IsInf(sum, 0) {
			m.sum, m.c = sum, c
			return
		}
		m.incremental = true
		m.mean = m.sum / (m.count - 1)
		m.c /= m.count - 1
	}
	q := (m.count - 1) / m.count
	m.mean, m.c = kahansum.Inc(v/m.count, q*m.mean, q*m.c)
}

func (m *mean) value() float64 {
	if m.incremental {
		return m.mean + m.c
	}
	return m.sum/m.count + m.c/m.count
}

// valueFunc returns the function of one number and constants of that name; nil where there is none or the constants do
// not fit.
func valueFunc(name string, args []float64) func(v float64) (float64, bool) {
	always := func(f func(float64) float64) func(float64) (float64, bool) {
		return func(v float64) (float64, bool) { return f(v), true }
	}
	switch name {
	case "abs":
		return always(math.Abs)
	case "ceil":
		return always(math.Ceil)
	case "floor":
		return always(math.Floor)
	case "sqrt":
		return always(math.Sqrt)
	case "exp":
		return always(math.Exp)
	case "ln":
		return always(math.Log)
	case "log2":
		return always(math.Log2)
	case "log10":
		return always(math.Log10)
	case "round":
		inverse := 1.0
		if len(args) > 0 {
			inverse = 1 / args[0]
		}
		return always(func(v float64) float64 { return math.Floor(v*inverse+0.5) / inverse })
	case "clamp":
		return clamp(args[0], args[1])
	case "clamp_min":
		return clamp(args[0], math.Inf(1))
	case "clamp_max":
		return clamp(math.Inf(-1), args[0])
	}
	return nil
}

func clamp(least, most float64) func(v float64) (float64, bool) {
	return func(v float64) (float64, bool) {
		return math.Max(least, math.Min(most, v)), !(most < least) // NaN bounds give NaN
	}
}
