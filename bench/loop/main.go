// Command loop times the control loop from outside: from a step in real load to the first answer of the custom-metrics API
// that shows it, to the HPA's decision, to the first new pod that is Ready; with the HPA at its default pace and at 2 s.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	repetitions := flag.Int("repetitions", 20, "steps in load for each pace of the HPA")
	results := flag.String("results", "bench/results", "folder for the JSON file")
	flag.Parse()
	err := run(ctx, *repetitions, *results)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-loop:", err)
		os.Exit(1)
	}
}
