// Package progress tells a person what a long start is doing: on a terminal one line that is rewritten until its step
// is done, elsewhere (CI, a file) one plain line when a step starts, one every ten seconds while it runs, and one when
// it is done. Safe for concurrent use.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// plainEvery is how often a running step prints where lines cannot be rewritten.
const plainEvery = 10 * time.Second

// Printer writes steps to one writer.
type Printer struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	open     bool // the terminal's last line has no newline yet
}

// New returns a Printer on w; w counts as a terminal if it is a file that is one.
func New(w io.Writer) *Printer {
	f, ok := w.(*os.File)
	return &Printer{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// Line prints one finished line.
func (p *Printer) Line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.open = false
	}
	fmt.Fprintf(p.w, format+"\n", args...)
}

// Step starts a step that takes a while.
func (p *Printer) Step(name string) *Step {
	s := &Step{p: p, name: name, began: time.Now()}
	s.Update("")
	return s
}

// Step is one thing under way.
type Step struct {
	p     *Printer
	name  string
	began time.Time
	last  time.Time // when a plain line was last printed
}

// Update replaces what is said of the step.
func (s *Step) Update(detail string) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	text := fmt.Sprintf("  %-28s %s", s.name, detail)
	if s.p.terminal {
		fmt.Fprintf(s.p.w, "\r\x1b[K%s (%s)", text, time.Since(s.began).Round(time.Second))
		s.p.open = true
		return
	}
	if !s.last.IsZero() && time.Since(s.last) < plainEvery {
		return
	}
	s.last = time.Now()
	if detail == "" {
		detail = "…"
	}
	fmt.Fprintf(s.p.w, "  %-28s %s\n", s.name, detail)
}

// Done ends the step with a result.
func (s *Step) Done(result string) {
	s.p.Line("  %-28s %s (%s)", s.name, result, time.Since(s.began).Round(100*time.Millisecond))
}
