// Package screen writes rollouts for people: where an update stands, how it is planned, what became of it, and how a terminal is
// redrawn with it. Objects, a time and a width go in, text comes out; nothing is read and nothing is written.
package screen

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// gap is between two columns: the widest plan of a canary then fits into 80 columns.
	gap = 2
	// narrowest is the least that is left to a last column; where there is less, its long cells stand below their rows.
	narrowest = 12
	// inside is how far they then are indented.
	inside = 4
)

// page is text as wide as a terminal. A width of 0 is any: what goes into a pipe is not wrapped.
type page struct {
	strings.Builder

	width int
}

func (p *page) line(text string) {
	fmt.Fprintln(p, strings.TrimRight(text, " "))
}

// space parts two blocks.
func (p *page) space() {
	if p.Len() > 0 {
		p.line("")
	}
}

// field is a name and what it has; several values stand below each other.
type field struct {
	name   string
	values []string
}

func one(name, value string) field { return field{name, []string{value}} }

// items are a list's.
func items(name string, list []string) field {
	f := field{name: name}
	for _, item := range list {
		f.values = append(f.values, "- "+item)
	}
	return f
}

// fields writes "Name:  value" lines, all values below each other; those without a value are left out.
func (p *page) fields(list ...field) {
	var rows [][]string
	for _, f := range list {
		name := f.name + ":"
		for _, value := range f.values {
			if value != "" {
				rows = append(rows, []string{name, clean(value)})
				name = ""
			}
		}
	}
	p.columns(rows)
}

// table writes rows of which the first is the header. Columns in which no row has anything are left out; where rows are wider
// than the page, their last cell is wrapped below itself.
func (p *page) table(rows [][]string) {
	if len(rows) < 2 {
		return
	}
	used := make([]bool, len(rows[0]))
	for _, row := range rows[1:] {
		for i, cell := range row {
			used[i] = used[i] || strings.Trim(cell, "- ") != ""
		}
	}
	kept := make([][]string, 0, len(rows))
	for _, row := range rows {
		var cells []string
		for i, cell := range row {
			if used[i] {
				cells = append(cells, clean(cell))
			}
		}
		kept = append(kept, cells)
	}
	p.columns(kept)
}

// clean leaves no control character of a message to the terminal, and no line break to the table.
func clean(cell string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, cell)
}

func (p *page) columns(rows [][]string) {
	if len(rows) == 0 || len(rows[0]) == 0 {
		return
	}
	last := len(rows[0]) - 1
	widths := make([]int, last)
	for _, row := range rows {
		for i, cell := range row[:last] {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	start := 0
	for _, w := range widths {
		start += w + gap
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row[:last] {
			b.WriteString(cell)
			b.WriteString(strings.Repeat(" ", widths[i]+gap-utf8.RuneCountInString(cell)))
		}
		p.last(b.String(), row[last], start)
	}
}

// last ends a row with its last cell, which starts at a column.
func (p *page) last(row, cell string, start int) {
	room := p.width - start
	switch {
	case p.width == 0 || utf8.RuneCountInString(cell) <= room:
		p.line(row + cell)
	case room < narrowest:
		p.line(row)
		for _, part := range wrap(cell, p.width-inside) {
			p.line(strings.Repeat(" ", inside) + part)
		}
	default:
		for i, part := range wrap(cell, room) {
			if i > 0 {
				row = strings.Repeat(" ", start)
			}
			p.line(row + part)
		}
	}
}

// wrap breaks text at blanks into lines of at most width; a word that is longer stays whole.
func wrap(text string, width int) []string {
	words := strings.Fields(text)
	if len(words) == 0 {
		return []string{""}
	}
	lines, line := []string(nil), words[0]
	for _, word := range words[1:] {
		if utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), word
			continue
		}
		line += " " + word
	}
	return append(lines, line)
}
