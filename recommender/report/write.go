package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"headroom.dev/headroom/internal/svgplot"
)

// Summary says in a few sentences what the report comes to.
func (r *Report) Summary() []string {
	t := &r.Total
	if t.Workloads == 0 {
		return []string{"There is no workload to recommend for."}
	}
	list := []string{fmt.Sprintf("%s with %s: %d with a recommendation, %d without yet.",
		count(t.Workloads, "workload", "workloads"), count(t.Containers, "container", "containers"), t.Recommended, t.Waiting)}
	if t.Recommended > 0 {
		list = append(list, "The recommendations save "+r.sum(&t.Saving)+".")
		if t.Added.any() {
			more := t.Added.negated()
			list = append(list, "That is "+r.sum(&t.Freed)+" given back, less "+r.sum(&more)+" where more is needed.")
		}
	}
	switch {
	case t.AtRisk == 1:
		list = append(list, "1 container is at risk: it requests less than it needs, or nothing.")
	case t.AtRisk > 1:
		list = append(list, svgplot.Thousands(float64(t.AtRisk))+" containers are at risk: they request less than they need, or nothing.")
	}
	return list
}

func (s *Saving) any() bool { return s.Cores != 0 || s.Memory != 0 || s.GPUs != 0 }

// sum writes a saving: 3.5 cores, 12Gi of memory and 2 GPUs (1,460 GPU-hours), EUR 120 a month.
func (r *Report) sum(s *Saving) string {
	parts := []string{cores(s.Cores) + " cores", size(s.Memory) + " of memory"}
	if s.GPUs != 0 {
		parts = append(parts, fmt.Sprintf("%s GPUs (%s GPU-hours a month)", digits(s.GPUs), digits(s.GPUHours)))
	}
	text := strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
	if s.Money != nil {
		text += ", " + r.Prices.money(s.Money) + " a month"
	}
	return text
}

// cells are a table's rows, the heads first. keep says which columns.
func (r *Report) cells(columns []column) [][]string {
	heads := make([]string, len(columns))
	for i := range columns {
		heads[i] = columns[i].head
	}
	rows := [][]string{heads}
	for _, l := range r.lines() {
		row := make([]string, len(columns))
		for i := range columns {
			row[i] = columns[i].cell(&l)
		}
		rows = append(rows, row)
	}
	return rows
}

