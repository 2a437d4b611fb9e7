package compare

import (
	"fmt"
	"io"
	"strings"
	"time"

	"headroom.dev/headroom/lab/load"
	"headroom.dev/headroom/lab/progress"
)

// frame is what one moment looks like.
type frame struct {
	scenario Scenario
	elapsed  time.Duration
	demand   float64
	state    state
	windows  map[Side]load.Window
	today    map[Side]Tally // requests due today that have ended
	before   map[Side]Tally // of the judged days before today
	changes  []string       // of replicas, oldest first
}

// screen shows frames: on a terminal one table that is drawn over the last one, elsewhere a line every plainEvery and one for
// each change.
type screen struct {
	w        io.Writer
	terminal bool
	table    *progress.Table
	told     int // changes that have been printed
	last     time.Duration
	began    bool
}

const (
	plainEvery  = 10 * time.Second
	shownChange = 6
)

func (s *screen) show(f frame) {
	if s.terminal {
		if s.table == nil {
			s.table = progress.NewTable(s.w)
		}
		s.table.Draw(table(f))
		return
	}
	for _, text := range f.changes[s.told:] {
		fmt.Fprintln(s.w, text)
	}
	s.told = len(f.changes)
	if s.began && f.elapsed-s.last < plainEvery {
		return
	}
	s.began, s.last = true, f.elapsed
	fmt.Fprintln(s.w, line(f))
}

func line(f frame) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  demand %4.1f/s needs %d", progress.Clock(f.elapsed), f.when(), f.demand, needed(f.demand))
	for _, side := range sides() {
		c, t := f.state.counts[side], f.today[side]
		fmt.Fprintf(&b, "  |  %s: wanted %d ready %d loading %d, today late %d failed %d", side, f.state.wanted[side], c.Ready, c.Loading, t.Late, t.Failed)
	}
	if f.state.policy.limit != "" {
		fmt.Fprintf(&b, "  |  limit %s", f.state.policy.limit)
	}
	return b.String()
}

// when is the day and its hour: "day 3 07:12".
func (f frame) when() string {
	return fmt.Sprintf("day %d %s", f.scenario.day(f.elapsed)+1, f.scenario.hour(min(f.elapsed, f.scenario.length()-1)))
}

// table is the live table, a row per line.
func table(f frame) []string {
	kind := "learning, not judged"
	if f.scenario.judged(f.scenario.day(f.elapsed)) {
		kind = "judged"
	}
	rows := []string{
		fmt.Sprintf("Headroom scaler demo  %s of %s  %s %s (of %d; %s)", progress.Clock(f.elapsed), progress.Clock(f.scenario.length()),
			progress.Bar(f.elapsed, f.scenario.length(), 30), f.when(), f.scenario.Days, kind),
		"",
		fmt.Sprintf("demand %5.1f req/s to each, which needs %d replicas", f.demand, needed(f.demand)),
		"",
		fmt.Sprintf("%-12s %6s %5s %7s %9s %8s | today %5s %5s %6s %8s | judged days %s", "", "wanted", "ready", "loading", "answered", "p95",
			"sent", "late", "failed", "on time", "late + failed before today"),
	}
	for _, side := range sides() {
		c, w, t := f.state.counts[side], f.windows[side], f.today[side]
		rows = append(rows, fmt.Sprintf("%-12s %6d %5d %7d %7.1f/s %8s | %11d %5d %6d %8s | %d", side, f.state.wanted[side], c.Ready, c.Loading, w.OK, w.P95(),
			t.Requests, t.Late, t.Failed, percent(t.OnTime, t.Requests), f.before[side].missed()))
	}
	rows = append(rows, "")
	for _, side := range sides() {
		c := f.state.counts[side]
		rows = append(rows, fmt.Sprintf("%-12s %s", side, strings.Repeat("█", c.Ready)+strings.Repeat("░", c.Loading)))
	}
	rows = append(rows, "", "policy       "+progress.Shorten(f.policy(), 120), "")
	return append(rows, f.changes[max(0, len(f.changes)-shownChange):]...)
}

// policy is what the ScalePolicy says of itself.
func (f frame) policy() string {
	p := f.state.policy
	if p.limit == "" {
		return p.message
	}
	return fmt.Sprintf("%d replicas (%d by present demand), limit %s, forecasts in use at %d horizons: %s", p.desired, p.reactive, p.limit, p.skilful, p.message)
}

func (c change) text(began time.Time, s Scenario) string {
	at := max(0, c.when.Sub(began))
	return fmt.Sprintf("%s  day %d %s  %s: %d → %d replicas", progress.Clock(at), s.day(at)+1, s.hour(at), c.side, c.from, c.to)
}
