// Command recommender compares the recommender with the VerticalPodAutoscaler's own library: what a container costs, and how
// well requests fit what traces used. `make bench-recommender` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	flag.StringVar(&o.traces, "traces", os.Getenv("TRACES"), "folder with traces of usage (.csv, .csv.gz), searched through; default: $TRACES, or synthetic ones")
	flag.StringVar(&o.only, "only", "", "only this part: scale, accuracy or gpu")
	flag.StringVar(&o.trace, "trace", "", "accuracy: only traces whose name contains this")
	flag.StringVar(&o.plot, "plot", "", "accuracy: file for the plot (SVG); default: recommender.svg among the results")
	flag.BoolVar(&o.all, "all", false, "accuracy: tables of every setting tried, not only of those that are told by name")
	flag.BoolVar(&o.short, "short", false, "fewer containers, repetitions, seeds and settings of the VPA")
	flag.Uint64Var(&o.seed, "seed", 1, "of synthetic traces and streams")
	flag.StringVar(&o.results, "results", "bench/results", "folder for the JSON file, the tables in Markdown and the plot")
	flag.Parse()
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-recommender:", err)
		os.Exit(1)
	}
}