// WriteTable writes the report for a terminal. namespaces tells whether they are a column.
func (r *Report) WriteTable(w io.Writer, wide, namespaces bool) error {
	columns := r.columns(wide)
	if !namespaces {
		columns = slices.DeleteFunc(columns, func(c column) bool { return c.key == keyNamespace })
	}
	rows := r.cells(columns)
	widths := make([]int, len(columns))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			switch {
			case i == len(row)-1:
				b.WriteString(cell)
			case columns[i].number:
				b.WriteString(gap + cell + "   ")
			default:
				b.WriteString(cell + gap + "   ")
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for _, sentence := range r.Summary() {
		b.WriteString(sentence + "\n")
	}
	for _, hpa := range r.autoscalers() {
		b.WriteString(hpa + "\n")
	}
	for _, note := range r.Notes {
		b.WriteString("Note: " + clean(note) + "\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

// autoscalers says which HPAs must change along.
func (r *Report) autoscalers() []string {
	var list []string
	for i := range r.Workloads {
		w := &r.Workloads[i]
		if w.Autoscaler == nil {
			continue
		}
		for _, m := range w.Autoscaler.Metrics {
			of := m.Resource
			if m.Container != "" {
				of += " of " + m.Container
			}
			list = append(list, clean(fmt.Sprintf("HorizontalPodAutoscaler %s/%s scales on %s: its target must go from %d%% to %d%% with the new requests: %s",
				w.Namespace, w.Autoscaler.Name, of, m.Now, m.Recommended, w.Autoscaler.Message)))
		}
	}
	return list
}

// WriteMarkdown writes the report as a table of GitHub's Markdown, for issues and pull requests.
func (r *Report) WriteMarkdown(w io.Writer) error {
	columns := r.columns(false)
	var b strings.Builder
	b.WriteString("### Recommended requests\n\n")
	for _, sentence := range r.Summary() {
		b.WriteString(markdown(sentence) + "\n")
	}
	b.WriteString("\n")
	for i, row := range r.cells(columns) {
		for _, cell := range row {
			if i == 0 {
				cell = sentence(cell)
			} else {
				cell = markdown(cell)
			}
			b.WriteString("| " + cell + " ")
		}
		b.WriteString("|\n")
		if i > 0 {
			continue
		}
		for j := range columns {
			if columns[j].number {
				b.WriteString("| ---: ")
			} else {
				b.WriteString("| --- ")
			}
		}
		b.WriteString("|\n")
	}
	for _, text := range slices.Concat(r.autoscalers(), r.Notes) {
		b.WriteString("\n- " + markdown(clean(text)))
	}
	if _, err := io.WriteString(w, strings.TrimRight(b.String(), "\n")+"\n"); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

// markdown escapes what would be markup, a cell's end, a mention or HTML.
func markdown(text string) string {
	return strings.NewReplacer(
		`\`, `\\`, "|", `\|`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "~", `\~`, "$", `\$`, "#", `\#`, "@", "@\u200b",
		"<", "&lt;", ">", "&gt;", "&", "&amp;", "\n", " ", "\r", " ",
	).Replace(text)
}

// sentence writes a terminal's heading for a page: "RISK NOW" as "Risk now".
func sentence(heading string) string { return heading[:1] + strings.ToLower(heading[1:]) }

// field is a column of the CSV.
type field struct {
	name string
	of   func(*line) string
}

// WriteCSV writes a row for each resource of each container, as in RFC 4180. CPU is in cores, memory in bytes; of GPUs request
// and recommended are in whole GPUs, lower and upper in bytes of memory. What is not known is empty.
func (r *Report) WriteCSV(w io.Writer) error {
	fields := r.fields()
	out := csv.NewWriter(w)
	out.UseCRLF = true
	row := make([]string, len(fields))
	for i := range fields {
		row[i] = fields[i].name
	}
	_ = out.Write(row) // an error stays with the writer
	for _, l := range r.lines() {
		for i := range fields {
			row[i] = fields[i].of(&l)
		}
		_ = out.Write(row)
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

func (r *Report) fields() []field {
	container := func(of func(*Container) string) func(*line) string {
		return func(l *line) string {
			if l.container == nil {
				return ""
			}
			return inert(of(l.container))
		}
	}
	number := func(of func(*line) float64) func(*line) string {
		return func(l *line) string { return plain(of(l)) }
	}
	advice := func(of func(*Advice) *float64) func(*line) string {
		return number(func(l *line) float64 { return l.number(of) })
	}
	replay := func(of func(*Advice) *Replay, value func(*Replay) float64) func(*line) string {
		return func(l *line) string {
			if l.advice == nil || of(l.advice) == nil {
				return ""
			}
			return plain(value(of(l.advice)))
		}
	}
	now, then := func(a *Advice) *Replay { return a.Now }, func(a *Advice) *Replay { return a.Then }
	over := func(p *Replay) float64 { return p.Over }
	excess := func(p *Replay) float64 { return p.Excess }
	kills := func(p *Replay) float64 { return float64(p.Kills) }
	list := []field{
		{"namespace", func(l *line) string { return inert(l.workload.Namespace) }},
		{"kind", func(l *line) string { return inert(l.workload.WorkloadOf) }},
		{"name", func(l *line) string { return inert(l.workload.Name) }},
		{"replicas", number(replicasOf)},
		{"container", container(func(c *Container) string { return c.Name })},
		{"type", container(func(c *Container) string { return c.Type })},
		{"node_class", container(func(c *Container) string { return c.NodeClass })},
		{"resource", func(l *line) string { return absent(resourceCell(l)) }},
		{"request", number(nowOf)},
		{"limit", advice(func(a *Advice) *float64 { return a.Limit })},
		{"recommended", number(recommendedOf)},
		{"recommended_limit", advice(func(a *Advice) *float64 { return a.RecommendedLimit })},
		{"lower", number(func(l *line) float64 { lower, _, _ := l.bounds(); return orNaN(lower) })},
		{"upper", number(upperOf)},
		{"startup", advice(func(a *Advice) *float64 { return a.Startup })},
		{"gpu_now", func(l *line) string { return ofGPU(l, nowCell) }},
		{"gpu_recommended", func(l *line) string { return ofGPU(l, recommendedCell) }},
		{"verdict", func(l *line) string { return string(l.verdict()) }},
		{"over_percent_now", replay(now, over)},
		{"excess_percent_now", replay(now, excess)},
		{"kills_now", replay(now, kills)},
		{"over_percent_then", replay(then, over)},
		{"excess_percent_then", replay(then, excess)},
		{"kills_then", replay(then, kills)},
		{"gpu_risk_percent_a_day", func(l *line) string {
			if g := l.gpu(); g != nil {
				return plain(orNaN(g.Risk))
			}
			return ""
		}},
		{"saved", number(func(l *line) float64 {
			if g := l.gpu(); g != nil {
				return orNaN(g.Saved)
			}
			return l.number(func(a *Advice) *float64 { return a.Saved })
		})},
	}
	if r.Prices != nil {
		list = append(list,
			field{"money_per_month", number(func(l *line) float64 { return orNaN(l.money()) })},
			field{"currency", func(*line) string { return inert(r.Prices.Currency) }})
	}
	return append(list,
		field{"evidence_hours", func(l *line) string {
			if e := l.evidence(); e != nil {
				return strconv.Itoa(e.Hours)
			}
			return ""
		}},
		field{"ready_at", func(l *line) string { return stamp(l.readyAt()) }},
		field{"why", func(l *line) string { return inert(absent(whyCell(l))) }})
}

func (l *line) readyAt() *time.Time {
	if g := l.gpu(); g != nil {
		return g.ReadyAt
	}
	if l.advice != nil {
		return l.advice.ReadyAt
	}
	return l.workload.ReadyAt
}

func ofGPU(l *line, cell func(*line) string) string {
	if l.gpu() == nil {
		return ""
	}
	return inert(absent(cell(l)))
}

func stamp(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func absent(text string) string {
	if text == none {
		return ""
	}
	return text
}

// plain writes a number for programs: the shortest that reads as the same.
func plain(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// inert keeps a spreadsheet from taking a text for a formula.
func inert(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
