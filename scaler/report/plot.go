package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"headroom.dev/headroom/internal/svgplot"
)

// plot is one SVG picture, ready for the template.
type plot struct {
	Label                    string // what it shows, for those who do not see it
	Width, Height            float64
	Left, Top, Right, Bottom float64 // edges of the area that is plotted in
	X, Y                     svgplot.Axis
	XTitle, YTitle           string
	Clipped                  []shape // what may leave the area, and is cut at its edge
	Shapes                   []shape
	Marks                    []shape // above the others
	Texts                    []text
	Outside                  int // results that are not shown

	top   float64 // of the axis of attainments
	names []name
}

func (p *plot) XTicks() []svgplot.Tick { return p.X.Ticks }
func (p *plot) YTicks() []svgplot.Tick { return p.Y.Ticks }

// XMiddle and YMiddle are where the axes' titles stand.
func (p *plot) XMiddle() float64 { return (p.Left + p.Right) / 2 }
func (p *plot) YMiddle() float64 { return (p.Top + p.Bottom) / 2 }

// Inner and Depth are the area's width and height.
func (p *plot) Inner() float64 { return p.Right - p.Left }
func (p *plot) Depth() float64 { return p.Bottom - p.Top }

// shape is a path with a class of the style sheet, and perhaps a tooltip.
type shape struct{ Class, D, Title string }

type text struct {
	Class, X, Y, Text string
}

const (
	plotWidth   = 1080
	plotLeft    = 74
	plotRight   = plotWidth - 36
	hoverStrips = 180 // of a time plot: more would be narrower than a pointer
)

// frontier plots attainment against GPU-hours, one line for each policy over its settings. It shows the region of the chosen
// results: settings that fall apart or cost a multiple would otherwise press all that matters into a corner.
func (r *Report) frontier() *plot {
	p := &plot{
		Label: "Requests on time against GPU-hours, for each policy over its settings",
		Width: plotWidth, Height: 430, Left: plotLeft, Top: 14, Right: plotRight, Bottom: 376,
		XTitle: "GPU-hours, loading included (fewer is better)", YTitle: "requests on time",
	}
	shown := r.region()
	if len(shown) == 0 {
		return nil
	}
	for i := range r.Results {
		if r.Results[i].Attainment.known() && !slices.Contains(shown, &r.Results[i]) {
			p.Outside++
		}
	}
	least, most := extent(shown, func(x *Result) float64 { return x.GPUHours })
	worst, best := extent(shown, func(x *Result) float64 { return float64(x.Attainment) })
	margin := max((most-least)*0.03, 1e-3)
	p.X = svgplot.Linear(max(0, least-margin), most+margin, p.Left, p.Right, 8, false)
	p.Y, p.top = attainments(math.Min(worst, float64(r.Goal)), math.Max(best, float64(r.Goal)), p.Bottom, p.Top)
	if g := float64(r.Goal); g > 0 {
		y := p.Y.At(nines(g, p.top))
		p.Shapes = append(p.Shapes, shape{Class: "goal", D: svgplot.Segment(p.Left, y, p.Right, y), Title: "goal: " + percent(r.Goal) + " on time"})
		p.Texts = append(p.Texts, text{Class: "note end", X: svgplot.Px(p.Right - 4), Y: svgplot.Px(y - 5), Text: "goal " + percent(r.Goal)})
	}
	for i, policy := range r.policies() {
		p.curve(r, policy, i, shown)
	}
	p.write()
	return p
}

// region are the results that the frontier shows: the chosen ones, and of the others those with at most ten times the late
// requests that the goal allows (or as many as a chosen one has) and at most half as many GPU-hours more than a chosen one.
func (r *Report) region() []*Result {
	lowest, highest := 1-10*(1-float64(r.Goal)), 0.0
	for _, x := range r.Chosen() {
		if x.Attainment.known() {
			lowest, highest = min(lowest, float64(x.Attainment)), max(highest, 1.5*x.GPUHours)
		}
	}
	var shown []*Result
	for i := range r.Results {
		if x := &r.Results[i]; x.Chosen && x.Attainment.known() || float64(x.Attainment) >= lowest && x.GPUHours <= highest {
			shown = append(shown, x)
		}
	}
	return shown
}

// curve draws one policy's settings in the report's order, the chosen one larger and named.
func (p *plot) curve(r *Report, policy string, color int, shown []*Result) {
	var own []*Result
	for i := range r.Results {
		if x := &r.Results[i]; x.Policy == policy && x.Attainment.known() {
			own = append(own, x)
		}
	}
	class := colorClass(color)
	var line svgplot.Path
	for i, x := range own {
		command := "L"
		if i == 0 {
			command = "M"
		}
		line.To(command, p.X.At(x.GPUHours), p.Y.At(nines(float64(x.Attainment), p.top)))
	}
	if len(own) > 1 {
		p.Clipped = append(p.Clipped, shape{Class: "line " + class, D: line.String()})
	}
	for _, x := range own {
		if slices.Contains(shown, x) {
			p.mark(x, color)
		}
	}
}

