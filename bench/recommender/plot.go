package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"headroom.dev/headroom/recommender"
)

// The picture: a panel for each family and each trace of a family of several, three in a row.
const (
	columns     = 3
	panelWidth  = 330.0
	panelHeight = 250.0
	plotLeft    = 48.0
	plotTop     = 30.0
	plotWidth   = panelWidth - plotLeft - 14
	plotHeight  = panelHeight - plotTop - 38
	leastUnder  = 0.0001 // share of time: what is below is drawn at the left edge
	mostUnder   = 0.3    // and what is above is not drawn
)

// curve is a group of settings in the picture: a frontier, or marks.
type curve struct {
	label, colour string // told apart by people who see few colours, too (Okabe and Ito 2008)
	line          bool
	keep          func(setting) bool
}

func curves() []curve {
	group := func(names ...string) func(setting) bool {
		return func(s setting) bool { return slices.Contains(names, s.group) }
	}
	return []curve{
		{"fixed percentiles, after the fact", "#e69f00", true, group(groupFixed)},
		{"VPA's other settings, after the fact", "#56b4e9", true, group(groupTuned)},
		{"headroom, by risk", "#d55e00", true, isOurs},
		{"VPA", "#0072b2", false, func(s setting) bool { return s.name == "VPA" }},
		{"KRR", "#cc79a7", false, func(s setting) bool { return s.name == "KRR" }},
		{"headroom", "#d55e00", false, func(s setting) bool { return s.name == groupOurs }},
	}
}

// draw writes the picture: slack against under-time.
func draw(all []setting, list []*outcome, o options, say io.Writer) error {
	var panels []*outcome
	for _, resource := range []recommender.Resource{recommender.CPU, recommender.Memory} {
		group := of(list, resource)
		if len(group) == 0 {
			continue
		}
		for _, f := range families(group) {
			if !slices.ContainsFunc(group, func(o *outcome) bool { return o.trace == f.trace }) {
				panels = append(panels, f)
			}
		}
		panels = append(panels, group...)
	}
	name := o.plot
	if name == "" {
		name = filepath.Join(o.results, "recommender.svg")
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return fmt.Errorf("cannot write the plot: %w", err)
	}
	if err := os.WriteFile(name, []byte(picture(all, panels)), 0o644); err != nil { //nolint:gosec // a report that anybody may read
		return fmt.Errorf("cannot write the plot: %w", err)
	}
	fmt.Fprintf(say, "written: %s\n", name)
	return nil
}

func picture(all []setting, panels []*outcome) string {
	rows := (len(panels) + columns - 1) / columns
	width, height := columns*panelWidth, float64(rows)*panelHeight+64
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11" role="img">`+"\n", width, height)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/><text x="12" y="22" font-size="15">Unused share of the request (up) against share of time above it (across): lower left is better</text>` + "\n")
	x := 12.0
	for _, c := range curves() {
		if c.line {
			fmt.Fprintf(&b, `<line x1="%.0f" x2="%.0f" y1="40" y2="40" stroke="%s" stroke-width="3"/>`, x, x+18, c.colour)
		} else {
			fmt.Fprintf(&b, `<circle cx="%.0f" cy="40" r="4.5" fill="%s" stroke="black"/>`, x+9, c.colour)
		}
		fmt.Fprintf(&b, `<text x="%.0f" y="44">%s</text>`, x+24, html.EscapeString(c.label))
		x += 38 + 5.8*float64(len(c.label))
	}
	for i, o := range panels {
		panel(&b, all, o, float64(i%columns)*panelWidth, 58+float64(i/columns)*panelHeight)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// across is where an under-time stands: each power of ten takes as much room.
func across(under float64) float64 {
	return plotLeft + plotWidth*math.Log10(max(under, leastUnder)/leastUnder)/math.Log10(mostUnder/leastUnder)
}

func up(slack float64) float64 { return plotTop + plotHeight*(1-slack) }

func panel(b *strings.Builder, all []setting, o *outcome, x, y float64) {
	fmt.Fprintf(b, `<g transform="translate(%.0f %.0f)"><text x="%.0f" y="20" font-weight="bold">%s</text>`+"\n", x, y, plotLeft, html.EscapeString(o.name))
	for _, share := range []float64{0, 0.25, 0.5, 0.75, 1} {
		fmt.Fprintf(b, `<line x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%.0f" y="%.1f" text-anchor="end">%.0f%%</text>`,
			plotLeft, plotLeft+plotWidth, up(share), up(share), plotLeft-4, up(share)+4, share*100)
	}
	for _, share := range []float64{0.0001, 0.001, 0.01, 0.1} {
		label := fmt.Sprintf("%g%%", share*100)
		if share == leastUnder {
			label = "≤" + label
		}
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.0f" y2="%.0f" stroke="#eee"/><text x="%.1f" y="%.0f" text-anchor="middle">%s</text>`,
			across(share), across(share), plotTop, plotTop+plotHeight, across(share), plotTop+plotHeight+14, label)
	}
	b.WriteString("\n")
	for _, c := range curves() {
		c.draw(b, spots(all, o.scores, c.keep))
	}
	b.WriteString("</g>\n")
}

func (c curve) draw(b *strings.Builder, list []spot) {
	var points, marks strings.Builder
	for _, s := range frontier(list) {
		if s.under > mostUnder {
			continue
		}
		fmt.Fprintf(&points, "%.1f,%.1f ", across(s.under), up(s.slack))
		style := `r="2"`
		if !c.line {
			style = `r="4.5" stroke="black"`
		}
		fmt.Fprintf(&marks, `<circle cx="%.1f" cy="%.1f" %s fill="%s"><title>%s: %.1f%% unused, %.2f%% of time above</title></circle>`,
			across(s.under), up(s.slack), style, c.colour, html.EscapeString(s.name), 100*s.slack, 100*s.under)
	}
	if c.line && points.Len() > 0 {
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.6"/>`, strings.TrimSpace(points.String()), c.colour)
	}
	b.WriteString(marks.String() + "\n")
}
