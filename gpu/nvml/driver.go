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
	requests chan *request
	idle     chan *request // that nobody uses, to be used again
	quit     chan struct{} // closed by Close
	quitOnce sync.Once
	done     chan struct{} // closed when the NVML thread has ended
	running  inFlight
}

// inFlight is the call into the library that has not returned, if any.
type inFlight struct {
	mu    sync.Mutex
	name  string // empty if none
	since time.Time
	limit time.Duration
}

func (f *inFlight) begin(name string, since time.Time, limit time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.name, f.since, f.limit = name, since, limit
}

func (f *inFlight) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.name = ""
}

// overdue returns the call in flight as an error if it has taken at least its limit, or any, if there is one.
func (f *inFlight) overdue(anyAge bool) *gpu.OverdueError {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.name == "" || !anyAge && time.Since(f.since) < f.limit {
		return nil
	}
	return &gpu.OverdueError{Call: f.name, Since: f.since}
}

// request is a Read or a Release on its way through the NVML thread. Its parts are used again, so that a pass allocates
// nothing; one that nobody waits for any more is left to the garbage collector.
type request struct {
	into      *gpu.Reading // nil for a Release
	reply     chan error   // buffered: an unwanted reply blocks nobody
	look      *time.Ticker
	abandoned atomic.Bool
}

// Open starts the NVML thread. The library is loaded by the first Read, so that a machine without one can start.
func Open(opts Options) *Driver {
	d := &Driver{
		opts:     opts.withDefaults(),
		requests: make(chan *request),
		idle:     make(chan *request, 1),
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
			if r.into == nil {
				s.stop()
				s.started = time.Time{}
				r.reply <- nil
				continue
			}
			r.reply <- s.read(&r.abandoned, r.into)
		}
	}
}

// Read reads every device once into reading, whose memory is used again. It errs when no device could be read: there is
// no library or driver, a call is overdue (*gpu.OverdueError), ctx is done, or the Driver is closed. After an error
// reading must not be used again, since a call that is overdue may still write to it. What fails on one device is a
// Value's reason in its Sample.
func (d *Driver) Read(ctx context.Context, reading *gpu.Reading) error {
	return d.do(ctx, reading)
}

// Release gives NVML back, with all handles on devices, so that the driver can be unloaded or MIG reconfigured. The next
// Read initialises it again.
func (d *Driver) Release(ctx context.Context) error { return d.do(ctx, nil) }

func (d *Driver) do(ctx context.Context, into *gpu.Reading) error {
	select {
	case <-d.quit:
		return errClosed
	default:
	}
	r := d.request(into)
	err, answered := d.wait(ctx, r)
	r.look.Stop()
	if !answered {
		r.abandoned.Store(true) // the thread drops the rest of a pass that nobody waits for
		return err
	}
	r.into = nil
	select {
	case d.idle <- r:
	default:
	}
	return err
}

// request takes an idle request or makes one. Looking at the running call this often finds an overdue one at most a
// tenth late.
func (d *Driver) request(into *gpu.Reading) *request {
	every := max(d.opts.CallDeadline/10, time.Millisecond)
	select {
	case r := <-d.idle:
		r.into = into
		r.look.Reset(every)
		return r
	default:
		return &request{into: into, reply: make(chan error, 1), look: time.NewTicker(every)}
	}
}

// wait hands r to the thread and returns its reply, or why it is not waited for.
func (d *Driver) wait(ctx context.Context, r *request) (err error, answered bool) {
	send := d.requests
	for {
		if overdue := d.running.overdue(false); overdue != nil {
			return overdue, false
		}
		select {
		case send <- r:
			send = nil
		case err := <-r.reply:
			return err, true
		case <-r.look.C:
		case <-d.done:
			return errClosed, false
		case <-ctx.Done():
			return d.interrupted(ctx), false
		}
	}
}

// interrupted says what a Read was waiting for when its context ended.
func (d *Driver) interrupted(ctx context.Context) error {
	if overdue := d.running.overdue(true); overdue != nil {
		return fmt.Errorf("stopped waiting for the GPUs: %w: %w", overdue, context.Cause(ctx))
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
