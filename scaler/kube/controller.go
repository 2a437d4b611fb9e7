package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler"
	"headroom.dev/headroom/scaler/policy"
)

// FieldOwner is this controller's name in what it writes.
const FieldOwner = "headroom-controller"

const (
	// lookTimeout bounds one look, so that a metric plane that hangs cannot use up a worker.
	lookTimeout = 10 * time.Second
	// statusInterval is between two writes of a status in which only numbers have moved.
	statusInterval = 30 * time.Second
	// checkpointInterval is between two writes of a history: what a crash can lose.
	checkpointInterval = 5 * time.Minute
	// saveTimeout bounds the writing of all histories at the end; a pod has 30 s by default.
	saveTimeout = 10 * time.Second
)

// Targets finds what a policy scales. Errors are policy.Errors where the policy is to blame.
type Targets interface {
	Target(ctx context.Context, namespace string, ref v1alpha1.TargetReference) (Target, error)
}

// Options are a Controller's.
type Options struct {
	Client     client.Client // reads of pods, HPAs, policies and nodes may come from a cache; those of ConfigMaps must not
	Targets    Targets
	Metrics    Metrics
	Historian  Historian     // nil without a server
	Period     time.Duration // between two looks at a policy
	Now        func() time.Time
	Recorder   events.EventRecorder
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Controller reconciles ScalePolicies.
type Controller struct {
	opts             Options
	published        *published
	toleranceDropped atomic.Bool // by an API server that does not know it

	mu       sync.Mutex
	services map[types.NamespacedName]*entry
}

// entry is one policy's state; its lock is held during a look.
type entry struct {
	mu      sync.Mutex
	uid     types.UID
	policy  *v1alpha1.ScalePolicy // as it was last seen
	service *service              // nil until the first look
}

// New makes a Controller.
func New(o Options) (*Controller, error) {
	p, err := newPublished(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("cannot expose the scaler's metrics: %w", err)
	}
	return &Controller{opts: o, published: p, services: map[types.NamespacedName]*entry{}}, nil
}

// Reconcile looks at one policy, and asks to be called again after a period.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var p v1alpha1.ScalePolicy
	err := c.opts.Client.Get(ctx, request.NamespacedName, &p)
	if apierrors.IsNotFound(err) || err == nil && p.DeletionTimestamp != nil {
		c.forget(request.NamespacedName)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("cannot read the policy: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	e := c.entryOf(request.NamespacedName, &p)
	e.mu.Lock()
	defer e.mu.Unlock()
	now := c.opts.Now()
	if v := e.service; v != nil && v.generation == p.Generation && now.Sub(v.last) < v.period()/2 {
		return reconcile.Result{RequeueAfter: v.period() - now.Sub(v.last)}, nil // our own write, or one of no interest
	}
	before := p.Status.DeepCopy()
	ready, err := c.look(ctx, e, &p, now)
	if err != nil {
		problem := policy.ErrorOf(err)
		if problem == nil {
			return reconcile.Result{}, err
		}
		ready = metav1.Condition{Status: metav1.ConditionFalse, Reason: problem.Reason, Message: problem.Error()}
		if problem.Reason != v1alpha1.ReasonAutoscalerConflict {
			p.Status.DesiredReplicas, p.Status.ReactiveReplicas, p.Status.Limit = nil, nil, ""
		}
		c.published.withdraw(request.NamespacedName)
	}
	if err := c.report(ctx, e, &p, before, ready, now); err != nil {
		return reconcile.Result{}, err
	}
	v := e.service
	if v == nil {
		return reconcile.Result{RequeueAfter: c.opts.Period}, nil
	}
	if now.Sub(v.saved) >= checkpointInterval {
		if err := c.save(ctx, &p, v); err != nil {
			return reconcile.Result{}, err
		}
		v.saved = now
	}
	return reconcile.Result{RequeueAfter: v.period()}, nil
}

// entryOf returns a policy's state. A policy that was deleted and made again under its name is another one.
func (c *Controller) entryOf(name types.NamespacedName, p *v1alpha1.ScalePolicy) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.services[name]
	if e == nil || e.uid != p.UID {
		e = &entry{uid: p.UID}
		c.services[name] = e
	}
	return e
}

func (c *Controller) forget(name types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.services, name)
	c.published.forget(name)
}

// scope is what a policy is about: its target, and the HPAs beside it.
type scope struct {
	settings policy.Settings
	target   Target
	hpas     []autoscalingv2.HorizontalPodAutoscaler
	claim    claim
	conflict error // why the policy cannot have an HPA; decisions are made all the same
}

// survey finds out what a policy says and what there is. Errors are policy.Errors where the policy is to blame.
func (c *Controller) survey(ctx context.Context, p *v1alpha1.ScalePolicy) (sc scope, err error) {
	if sc.settings, err = policy.Read(&p.Spec, c.opts.Period); err != nil {
		return sc, err
	}
	if err := c.alone(ctx, p); err != nil {
		return sc, err
	}
	if sc.target, err = c.opts.Targets.Target(ctx, p.Namespace, p.Spec.TargetRef); err != nil {
		return sc, err
	}
	var list autoscalingv2.HorizontalPodAutoscalerList
	if err := c.opts.Client.List(ctx, &list, client.InNamespace(p.Namespace)); err != nil {
		return sc, fmt.Errorf("cannot list HorizontalPodAutoscalers: %w", err)
	}
	sc.hpas = list.Items
	if p.Spec.Mode == v1alpha1.ModeAct {
		sc.claim, sc.conflict = claimOf(p, sc.hpas)
	}
	return sc, nil
}

