package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"headroom.dev/headroom/internal/svgplot"
)

const (
	plotWidth  = 1080
	plotHeight = 236
	plotLeft   = 64
	plotRight  = plotWidth - 18
	plotTop    = 12
	plotBottom = plotHeight - 30
	// plotsShown bounds the page: a plot is about 20 KB.
	plotsShown = 60
	// hoverStrips are those with tooltips: more would be narrower than a pointer, and most of the page.
	hoverStrips = 96
)

// plot is one SVG picture, ready for the template.
type plot struct {
	ID, Title, Desc string
	Heading, Kind   string
	Facts           []fact
	Message         string
	X, Y            svgplot.Axis
	Unit            string
	Band, Max       string
	Range           string // of the recommendation
	Rules           []rule
	Strips          []strip
	Outside         string // a line that lies above the plot
}

type fact struct{ Class, Name, Value string }

// rule is a line across the plot.
type rule struct{ Class, Y string }

type strip struct{ D, Title string }

// Left and the others are the edges of the area that is plotted in, for the template.
func (p *plot) Left() int   { return plotLeft }
func (p *plot) Right() int  { return plotRight }
func (p *plot) Top() int    { return plotTop }
func (p *plot) Bottom() int { return plotBottom }
func (p *plot) Width() int  { return plotWidth }
func (p *plot) Height() int { return plotHeight }

// plots draws the usage behind the lines of which it is known: half of those that are shown are the largest savings, the other
// half those that are the furthest below what they need. found is how many there could be.
func (r *Report) plots(lines []line) (list []*plot, found int) {
	var with []line
	for _, l := range lines {
		if u := l.usage(); u != nil && len(u.Max) > 0 {
			with = append(with, l)
		}
	}
	found = len(with)
	if found > plotsShown {
		with = telling(with)
	}
	for i := range with {
		list = append(list, draw(&with[i], fmt.Sprintf("plot-%d", i+1)))
	}
	return list, found
}

// telling chooses the lines that plotsShown is spent on.
func telling(with []line) []line {
	// Worth is in cores by the weights of savings; what is not known comes last.
	slices.SortStableFunc(with, func(a, b line) int {
		return cmp.Compare(savesOf(&b), savesOf(&a)) // to cmp, NaN is the least
	})
	known := len(with)
	for known > 0 && math.IsNaN(savesOf(&with[known-1])) {
		known--
	}
	short := 0
	for short < plotsShown/2 && short < known && savesOf(&with[known-1-short]) < 0 {
		short++
	}
	return append(slices.Clone(with[:plotsShown-short]), with[max(plotsShown-short, known-short):known]...)
}

func (l *line) usage() *Usage {
	if g := l.gpu(); g != nil {
		return g.Usage
	}
	if l.advice != nil {
		return l.advice.Usage
	}
	return nil
}

// levels are the lines across a plot, in the resource's unit.
type levels struct{ request, limit, recommended, lower, upper *float64 }

func (l *line) levels() levels {
	if a := l.advice; a != nil {
		return levels{a.Request, a.Limit, a.Recommended, a.Lower, a.Upper}
	}
	g := l.gpu()
	v := levels{lower: g.Lower, upper: g.Upper}
	if g.Now != nil {
		v.request = &g.Now.Memory
	}
	if g.Recommended != nil {
		v.recommended = &g.Recommended.Memory
	}
	return v
}

func draw(l *line, id string) *plot {
	u, v := l.usage(), l.levels()
	resource := Memory
	what := "GPU memory"
	if l.advice != nil {
		resource, what = l.advice.Resource, l.advice.Resource
	}
	p := &plot{ID: id, Kind: what, Heading: l.name(), Message: whyCell(l)}
	p.Title = "Use of " + what + " by " + p.Heading
	p.facts(resource, &v)

	scale, unit := scaleOf(resource, most(u, &v))
	p.Unit = unit
	top := most(u, &v) / scale
	if v.limit != nil {
		// A limit far above would press the rest to the floor: it is said, not drawn.
		if at := *v.limit / scale; at <= 2.5*top {
			top = max(top, at)
		} else {
			p.Outside = "limit " + amount(resource, v.limit) + " is above the plot"
			v.limit = nil
		}
	}
	end := u.Step * float64(len(u.Max))
	p.X = svgplot.Clock(u.Start, 0, end, plotLeft, plotRight)
	p.Y = svgplot.Linear(0, top*1.02, plotBottom, plotTop, 4, true)
	p50, p90, peak := u.P50, scaled(u.P90, scale), scaled(u.Max, scale)
	p.Band = svgplot.Band(&p.X, &p.Y, 0, u.Step, scaled(p50, scale), p90)
	p.Max = svgplot.Steps(&p.X, &p.Y, 0, u.Step, peak)
	if v.lower != nil && v.upper != nil {
		high, low := p.Y.At(*v.upper/scale), p.Y.At(*v.lower/scale)
		p.Range = fmt.Sprintf("M%d %sH%dV%sH%dZ", plotLeft, svgplot.Px(high), plotRight, svgplot.Px(low), plotLeft)
	}
	for _, one := range []struct {
		class string
		value *float64
	}{{"limit", v.limit}, {"request", v.request}, {"recommended", v.recommended}} {
		if one.value != nil {
			p.Rules = append(p.Rules, rule{one.class, svgplot.Px(p.Y.At(*one.value / scale))})
		}
	}
	p.hover(u, resource)
	p.Desc = p.describe(u, resource)
	return p
}

