package app

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/demo"
)

func demoCommand() *cobra.Command {
	o, d, keep := lab.DefaultOptions(), demo.Options{}, false
	c := &cobra.Command{
		Use: "demo", Short: "Show the whole loop: install, drive load up and down, watch the HPA scale", Args: cobra.NoArgs,
		Long: "demo brings a lab up, installs Headroom's manifests and the example service, drives its load up and down for about\n" +
			"three and a half minutes, and exits 0 only if the stock HPA scaled up and down on both of its metrics.",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.HPASyncPeriod > time.Minute {
				return fmt.Errorf("--hpa-sync-period %s would make the demo last longer than anybody watches; at most 1m", o.HPASyncPeriod)
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
			_, err = demo.Run(c.Context(), d)
			return err
		},
	}
	c.AddCommand(demoScalerCommand(), demoRolloutCommand())
	clusterFlags(c.Flags(), &o)
	c.Flags().BoolVar(&keep, "keep", false, "leave the lab running at the end and print its KUBECONFIG line")
	c.Flags().StringVar(&d.JSON, "json", "", "write the summary to this file")
	c.Flags().Uint64Var(&d.Seed, "seed", 1, "seed of the load's arrival times")
	return c
}
