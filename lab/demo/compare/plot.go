package compare

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// The plot's measures, in the units of its viewBox.
const (
	plotWidth   = 1200.0
	plotLeft    = 60.0
	plotRight   = 70.0
	plotTop     = 46.0
	plotHeight  = 230.0
	stripTop    = plotTop + plotHeight + 26
	stripHeight = 70.0
	plotBottom  = stripTop + stripHeight + 34
)

// Colours that people with the common kinds of colour blindness tell apart (Okabe and Ito).
const (
	colourDemand = "#c9d6e2"
	colourReady  = "#0072b2"
	colourWanted = "#1b1f24"
	colourAhead  = "#009e73"
	colourLate   = "#e69f00"
	colourFailed = "#d55e00"
)

// canvas draws one side; both sides have the same scales, so that they can be compared by eye.
type canvas struct {
	b         strings.Builder
	scenario  Scenario
	replicas  float64 // the top of the upper axis
	missedTop float64 // the top of the lower one
}

func newCanvas(s Summary) *canvas {
	c := &canvas{scenario: s.Scenario, replicas: 1, missedTop: 1}
	for _, x := range s.Samples {
		c.replicas = max(c.replicas, x.Demand/Capacity)
		for _, side := range sides() {
			c.replicas = max(c.replicas, float64(x.of(side).Wanted), float64(x.of(side).Ready))
		}
	}
	c.replicas = 2 * math.Ceil((c.replicas+0.5)/2)
	for _, m := range s.Missed {
		c.missedTop = max(c.missedTop, float64(m.Stock.missed()), float64(m.Policy.missed()))
	}
	return c
}

func (c *canvas) x(seconds float64) float64 {
	return plotLeft + (plotWidth-plotLeft-plotRight)*seconds/c.scenario.length().Seconds()
}

func (c *canvas) y(replicas float64) float64 { return plotTop + plotHeight*(1-replicas/c.replicas) }

func (c *canvas) yMissed(n float64) float64 { return stripTop + stripHeight*(1-n/c.missedTop) }

func (c *canvas) add(format string, args ...any) { fmt.Fprintf(&c.b, format+"\n", args...) }

func (c *canvas) text(x, y float64, anchor, s string) {
	c.add(`<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, s)
}

// plot draws one side over time as SVG: above, demand in replicas that it needs with those wanted and Ready; below, the requests
// that were late or failed, by when they were due.
func plot(s Summary, side Side) string {
	c := newCanvas(s)
	c.add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s: demand, replicas and missed requests over time">`,
		plotWidth, plotBottom, side)
	c.add(`<rect width="%.0f" height="%.0f" fill="#fff"/>`, plotWidth, plotBottom)
	c.days()
	c.axes(s.Scenario.bin())
	c.demand(s.Samples)
	c.stairs(s.Samples, func(x Sample) int { return x.of(side).Wanted }, colourWanted, 1.2, "4 3")
	c.stairs(s.Samples, func(x Sample) int { return x.of(side).Ready }, colourReady, 2, "")
	if side == Policy {
		c.ahead(s.Samples)
	}
	c.missed(s, side)
	c.legend(side)
	c.add("</svg>")
	return c.b.String()
}

// days shades the days that are not judged and writes the hours of each.
func (c *canvas) days() {
	for day := range c.scenario.Days {
		from, to := c.x((time.Duration(day) * c.scenario.Day).Seconds()), c.x((time.Duration(day+1) * c.scenario.Day).Seconds())
		name := fmt.Sprintf("day %d", day+1)
		if !c.scenario.judged(day) {
			name += " (learning)"
			c.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#f1f3f5"/>`, from, plotTop, to-from, stripTop+stripHeight-plotTop)
		}
		c.text((from+to)/2, plotTop-8, "middle", name)
		c.add(`<path d="M%.1f %.1fV%.1f" stroke="#8c959f" stroke-width="1"/>`, from, plotTop, stripTop+stripHeight)
		for _, hour := range []int{0, 6, 12, 18} {
			x := from + (to-from)*float64(hour)/24
			c.add(`<path d="M%.1f %.1fv4" stroke="#8c959f"/>`, x, stripTop+stripHeight)
			c.text(x, stripTop+stripHeight+16, "middle", fmt.Sprintf("%02d:00", hour))
		}
	}
}

