// Package agent watches the GPUs of one node and serves what they do, by device and by pod, to Prometheus-compatible
// scrapers.
//
// Two loops run beside each other, so that neither a wedged driver nor a hanging kubelet delays the other: one reads the
// devices, one asks who owns them. A scrape joins what the two published last.
//
// It guarantees:
//   - A value that is older than StaleTicks intervals is not served. Its series goes missing; it never freezes.
//   - What could not be read has no series, with the reason in the log; it is never zero.
//   - For every device, the pods' series and the unattributed one add up to the device's, in every scrape.
//   - /healthz fails when a loop has stopped, or when only a new process can help; a driver that is absent or wedged is
//     not cured by a restart and fails /readyz instead, with the reason and the name of the call.
//   - Every trouble is logged when it comes, changes and goes, not at every tick.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"headroom.dev/headroom/gpu"
)

// StaleTicks is how many intervals old a measurement or an answer of the kubelet may be and still be served.
const StaleTicks = 5

// healthTicks is how many intervals old the end of a loop's last tick may be. A tick takes at most StaleTicks.
const healthTicks = 3 * StaleTicks

// Driver reads all GPUs of the node once. It returns when ctx is done at the latest, whatever the hardware does. An
// error means that no device was read.
type Driver interface {
	Read(ctx context.Context) (gpu.Reading, error)
}

// Lookup says which containers hold which devices, by the devices' UUIDs; the owners of a device are distinct. The
// owners are nil when they are not known; an error beside owners is about parts of the answer.
type Lookup interface {
	Owners(ctx context.Context) (map[string][]gpu.Owner, error)
}

// Config is what an Agent needs. All of it is required, but for Node.
type Config struct {
	Driver   Driver
	Lookup   Lookup
	Meter    *Meter // in Registry
	Registry *prometheus.Registry
	Interval time.Duration // between two ticks
	Node     string        // name of the Kubernetes node, for gpu_info
	Log      *slog.Logger
}

// Agent runs the loops and serves their results. It is safe for concurrent use.
type Agent struct {
	cfg     Config
	reading atomic.Pointer[outcome[gpu.Reading]]
	owners  atomic.Pointer[outcome[map[string][]gpu.Owner]]
}

// outcome is what a loop knows after a tick. It is not changed after it was published.
type outcome[T any] struct {
	finished time.Time // end of the tick
	err      error     // of this tick
	value    T         // of the last tick that had one
	at       time.Time // when value was got; zero if never
}

// New returns an Agent whose metrics are in cfg.Registry.
func New(cfg Config) *Agent {
	a := &Agent{cfg: cfg}
	cfg.Registry.MustRegister(collector{a, describe()})
	return a
}

// Run runs the loops until ctx is done.
func (a *Agent) Run(ctx context.Context) {
	var loops sync.WaitGroup
	readings := journal{log: a.cfg.Log, last: map[string]string{}}
	loops.Go(func() { a.every(ctx, func(ctx context.Context) { a.read(ctx, readings) }) })
	lookups := journal{log: a.cfg.Log, last: map[string]string{}}
	loops.Go(func() { a.every(ctx, func(ctx context.Context) { a.lookUp(ctx, lookups) }) })
	loops.Wait()
}

// every calls tick now and at every interval. A tick that overruns loses the ticks that it covers.
func (a *Agent) every(ctx context.Context, tick func(context.Context)) {
	ticker := time.NewTicker(a.cfg.Interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, a.stale())
		tick(limited)
		cancel()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func (a *Agent) stale() time.Duration { return StaleTicks * a.cfg.Interval }

// fresh reports whether what was got at a time may be served now.
func (a *Agent) fresh(at, now time.Time) bool { return !at.IsZero() && now.Sub(at) <= a.stale() }

func (a *Agent) read(ctx context.Context, log journal) {
	reading, err := a.cfg.Driver.Read(ctx)
	if errors.Is(err, context.Canceled) {
		return // shutting down
	}
	if last := a.reading.Load(); err == nil && (last == nil || last.at.IsZero()) {
		a.cfg.Log.Info("reading GPUs", "count", len(reading.Samples), "driver", reading.Driver)
	}
	publish(&a.reading, reading, err == nil, err)
	log.note("GPUs", problem(err))
	if err != nil {
		a.cfg.Meter.failed("nvml")
		return
	}
	for _, s := range reading.Samples {
		name := s.Device.UUID
		if name == "" {
			name = "GPU " + index(s.Device)
		}
		log.note(name+" utilization", s.Utilization.Reason())
		log.note(name+" memory", s.MemoryUsed.Reason())
	}
}

func (a *Agent) lookUp(ctx context.Context, log journal) {
	owners, err := a.cfg.Lookup.Owners(ctx)
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return // shutting down
	}
	publish(&a.owners, owners, owners != nil, err)
	log.note("owners of the GPUs", problem(err))
	if err != nil {
		a.cfg.Meter.failed("pod-resources")
	}
}

// publish replaces the outcome. Without a new value the last one stays, with its age. Each outcome has one writer.
func publish[T any](to *atomic.Pointer[outcome[T]], value T, ok bool, err error) {
	now := time.Now()
	next := &outcome[T]{finished: now, err: err}
	if ok {
		next.value, next.at = value, now
	} else if last := to.Load(); last != nil {
		next.value, next.at = last.value, last.at
	}
	to.Store(next)
}

func problem(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// journal logs what changes. Each loop has its own.
type journal struct {
	log  *slog.Logger
	last map[string]string // subject → problem, for subjects that have or had one
}

// note logs the problem of a subject if it is another one than last time. An empty problem is none.
func (j journal) note(subject, problem string) {
	last, had := j.last[subject]
	switch {
	case problem == last && (had || problem == ""):
	case problem == "":
		j.log.Info("known again", "what", subject)
	default:
		j.log.Warn("unknown", "what", subject, "reason", problem)
	}
	if had || problem != "" {
		j.last[subject] = problem
	}
}
