// Command kubectl-headroom is a plugin of kubectl: it says why an autoscaler wants what it wants, and shows the metrics that
// the adapter serves and the GPUs that the node agents see.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"headroom.dev/headroom/cmd/kubectl-headroom/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := app.NewCommand(os.Stdout, os.Stderr).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
