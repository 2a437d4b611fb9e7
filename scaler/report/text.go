package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"headroom.dev/headroom/internal/svgplot"
)

const none = "-"

// headers are the columns of the summary, for terminals; hints explain them.
func headers() []column {
	return []column{
		{"POLICY", "", false},
		{"SETTING", "", false},
		{"ON TIME", "share of the requests that waited no longer than allowed", true},
		{"GPU-HOURS", "from the creation of each pod to its end, loading included", true},
		{"OF LIMIT", "GPU-hours as a share of those of the clairvoyant policy", true},
		{"UNDER", "share of the time with fewer replicas ready than needed", true},
		{"OVER", "share of the time with more replicas ready than needed", true},
		{"CHANGES", "how often the number of replicas asked for changed", true},
		{"KILLED LOADING", "pods ended before they had served", true},
		{"KILLED BUSY", "pods ended with requests that they could not finish within the drain time", true},
		{"WAIT P95", "how long the 95th of 100 requests waited for a place in a replica", true},
		{"P99", "how long the 99th of 100 requests waited", true},
	}
}

type column struct {
	name, hint string
	number     bool
}

// cells are a result's, one for each of headers.
func (r *Report) cells(x *Result) []string {
	limit := Absent()
	for _, other := range r.Chosen() {
		if other.Policy == Clairvoyant && other.GPUHours > 0 {
			limit = Number(x.GPUHours / other.GPUHours)
		}
	}
	return []string{
		clean(x.Policy), clean(x.Setting), share(x.Attainment, 2), hours(x.GPUHours), share(limit, 0),
		share(x.UnderTime, 1), share(x.OverTime, 1), strconv.Itoa(x.Changes), strconv.Itoa(x.KilledLoading), strconv.Itoa(x.KilledBusy),
		wait(x.WaitP95), wait(x.WaitP99),
	}
}

// WriteTable writes the summary for a terminal: what was replayed, one line for each policy, and what follows from it. With
// wide set it lists every setting that was tried.
func (r *Report) WriteTable(w io.Writer, wide bool) error {
	if err := r.Check(); err != nil {
		return err
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintf(t, "Trace:\t%s\n", r.Trace.describe())
	for i, line := range r.plantLines(90) {
		label := ""
		if i == 0 {
			label = "Plant:"
		}
		fmt.Fprintf(t, "%s\t%s\n", label, line)
	}
	fmt.Fprintf(t, "Scored:\t%s\n\n", r.scored())
	if err := t.Flush(); err != nil {
		return err
	}
	best, _ := r.Best()
	r.rows(&b, best, wide)
	fmt.Fprintf(&b, "\n%s\n", r.Verdict())
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "Note: %s\n", clean(note))
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return fmt.Errorf("cannot write the report: %w", err)
		}
	}
	return nil
}

// rows aligns numbers to the right; the best result bears a star.
func (r *Report) rows(b *strings.Builder, best *Result, wide bool) {
	var table [][]string
	header := []string{" "}
	for _, c := range headers() {
		header = append(header, c.name)
	}
	table = append(table, header)
	for i := range r.Results {
		x := &r.Results[i]
		if !x.Chosen && !wide {
			continue
		}
		mark := " "
		if x == best {
			mark = "*"
		} else if x.Chosen && wide {
			mark = "+"
		}
		table = append(table, append([]string{mark}, r.cells(x)...))
	}
	widths := make([]int, len(header))
	for _, row := range table {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for _, row := range table {
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			switch {
			case i == 0:
				b.WriteString(cell + gap + " ")
			case headers()[i-1].number:
				b.WriteString(gap + cell + "   ")
			default:
				b.WriteString(cell + gap + "   ")
			}
		}
		b.WriteString("\n")
	}
}

