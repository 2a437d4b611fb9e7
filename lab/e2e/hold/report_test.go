package hold

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// row is what one directive did.
type row struct {
	file, did, saw string
	last, took     time.Duration // of the last death; until settled
}

// report collects the rows of files that run side by side.
type report struct {
	mu   sync.Mutex
	rows []row
}

func (r *report) add(one row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, one)
}

// files counts the files that have rows.
func (r *report) files() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]bool{}
	for _, one := range r.rows {
		seen[one.file] = true
	}
	return len(seen)
}

// sorted keeps the order within a file.
func (r *report) sorted() []row {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.rows)
	slices.SortStableFunc(out, func(a, b row) int { return cmp.Compare(a.file, b.file) })
	return out
}

func (r *report) print(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, one := range r.sorted() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", one.file, one.did, strings.Join(lines(one.saw), "; "), seconds(one))
	}
	_ = w.Flush() // a buffer takes everything
	t.Logf("\n%s", b.String())
}

func seconds(r row) string {
	if r.last > 0 {
		return fmt.Sprintf("%.1f s, last death %.1f s", r.took.Seconds(), r.last.Seconds())
	}
	return fmt.Sprintf("%.1f s", r.took.Seconds())
}

func lines(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }

const (
	beginMark = "<!-- begin: written by make test-hold -->"
	endMark   = "<!-- end -->"
)

// write replaces what stands between the marks of a document by a table for each file.
func (r *report) write(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot write what was seen: %w", err)
	}
	before, rest, ok := strings.Cut(string(raw), beginMark)
	_, after, closed := strings.Cut(rest, endMark)
	if !ok || !closed {
		return errors.New("cannot write what was seen: " + path + " lacks the marks")
	}
	var b strings.Builder
	b.WriteString(before + beginMark + "\n")
	last := ""
	for _, one := range r.sorted() {
		if one.file != last {
			fmt.Fprintf(&b, "\n### %s\n\n| what was done | what was seen | settled |\n|---|---|---|\n", one.file)
			last = one.file
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(one.did), cell(strings.Join(lines(one.saw), "<br>")), seconds(one))
	}
	b.WriteString("\n" + endMark + after)
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write what was seen: %w", err)
	}
	return nil
}

func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
