// Command rollout measures the rollout module without a cluster. Part judge: simulated rollouts in virtual time, each judged at every
// look by rollout/judge and, on the same data, by the rules that people use today. Part plan: the time from a cluster's objects to a plan.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

type options struct {
	only, scenario, results string
	runs, clusters          int
	seed                    uint64
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	flag.StringVar(&o.only, "only", "", "only this part: judge or plan")
	flag.StringVar(&o.scenario, "scenario", "", "judge: only scenarios whose name contains this")
	flag.IntVar(&o.runs, "runs", 10000, "simulated rollouts in all")
	flag.IntVar(&o.clusters, "clusters", 10, "plan: random clusters of 5,000 nodes; 20 plans for each")
	short := flag.Bool("short", false, "a tenth of the rollouts and clusters")
	flag.Uint64Var(&o.seed, "seed", 1, "of the simulation")
	flag.StringVar(&o.results, "results", "bench/results", "folder for the JSON file")
	flag.Parse()
	if *short {
		o.runs, o.clusters = o.runs/10, max(1, o.clusters/10)
	}
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-rollout:", err)
		os.Exit(1)
	}
}

// run runs the parts that are asked for.
func run(ctx context.Context, o options) error {
	parts := []struct {
		name string
		run  func(context.Context, options) error
	}{{"judge", benchJudge}, {"plan", benchPlan}}
	known := false
	for _, p := range parts {
		if o.only != "" && o.only != p.name {
			continue
		}
		known = true
		if err := p.run(ctx, o); err != nil {
			return err
		}
	}
	if !known {
		return fmt.Errorf("-only %s: no such part", o.only)
	}
	return nil
}
