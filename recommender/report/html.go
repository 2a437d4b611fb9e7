package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

//go:embed page.html.tmpl
var pageTemplate string

//go:embed page.css
var pageStyle string

//go:embed page.js
var pageScript string

// page is what the template is given.
type page struct {
	Title    string
	Policy   string
	Style    template.CSS
	Script   template.JS
	At       string
	Summary  []string
	Tiles    []tile
	Notes    []string
	Headers  []heading
	Verdicts []Verdict
	Rows     []tableRow
	Plots    []*plot
	Found    int // of which Plots are those shown
	HPAs     []string
}

type tile struct{ Class, Value, Name, Detail string }

type heading struct {
	Name, Hint, Sorted string
	Number             bool
}

type tableRow struct {
	Verdict string
	Cells   []tableCell
}

type tableCell struct {
	Text, Value, Class string
}

// WriteHTML writes one page that stands alone: it opens offline, follows the reader's light or dark scheme, prints, and is whole
// without its script, which only sorts and filters the table.
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
		Title: "Recommended requests", At: r.At.UTC().Format("2006-01-02 15:04 UTC"), Summary: r.Summary(), Tiles: r.tiles(),
		HPAs: r.autoscalers(), Verdicts: []Verdict{Over, Fits, Short, Unset, Waiting},
		// Nothing may be loaded, and nothing may run but what is here: hashes let no injected style or script in.
		Policy: "default-src 'none'; style-src " + hash(pageStyle) + "; script-src " + hash(pageScript) + "; base-uri 'none'; form-action 'none'",
		Style:  template.CSS(pageStyle), //nolint:gosec // the file beside this one
		Script: template.JS(pageScript), //nolint:gosec // the file beside this one
	}
	for _, note := range r.Notes {
		p.Notes = append(p.Notes, clean(note))
	}
	columns := r.columns(false)
	if name, one := r.namespace(); one {
		p.At += ", of namespace " + name
		columns = slices.DeleteFunc(columns, func(c column) bool { return c.key == keyNamespace })
	}
	for _, c := range columns {
		p.Headers = append(p.Headers, heading{Name: sentence(c.head), Hint: c.hint, Number: c.number})
	}
	lines := r.lines()
	for i := range lines {
		l := &lines[i]
		row := tableRow{Verdict: string(l.verdict())}
		for _, c := range columns {
			one := tableCell{Text: c.cell(l)}
			switch {
			case c.key == "verdict":
				one.Class = "v " + strings.ToLower(one.Text)
			case c.key == keyWhy:
				one.Class = "why"
			case c.key == keyNamespace, c.key == "workload", c.key == "container":
				one.Class = "name"
			case c.key == "risk-now", c.key == "risk-then", c.key == "now", c.key == "recommended":
				one.Class = "n wrap"
			case c.number:
				one.Class = "n"
			}
			if c.by != nil {
				one.Value = "" // not known: comes last
				if v := c.by(l); !math.IsNaN(v) {
					one.Value = strconv.FormatFloat(v, 'g', 6, 64)
				}
			}
			row.Cells = append(row.Cells, one)
		}
		p.Rows = append(p.Rows, row)
	}
	p.Plots, p.Found = r.plots(lines)
	return p
}

// namespace is that of all workloads, if they have one in common.
func (r *Report) namespace() (name string, one bool) {
	for i := range r.Workloads {
		if i > 0 && r.Workloads[i].Namespace != name {
			return "", false
		}
		name = r.Workloads[i].Namespace
	}
	return clean(name), name != ""
}

// tiles are the numbers at the head of the page.
func (r *Report) tiles() []tile {
	t := &r.Total
	if t.Recommended == 0 {
		return nil
	}
	saves := func(v float64) string {
		if v < 0 {
			return "more"
		}
		return "saved"
	}
	parts := func(freed, added string, some bool) string {
		if !some {
			return ""
		}
		return freed + " given back, " + added + " more needed"
	}
	list := []tile{
		{saves(t.Saving.Cores), cores(t.Saving.Cores), "cores saved", parts(cores(t.Freed.Cores), cores(-t.Added.Cores), t.Added.Cores != 0)},
		{saves(t.Saving.Memory), size(t.Saving.Memory), "of memory saved", parts(size(t.Freed.Memory), size(-t.Added.Memory), t.Added.Memory != 0)},
	}
	if t.Freed.GPUs != 0 || t.Added.GPUs != 0 {
		list = append(list, tile{saves(t.Saving.GPUs), digits(t.Saving.GPUs), "GPUs saved", digits(t.Saving.GPUHours) + " GPU-hours a month"})
	}
	if t.Saving.Money != nil {
		list = append(list, tile{saves(*t.Saving.Money), r.Prices.money(t.Saving.Money), "saved a month", ""})
	}
	risk := tile{"fine", "0", "containers at risk", "each requests what it needs"}
	if t.AtRisk > 0 {
		risk = tile{"risk", strconv.Itoa(t.AtRisk), "of " + count(t.Containers, "container", "containers") + " at risk", "request less than they need, or nothing"}
	}
	return append(list, risk)
}

// hash is a source of a content security policy.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
