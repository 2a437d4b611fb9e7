package app

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/adapter/store"
)

// TestEvaluationHurriesAfterAChange counts evaluations: two a second, ten a second for the warm-up after a change, and two
// again.
func TestEvaluationHurriesAfterAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval, warmUp = 500 * time.Millisecond, 2 * time.Second
		evaluator := rules.NewEvaluator(rules.Options{Store: store.New(store.Options{})})
		defer evaluator.Close()
		registry := prometheus.NewRegistry()
		e := newEvaluation(evaluator, time.Now, interval, warmUp, slog.New(slog.DiscardHandler), registry)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); e.run(ctx) }()
		defer func() { cancel(); <-done }()

		evaluations := func(d time.Duration) int {
			t.Helper()
			count := func() int {
				families, err := registry.Gather()
				require.NoError(t, err)
				require.Len(t, families, 1)
				return int(families[0].GetMetric()[0].GetHistogram().GetSampleCount())
			}
			before := count()
			time.Sleep(d)
			synctest.Wait()
			return count() - before
		}
		synctest.Wait()
		time.Sleep(interval / 2) // between two ticks
		assert.Equal(t, 20, evaluations(10*time.Second))
		e.hurry()
		e.hurry()
		assert.InDelta(t, warmUp.Seconds()*haste/interval.Seconds(), evaluations(warmUp+interval/haste/2), 1)
		assert.InDelta(t, 20, evaluations(10*time.Second), 1)
	})
}
