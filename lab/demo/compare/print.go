package compare

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"headroom.dev/headroom/lab/load"
)

// verdict is the result in one sentence.
func (s Summary) verdict() string {
	stock, policy := s.Stock.Judged, s.Policy.Judged
	found := fmt.Sprintf("%s of its requests late or failed against the stock HPA's %s, with %.0f %% of its replica time, %.2f s against %.2f s for each answer in time",
		percent(policy.missed(), policy.Requests), percent(stock.missed(), stock.Requests), 100*ratio(policy.ReplicaSeconds, stock.ReplicaSeconds),
		policy.perAnswer(), stock.perAnswer())
	switch {
	case len(s.Problems) > 0:
		return "Nothing can be concluded: the measurement is not sound. Seen: " + found + "."
	case len(s.Failures) > 0:
		return "The ScalePolicy is not shown to be better: " + found + "."
	default:
		return "The ScalePolicy was better: " + found + "."
	}
}

// basis says what was compared, for people.
func (s Summary) basis() []string {
	c, x := s.Scenario, s.Setting
	return []string{
		fmt.Sprintf("%d days of %s, %d requests/s at night and %d at the peak; the rise takes %s. Both services get requests of the same schedule.",
			c.Days, c.Day, int(c.Night), int(c.Peak), time.Duration(load.WaveRise*float64(c.Day)).Round(time.Second)),
		fmt.Sprintf("A pod loads for %s (seen from creation to Ready: %.0f s and %.0f s, medians) and serves %g requests/s with 99 %% answered in %s.",
			c.LoadTime, s.Stock.LoadSeconds, s.Policy.LoadSeconds, Capacity, LateAfter),
		fmt.Sprintf("The stock HPA's target is %g requests/s per pod, %.0f %% of that; the ScalePolicy plans with %d %%. Both keep replicas for %s "+
			"before they give them away, where no forecast says more, and have %d to %d.",
			c.Target, 100*c.Target/Capacity, Utilization, c.Window, minimum, maximum),
		fmt.Sprintf("The stock HPA decides every %.0f s. The ScalePolicy looks every %s, and its own HPA follows it every %.0f s.",
			x.HPASyncSeconds, min(c.step(), controllerPeriod), x.HPASyncSeconds),
		fmt.Sprintf("Forecasts, or rises seen before, set the ScalePolicy's replicas in %.0f %% of the judged time.", 100*s.AheadShare),
	}
}

// print writes the summary for people.
func (s Summary) print(w io.Writer) {
	fmt.Fprintln(w, "\nSummary")
	fmt.Fprintln(w)
	for _, line := range s.basis() {
		fmt.Fprintln(w, "  "+line)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "days\tscaled by\trequests\tlate\tfailed\ton time\treplica-minutes\tof these loading\tper answer in time\tready at the peak\tchanges\tkilled while loading\t")
	for _, r := range s.rows() {
		fmt.Fprintln(t, strings.Join([]string{
			r.Days, r.Side, r.Requests, r.Late, r.Failed, r.OnTime, r.Minutes, r.Loading, r.PerAnswer, r.AtPeak, r.Changes, r.Killed, "",
		}, "\t"))
	}
	_ = t.Flush()
	fmt.Fprintln(w)
	for _, side := range sides() {
		if l := s.of(side).Latency; l != nil {
			fmt.Fprintf(w, "  %s, judged days: answers took p50 %.0f ms, p95 %.0f ms, p99 %.0f ms; the load generator was late by %.1f ms (p99)\n",
				side, l.P50, l.P95, l.P99, s.of(side).GeneratorWaitMS)
		}
	}
	fmt.Fprintln(w)
	for _, p := range s.Problems {
		fmt.Fprintln(w, "UNSOUND", p)
	}
	for _, f := range s.Failures {
		fmt.Fprintln(w, "FAILED ScalePolicy:", f)
	}
	fmt.Fprintln(w, s.verdict())
}

// judgedDays names the days that are judged, "3–4".
func (s Summary) judgedDays() string {
	if first := s.Scenario.Learning + 1; first != s.Scenario.Days {
		return fmt.Sprintf("%d–%d", first, s.Scenario.Days)
	}
	return strconv.Itoa(s.Scenario.Days)
}

func percent(part, whole int) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f %%", 100*float64(part)/float64(whole))
}
