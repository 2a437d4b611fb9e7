package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"headroom.dev/headroom/bench/result"
	"headroom.dev/headroom/scaler/simulate"
)

// line is a family at a goal: what was chosen by the first half, and what it did on the second.
type line struct {
	family       string
	chosen       simulate.Trial
	hours        float64
	againstHPA   float64 // of the HPA's hours
	againstLimit float64 // of the clairvoyant's
	// matched is the fewest hours of any setting with an attainment no lower than the HPA's, as a share of the HPA's: the
	// frontier at the HPA's attainment, known only afterwards. NaN where no setting reaches it.
	matched float64
}

// lines are the table of a contest at a goal.
func (c *contest) lines(goal float64) []line {
	best := map[string]simulate.Trial{}
	for name, trials := range c.trials {
		best[name], _ = simulate.Best(trials, goal)
	}
	if known, ok := simulate.BestKnown(c.trials[limit], goal); ok { // who knows the future knows the second half
		best[limit] = known
	}
	var list []line
	for _, name := range c.names {
		l := line{family: name, chosen: best[name], hours: best[name].Scored.ReplicaHours, matched: math.NaN()}
		l.againstHPA = l.hours / best[stock].Scored.ReplicaHours
		l.againstLimit = l.hours / best[limit].Scored.ReplicaHours
		for _, t := range c.trials[name] {
			if t.Scored.Attainment >= best[stock].Scored.Attainment && !(t.Scored.ReplicaHours/best[stock].Scored.ReplicaHours >= l.matched) {
				l.matched = t.Scored.ReplicaHours / best[stock].Scored.ReplicaHours
			}
		}
		list = append(list, l)
	}
	return list
}

// report writes the figures, and the table in Markdown.
func report(contests []*contest, o options) error {
	r := result.New("scaler")
	var table bytes.Buffer
	for _, goal := range goals() {
		fmt.Fprintf(&table, "\nTuned to %.4g %% of requests on time:\n\n", goal*100)
		fmt.Fprintln(&table, "| trace | start-up | policy | setting | on time, tuned | on time, scored | GPU-hours | of HPA's | of the limit | at HPA's on time | short of GPUs | changes | killed loading |")
		fmt.Fprintln(&table, "|---|---|---|---|---|---|---|---|---|---|---|---|---|")
		for _, c := range contests {
			lines := c.lines(goal)
			var hpa, own line
			for _, l := range lines {
				s := l.chosen.Scored
				fmt.Fprintf(&table, "| %s | %s | %s | %s | %s | %s | %.1f | %.2f | %.2f | %s | %.1f %% of time | %d | %d |\n", c.trace.Name, short(c.startUp), l.family, s.Setting,
					percent(l.chosen.Tuned.Attainment), percent(s.Attainment), l.hours, l.againstHPA, l.againstLimit, ratio(l.matched), 100*s.UnderTime, s.Changes, s.KilledLoading)
				switch l.family {
				case stock:
					hpa = l
				case ours:
					own = l
				}
			}
			c.figures(r, goal, hpa, own)
		}
	}
	if err := r.Print(os.Stdout); err != nil {
		return err
	}
	path, err := r.Write(o.results)
	if err != nil {
		return err
	}
	markdown := filepath.Join(o.results, "scaler.md")
	if err := os.WriteFile(markdown, table.Bytes(), 0o644); err != nil { //nolint:gosec // a report that anybody may read
		return fmt.Errorf("cannot write the table: %w", err)
	}
	pictures, err := draw(contests, o.results)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "\nwritten: %s, %s, %s\n", path, markdown, pictures)
	return nil
}

// figures are those with a goal. Hours only count as few where no fewer requests are on time than with the HPA, or as many as
// were asked for.
func (c *contest) figures(r *result.Result, goal float64, hpa, own line) {
	name := fmt.Sprintf("%s, start-up %s, %.4g %%", c.trace.Name, short(c.startUp), goal*100)
	a, b := own.chosen.Scored.Attainment, hpa.chosen.Scored.Attainment
	r.AddAtLeast(name+": on time, HPA has "+percent(b), 100*a, "%", math.Floor(1e4*min(b, goal))/100)
	bound := 1.02
	if c.trace.cyclic() {
		bound = 0.8
	}
	r.AddAtMost(name+": GPU-hours of the HPA's", own.againstHPA, "", bound)
	r.Add(name+": GPU-hours of the HPA's at its share on time, afterwards", own.matched, "")
	if c.startUp == 3*time.Minute && c.trace.cyclic() {
		r.AddAtMost(name+": GPU-hours of the clairvoyant's", own.againstLimit, "", 1.15)
	}
}

func percent(share float64) string { return fmt.Sprintf("%.2f %%", 100*share) }

func ratio(v float64) string {
	if math.IsNaN(v) {
		return "none"
	}
	return fmt.Sprintf("%.2f", v)
}

func short(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }
