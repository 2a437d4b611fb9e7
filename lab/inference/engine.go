package inference

import (
	"container/list"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// errQueueFull is why a request is refused at once: every slot is busy and every place in the queue taken.
var errQueueFull = errors.New("queue is full")

// engine is what stands for the GPU: slots that serve requests at the same time, and a FIFO queue before them.
// It keeps requests apart and counts; spending the service time is the caller's part.
type engine struct {
	mu      sync.Mutex
	spec    Spec
	rng     *rand.Rand
	running int
	waiting list.List // of *ticket, oldest first
	meter   meter
}

// job is what a request got with its slot.
type job struct {
	unit  time.Duration // service time of ReferenceTokens output tokens
	fails bool          // to be answered 500 after its service
}

// ticket is a place in the queue. job is set before granted is closed.
type ticket struct {
	granted chan struct{}
	job     job
}

func newEngine(spec Spec, seed uint64) *engine {
	// The second word of the seed only tells this stream from others with the same seed.
	return &engine{spec: spec, rng: rand.New(rand.NewPCG(seed, 1))}
}

// enter takes a slot, waiting for one in the order of arrival. It fails at once with errQueueFull where no more may wait,
// and with the context's error when ctx ends first; the caller then holds nothing. Otherwise it must call leave.
func (e *engine) enter(ctx context.Context) (job, error) {
	e.mu.Lock()
	if e.running < e.spec.Slots && e.waiting.Len() == 0 {
		got := e.startLocked(time.Now())
		e.mu.Unlock()
		return got, nil
	}
	if e.waiting.Len() >= e.spec.Queue {
		e.mu.Unlock()
		return job{}, errQueueFull
	}
	mine := &ticket{granted: make(chan struct{})}
	place := e.waiting.PushBack(mine)
	e.mu.Unlock()

	select {
	case <-mine.granted:
		return mine.job, nil
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-mine.granted: // in the very moment that the client went
		e.leaveLocked(time.Now())
	default:
		e.waiting.Remove(place)
	}
	return job{}, ctx.Err()
}

// leave gives a slot back.
func (e *engine) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leaveLocked(time.Now())
}

func (e *engine) leaveLocked(now time.Time) {
	e.meter.advance(now, e.running)
	e.running--
	e.grantLocked(now)
}

func (e *engine) grantLocked(now time.Time) {
	for e.running < e.spec.Slots && e.waiting.Len() > 0 {
		next := e.waiting.Remove(e.waiting.Front()).(*ticket) //nolint:forcetypeassert // the list holds nothing else
		next.job = e.startLocked(now)
		close(next.granted)
	}
}

// startLocked draws the job under the lock, so that the n-th request to start gets the n-th draw whichever goroutine
// wakes first.
func (e *engine) startLocked(now time.Time) job {
	e.meter.advance(now, e.running)
	e.running++
	return job{unit: e.spec.ServiceTime.draw(e.rng), fails: e.rng.Float64() < e.spec.ErrorRate}
}

// configure changes the spec under way; a larger number of slots is used at once, a smaller one as slots fall free.
func (e *engine) configure(spec Spec) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.spec = spec
	e.grantLocked(time.Now())
}

// state is the engine at one moment.
type state struct {
	spec             Spec
	running, waiting int
	meter            meter
}

func (e *engine) state() state {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.meter.advance(time.Now(), e.running)
	return state{spec: e.spec, running: e.running, waiting: e.waiting.Len(), meter: e.meter}
}

// meter integrates the use of the slots over time.
type meter struct {
	last  time.Time
	busy  time.Duration // with at least one slot busy
	slots time.Duration // slots × time
}

// advance books the time since the last call, in which running slots were busy.
func (m *meter) advance(now time.Time, running int) {
	if !m.last.IsZero() && running > 0 {
		passed := now.Sub(m.last)
		m.busy += passed
		m.slots += passed * time.Duration(running)
	}
	m.last = now
}
