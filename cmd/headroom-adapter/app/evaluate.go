package app

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/rules"
)

// noteInterval is how often the log is told of rules that have a fault.
const noteInterval = 5 * time.Second

// haste is how many times as often rules are evaluated after they changed: a new rule then waits for its first scrapes, and
// hardly for an evaluation as well.
const haste = 5

// evaluation runs the rules again and again and has the newest snapshot for all who read.
type evaluation struct {
	evaluator *rules.Evaluator
	now       func() time.Time
	interval  time.Duration
	warmUp    time.Duration // from a change of the rules to the first values that rest on two scrapes
	changed   chan struct{} // of one: the rules have changed since the last look
	logger    *slog.Logger

	snapshot   atomic.Pointer[rules.Snapshot]
	noted      time.Time
	complaints map[string]string // by rule, the last one logged; for the loop alone

	duration prometheus.Histogram
}

// newEvaluation evaluates once, so that there is a snapshot, with no values, from the start.
func newEvaluation(evaluator *rules.Evaluator, now func() time.Time, interval, warmUp time.Duration, logger *slog.Logger, reg prometheus.Registerer) *evaluation {
	e := &evaluation{
		evaluator: evaluator, now: now, interval: interval, warmUp: warmUp, changed: make(chan struct{}, 1),
		logger: logger, complaints: map[string]string{},
		duration: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name: "headroom_adapter_evaluation_duration_seconds", Help: "Time to evaluate all rules once; rules that take longer than the budget go on in the background.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1},
		}),
	}
	e.once()
	return e
}

// run evaluates now and every interval until the context ends, and in haste for as long after the rules changed as the
// series that only the new ones read take to come.
func (e *evaluation) run(ctx context.Context) {
	tick := time.NewTicker(e.interval)
	defer tick.Stop()
	var calm time.Time // when haste ends; zero when it has
	for {
		e.once() //nolint:contextcheck // evaluations end with the evaluator, which also bounds each
		select {
		case <-ctx.Done():
			return
		case <-e.changed:
			calm = e.now().Add(e.warmUp)
			tick.Reset(e.interval / haste)
		case <-tick.C:
			if !calm.IsZero() && !e.now().Before(calm) {
				calm = time.Time{}
				tick.Reset(e.interval)
			}
		}
	}
}

// hurry says that the rules have changed.
func (e *evaluation) hurry() {
	select {
	case e.changed <- struct{}{}:
	default: // run has not seen the last change yet
	}
}

func (e *evaluation) once() {
	start := e.now()
	snapshot := e.evaluator.Tick(start)
	e.snapshot.Store(snapshot)
	e.duration.Observe(e.now().Sub(start).Seconds())
	if start.Sub(e.noted) >= noteInterval {
		e.noted = start
		e.note(snapshot.Statuses())
	}
}

// note logs what is wrong with a rule when that changes.
func (e *evaluation) note(statuses []rules.Status) {
	now := make(map[string]string, len(e.complaints))
	for _, s := range statuses {
		var text string
		switch {
		case s.Err != nil:
			text = s.Err.Error()
		case len(s.Notes) > 0:
			text = fmt.Sprintf("some results cannot be served: %q", s.Notes)
		default:
			continue
		}
		now[s.Rule.Name] = text
		if text != e.complaints[s.Rule.Name] {
			e.logger.Warn("a rule has a fault", "rule", s.Rule.Name, "err", text)
		}
	}
	e.complaints = now
}

// Metrics implements apiserver.Reader.
func (e *evaluation) Metrics() []metric.Descriptor { return e.snapshot.Load().Metrics() }

// Lookup implements apiserver.Reader.
func (e *evaluation) Lookup(name string, o metric.Object, now time.Time) (metric.Value, error) {
	return e.snapshot.Load().Lookup(name, o, now)
}

// Objects implements apiserver.Reader.
func (e *evaluation) Objects(name, resource, namespace string) iter.Seq[metric.Object] {
	return e.snapshot.Load().Objects(name, resource, namespace)
}

// External implements apiserver.Reader.
func (e *evaluation) External(name, namespace string, match func(map[string]string) bool, now time.Time) ([]metric.Series, error) {
	return e.snapshot.Load().External(name, namespace, match, now)
}

// Candidates implements apiserver.Reader.
func (e *evaluation) Candidates(name string, o metric.Object, now time.Time) []metric.Candidate {
	return e.snapshot.Load().Candidates(name, o, now)
}

// Statuses returns how each rule fared last.
func (e *evaluation) Statuses() []rules.Status { return e.snapshot.Load().Statuses() }

// alive fails when no evaluation has finished for long: a tick waits for a fraction of a second at most, so the loop hangs.
func (e *evaluation) alive(*http.Request) error {
	const most = 30 * time.Second
	if age := e.now().Sub(e.snapshot.Load().At()); age > most {
		return fmt.Errorf("the last evaluation was %s ago", age.Round(time.Second))
	}
	return nil
}
