package load_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/lab/inference"
	"headroom.dev/headroom/lab/load"
)

// fleet runs that many servers, each on an address of its own, until the test ends.
func fleet(tb testing.TB, pods int) []string {
	tb.Helper()
	spec := inference.DefaultSpec()
	spec.Startup = inference.Distribution{}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	tb.Cleanup(func() {
		stop()
		running.Wait()
	})
	var targets []string
	var servers []*inference.Server
	for i := range pods {
		target := fmt.Sprintf("127.1.%d.%d:18000", 200+i/250, 1+i%250)
		server := inference.New(spec, uint64(i), time.Second)
		running.Go(func() {
			if err := server.Run(ctx, target); err != nil {
				tb.Error(err)
			}
		})
		targets, servers = append(targets, target), append(servers, server)
	}
	for _, server := range servers {
		require.Eventually(tb, func() bool { return server.Usage().Ready || tb.Failed() }, 10*time.Second, time.Millisecond)
	}
	return targets
}

func offer(tb testing.TB, targets []string, rate float64, length time.Duration) load.Summary {
	tb.Helper()
	pattern, err := load.Constant(rate, length)
	require.NoError(tb, err)
	g, err := load.New(load.Options{Pattern: pattern, Seed: 1, Targets: func() []string { return targets }})
	require.NoError(tb, err)
	require.NoError(tb, g.Run(tb.Context()))
	return g.Record().Summary()
}

func TestLoadMeetsInference(t *testing.T) {
	s := offer(t, fleet(t, 3), 100, time.Second)
	require.Equal(t, s.Requests, s.OK, "%v", s.Failures)
	require.Greater(t, s.Latency.P50, 40.0)
}

// BenchmarkFleet says what 300 pods and 1,000 requests/s cost in one process, generator included.
func BenchmarkFleet(b *testing.B) {
	targets := fleet(b, 300)
	for b.Loop() {
		before, began := cpu(b), time.Now()
		s := offer(b, targets, 1000, 10*time.Second)
		b.ReportMetric((cpu(b)-before).Seconds()/time.Since(began).Seconds(), "cores")
		b.ReportMetric(s.Latency.P50, "p50-ms")
		b.ReportMetric(s.Latency.P99, "p99-ms")
		b.ReportMetric(s.WaitP99, "late-p99-ms")
		b.ReportMetric(float64(s.Requests-s.OK), "failures")
	}
}

// cpu returns the processor time of this process.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
