package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"

	"headroom.dev/headroom/bench/result"
)

// row is one line of the comparison: a figure of both stacks, and what the goal is, at the size that the goals are for.
type row struct {
	name, unit string
	of         func(*sheet) float64
	most       float64 // ours at most
	mostShare  float64 // ours at most this share of the peer's
	leastTimes float64 // ours at least this many times the peer's
}

const mib = 1 << 20

func rows() []row {
	out := []row{
		{name: "scrapes of each target", unit: "1/s", of: func(s *sheet) float64 { return s.scrapes }},
		{name: "CPU, only scraping", unit: "s/min", of: func(s *sheet) float64 { return s.idleCPU }, mostShare: 0.25},
		{name: "CPU, asked by HPAs", unit: "s/min", of: func(s *sheet) float64 { return s.askedCPU }, mostShare: 0.25},
		{name: "API server's CPU, asked by HPAs", unit: "s/min", of: func(s *sheet) float64 { return s.serverCPU }},
		{name: "peak RSS, only scraping", unit: "MiB", of: func(s *sheet) float64 { return s.idlePeak / mib }, mostShare: 0.25},
		{name: "peak RSS, asked by HPAs", unit: "MiB", of: func(s *sheet) float64 { return s.askedPeak / mib }, mostShare: 0.25},
		{name: "freshness, p50", unit: "s", of: func(s *sheet) float64 { return result.Quantile(s.fresh, 0.5) }},
		{name: "freshness, p99", unit: "s", of: func(s *sheet) float64 { return result.Quantile(s.fresh, 0.99) }, most: 2},
	}
	for _, n := range clientCounts() {
		clients := fmt.Sprintf("%d clients", n)
		if n == 1 {
			clients = "1 client"
		}
		out = append(out,
			row{name: "requests, " + clients, unit: "1/s", of: func(s *sheet) float64 { return s.direct[n].rate }, leastTimes: 10},
			row{name: "p50, " + clients, unit: "ms", of: func(s *sheet) float64 { return 1000 * s.direct[n].p50 }},
			row{name: "p99, " + clients, unit: "ms", of: func(s *sheet) float64 { return 1000 * s.direct[n].p99 }, mostShare: 0.1},
		)
	}
	return append(out,
		row{name: "CPU of one request", unit: "ms", of: func(s *sheet) float64 { return 1000 * s.perRequest }},
		row{name: "API server's CPU of one request", unit: "ms", of: func(s *sheet) float64 { return 1000 * s.serverPerRequest }},
		row{name: "through the API server, 8 clients", unit: "1/s", of: func(s *sheet) float64 { return s.through.rate }},
		row{name: "p50 through the API server", unit: "ms", of: func(s *sheet) float64 { return 1000 * s.through.p50 }},
		row{name: "p99 through the API server", unit: "ms", of: func(s *sheet) float64 { return 1000 * s.through.p99 }},
	)
}

// goal judges a row; the text is empty where it has none.
func (r row) goal(ours, theirs float64) (text string, met bool) {
	switch {
	case r.most > 0:
		return fmt.Sprintf("<= %g", r.most), ours <= r.most
	case r.mostShare > 0:
		return fmt.Sprintf("<= %g x", r.mostShare), ours <= r.mostShare*theirs
	case r.leastTimes > 0:
		return fmt.Sprintf(">= %g x", r.leastTimes), ours >= r.leastTimes*theirs
	}
	return "", false
}

// sizes are the numbers of pods in the order of measurement, with what was measured at each.
func (o *outcome) sizes() (order []int, ours, theirs map[int]*sheet) {
	ours, theirs = map[int]*sheet{}, map[int]*sheet{}
	for _, s := range o.sheets {
		if s.stack == oursName {
			ours[s.pods] = s
		} else {
			theirs[s.pods] = s
		}
		if len(order) == 0 || order[len(order)-1] != s.pods {
			order = append(order, s.pods)
		}
	}
	return order, ours, theirs
}

// report prints the tables and writes the JSON file.
func (o *outcome) report(w io.Writer, results string) error {
	out := result.New("adapter")
	fmt.Fprintf(w, "%s on %s, %d cores, %s, %s\n", out.Benchmark, out.Machine.CPU, out.Machine.Cores, out.Machine.OS, out.Machine.Go)
	order, ours, theirs := o.sizes()
	for _, pods := range order {
		if err := o.compare(w, out, pods, ours[pods], theirs[pods]); err != nil {
			return err
		}
	}
	if err := o.growth(w, order, ours, theirs); err != nil {
		return err
	}
	if err := o.valuesTable(w, out); err != nil {
		return err
	}
	path, err := out.Write(results)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "\nwritten to", path)
	return nil
}

func newTable(w io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.Debug)
}

