package app

import (
	"errors"
	"fmt"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/demo/update"
)

func demoRolloutCommand() *cobra.Command {
	o, d, keep, output := lab.DefaultOptions(), update.DemoOptions{}, false, ""
	o.Nodes, o.GPUs = 1, 8
	c := &cobra.Command{
		Use: "rollout", Short: "Bring good and bad versions of a service to a canary RolloutPolicy, and see each judged", Args: cobra.NoArgs,
		Long: "rollout brings a lab up and a service of four replicas under load, with a RolloutPolicy that updates it by a canary. A version as\n" +
			"good as the one before has to be promoted; versions that answer 3 % with errors, take 1.3 times as long, crash again and again or\n" +
			"never become Ready have to be gone back from, and one for which no GPU is left must not begin. It prints, for each, the verdict, the time\n" +
			"to it, the share of requests that were harmed and the time until the old version alone serves again, and exits 0 only if all were\n" +
			"judged right. It takes about six minutes.\n\n" +
			"Start-up is 3 s. The policy's margins (2 points of errors, a fifth of the 90th percentile) are wider than the defaults, and its\n" +
			"deadlines shorter, so that nobody has to wait for minutes: a good version passes when the judge is sure that it is within them.",
		Example: "  headroom-lab demo rollout -o json > rollout.json\n  headroom-lab demo rollout --only errors",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if output != "" && output != "json" {
				return fmt.Errorf("--output %q: only json is known", output)
			}
			if gpus := o.Nodes * o.GPUs; gpus < update.DemoGPUs {
				return fmt.Errorf("--nodes %d with --gpus %d have %d GPUs, and the service needs %d", o.Nodes, o.GPUs, gpus, update.DemoGPUs)
			}
			log.SetLogger(logr.Discard()) // controller-runtime's client says nothing that its errors do not
			host, err := startHost(c.Context(), o)
			if err != nil {
				return err
			}
			defer func() {
				if keep && c.Context().Err() == nil {
					fmt.Fprintf(os.Stderr, "\nThe lab keeps running; headroom-lab down ends it.\n%s\n", reach(host.state.Kubeconfig, host.state.Kubectl))
					err = errors.Join(err, host.keep())
					return
				}
				err = errors.Join(err, host.down())
			}()
			if d.Cluster, err = cluster(o.Dir, o.Source); err != nil {
				return err
			}
			d.GPUs, d.Out = o.Nodes*o.GPUs, c.OutOrStdout()
			if output == "json" {
				d.Out = os.Stderr
			}
			r, err := update.Demo(c.Context(), d)
			if err != nil {
				return err
			}
			if output == "json" {
				err = writeJSON(c.OutOrStdout(), r)
			}
			if err = errors.Join(err, r.Print(d.Out)); err != nil {
				return err
			}
			if !r.Passed {
				return update.ErrWrong
			}
			return nil
		},
	}
	clusterFlags(c.Flags(), &o)
	c.Flags().BoolVar(&keep, "keep", false, "leave the lab running at the end and print its KUBECONFIG line")
	c.Flags().StringVarP(&output, "output", "o", "", "json: write what was seen to stdout, and all else to stderr")
	c.Flags().StringVar(&d.Only, "only", "", "only versions whose name contains this")
	c.Flags().Uint64Var(&d.Seed, "seed", 1, "seed of the load's arrival times")
	return c
}
