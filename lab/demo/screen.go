package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"headroom.dev/headroom/lab/load"
	"headroom.dev/headroom/lab/observe"
	"headroom.dev/headroom/lab/progress"
)

// frame is what one moment looks like.
type frame struct {
	elapsed, length time.Duration
	phase           phase
	load            load.Window
	wanted          int32
	pods            observe.Pods
	readings        []reading
	rescales        []observe.Rescale
}

// reading is a metric with the HPA's target; target 0 = the HPA does not use it.
type reading struct {
	name   string
	target float64
	last   observe.Reading
	known  bool
}

func (r reading) mean() string {
	if !r.known || r.last.Missing != "" {
		return "-"
	}
	return fmt.Sprintf("%.1f", r.last.Mean)
}

// screen shows frames: on a terminal one table that is drawn over the last one, elsewhere a line every plainEvery.
type screen struct {
	w        io.Writer
	terminal bool
	table    *progress.Table
	told     int    // rescales that have been printed
	phase    string // that was last printed
	last     time.Duration
}

const plainEvery = 5 * time.Second

func (s *screen) show(f frame) {
	if s.terminal {
		s.draw(f)
		return
	}
	for _, e := range f.rescales[s.told:] {
		fmt.Fprintf(s.w, "%s  HPA: New size: %d; reason: %s\n", progress.Clock(f.elapsed), e.Size, e.Reason)
	}
	s.told = len(f.rescales)
	if s.phase != f.phase.name {
		fmt.Fprintf(s.w, "%s  load: %.0f/s of %d tokens, %s\n", progress.Clock(f.elapsed), f.phase.rate, f.phase.tokens, f.phase.name)
		s.phase, s.last = f.phase.name, 0
	}
	if s.last != 0 && f.elapsed-s.last < plainEvery {
		return
	}
	s.last = f.elapsed
	fmt.Fprintln(s.w, line(f))
}

func line(f frame) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  demand %4.1f/s  replicas wanted %d ready %d loading %d  p95 %s", progress.Clock(f.elapsed), f.phase.rate,
		f.wanted, f.pods.Ready, f.pods.Loading, f.load.P95())
	for _, r := range f.readings {
		if r.target == 0 {
			continue // the measured p95 says it already, and lines are short of room
		}
		fmt.Fprintf(&b, "  %s %s", r.name, r.mean())
		if r.known && r.last.Missing == "" {
			fmt.Fprintf(&b, "/%.0f (%.0fs old)", r.target, r.last.Age.Seconds())
		}
	}
	return b.String()
}

func (s *screen) draw(f frame) {
	if s.table == nil {
		s.table = progress.NewTable(s.w)
	}
	s.table.Draw(table(f))
}

// table is the live table, a row per line.
func table(f frame) []string {
	rows := []string{
		fmt.Sprintf("Headroom demo  %s of %s  %s %s", progress.Clock(f.elapsed), progress.Clock(f.length), progress.Bar(f.elapsed, f.length, 30), f.phase.name),
		"",
		fmt.Sprintf("demand     %5.1f req/s of %d tokens   sent %.1f/s   answered %.1f/s   p95 %s   %s",
			f.phase.rate, f.phase.tokens, f.load.Sent, f.load.OK, f.load.P95(), failed(f.load)),
		fmt.Sprintf("replicas   wanted %-3d ready %-3d loading %-3d %s", f.wanted, f.pods.Ready, f.pods.Loading,
			strings.Repeat("█", f.pods.Ready)+strings.Repeat("░", f.pods.Loading)),
		"",
		fmt.Sprintf("%-26s %10s %10s %6s %6s", "metric (mean over pods)", "value", "target", "pods", "age"),
	}
	for _, r := range f.readings {
		target := "-"
		if r.target > 0 {
			target = fmt.Sprintf("%.0f", r.target)
		}
		row := fmt.Sprintf("%-26s %10s %10s", r.name, r.mean(), target)
		switch {
		case !r.known:
		case r.last.Missing != "":
			row += "  " + progress.Shorten(r.last.Missing, 70)
		default:
			row += fmt.Sprintf(" %6d %5.1fs", r.last.Pods, r.last.Age.Seconds())
		}
		rows = append(rows, row)
	}
	rows = append(rows, "")
	for _, e := range f.rescales[max(0, len(f.rescales)-6):] {
		rows = append(rows, fmt.Sprintf("%s  HPA: New size: %d; reason: %s", e.Time.Format(time.TimeOnly), e.Size, e.Reason))
	}
	return rows
}

func failed(w load.Window) string {
	n := 0
	for _, count := range w.Failures {
		n += count
	}
	if n == 0 {
		return "no errors"
	}
	return fmt.Sprintf("%d failed", n)
}
