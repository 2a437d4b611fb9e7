package app

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/term"

	"headroom.dev/headroom/scaler/report"
)

// progress tells on the error output how far long work has come: on a terminal in one line that changes, elsewhere at most
// once every ten seconds.
type progress struct {
	mu       sync.Mutex
	w        io.Writer
	now      func() time.Time
	terminal bool
	shown    time.Time
	began    time.Time
}

func newProgress(w io.Writer, now func() time.Time) *progress {
	p := &progress{w: w, now: now, began: now()}
	if f, ok := w.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd()))
	}
	p.shown = p.began
	return p
}

// step says that of all, done are done.
func (p *progress) step(what string, done, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	pause := 10 * time.Second
	if p.terminal {
		pause = 100 * time.Millisecond
	}
	if now.Sub(p.shown) < pause {
		return
	}
	p.shown = now
	text := fmt.Sprintf("%d of %d after %s: %s", done, all, now.Sub(p.began).Round(time.Second), what)
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%.100s", text)
		return
	}
	fmt.Fprintln(p.w, text)
}

// done clears the line.
func (p *progress) done() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// pageFile is a page that is there whole or not at all. It is created first, because it would be a pity to find only after
// minutes that it cannot be.
type pageFile struct {
	path string
	temp *os.File
}

func createPage(path string) (*pageFile, error) {
	if path == "" {
		return &pageFile{}, nil
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, fmt.Errorf("--html: %s is a directory", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".backtest-*.html")
	if err != nil {
		return nil, fmt.Errorf("--html: %w", err)
	}
	return &pageFile{path: path, temp: f}, nil
}

func (p *pageFile) write(r *report.Report) error {
	if p.temp == nil {
		return nil
	}
	if err := r.WriteHTML(p.temp); err != nil {
		return fmt.Errorf("--html: %w", err)
	}
	if err := p.temp.Chmod(0o644); err != nil {
		return fmt.Errorf("--html: %w", err)
	}
	if err := p.temp.Close(); err != nil {
		return fmt.Errorf("--html: %w", err)
	}
	if err := os.Rename(p.temp.Name(), p.path); err != nil {
		return fmt.Errorf("--html: %w", err)
	}
	p.temp = nil
	return nil
}

// discard removes what was not written whole.
func (p *pageFile) discard() {
	if p.temp != nil {
		_ = p.temp.Close()
		_ = os.Remove(p.temp.Name())
	}
}