// mark draws one result.
func (p *plot) mark(x *Result, color int) {
	class := colorClass(color)
	cx, cy := p.X.At(x.GPUHours), p.Y.At(nines(float64(x.Attainment), p.top))
	title := fmt.Sprintf("%s %s: %s on time, %s GPU-hours", x.Policy, x.Setting, share(x.Attainment, 3), hours(x.GPUHours))
	if !x.Chosen {
		p.Shapes = append(p.Shapes, shape{Class: "dot " + class, D: marker(color, cx, cy, 4), Title: title})
		return
	}
	if x.Policy == Clairvoyant {
		p.Clipped = append(p.Clipped, shape{Class: "limit " + class, D: svgplot.Segment(cx, p.Top, cx, p.Bottom)})
		title += ": the limit"
	}
	p.Marks = append(p.Marks, shape{Class: "chosen " + class, D: marker(color, cx, cy, 8), Title: title})
	p.names = append(p.names, name{x.Policy, class, cx, cy})
}

// name is a policy's name beside its mark.
type name struct {
	text, class string
	x, y        float64 // of the mark
}

// write puts the names where they cover neither each other nor another mark: to the right of their own if that is free, else
// to the left, below or above.
func (p *plot) write() {
	type box struct{ left, top, right, bottom float64 }
	var taken []box
	for _, n := range p.names {
		taken = append(taken, box{n.x - 9, n.y - 9, n.x + 9, n.y + 9})
	}
	for _, n := range p.names {
		width := 7.2 * float64(len([]rune(n.text))) // of 12 px letters, about
		places := []struct {
			class string
			x, y  float64
			box
		}{
			{"", n.x + 13, n.y + 4, box{n.x + 13, n.y - 7, n.x + 13 + width, n.y + 7}},
			{" end", n.x - 13, n.y + 4, box{n.x - 13 - width, n.y - 7, n.x - 13, n.y + 7}},
			{" middle", n.x, n.y + 23, box{n.x - width/2, n.y + 12, n.x + width/2, n.y + 26}},
			{" middle", n.x, n.y - 14, box{n.x - width/2, n.y - 25, n.x + width/2, n.y - 11}},
			{"", n.x + 13, n.y + 20, box{n.x + 13, n.y + 9, n.x + 13 + width, n.y + 23}},
			{" end", n.x - 13, n.y - 9, box{n.x - 13 - width, n.y - 20, n.x - 13, n.y - 6}},
		}
		at := 0
		for i, place := range places {
			free := place.left >= p.Left && place.right <= p.Right && place.top >= 0 && place.bottom <= p.Bottom
			for _, other := range taken {
				free = free && (place.left >= other.right || place.right <= other.left || place.top >= other.bottom || place.bottom <= other.top)
			}
			if free {
				at = i
				break
			}
		}
		place := places[at]
		taken = append(taken, place.box)
		p.Texts = append(p.Texts, text{Class: "name " + n.class + place.class, X: svgplot.Px(place.x), Y: svgplot.Px(place.y), Text: n.text})
	}
}

// policies are the policies' names in the order of their first results: it is the order of their colours.
func (r *Report) policies() []string {
	var list []string
	for i := range r.Results {
		if !slices.Contains(list, r.Results[i].Policy) {
			list = append(list, r.Results[i].Policy)
		}
	}
	return list
}

// colors is how many the style sheet has.
const colors = 8

func colorClass(i int) string { return fmt.Sprintf("c%d", i%colors) }

func extent(points []*Result, of func(*Result) float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, x := range points {
		lo, hi = min(lo, of(x)), max(hi, of(x))
	}
	return lo, hi
}

// marker is a shape of its own for each colour, for those who do not tell colours apart and for prints.
func marker(i int, x, y, r float64) string {
	var p svgplot.Path
	corner := func(command string, dx, dy float64) { p.To(command, x+dx*r, y+dy*r) }
	switch i % 4 {
	case 0: // circle
		corner("M", -1, 0)
		fmt.Fprintf(&p, "a%s %s 0 1 0 %s 0a%s %s 0 1 0 %s 0", svgplot.Px(r), svgplot.Px(r), svgplot.Px(2*r), svgplot.Px(r), svgplot.Px(r), svgplot.Px(-2*r))
	case 1: // square
		corner("M", -0.85, -0.85)
		corner("L", 0.85, -0.85)
		corner("L", 0.85, 0.85)
		corner("L", -0.85, 0.85)
	case 2: // triangle
		corner("M", 0, -1.1)
		corner("L", 1, 0.8)
		corner("L", -1, 0.8)
	case 3: // diamond
		corner("M", 0, -1.2)
		corner("L", 1.1, 0)
		corner("L", 0, 1.2)
		corner("L", -1.1, 0)
	}
	p.Close()
	return p.String()
}

// scales are what all time plots share, or they could not be compared.
type scales struct {
	start    time.Time
	from, to float64 // seconds
	replicas float64
	late     float64 // requests a second
}

