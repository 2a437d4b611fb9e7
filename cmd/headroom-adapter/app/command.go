package app

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/klog/v2"
)

// NewCommand returns the command line of headroom-adapter.
func NewCommand() *cobra.Command {
	o := NewOptions(os.Getenv)
	cmd := &cobra.Command{
		Use:   "headroom-adapter",
		Short: "Serve per-pod metrics of inference services as custom.metrics.k8s.io",
		Long: "headroom-adapter scrapes annotated pods every second and serves what its rules make of it, per pod, as\n" +
			"custom.metrics.k8s.io/v1beta1 and v1beta2, with the true time of each value.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Complete()
			if err := o.Validate(); err != nil {
				return err
			}
			logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: *o.level()}))
			klog.SetSlogLogger(logger)
			if err := Run(cmd.Context(), o, logger); err != nil {
				return fmt.Errorf("stopped: %w", err)
			}
			return nil
		},
	}
	sets := o.Flags()
	for _, name := range sets.Order {
		cmd.Flags().AddFlagSet(sets.FlagSets[name])
	}
	cols, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		cols = 0 // no terminal: unwrapped
	}
	cliflag.SetUsageAndHelpFunc(cmd, sets, cols)
	return cmd
}
