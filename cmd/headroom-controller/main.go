// Command headroom-controller scales inference services by ScalePolicies: it decides how many replicas each needs, and in mode
// Act a HorizontalPodAutoscaler that it owns carries that out.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"headroom.dev/headroom/cmd/headroom-controller/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := app.NewCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "headroom-controller:", err)
		os.Exit(1)
	}
}
