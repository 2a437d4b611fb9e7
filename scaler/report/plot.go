package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// The plots are drawn here, not with gonum/plot: its SVG writes colours and fonts into each element, which neither follows a
// dark page nor prints in black, and has no tooltips. What is needed of a plot library is above all ticks (axis.go).

// plot is one SVG picture, ready for the template.
type plot struct {
	Label                    string // what it shows, for those who do not see it
	Width, Height            float64
	Left, Top, Right, Bottom float64 // edges of the area that is plotted in
	X, Y                     axis
	XTitle, YTitle           string
	Clipped                  []shape // what may leave the area, and is cut at its edge
	Shapes                   []shape
	Marks                    []shape // above the others
	Texts                    []text
	Outside                  int // results that are not shown

	top   float64      // of the axis of attainments
	names [][2]float64 // where texts begin
}

func (p *plot) XTicks() []tick { return p.X.ticks }
func (p *plot) YTicks() []tick { return p.Y.ticks }

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
	p.X = linear(max(0, least-margin), most+margin, p.Left, p.Right, 8, false)
	p.Y, p.top = attainments(math.Min(worst, float64(r.Goal)), math.Max(best, float64(r.Goal)), p.Bottom, p.Top)
	if g := float64(r.Goal); g > 0 {
		y := p.Y.at(nines(g, p.top))
		p.Shapes = append(p.Shapes, shape{Class: "goal", D: segment(p.Left, y, p.Right, y), Title: "goal: " + percent(r.Goal) + " on time"})
		p.Texts = append(p.Texts, text{Class: "note end", X: px(p.Right - 4), Y: px(y - 5), Text: "goal " + percent(r.Goal)})
	}
	for i, policy := range r.policies() {
		p.curve(r, policy, i, shown)
	}
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