// compare prints both stacks at one size side by side.
func (o *outcome) compare(w io.Writer, out *result.Result, pods int, ours, theirs *sheet) error {
	fmt.Fprintf(w, "\n%d pods, 300 series each, every second\n\n", pods)
	t := newTable(w)
	fmt.Fprintf(t, "figure\t%s\t%s\tours / theirs\tunit\tgoal\t\t\n", oursName, peerName)
	for _, r := range rows() {
		a, b := r.value(ours), r.value(theirs)
		name := fmt.Sprintf("%d pods, %s", pods, r.name)
		if ours != nil {
			out.Add(name+", "+oursName, a, r.unit)
		}
		if theirs != nil {
			out.Add(name+", "+peerName, b, r.unit)
		}
		goal, verdict := "", ""
		if pods == o.main {
			goal, verdict = r.judge(out, name, a, b)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.name, number(a), number(b), number(a/b), r.unit, goal, verdict)
	}
	if pods == o.main && o.lean != nil {
		for _, r := range rows() {
			if r.mostShare == 0 || math.IsNaN(r.of(o.lean)) {
				continue
			}
			lean := r.of(o.lean)
			out.Add(fmt.Sprintf("%d pods, %s, lean Prometheus alone", pods, r.name), lean, r.unit)
			fmt.Fprintf(t, "%s, lean Prometheus alone\t%s\t%s\t%s\t%s\t\t\t\n", r.name, number(r.value(ours)), number(lean), number(r.value(ours)/lean), r.unit)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	o.limit(w, out, pods, ours, theirs)
	return nil
}

// judge adds the goal's figure to the result.
func (r row) judge(out *result.Result, name string, a, b float64) (goal, verdict string) {
	goal, met := r.goal(a, b)
	switch {
	case r.most > 0:
		out.AddAtMost(name+", goal", a, r.unit, r.most)
	case r.mostShare > 0:
		out.AddAtMost(name+", ours as a share of theirs", a/b, "x", r.mostShare)
	case r.leastTimes > 0:
		out.AddAtLeast(name+", ours as a multiple of theirs", a/b, "x", r.leastTimes)
	default:
		return "", ""
	}
	return goal, map[bool]string{true: "met", false: "MISSED"}[met]
}

func (r row) value(s *sheet) float64 {
	if s == nil {
		return math.NaN()
	}
	return r.of(s)
}

// limit says what the bytes alone cost, and how far both are from it.
func (o *outcome) limit(w io.Writer, out *result.Result, pods int, ours, theirs *sheet) {
	l, ok := o.limits[pods]
	if !ok {
		return
	}
	const minute = 60 // rounds, one a second
	read, parsed := l.Read*minute, (l.Read+l.Parse)*minute
	fmt.Fprintf(w, "\nThe limit: %.3g MB/s. Asking, reading and scanning them (memchr) alone takes %.3g s of CPU a minute; with Prometheus' parser over them %.3g.\n",
		l.Bytes/1e6, read, parsed)
	out.Add(fmt.Sprintf("%d pods, limit, reading and scanning", pods), read, "s/min")
	out.Add(fmt.Sprintf("%d pods, limit, reading, scanning and Prometheus' parser", pods), parsed, "s/min")
	for _, s := range []*sheet{ours, theirs} {
		if s == nil {
			continue
		}
		fmt.Fprintf(w, "%s, only scraping, takes %.3g times the first, %.3g times the second.\n", s.stack, s.idleCPU/read, s.idleCPU/parsed)
		out.Add(fmt.Sprintf("%d pods, CPU only scraping as a multiple of the limit, %s", pods, s.stack), s.idleCPU/read, "x")
	}
}

// growth prints how the figures grow with the pods.
func (o *outcome) growth(w io.Writer, order []int, ours, theirs map[int]*sheet) error {
	if len(order) < 2 {
		return nil
	}
	fmt.Fprintf(w, "\nGrowth (%s; %s)\n\n", oursName, peerName)
	t := newTable(w)
	fmt.Fprint(t, "figure\t")
	for _, pods := range order {
		fmt.Fprintf(t, "%d pods\t", pods)
	}
	fmt.Fprintln(t, "unit\t")
	for _, r := range rows() {
		fmt.Fprintf(t, "%s\t", r.name)
		for _, pods := range order {
			cell := number(r.value(ours[pods]))
			if theirs[pods] != nil {
				cell += "; " + number(r.value(theirs[pods]))
			}
			fmt.Fprintf(t, "%s\t", cell)
		}
		fmt.Fprintf(t, "%s\t\n", r.unit)
	}
	return t.Flush()
}

// valuesTable prints how far the two sides' values are apart.
func (o *outcome) valuesTable(w io.Writer, out *result.Result) error {
	if len(o.differences) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nValues of both at the same time, %d pods, %d looks: relative differences\n\n", o.differAt, looks)
	t := newTable(w)
	fmt.Fprintln(t, "compared\tmedian\tlargest\tpairs\ton one side alone\t")
	for _, d := range o.differences {
		fmt.Fprintf(t, "%s\t%.2g\t%.2g\t%d\t%d\t\n", d.name, d.median, d.max, d.pairs, d.lone)
		out.Add(d.name+", relative difference, median", d.median, "1")
		out.Add(d.name+", relative difference, largest", d.max, "1")
		out.Add(d.name+", on one side alone", float64(d.lone), fmt.Sprintf("of %d", d.pairs+d.lone))
	}
	return t.Flush()
}

// number writes three digits, and a dash for what was not measured.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case math.Abs(v) >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