func (r *Report) scales() scales {
	s := scales{start: r.Trace.Start, from: math.Inf(1)}
	for _, x := range r.Chosen() {
		if x.Series == nil || len(x.Series.Ready) == 0 {
			continue
		}
		t := x.Series
		s.from = min(s.from, t.From)
		s.to = max(s.to, t.From+t.Step*float64(len(t.Ready)))
		for i := range t.Ready {
			for _, n := range []Number{t.Needed[i], t.Desired[i], t.Ready[i] + t.Loading[i]} {
				if n.known() {
					s.replicas = max(s.replicas, float64(n))
				}
			}
			if t.Late[i].known() {
				s.late = max(s.late, float64(t.Late[i])/t.Step)
			}
		}
	}
	return s
}

// replicas plots what was needed, asked for, ready and loading.
func (s *scales) replicasPlot(x *Result) *plot {
	t := x.Series
	p := &plot{
		Label: "Replicas of " + x.Policy + " over time: needed, desired, ready and loading",
		Width: plotWidth, Height: 214, Left: plotLeft, Top: 10, Right: plotRight, Bottom: 208, YTitle: "replicas",
	}
	p.X = svgplot.Clock(s.start, s.from, s.to, p.Left, p.Right)
	p.Y = svgplot.Linear(0, s.replicas, p.Bottom, p.Top, 5, true)
	zero := make([]Number, len(t.Ready))
	total := make([]Number, len(t.Ready))
	met := make([]Number, len(t.Ready)) // what is left of the need without what was missing of it
	for i := range t.Ready {
		total[i] = t.Ready[i] + t.Loading[i]
		met[i] = t.Needed[i] - t.Missing[i]
	}
	p.Shapes = append(p.Shapes,
		shape{Class: "ready", D: svgplot.Band(&p.X, &p.Y, t.From, t.Step, zero, t.Ready)},
		shape{Class: "loading", D: svgplot.Band(&p.X, &p.Y, t.From, t.Step, t.Ready, total)},
		shape{Class: "missing", D: svgplot.Band(&p.X, &p.Y, t.From, t.Step, met, t.Needed)},
		shape{Class: "desired", D: svgplot.Steps(&p.X, &p.Y, t.From, t.Step, t.Desired)},
		shape{Class: "needed", D: svgplot.Steps(&p.X, &p.Y, t.From, t.Step, t.Needed)})
	p.hover(s, t)
	return p
}

// latePlot plots the late requests, beneath the replicas and on the same axis of time.
func (s *scales) latePlot(x *Result) *plot {
	t := x.Series
	p := &plot{
		Label: "Late requests of " + x.Policy + " over time", XTitle: "time (UTC)",
		Width: plotWidth, Height: 104, Left: plotLeft, Top: 8, Right: plotRight, Bottom: 62, YTitle: "late/s",
	}
	if s.start.IsZero() {
		p.XTitle = "time since the start of the trace"
	}
	p.X = svgplot.Clock(s.start, s.from, s.to, p.Left, p.Right)
	p.Y = svgplot.Linear(0, s.late, p.Bottom, p.Top, 2, true)
	zero := make([]Number, len(t.Late))
	rate := make([]Number, len(t.Late))
	for i, late := range t.Late {
		rate[i] = late / Number(t.Step)
	}
	p.Shapes = append(p.Shapes, shape{Class: "late", D: svgplot.Band(&p.X, &p.Y, t.From, t.Step, zero, rate)})
	p.hover(s, t)
	return p
}

// hover lays invisible strips over a time plot, whose tooltips give the numbers.
func (p *plot) hover(s *scales, t *Series) {
	n := len(t.Ready)
	width := max(1, (n+hoverStrips-1)/hoverStrips)
	for i := 0; i < n; i += width {
		end := min(n, i+width)
		left, right := p.X.At(t.From+float64(i)*t.Step), p.X.At(t.From+float64(end)*t.Step)
		p.Shapes = append(p.Shapes, shape{
			Class: "hit", Title: t.describe(s, i, end),
			D: fmt.Sprintf("M%s %sH%sV%sH%sZ", svgplot.Px(left), svgplot.Px(p.Top), svgplot.Px(right), svgplot.Px(p.Bottom), svgplot.Px(left)),
		})
	}
}

// describe gives the numbers of buckets i to end-1: the range where they differ.
func (t *Series) describe(s *scales, i, end int) string {
	late := 0.0
	for _, v := range t.Late[i:end] {
		if v.known() {
			late += float64(v)
		}
	}
	lines := []string{
		svgplot.Moment(s.start, t.From+float64(i)*t.Step) + " for " + svgplot.Duration(float64(end-i)*t.Step),
		"demand " + spread(t.Demand[i:end]) + "/s", "needed " + spread(t.Needed[i:end]), "desired " + spread(t.Desired[i:end]),
		"ready " + spread(t.Ready[i:end]), "loading " + spread(t.Loading[i:end]), "missing " + spread(t.Missing[i:end]), "waiting " + spread(t.Waiting[i:end]), "late " + short(late),
	}
	return strings.Join(lines, "\n")
}

func spread(values []Number) string {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if v.known() {
			lo, hi = min(lo, float64(v)), max(hi, float64(v))
		}
	}
	switch {
	case lo > hi:
		return none
	case short(lo) == short(hi):
		return short(lo)
	}
	return short(lo) + "–" + short(hi)
}
