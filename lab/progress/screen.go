package progress

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Table is drawn over its last drawing on a terminal.
type Table struct {
	w     io.Writer
	drawn int // lines of the last drawing
}

// NewTable returns a table that was not drawn yet.
func NewTable(w io.Writer) *Table { return &Table{w: w} }

// Draw shows rows, of any number, in the place of those shown last.
func (t *Table) Draw(rows []string) {
	if t.drawn > 0 {
		fmt.Fprintf(t.w, "\x1b[%dA", t.drawn)
	}
	for _, row := range rows {
		fmt.Fprintf(t.w, "\r\x1b[K%s\n", row)
	}
	fmt.Fprint(t.w, "\x1b[J")
	t.drawn = len(rows)
}

// Clock writes a duration as minutes and seconds, "3:07".
func Clock(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// Bar draws how much of length is done, width characters wide without its brackets.
func Bar(done, length time.Duration, width int) string {
	n := min(width, int(float64(width)*done.Seconds()/length.Seconds()))
	return "[" + strings.Repeat("=", n) + strings.Repeat(" ", width-n) + "]"
}

// Shorten cuts a text to n characters, the last of them an ellipsis.
func Shorten(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n-1]) + "…"
}
