// Command forecast measures the forecasts of scaler/forecast on traces: the pinball loss against last value and seasonal naive, how
// often demand stays within the quantiles, and what it costs. Everything is over the second half of a trace; the model sees each
// value once, in order, as it would live.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	traces := flag.String("traces", os.Getenv("TRACES"), "directory with .csv and .csv.gz files; synthetic traces without it")
	seed := flag.Uint64("seed", 1, "of the synthetic traces")
	out := flag.String("out", "bench/results", "directory for the JSON file")
	skill := flag.Bool("skill", false, "also print the losses of every forecaster")
	flag.Parse()
	if err := run(*traces, *seed, *out, *skill); err != nil {
		fmt.Fprintln(os.Stderr, "bench-forecast:", err)
		os.Exit(1)
	}
}