// look does one round for a policy: what it says, what there is, what to do, and doing it. It fills the status but for its
// condition, which it returns.
func (c *Controller) look(ctx context.Context, e *entry, p *v1alpha1.ScalePolicy, now time.Time) (ready metav1.Condition, err error) {
	about, err := c.survey(ctx, p)
	if err != nil {
		return ready, err
	}
	if err := c.serve(ctx, e, p, about.settings, &about.target, now); err != nil {
		return ready, err
	}
	sc, err := c.gather(ctx, p.Namespace, &about.settings, &about.target, now)
	if err != nil {
		return ready, err
	}
	v := e.service
	act := p.Spec.Mode == v1alpha1.ModeAct && about.conflict == nil
	out, err := v.look(sc.observation, act)
	if err != nil {
		return ready, err
	}
	if act {
		c.prepare(ctx, sc, &about.target, out.decision.Replicas)
	}
	known := v.core.Knowledge()
	c.published.show(client.ObjectKeyFromObject(p), &sc.observation, &out, &known, act)
	fill(&p.Status, v, &sc.observation, &out)
	switch {
	case about.conflict != nil:
		return ready, about.conflict
	case act:
		err = c.act(ctx, p, about.claim)
	default:
		err = c.release(ctx, p, about.hpas)
	}
	return condition(&out.decision, sc.notes), err
}

// prepare does what must be done before a wish is published.
func (c *Controller) prepare(ctx context.Context, sc *scene, t *Target, wish int32) {
	if wish < t.Replicas {
		if err := c.spare(ctx, sc); err != nil {
			sc.notes = append(sc.notes, err.Error()) // the wrong pod may go; that is no reason to keep all
		}
	}
	if t.Replicas == 0 {
		sc.notes = append(sc.notes, "the target has 0 replicas, which switches its HPA off: scale it to 1 to switch it on")
	}
}

// condition is that of a policy that is followed.
func condition(d *scaler.Decision, notes []string) metav1.Condition {
	c := metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonDecided, Message: d.Message()}
	if !d.Valid {
		c.Reason = v1alpha1.ReasonHeld
	}
	c.Message = strings.Join(append([]string{c.Message}, notes...), "; ")
	return c
}

// alone says whether another policy scales the same target.
func (c *Controller) alone(ctx context.Context, p *v1alpha1.ScalePolicy) error {
	var all v1alpha1.ScalePolicyList
	if err := c.opts.Client.List(ctx, &all, client.InNamespace(p.Namespace)); err != nil {
		return fmt.Errorf("cannot list the policies: %w", err)
	}
	if other := rival(p, all.Items); other != nil {
		return policy.Invalid("spec.targetRef", "ScalePolicy %q scales %s %q, too; only one of them can be in mode Act", other.Name, p.Spec.TargetRef.Kind, p.Spec.TargetRef.Name)
	}
	return nil
}

// serve makes e.service follow the spec.
func (c *Controller) serve(ctx context.Context, e *entry, p *v1alpha1.ScalePolicy, s policy.Settings, t *Target, now time.Time) error {
	e.policy = p.DeepCopy()
	if v := e.service; v != nil {
		if v.generation == p.Generation {
			return nil
		}
		next, err := v.follow(s, p.Generation)
		if err != nil {
			return err
		}
		e.service = next
		return nil
	}
	past, source, err := c.past(ctx, p, &s, t, now)
	if err != nil {
		return err
	}
	v, err := newService(s, p.Generation, past, source, knowledgeOf(&p.Status))
	if err != nil {
		return err
	}
	v.account, v.records, v.saved = accountOf(&p.Status), p.Status.Decisions, now
	if said := p.Status.DesiredReplicas; said != nil {
		v.said = *said
	}
	e.service = v
	return nil
}

// report writes the status when something of note changed, else every statusInterval, and tells of a change in an event.
func (c *Controller) report(ctx context.Context, e *entry, p *v1alpha1.ScalePolicy, before *v1alpha1.ScalePolicyStatus, ready metav1.Condition, now time.Time) error {
	ready.Type, ready.ObservedGeneration = v1alpha1.ConditionReady, p.Generation
	const most = 32768 // of a condition's message
	ready.Message = shorten(ready.Message, most)
	p.Status.ObservedGeneration = p.Generation
	meta.SetStatusCondition(&p.Status.Conditions, ready)
	v := e.service
	if !notable(before, &p.Status) && v != nil && now.Sub(v.written) < statusInterval {
		return nil
	}
	base := p.DeepCopy()
	base.Status = *before
	if err := c.opts.Client.Status().Patch(ctx, p, client.MergeFrom(base)); err != nil {
		if apierrors.IsNotFound(err) {
			return nil // deleted meanwhile
		}
		return fmt.Errorf("cannot write the status: %w", err)
	}
	if v != nil {
		v.written = now
	}
	old := meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionReady)
	if old == nil || old.Status != ready.Status || old.Reason != ready.Reason {
		kind := corev1.EventTypeNormal
		if ready.Status != metav1.ConditionTrue || ready.Reason == v1alpha1.ReasonHeld {
			kind = corev1.EventTypeWarning
		}
		const note = 1000 // an event's may have 1024 bytes
		c.opts.Recorder.Eventf(p, nil, kind, ready.Reason, "Decide", "%s", shorten(ready.Message, note))
	}
	return nil
}

// shorten cuts a text to so many bytes.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "…"
}

// Save waits for the context's end and then writes every history, for the successor.
func (c *Controller) Save(ctx context.Context) error {
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	c.mu.Lock()
	var entries []*entry
	for _, e := range c.services {
		entries = append(entries, e)
	}
	c.mu.Unlock()
	var errs []error
	for _, e := range entries {
		e.mu.Lock()
		if e.service != nil {
			errs = append(errs, c.save(ctx, e.policy, e.service))
		}
		e.mu.Unlock()
	}
	return errors.Join(errs...)
}
