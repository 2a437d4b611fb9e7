package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// axis maps values to pixels.
type axis struct {
	lo, hi   float64 // values
	from, to float64 // pixels; from > to where values grow upwards
	ticks    []tick
}

// tick is a mark on an axis.
type tick struct {
	At    string // pixels
	Label string
}

func (a *axis) at(v float64) float64 {
	if a.hi == a.lo {
		return a.from
	}
	return a.from + (v-a.lo)/(a.hi-a.lo)*(a.to-a.from)
}

// mark sets the ticks at values.
func (a *axis) mark(values []float64, label func(float64) string) {
	for _, v := range values {
		if v >= a.lo-1e-9 && v <= a.hi+1e-9 {
			a.ticks = append(a.ticks, tick{At: px(a.at(v)), Label: label(v)})
		}
	}
}

// linear is an axis with about n round ticks. With zero set it begins at 0.
func linear(lo, hi, from, to float64, n int, zero bool) axis {
	if zero {
		lo = math.Min(0, lo)
	}
	if hi <= lo {
		hi = lo + 1
	}
	step := roundStep((hi - lo) / float64(n))
	a := axis{lo: math.Floor(lo/step+1e-9) * step, hi: math.Ceil(hi/step-1e-9) * step, from: from, to: to}
	var values []float64
	for i := 0; ; i++ {
		v := a.lo + float64(i)*step
		if v > a.hi+step/2 {
			break
		}
		values = append(values, v)
	}
	decimals := max(0, int(-math.Floor(math.Log10(step)+1e-9)))
	a.mark(values, func(v float64) string {
		if decimals > 0 {
			return strconv.FormatFloat(v, 'f', decimals, 64)
		}
		return thousands(v)
	})
	return a
}

// roundStep is the smallest of 1, 2 and 5 times a power of ten that is not below least.
func roundStep(least float64) float64 {
	power := math.Pow10(int(math.Floor(math.Log10(least))))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= least*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

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
func attainments(worst, best, from, to float64) (a axis, most float64) {
	most = 4
	if best < 1 {
		most = math.Max(2, math.Ceil(nines(best, 6)+0.01))
	}
	lo := math.Min(nines(math.Max(0, worst-0.02), most), most-1)
	a = axis{lo: lo, hi: most, from: from, to: to}
	var values []float64
	labels := map[float64]string{}
	for _, v := range []float64{0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999} {
		n := nines(v, 6)
		if n > most-0.1 || len(values) > 0 && a.at(values[len(values)-1])-a.at(n) < 16 && n > lo {
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
	a.mark(values, func(n float64) string { return labels[n] })
	return a, most
}

// clock is an axis of time since start, in seconds. Without a date it counts days.
func clock(start time.Time, from, to, left, right float64) axis {
	a := axis{lo: from, hi: to, from: left, to: right}
	step, label := clockStep(to - from)
	first := 0.0
	if !start.IsZero() { // ticks at round times of day
		since := start.UTC().Sub(start.UTC().Truncate(24 * time.Hour)).Seconds()
		first = math.Mod(step-math.Mod(since, step), step)
	}
	var values []float64
	for v := first; v <= to; v += step {
		if v >= from {
			values = append(values, v)
		}
	}
	a.mark(values, func(v float64) string { return label(start, v) })
	return a
}

// clockStep is a step of at most ten for a span in seconds, and how its ticks are written.
func clockStep(span float64) (float64, func(time.Time, float64) string) {
	for _, step := range []float64{60, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 2 * 86400, 7 * 86400, 14 * 86400, 28 * 86400} {
		if span/step > 10 {
			continue
		}
		if step < 86400 {
			return step, timeOfDay
		}
		return step, day
	}
	return span / 10, day
}

func timeOfDay(start time.Time, v float64) string {
	if start.IsZero() {
		return "+" + duration(v)
	}
	t := start.UTC().Add(time.Duration(v * float64(time.Second)))
	if t.Hour() == 0 && t.Minute() == 0 {
		return t.Format("Jan 2")
	}
	return t.Format("15:04")
}

func day(start time.Time, v float64) string {
	if start.IsZero() {
		return "day " + strconv.Itoa(int(v/86400)+1)
	}
	return start.UTC().Add(time.Duration(v * float64(time.Second))).Format("Mon Jan 2")
}

// moment is a time for a tooltip.
func moment(start time.Time, v float64) string {
	if start.IsZero() {
		return "+" + duration(v)
	}
	return start.UTC().Add(time.Duration(v * float64(time.Second))).Format("Mon Jan 2 15:04")
}

func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// path collects the commands of an SVG path.
type path struct{ b strings.Builder }

func (p *path) to(command string, x, y float64) {
	fmt.Fprintf(&p.b, "%s%s %s", command, px(x), px(y))
}

func (p *path) close() { p.b.WriteString("Z") }
