package screen

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Redraw returns what a terminal must be sent to show text where it shows the lines of the text before, and how many lines text
// then takes. Lines are cut at the width, and the text at the height less one line for the cursor: a line that the terminal broke,
// or scrolled away, could not be found again. A width or height of 0 is not known, and 80 by 24 is taken.
func Redraw(before int, text string, width, height int) (out string, lines int) {
	if width <= 0 {
		width = 80
	}
	if height <= 1 {
		height = 24
	}
	list := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if most := height - 1; len(list) > most {
		list = append(list[:most-1:most-1], fmt.Sprintf("… %d more lines", len(list)-most+1))
	}
	var b strings.Builder
	if before > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", before) // up, to the first line
	}
	b.WriteString("\r")
	for _, line := range list {
		b.WriteString("\x1b[K") // clears to the end of the line
		b.WriteString(cut(line, width))
		b.WriteString("\r\n")
	}
	b.WriteString("\x1b[J") // clears what a longer text left below
	return b.String(), len(list)
}

// cut shortens a line to a width.
func cut(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}
