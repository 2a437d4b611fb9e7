// Command headroom-agent measures the GPUs of its node and serves, by device and by pod, what they do.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"headroom.dev/headroom/cmd/headroom-agent/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := app.Command(os.Stderr).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "headroom-agent:", err)
		os.Exit(1)
	}
}
