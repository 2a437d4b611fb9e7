package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"headroom.dev/headroom/bench/result"
	"headroom.dev/headroom/lab/demo/update"
)

// brief is an outcome in a line.
func brief(o update.Outcome) string {
	text := fmt.Sprintf("%s after %.0f s: at least %d serve, %d GPUs, of %d requests %d failed and %d late", o.End, o.Seconds, o.Least, o.Held, o.Requests, o.Failed, o.Late)
	if o.Plan != "" {
		text += "; planned " + o.Plan
	}
	if o.Why != "" {
		text += "; " + o.Why
	}
	return text
}

// report prints the table and writes the figures.
func report(w io.Writer, o options, all []update.Outcome, took time.Duration) error {
	r := result.New("rollout-lab")
	fmt.Fprintf(w, "\nupdates of %d × 1 GPU, start-up %s and drain %s (a %dth of 180 s and 30 s); a replica serves %g requests/s within %s\n\n",
		replicas, update.StartUp, update.Drain, update.Compression, update.Capacity, update.LateAfter)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "update\tend\ttime\tleast\tGPUs\trequests\tfailed\tlate\tp99")
	for _, c := range all {
		fmt.Fprintf(t, "%s\t%s\t%.1f s\t%d\t%d\t%d\t%d\t%d\t%.2f s\n", c.Case, c.End, c.Seconds, c.Least, c.Held, c.Requests, c.Failed, c.Late, c.P99)
		r.Add(c.Case+": "+string(c.End)+" after", c.Seconds, "s")
		r.Add(c.Case+": least replicas that serve", float64(c.Least), "")
		r.Add(c.Case+": GPUs held", float64(c.Held), "")
		r.Add(c.Case+": requests", float64(c.Requests), "")
		r.Add(c.Case+": failed", float64(c.Failed), "")
		r.Add(c.Case+": late", float64(c.Late), "")
		r.Add(c.Case+": p99", c.P99, "s")
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("cannot print the table: %w", err)
	}
	worst := 0.0
	for _, c := range all {
		worst = max(worst, c.SendP99)
		if c.Plan != "" {
			fmt.Fprintf(w, "\n%s: planned %s (maxSurge/maxUnavailable)\n", c.Case, c.Plan)
		}
		if c.Why != "" {
			fmt.Fprintf(w, "\n%s: %s\n", c.Case, c.Why)
		}
	}
	fmt.Fprintf(w, "\nThe load generator's own p99 was at most %.0f ms late; %d updates took %s.\n", 1000*worst, len(all), took.Round(time.Second))
	r.Add("load generator late, p99 at the most", 1000*worst, "ms")
	path, err := r.Write(o.results)
	if err != nil {
		return err
	}
	picture, err := plot(o.results, all)
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return fmt.Errorf("cannot write what was seen: %w", err)
	}
	seen := filepath.Join(o.results, "rollout-lab-series.json")
	if err := os.WriteFile(seen, raw, 0o644); err != nil { //nolint:gosec // a report that anybody may read
		return fmt.Errorf("cannot write what was seen: %w", err)
	}
	fmt.Fprintf(os.Stderr, "written to %s, %s and %s\n", path, picture, seen)
	return nil
}
