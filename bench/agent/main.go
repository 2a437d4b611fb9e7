// Command agent measures what headroom-agent costs a node: CPU and memory with 8 GPUs of 16 processes each, at ticks of
// 1 s and 5 s, and the cost of a scrape. The agent is the real binary with the real go-nvml; the driver is the stand-in of
// gpu/nvmltest, the kubelet, the API server and /proc are stand-ins of this program. What the stand-in driver itself
// costs is inside the agent's process: a C program that makes the same calls in a loop tells how much that is.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o := options{}
	flag.DurationVar(&o.length, "length", 2*time.Minute, "how long each measurement takes")
	flag.IntVar(&o.scrapes, "scrapes", 300, "scrapes that are timed")
	flag.StringVar(&o.results, "results", "bench/results", "folder for the JSON file")
	flag.Parse()
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-agent:", err)
		os.Exit(1)
	}
}
