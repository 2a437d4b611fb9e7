// Package gpu measures how well MIG profiles are chosen from what containers used: on the GPU memory of real inference containers
// (Alibaba's cluster-trace-v2026-GenAI), or on synthetic ones, the choice is made from the first half and judged by the rest.
package gpu

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"headroom.dev/headroom/bench/result"
)

// Series is the GPU memory of one container, bytes.
type Series struct {
	Name   string
	Times  []time.Time
	Values []float64
}

// Row is how a way of choosing fared.
type Row struct {
	Name string
	// GB of all containers' profiles, and over the oracle's. GB are those of the profiles' names.
	GB, Ratio float64
	// Overflow is how many containers' later peak did not fit, Oversize how many have a larger profile than the oracle's.
	Overflow, Oversize int
	// Uses counts the profiles.
	Uses map[string]int
}

// Result is the outcome.
type Result struct {
	Source     string // where the series are from
	Containers int
	// Skipped is how many containers had no use in the first half, or none in the second: nothing can be chosen or judged.
	Skipped    int
	Fit, Judge time.Duration
	Oracle     Row
	Rows       []Row // the first is ours, with the default policy
	// Bound is the least ratio that a rule of the form "factor × highest use of the last hours" reaches without overflow, picked with
	// hindsight, and Rule says which one that is.
	Bound float64
	Rule  string
	// Needed is how many overflows the best such rule has to take for the goal.
	Needed int
	// Exceeded is the share of containers whose later peak exceeded the need that ours stated at its risk.
	Exceeded float64
}

// Goal is the ratio to the oracle's GB that should be reached without overflow.
const Goal = 1.25

// Run reads alibaba-genai-2026/gpu_memory_used_bytes.csv.gz below a directory, or makes synthetic series if it is "", and judges.
func Run(traces string) (Result, error) {
	series, source := synthetic(7), "synthetic"
	if traces != "" {
		var err error
		if series, err = read(traces); err != nil {
			return Result{}, err
		}
		source = file
	}
	r := judge(series, 12*time.Hour)
	r.Source = source
	return r, nil
}

// Add writes the figures, with the goals.
func (r Result) Add(to *result.Result) {
	for i, row := range r.Rows {
		if i == 0 {
			to.AddAtMost("GPU memory: "+row.Name+", of the oracle's GB", row.Ratio, "ratio", Goal)
			to.AddAtMost("GPU memory: "+row.Name+", overflows", float64(row.Overflow), "containers", 0)
			continue
		}
		to.Add("GPU memory: "+row.Name+", of the oracle's GB", row.Ratio, "ratio")
		to.Add("GPU memory: "+row.Name+", overflows", float64(row.Overflow), "containers")
	}
	to.Add("GPU memory: best rule without overflow, picked with hindsight", r.Bound, "ratio")
	to.Add("GPU memory: need stated at a risk of 1%, exceeded", 100*r.Exceeded, "% of containers")
}

// Print writes the table.
func (r Result) Print(w io.Writer) error {
	fmt.Fprintf(w, "GPU memory to MIG profiles of an H200, by the GB of their names: %s, %d containers, chosen from %s, judged by the next %s",
		r.Source, r.Containers, hours(r.Fit), hours(r.Judge))
	if r.Skipped > 0 {
		fmt.Fprintf(w, " (%d more have no use in one of the two)", r.Skipped)
	}
	fmt.Fprint(w, "\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.Debug)
	fmt.Fprintln(t, "way\tGB\tof the oracle's\toverflows\ttoo large\tprofiles\t")
	for _, row := range append([]Row{r.Oracle}, r.Rows...) {
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%d\t%d\t%s\t\n", row.Name, row.GB, row.Ratio, row.Overflow, row.Oversize, uses(row.Uses))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	ours := r.Rows[0]
	met := "MISSED"
	if ours.Ratio <= Goal && ours.Overflow == 0 {
		met = "met"
	}
	fmt.Fprintf(w, "\ngoal: at most %.2f times the oracle's GB without overflow: %s (%.2f, %d)\n", Goal, met, ours.Ratio, ours.Overflow)
	fmt.Fprintf(w, "the need stated at a risk of 1%% was exceeded by %.1f%% of the containers\n", 100*r.Exceeded)
	if math.IsNaN(r.Bound) {
		fmt.Fprintln(w, "no rule \"factor x highest use of the last hours\" is without overflow here, even picked with hindsight")
	} else {
		fmt.Fprintf(w, "bound: of all rules \"factor x highest use of the last hours\" the best without overflow, picked with hindsight, is %s: %.2f\n", r.Rule, r.Bound)
	}
	if r.Needed > 0 {
		fmt.Fprintf(w, "of these rules the one that reaches %.2f with the fewest overflows has %d: the oracle knows the later load, and the rules the first half only\n", Goal, r.Needed)
	}
	return nil
}

func hours(d time.Duration) string { return fmt.Sprintf("%.1f h", d.Hours()) }

func uses(counts map[string]int) string {
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(nominal(a) - nominal(b)) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%d x %s", counts[name], name)
	}
	return strings.Join(names, ", ")
}
