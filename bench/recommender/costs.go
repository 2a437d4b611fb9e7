package main

import (
	"fmt"
	"math"
)

// nanoseconds is the median of an operation's rounds.
func (c *cost) nanoseconds(operation int) float64 {
	if c.failed[operation] != nil {
		return math.NaN()
	}
	return median(c.rounds[operation])
}

// ratio is the median of the rounds' ratios: what disturbs the machine for longer than a round disturbs both.
func (c *cost) ratio(to *cost, operation int) float64 {
	if c.failed[operation] != nil || to.failed[operation] != nil {
		return math.NaN()
	}
	var list []float64
	for i, v := range c.rounds[operation] {
		list = append(list, v/to.rounds[operation][i])
	}
	return median(list)
}

// costs writes the table and figures of a size; the first of the costs is the library's.
func (r *report) costs(s size, costs []*cost) {
	fmt.Fprintf(&r.tables, "\n%d containers, %d days of history, processor time, medians of %d rounds (ratio to the VPA's):\n\n", s.containers, history/24/60, s.rounds)
	fmt.Fprint(&r.tables, "| |")
	for _, c := range costs {
		fmt.Fprintf(&r.tables, " %s |", c.name)
	}
	fmt.Fprint(&r.tables, "\n|---|")
	for range costs {
		fmt.Fprint(&r.tables, "---|")
	}
	theirs := costs[0]
	row := func(name, format string, value, ratio func(*cost) float64) {
		fmt.Fprintf(&r.tables, "\n| %s |", name)
		for _, c := range costs {
			fmt.Fprintf(&r.tables, " %s", known(format, value(c)))
			if c != theirs {
				fmt.Fprintf(&r.tables, " (%s)", known("%.2f", ratio(c)))
				r.against(s, c, name, ratio(c))
			}
			fmt.Fprint(&r.tables, " |")
		}
	}
	row("memory", "%.0f B", func(c *cost) float64 { return c.bytes }, func(c *cost) float64 { return c.bytes / theirs.bytes })
	for k := range operations {
		row(operation(k), "%.0f ns", func(c *cost) float64 { return c.nanoseconds(k) }, func(c *cost) float64 { return c.ratio(theirs, k) })
	}
	fmt.Fprint(&r.tables, "\n| size of a checkpoint |")
	for _, c := range costs {
		fmt.Fprintf(&r.tables, " %.0f B |", c.kept)
		r.Add(fmt.Sprintf("%d containers, %s: size of a checkpoint", s.containers, c.name), c.kept, "B")
	}
	fmt.Fprintln(&r.tables)
	for _, c := range costs {
		r.Add(fmt.Sprintf("%d containers, %s: memory", s.containers, c.name), c.bytes, "B/container")
		for k := range operations {
			r.Add(fmt.Sprintf("%d containers, %s: %s", s.containers, c.name, operation(k)), c.nanoseconds(k), "ns")
			if err := c.failed[k]; err != nil {
				fmt.Fprintf(&r.tables, "\n%s: %s failed: %v\n", c.name, operation(k), err)
			}
		}
	}
}

// against is the figure with the goal.
func (r *report) against(s size, c *cost, what string, ratio float64) {
	name := fmt.Sprintf("%d containers, %s: %s, of the VPA's", s.containers, c.name, what)
	if c.goal {
		r.AddAtMost(name, ratio, "", quarter)
		return
	}
	r.Add(name, ratio, "")
}
