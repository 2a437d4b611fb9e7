// Command headroom-lab runs a real Kubernetes cluster on one machine, with simulated GPU nodes and inference pods, and
// demonstrates Headroom in it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"headroom.dev/headroom/cmd/headroom-lab/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := app.New().ExecuteContext(ctx)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err != nil && interrupted && errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "headroom-lab: interrupted")
		os.Exit(130) // as a shell reports SIGINT
	case err != nil:
		fmt.Fprintln(os.Stderr, "headroom-lab:", err)
		os.Exit(1)
	}
}
