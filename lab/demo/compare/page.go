package compare

import (
	"bytes"
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"strconv"
)

//go:embed page.html.tmpl
var pageTemplate string

type panel struct {
	Title string
	SVG   template.HTML
}

// row is one line of the table, as people read it; the screen and the page show the same.
type row struct {
	Class, Days, Side, Requests, Late, Failed, OnTime, Minutes, Loading, PerAnswer, AtPeak, Changes, Killed string
}

func rowOf(class, days string, side Side, c Count) row {
	return row{
		Class: class, Days: days, Side: side.String(), Requests: strconv.Itoa(c.Requests), Late: strconv.Itoa(c.Late), Failed: strconv.Itoa(c.Failed),
		OnTime: percent(c.OnTime, c.Requests), Minutes: fmt.Sprintf("%.1f", c.ReplicaSeconds/60), Loading: fmt.Sprintf("%.1f", c.LoadingSeconds/60),
		PerAnswer: fmt.Sprintf("%.2f s", c.perAnswer()), AtPeak: fmt.Sprintf("%d of %d", c.AtPeak, c.Needed), Changes: strconv.Itoa(c.Changes), Killed: strconv.Itoa(c.KilledLoading),
	}
}

// rows are each day of both sides and the sums of the judged days.
func (s Summary) rows() []row {
	var out []row
	for _, d := range s.Days {
		class, name := "", strconv.Itoa(d.Day)
		if !d.Judged {
			class, name = "learning", name+" (learning)"
		}
		for _, side := range sides() {
			out = append(out, rowOf(class, name, side, d.of(side)))
		}
	}
	for _, side := range sides() {
		out = append(out, rowOf("judged", s.judgedDays()+" (judged)", side, s.of(side).Judged))
	}
	return out
}

// page is the summary as one HTML file that needs nothing else: no script, font or picture is loaded.
func page(s Summary) ([]byte, error) {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return nil, fmt.Errorf("cannot read the page's template: %w", err)
	}
	panels := make([]panel, 0, len(sides()))
	for _, side := range sides() {
		panels = append(panels, panel{Title: side.String(), SVG: template.HTML(plot(s, side))}) //nolint:gosec // of numbers and our own words
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Passed": s.Passed, "Verdict": s.verdict(), "Reasons": append(append([]string(nil), s.Problems...), s.Failures...), "Panels": panels,
		"Rows": s.rows(), "Basis": s.basis(), "Late": LateAfter,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot write the page: %w", err)
	}
	return out.Bytes(), nil
}
