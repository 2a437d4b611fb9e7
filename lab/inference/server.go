// Package inference simulates an inference server: a real HTTP server that takes its time as one on a GPU would, with no
// GPU and next to no CPU, so that one process can stand for hundreds of pods.
//
// A Server has batch slots and a FIFO queue before them. A request holds a slot for a service time that is drawn from the
// Spec and scaled by its output tokens; the time is waited for, not burnt. What does not fit the queue is refused at once.
// While the weights load nothing listens, as with a vLLM server, so a probe's connection is refused. /metrics speaks
// under vLLM's names and under plain http_… names, and can be made to fail in the ways in which real ones do.
//
// Guarantees: the same seed gives the n-th request to start the same service time and the same fate; a client that goes
// away frees its slot or its place in the queue; every request that reaches a work handler is counted exactly once in
// http_requests_total (200, 400, 499 for a client that went, 500, 503). The package knows nothing of Kubernetes.
package inference

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server is one simulated inference server. Its methods may be called from any goroutine.
type Server struct {
	engine   *engine
	metrics  *metrics
	model    string
	startup  time.Duration
	grace    time.Duration
	stopping chan struct{} // closed when Run begins to drain
	requests atomic.Uint64 // for the ids of answers

	mu    sync.Mutex
	phase phase
	since time.Time // when the phase began
}

type phase int

const (
	phaseNew phase = iota
	phaseLoading
	phaseReady
	phaseDraining
	phaseStopped
)

// errCrash is how a server ends that its spec tells to crash.
var errCrash = errors.New("simulated crash")

// New returns a server that behaves as spec says, which must be valid: ParseSpec's, or one that Validate accepts. All
// that is random comes from seed. grace bounds how long Run lets requests in flight finish once its context has ended.
func New(spec Spec, seed uint64, grace time.Duration) *Server {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := &Server{
		engine:   newEngine(spec, seed),
		model:    spec.Model,
		startup:  spec.Startup.draw(rng),
		grace:    grace,
		stopping: make(chan struct{}),
	}
	s.metrics = newMetrics(spec.Model, s.engine.state)
	return s
}

// Run loads the weights, which is waiting for the start-up time, then listens on addr ("127.1.0.5:8000") and serves until
// ctx ends. It then stops accepting, lets what is in flight finish for at most the grace period, cuts off the rest, and
// returns nil. One that crashes returns an error instead, and cuts off what is in flight. A server runs once.
func (s *Server) Run(ctx context.Context, addr string) error {
	if !s.load() {
		return errors.New("inference server was run before")
	}
	defer s.enter(phaseStopped)
	var crash <-chan time.Time
	if after := time.Duration(s.engine.state().spec.CrashAfter); after > 0 {
		timer := time.NewTimer(after)
		defer timer.Stop()
		crash = timer.C
	}
	loaded := time.NewTimer(s.startup)
	defer loaded.Stop()
	select {
	case <-loaded.C:
	case <-crash:
		return errCrash
	case <-ctx.Done():
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("inference server cannot listen on %s: %w", addr, err)
	}
	return s.serve(ctx, listener, crash)
}

func (s *Server) serve(ctx context.Context, listener net.Listener, crash <-chan time.Time) error {
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.enter(phaseReady)
	select {
	case err := <-served:
		return fmt.Errorf("inference server on %s: %w", listener.Addr(), err)
	case <-crash:
		close(s.stopping)
		return errors.Join(errCrash, server.Close())
	case <-ctx.Done():
	}
	s.enter(phaseDraining)
	close(s.stopping)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		slog.Debug("inference server cuts off requests after the grace period", "address", listener.Addr().String(), "grace", s.grace)
		if err := server.Close(); err != nil {
			return fmt.Errorf("cannot close inference server on %s: %w", listener.Addr(), err)
		}
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("inference server on %s: %w", listener.Addr(), err)
	}
	return nil
}

// Update changes the behaviour of a server that may be running. Its start-up time and its model's name stay as they were.
func (s *Server) Update(spec Spec) error {
	if err := spec.Validate(); err != nil {
		return fmt.Errorf("invalid simulate spec: %w", err)
	}
	s.engine.configure(spec)
	return nil
}

// Usage is what a server has used so far and uses now.
type Usage struct {
	Busy           time.Duration // cumulative time with at least one slot busy: NVML's utilisation is its derivative
	SlotTime       time.Duration // cumulative slots × time
	GPUMemoryBytes int64         // weights and KV cache held now
	Running        int           // slots busy now
	Waiting        int           // requests in the queue now
	Ready          bool          // listening and not draining
}

// Usage returns the server's use up to now.
func (s *Server) Usage() Usage {
	state := s.engine.state()
	s.mu.Lock()
	phase, since := s.phase, s.since
	s.mu.Unlock()
	return Usage{
		Busy:           state.meter.busy,
		SlotTime:       state.meter.slots,
		GPUMemoryBytes: int64(memory(state, phase, s.loaded(time.Since(since)))),
		Running:        state.running,
		Waiting:        state.waiting,
		Ready:          phase == phaseReady,
	}
}

// loaded returns the share of the weights that is on the GPU after that time of loading.
func (s *Server) loaded(passed time.Duration) float64 {
	if passed >= s.startup {
		return 1
	}
	return passed.Seconds() / s.startup.Seconds()
}

// memory returns the GPU memory held: the weights grow while they load, the KV cache with the busy slots.
func memory(now state, at phase, loaded float64) Bytes {
	switch at {
	case phaseLoading:
		return Bytes(float64(now.spec.GPUMemory) * loaded)
	case phaseReady, phaseDraining:
		return now.spec.GPUMemory + Bytes(float64(now.spec.KVCache)*now.cacheUsage())
	default:
		return 0
	}
}

// cacheUsage returns the share of the KV cache in use, 0 to 1.
func (s state) cacheUsage() float64 {
	return min(1, float64(s.running)/float64(s.spec.Slots))
}

// load begins the loading phase; it returns false where that happened before.
func (s *Server) load() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != phaseNew {
		return false
	}
	s.phase, s.since = phaseLoading, time.Now()
	return true
}

func (s *Server) enter(next phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase, s.since = next, time.Now()
}
