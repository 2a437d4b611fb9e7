package explain

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/cli-runtime/pkg/printers"

	"headroom.dev/headroom/api/query"
)

const none = "-" // what stands for a missing value

// Table writes rows in aligned columns, as kubectl does. Line breaks in cells would break the table, and are spaces; a cell
// that begins with spaces is indented by them.
func Table(w io.Writer, indent string, rows [][]string) error {
	t := printers.GetNewTabWriter(w)
	for _, row := range rows {
		for i, cell := range row {
			inside := strings.TrimLeft(cell, " ")
			row[i] = cell[:len(cell)-len(inside)] + strings.Join(strings.Fields(inside), " ")
		}
		if _, err := fmt.Fprintln(t, indent+strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

// Write writes the report for people; wide adds every rule and what each says of each object.
func (h *HPA) Write(w io.Writer, wide bool) error {
	var b strings.Builder
	if err := h.write(&b, wide); err != nil {
		return err
	}
	return flush(w, &b)
}

// flush leaves out the blanks that padded columns end with.
func flush(w io.Writer, b *strings.Builder) error {
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func (h *HPA) write(w io.Writer, wide bool) error {
	last := "never"
	if h.Status.LastScale != nil {
		last = Age(h.At.Sub(*h.Status.LastScale).Seconds()) + " ago"
	}
	pods := ""
	if p := h.Target.Pods; p != nil {
		pods = fmt.Sprintf(" (%s: %d ready, %d pending, %d going)", count(p.All, "pod"), p.Ready, p.Pending, p.Over)
	}
	rows := [][]string{
		{"HPA:", h.Namespace + "/" + h.Name},
		{"Target:", fmt.Sprintf("%s %s, %s%s", h.Target.Kind, h.Target.Name, count(int(h.Target.Replicas), "replica"), pods)},
		{"Limits:", fmt.Sprintf("%d to %d replicas", h.Min, h.Max)},
		{"Last look:", fmt.Sprintf("%d replicas, desired %d; last scaled %s", h.Status.Current, h.Status.Desired, last)},
		{"Scale up:", h.Behavior.Up.Text},
		{"Scale down:", h.Behavior.Down.Text},
	}
	if err := Table(w, "", rows); err != nil {
		return err
	}
	for i := range h.Metrics {
		if err := h.Metrics[i].write(w, wide); err != nil {
			return err
		}
	}
	if err := h.writeConditions(w); err != nil {
		return err
	}
	for _, note := range h.Notes {
		fmt.Fprintf(w, "\nNote: %s\n", note)
	}
	_, err := fmt.Fprintf(w, "\n%s %s.\n", h.Name, h.Verdict.Sentence)
	return err
}

func (h *HPA) writeConditions(w io.Writer) error {
	if len(h.Conditions) == 0 {
		_, err := fmt.Fprintln(w, "\nConditions: none; the HPA controller has not looked yet")
		return err
	}
	rows := [][]string{{"CONDITION", "STATUS", "AGE", "REASON", "MESSAGE"}}
	for _, c := range h.Conditions {
		rows = append(rows, []string{c.Type, c.Status, Age(h.At.Sub(c.Since).Seconds()), c.Reason, c.Message})
	}
	fmt.Fprintln(w)
	return Table(w, "", rows)
}

func (m *Metric) write(w io.Writer, wide bool) error {
	selected := ""
	if m.Selector != "" {
		selected = " {" + m.Selector + "}"
	}
	fmt.Fprintf(w, "\nMetric %s%s of %s, target %s %s\n", m.Name, selected, m.Of, m.TargetType, WithUnit(float64(m.Target), m.Unit))
	if m.Partial != "" {
		fmt.Fprintf(w, "  Rules and reasons are not known: %s\n", m.Partial)
	}
	if err := writeRules(w, m.Rules, m.Objects, wide); err != nil {
		return err
	}
	if len(m.Objects) > 0 {
		header := []string{"NAME", "VALUE", "AGE", "WINDOW", "RULE", "COUNTED", "REASON"}
		if m.Type == "External" {
			header[0] = "SERIES"
		}
		rows := [][]string{header}
		for i := range m.Objects {
			o := &m.Objects[i]
			counted := o.Counted
			if o.As != nil {
				counted += " as " + WithUnit(float64(*o.As), m.Unit)
			}
			rows = append(rows, append(cells(&o.Object, m.Unit), counted, o.Reason))
			if wide {
				rows = append(rows, candidates(&o.Object, m.Unit)...)
			}
		}
		if err := Table(w, "  ", rows); err != nil {
			return err
		}
	}
	var err error
	switch {
	case m.Proposal != nil:
		_, err = fmt.Fprintf(w, "  %s\n", m.Proposal.Text)
	case m.Error != "":
		_, err = fmt.Fprintf(w, "  no proposal: %s\n", m.Error)
	default:
		_, err = fmt.Fprintf(w, "  not known: %s\n", m.Unread)
	}
	return err
}

// cells are NAME to RULE.
func cells(o *query.Object, unit string) []string {
	name := o.Name
	if name == "" {
		name = series(o.Labels)
	}
	return append([]string{name}, valueCells(o.Value, unit)...)
}

func valueCells(v *query.Value, unit string) []string {
	if v == nil {
		return []string{none, none, none, none}
	}
	window := none
	if v.Window > 0 {
		window = Age(v.Window)
	}
	rule := v.Rule
	if v.Fallback != "" {
		rule += " (" + v.Fallback + ")"
	}
	if rule == "" {
		rule = none
	}
	return []string{WithUnit(float64(v.Value), unit), Age(v.Age), window, rule}
}

// candidates are a row for each rule that was asked.
func candidates(o *query.Object, unit string) [][]string {
	var rows [][]string
	for _, c := range o.Rules {
		v := valueCells(c.Value, unit)
		rows = append(rows, []string{"  asked:", v[0], v[1], v[2], c.Rule, "", c.Reason})
	}
	return rows
}

func series(labels map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, fmt.Sprintf("%s=%q", name, labels[name]))
	}
	return "{" + strings.Join(list, ",") + "}"
}

// writeRules lists the rules that gave a value or fail, and says how many others there are; wide lists all.
func writeRules(w io.Writer, rules []query.Rule, objects []Object, wide bool) error {
	if len(rules) == 0 {
		return nil
	}
	gave := map[string]int{}
	for i := range objects {
		if v := objects[i].Value; v != nil {
			gave[v.Rule]++
		}
	}
	rows := [][]string{{"RULE", "ORIGIN", "SOURCE", "MAX AGE", "GIVES", "STATUS"}}
	if wide {
		rows[0] = append(rows[0], "EXPR")
	}
	others := 0
	for i := range rules {
		r := &rules[i]
		if gave[r.Name] == 0 && r.Error == "" && !wide {
			others++
			continue
		}
		row := []string{r.Name, r.Origin, r.Source, Age(r.MaxAge), count(gave[r.Name], "value"), RuleStatus(r)}
		if wide {
			row = append(row, r.Expr)
		}
		rows = append(rows, row)
	}
	if len(rows) > 1 {
		if err := Table(w, "  ", rows); err != nil {
			return err
		}
	}
	if others > 0 {
		fmt.Fprintf(w, "  %s that give%s no value here: -o wide lists them\n", count(others, "more rule"), map[bool]string{true: "s"}[others == 1])
	}
	return nil
}

// RuleStatus is one word, or why the rule has no values.
func RuleStatus(r *query.Rule) string {
	if r.Error != "" {
		return r.Error
	}
	if len(r.Notes) > 0 {
		return "OK, but " + strings.Join(r.Notes, "; ")
	}
	if r.Evaluated == nil {
		return "not evaluated yet"
	}
	return "OK"
}

// Duration writes how long something took.
func Duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d <= 0:
		return none
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Microsecond * 100).String()
	}
	return d.Round(time.Millisecond * 10).String()
}
