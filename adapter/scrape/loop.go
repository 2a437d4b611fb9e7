package scrape

import (
	"bytes"
	"context"
	"sync"
	"time"
)

// loop scrapes one target.
type loop struct {
	m      *Manager
	target Target
	phase  time.Duration
	ctx    context.Context // the life of the loop, ended by stop
	cancel context.CancelFunc

	mu      sync.Mutex // orders stop against the append of a late answer
	stopped bool
	status  Status
}

func newLoop(m *Manager, t Target) *loop {
	ctx, cancel := context.WithCancel(m.ctx)
	return &loop{m: m, target: t, phase: phase(t.ID, m.opts.Interval), ctx: ctx, cancel: cancel, status: Status{Target: t}}
}

// stop cancels what is in flight and forgets the target. After it returned nothing more is appended.
func (l *loop) stop() {
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.m.sink.Forget(l.target.ID)
}

func (l *loop) current() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

func (l *loop) run() {
	defer l.cancel()
	for {
		start := l.m.opts.Now()
		l.scrape(start)
		now := l.m.opts.Now()
		timer := time.NewTimer(l.next(start, now).Sub(now))
		select {
		case <-l.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// next returns the first time after now at the target's phase that is at least half an interval after the last start:
// the first scrape is at once, off its phase, and a rate over a few milliseconds would say nothing.
func (l *loop) next(last, now time.Time) time.Time {
	interval := l.m.opts.Interval
	t := last.Truncate(interval).Add(l.phase)
	for t.Sub(last) < interval/2 || t.Before(now) {
		t = t.Add(interval)
	}
	return t
}

// scrape fetches once and appends or notes why not.
func (l *loop) scrape(start time.Time) {
	ctx, cancel := context.WithTimeout(l.ctx, l.m.opts.Timeout)
	defer cancel()
	body := l.m.fetcher.buffer()
	defer l.m.fetcher.release(body)

	samples, err := l.fetch(ctx, body)
	took := l.m.opts.Now().Sub(start)

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || l.ctx.Err() != nil {
		return // nobody asks for the answer any more, nor for the error that the cancellation made
	}
	var note error
	if err == nil {
		note = l.m.sink.Append(l.target.ID, start, samples)
	}
	l.m.metrics.observe(took, err)
	l.note(start, took, body.Len(), len(samples), err, note)
}

func (l *loop) fetch(ctx context.Context, body *bytes.Buffer) ([]Sample, error) {
	contentType, err := l.m.fetcher.fetch(ctx, l.target.URL, body)
	if err != nil {
		return nil, err
	}
	return parse(body.Bytes(), contentType, l.m.sink.Wants, newMerger(l.target.Labels, l.target.HonorLabels), l.m.opts.SampleLimit)
}

// note updates the status and logs when it turns from well to ill or back; l.mu is held.
func (l *loop) note(start time.Time, took time.Duration, size, samples int, err, kept error) {
	s := &l.status
	before := s.Failures
	s.LastAttempt, s.Duration, s.Bytes, s.Samples, s.Note = start, took, size, samples, ""
	if kept != nil {
		s.Note = kept.Error()
	}
	log := l.m.opts.Logger.With("pod", l.target.Pod.Namespace+"/"+l.target.Pod.Name, "url", l.target.URL)
	if err != nil {
		s.LastError = err.Error()
		s.Failures++
		if before == 0 {
			log.Info("scrapes fail", "err", s.LastError)
		}
		return
	}
	s.LastSuccess, s.LastError, s.Failures = start, "", 0
	if before > 0 {
		log.Info("scrapes succeed again", "failures", before)
	}
}