func (l *line) name() string {
	w := l.workload
	return clean(w.Namespace + "/" + strings.ToLower(w.WorkloadOf) + "/" + w.Name + ", " + containerCell(l))
}

func (p *plot) facts(resource string, v *levels) {
	for _, f := range []struct {
		class, name string
		value       *float64
	}{{"request", "request", v.request}, {"recommended", "recommended", v.recommended}, {"limit", "limit", v.limit}} {
		if f.value != nil {
			p.Facts = append(p.Facts, fact{f.class, f.name, amount(resource, f.value)})
		}
	}
	if v.lower != nil && v.upper != nil {
		p.Facts = append(p.Facts, fact{"range", "range", amount(resource, v.lower) + "–" + amount(resource, v.upper)})
	}
}

// most is the largest of what must be on the plot.
func most(u *Usage, v *levels) float64 {
	top := 0.0
	for _, n := range u.Max {
		if n.known() {
			top = max(top, float64(n))
		}
	}
	for _, level := range []*float64{v.request, v.recommended, v.upper} {
		if level != nil {
			top = max(top, *level)
		}
	}
	return top
}

// scaleOf is the unit of an axis up to a value, and its name.
func scaleOf(resource string, top float64) (float64, string) {
	switch {
	case resource == CPU && top < 1:
		return 0.001, "millicores"
	case resource == CPU:
		return 1, "cores"
	case top < gib:
		return 1 << 20, "Mi"
	}
	return gib, "Gi"
}

func scaled(list []Number, scale float64) []Number {
	out := make([]Number, len(list))
	for i, n := range list {
		out[i] = n / Number(scale)
	}
	return out
}

func (n Number) known() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// hover lays invisible strips over the plot, whose tooltips give the numbers: the highest of the steps beneath.
func (p *plot) hover(u *Usage, resource string) {
	n := len(u.Max)
	width := max(1, (n+hoverStrips-1)/hoverStrips)
	for i := 0; i < n; i += width {
		end := min(n, i+width)
		left, right := p.X.At(float64(i)*u.Step), p.X.At(float64(end)*u.Step)
		title := svgplot.Moment(u.Start, float64(i)*u.Step) + " for " + svgplot.Duration(float64(end-i)*u.Step)
		if highest(u.Max[i:end]) == nil {
			title += ": nothing is known"
		} else {
			title += fmt.Sprintf(": median %s, P90 %s, most %s", amount(resource, highest(u.P50[i:end])), amount(resource, highest(u.P90[i:end])), amount(resource, highest(u.Max[i:end])))
		}
		p.Strips = append(p.Strips, strip{
			D: fmt.Sprintf("M%s %dH%sV%dH%sZ", svgplot.Px(left), plotTop, svgplot.Px(right), plotBottom, svgplot.Px(left)), Title: title,
		})
	}
}

func highest(list []Number) *float64 {
	var top *float64
	for _, n := range list {
		if n.known() && (top == nil || float64(n) > *top) {
			top = new(float64(n))
		}
	}
	return top
}

// describe is for those who do not see the plot.
func (p *plot) describe(u *Usage, resource string) string {
	known := 0
	for _, n := range u.Max {
		if n.known() {
			known++
		}
	}
	end := u.Start.Add(time.Duration(u.Step * float64(len(u.Max)) * float64(time.Second)))
	text := fmt.Sprintf("%s UTC to %s UTC, known for %d of %d steps; at most %s was used", when(&u.Start), when(&end), known, len(u.Max), amount(resource, highest(u.Max)))
	parts := []string{text}
	for _, f := range p.Facts {
		parts = append(parts, f.Name+" "+f.Value)
	}
	return strings.Join(parts, "; ") + "."
}
