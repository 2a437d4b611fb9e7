// Command adapter compares headroom-adapter with Prometheus and prometheus-adapter, one after the other, on the same simulated
// targets, API server and machine: equal values, freshness, requests, CPU, memory, how they grow, and how far ours is from
// what reading and scanning the same bytes takes.
//
// The targets are a process of their own; the load comes from this one. CPU and memory are those of the stack's processes
// alone. Requests are what the HPA sends, on HTTP/1.1 connections, straight to each adapter's port in the name of the API
// server's aggregation layer; besides, through the API server.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"headroom.dev/headroom/bench/adapter/targets"
)

// options are the command line.
type options struct {
	pods       []int
	peerUpTo   int
	short      bool
	lean       bool
	flags      []string
	prometheus string
	profile    string
	results    string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-adapter:", err)
		os.Exit(1)
	}
}

// dispatch runs the benchmark, or a part of it that has a process of its own.
func dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		o, err := parseFlags(args, os.Stderr)
		if err != nil {
			return err
		}
		return runBench(ctx, o)
	}
	var plan targets.Plan
	if len(args) < 2 || json.Unmarshal([]byte(args[1]), &plan) != nil {
		return fmt.Errorf("%q is none of the benchmark's own commands", args)
	}
	switch {
	case args[0] == "targets":
		return targets.Serve(ctx, plan, os.Stdin, os.Stdout)
	case args[0] == "limit" && len(args) == 3:
		pods, err := strconv.Atoi(args[2])
		if err != nil {
			return fmt.Errorf("cannot read a number of pods: %w", err)
		}
		return runLimit(ctx, plan, pods, os.Stdout)
	}
	return fmt.Errorf("%q is none of the benchmark's own commands", args)
}

func parseFlags(args []string, complaints io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench-adapter", flag.ContinueOnError)
	flags.SetOutput(complaints)
	pods := flags.String("pods", "100,1000,5000", "numbers of pods, growing, each a multiple of 50; a tenth as many GPU agents come with them")
	flags.IntVar(&o.peerUpTo, "peer-up-to", 1000, "the most pods at which the peer is measured too; 0: never")
	flags.BoolVar(&o.short, "short", false, "a quick look: short measurements, 20 steps, 100 pods unless --pods says else")
	flags.BoolVar(&o.lean, "lean", true, "measure also a Prometheus that keeps only what the rules read")
	extra := flags.String("adapter-flags", "", "more flags for headroom-adapter, separated by spaces")
	flags.StringVar(&o.prometheus, "prometheus", "", "a prometheus binary; without it, that of Debian's package, downloaded once")
	flags.StringVar(&o.profile, "profile", "", "folder for profiles of headroom-adapter, of CPU and memory for each number of pods (20 s each)")
	flags.StringVar(&o.results, "results", "bench/results", "folder for the JSON file")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if o.short && !set["pods"] {
		*pods = "100"
	}
	for text := range strings.SplitSeq(*pods, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < targets.PodsPerApp || n%targets.PodsPerApp != 0 || n > mostPods || len(o.pods) > 0 && n <= o.pods[len(o.pods)-1] {
			return o, fmt.Errorf("--pods %s: each must be a multiple of %d, at most %d, and larger than the one before", *pods, targets.PodsPerApp, mostPods)
		}
		o.pods = append(o.pods, n)
	}
	o.flags = strings.Fields(*extra)
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is not a flag", flags.Args())
	}
	return o, nil
}
