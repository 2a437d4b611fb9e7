package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/adapter/store"
)

// evaluation runs the rules again and again and has the newest snapshot for all who read.
type evaluation struct {
	rules    *rules.Evaluator
	store    *store.Store
	now      func() time.Time
	interval time.Duration
	logger   *slog.Logger

	snapshot   atomic.Pointer[rules.Snapshot]
	complaints map[string]string // by metric, the last one logged; for the loop alone

	duration prometheus.Histogram
	failures prometheus.Counter
}

// newEvaluation evaluates once, so that there is a snapshot, with no values, from the start.
func newEvaluation(ctx context.Context, set *rules.Set, st *store.Store, now func() time.Time, interval time.Duration, logger *slog.Logger, reg prometheus.Registerer) *evaluation {
	e := &evaluation{
		rules: rules.NewEvaluator(set, rules.EvaluatorOptions{Clock: now}),
		store: st, now: now, interval: interval, logger: logger, complaints: map[string]string{},
		duration: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name: "headroom_adapter_evaluation_duration_seconds", Help: "Time to evaluate all rules once.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5},
		}),
		failures: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "headroom_adapter_evaluation_failures_total", Help: "Evaluations of single rules that failed.",
		}),
	}
	e.once(ctx)
	return e
}

// run evaluates now and every interval until the context ends.
func (e *evaluation) run(ctx context.Context) {
	tick := time.NewTicker(e.interval)
	defer tick.Stop()
	for {
		e.once(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (e *evaluation) once(ctx context.Context) {
	start := e.now()
	snapshot := e.rules.Evaluate(ctx, e.store, start)
	if ctx.Err() != nil {
		return // cut short by the end of the process: the last whole one stays
	}
	e.snapshot.Store(snapshot)
	e.duration.Observe(e.now().Sub(start).Seconds())
	for _, status := range snapshot.Statuses() {
		e.note(status)
	}
}

// note logs what is wrong with a rule when that changes.
func (e *evaluation) note(s rules.Status) {
	text := ""
	switch {
	case s.Err != nil:
		e.failures.Inc()
		text = s.Err.Error()
	case s.Unlabelled+s.Ambiguous > 0:
		text = fmt.Sprintf("some results cannot be served: %q", s.Examples)
	}
	if text != "" && text != e.complaints[s.Rule.Metric] {
		e.logger.Warn("a rule has a fault", "metric", s.Rule.Metric, "err", text)
	}
	e.complaints[s.Rule.Metric] = text
}

// Metrics implements apiserver.Reader.
func (e *evaluation) Metrics() []metric.Descriptor { return e.snapshot.Load().Metrics() }

// Lookup implements apiserver.Reader.
func (e *evaluation) Lookup(name string, o metric.Object, now time.Time) (metric.Value, error) {
	return e.snapshot.Load().Lookup(name, o, now)
}

// alive fails when no evaluation has finished for long: a rule takes two seconds at most, so the loop hangs.
func (e *evaluation) alive(*http.Request) error {
	const most = 30 * time.Second
	if age := e.now().Sub(e.snapshot.Load().At()); age > most {
		return fmt.Errorf("the last evaluation was %s ago", age.Round(time.Second))
	}
	return nil
}