// curve draws one policy's settings, the chosen one larger and named.
func (p *plot) curve(r *Report, policy string, color int, shown []*Result) {
	var own []*Result
	for i := range r.Results {
		if x := &r.Results[i]; x.Policy == policy && x.Attainment.known() {
			own = append(own, x)
		}
	}
	slices.SortStableFunc(own, func(a, b *Result) int { return cmp.Compare(a.GPUHours, b.GPUHours) })
	class := colorClass(color)
	var line path
	for i, x := range own {
		command := "L"
		if i == 0 {
			command = "M"
		}
		line.to(command, p.X.at(x.GPUHours), p.Y.at(nines(float64(x.Attainment), p.top)))
	}
	if len(own) > 1 {
		p.Clipped = append(p.Clipped, shape{Class: "line " + class, D: line.b.String()})
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
	cx, cy := p.X.at(x.GPUHours), p.Y.at(nines(float64(x.Attainment), p.top))
	title := fmt.Sprintf("%s %s: %s on time, %s GPU-hours", x.Policy, x.Setting, share(x.Attainment, 3), hours(x.GPUHours))
	if !x.Chosen {
		p.Shapes = append(p.Shapes, shape{Class: "dot " + class, D: marker(color, cx, cy, 4), Title: title})
		return
	}
	if x.Policy == Clairvoyant {
		p.Clipped = append(p.Clipped, shape{Class: "limit " + class, D: segment(cx, p.Top, cx, p.Bottom)})
		title += ": the limit"
	}
	p.Marks = append(p.Marks, shape{Class: "chosen " + class, D: marker(color, cx, cy, 8), Title: title})
	anchor, dx := "", 13.0
	if cx > p.Right-110 {
		anchor, dx = " end", -13
	}
	p.Texts = append(p.Texts, text{Class: "name " + class + anchor, X: px(cx + dx), Y: px(p.free(cx+dx, cy+4)), Text: x.Policy})
}

// free is a height near y at which no other name stands.
func (p *plot) free(x, y float64) float64 {
	for range 6 {
		taken := false
		for _, n := range p.names {
			if math.Abs(n[0]-x) < 110 && math.Abs(n[1]-y) < 14 {
				taken = true
				y = n[1] + 15
			}
		}
		if !taken {
			break
		}
	}
	p.names = append(p.names, [2]float64{x, y})
	return y
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

func segment(x1, y1, x2, y2 float64) string {
	var p path
	p.to("M", x1, y1)
	p.to("L", x2, y2)
	return p.b.String()
}

// marker is a shape of its own for each colour, for those who do not tell colours apart and for prints.
func marker(i int, x, y, r float64) string {
	var p path
	corner := func(command string, dx, dy float64) { p.to(command, x+dx*r, y+dy*r) }
	switch i % 4 {
	case 0: // circle
		corner("M", -1, 0)
		fmt.Fprintf(&p.b, "a%s %s 0 1 0 %s 0a%s %s 0 1 0 %s 0", px(r), px(r), px(2*r), px(r), px(r), px(-2*r))
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
	p.close()
	return p.b.String()
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
	p.X = clock(s.start, s.from, s.to, p.Left, p.Right)
	p.Y = linear(0, s.replicas, p.Bottom, p.Top, 5, true)
	zero := make([]Number, len(t.Ready))
	total := make([]Number, len(t.Ready))
	met := make([]Number, len(t.Ready)) // what is left of the need without what was missing of it
	for i := range t.Ready {
		total[i] = t.Ready[i] + t.Loading[i]
		met[i] = t.Needed[i] - t.Missing[i]
	}
	p.Shapes = append(p.Shapes,
		shape{Class: "ready", D: p.band(t, zero, t.Ready)},
		shape{Class: "loading", D: p.band(t, t.Ready, total)},
		shape{Class: "missing", D: p.band(t, met, t.Needed)},
		shape{Class: "desired", D: p.steps(t, t.Desired)},
		shape{Class: "needed", D: p.steps(t, t.Needed)})
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
	p.X = clock(s.start, s.from, s.to, p.Left, p.Right)
	p.Y = linear(0, s.late, p.Bottom, p.Top, 2, true)
	zero := make([]Number, len(t.Late))
	rate := make([]Number, len(t.Late))
	for i, late := range t.Late {
		rate[i] = late / Number(t.Step)
	}
	p.Shapes = append(p.Shapes, shape{Class: "late", D: p.band(t, zero, rate)})
	p.hover(s, t)
	return p
}

// steps draws a value as the stairs it is: it holds over its bucket. What is absent is left open.
func (p *plot) steps(t *Series, values []Number) string {
	var line path
	open, before := false, Absent()
	for i, v := range values {
		same := v == before
		before = v
		if !v.known() {
			open = false
			continue
		}
		x, y := p.X.at(t.From+float64(i)*t.Step), p.Y.at(float64(v))
		next := p.X.at(t.From + float64(i+1)*t.Step)
		if open && same {
			fmt.Fprintf(&line.b, "H%s", px(next))
			continue
		}
		if open {
			line.to("L", x, y)
		} else {
			line.to("M", x, y)
		}
		fmt.Fprintf(&line.b, "H%s", px(next))
		open = true
	}
	return line.b.String()
}

// band fills between two lines of stairs, wherever both are known and the upper is above the lower.
func (p *plot) band(t *Series, lower, upper []Number) string {
	var area path
	filled := func(i int) bool {
		return i < len(upper) && lower[i].known() && upper[i].known() && upper[i] > lower[i]
	}
	for i := 0; i < len(upper); i++ {
		if !filled(i) {
			continue
		}
		end := i
		for filled(end) { // false at the lists' end
			end++
		}
		area.to("M", p.X.at(t.From+float64(i)*t.Step), p.Y.at(float64(lower[i])))
		for j := i; j < end; j++ {
			fmt.Fprintf(&area.b, "V%sH%s", px(p.Y.at(float64(upper[j]))), px(p.X.at(t.From+float64(j+1)*t.Step)))
		}
		for j := end - 1; j >= i; j-- {
			fmt.Fprintf(&area.b, "V%sH%s", px(p.Y.at(float64(lower[j]))), px(p.X.at(t.From+float64(j)*t.Step)))
		}
		area.close()
		i = end
	}
	return area.b.String()
}

// hover lays invisible strips over a time plot, whose tooltips give the numbers.
func (p *plot) hover(s *scales, t *Series) {
	n := len(t.Ready)
	width := max(1, (n+hoverStrips-1)/hoverStrips)
	for i := 0; i < n; i += width {
		end := min(n, i+width)
		left, right := p.X.at(t.From+float64(i)*t.Step), p.X.at(t.From+float64(end)*t.Step)
		p.Shapes = append(p.Shapes, shape{
			Class: "hit", Title: t.describe(s, i, end),
			D: fmt.Sprintf("M%s %sH%sV%sH%sZ", px(left), px(p.Top), px(right), px(p.Bottom), px(left)),
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
		moment(s.start, t.From+float64(i)*t.Step) + " for " + duration(float64(end-i)*t.Step),
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
