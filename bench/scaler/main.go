// Command scaler compares autoscaling policies on traces: every policy is tuned on the first half of each trace and scored on
// the second, for several start-up times. The policies are the production deciders in the plant of scaler/simulate; the
// clairvoyant optimum is the limit.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o := options{startUps: []time.Duration{0, time.Minute, 3 * time.Minute, 5 * time.Minute}}
	flag.StringVar(&o.traces, "traces", os.Getenv("TRACES"), "folder with traces (.csv, .csv.gz), searched through; default: $TRACES, or synthetic ones")
	flag.StringVar(&o.only, "only", "", "only traces whose name contains this")
	flag.Func("startup", "only this start-up time, such as 180s", func(s string) error {
		d, err := time.ParseDuration(s)
		o.startUps = []time.Duration{d}
		return err
	})
	flag.DurationVar(&o.length, "length", 14*24*time.Hour, "length of the synthetic traces")
	flag.Uint64Var(&o.seed, "seed", 1, "of arrivals and synthetic traces")
	flag.StringVar(&o.results, "results", "bench/results", "folder for the JSON file, the table in Markdown and the plots")
	flag.Parse()
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-scaler:", err)
		os.Exit(1)
	}
}
