package report

import (
	"math"
	"strconv"

	"headroom.dev/headroom/internal/svgplot"
)

// nines is how many nines an attainment has: 0 for none on time, 1 for 90%, 2 for 99%. Beyond most nothing is told apart, so
// that all on time is a place on the axis.
func nines(attainment, most float64) float64 {
	if attainment >= 1 {
		return most
	}
	return math.Min(most, -math.Log10(1-attainment))
}

// attainments is an axis on which 90%, 99% and 99.9% are equally far apart: between good policies the late requests are
// what differs, and on a linear axis they would all lie on the upper edge.
func attainments(worst, best, from, to float64) (a svgplot.Axis, most float64) {
	most = 4
	if best < 1 {
		most = math.Max(2, math.Ceil(nines(best, 6)+0.01))
	}
	lo := math.Min(nines(math.Max(0, worst-0.02), most), most-1)
	a = svgplot.Axis{Lo: lo, Hi: most, From: from, To: to}
	var values []float64
	labels := map[float64]string{}
	for _, v := range []float64{0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999} {
		n := nines(v, 6)
		if n > most-0.1 || len(values) > 0 && a.At(values[len(values)-1])-a.At(n) < 16 && n > lo {
			continue // too near to the one before to be read
		}
		values = append(values, n)
		labels[n] = strconv.FormatFloat(v*100, 'f', -1, 64) + "%"
	}
	top := "100%"
	if best < 1 {
		top = strconv.FormatFloat((1-math.Pow10(-int(most)))*100, 'f', -1, 64) + "%"
	}
	values = append(values, most)
	labels[most] = top
	a.Mark(values, func(n float64) string { return labels[n] })
	return a, most
}
