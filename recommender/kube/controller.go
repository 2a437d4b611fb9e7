package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
	"headroom.dev/headroom/recommender/vpa"
)

const (
	// FieldOwner is the recommender's name in what it writes, and in spec.recommenders of VerticalPodAutoscalers.
	FieldOwner = "headroom-recommender"
	// Name is by which a VerticalPodAutoscaler's spec.recommenders asks for this recommender.
	Name = "headroom"

	// workers estimate and write. More than two wait for the API server most of the time.
	workers = 4
	// readers ask the API server for owners, checkpoints and samples at the same time.
	readers = 16
	// lookEvery is how many intervals pass between two estimates of what has a recommendation: it moves by hours.
	lookEvery = 5
	// settle is the least time between two passes that changes of objects asked for.
	settle = time.Second
	// saveTimeout bounds the writing of all checkpoints at the end; a pod has 30 s by default.
	saveTimeout = 20 * time.Second
	// writeTimeout bounds one write, so that an API server that hangs cannot use up a worker.
	writeTimeout = 30 * time.Second
)

// Source has what containers use. Its methods are safe for concurrent use.
type Source interface {
	// Samples returns the newest samples of all containers of a namespace, of all namespaces for "". What is served twice may be
	// returned twice. With an error there may be some samples.
	Samples(ctx context.Context, namespace string) ([]recommender.Sample, error)
	// Past yields what was, oldest first, in parts. Errors are errors.ErrUnsupported where there is no such server.
	Past(ctx context.Context, of recommender.Past, yield func([]recommender.Sample) error) error
}

// Engines knows what inference engines say of their configuration. Its methods are safe for concurrent use.
type Engines interface {
	// Engines returns what is known of a namespace's, of all namespaces' for "". Container is "" where only the pod is known. With an
	// error there may be some.
	Engines(ctx context.Context, namespace string) (map[recommender.ContainerID]accelerator.Facts, error)
}

// Floors are the least that a pod should request, divided among its containers; 0 for none.
type Floors struct {
	CPU    float64 // cores
	Memory float64 // bytes
}

// Options are a Controller's.
type Options struct {
	Client          client.Client // its reads may come from a cache, except those of ConfigMaps and of the VPA's checkpoints
	Reader          client.Reader // not from a cache: the metadata of owners
	Mapper          meta.RESTMapper
	Source          Source
	Engines         Engines       // nil if nobody knows
	Interval        time.Duration // between two passes
	Checkpoints     time.Duration // between two checkpoints of a workload: what a crash can lose
	WritesPerSecond float64
	Floors          Floors
	History         time.Duration // how far back a workload without a checkpoint is filled from the Source; 0 for not at all
	Now             func() time.Time
	Recorder        events.EventRecorder
	Registerer      prometheus.Registerer
	Log             *slog.Logger
}

// Controller recommends.
type Controller struct {
	opts    Options
	metrics *published
	model   *vpa.Model
	writes  flowcontrol.RateLimiter
	jobs    workqueue.TypedRateLimitingInterface[job]
	fills   workqueue.TypedRateLimitingInterface[workloadID]
	kicked  chan struct{}

	// Of the pass alone.
	owners owners
	spaces map[string]*space
	count  uint64 // of passes
	said   string // of what was wrong with the last pass

	mu        sync.Mutex
	workloads map[workloadID]*workload
	objects   map[job]*object
	hpas      map[workloadID]*autoscalingv2.HorizontalPodAutoscaler
	gpus      map[string]*gpuNode
	trouble   map[string]string // namespace → why it has no samples
	noPast    bool              // the Source knows no past
}

// jobKind says what a job is about.
type jobKind byte

const (
	jobRecommendation jobKind = iota
	jobVPA
	jobSave
	jobCreate
	jobDelete
)

// job is something to do about an object, or, for jobSave and jobCreate, about a workload.
type job struct {
	kind jobKind
	name types.NamespacedName
	id   workloadID
}

// object is what is remembered of a ResourceRecommendation or a VerticalPodAutoscaler.
type object struct {
	id         workloadID
	generation int64
	duplicate  string // the name of the object that is about the same workload and comes before this one
	seen       uint64
	looked     time.Time // when it was last looked at
	written    time.Time
	valid      bool // it has a recommendation
}

// New makes a Controller.
func New(o Options) (*Controller, error) {
	p, err := newPublished(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("cannot expose the recommender's metrics: %w", err)
	}
	model, err := vpa.New(vpa.DefaultConfig())
	if err != nil {
		return nil, fmt.Errorf("cannot make the VPA's estimator: %w", err)
	}
	retry := max(o.Interval/4, time.Second)
	c := &Controller{
		opts: o, metrics: p, model: model, kicked: make(chan struct{}, 1),
		writes: flowcontrol.NewTokenBucketRateLimiter(float32(o.WritesPerSecond), max(int(o.WritesPerSecond), 1)),
		jobs: workqueue.NewTypedRateLimitingQueueWithConfig(workqueue.NewTypedItemExponentialFailureRateLimiter[job](retry, 5*time.Minute),
			workqueue.TypedRateLimitingQueueConfig[job]{}),
		fills: workqueue.NewTypedRateLimitingQueueWithConfig(workqueue.NewTypedItemExponentialFailureRateLimiter[workloadID](10*time.Second, 10*time.Minute),
			workqueue.TypedRateLimitingQueueConfig[workloadID]{}),
		owners: owners{reader: o.Reader, scales: o.Client.SubResource("scale"), mapper: o.Mapper, known: map[types.UID]*owned{}},
		spaces: map[string]*space{}, workloads: map[workloadID]*workload{}, objects: map[job]*object{},
		hpas: map[workloadID]*autoscalingv2.HorizontalPodAutoscaler{}, trouble: map[string]string{},
	}
	return c, nil
}

