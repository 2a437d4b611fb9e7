// Package svgplot is what our HTML pages' plots have in common: axes with round ticks, and the paths of lines and bands as SVG
// writes them. A page brings its own style sheet and template; nothing here writes a colour.
//
// The plots are drawn by ourselves, not with gonum/plot: its SVG writes colours and fonts into each element, which neither
// follows a dark page nor prints in black, and has no tooltips.
package svgplot

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Px writes a place in pixels, to the tenth.
func Px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// Path collects the commands of an SVG path.
type Path struct{ strings.Builder }

// To appends a command with a point.
func (p *Path) To(command string, x, y float64) {
	fmt.Fprintf(p, "%s%s %s", command, Px(x), Px(y))
}

// Close closes the path's last line.
func (p *Path) Close() { fmt.Fprint(p, "Z") }

// Segment is a straight line.
func Segment(x1, y1, x2, y2 float64) string {
	var p Path
	p.To("M", x1, y1)
	p.To("L", x2, y2)
	return p.String()
}

// Steps draws values as the stairs they are: each holds for a step. The first begins at from. What is absent (NaN) is left open.
func Steps[T ~float64](x, y *Axis, from, step float64, values []T) string {
	var line Path
	open, before := false, T(math.NaN())
	for i, v := range values {
		same := v == before
		before = v
		if !known(v) {
			open = false
			continue
		}
		next := x.At(from + float64(i+1)*step)
		if open && same {
			fmt.Fprintf(&line, "H%s", Px(next))
			continue
		}
		command := "M"
		if open {
			command = "L"
		}
		line.To(command, x.At(from+float64(i)*step), y.At(float64(v)))
		fmt.Fprintf(&line, "H%s", Px(next))
		open = true
	}
	return line.String()
}

// Band fills between two lines of stairs of the same length, wherever both are known and the upper is above the lower.
func Band[T ~float64](x, y *Axis, from, step float64, lower, upper []T) string {
	var area Path
	filled := func(i int) bool {
		return i < len(upper) && known(lower[i]) && known(upper[i]) && upper[i] > lower[i]
	}
	for i := 0; i < len(upper); i++ {
		if !filled(i) {
			continue
		}
		end := i
		for filled(end) { // false at the lists' end
			end++
		}
		area.To("M", x.At(from+float64(i)*step), y.At(float64(lower[i])))
		for j := i; j < end; j++ {
			fmt.Fprintf(&area, "V%sH%s", Px(y.At(float64(upper[j]))), Px(x.At(from+float64(j+1)*step)))
		}
		for j := end - 1; j >= i; j-- {
			fmt.Fprintf(&area, "V%sH%s", Px(y.At(float64(lower[j]))), Px(x.At(from+float64(j)*step)))
		}
		area.Close()
		i = end
	}
	return area.String()
}

func known[T ~float64](v T) bool { return !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0) }
