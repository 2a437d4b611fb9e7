package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"headroom.dev/headroom/lab/load"
	"headroom.dev/headroom/lab/network"
	"headroom.dev/headroom/lab/progress"
)

type loadOptions struct {
	dir, service, pattern, csv, output string
	tokens                             int
	seed                               uint64
}

func loadCommand() *cobra.Command {
	var o loadOptions
	c := &cobra.Command{
		Use: "load", Short: "Send open-loop load to a service's Ready pods and report latencies", Args: cobra.NoArgs,
		Example: "  headroom-lab load --pattern steps:5x30s,60x45s\n" +
			"  headroom-lab load --pattern sine:mean=20,amplitude=15,period=2m,for=10m --csv requests.csv\n" +
			"  headroom-lab load --pattern wave:night=4,peak=40,day=8m,days=4,noise=0.05\n" +
			"  headroom-lab load --pattern trace:requests.csv.gz,speed=60",
		RunE: func(c *cobra.Command, _ []string) error { return runLoad(c, o) },
	}
	stateFlag(c.Flags(), &o.dir)
	c.Flags().StringVar(&o.service, "service", "headroom-example/chat", "namespace/name of the service")
	c.Flags().StringVar(&o.pattern, "pattern", "constant:10x60s", "constant:RATExTIME, steps:…, sine:…, wave:… or trace:FILE,speed=N")
	c.Flags().IntVar(&o.tokens, "tokens", 0, "output tokens of each request (default: the trace's, or 100)")
	c.Flags().Uint64Var(&o.seed, "seed", 1, "seed of the arrival times")
	c.Flags().StringVar(&o.csv, "csv", "", "write every request to this file")
	outputFlag(c.Flags(), &o.output)
	return c
}

func runLoad(c *cobra.Command, o loadOptions) error {
	namespace, name, ok := strings.Cut(o.service, "/")
	if !ok {
		return fmt.Errorf("--service must be namespace/name, not %q", o.service)
	}
	pattern, err := load.Parse(o.pattern)
	if err != nil {
		return fmt.Errorf("--pattern: %w", err)
	}
	labCluster, err := cluster(o.dir, "")
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", labCluster.Kubeconfig)
	if err != nil {
		return fmt.Errorf("cannot read the lab's kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("cannot make a client for the lab: %w", err)
	}
	targets, err := network.Endpoints(c.Context(), client, namespace, name)
	if err != nil {
		return err
	}
	options := load.Options{Pattern: pattern, Seed: o.seed, Targets: targets}
	if o.tokens > 0 {
		options.Tokens = func(int, load.Arrival) load.Tokens { return load.Tokens{Output: o.tokens} }
	}
	generator, err := load.New(options)
	if err != nil {
		return err
	}
	runErr := follow(c.Context(), generator, pattern.Duration())
	if errors.Is(runErr, context.Canceled) {
		runErr = nil // Ctrl-C ends the load; what was sent is reported
	}
	return errors.Join(runErr, report(c, generator.Record(), o))
}

// follow runs the load and tells of it once a second.
func follow(ctx context.Context, g *load.Generator, length time.Duration) error {
	step := progress.New(os.Stderr).Step("load")
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case err := <-done:
			step.Done("sent")
			return err
		case <-tick.C:
			w := g.Record().Window(5 * time.Second)
			text := fmt.Sprintf("%.0f%%  %.1f/s sent  %.1f/s answered  %d in flight", 100*time.Since(began).Seconds()/length.Seconds(), w.Sent, w.OK, w.InFlight)
			if w.Latency != nil {
				text += fmt.Sprintf("  p95 %.0f ms", w.Latency.P95)
			}
			step.Update(text)
		}
	}
}

func report(c *cobra.Command, record *load.Record, o loadOptions) error {
	if o.csv != "" {
		f, err := os.Create(o.csv)
		if err != nil {
			return fmt.Errorf("cannot write the requests: %w", err)
		}
		if err := errors.Join(record.WriteCSV(f), f.Close()); err != nil {
			return fmt.Errorf("cannot write the requests to %s: %w", o.csv, err)
		}
	}
	s := record.Summary()
	if o.output == "json" {
		return writeJSON(c.OutOrStdout(), s)
	}
	fmt.Fprintf(c.OutOrStdout(), "%d requests in %.0f s, %d answered\n", s.Requests, s.Seconds, s.OK)
	if s.Latency != nil {
		fmt.Fprintf(c.OutOrStdout(), "latency ms: mean %.1f  p50 %.1f  p90 %.1f  p95 %.1f  p99 %.1f  max %.1f\n",
			s.Latency.Mean, s.Latency.P50, s.Latency.P90, s.Latency.P95, s.Latency.P99, s.Latency.Max)
	}
	for outcome, n := range s.Failures {
		fmt.Fprintf(c.OutOrStdout(), "%s: %d\n", outcome, n)
	}
	return nil
}
