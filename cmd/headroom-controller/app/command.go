package app

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// NewCommand returns the command line of headroom-controller.
func NewCommand() *cobra.Command {
	o := NewOptions(os.Getenv)
	cmd := &cobra.Command{
		Use:   "headroom-controller",
		Short: "Scale and update inference services by policies, and recommend requests",
		Long: "headroom-controller decides every period how many replicas the target of each ScalePolicy needs, by demand, its\n" +
			"forecast, and what it has learnt of the service. It records that in the policy's status; in mode Act it publishes it\n" +
			"as headroom_desired_replicas on /metrics and owns a HorizontalPodAutoscaler that follows.\n\n" +
			"Beside it it watches what containers use, and says in ResourceRecommendations, and in the status of VerticalPodAutoscalers\n" +
			"that name it, what they should request.\n\n" +
			"A workload that a RolloutPolicy names is updated by plan: a new pod template waits until there is capacity for it, goes out\n" +
			"step by step, is judged against the version before, and goes back where it is worse.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Prometheus.Complete()
			if err := o.Validate(); err != nil {
				return err
			}
			logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: *o.level()}))
			klog.SetSlogLogger(logger)
			ctrllog.SetLogger(logr.FromSlogHandler(logger.Handler()))
			if err := Run(cmd.Context(), o, logger); err != nil {
				return fmt.Errorf("stopped: %w", err)
			}
			return nil
		},
	}
	o.AddFlags(cmd.Flags())
	return cmd
}
