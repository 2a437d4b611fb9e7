package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// listPatience bounds a list: an API server that accepts the request and says nothing is one that is away.
const listPatience = time.Minute

// errNoAnswer is why a watch could not be opened when the connection was lost or timed out.
var errNoAnswer = errors.New("the API server did not answer")

// index keeps of objects what lookups need. The objects are of the watcher's example's type.
type index interface {
	put(obj any)
	remove(obj any)
	replace(objects []any)
}

// watcher keeps an index up to date, and knows what hinders it. It is the reflector's store.
type watcher struct {
	what           string // in messages, "pods"
	path           string
	selector       fields.Selector
	example        runtime.Object
	list           func() runtime.Object // an empty one
	index          index
	client         rest.Interface
	log            *slog.Logger
	first, longest time.Duration // pauses

	mu        sync.Mutex
	streaming bool   // the next Replace comes from a watch, which is open
	worked    bool   // since follow last asked
	problem   string // "cannot watch pods: …", "" when it works
	said      string // what kind of failure was logged last, "" when it works
}

var _ cache.ReflectorStore = (*watcher)(nil)

func (w *watcher) Add(obj any) error    { w.index.put(obj); return nil }
func (w *watcher) Update(obj any) error { w.index.put(obj); return nil }
func (w *watcher) Delete(obj any) error { w.index.remove(obj); return nil }
func (w *watcher) Resync() error        { return nil }

// Replace takes all objects that there are. They come from a watch that began with them, or from a list; then it is the
// opening of the watch that makes it work.
func (w *watcher) Replace(objects []any, _ string) error {
	w.index.replace(objects)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.streaming {
		w.works()
	}
	return nil
}

// follow lists and watches until the context ends.
func (w *watcher) follow(ctx context.Context) {
	silent := logr.Discard() // the reflector logs every try; failed and works log what changes
	ctx = klog.NewContext(ctx, silent)
	reflector := cache.NewReflectorWithOptions(
		&cache.ListWatch{ListWithContextFunc: w.listObjects, WatchFuncWithContext: w.openWatch}, w.example, w,
		cache.ReflectorOptions{Logger: &silent, Name: "gpu/cluster " + w.what},
	)
	for pause := w.first; ; {
		err := reflector.ListAndWatchWithContext(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) { // which is how watches end
			w.failed(err)
		}
		if w.hasWorked() {
			pause = w.first
		}
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, w.longest)
	}
}

func (w *watcher) request(o *metav1.ListOptions) *rest.Request {
	o.FieldSelector = w.selector.String()
	return w.client.Get().AbsPath(w.path).
		SpecificallyVersionedParams(o, metav1.ParameterCodec, schema.GroupVersion{Version: "v1"}).
		MaxRetries(0) // else it tries ten times, up to 30 s each, before it says that the API server is away
}

// listObjects lists; the reflector does so where the API server cannot begin a watch with all objects.
func (w *watcher) listObjects(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	w.listing()
	ctx, cancel := context.WithTimeout(ctx, listPatience)
	defer cancel()
	objects := w.list()
	return objects, w.request(&o).Do(ctx).Into(objects)
}

// openWatch opens a watch, and waits while the API server is away or too busy, so that the watch goes on where it ended. The
// reflector would wait, too, but for up to a minute past the context's end, and without saying why.
func (w *watcher) openWatch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch = true
	for pause := w.first; ; pause = min(2*pause, w.longest) {
		stream, err := w.request(&o).Watch(ctx)
		if err == nil && reflect.TypeOf(stream) == reflect.TypeOf(watch.NewEmptyWatch()) { // client-go's word for it
			err = errNoAnswer
		}
		if err == nil {
			w.opened(o.SendInitialEvents != nil)
			return stream, nil
		}
		if ctx.Err() != nil || !away(err) {
			return nil, err
		}
		w.failed(err)
		if !sleep(ctx, pause) {
			return nil, ctx.Err()
		}
	}
}

// away reports whether the API server could not be asked, or asks for patience.
func away(err error) bool {
	var status apierrors.APIStatus
	return !errors.As(err, &status) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err)
}

// listing notes that the objects come from a list.
func (w *watcher) listing() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.streaming = false
}

// opened notes that a watch is open, which may have to begin with all objects.
func (w *watcher) opened(initial bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.streaming = initial
	if !initial {
		w.works()
	}
}

// works notes that the index follows what the API server has; the caller holds mu.
func (w *watcher) works() {
	if w.said != "" {
		w.log.Info("the watch works again", "what", w.what)
	}
	w.worked, w.problem, w.said = true, "", ""
}

// failed notes why it does not work, and logs it unless what it logged last was of the same kind: the texts of network
// errors differ by their ports.
func (w *watcher) failed(err error) {
	kind := string(apierrors.ReasonForError(err))
	text := err.Error()
	switch {
	case apierrors.IsNotFound(err):
		text = "the API server does not know the resource"
	case kind == "":
		kind = "unreachable"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problem = fmt.Sprintf("cannot watch %s: %s", w.what, text)
	if kind != w.said {
		w.said = kind
		w.log.Warn("cannot watch", "what", w.what, "err", text)
	}
}

// hasWorked reports whether it worked since this was last asked.
func (w *watcher) hasWorked() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.worked
	w.worked = false
	return was
}

func (w *watcher) trouble() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.problem
}

// sleep waits for d and up to half more, and reports whether the context goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(wait.Jitter(d, 0.5))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
