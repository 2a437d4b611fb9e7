package rulewatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
)

const (
	// retry is about how long until the next try after a failure. It is also how long a CustomResourceDefinition may be there
	// before its objects are noticed.
	retry = time.Second
	// goneAfter is how long the API server must say that it does not know a resource before what was known of it is
	// forgotten: while it starts it may say so in error.
	goneAfter = 10 * time.Second
)

// mirror keeps of each object of a cluster-scoped resource what parse makes of it, by name. It is the reflector's store.
type mirror[T any] struct {
	parse   func(obj any) T
	same    func(a, b T) bool // whether a change from a to b is worth a call of changed
	changed func()            // must not block

	mu    sync.Mutex
	items map[string]T
	known bool // items are what the API server has, or had when it last answered
	// unknownSince is when the API server first said, since it last listed objects, that it does not know the resource.
	unknownSince time.Time
}

var _ cache.ReflectorStore = (*mirror[int])(nil)

func (m *mirror[T]) Add(obj any) error { return m.put(obj) }

func (m *mirror[T]) Update(obj any) error { return m.put(obj) }

func (m *mirror[T]) put(obj any) error {
	o, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	item := m.parse(obj)
	m.mu.Lock()
	defer m.mu.Unlock()
	before, existed := m.items[o.GetName()]
	m.items[o.GetName()] = item
	if !existed || !m.same(before, item) {
		m.changed()
	}
	return nil
}

func (m *mirror[T]) Delete(obj any) error {
	o, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.items, o.GetName())
	m.changed()
	return nil
}

func (m *mirror[T]) Replace(list []any, _ string) error {
	items := make(map[string]T, len(list))
	for _, obj := range list {
		o, err := meta.Accessor(obj)
		if err != nil {
			return err
		}
		items[o.GetName()] = m.parse(obj)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unknownSince = time.Time{}
	m.set(items)
	return nil
}

// set replaces the items; the caller holds mu.
func (m *mirror[T]) set(items map[string]T) {
	if !m.known || !maps.EqualFunc(m.items, items, m.same) {
		m.changed()
	}
	m.items, m.known = items, true
}

// missing notes that the API server does not know the resource, and reports whether that is believed by now: at once where
// nothing is known yet.
func (m *mirror[T]) missing(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unknownSince.IsZero() {
		m.unknownSince = now
	}
	if m.known && now.Sub(m.unknownSince) < goneAfter {
		return false
	}
	m.set(nil)
	return true
}

// notMissing notes that the API server said something else, or nothing at all.
func (m *mirror[T]) notMissing() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unknownSince = time.Time{}
}

func (m *mirror[T]) Resync() error { return nil }

// all returns the items by name, and whether they are known yet. The map is the caller's.
func (m *mirror[T]) all() (map[string]T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.items), m.known
}

// follow keeps the mirror up to date until the context ends. An API server that is away costs nothing: what is known
// stays. A resource that the API server does not know has no objects.
func (m *mirror[T]) follow(ctx context.Context, what string, lw cache.ListerWatcher, example runtime.Object, logger *slog.Logger) {
	reflector := cache.NewReflectorWithOptions(lw, example, m, cache.ReflectorOptions{
		Name: "rulewatch " + what,
		// When a watch cannot be renewed; all else comes back here.
		Backoff: &wait.Backoff{Duration: retry / 4, Factor: 2, Steps: 8, Cap: 2 * retry, Jitter: 0.5},
	})
	faults := complaints{logger: logger}
	for {
		err := reflector.ListAndWatchWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case apierrors.IsNotFound(err):
			if m.missing(time.Now()) {
				faults.info("the API server does not know " + what + "; waiting for it")
			}
		default:
			m.notMissing()
			faults.warn("cannot watch "+what, err)
		}
		pause(ctx, wait.Jitter(retry, 0.5))
	}
}

// pause sleeps until the context ends, at most for d.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// again is how long a fault that stays the same is not logged again.
const again = 10 * time.Minute

// complaints logs each fault once, for as long as it stays the same.
type complaints struct {
	logger *slog.Logger
	last   string
	at     time.Time
}

func (c *complaints) warn(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) && c.isNew(fmt.Sprint(what, err)) {
		c.logger.Warn(what, "err", err)
	}
}

func (c *complaints) info(what string) {
	if c.last != what {
		c.last = what
		c.logger.Info(what)
	}
}

func (c *complaints) isNew(text string) bool {
	now := time.Now()
	if text == c.last && now.Sub(c.at) < again {
		return false
	}
	c.last, c.at = text, now
	return true
}
