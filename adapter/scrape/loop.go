package scrape

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"headroom.dev/headroom/adapter/metric"
)

// loop scrapes one target.
type loop struct {
	m      *Manager
	id     string
	pod    metric.Object
	phase  time.Duration
	ctx    context.Context // the life of the loop, ended by stop
	cancel context.CancelFunc

	layout layout // of the last good answer; belongs to the loop's goroutine

	mu      sync.Mutex // orders stop against the append of a late answer
	use     *settings  // changed by the loop's goroutine alone
	target  Target     // as last given
	revised bool       // since settings were made of it
	stopped bool
	status  Status
}

// settings is what is made of a Target once, for all its scrapes.
type settings struct {
	target Target // within the Manager's limits
	merge  *merger
	client *client
	broken error // why the target cannot be scraped; client is nil then
}

func newLoop(m *Manager, t Target) *loop {
	ctx, cancel := context.WithCancel(m.ctx)
	l := &loop{
		m: m, id: t.ID, pod: t.Pod, phase: phase(t.ID, m.opts.Interval), ctx: ctx, cancel: cancel,
		target: t, revised: true, status: Status{Target: t.public()},
	}
	context.AfterFunc(ctx, l.hangUp)
	return l
}

// hangUp ends what is in flight.
func (l *loop) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.use != nil && l.use.client != nil {
		l.use.client.close()
	}
}

// revise takes over what changed in the target, and returns false if it is not the same source any more.
func (l *loop) revise(t Target) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.target.source(t) {
		return false
	}
	if !l.target.equal(t) {
		l.target, l.revised, l.status.Target = t, true, t.public()
	}
	return true
}

// stop cancels what is in flight and forgets the target. After it returned nothing more is appended.
func (l *loop) stop() {
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.m.sink.Forget(l.id)
}

func (l *loop) current() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

func (l *loop) run() {
	defer l.cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		start := l.m.opts.Now()
		l.scrape(start)
		now := l.m.opts.Now()
		timer.Reset(l.next(start, now).Sub(now))
		select {
		case <-l.ctx.Done():
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

// prepare makes new settings where the target was revised, and ends with the former ones.
func (l *loop) prepare() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.revised {
		return
	}
	l.revised = false
	if l.use != nil && l.use.client != nil {
		l.use.client.close()
	}
	l.layout = layout{} // it rests on the former labels
	l.use = newSettings(l.target.within(l.m.opts), l.m)
	if l.use.client != nil && l.ctx.Err() != nil {
		l.use.client.close() // hangUp may have come and gone
	}
}

func newSettings(t Target, m *Manager) *settings {
	s := &settings{target: t}
	configs, err := checkRelabel(t.Relabel)
	if err == nil {
		s.client, err = newClient(t, m)
	}
	if err != nil {
		s.broken = &scrapeError{outcomeSettings, shorten(err.Error())}
	}
	s.merge = newMerger(t.Labels, t.HonorLabels, configs)
	return s
}

// scrape fetches once and appends or notes why not.
func (l *loop) scrape(start time.Time) {
	l.prepare()
	s := l.m.pool.get()
	defer l.m.pool.put(s)

	path, err := l.fetch(s)
	took := l.m.opts.Now().Sub(start)

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || l.ctx.Err() != nil {
		return // nobody asks for the answer any more, nor for the error that the cancellation made
	}
	var note error
	if err == nil {
		note = l.append(start, s)
	}
	l.m.metrics.observe(took, s.size(), path, err)
	l.note(start, took, s, err, note)
}

// fetch gets an answer into s.samples, and says how it was read.
func (l *loop) fetch(s *scratch) (path, error) {
	if l.use.broken != nil {
		return byParser, l.use.broken
	}
	contentType, err := l.use.client.get(l.ctx, s)
	if err != nil {
		return byParser, err
	}
	s.body.b = terminate(s.body.b, contentType)
	version := l.m.sink.WantsVersion() // before anyone asks what is wanted: if that changes meanwhile, this layout is an old one
	if l.layout.version == version && l.layout.contentType == contentType {
		var known bool
		if s.samples.values, known = l.layout.match(l.m.seed, s.body.b, s.samples.values[:0]); known {
			if slices.Contains(l.layout.refs, 0) {
				l.label(s) // now, not under the Sink's locks
			}
			return byLayout, nil
		}
	}
	s.trace.reset(l.m.seed)
	e := l.exposition(s)
	e.names = nameFilter{wants: l.m.sink.Wants, all: len(l.use.merge.relabel) > 0}
	e.trace = &s.trace
	if err := e.parse(contentType); err != nil {
		s.samples.values = s.samples.values[:0]
		return byParser, err
	}
	s.samples = e.out
	l.layout = layout{
		contentType: contentType, version: version,
		segments: s.trace.finish(s.body.b), refs: make([]uint64, len(e.out.values)),
	}
	return byParser, nil
}

func (l *loop) exposition(s *scratch) *exposition {
	return &exposition{
		body: s.body.b, merge: l.use.merge, limit: l.use.target.SampleLimit,
		out: samples{s.samples.labels[:0], s.samples.values[:0]},
	}
}

// label finds the labels of an answer that has the known layout.
func (l *loop) label(s *scratch) {
	e := l.exposition(s)
	e.known = l.layout.segments
	e.out.values = nil // the Sink may be reading s.samples.values
	if err := e.parse(l.layout.contentType); err != nil {
		return // cannot be: the parser took this layout before
	}
	s.samples.labels = e.out.labels
}

// append hands the answer to the Sink and returns what the Sink could not keep.
func (l *loop) append(at time.Time, s *scratch) error {
	return l.m.sink.Append(l.id, at, l.layout.refs, s.samples.values, func(i int) labels.Labels {
		if len(s.samples.labels) == 0 {
			l.label(s) // the Sink has lost a series since
		}
		if i >= len(s.samples.labels) {
			return labels.EmptyLabels()
		}
		return s.samples.labels[i]
	})
}

// note updates the status and logs when it turns from well to ill or back; l.mu is held.
func (l *loop) note(start time.Time, took time.Duration, got *scratch, err, kept error) {
	s := &l.status
	before := s.Failures
	s.LastAttempt, s.Duration, s.Bytes, s.Samples, s.Note = start, took, got.size(), len(got.samples.values), ""
	if kept != nil {
		s.Note = kept.Error()
	}
	if err != nil {
		s.LastError = err.Error()
		s.Failures++
		if before == 0 {
			l.logger().Info("scrapes fail", "err", s.LastError)
		}
		return
	}
	s.LastSuccess, s.LastError, s.Failures = start, "", 0
	if before > 0 {
		l.logger().Info("scrapes succeed again", "failures", before)
	}
}

func (l *loop) logger() *slog.Logger {
	return l.m.opts.Logger.With("pod", l.pod.Namespace+"/"+l.pod.Name, "url", l.target.URL)
}
