package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"

	"headroom.dev/headroom/internal/svgplot"
	"headroom.dev/headroom/lab/demo/update"
)

// The plot's measures, in pixels.
const (
	plotLeft, plotWidth  = 330, 470
	plotTop, rowHeight   = 46, 58
	stepSeconds          = 0.25
	plotRight            = plotLeft + plotWidth
	plotStyle            = `text{font:12px sans-serif;fill:#333}.old{fill:#9aa7b5}.new{fill:#2b8a57}.need{stroke:#c0392b;stroke-dasharray:4 3;fill:none}.axis{stroke:#bbb;fill:none}.small{font-size:10px;fill:#777}`
	legend               = `<rect class="old" x="330" y="8" width="12" height="12"/><text x="346" y="18">old, Ready</text><rect class="new" x="420" y="8" width="12" height="12"/><text x="436" y="18">new, Ready</text><path class="need" d="M510 14H534"/><text x="540" y="18">what the demand needs</text>`
	plotBackground       = `<rect width="100%" height="100%" fill="#fff"/>`
	svgOpen, svgClose    = `<svg xmlns="http://www.w3.org/2000/svg" width="820" height="%d" role="img"><title>Ready replicas over time</title><style>%s</style>`, "</svg>\n"
	rowText, rowTextNote = `<text x="8" y="%s">%s</text>`, `<text class="small" x="8" y="%s">%s</text>`
)

// plot draws Ready replicas over time, one row for an update.
func plot(dir string, all []update.Outcome) (path string, err error) {
	longest := 0.0
	for _, o := range all {
		longest = max(longest, o.Seconds)
	}
	x := svgplot.Linear(0, longest, plotLeft, plotRight, 8, true)
	var b strings.Builder
	height := plotTop + len(all)*rowHeight + 30
	fmt.Fprintf(&b, svgOpen, height, plotStyle)
	fmt.Fprint(&b, plotBackground, legend)
	for i, o := range all {
		row(&b, &x, &o, float64(plotTop+i*rowHeight))
	}
	for _, t := range x.Ticks {
		fmt.Fprintf(&b, `<text class="small" x="%s" y="%d" text-anchor="middle">%s s</text>`, t.At, height-10, t.Label)
	}
	fmt.Fprint(&b, svgClose)
	path = filepath.Join(dir, "rollout-lab.svg")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil { //nolint:gosec // a picture that anybody may see
		return "", fmt.Errorf("cannot write the plot: %w", err)
	}
	return path, nil
}

// row draws one update: the new version's replicas stand on the old one's.
func row(b *strings.Builder, x *svgplot.Axis, o *update.Outcome, top float64) {
	y := svgplot.Axis{Lo: 0, Hi: float64(o.Replicas) * 2, From: top + rowHeight - 12, To: top}
	var old, sum, zero []float64
	at := 0
	for s := 0.0; s < o.Seconds; s += stepSeconds {
		for at+1 < len(o.Samples) && o.Samples[at+1].Seconds <= s {
			at++
		}
		if len(o.Samples) == 0 {
			break
		}
		ready := o.Samples[at].Ready
		zero, old = append(zero, 0), append(old, float64(ready["v1"]))
		sum = append(sum, float64(ready["v1"]+ready["v2"]))
	}
	fmt.Fprintf(b, rowText, svgplot.Px(top+22), html.EscapeString(o.Case))
	note := fmt.Sprintf("%s after %.0f s; %d failed, %d late of %d", o.End, o.Seconds, o.Failed, o.Late, o.Requests)
	fmt.Fprintf(b, rowTextNote, svgplot.Px(top+37), html.EscapeString(note))
	fmt.Fprintf(b, `<path class="old" d="%s"/>`, svgplot.Band(x, &y, 0, stepSeconds, zero, old))
	fmt.Fprintf(b, `<path class="new" d="%s"/>`, svgplot.Band(x, &y, 0, stepSeconds, old, sum))
	need := y.At(math.Ceil(o.Demand / update.Capacity))
	fmt.Fprintf(b, `<path class="need" d="%s"/>`, svgplot.Segment(plotLeft, need, plotRight, need))
	fmt.Fprintf(b, `<path class="axis" d="%s"/>`, svgplot.Segment(plotLeft, y.From, plotRight, y.From))
}
