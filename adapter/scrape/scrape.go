// Package scrape keeps one loop per target that fetches its /metrics over HTTP, parses it with Prometheus' own parser
// and hands the samples that somebody wants to a Sink.
//
// Guarantees:
//   - An answer is kept whole or not at all: everything is parsed before anything is appended.
//   - Every sample bears the time at which its scrape started. Exposed timestamps are ignored: a target's clock may be
//     wrong by hours, and a sample from the future would never grow too old to serve. The start, not the end, because
//     the numbers may have been read at any time in between and age must never be understated.
//   - After Remove returns, nothing of that target is appended, whatever was in flight; Forget is called once per Add.
//   - One bad target costs at most its timeout, BodyLimit bytes and its own loop; the others do not notice.
//   - Labels of the target win over exposed ones unless the target is trusted with HonorLabels, so that a pod cannot
//     forge another pod's metrics.
package scrape

import (
	"context"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"headroom.dev/headroom/adapter/metric"
)

// Target is one address to scrape.
type Target struct {
	// ID names the target in the Sink; unique within a Manager.
	ID string
	// Incarnation tells apart two targets that bear the same ID one after the other: the pod's UID.
	Incarnation string
	URL         string
	// Pod is the pod behind the URL, under which Manager.Status finds the target.
	Pod metric.Object
	// Labels are added to every sample: namespace, pod, node.
	Labels labels.Labels
	// HonorLabels lets exposed labels win over Labels, for exporters that speak about other pods. Only for trusted targets.
	HonorLabels bool
}

func (t Target) equal(o Target) bool {
	return t.ID == o.ID && t.Incarnation == o.Incarnation && t.URL == o.URL && t.Pod == o.Pod &&
		t.HonorLabels == o.HonorLabels && labels.Equal(t.Labels, o.Labels)
}

// Sample is one number of one series.
type Sample struct {
	Labels labels.Labels // with __name__
	Value  float64
}

// Sink takes what was scraped. Its methods are called from many goroutines.
type Sink interface {
	// Wants says whether series of that name are of use; the others are validated and dropped.
	Wants(name string) bool
	// Append takes all samples of one scrape, in the order of the answer. It does not keep the slice. The error says
	// what of it could not be kept, for people; what could be kept was kept.
	Append(target string, at time.Time, samples []Sample) error
	// Forget drops everything of the target.
	Forget(target string)
}

// Options of a Manager. Zero values mean the defaults.
type Options struct {
	Interval    time.Duration // between the starts of two scrapes of a target; 1 s
	Timeout     time.Duration // of one scrape, the whole answer included; Interval
	BodyLimit   int64         // bytes of one answer, decompressed; 4 MiB
	SampleLimit int           // wanted samples of one answer; 10,000
	// Now stamps the samples; time.Now. Give one that never steps back, and ask about ages by the same one.
	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer // for the Manager's own metrics
}

const (
	// DefaultInterval is one second: with an evaluation every second, a value is about two seconds old at most.
	DefaultInterval = time.Second
	// DefaultBodyLimit leaves room for 40,000 lines of 100 bytes; vLLM exposes about 50 KB.
	DefaultBodyLimit = 4 << 20
	// DefaultSampleLimit bounds what one target can do to the sink.
	DefaultSampleLimit = 10_000
)

// Manager runs the loops of all targets. Its methods are safe for concurrent use.
type Manager struct {
	opts    Options
	sink    Sink
	fetcher *fetcher
	metrics *metrics

	ctx    context.Context // the life of all loops, ended by Close: no caller of Add has one that fits
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.RWMutex
	loops map[string]*loop
	pods  map[metric.Object]*loop
}

// NewManager returns a Manager without targets.
func NewManager(sink Sink, opts Options) *Manager {
	if opts.Interval == 0 {
		opts.Interval = DefaultInterval
	}
	if opts.Timeout == 0 {
		opts.Timeout = opts.Interval
	}
	if opts.BodyLimit == 0 {
		opts.BodyLimit = DefaultBodyLimit
	}
	if opts.SampleLimit == 0 {
		opts.SampleLimit = DefaultSampleLimit
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Manager{
		opts:    opts,
		sink:    sink,
		fetcher: newFetcher(opts.BodyLimit, opts.Timeout),
		ctx:     ctx,
		cancel:  cancel,
		loops:   map[string]*loop{},
		pods:    map[metric.Object]*loop{},
	}
	m.metrics = newMetrics(opts.Registerer, m.Len)
	return m
}

// Add starts to scrape the target, at once and then every Interval. A target that is there already, unchanged, is left
// alone; a changed one starts anew and what was kept of it is forgotten.
func (m *Manager) Add(t Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.loops[t.ID]; ok {
		if old.target.equal(t) {
			return
		}
		m.drop(old)
	}
	if m.ctx.Err() != nil {
		return
	}
	l := newLoop(m, t)
	m.loops[t.ID] = l
	m.pods[t.Pod] = l
	m.wg.Go(l.run)
}

// Remove ends the target: its request in flight is cancelled and what was kept of it is forgotten. Unknown IDs are ignored.
func (m *Manager) Remove(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l, ok := m.loops[id]; ok {
		m.drop(l)
	}
}

// drop ends the loop without waiting for its goroutine; m.mu is held.
func (m *Manager) drop(l *loop) {
	l.stop()
	delete(m.loops, l.target.ID)
	if m.pods[l.target.Pod] == l {
		delete(m.pods, l.target.Pod)
	}
}

// Len returns the number of targets.
func (m *Manager) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.loops)
}

// Status returns how the scrapes of a pod go; false if no target is that pod.
func (m *Manager) Status(pod metric.Object) (Status, bool) {
	m.mu.RLock()
	l, ok := m.pods[pod]
	m.mu.RUnlock()
	if !ok {
		return Status{}, false
	}
	return l.current(), true
}

// Close ends all loops and waits for them. What was appended stays in the sink.
func (m *Manager) Close() {
	m.mu.Lock()
	m.cancel()
	m.mu.Unlock()
	m.wg.Wait()
	m.fetcher.client.CloseIdleConnections()
}

// phase spreads the targets over the interval, the same way after a restart.
func phase(id string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return time.Duration(h.Sum64() % uint64(interval))
}
