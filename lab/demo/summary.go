package demo

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"headroom.dev/headroom/lab/load"
	"headroom.dev/headroom/lab/observe"
)

// tolerance is the HPA's: it does nothing while a metric is within 10 % of its target (behavior.scaleUp.tolerance).
const tolerance = 0.1

// Result is what one cycle showed.
type Result struct {
	Metric   string           `json:"metric"`
	Why      string           `json:"load"`
	Rate     float64          `json:"peakRequestsPerSecond"`
	Before   int              `json:"replicasBefore"` // Ready pods when the load rose
	Peak     int              `json:"replicasPeak"`
	After    int              `json:"replicasAfter"`
	Reaction observe.Reaction `json:"reaction"`
	Up       *observe.Rescale `json:"scaledUp,omitempty"`   // the HPA's event that names the metric
	Down     *observe.Rescale `json:"scaledDown,omitempty"` // the last one that made it smaller
	Failures []string         `json:"failures,omitempty"`
}

// Summary is the end of a demonstration, as --json writes it.
type Summary struct {
	Passed  bool         `json:"passed"`
	HPASync string       `json:"hpaSyncPeriod"`
	Results []Result     `json:"cycles"`
	Load    load.Summary `json:"load"`
}

// ready is a count of Ready pods at a time.
type ready struct {
	time  time.Time
	count int
}

// judge finds in the history whether the HPA scaled up and down because of the cycle's metric. rose and fell are when the load
// did, end is when the next cycle begins or the demonstration ends; counts are the Ready pods over time.
func judge(c Cycle, h observe.History, counts []ready, rose, fell, end time.Time) Result {
	r := Result{Metric: c.Metric, Why: c.Why, Rate: c.Rate, Reaction: h.React(rose, c.Metric, c.Target*(1+tolerance))}
	for _, s := range counts {
		switch {
		case !s.time.After(rose):
			r.Before = s.count
		case !s.time.After(end):
			r.Peak, r.After = max(r.Peak, s.count), s.count
		}
	}
	size := h.WantedAt(rose)
	for _, e := range h.RescalesSince(rose) {
		if e.Time.After(end) {
			break
		}
		if e.Size > size && strings.Contains(e.Reason, c.Metric) && r.Up == nil {
			r.Up = &e
		}
		if e.Size < size && e.Time.After(fell) {
			r.Down = &e
		}
		size = e.Size
	}
	r.Failures = failures(r)
	return r
}

func failures(r Result) []string {
	var out []string
	fail := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if r.Up == nil {
		fail("no HPA event says that it scaled up because of %s", r.Metric)
	}
	if r.Peak <= r.Before {
		fail("the Ready pods never rose above the %d from before", r.Before)
	}
	if r.Down == nil {
		fail("no HPA event says that it scaled down after the load fell")
	}
	if r.After > r.Before {
		fail("%d pods are Ready at the end, %d were before", r.After, r.Before)
	}
	if !r.Reaction.Metric.Seen {
		fail("the API never showed %s above its target", r.Metric)
	}
	return out
}

// print writes the summary for people.
func (s Summary) print(w io.Writer) {
	fmt.Fprintf(w, "\nSummary (the HPA decides every %s)\n\n", s.HPASync)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "scaled on\tload\treplicas before → peak → after\tto new metric value\tto the HPA's decision\tto first new Ready pod")
	for _, r := range s.Results {
		fmt.Fprintf(t, "%s\t%.0f/s, %s\t%d → %d → %d\t%s\t%s\t%s\n", r.Metric, r.Rate, r.Why, r.Before, r.Peak, r.After,
			r.Reaction.Metric, r.Reaction.Decision, r.Reaction.Ready)
	}
	_ = t.Flush()
	fmt.Fprintln(w)
	for _, r := range s.Results {
		for _, e := range []*observe.Rescale{r.Up, r.Down} {
			if e != nil {
				fmt.Fprintf(w, "  HPA: New size: %d; reason: %s\n", e.Size, e.Reason)
			}
		}
	}
	fmt.Fprintf(w, "  %s\n\n", describeLoad(s.Load))
	for _, r := range s.Results {
		for _, f := range r.Failures {
			fmt.Fprintf(w, "FAILED %s: %s\n", r.Metric, f)
		}
	}
	if s.Passed {
		fmt.Fprintln(w, "The HPA scaled up and down on both metrics.")
	}
}

func describeLoad(s load.Summary) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d requests, %d answered", s.Requests, s.OK)
	if s.Latency != nil {
		fmt.Fprintf(&text, ", p50 %.0f ms, p95 %.0f ms, p99 %.0f ms", s.Latency.P50, s.Latency.P95, s.Latency.P99)
	}
	for outcome, n := range s.Failures {
		fmt.Fprintf(&text, ", %d %s", n, outcome)
	}
	return text.String()
}
