// Package agent watches the GPUs of one node and serves what they do, by device and by container, to Prometheus-compatible
// scrapers and as JSON.
//
// Two loops run beside each other, so that neither a wedged driver nor a hanging kubelet delays the other: one reads the
// devices and divides their use, one asks who was given them. A scrape renders what the first loop knew last.
//
// It guarantees:
//   - A value that is older than StaleTicks intervals is not served. Its series goes missing; it never freezes.
//   - What could not be read has no series, with the reason in the log and the JSON; it is never zero.
//   - For every device, the containers' series and the unattributed one add up to the device's, in every scrape, and
//     there is one series for each container and device.
//   - /healthz fails when a loop has stopped, or when only a new process can help; a driver that is absent or wedged is
//     not cured by a restart and fails /readyz instead, with the reason and the name of the call.
//   - While Config.Paused says so, NVML is given back, so that MIG can be reconfigured.
//   - Every trouble is logged when it comes, changes and goes, not at every tick.
//   - A tick that finds what the last one found allocates nothing, but for what Driver and Lookup do.
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

// errPaused is the outcome of a tick while the agent is paused.
var errPaused = errors.New("paused")

// Driver reads all GPUs of the node once, into memory that it was given before unless it failed. It returns when ctx is
// done at the latest, whatever the hardware does. An error means that no device was read. Release gives all handles on
// the hardware back.
type Driver interface {
	Read(ctx context.Context, reading *gpu.Reading) error
	Release(ctx context.Context) error
}

// Lookup says which containers were given which devices, by the devices' UUIDs or by NVIDIA's minor numbers ("nvidia0",
// "nvidia0/gi1"). The answer is nil when it is not known; an error beside an answer is about parts of it.
type Lookup interface {
	Owners(ctx context.Context) (map[string]gpu.Holders, error)
}

// Processes says which container a process belongs to, and what kind of process it is in a word: "owned" if it is a
// container's, "gone" if it has ended. Sweep is called after every tick: what was not asked for since can be forgotten.
type Processes interface {
	Container(pid uint32) (owner gpu.Owner, kind string)
	Sweep()
}

// Config is what an Agent needs. What is not marked optional is required.
type Config struct {
	Driver    Driver
	Lookup    Lookup
	Processes Processes           // optional: nil if processes cannot be told apart
	Unseen    string              // why Processes is nil; empty otherwise
	Paused    func() string       // optional: why the hardware must be left alone now, empty if it need not
	Problems  func() []string     // optional: what else keeps the agent from knowing more
	Absent    func() bool         // optional: true on a node without GPUs, where the agent has nothing to do and that is well
	Meter     *Meter              // in Gatherer
	Gatherer  prometheus.Gatherer // what is served beside the devices
	Interval  time.Duration       // between two ticks
	Window    time.Duration       // over which use is summed up
	Node      string              // optional: name of the Kubernetes node
	DCGM      bool                // serve dcgm-exporter's names as well, on /metrics/dcgm
	Log       *slog.Logger
}

// Agent runs the loops and serves their results. It is safe for concurrent use.
type Agent struct {
	cfg     Config
	reading atomic.Pointer[outcome[struct{}]] // its value is in node
	holders atomic.Pointer[outcome[map[string]gpu.Holders]]
	devices []family   // of /metrics
	dcgm    []family   // of /metrics/dcgm
	mu      sync.Mutex // guards node: held for a tick's arithmetic and for a scrape's rendering, never over IO
	node    node
}

// outcome is what a loop knows after a tick. It is not changed after it was published.
type outcome[T any] struct {
	finished time.Time // end of the tick
	err      error     // of this tick
	value    T         // of the last tick that had one
	at       time.Time // when value was got; zero if never
}

// paused reports whether the hardware was left alone in the last tick.
func (o *outcome[T]) paused() bool { return errors.Is(o.err, errPaused) }

// New returns an Agent that knows nothing until it runs.
func New(cfg Config) *Agent {
	return &Agent{cfg: cfg, devices: deviceFamilies(), dcgm: dcgmFamilies(), node: newNode(cfg.Window, StaleTicks*cfg.Interval)}
}

// Run runs the loops until ctx is done.
func (a *Agent) Run(ctx context.Context) {
	var loops sync.WaitGroup
	ticks := newTicker(a)
	loops.Go(func() { a.every(ctx, ticks.read) })
	lookups := newJournal(a.cfg.Log)
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

// current returns the kubelet's last answer if it may be used now.
func (a *Agent) current(now time.Time) (map[string]gpu.Holders, bool) {
	if o := a.holders.Load(); o != nil && a.fresh(o.at, now) {
		return o.value, true
	}
	return nil, false
}

func (a *Agent) lookUp(ctx context.Context, log journal) {
	holders, err := a.cfg.Lookup.Owners(ctx)
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return // shutting down
	}
	publish(&a.holders, holders, holders != nil, err)
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