// Verdict says in a sentence which policy did best, and how far it is from the limit.
func (r *Report) Verdict() string {
	best, reached := r.Best()
	if best == nil {
		return "No policy was scored: there are no requests, or only the clairvoyant policy was asked for."
	}
	var b strings.Builder
	if reached {
		fmt.Fprintf(&b, "* %s serves %s on time with the fewest GPU-hours of the policies that reach the goal of %s: %s",
			clean(best.Policy), share(best.Attainment, 2), percent(r.Goal), hours(best.GPUHours))
	} else {
		fmt.Fprintf(&b, "* No policy reaches the goal of %s on time; %s comes nearest with %s, for %s GPU-hours",
			percent(r.Goal), clean(best.Policy), share(best.Attainment, 2), hours(best.GPUHours))
	}
	for _, x := range r.Chosen() {
		if x.Policy == Clairvoyant && x.GPUHours > 0 {
			fmt.Fprintf(&b, ", %s of the clairvoyant policy's %s", share(Number(best.GPUHours/x.GPUHours), 0), hours(x.GPUHours))
		}
	}
	return b.String() + "."
}

func (t *Trace) describe() string {
	parts := []string{clean(t.Name), svgplot.Duration(t.Seconds)}
	if !t.Start.IsZero() {
		parts[1] += " from " + t.Start.UTC().Format("2006-01-02 15:04") + " UTC"
	}
	if t.Step > 0 {
		parts[1] += " in steps of " + svgplot.Duration(t.Step)
	}
	parts = append(parts, fmt.Sprintf("%s requests, %s/s on average, %s/s at most", short(t.Requests), short(float64(t.Mean)), short(float64(t.Peak))))
	switch t.Gaps {
	case 0:
	case 1:
		parts = append(parts, "a gap of "+svgplot.Duration(t.GapSeconds))
	default:
		parts = append(parts, fmt.Sprintf("%d gaps of %s together", t.Gaps, svgplot.Duration(t.GapSeconds)))
	}
	return strings.Join(parts, "; ")
}

// plantLines joins the settings into lines of about width characters.
func (r *Report) plantLines(width int) []string {
	var lines []string
	line := ""
	for _, s := range r.Plant {
		text := clean(s.Name) + " " + clean(s.Value)
		if line != "" && len(line)+len(text) > width {
			lines = append(lines, line+",")
			line = ""
		}
		if line != "" {
			line += ", "
		}
		line += text
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

func (r *Report) scored() string {
	switch {
	case r.Tuned:
		return fmt.Sprintf("the last %s; each policy's setting is the one with the fewest GPU-hours that served %s on time in the first %s",
			svgplot.Duration(r.Trace.Seconds-r.Trace.ScoredFrom), percent(r.Goal), svgplot.Duration(r.Trace.ScoredFrom))
	case r.Trace.ScoredFrom > 0:
		return "the last " + svgplot.Duration(r.Trace.Seconds-r.Trace.ScoredFrom)
	}
	return "all of it"
}

// clean keeps what a terminal would act upon from reaching it: control characters.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// share writes a ratio in percent. It is cut, not rounded: 99.996% must not read 100.00%.
func share(n Number, decimals int) string {
	if !n.known() {
		return none
	}
	scale := math.Pow10(decimals)
	percent := float64(n) * 100
	if rounded := math.Round(percent*scale) / scale; rounded == 100 && n < 1 {
		return strconv.FormatFloat(100-1/scale, 'f', decimals, 64) + "%"
	}
	return strconv.FormatFloat(percent, 'f', decimals, 64) + "%"
}

// percent writes a ratio in percent with the digits that it has.
func percent(n Number) string {
	if !n.known() {
		return none
	}
	return strconv.FormatFloat(math.Round(float64(n)*1e6)/1e4, 'f', -1, 64) + "%"
}

func hours(v float64) string {
	if v < 99.95 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return svgplot.Thousands(v)
}

// short writes a number to three digits, and large ones whole.
func short(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return none
	}
	if math.Abs(v) >= 100 {
		return svgplot.Thousands(v)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func wait(n Number) string {
	switch {
	case !n.known():
		return none
	case n == 0:
		return "0s"
	case n < 10:
		return strconv.FormatFloat(float64(n), 'f', 1, 64) + "s"
	}
	return svgplot.Duration(math.Round(float64(n)))
}

// Duration writes a time as the reports do: 1h 30m.
func Duration(d time.Duration) string { return svgplot.Duration(d.Seconds()) }
