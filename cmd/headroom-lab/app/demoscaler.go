package app

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/demo/compare"
)

func demoScalerCommand() *cobra.Command {
	o, d, keep := lab.DefaultOptions(), compare.Options{Scenario: compare.DefaultScenario()}, false
	c := &cobra.Command{
		Use: "scaler", Short: "Let the stock HPA and a ScalePolicy meet the same days of demand, side by side", Args: cobra.NoArgs,
		Long: "scaler brings a lab up and plays the same compressed days of demand to two services whose pods take a minute to load: the\n" +
			"stock HPA scales one, a ScalePolicy in mode Act the other. Each gets real HTTP requests of its own from one schedule. Late\n" +
			"and failed requests are counted where they were sent, replica time from the API server's pods, loading included.\n\n" +
			"The first days are for the forecaster to learn from and are shown but not judged. It exits 0 only if on the days after them\n" +
			"the ScalePolicy was no worse than the HPA in requests missed and in replica time for each answer in time, better in one of\n" +
			"them, and so by forecasts, and if the measurement was sound; otherwise it says what was not shown.\n\n" +
			"The HPA's target is by default 80 % of what a replica serves in time, the field's rule of thumb and what the ScalePolicy\n" +
			"plans with; a lower one buys it fewer late requests for more replicas. A compressed day makes the minute of loading long: of\n" +
			"five minutes it is what 4.8 hours are of 24. By default the whole takes 38 minutes, of which the load takes 35. A forecaster\n" +
			"finds the shape of a day after 2.2 to 2.6 days and is used when it has proven itself over 300 steps of a 150th of a day each.",
		Example: "  headroom-lab demo scaler --html scaler.html --json scaler.json\n" +
			"  headroom-lab demo scaler --day 10m --days 7 --learning-days 5  # in 72 minutes, with a gentler rise\n" +
			"  headroom-lab demo scaler --hpa-target 1.5           # an HPA with so much to spare that it is rarely late",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if err := d.Scenario.Validate(); err != nil {
				return err
			}
			if o.HPASyncPeriod > time.Minute {
				return fmt.Errorf("--hpa-sync-period %s is too long for days of minutes; at most 1m", o.HPASyncPeriod)
			}
			if gpus, need := o.Nodes*o.GPUs, compare.GPUs(); gpus < need {
				return fmt.Errorf("--nodes %d with --gpus %d have %d GPUs, and both services may need %d", o.Nodes, o.GPUs, gpus, need)
			}
			host, err := startHost(c.Context(), o)
			if err != nil {
				return err
			}
			defer func() {
				if keep && c.Context().Err() == nil {
					fmt.Fprintf(c.OutOrStdout(), "\nThe lab keeps running; headroom-lab down ends it.\n%s\n", reach(host.state.Kubeconfig, host.state.Kubectl))
					err = errors.Join(err, host.keep())
					return
				}
				err = errors.Join(err, host.down())
			}()
			d.Cluster, err = cluster(o.Dir, o.Source)
			if err != nil {
				return err
			}
			d.HPASync, d.Out, d.Log = o.HPASyncPeriod, c.OutOrStdout(), slog.Default()
			_, err = compare.Run(c.Context(), d)
			return err
		},
	}
	clusterFlags(c.Flags(), &o)
	scenarioFlags(c.Flags(), &d.Scenario)
	c.Flags().BoolVar(&keep, "keep", false, "leave the lab running at the end and print its KUBECONFIG line")
	c.Flags().StringVar(&d.JSON, "json", "", "write counts, series and verdict to this file")
	c.Flags().StringVar(&d.HTML, "html", "", "write the plots and the table to this file, which needs no other")
	return c
}

func scenarioFlags(f *pflag.FlagSet, s *compare.Scenario) {
	f.DurationVar(&s.Day, "day", s.Day, "how long a compressed day is")
	f.IntVar(&s.Days, "days", s.Days, "number of days")
	f.IntVar(&s.Learning, "learning-days", s.Learning, "first days that are shown and not judged")
	f.Float64Var(&s.Night, "night", s.Night, "requests per second at night, to each service")
	f.Float64Var(&s.Peak, "peak", s.Peak, "requests per second at the peak, to each service; at most 60")
	f.Float64Var(&s.Noise, "noise", s.Noise, "standard deviation of demand about its shape, as a share, per day and per hundredth of a day")
	f.DurationVar(&s.LoadTime, "load-time", s.LoadTime, "how long a pod loads before it listens")
	f.Float64Var(&s.Target, "hpa-target", s.Target, "the stock HPA's requests_per_second per pod; a replica serves 6 in time")
	f.DurationVar(&s.Window, "scale-down-window", s.Window, "for how long both sides keep replicas before they give them away")
	f.Uint64Var(&s.Seed, "seed", s.Seed, "seed of the noise and of the arrival times")
}