func (c *canvas) axes(bin time.Duration) {
	right := plotWidth - plotRight
	for n := 0.0; n <= c.replicas; n += 2 {
		c.add(`<path d="M%.1f %.1fH%.1f" stroke="#d8dee4" stroke-width="1"/>`, plotLeft, c.y(n), right)
		c.text(plotLeft-6, c.y(n)+4, "end", fmt.Sprintf("%.0f", n))
		c.text(right+6, c.y(n)+4, "start", fmt.Sprintf("%.0f/s", n*Capacity))
	}
	c.text(plotLeft-6, plotTop-8, "end", "replicas")
	c.text(right+6, plotTop-8, "start", "demand")
	c.add(`<path d="M%.1f %.1fH%.1f" stroke="#8c959f"/>`, plotLeft, stripTop+stripHeight, right)
	c.text(plotLeft-6, stripTop+stripHeight+4, "end", "0")
	c.text(plotLeft-6, stripTop+4, "end", fmt.Sprintf("%.0f", c.missedTop))
	c.text(plotLeft, stripTop-6, "start", fmt.Sprintf("late and failed requests, due within %s", bin))
}

func (c *canvas) demand(samples []Sample) {
	if len(samples) == 0 {
		return
	}
	var d strings.Builder
	fmt.Fprintf(&d, "M%.1f %.1f", c.x(samples[0].Seconds), c.y(0))
	for _, s := range samples {
		fmt.Fprintf(&d, "L%.1f %.1f", c.x(s.Seconds), c.y(s.Demand/Capacity))
	}
	fmt.Fprintf(&d, "V%.1fZ", c.y(0))
	c.add(`<path d="%s" fill="%s"/>`, d.String(), colourDemand)
}

// stairs draws a number that stays until it changes.
func (c *canvas) stairs(samples []Sample, value func(Sample) int, colour string, width float64, dashes string) {
	var d strings.Builder
	last := 0
	for i, s := range samples {
		n := value(s)
		switch {
		case i == 0:
			fmt.Fprintf(&d, "M%.1f %.1f", c.x(s.Seconds), c.y(float64(n)))
		case n != last:
			fmt.Fprintf(&d, "H%.1fV%.1f", c.x(s.Seconds), c.y(float64(n)))
		case i == len(samples)-1:
			fmt.Fprintf(&d, "H%.1f", c.x(s.Seconds))
		}
		last = n
	}
	c.add(`<path d="%s" fill="none" stroke="%s" stroke-width="%.1f" stroke-dasharray="%s"/>`, d.String(), colour, width, dashes)
}

// ahead marks when a forecast bound the ScalePolicy's decision.
func (c *canvas) ahead(samples []Sample) {
	for i := 0; i < len(samples); i++ {
		if !samples[i].Ahead {
			continue
		}
		from := i
		for i+1 < len(samples) && samples[i+1].Ahead {
			i++
		}
		a, b := c.x(samples[from].Seconds), c.x(samples[i].Seconds+1)
		c.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="5" fill="%s"/>`, a, plotTop+plotHeight+2, b-a, colourAhead)
	}
}

func (c *canvas) missed(s Summary, side Side) {
	width := c.x(s.Scenario.bin().Seconds()) - c.x(0)
	for _, m := range s.Missed {
		t := m.of(side)
		late, all := float64(t.Late), float64(t.missed())
		x := c.x(m.Seconds)
		if late > 0 {
			c.add(`<rect x="%.2f" y="%.1f" width="%.2f" height="%.1f" fill="%s"/>`, x, c.yMissed(late), width, c.yMissed(0)-c.yMissed(late), colourLate)
		}
		if all > late {
			c.add(`<rect x="%.2f" y="%.1f" width="%.2f" height="%.1f" fill="%s"/>`, x, c.yMissed(all), width, c.yMissed(late)-c.yMissed(all), colourFailed)
		}
	}
}

func (c *canvas) legend(side Side) {
	entries := []struct{ colour, name string }{
		{colourDemand, "demand, in replicas that serve it in time"},
		{colourReady, "replicas Ready"},
		{colourWanted, "replicas wanted (dashed)"},
		{colourLate, "late"},
		{colourFailed, "failed"},
	}
	if side == Policy {
		entries = append(entries, struct{ colour, name string }{colourAhead, "replicas set by a forecast"})
	}
	x := plotLeft
	for _, e := range entries {
		c.add(`<rect x="%.1f" y="6" width="14" height="10" fill="%s"/>`, x, e.colour)
		c.text(x+19, 15, "start", e.name)
		x += 40 + 6.2*float64(len(e.name))
	}
}
