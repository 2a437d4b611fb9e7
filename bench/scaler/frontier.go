package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The picture: a panel for each trace, three in a row.
const (
	columns     = 3
	panelWidth  = 330.0
	panelHeight = 250.0
	plotLeft    = 52.0
	plotTop     = 30.0
	plotWidth   = panelWidth - plotLeft - 14
	plotHeight  = panelHeight - plotTop - 38
	mostHours   = 3.0    // times the limit's: what costs more is not drawn
	worst       = 0.9    // share on time: what is worse is not drawn
	best        = 0.9999 // and what is better is drawn there
)

// colours of the families, told apart by people who see few colours, too (Okabe and Ito 2008).
func colour(family string) string {
	return map[string]string{
		limit: "#777777", stock: "#0072b2", keda: "#56b4e9", knative: "#cc79a7", lastValue: "#e69f00", ours: "#d55e00",
	}[family]
}

// draw writes one picture for each start-up time: the share of requests on time against GPU-hours, by what each setting did on
// the half that is scored. Settings that another one of the family beats in both are left out.
func draw(contests []*contest, dir string) (string, error) {
	byStartUp := map[time.Duration][]*contest{}
	for _, c := range contests {
		byStartUp[c.startUp] = append(byStartUp[c.startUp], c)
	}
	for startUp, list := range byStartUp {
		name := filepath.Join(dir, fmt.Sprintf("scaler-%.0fs.svg", startUp.Seconds()))
		if err := os.WriteFile(name, []byte(picture(list, startUp)), 0o644); err != nil { //nolint:gosec // a report that anybody may read
			return "", fmt.Errorf("cannot write a plot: %w", err)
		}
	}
	return filepath.Join(dir, "scaler-*.svg"), nil
}

func picture(list []*contest, startUp time.Duration) string {
	rows := (len(list) + columns - 1) / columns
	width, height := columns*panelWidth, float64(rows)*panelHeight+64
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11" role="img">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="12" y="22" font-size="15">Requests on time against GPU-hours (times the clairvoyant's), pods that take %s to start</text>`+"\n", startUp)
	x := 12.0
	for _, family := range []string{limit, stock, keda, knative, lastValue, ours} {
		fmt.Fprintf(&b, `<line x1="%.0f" x2="%.0f" y1="40" y2="40" stroke="%s" stroke-width="3"/><text x="%.0f" y="44">%s</text>`, x, x+22, colour(family), x+28, family)
		x += 44 + 7*float64(len(family))
	}
	for i, c := range list {
		c.panel(&b, float64(i%columns)*panelWidth, 58+float64(i/columns)*panelHeight)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// nines is where a share on time stands: each nine takes as much room.
func nines(share float64) float64 {
	at := -math.Log10(1 - min(share, best))
	return plotTop + plotHeight*(1-(at+math.Log10(1-worst))/(-math.Log10(1-best)+math.Log10(1-worst)))
}

func across(hours float64) float64 { return plotLeft + plotWidth*(hours-0.9)/(mostHours-0.9) }

func (c *contest) panel(b *strings.Builder, x, y float64) {
	lines := c.lines(goals()[0])
	i := slices.IndexFunc(lines, func(l line) bool { return l.family == limit })
	unit := lines[i].hours
	fmt.Fprintf(b, `<g transform="translate(%.0f %.0f)"><text x="%.0f" y="20" font-weight="bold">%s</text>`+"\n", x, y, plotLeft, html.EscapeString(c.trace.Name))
	for _, share := range []float64{0.9, 0.99, 0.999, 0.9999} {
		fmt.Fprintf(b, `<line x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%.0f" y="%.1f" text-anchor="end">%.4g%%</text>`,
			plotLeft, plotLeft+plotWidth, nines(share), nines(share), plotLeft-4, nines(share)+4, share*100)
	}
	for _, times := range []float64{1, 1.5, 2, 2.5, 3} {
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.0f" y2="%.0f" stroke="#eee"/><text x="%.1f" y="%.0f" text-anchor="middle">%.2g×</text>`,
			across(times), across(times), plotTop, plotTop+plotHeight, across(times), plotTop+plotHeight+14, times)
	}
	b.WriteString("\n")
	for _, family := range c.names {
		c.curve(b, family, unit)
	}
	b.WriteString("</g>\n")
}

type spot struct{ hours, share float64 }

// frontier is what no other setting of the family beats in both, by hours.
func (c *contest) frontier(family string) []spot {
	var all []spot
	for _, t := range c.trials[family] {
		all = append(all, spot{t.Scored.ReplicaHours, t.Scored.Attainment})
	}
	slices.SortFunc(all, func(a, b spot) int { return cmp.Or(cmp.Compare(a.hours, b.hours), cmp.Compare(b.share, a.share)) })
	var kept []spot
	for _, s := range all {
		if len(kept) == 0 || s.share > kept[len(kept)-1].share {
			kept = append(kept, s)
		}
	}
	return kept
}

func (c *contest) curve(b *strings.Builder, family string, unit float64) {
	var points, marks strings.Builder
	for _, s := range c.frontier(family) {
		if s.share < worst || s.hours > mostHours*unit {
			continue
		}
		x, y := across(s.hours/unit), nines(s.share)
		fmt.Fprintf(&points, "%.1f,%.1f ", x, y)
		fmt.Fprintf(&marks, `<circle cx="%.1f" cy="%.1f" r="2.2" fill="%s"><title>%s: %.2f%% on time, %.1f GPU-hours</title></circle>`, x, y, colour(family), family, 100*s.share, s.hours)
	}
	if points.Len() > 0 {
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.6"/>%s`+"\n", strings.TrimSpace(points.String()), colour(family), marks.String())
	}
}