// Reconcile asks for a pass soon after an object has changed. A pass makes what there is be looked at, so it needs no more.
func (c *Controller) Reconcile(context.Context, reconcile.Request) (reconcile.Result, error) {
	select {
	case c.kicked <- struct{}{}:
	default:
	}
	return reconcile.Result{}, nil
}

// Start works until the context ends, and then writes the checkpoints of what has changed.
func (c *Controller) Start(ctx context.Context) error {
	var group sync.WaitGroup
	for range min(workers, 2*runtime.GOMAXPROCS(0)) {
		group.Go(func() {
			for c.work(ctx) {
			}
		})
	}
	group.Go(func() {
		for c.fillNext(ctx) {
		}
	})
	c.loop(ctx)
	c.jobs.ShutDown()
	c.fills.ShutDown()
	group.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	return c.saveAll(last)
}

func (c *Controller) loop(ctx context.Context) {
	ticker := time.NewTicker(c.opts.Interval)
	defer ticker.Stop()
	c.run(ctx, true)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.run(ctx, true)
		case <-c.kicked:
			c.run(ctx, false)
			select {
			case <-ctx.Done():
				return
			case <-time.After(min(settle, c.opts.Interval)):
			}
		}
	}
}

// run does a pass and says how it went.
func (c *Controller) run(ctx context.Context, sample bool) {
	began := time.Now()
	err := c.pass(ctx, sample)
	if sample {
		c.metrics.pass.Observe(time.Since(began).Seconds())
	}
	said := ""
	if err != nil && ctx.Err() == nil {
		c.metrics.errors.WithLabelValues("pass").Inc()
		if said = oneLine(err); said != c.said { // once, not every minute
			c.opts.Log.Warn("a pass of the recommender is incomplete", "err", err)
		}
	}
	c.said = said
}

// work does one job; false at the end.
func (c *Controller) work(ctx context.Context) bool {
	j, stop := c.jobs.Get()
	if stop {
		return false
	}
	defer c.jobs.Done(j)
	if ctx.Err() != nil {
		return true
	}
	if err := c.do(ctx, j); err != nil {
		c.failed(ctx, j, err)
		return true
	}
	c.jobs.Forget(j)
	return true
}

func (c *Controller) failed(ctx context.Context, j job, err error) {
	if ctx.Err() != nil {
		return
	}
	c.metrics.errors.WithLabelValues(j.kind.String()).Inc()
	c.opts.Log.Warn("cannot finish a recommendation", "for", j.kind.String(), "namespace", j.name.Namespace, "name", j.name.Name, "err", err)
	c.jobs.AddRateLimited(j)
}

func (k jobKind) String() string {
	switch k {
	case jobRecommendation:
		return "recommendation"
	case jobVPA:
		return "vpa"
	case jobSave:
		return "checkpoint"
	case jobCreate:
		return "create"
	default:
		return "delete"
	}
}

func (c *Controller) do(ctx context.Context, j job) error {
	switch j.kind {
	case jobRecommendation:
		return c.recommend(ctx, j)
	case jobVPA:
		return c.advise(ctx, j)
	case jobSave:
		if w := c.workload(j.id); w != nil {
			return c.save(ctx, w, c.write)
		}
		return nil
	case jobCreate:
		return c.create(ctx, j)
	case jobDelete:
		return c.remove(ctx, j)
	}
	return errors.ErrUnsupported
}

// writing is how a write is done: at its turn, or at once.
type writing func(ctx context.Context, to string, f func(ctx context.Context) error) error

// write writes when the rate allows it.
func (c *Controller) write(ctx context.Context, to string, f func(ctx context.Context) error) error {
	if err := c.writes.Wait(ctx); err != nil {
		return fmt.Errorf("cannot write within --recommend-writes-per-second: %w", err)
	}
	c.metrics.writes.WithLabelValues(to).Inc()
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return f(ctx)
}

// workload returns what is known of a workload, nil if nobody asks about it.
func (c *Controller) workload(id workloadID) *workload {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workloads[id]
}

// object returns what is remembered of an object, nil if it is not ours any more.
func (c *Controller) object(j job) *object {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.objects[j]; o != nil {
		copied := *o
		return &copied
	}
	return nil
}

// looked remembers how a look at an object ended.
func (c *Controller) looked(j job, change func(o *object)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.objects[j]; o != nil {
		change(o)
	}
}
