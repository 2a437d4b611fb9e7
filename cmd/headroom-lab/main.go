// Command headroom-lab runs a real Kubernetes cluster on one machine, with simulated GPU nodes and inference pods, and
// demonstrates Headroom in it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"headroom.dev/headroom/cmd/headroom-lab/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := app.New().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "headroom-lab:", err)
		os.Exit(1)
	}
}
