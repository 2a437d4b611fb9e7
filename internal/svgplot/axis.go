package svgplot

import (
	"math"
	"strconv"
	"time"
)

// Axis maps values to pixels.
type Axis struct {
	Lo, Hi   float64 // values
	From, To float64 // pixels; From > To where values grow upwards
	Ticks    []Tick
}

// Tick is a mark on an axis.
type Tick struct {
	At    string // pixels
	Label string
}

// At returns the place of a value.
func (a *Axis) At(v float64) float64 {
	if a.Hi == a.Lo {
		return a.From
	}
	return a.From + (v-a.Lo)/(a.Hi-a.Lo)*(a.To-a.From)
}

// Mark sets the ticks at values.
func (a *Axis) Mark(values []float64, label func(float64) string) {
	for _, v := range values {
		if v >= a.Lo-1e-9 && v <= a.Hi+1e-9 {
			a.Ticks = append(a.Ticks, Tick{At: Px(a.At(v)), Label: label(v)})
		}
	}
}

// Linear is an axis with about n round ticks. With zero set it begins at 0.
func Linear(lo, hi, from, to float64, n int, zero bool) Axis {
	if zero {
		lo = math.Min(0, lo)
	}
	if hi <= lo {
		hi = lo + 1
	}
	step := roundStep((hi - lo) / float64(n))
	a := Axis{Lo: math.Floor(lo/step+1e-9) * step, Hi: math.Ceil(hi/step-1e-9) * step, From: from, To: to}
	var values []float64
	for i := 0; ; i++ {
		v := a.Lo + float64(i)*step
		if v > a.Hi+step/2 {
			break
		}
		values = append(values, v)
	}
	decimals := max(0, int(-math.Floor(math.Log10(step)+1e-9)))
	a.Mark(values, func(v float64) string {
		if decimals > 0 {
			return strconv.FormatFloat(v, 'f', decimals, 64)
		}
		return Thousands(v)
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

// Clock is an axis of time since start, in seconds. Without a date it counts days.
func Clock(start time.Time, from, to, left, right float64) Axis {
	a := Axis{Lo: from, Hi: to, From: left, To: right}
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
	a.Mark(values, func(v float64) string { return label(start, v) })
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
		return "+" + Duration(v)
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

// Moment is a time for a tooltip.
func Moment(start time.Time, v float64) string {
	if start.IsZero() {
		return "+" + Duration(v)
	}
	return start.UTC().Add(time.Duration(v * float64(time.Second))).Format("Mon Jan 2 15:04")
}
