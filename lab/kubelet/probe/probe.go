// Package probe runs a container's startup, liveness and readiness probes as the kubelet does.
//
// It guarantees: the startup probe gates the other two; a threshold counts consecutive results; a container without a
// startup probe is started, and one without a readiness probe ready, as soon as it runs; after a startup or liveness
// probe has given the container up, nothing more is reported. HTTP and TCP probes work; exec and gRPC probes, which need
// a container to run in, are refused by Validate.
package probe

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Kind tells a container's probes apart.
type Kind string

// The three probes.
const (
	Startup   Kind = "Startup"
	Liveness  Kind = "Liveness"
	Readiness Kind = "Readiness"
)

// Check runs one probe; nil is success.
type Check func(ctx context.Context, p *corev1.Probe) error

// Observer is told what the probes find, one call at a time.
type Observer struct {
	Started   func()                     // the startup probe has succeeded, or there is none
	Ready     func(ready bool)           // readiness has changed; it is false at the beginning
	Unhealthy func(kind Kind, err error) // one probe has failed
	// Dead is called once, last, when a startup or liveness probe has failed as often as it may: the container is to be
	// restarted.
	Dead func(kind Kind, err error)
}

// Watch probes a container that starts now, until ctx ends or the container is given up.
func Watch(ctx context.Context, c *corev1.Container, check Check, o Observer) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &watch{check: check, observer: o, began: time.Now(), giveUp: cancel}
	if c.StartupProbe != nil {
		w.loop(ctx, c.StartupProbe, func(c *counter, err error) (done bool) {
			if w.observe(ctx, Startup, c, err); c.failed {
				return true
			}
			return c.succeeded
		})
	}
	if ctx.Err() != nil {
		return
	}
	w.tell(ctx, o.Started)
	var wg sync.WaitGroup
	if c.LivenessProbe != nil {
		wg.Go(func() {
			w.loop(ctx, c.LivenessProbe, func(c *counter, err error) bool { w.observe(ctx, Liveness, c, err); return c.failed })
		})
	}
	if c.ReadinessProbe == nil {
		w.tell(ctx, func() { o.Ready(true) })
	} else {
		wg.Go(func() { w.readiness(ctx, c.ReadinessProbe) })
	}
	wg.Wait()
}

type watch struct {
	check    Check
	observer Observer
	began    time.Time
	giveUp   context.CancelFunc

	mu sync.Mutex // one call to the observer at a time, none after Dead
}

// tell calls the observer unless the watch has ended.
func (w *watch) tell(ctx context.Context, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() == nil {
		f()
	}
}

// observe reports a startup or liveness result, and the container's death.
func (w *watch) observe(ctx context.Context, kind Kind, c *counter, err error) {
	w.tell(ctx, func() {
		if err != nil {
			w.observer.Unhealthy(kind, err)
		}
		if c.failed {
			w.giveUp()
			w.observer.Dead(kind, err)
		}
	})
}

func (w *watch) readiness(ctx context.Context, p *corev1.Probe) {
	ready := false
	w.loop(ctx, p, func(c *counter, err error) bool {
		w.tell(ctx, func() {
			if err != nil {
				w.observer.Unhealthy(Readiness, err)
			}
			now := (ready || c.succeeded) && !c.failed
			if now != ready {
				ready = now
				w.observer.Ready(now)
			}
		})
		return false
	})
}

// loop runs one probe every period, the first time when its initial delay since the container's start is over, until
// observe returns true or ctx ends.
func (w *watch) loop(ctx context.Context, p *corev1.Probe, observe func(c *counter, err error) (done bool)) {
	if !sleep(ctx, time.Until(w.began.Add(seconds(p.InitialDelaySeconds, 0)))) {
		return
	}
	ticker := time.NewTicker(seconds(p.PeriodSeconds, 10))
	defer ticker.Stop()
	c := counter{success: max(1, int(p.SuccessThreshold)), failure: int(p.FailureThreshold)}
	if c.failure < 1 {
		c.failure = 3
	}
	for {
		err := w.once(ctx, p)
		if ctx.Err() != nil {
			return
		}
		c.add(err == nil)
		if observe(&c, err) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (w *watch) once(ctx context.Context, p *corev1.Probe) error {
	timeout := seconds(p.TimeoutSeconds, 1)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s", timeout))
	defer cancel()
	err := w.check(ctx, p)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// counter turns single results into a verdict: a run of equal results as long as its threshold.
type counter struct {
	success, failure int // thresholds
	last             bool
	run              int // results equal to last, in a row

	succeeded, failed bool // the verdict of the last result; both false below the thresholds
}

func (c *counter) add(ok bool) {
	if c.run > 0 && ok == c.last {
		c.run++
	} else {
		c.last, c.run = ok, 1
	}
	c.succeeded = ok && c.run >= c.success
	c.failed = !ok && c.run >= c.failure
}

func seconds(n, ifUnset int32) time.Duration {
	if n <= 0 {
		n = ifUnset
	}
	return time.Duration(n) * time.Second
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
