//go:build linux && cgo

package nvml

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"headroom.dev/headroom/gpu"
)

// Driver reads all GPUs of this machine. It is safe for concurrent use.
type Driver struct {
	opts     Options
	requests chan request
	quit     chan struct{} // closed by Close
	quitOnce sync.Once
	done     chan struct{} // closed when the NVML thread has ended
	running  atomic.Pointer[call]
}

// call is a call into the library that has not returned.
type call struct {
	name  string
	since time.Time
	limit time.Duration
}

type request struct {
	ctx   context.Context // done when nobody waits for the reply any more
	reply chan<- result   // buffered: an unwanted reply blocks nobody
}

type result struct {
	reading gpu.Reading
	err     error
}

// Open starts the NVML thread. The library is loaded by the first Read, so that a machine without one can start.
func Open(opts Options) *Driver {
	d := &Driver{
		opts:     opts.withDefaults(),
		requests: make(chan request),
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	go d.serve()
	return d
}

// serve owns the NVML thread. The goroutine never unlocks it, so the thread ends with it.
func (d *Driver) serve() {
	runtime.LockOSThread()
	defer close(d.done)
	s := &session{opts: d.opts, running: &d.running}
	defer s.stop()
	for {
		select {
		case <-d.quit:
			return
		case r := <-d.requests:
			reading, err := s.read(r.ctx)
			r.reply <- result{reading, err}
		}
	}
}

// Read reads every device once. It errs when no device could be read: there is no library or driver, a call is overdue
// (*gpu.OverdueError), ctx is done, or the Driver is closed. What fails on one device is a Value's reason in its Sample.
func (d *Driver) Read(ctx context.Context) (gpu.Reading, error) {
	select {
	case <-d.quit:
		return gpu.Reading{}, errClosed
	default:
	}
	wait, cancel := context.WithCancel(ctx)
	defer cancel() // the thread drops the rest of a pass that nobody waits for
	// Looking at the running call this often finds an overdue one at most a tenth late.
	look := time.NewTicker(max(d.opts.CallDeadline/10, time.Millisecond))
	defer look.Stop()
	reply := make(chan result, 1)
	send := d.requests
	for {
		if c := d.running.Load(); c != nil && time.Since(c.since) >= c.limit {
			return gpu.Reading{}, &gpu.OverdueError{Call: c.name, Since: c.since}
		}
		select {
		case send <- request{wait, reply}:
			send = nil
		case r := <-reply:
			return r.reading, r.err
		case <-look.C:
		case <-d.done:
			return gpu.Reading{}, errClosed
		case <-ctx.Done():
			return gpu.Reading{}, d.interrupted(ctx)
		}
	}
}

// interrupted says what a Read was waiting for when its context ended.
func (d *Driver) interrupted(ctx context.Context) error {
	if c := d.running.Load(); c != nil {
		return fmt.Errorf("stopped waiting for the GPUs: %w: %w",
			&gpu.OverdueError{Call: c.name, Since: c.since}, context.Cause(ctx))
	}
	return fmt.Errorf("stopped waiting for the GPUs: %w", context.Cause(ctx))
}

// Close shuts NVML down and ends its thread. It waits for a running call as long as ctx allows; then it returns an
// error that names it, and the thread stays until the call returns.
func (d *Driver) Close(ctx context.Context) error {
	d.quitOnce.Do(func() { close(d.quit) })
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot shut NVML down: %w", d.interrupted(ctx))
	}
}
