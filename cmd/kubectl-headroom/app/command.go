// Package app is the command line of kubectl-headroom: it asks the API server and the adapter, lets package explain compose
// the answer, and writes it as a table, JSON or YAML. Values go to the output, everything else to the error output; what
// fails is one line that says what to do.
package app

import (
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/klog/v2"
)

// options are what all commands share.
type options struct {
	config *genericclioptions.ConfigFlags
	out    io.Writer
	errOut io.Writer
	now    func() time.Time
}

// NewCommand returns the command line of kubectl-headroom, which writes to out and errOut.
func NewCommand(out, errOut io.Writer) *cobra.Command { return newCommand(out, errOut, time.Now) }

func newCommand(out, errOut io.Writer, now func() time.Time) *cobra.Command {
	o := &options{
		config: genericclioptions.NewConfigFlags(true).WithDiscoveryBurst(300).WithDiscoveryQPS(50), out: out, errOut: errOut, now: now,
	}
	root := &cobra.Command{
		Use:   "kubectl-headroom",
		Short: "See why autoscalers want what they want, and the metrics that they see",
		Long: "kubectl headroom tells why a HorizontalPodAutoscaler wants what it wants, which rules make which metrics of what\n" +
			"series, and what inference pods and GPU nodes are doing, from the values that Headroom's adapter serves; and from its\n" +
			"node agents, what each GPU does, for whom, and whether it can be counted on. It shows what containers should request.",
		Example: examples(`
  # Why does this autoscaler not scale?
  kubectl headroom explain hpa chat -n demo

  # Why has this pod no value, and what would give it one?
  kubectl headroom explain metric requests_per_second -n demo -l app=chat -o wide

  # Which rules are there, and do they work?
  kubectl headroom rules

  # What do the ScalePolicies want, and why?
  kubectl headroom status -A

  # What are the pods and the GPUs doing?
  kubectl headroom top pods -A --sort-by gpu
  kubectl headroom top nodes

  # Which GPU is whose, and which are unwell?
  kubectl headroom top gpus

  # What should the containers request, and what would that save?
  kubectl headroom recommend -A

  # What would this autoscaler, and others, have made of the last two weeks?
  kubectl headroom backtest -f hpa.yaml --from-prometheus http://localhost:9090 --query 'sum(rate(http_requests_total[1m]))'`),
		// kubectl runs the plugin as "kubectl headroom", and so does the help say.
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl headroom"},
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRun: func(*cobra.Command, []string) {
			klog.LogToStderr(false) // discovery logs each API that is down; what matters is in our own errors
			klog.SetOutput(io.Discard)
		},
	}
	o.config.AddFlags(root.PersistentFlags())
	root.SetOut(out)
	root.SetErr(errOut)
	explain := &cobra.Command{Use: "explain", Short: "Say why an autoscaler, or a metric, is as it is"}
	explain.AddCommand(o.explainHPA(), o.explainMetric())
	top := &cobra.Command{Use: "top", Short: "Show what pods, GPU nodes and GPUs are doing now"}
	top.AddCommand(o.topPods(), o.topNodes(), o.topGPUs())
	root.AddCommand(explain, o.rules(), o.status(), top, o.backtest(), o.recommend(), o.rollout())
	return root
}

// examples leaves out the line break that makes a raw string readable.
func examples(text string) string { return text[1:] }
