package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout/autoscaler"
	"headroom.dev/headroom/rollout/route"
)

// FieldOwner is this controller's name in what it writes of its own: policies, their ConfigMaps. Workloads are written by
// workload.Manager.
const FieldOwner = "headroom-rollout"

const (
	// lookTimeout bounds one look, so that a metric plane or a webhook that hangs cannot use up a worker.
	lookTimeout = 30 * time.Second
	// statusInterval is between two writes of a status in which only numbers have moved.
	statusInterval = 30 * time.Second
	// underWay is between two looks at an update, soon after what somebody else's write has spoilt, or an own one has begun.
	underWay = 2 * time.Second
	soon     = 250 * time.Millisecond
	// gatherInterval is between two times that capacity and demand are looked for: the former costs up to 200 ms at 5,000 nodes.
	gatherInterval = 10 * time.Second
)

// Options are a Controller's.
type Options struct {
	Client client.Client // reads of lists of policies may come from a cache
	Reader client.Reader // not from a cache: policies and their ConfigMaps
	// Planner has the clients of workloads, capacity and evidence, which the controller uses as well.
	Planner     *Planner
	Autoscalers *autoscaler.Client // nil: HPAs are left alone
	// Routers makes the router of a policy that has spec.traffic.
	Routers func(p *v1alpha1.RolloutPolicy) (route.Router, error)
	// Budget is how many GPUs of each resource updates may take beyond their services' own; 0: what the sources have.
	Budget     int
	Period     time.Duration // between two looks at a policy at rest
	Now        func() time.Time
	Recorder   events.EventRecorder
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Controller reconciles RolloutPolicies.
type Controller struct {
	opts      Options
	published *published

	mu      sync.Mutex
	entries map[types.NamespacedName]*entry

	// admission is held from the question whether an update may start until its claim is entered.
	admission sync.Mutex
	claims    map[types.NamespacedName]claim
}

// entry is what one process remembers of a policy; all of it can be lost. Its lock is held during a look.
type entry struct {
	mu       sync.Mutex
	uid      types.UID
	looked   time.Time
	written  time.Time // when the status was
	gathered *gathered
	asked    map[string]answer // of webhooks, by gate
	reason   string            // of the last condition Ready, so that a change is an event
}

// New makes a Controller.
func New(o Options) (*Controller, error) {
	p, err := newPublished(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("cannot expose the rollouts' metrics: %w", err)
	}
	return &Controller{opts: o, published: p, entries: map[types.NamespacedName]*entry{}, claims: map[types.NamespacedName]claim{}}, nil
}

// Reconcile looks at one policy, and asks to be called again: soon while an update is under way.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var p v1alpha1.RolloutPolicy
	err := c.opts.Reader.Get(ctx, request.NamespacedName, &p)
	switch {
	case apierrors.IsNotFound(err):
		c.forget(request.NamespacedName)
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("cannot read the policy: %w", err)
	}
	e := c.entryOf(request.NamespacedName, &p)
	e.mu.Lock()
	defer e.mu.Unlock()
	now := c.opts.Now()
	if since := now.Sub(e.looked); since >= 0 && since < soon {
		return reconcile.Result{RequeueAfter: soon - since}, nil // many events of one change
	}
	e.looked = now
	after, err := c.look(ctx, e, &p, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: after}, nil
}

// entryOf returns what is remembered of a policy. One that was deleted and made again under its name is another one.
func (c *Controller) entryOf(name types.NamespacedName, p *v1alpha1.RolloutPolicy) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[name]
	if e == nil || e.uid != p.UID {
		e = &entry{uid: p.UID, asked: map[string]answer{}}
		c.entries[name] = e
	}
	return e
}

// forget drops all that is remembered and published of a policy.
func (c *Controller) forget(name types.NamespacedName) {
	c.mu.Lock()
	delete(c.entries, name)
	c.mu.Unlock()
	c.unclaim(name)
	c.published.forget(name)
}

// unclaim drops what a policy takes, or waits for.
func (c *Controller) unclaim(name types.NamespacedName) {
	c.admission.Lock()
	defer c.admission.Unlock()
	delete(c.claims, name)
}
