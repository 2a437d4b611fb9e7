// Command headroom-adapter scrapes inference pods and GPU agents and serves what its rules make of it as
// custom.metrics.k8s.io, for HorizontalPodAutoscalers.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"headroom.dev/headroom/cmd/headroom-adapter/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := app.NewCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "headroom-adapter:", err)
		os.Exit(1)
	}
}
