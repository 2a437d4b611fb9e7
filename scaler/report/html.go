package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"headroom.dev/headroom/internal/svgplot"
)

//go:embed page.html.tmpl
var pageTemplate string

// page is what the template is given.
type page struct {
	Title    string
	Trace    string
	Plant    []Setting
	Scored   string
	Verdict  string
	Notes    []string
	Headers  []header
	Rows     []row
	All      []row // every setting
	Frontier *plot
	Legend   []legend
	Policies []policyPlots
	SameAxes bool
}

type header struct {
	Name, Hint string
	Number     bool
}

type row struct {
	Color string
	Best  bool // it is the verdict's
	Limit bool // it is the clairvoyant's
	Cells []cell
}

type cell struct {
	Text   string
	Number bool
	Best   bool // of the column
}

type legend struct{ Color, Name, Marker string }

type policyPlots struct {
	Color, Policy, Setting, Summary string
	Replicas, Late                  *plot
}

// WriteHTML writes one page that stands alone: it opens offline, follows the reader's light or dark scheme, and prints.
func (r *Report) WriteHTML(w io.Writer) error {
	if err := r.Check(); err != nil {
		return err
	}
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("cannot read the page's template: %w", err)
	}
	if err := t.Execute(w, r.page()); err != nil {
		return fmt.Errorf("cannot write the page: %w", err)
	}
	return nil
}

func (r *Report) page() *page {
	p := &page{
		Title: "Backtest: " + r.Trace.Name, Trace: r.Trace.describe(), Plant: r.Plant, Scored: r.scored(),
		Verdict: strings.TrimPrefix(r.Verdict(), "* "), Notes: r.Notes, Frontier: r.frontier(),
	}
	for _, c := range headers() {
		p.Headers = append(p.Headers, header{Name: sentence(c.name), Hint: c.hint, Number: c.number})
	}
	best, _ := r.Best()
	color := map[string]int{}
	for i, policy := range r.policies() {
		color[policy] = i
		p.Legend = append(p.Legend, legend{Color: colorClass(i), Name: policy, Marker: marker(i, 8, 8, 5)})
	}
	first := r.bestOfColumns()
	for i := range r.Results {
		x := &r.Results[i]
		line := row{Color: colorClass(color[x.Policy]), Best: x == best, Limit: x.Policy == Clairvoyant}
		for j, text := range r.cells(x) {
			line.Cells = append(line.Cells, cell{Text: text, Number: headers()[j].number})
		}
		p.All = append(p.All, line)
		if !x.Chosen {
			continue
		}
		line.Cells = append([]cell(nil), line.Cells...)
		for j := range line.Cells {
			line.Cells[j].Best = !line.Limit && first[j] != "" && first[j] == line.Cells[j].Text
		}
		p.Rows = append(p.Rows, line)
	}
	if len(p.All) == len(p.Rows) {
		p.All = nil
	}
	shared := r.scales()
	for _, x := range r.Chosen() {
		if x.Series == nil || len(x.Series.Ready) == 0 {
			continue
		}
		p.Policies = append(p.Policies, policyPlots{
			Color: colorClass(color[x.Policy]), Policy: x.Policy, Setting: x.Setting,
			Summary:  fmt.Sprintf("%s on time, %s GPU-hours, %s changes", share(x.Attainment, 2), hours(x.GPUHours), svgplot.Thousands(float64(x.Changes))),
			Replicas: shared.replicasPlot(x), Late: shared.latePlot(x),
		})
	}
	return p
}

// bestOfColumns is the best cell of each column that has one, as it is written: what reads the same is as good. The
// clairvoyant's is the limit, not a competitor.
func (r *Report) bestOfColumns() []string {
	list := make([]string, len(headers()))
	value := make([]Number, len(list))
	for i := range value {
		value[i] = Absent()
	}
	for _, x := range r.Chosen() {
		if x.Policy == Clairvoyant {
			continue
		}
		cells := r.cells(x)
		for j, n := range []Number{
			Absent(), Absent(), -x.Attainment, Number(x.GPUHours), Absent(), x.UnderTime, x.OverTime, Number(x.Changes),
			Number(x.KilledLoading), Number(x.KilledBusy), x.WaitP95, x.WaitP99,
		} {
			if n.known() && (!value[j].known() || n < value[j]) {
				value[j], list[j] = n, cells[j]
			}
		}
	}
	return list
}

// sentence writes a terminal's heading for a page: "KILLED BUSY" as "Killed busy".
func sentence(heading string) string {
	if rest, ok := strings.CutPrefix(heading, "GPU-"); ok {
		return "GPU-" + strings.ToLower(rest)
	}
	return heading[:1] + strings.ToLower(heading[1:])
}
