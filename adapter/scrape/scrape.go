// Package scrape keeps one loop per target that fetches its /metrics over HTTP, parses it as Prometheus' own parser
// does and hands the samples that somebody wants to a Sink.
//
// Guarantees:
//   - An answer is kept whole or not at all: everything is parsed before anything is appended.
//   - Every sample bears the time at which its scrape started. Exposed timestamps are ignored: a target's clock may be
//     wrong by hours, and a sample from the future would never grow too old to serve. The start, not the end, because
//     the numbers may have been read at any time in between and age must never be understated.
//   - After Remove returns, nothing of that target is appended, whatever was in flight; Forget is called once for every
//     Add that made a loop.
//   - One bad target costs at most its timeout, BodyLimit bytes and its own loop; the others do not notice.
//   - Labels of the target win over exposed and relabelled ones unless the target is trusted with HonorLabels, so that a
//     pod cannot forge another pod's metrics.
//   - Credentials go to the scheme, host and port of the target's URL only, and appear in no error, log or Status.
//
// Speed: an exposition keeps its layout from one scrape to the next and only its numbers change. The loop remembers a
// hash of everything between the numbers; as long as it matches, nothing but numbers is parsed and the Sink is told by a
// handle which series they are of. Anything else goes through Prometheus' parser (layout.go argues that both agree).
package scrape

import (
	"context"
	"hash/fnv"
	"hash/maphash"
	"iter"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"headroom.dev/headroom/adapter/metric"
)

// Sink takes what was scraped. Its methods are called from many goroutines.
type Sink interface {
	// WantsVersion is another one as soon as answers of Wants have changed.
	WantsVersion() uint64
	// Wants says whether series of that name are of use; the others are validated and dropped.
	Wants(name string) bool
	// Append takes all wanted samples of one scrape, in the order of the answer. values[i] is of the series refs[i], which
	// is what a former Append for that target left there, or 0. Where that is no series (any more) the Sink asks
	// labelsOf(i), __name__ included, and leaves the ref, or 0, for the next time. It keeps neither the slices nor the memory
	// of the labels. The error says what could not be kept, for people; what could be was kept.
	Append(target string, at time.Time, refs []uint64, values []float64, labelsOf func(i int) labels.Labels) error
	// Forget drops everything of the target.
	Forget(target string)
}

// Options of a Manager. Zero values mean the defaults.
type Options struct {
	Interval    time.Duration // between the starts of two scrapes of a target; 1 s
	Timeout     time.Duration // of one scrape, the whole answer included; Interval
	BodyLimit   int64         // bytes of one answer, decompressed; 4 MiB
	SampleLimit int           // wanted samples of one answer; 10,000
	// Gzip asks targets to compress: a tenth of the bytes on the network for several times the CPU here, and some
	// milliseconds of it in every pod. What a target compresses unasked is understood anyway.
	Gzip bool
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
	metrics *metrics
	pool    *pool
	seed    maphash.Seed // of the hashes in layouts; secret, so that no target can make two lines collide
	dial    func(ctx context.Context, network, address string) (net.Conn, error)

	ctx    context.Context // the life of all loops, ended by Close: no caller of Add has one that fits
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.RWMutex
	loops map[string]*loop
	pods  map[metric.Object][]*loop
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
		opts:   opts,
		sink:   sink,
		pool:   newPool(),
		seed:   maphash.MakeSeed(),
		dial:   (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext,
		ctx:    ctx,
		cancel: cancel,
		loops:  map[string]*loop{},
		pods:   map[metric.Object][]*loop{},
	}
	m.metrics = newMetrics(opts.Registerer, m.Len)
	return m
}

// Add starts to scrape the target, at once and then every Interval. A target that is there already, unchanged, is left
// alone. One whose Incarnation, URL or Pod changed starts anew and what was kept of it is forgotten; other changes
// take effect with its next scrape.
func (m *Manager) Add(t Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.loops[t.ID]; ok {
		if old.revise(t) {
			return
		}
		m.drop(old)
	}
	if m.ctx.Err() != nil {
		return
	}
	l := newLoop(m, t)
	m.loops[t.ID] = l
	m.pods[t.Pod] = append(m.pods[t.Pod], l)
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
	delete(m.loops, l.id)
	rest := slices.DeleteFunc(m.pods[l.pod], func(o *loop) bool { return o == l })
	if len(rest) == 0 {
		delete(m.pods, l.pod)
		return
	}
	m.pods[l.pod] = rest
}

// Len returns the number of targets.
func (m *Manager) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.loops)
}

// Status returns how the scrapes of a pod go; false if no target is that pod. Of several targets it is the first, by ID,
// that has a Reason, else the first.
func (m *Manager) Status(pod metric.Object) (Status, bool) {
	m.mu.RLock()
	list := collect(slices.Values(m.pods[pod]))
	m.mu.RUnlock()
	if len(list) == 0 {
		return Status{}, false
	}
	if ill := slices.IndexFunc(list, func(s Status) bool { return s.Reason() != "" }); ill > 0 {
		return list[ill], true
	}
	return list[0], true
}

// Targets returns the status of every target, by ID.
func (m *Manager) Targets() []Status {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return collect(maps.Values(m.loops))
}

// collect returns the loops' statuses by ID.
func collect(loops iter.Seq[*loop]) []Status {
	var list []Status
	for l := range loops {
		list = append(list, l.current())
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Target.ID, b.Target.ID) })
	return list
}

// Close ends all loops and waits for them. What was appended stays in the sink.
func (m *Manager) Close() {
	m.mu.Lock()
	m.cancel()
	m.mu.Unlock()
	m.wg.Wait()
}

// slots is how many moments of an interval scrapes start at. 25 a second, 40 targets each, cost a third less CPU than 1,000
// moments of one target: the process is woken less often, and finds its caches warm.
const slots = 25

// phase spreads the targets evenly over the interval, the same way after a restart.
func phase(id string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return time.Duration(h.Sum64()%slots) * interval / slots
}
